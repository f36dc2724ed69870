"""A shop on disk with a clock that stands still until it is moved."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from argon2 import Parameters
from argon2.low_level import Type

from securedelivery.model import AccountId, Order, OrderStatus, Role, timestamp
from securedelivery.service.accounts import Accounts, AccountSettings
from securedelivery.service.announcements import Announcements
from securedelivery.service.audits import Audits
from securedelivery.service.catalog import Catalog, ProductEntry
from securedelivery.service.chat import Chat
from securedelivery.service.figures import FiguresReport
from securedelivery.service.orders import (
    AdvanceCommand,
    CancelCommand,
    ConfirmCommand,
    Orders,
    PlaceCommand,
    UpdateCommand,
)
from securedelivery.service.outbox import Outbox
from securedelivery.service.passwords import Passwords
from securedelivery.service.privacy import Privacy
from securedelivery.service.rewards import RewardRules, Rewards
from securedelivery.service.session import Session
from securedelivery.store import accounts, audit
from securedelivery.store.engine import Database, Transaction

# Argon2 as cheap as it gets: what is tested here is who may log in, not how long it takes.
CHEAP = Parameters(type=Type.ID, version=19, salt_len=16, hash_len=32, time_cost=1, memory_cost=8, parallelism=1)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **amount: float) -> None:
        self.now += timedelta(**amount)


class Line(msgspec.Struct, frozen=True):
    sku: str
    quantity: int


@dataclass
class Shop:
    database: Database
    clock: Clock
    rules: RewardRules
    names_file: Path
    events: list[object] = field(default_factory=list)
    keys: int = 0
    receipts: bool = False

    def __post_init__(self) -> None:
        self.database.writer.on_commit = self.events.extend
        self.passwords = Passwords(profile=CHEAP)
        settings = AccountSettings(names_file=str(self.names_file))
        self.accounts = Accounts(self.database, self.clock, self.passwords, self.rules, settings)
        self.catalog = Catalog(self.database, self.clock, "EUR")
        self.orders = Orders(self.database, self.clock, self.rules, "EUR", receipts=self.receipts)
        self.outbox = Outbox(self.database, self.clock)
        self.rewards = Rewards(self.database, self.clock, self.rules)
        self.chat = Chat(self.database, self.clock, self.events.extend)
        self.audits = Audits(self.database, self.clock)
        self.privacy = Privacy(self.database, self.clock, self.accounts, self.chat)
        self.figures = FiguresReport(self.database, self.clock, self.rules)
        self.announcements = Announcements(self.database, self.clock, self.rules)

    def stock(self, *products: tuple[str, int, int]) -> None:
        """products: (sku, price in cents, stock)"""
        self.catalog.import_products([entry(sku, price, stock) for sku, price, stock in products])

    def customer(self, username: str, role: Role = Role.CUSTOMER, address: str | None = "1 Road") -> Session:
        """Without the way through accounts.create: no password, no certificate, no audit."""

        def add(tx: Transaction, commands: Sequence[str]) -> list[Session]:
            row = accounts.AccountRow(
                AccountId(accounts.next_id(tx)), username, role, None, None, address, None, None,
                False, False, True, True, True, 0, 0, 0, timestamp(self.clock()),
            )  # fmt: skip
            accounts.add(tx, [row])
            return [Session(row.id, username, role) for _ in commands]

        return self.database.writer.call(add, username)

    def alter(self, session: Session, **columns: object) -> None:
        """Columns of the account, such as email and mail_receipts."""

        def run(tx: Transaction, commands: Sequence[Session]) -> list[None]:
            for one in commands:
                row = accounts.by_id(tx, one.account_id)
                assert row is not None
                accounts.change(tx, [row._replace(**columns)])  # type: ignore[arg-type]
            return [None for _ in commands]

        self.database.writer.call(run, session)

    def command(
        self,
        session: Session,
        *lines: tuple[str, int],
        key: str | None = None,
        address: str | None = None,
        redeem: int | None = None,
    ) -> PlaceCommand:
        if key is None:
            self.keys += 1
            key = f"key {self.keys}"
        return PlaceCommand(session, key, [Line(*line) for line in lines], address, redeem)

    def place(self, session: Session, *lines: tuple[str, int], **more: object) -> Order:
        return self.database.writer.call(self.orders.place, self.command(session, *lines, **more))  # type: ignore[arg-type]

    def place_batch(self, commands: Sequence[PlaceCommand]) -> Sequence[object]:
        """All in one batch, whatever the writer's timing."""
        whole = lambda tx, batches: [self.orders.place(tx, batch) for batch in batches]
        return self.database.writer.call(whole, commands)

    def edit(
        self, session: Session, order: int, version: int, *lines: tuple[str, int], address: str | None = None
    ) -> Order:
        """Without lines: only the address."""
        wanted = [Line(*line) for line in lines] or None
        command = UpdateCommand(session, order, version, wanted, address)
        return self.database.writer.call(self.orders.update, command)

    def cancel(self, session: Session | None, order: int, reason: str | None = None) -> Order:
        return self.database.writer.call(self.orders.cancel, CancelCommand(session, order, reason))

    def advance(
        self, session: Session | None, order: int, status: str, courier: str | None = None, note: str | None = None
    ) -> Order:
        command = AdvanceCommand(session, order, OrderStatus(status), courier, note)
        return self.database.writer.call(self.orders.advance, command)

    def confirm(self, session: Session, order: int, code: str) -> Order:
        return self.database.writer.call(self.orders.confirm, ConfirmCommand(session, order, code))

    def bring_to(self, status: str, order: int, staff: Session, courier: str, note: str = "handed over") -> None:
        """From placed to this status, on the straight way."""
        for step in ("confirmed", "packed", "out_for_delivery", "delivered", "returned"):
            if status in ("placed", "cancelled"):
                break
            self.advance(staff, order, step, courier if step == "out_for_delivery" else None, note)
            if step == status:
                break
        if status == "cancelled":
            self.cancel(staff, order)

    def sql(self, text: str) -> list[tuple[object, ...]]:
        """Reads what no service shows, or changes what none can."""

        def run(tx: Transaction, commands: Sequence[str]) -> list[list[tuple[object, ...]]]:
            results = [tx.connection.exec_driver_sql(command) for command in commands]
            return [[tuple(row) for row in result] if result.returns_rows else [] for result in results]

        return self.database.writer.call(run, text)


