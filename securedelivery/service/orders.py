"""Placing, changing and showing orders: docs/protocol.md, "Orders" and "Idempotency"."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec
from msgspec import UNSET

from securedelivery.errors import Reason, Refusal
from securedelivery.model import Order, OrderStatus, Role, Timestamp, timestamp
from securedelivery.service import cursors
from securedelivery.service.batches import one_by_one
from securedelivery.service.changes import Changes, Command, not_found
from securedelivery.service.placement import Placement
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session, acting
from securedelivery.service.transitions import STAFF, UNDOING
from securedelivery.store import accounts, audit, orders
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.orders import OPERATOR, StoredOrder
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


class UpdateCommand(msgspec.Struct, frozen=True):
    """version: that of the order which the customer saw. lines, address: None leaves them as they are."""

    session: Session
    order: int
    version: int
    lines: Sequence[WantedLine] | None = None
    address: str | None = None


class CancelCommand(msgspec.Struct, frozen=True):
    """session: None for the operator at the machine."""

    session: Session | None
    order: int
    reason: str | None = None


class AdvanceCommand(msgspec.Struct, frozen=True):
    """session: None for the operator at the machine. courier: a username."""

    session: Session | None
    order: int
    status: OrderStatus
    courier: str | None = None
    note: str | None = None


class ConfirmCommand(msgspec.Struct, frozen=True):
    """code: as the customer told it."""

    session: Session
    order: int
    code: str


class ViewCommand(msgspec.Struct, frozen=True):
    """session: of staff, or None for the operator at the machine."""

    session: Session | None
    order: int


class ListCommand(msgspec.Struct, frozen=True):
    """session: of staff, or None for the operator at the machine. account: a username; before, limit: of numbers."""

    session: Session | None
    before: int
    limit: int
    status: OrderStatus | None
    account: str | None
    changed_since: Timestamp | None


Listed = tuple[list[Order], str | None]
"""Newest first, with the cursor of what follows."""


class Orders:
    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        rules: RewardRules,
        currency: str,
        *,
        receipts: bool = False,
    ) -> None:
        """clock: aware, UTC. currency: ISO 4217. receipts: whether the outbox gets mail about orders."""
        self._receipts = receipts
        self._database = database
        self._clock = clock
        self._rules = rules
        self._currency = currency

    def place(self, tx: Transaction, commands: Sequence[PlaceCommand]) -> list[Order | Refusal]:
        """A batch for the writer: each command's Order with its delivery code, or why not.

        Publishes OrderChanged and RewardsChanged for each order placed, nothing for one that was already there.
        """
        placement = Placement(tx, commands, self._clock(), self._rules, self._currency, receipts=self._receipts)
        outcomes = one_by_one(placement.place, commands)
        placement.write()
        return outcomes

    def update(self, tx: Transaction, commands: Sequence[UpdateCommand]) -> list[Order | Refusal]:
        """A batch for the writer: each command's Order as it is now, or why not. So are the next three.

        Publishes OrderChanged for each order changed, and RewardsChanged where that touched the points.
        """
        relined = [command for command in commands if command.lines is not None]
        skus = {line.sku for command in relined for line in command.lines or ()}
        settling = {command.order for command in relined}
        changes = self._changes(tx, commands, skus=skus, settling=settling)
        return _carried_out(changes, changes.update, commands)

    def cancel(self, tx: Transaction, commands: Sequence[CancelCommand]) -> list[Order | Refusal]:
        settling = {command.order for command in commands}
        changes = self._changes(tx, commands, settling=settling)
        return _carried_out(changes, changes.cancel, commands)

    def advance(self, tx: Transaction, commands: Sequence[AdvanceCommand]) -> list[Order | Refusal]:
        couriers = {command.courier for command in commands if command.courier is not None}
        settling = {command.order for command in commands if command.status in UNDOING}
        changes = self._changes(tx, commands, couriers=couriers, settling=settling)
        return _carried_out(changes, changes.advance, commands)

    def confirm(self, tx: Transaction, commands: Sequence[ConfirmCommand]) -> list[Order | Refusal]:
        changes = self._changes(tx, commands)
        return _carried_out(changes, changes.confirm, commands)

    def get(self, session: Session | None, order: int) -> Order:
        """For its customer, its courier and staff; for others it does not exist.

        Staff (None: the operator at the machine) is written down, in the transaction that reads.
        """
        if session is not None:
            with self._database.read() as tx:
                found = orders.load(tx, [order]).get(order)
            if found is not None and _is_part_of(session, found):
                return _as_seen(found, session)
            if found is None or not session.is_staff:
                raise not_found(order)
        return self._database.writer.call(self._view, ViewCommand(session, order))

    def _view(self, tx: Transaction, commands: Sequence[ViewCommand]) -> list[Order | Refusal]:
        changes = self._changes(tx, commands)
        return _carried_out(changes, changes.look_at, commands)

    def list(
        self,
        session: Session | None,
        *,
        after: str | None = None,
        limit: int = 50,
        status: OrderStatus | None = None,
        account: str | None = None,
        changed_since: str | None = None,
    ) -> Listed:
        """The caller's own, or for staff (None: the operator at the machine) everyone's or `account`'s.

        Staff listing what is not its own is written down, in the transaction that reads.
        """
        before = MAX_INTEGER if after is None else cursors.decode_number("o", after)
        since = None if changed_since is None else _moment(changed_since)
        own = session is not None and account == session.username
        if session is None or (session.is_staff and not own):
            command = ListCommand(session, before, limit, status, account, since)
            return self._database.writer.call(self._list_others, command)
        if account is not None and not own:
            raise _no_account(account)
        with self._database.read() as tx:
            numbers = orders.numbers(tx, orders.Filter(session.account_id, status, since), before, limit + 1)
            return _page(tx, numbers, limit, session)

    def _changes(self, tx: Transaction, commands: Sequence[Command], **named: Any) -> Changes:
        return Changes(tx, commands, self._clock(), self._rules, receipts=self._receipts, **named)

    def _list_others(self, tx: Transaction, commands: Sequence[ListCommand]) -> Sequence[Listed | Refusal]:
        return one_by_one(lambda command: self._list_for_staff(tx, command), commands)

    def _list_for_staff(self, tx: Transaction, command: ListCommand) -> Listed:
        if command.session is not None:
            _check_staff(tx, command.session)
        customer = None
        if command.account is not None:
            row = accounts.by_username(tx, command.account)
            if row is None:
                raise _no_account(command.account)
            customer = row.id
        wanted = orders.Filter(customer, command.status, command.changed_since)
        numbers = orders.numbers(tx, wanted, command.before, command.limit + 1)
        detail: dict[str, Any] = {"account": customer}
        if command.status is not None:
            detail["status"] = command.status
        if command.session is None:
            detail["by"] = OPERATOR
        if seen := numbers[: command.limit]:
            detail |= {"orders": len(seen), "newest": seen[0], "oldest": seen[-1]}
        actor = None if command.session is None else command.session.account_id
        text = msgspec.json.encode(detail).decode()
        audit.append(tx, [audit.AuditEntry(timestamp(self._clock()), actor, "orders.listed", None, text)])
        return _page(tx, numbers, command.limit, command.session)

    def deliveries(self, session: Session, after: str | None = None, limit: int = 50) -> Listed:
        """What the courier has to deliver: packed, or out for delivery. An admin's look is written down."""
        before = MAX_INTEGER if after is None else cursors.decode_number("o", after)
        if session.is_staff:
            return self._database.writer.call(self._carried, (session, before, limit))
        with self._database.read() as tx:
            return _deliveries(tx, session, before, limit)

    def _carried(self, tx: Transaction, commands: Sequence[tuple[Session, int, int]]) -> Sequence[Listed | Refusal]:
        def look(command: tuple[Session, int, int]) -> Listed:
            session, before, limit = command
            _check_staff(tx, session)
            now = timestamp(self._clock())
            audit.append(tx, [audit.AuditEntry(now, session.account_id, "orders.listed", None, '{"deliveries":true}')])
            return _deliveries(tx, session, before, limit)

        return one_by_one(look, commands)


