"""Placing and showing orders: docs/protocol.md, "Orders" and "Idempotency"."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec
from msgspec import UNSET

from securedelivery.errors import Reason, Refusal
from securedelivery.model import Order, OrderStatus, Timestamp, timestamp
from securedelivery.service import cursors
from securedelivery.service.placement import Placement
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session
from securedelivery.store import accounts, orders
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.schema import MAX_INTEGER


class WantedLine(Protocol):
    """Any struct with a SKU and a quantity of 1 to 10,000."""

    @property
    def sku(self) -> str: ...
    @property
    def quantity(self) -> int: ...


class PlaceCommand(msgspec.Struct, frozen=True):
    """The sizes are those of the protocol's parameters, checked by whoever decoded them."""

    session: Session
    idempotency_key: str
    lines: Sequence[WantedLine]
    address: str | None = None
    redeem_points: int | None = None


class Orders:
    def __init__(self, database: Database, clock: Callable[[], datetime], rules: RewardRules, currency: str) -> None:
        """clock: aware, UTC. currency: ISO 4217."""
        self._database = database
        self._clock = clock
        self._rules = rules
        self._currency = currency

    def place(self, tx: Transaction, commands: Sequence[PlaceCommand]) -> list[Order | Refusal]:
        """A batch for the writer: each command's Order with its delivery code, or why not.

        Publishes OrderChanged and RewardsChanged for each order placed, nothing for one that was already there.
        """
        placement = Placement(tx, commands, self._clock(), self._rules, self._currency)
        outcomes: list[Order | Refusal] = []
        for command in commands:
            try:
                outcomes.append(placement.place(command))
            except Refusal as refusal:
                outcomes.append(refusal)
        placement.write()
        return outcomes

    def get(self, session: Session, order: int) -> Order:
        """For its customer, its courier and staff; for others it does not exist."""
        with self._database.read() as tx:
            found = orders.load(tx, [order]).get(order)
        if found is None or not (session.is_staff or session.account_id in (found.customer, found.courier)):
            raise Refusal(Reason.NOT_FOUND, f"there is no order {order}")
        return _as_seen(found, session)

    def list(
        self,
        session: Session,
        *,
        after: str | None = None,
        limit: int = 50,
        status: OrderStatus | None = None,
        account: str | None = None,
        changed_since: str | None = None,
    ) -> tuple[list[Order], str | None]:
        """Newest first: the caller's own, or for staff everyone's or `account`'s. With the cursor of what follows."""
        before = MAX_INTEGER if after is None else cursors.decode_number("o", after)
        since = None if changed_since is None else _moment(changed_since)
        with self._database.read() as tx:
            customer = None if session.is_staff else session.account_id
            if account is not None and account != session.username:
                row = accounts.by_username(tx, account) if session.is_staff else None
                if row is None:
                    raise Refusal(Reason.NOT_FOUND, f"there is no account {account}")
                customer = row.id
            elif account is not None:
                customer = session.account_id
            numbers = orders.numbers(tx, orders.Filter(customer, status, since), before, limit + 1)
            found = orders.load(tx, numbers[:limit])
        items = [_as_seen(found[number], session) for number in numbers[:limit]]
        return items, cursor_of(items[-1]) if len(numbers) > limit else None


def cursor_of(order: Order) -> str:
    """Where a list goes on behind this order."""
    return cursors.encode("o", str(order.order))


def without_code(order: Order) -> Order:
    """As everyone but its customer sees it."""
    return msgspec.structs.replace(order, delivery_code=UNSET)


def _as_seen(stored: orders.StoredOrder, session: Session) -> Order:
    return stored.order if stored.customer == session.account_id else without_code(stored.order)


def _moment(text: str) -> Timestamp:
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        moment = None
    if moment is None or moment.utcoffset() != timedelta(0):
        raise Refusal.invalid("/changed_since", "not a time like 2026-11-30T17:45:00Z")
    return timestamp(moment.astimezone(UTC))