def entry(
    sku: str, price: int = 1000, stock: int | None = 10, *, name: str = "", description: str = "", active: bool = True
) -> ProductEntry:
    return ProductEntry(sku, name or f"Product {sku}", description, price, stock, active)


def check_books(shop: Shop) -> None:
    """The sums beside the ledger are its sums, what the lots hold is the balance, and the audit is whole."""
    ledger: defaultdict[object, int] = defaultdict(int)
    entries: defaultdict[object, list[object]] = defaultdict(list)
    for account, entry, points in shop.sql("SELECT account_id, entry, points FROM points_ledger ORDER BY 1, 2"):
        ledger[account] += points  # type: ignore[operator]
        entries[account].append(entry)
    lots = dict(shop.sql("SELECT account_id, sum(remaining) FROM points_ledger WHERE remaining > 0 GROUP BY 1"))
    counting = "SELECT account_id, count(*) FROM orders WHERE status NOT IN ('cancelled', 'returned') GROUP BY 1"
    orders = dict(shop.sql(counting))
    for account, points, count, newest in shop.sql("SELECT id, points, order_count, ledger_entries FROM accounts"):
        assert points == ledger[account]
        assert max(0, points) == lots.get(account, 0)  # type: ignore[call-overload]
        assert count == orders.get(account, 0)
        assert entries[account] == list(range(1, newest + 1))  # type: ignore[operator]
    with shop.database.read() as tx:
        assert audit.verify(tx) is None
