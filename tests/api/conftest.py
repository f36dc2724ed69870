from collections.abc import Callable
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from securedelivery.api.methods import Api, Services
from securedelivery.errors import Refusal
from securedelivery.model import Cents
from securedelivery.protocol.jsonrpc import Request
from securedelivery.service.accounts import Accounts, AccountSettings
from securedelivery.service.audits import Audits
from securedelivery.service.catalog import Catalog, ProductEntry
from securedelivery.service.chat import Chat
from securedelivery.service.figures import FiguresReport
from securedelivery.service.orders import Orders
from securedelivery.service.passwords import Passwords
from securedelivery.service.privacy import Privacy
from securedelivery.service.rewards import RewardRules, Rewards
from securedelivery.store.engine import Database
from securedelivery.transport.dispatch import Caller, Lane, Outcome, SessionChange

ServicesOver = Callable[[Database], Services]


def now() -> datetime:
    return datetime(2026, 11, 22, 12, tzinfo=UTC)


class Door:
    """Calls methods as a connection would."""

    def __init__(self, api: Api, caller: Caller) -> None:
        self.api = api
        self.caller = caller

    def call(self, method: str, **params: Any) -> Outcome:
        return self.raw(method, msgspec.json.encode(params))

    def raw(self, method: str, params: bytes) -> Outcome:
        request = Request(1, method, Raw(params))
        if self.api.lane(method) is Lane.WRITE:
            answers: SimpleQueue[Outcome] = SimpleQueue()
            self.api.submit(self.caller, request, answers.put)
            self.api.begin_writes()
            return answers.get(timeout=10)
        outcome = self.api.answer(self.caller, request)
        if isinstance(outcome, SessionChange):
            self.caller.session = outcome.session
            return outcome.result
        return outcome

    def refused(self, method: str, **params: Any) -> Refusal:
        outcome = self.call(method, **params)
        assert isinstance(outcome, Refusal), outcome
        return outcome

    def done(self, method: str, **params: Any) -> dict[str, Any]:
        """The result, as JSON has it."""
        outcome = self.call(method, **params)
        assert not isinstance(outcome, Refusal), outcome
        return msgspec.json.decode(msgspec.json.encode(outcome))


@pytest.fixture(scope="session")
def services_over() -> ServicesOver:
    """Call it with a database for what the methods call, with a clock that stands still and a product CPU-1."""

    def services(database: Database) -> Services:
        rules = RewardRules()
        catalog = Catalog(database, now, "EUR")
        if not catalog.list(limit=1)[0]:
            catalog.import_products([ProductEntry("CPU-1", "A processor", "", Cents(20_000), 5, active=True)])
        accounts = Accounts(database, now, Passwords(), rules, AccountSettings())
        orders = Orders(database, now, rules, "EUR")
        rewards = Rewards(database, now, rules)
        chat = Chat(database, now, lambda _events: None)
        return Services(
            accounts,
            Privacy(database, now, accounts, chat),
            catalog,
            orders,
            rewards,
            chat,
            Audits(database, now),
            FiguresReport(database, now, rules, low_stock=5),
            database.writer,
            now,
            "Parts & Co",
            "EUR",
            {"outstanding_requests": 32},
        )

    return services
