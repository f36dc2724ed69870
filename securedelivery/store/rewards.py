"""The ledger of points, and what is left of each entry that gave some."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import and_, bindparam, delete, insert, select, update

from securedelivery.model import AccountId, OrderId, PointsEntry, PointsReason, Timestamp
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import accounts, points_ledger, points_lots, points_uses
from securedelivery.store.statements import Statement, listed, listing


class LedgerRow(NamedTuple):
    """entry: 1, 2, 3 ... of the account, without gaps. points: what it adds to the balance; not 0."""

    account_id: AccountId
    entry: int
    order_id: OrderId | None
    reason: PointsReason
    points: int
    at: Timestamp
    expires_at: Timestamp | None


class LotRow(NamedTuple):
    """entry: the ledger's row that gave the points."""

    account_id: AccountId
    entry: int
    expires_at: Timestamp
    remaining: int


class UseRow(NamedTuple):
    """entry: the ledger's row that used the points, lot: the one that gave them."""

    account_id: AccountId
    entry: int
    lot: int
    points: int


class Use(NamedTuple):
    """Points of an order's redemption. lot: the ledger's row that gave them."""

    lot: int
    expires_at: Timestamp
    points: int


class Trace(NamedTuple):
    """What the ledger knows of an order. earned: the rows; uses: what it redeemed at placement, oldest expiry first."""

    earned: set[int]
    uses: list[Use]


class Holder(NamedTuple):
    """An account's sums."""

    id: AccountId
    order_count: int
    points: int
    ledger_entries: int


_HOLDERS = Statement(select(*(accounts.c[name] for name in Holder._fields)).where(accounts.c.id.in_(listed("ids"))))
_lot_columns = [points_lots.c[name] for name in LotRow._fields]
_LOTS = Statement(
    select(*_lot_columns)
    .where(points_lots.c.account_id.in_(listed("ids")))
    .order_by(points_lots.c.account_id, points_lots.c.expires_at, points_lots.c.entry)
)
# The expression keeps the planner from reading all lots in the order of accounts; few are due.
_due = points_lots.alias("due")
_DUE = Statement(
    select(*_lot_columns)
    .where(
        points_lots.c.account_id.in_(
            select(_due.c.account_id + 0)
            .where(_due.c.expires_at <= bindparam("now"))
            .distinct()
            .limit(bindparam("count"))
        ),
        points_lots.c.expires_at <= bindparam("now"),
    )
    .order_by(points_lots.c.account_id, points_lots.c.expires_at, points_lots.c.entry)
)
_given = points_ledger.alias("given")
_TRACES = Statement(
    select(
        points_ledger.c.order_id,
        points_ledger.c.entry,
        points_uses.c.lot,
        _given.c.expires_at,
        points_uses.c.points,
    )
    .select_from(
        points_ledger.outerjoin(
            points_uses,
            and_(points_uses.c.account_id == points_ledger.c.account_id, points_uses.c.entry == points_ledger.c.entry),
        ).outerjoin(_given, and_(_given.c.account_id == points_uses.c.account_id, _given.c.entry == points_uses.c.lot))
    )
    .where(
        points_ledger.c.account_id.in_(listed("ids")),
        points_ledger.c.order_id.in_(listed("orders")),
        points_ledger.c.reason.in_(listed("reasons")),
    )
    .order_by(points_ledger.c.order_id, _given.c.expires_at, points_uses.c.lot)
)
_HISTORY = Statement(
    select(
        points_ledger.c.entry,
        points_ledger.c.points,
        points_ledger.c.reason,
        points_ledger.c.order_id,
        points_ledger.c.at,
        points_ledger.c.expires_at,
    )
    .where(points_ledger.c.account_id == bindparam("account"), points_ledger.c.entry < bindparam("before"))
    .order_by(points_ledger.c.entry.desc())
    .limit(bindparam("count"))
)
_INSERT = Statement(insert(points_ledger))
_INSERT_LOTS = Statement(insert(points_lots))
_INSERT_USES = Statement(insert(points_uses))
_this_lot = (points_lots.c.account_id == bindparam("account"), points_lots.c.entry == bindparam("lot"))
_CHANGE = Statement(update(points_lots).where(*_this_lot).values(remaining=bindparam("left")))
_USE_UP = Statement(delete(points_lots).where(*_this_lot))


def holders(tx: Transaction, ids: Iterable[AccountId]) -> list[Holder]:
    """Those of the accounts that exist."""
    return [Holder(*row) for row in tx.rows(_HOLDERS, {"ids": listing(ids)})]


def lots(tx: Transaction, ids: Iterable[AccountId]) -> defaultdict[AccountId, list[LotRow]]:
    """What the accounts have left, oldest expiry first."""
    found: defaultdict[AccountId, list[LotRow]] = defaultdict(list)
    for row in tx.rows(_LOTS, {"ids": listing(ids)}):
        found[row[0]].append(LotRow(*row))
    return found


def due(tx: Transaction, now: Timestamp, count: int) -> dict[AccountId, list[LotRow]]:
    """The lots whose time is up, oldest expiry first, of up to `count` accounts."""
    found: defaultdict[AccountId, list[LotRow]] = defaultdict(list)
    for row in tx.rows(_DUE, {"now": now, "count": count}):
        found[row[0]].append(LotRow(*row))
    return found


def traces(tx: Transaction, ids: Iterable[AccountId], orders: Iterable[OrderId]) -> defaultdict[OrderId, Trace]:
    """What the ledgers of the accounts know of each of the orders."""
    found: defaultdict[OrderId, Trace] = defaultdict(lambda: Trace(set(), []))
    reasons = (PointsReason.EARNED, PointsReason.REDEEMED)
    parameters = {"ids": listing(ids), "orders": listing(orders), "reasons": listing(reasons)}
    for order, entry, lot, expires_at, points in tx.rows(_TRACES, parameters):
        if lot is None:
            found[order].earned.add(entry)
        else:
            found[order].uses.append(Use(lot, expires_at, points))
    return found


def history(tx: Transaction, account: AccountId, before: int, count: int) -> list[PointsEntry]:
    """Up to `count` entries of the account's ledger, below `before`, newest first."""
    rows = tx.rows(_HISTORY, {"account": account, "before": before, "count": count})
    return [PointsEntry(entry, points, PointsReason(reason), *rest) for entry, points, reason, *rest in rows]


def post(tx: Transaction, entries: Sequence[LedgerRow], uses: Sequence[UseRow]) -> None:
    """Append to the ledger. The accounts' sums (accounts.credit) and the lots are the caller's to change."""
    tx.write(_INSERT, [row._asdict() for row in entries])
    tx.write(_INSERT_USES, [row._asdict() for row in uses])


def change_lots(tx: Transaction, new: Iterable[LotRow], old: Iterable[LotRow]) -> None:
    """Put the lots into this state. new: not stored yet, old: already stored; one with nothing remaining goes."""
    tx.write(_INSERT_LOTS, [lot._asdict() for lot in new if lot.remaining])
    changed, used_up = [], []
    for lot in old:
        if lot.remaining:
            changed.append({"account": lot.account_id, "lot": lot.entry, "left": lot.remaining})
        else:
            used_up.append({"account": lot.account_id, "lot": lot.entry})
    tx.write(_CHANGE, changed)
    tx.write(_USE_UP, used_up)
