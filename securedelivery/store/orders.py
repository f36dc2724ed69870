"""Rows of orders, their lines and their history."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, bindparam, func, insert, select

from securedelivery.model import (
    AccountId,
    HistoryEntry,
    Order,
    OrderId,
    OrderLine,
    OrderStatus,
    ProductId,
    Timestamp,
)
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import accounts, order_history, order_lines, orders
from securedelivery.store.statements import Parameters, Statement, listed, listed_pairs, listing

HISTORY_SHOWN = 50
"""Entries of an order's history that it is shown with; an Order has to fit a frame."""


class OrderRow(NamedTuple):
    """As stored. fingerprint: 32 bytes."""

    id: OrderId
    account_id: AccountId
    idempotency_key: str
    fingerprint: bytes
    version: int
    status: OrderStatus
    subtotal: int
    discount: int
    total: int
    currency: str
    address: str
    points_earned: int
    points_redeemed: int
    courier_id: AccountId | None
    delivery_code: str
    placed_at: Timestamp
    changed_at: Timestamp


class LineRow(NamedTuple):
    """position: 1, 2, 3 ..."""

    order_id: OrderId
    position: int
    product_id: ProductId
    sku: str
    name: str
    quantity: int
    unit_price: int
    total: int


class StoredOrder(NamedTuple):
    """An order with the delivery code, and whose it is."""

    customer: AccountId
    courier: AccountId | None
    order: Order


class Filter(NamedTuple):
    """Which orders to list; None: any. changed_since is inclusive."""

    account: AccountId | None = None
    status: OrderStatus | None = None
    changed_since: Timestamp | None = None


_courier = accounts.alias("courier")
_LOAD = Statement(
    select(
        orders.c.id,
        orders.c.account_id,
        orders.c.courier_id,
        orders.c.version,
        accounts.c.username,
        orders.c.status,
        orders.c.subtotal,
        orders.c.discount,
        orders.c.total,
        orders.c.currency,
        orders.c.address,
        orders.c.points_earned,
        orders.c.points_redeemed,
        _courier.c.username.label("courier"),
        orders.c.placed_at,
        orders.c.changed_at,
        orders.c.delivery_code,
    )
    .select_from(
        orders.join(accounts, accounts.c.id == orders.c.account_id).outerjoin(
            _courier, _courier.c.id == orders.c.courier_id
        )
    )
    .where(orders.c.id.in_(listed("ids")))
)
_LINES = Statement(
    select(
        order_lines.c.order_id,
        order_lines.c.sku,
        order_lines.c.name,
        order_lines.c.quantity,
        order_lines.c.unit_price,
        order_lines.c.total,
    )
    .where(order_lines.c.order_id.in_(listed("ids")))
    .order_by(order_lines.c.order_id, order_lines.c.position)
)
_HISTORY = Statement(
    select(
        order_history.c.order_id,
        order_history.c.status,
        order_history.c.at,
        accounts.c.username,
        order_history.c.note,
    )
    .join(accounts, accounts.c.id == order_history.c.by_id)
    .where(order_history.c.order_id.in_(listed("ids")))
    .order_by(order_history.c.order_id, order_history.c.entry)
)
_keys = listed_pairs("keys")
_BY_KEYS = Statement(
    select(orders.c.account_id, orders.c.idempotency_key, orders.c.id, orders.c.fingerprint).select_from(
        _keys.join(orders, and_(orders.c.account_id == _keys.c.first, orders.c.idempotency_key == _keys.c.second))
    )
)
_LAST = Statement(select(func.max(orders.c.id)))
_INSERT = Statement(insert(orders))
_INSERT_LINES = Statement(insert(order_lines))


def _list(*, account: bool, status: bool, changed_since: bool) -> Statement:
    # One index finds, the other conditions sift, and which one is not left to the planner, who knows no numbers: an
    # account has few orders, few have changed lately, a status may be that of almost all. An expression hides a
    # column from it.
    number = orders.c.id + 0 if changed_since and not account else orders.c.id
    of_status = orders.c.status + "" if account or changed_since else orders.c.status
    statement: Select[Any] = select(orders.c.id).where(number < bindparam("before"))
    if account:
        statement = statement.where(orders.c.account_id == bindparam("of_account"))
    if status:
        statement = statement.where(of_status == bindparam("of_status"))
    if changed_since:
        changed_at = orders.c.changed_at + "" if account else orders.c.changed_at
        statement = statement.where(changed_at >= bindparam("since"))
    return Statement(statement.order_by(number.desc()).limit(bindparam("count")))


_YES_NO = (True, False)
# One for each combination of filters, by which of them are there.
_LISTS = {
    (account, status, since): _list(account=account, status=status, changed_since=since)
    for account in _YES_NO
    for status in _YES_NO
    for since in _YES_NO
}


def load(tx: Transaction, ids: Sequence[int]) -> dict[int, StoredOrder]:
    """Those of the orders that exist, whole, by number."""
    parameters: Parameters = {"ids": listing(ids)}
    lines: defaultdict[int, list[OrderLine]] = defaultdict(list)
    for order, *line in tx.rows(_LINES, parameters):
        lines[order].append(OrderLine(*line))
    history: defaultdict[int, list[HistoryEntry]] = defaultdict(list)
    for order, status, *entry in tx.rows(_HISTORY, parameters):
        history[order].append(HistoryEntry(OrderStatus(status), *entry))
    found: dict[int, StoredOrder] = {}
    for row in tx.rows(_LOAD, parameters):
        number, customer, courier = row[:3]
        placed = HistoryEntry(OrderStatus.PLACED, row[14], row[4], None)
        found[number] = StoredOrder(
            customer,
            courier,
            Order(
                order=number,
                version=row[3],
                account=row[4],
                status=OrderStatus(row[5]),
                lines=lines[number],
                subtotal=row[6],
                discount=row[7],
                total=row[8],
                currency=row[9],
                address=row[10],
                points_earned=row[11],
                points_redeemed=row[12],
                courier=row[13],
                history=[placed, *history[number]][-HISTORY_SHOWN:],
                placed_at=row[14],
                changed_at=row[15],
                delivery_code=row[16],
            ),
        )
    return found


def numbers(tx: Transaction, wanted: Filter, before: int, count: int) -> list[int]:
    """Up to `count` numbers of orders, below `before`, newest first."""
    parameters: Parameters = {"before": before, "count": count}
    if wanted.account is not None:
        parameters["of_account"] = wanted.account
    if wanted.status is not None:
        parameters["of_status"] = wanted.status
    if wanted.changed_since is not None:
        parameters["since"] = wanted.changed_since
    statement = _LISTS[wanted.account is not None, wanted.status is not None, wanted.changed_since is not None]
    return [number for (number,) in tx.rows(statement, parameters)]


def by_keys(
    tx: Transaction, keys: Iterable[tuple[AccountId, str]]
) -> dict[tuple[AccountId, str], tuple[OrderId, bytes]]:
    """(account, idempotency key) -> (order, fingerprint) for those that were used."""
    return {
        (account, key): (order, fingerprint)
        for account, key, order, fingerprint in tx.rows(_BY_KEYS, {"keys": listing(keys)})
    }


def next_id(tx: Transaction) -> int:
    """The first free number. It stays free: this transaction holds the write lock, and rows are never deleted."""
    found = tx.row(_LAST)
    assert found is not None
    return (found[0] or 0) + 1


def add(tx: Transaction, rows: Sequence[OrderRow], lines: Sequence[LineRow]) -> None:
    tx.write(_INSERT, [row._asdict() for row in rows])
    tx.write(_INSERT_LINES, [row._asdict() for row in lines])
