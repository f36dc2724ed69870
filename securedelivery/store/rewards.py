"""The ledger of points, and what is left of each entry that gave some."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, delete, insert, select, update

from securedelivery.model import AccountId, OrderId, PointsReason, Timestamp
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import points_ledger, points_lots, points_uses
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


_LOTS = Statement(
    select(*(points_lots.c[name] for name in LotRow._fields))
    .where(points_lots.c.account_id.in_(listed("ids")))
    .order_by(points_lots.c.account_id, points_lots.c.expires_at, points_lots.c.entry)
)
_INSERT = Statement(insert(points_ledger))
_INSERT_LOTS = Statement(insert(points_lots))
_INSERT_USES = Statement(insert(points_uses))
_this_lot = (points_lots.c.account_id == bindparam("account"), points_lots.c.entry == bindparam("lot"))
_LOWER = Statement(update(points_lots).where(*_this_lot).values(remaining=bindparam("left")))
_USE_UP = Statement(delete(points_lots).where(*_this_lot))


def lots(tx: Transaction, ids: Iterable[AccountId]) -> defaultdict[AccountId, list[LotRow]]:
    """What the accounts have left, oldest expiry first."""
    found: defaultdict[AccountId, list[LotRow]] = defaultdict(list)
    for row in tx.rows(_LOTS, {"ids": listing(ids)}):
        found[row[0]].append(LotRow(*row))
    return found


def post(tx: Transaction, entries: Sequence[LedgerRow], uses: Sequence[UseRow]) -> None:
    """Append to the ledger. The accounts' sums (accounts.credit) and the lots are the caller's to change."""
    tx.write(_INSERT, [row._asdict() for row in entries])
    tx.write(_INSERT_USES, [row._asdict() for row in uses])


def change_lots(tx: Transaction, new: Iterable[LotRow], old: Iterable[LotRow]) -> None:
    """Put the lots into this state. new: not stored yet, old: already stored; one with nothing remaining goes."""
    tx.write(_INSERT_LOTS, [lot._asdict() for lot in new if lot.remaining])
    lowered, used_up = [], []
    for lot in old:
        if lot.remaining:
            lowered.append({"account": lot.account_id, "lot": lot.entry, "left": lot.remaining})
        else:
            used_up.append({"account": lot.account_id, "lot": lot.entry})
    tx.write(_LOWER, lowered)
    tx.write(_USE_UP, used_up)
