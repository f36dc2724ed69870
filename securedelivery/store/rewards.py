"""The ledger of points, and what is left of each entry that gave some."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from sqlalchemy import and_, bindparam, literal_column, select, update

from securedelivery.model import AccountId, OrderId, PointsEntry, PointsReason, Timestamp
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import accounts, points_ledger, points_uses
from securedelivery.store.statements import Insertion, Statement, listed, listing


class LedgerRow(NamedTuple):
    """entry: 1, 2, 3 ... of the account, without gaps. points: what it adds to the balance; not 0.

    reason: the word itself, see OrderRow. remaining: of what was earned.
    """

    account_id: AccountId
    entry: int
    order_id: OrderId | None
    reason: str
    points: int
    at: Timestamp
    expires_at: Timestamp | None
    remaining: int


class LotRow(NamedTuple):
    """Of an entry of the ledger that gave points, what is left of them."""

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
_lot_columns = [points_ledger.c[name] for name in LotRow._fields]
# A literal, for the planner takes a partial index only where it sees the index's own condition.
_is_lot = points_ledger.c.remaining > literal_column("0")
_LOTS = Statement(
    select(*_lot_columns)
    .where(points_ledger.c.account_id == bindparam("account"), _is_lot)
    .order_by(points_ledger.c.entry.desc())
)
# The expression keeps the planner from reading the ledger in the order of accounts; few lots are due.
_DUE_ACCOUNTS = Statement(
    select(points_ledger.c.account_id + 0)
    .where(points_ledger.c.expires_at <= bindparam("now"), _is_lot)
    .distinct()
    .limit(bindparam("count"))
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
_INSERT = Insertion(points_ledger, LedgerRow._fields)
_INSERT_USES = Insertion(points_uses, UseRow._fields)
_CHANGE = Statement(
    update(points_ledger)
    .where(points_ledger.c.account_id == bindparam("account"), points_ledger.c.entry == bindparam("lot"))
    .values(remaining=bindparam("left"))
)


def holders(tx: Transaction, ids: Iterable[AccountId]) -> list[Holder]:
    """Those of the accounts that exist."""
    return [Holder(*row) for row in tx.rows(_HOLDERS, {"ids": listing(ids)})]


def lots(tx: Transaction, balances: Mapping[AccountId, int]) -> dict[AccountId, list[LotRow]]:
    """What the accounts have left, oldest expiry first. balances: as stored."""
    return {account: _lots(tx, account, balance) for account, balance in balances.items()}


def _lots(tx: Transaction, account: AccountId, balance: int) -> list[LotRow]:
    # From the newest back to where the balance is found: what was used up long ago is not read again.
    found = []
    if balance > 0:
        for row in tx.stream(_LOTS, {"account": account}):
            lot = LotRow(*row)
            found.append(lot)
            balance -= lot.remaining
            if balance <= 0:
                break
    return sorted(found, key=attrgetter("expires_at", "entry"))


def due(tx: Transaction, now: Timestamp, count: int) -> list[AccountId]:
    """Up to `count` accounts with a lot whose time is up."""
    return [account for (account,) in tx.rows(_DUE_ACCOUNTS, {"now": now, "count": count})]


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
    """Append to the ledger. The accounts' sums (accounts.credit) and earlier lots are the caller's to change."""
    tx.insert(_INSERT, entries)
    tx.insert(_INSERT_USES, uses)


def change_lots(tx: Transaction, lots: Iterable[LotRow]) -> None:
    """Put lots of earlier entries into this state."""
    tx.write(_CHANGE, [{"account": lot.account_id, "lot": lot.entry, "left": lot.remaining} for lot in lots])