def cursor_of(order: Order) -> str:
    """Where a list goes on behind this order."""
    return cursors.encode("o", str(order.order))


def without_code(order: Order) -> Order:
    """As everyone but its customer sees it."""
    return msgspec.structs.replace(order, delivery_code=UNSET)


def _is_part_of(session: Session, stored: StoredOrder) -> bool:
    """Whether the order is the caller's own, or his to deliver."""
    return stored.customer == session.account_id or (
        stored.courier == session.account_id and session.role is Role.COURIER
    )


def _as_seen(stored: StoredOrder, session: Session | None) -> Order:
    own = session is not None and stored.customer == session.account_id
    return stored.order if own else without_code(stored.order)


def _carried_out(
    changes: Changes, change: Callable[[Any], StoredOrder], commands: Sequence[Command]
) -> list[Order | Refusal]:
    """Each command in turn, and what came of it for its sender."""
    outcomes = one_by_one(lambda command: _as_seen(change(command), command.session), commands)
    changes.write()
    return outcomes


def _check_staff(tx: Transaction, session: Session) -> None:
    """Whether the caller still is staff, as the account is now."""
    party = acting(next(iter(orders.parties(tx, [session.account_id], [])), None))
    if party.role not in STAFF:
        raise Refusal(Reason.FORBIDDEN, f"your role is {party.role} now; log in again")


def _deliveries(tx: Transaction, session: Session, before: int, limit: int) -> Listed:
    return _page(tx, orders.carried(tx, session.account_id, before, limit + 1), limit, session)


def _page(tx: Transaction, numbers: Sequence[int], limit: int, session: Session | None) -> Listed:
    """numbers: of one order more than fits, where there is one."""
    found = orders.load(tx, numbers[:limit])
    items = [_as_seen(found[number], session) for number in numbers[:limit]]
    return items, cursor_of(items[-1]) if len(numbers) > limit else None


def _no_account(name: str) -> Refusal:
    return Refusal(Reason.NOT_FOUND, f"there is no account {name}")


def _moment(text: str) -> Timestamp:
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        moment = None
    if moment is None or moment.utcoffset() != timedelta(0):
        raise Refusal.invalid("/changed_since", "not a time like 2026-11-30T17:45:00Z")
    return timestamp(moment.astimezone(UTC))
