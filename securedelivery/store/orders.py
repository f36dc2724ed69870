"""Rows of orders, their lines and their history. Addresses and notes are sealed here, and nowhere else."""

import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Select, and_, bindparam, delete, func, insert, or_, select, true, update

from securedelivery.model import (
    AccountId,
    HistoryEntry,
    Order,
    OrderId,
    OrderLine,
    OrderStatus,
    ProductId,
    Role,
    Timestamp,
)
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import MAX_INTEGER, accounts, order_history, order_lines, orders
from securedelivery.store.statements import Insertion, Parameters, Statement, gathered, listed, listed_rows, listing
from securedelivery.store.vault import Sealed

HISTORY_SHOWN = 50
"""Entries of an order's history that it is shown with; an Order has to fit a frame."""

MAX_HISTORY_TEXT = 18_000
"""Bytes of JSON that the history of an Order takes at most: what a frame has left beside the longest lines and
address."""

OPEN = (OrderStatus.PLACED, OrderStatus.CONFIRMED, OrderStatus.PACKED, OrderStatus.OUT_FOR_DELIVERY)
"""On the way: the customer waits for it."""

CARRIED = (OrderStatus.PACKED, OrderStatus.OUT_FOR_DELIVERY)
"""What a courier has to do with."""

_ADDRESS = Sealed("orders", "address")
_NOTE = Sealed("order_history", "note")
_encode = msgspec.json.Encoder().encode


class OrderRow(NamedTuple):
    """A new order. fingerprint: as keyed() gives it. orders_before: of the account, which the tier goes by.

    status: the word itself; the driver is slow with a StrEnum.
    """

    id: OrderId
    account_id: AccountId
    idempotency_key: str
    fingerprint: bytes
    version: int
    status: str
    subtotal: int
    discount: int
    total: int
    currency: str
    points_earned: int
    points_redeemed: int
    courier_id: AccountId | None
    delivery_code: str
    placed_at: Timestamp
    changed_at: Timestamp
    address: str
    orders_before: int


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


class HistoryRow(NamedTuple):
    """entry: 1, 2, 3 ... by_id: None for the operator at the machine."""

    order_id: OrderId
    entry: int
    status: OrderStatus
    at: Timestamp
    by_id: AccountId | None
    note: str | None


class StoredOrder(NamedTuple):
    """An order with the delivery code, whose it is, and what it does not show.

    products: line by line; wrong_codes: since staff last looked; orders_before: of the account, which the tier goes by;
    entries: how many the history has.
    """

    customer: AccountId
    courier: AccountId | None
    order: Order
    products: list[ProductId]
    wrong_codes: int
    orders_before: int
    entries: int


class Party(NamedTuple):
    """Who has, or is to get, a part in an order."""

    id: AccountId
    username: str
    role: Role
    disabled: bool


class Filter(NamedTuple):
    """Which orders to list; None: any. changed_since is inclusive."""

    account: AccountId | None = None
    status: OrderStatus | None = None
    changed_since: Timestamp | None = None


OPERATOR = "operator"
"""How the one at the machine is named, who has no account."""


_courier = accounts.alias("courier")
# Bytes go into JSON as hex digits.
_LOAD = gathered(
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
        func.hex(orders.c.address),
        orders.c.points_earned,
        orders.c.points_redeemed,
        _courier.c.username.label("courier"),
        orders.c.placed_at,
        orders.c.changed_at,
        orders.c.delivery_code,
        orders.c.wrong_codes,
        orders.c.orders_before,
    )
    .select_from(
        orders.join(accounts, accounts.c.id == orders.c.account_id).outerjoin(
            _courier, _courier.c.id == orders.c.courier_id
        )
    )
    .where(orders.c.id.in_(listed("ids")))
)
_LINES = gathered(
    select(
        order_lines.c.order_id,
        order_lines.c.position,
        order_lines.c.product_id,
        order_lines.c.sku,
        order_lines.c.name,
        order_lines.c.quantity,
        order_lines.c.unit_price,
        order_lines.c.total,
    ).where(order_lines.c.order_id.in_(listed("ids")))
)
_rows_decoder = msgspec.json.Decoder(list[list[Any]])
# Of those alone that have one, and of it the newest alone: a customer may edit as often as he likes.
_since = listed_rows("since", "order", "entry")
_HISTORY = Statement(
    select(
        order_history.c.order_id,
        order_history.c.entry,
        order_history.c.status,
        order_history.c.at,
        accounts.c.username,
        order_history.c.note,
    )
    .select_from(
        _since.join(
            order_history,
            and_(order_history.c.order_id == _since.c.order, order_history.c.entry > _since.c.entry),
        ).outerjoin(accounts, accounts.c.id == order_history.c.by_id)
    )
    .order_by(order_history.c.order_id, order_history.c.entry)
)
_PARTIES = Statement(
    select(accounts.c.id, accounts.c.username, accounts.c.role, accounts.c.disabled).where(
        or_(accounts.c.id.in_(listed("ids")), accounts.c.username.in_(listed("names")))
    )
)
_keys = listed_rows("keys", "account", "key")
_BY_KEYS = Statement(
    select(orders.c.account_id, orders.c.idempotency_key, orders.c.id, orders.c.fingerprint).select_from(
        _keys.join(orders, and_(orders.c.account_id == _keys.c.account, orders.c.idempotency_key == _keys.c.key))
    )
)
_LAST = Statement(select(func.max(orders.c.id)))
_CARRIED = Statement(
    select(orders.c.id)
    .where(
        orders.c.courier_id == bindparam("courier"),
        orders.c.id < bindparam("before"),
        (orders.c.status + "").in_(listed("statuses")),
    )
    .order_by(orders.c.id.desc())
    .limit(bindparam("count"))
)
_ANY_OPEN = Statement(
    select(true()).where(
        select(orders.c.id)
        .where(orders.c.account_id == bindparam("account"), (orders.c.status + "").in_(listed("statuses")))
        .exists()
    )
)
_INSERT = Insertion(orders, OrderRow._fields)
_INSERT_LINES = Insertion(order_lines, LineRow._fields)
_INSERT_HISTORY = Statement(insert(order_history))
_this = orders.c.id == bindparam("order")
_CHANGING = ("version", "status", "subtotal", "discount", "total", "points_earned", "points_redeemed", "changed_at")
_CHANGE = Statement(
    update(orders)
    .where(_this)
    .values({name: bindparam(f"new_{name}") for name in (*_CHANGING, "courier_id", "wrong_codes")})
)
_READDRESS = Statement(update(orders).where(_this).values(address=bindparam("cell")))
_DROP_LINES = Statement(delete(order_lines).where(order_lines.c.order_id == bindparam("order")))
_of_account = orders.c.account_id == bindparam("account")
_OWN = Statement(select(orders.c.id).where(_of_account))
_FORGET = Statement(
    update(orders).where(orders.c.id == bindparam("number")).values(address=None, idempotency_key=bindparam("new_key"))
)
_FORGET_NOTES = Statement(
    update(order_history).where(order_history.c.order_id.in_(select(orders.c.id).where(_of_account))).values(note=None)
)


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
    goods: defaultdict[int, list[ProductId]] = defaultdict(list)
    ordered: list[list[Any]] = tx.gathered(_LINES, _rows_decoder, parameters)
    for order, _, product, *line in sorted(ordered):
        lines[order].append(OrderLine(*line))
        goods[order].append(product)
    rows = tx.gathered(_LOAD, _rows_decoder, parameters)
    # Each change makes a version and an entry: the first version has none, and how many there are need not be asked.
    changed = [(row[0], row[3] - 1 - HISTORY_SHOWN) for row in rows if row[3] > 1]
    history: defaultdict[int, list[HistoryEntry]] = defaultdict(list)
    entries: dict[int, int] = {}
    for order, entry, status, at, by, note in tx.rows(_HISTORY, {"since": listing(changed)}) if changed else ():
        text = tx.vault.open(_NOTE, (order, entry), note)
        history[order].append(HistoryEntry(OrderStatus(status), at, by or OPERATOR, text))
        entries[order] = entry
    found: dict[int, StoredOrder] = {}
    for row in rows:
        number, customer, courier = row[:3]
        placed = HistoryEntry(OrderStatus.PLACED, row[14], row[4], None)
        order = Order(
            order=number,
            version=row[3],
            account=row[4],
            status=OrderStatus(row[5]),
            lines=lines[number],
            subtotal=row[6],
            discount=row[7],
            total=row[8],
            currency=row[9],
            address=tx.vault.open(_ADDRESS, number, bytes.fromhex(row[10]) or None) or "",
            points_earned=row[11],
            points_redeemed=row[12],
            courier=row[13],
            history=shown([placed, *history[number]]),
            placed_at=row[14],
            changed_at=row[15],
            delivery_code=row[16],
        )
        found[number] = StoredOrder(customer, courier, order, goods[number], row[17], row[18], entries.get(number, 0))
    return found


def shown(history: list[HistoryEntry]) -> list[HistoryEntry]:
    """The newest entries that an Order has room for."""
    history = history[-HISTORY_SHOWN:]
    room = MAX_HISTORY_TEXT - len("[]")
    for count, entry in enumerate(reversed(history)):
        room -= len(_encode(entry)) + len(",")
        if room < 0:
            return history[len(history) - count :]
    return history


def parties(tx: Transaction, ids: Iterable[AccountId], names: Iterable[str]) -> list[Party]:
    """Those of the accounts that exist, whether asked for by number or by name."""
    rows = tx.rows(_PARTIES, {"ids": listing(ids), "names": listing(names)})
    return [Party(account, username, Role(role), bool(disabled)) for account, username, role, disabled in rows]


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


def keyed(tx: Transaction, fingerprint: bytes) -> bytes:
    """A fingerprint as it is stored, 32 bytes: without the vault's key nobody can try addresses against it."""
    return tx.vault.digest("fingerprint", fingerprint)


def next_id(tx: Transaction) -> int:
    """The first free number. It stays free: this transaction holds the write lock, and rows are never deleted."""
    found = tx.row(_LAST)
    assert found is not None
    return (found[0] or 0) + 1


def carried(tx: Transaction, courier: AccountId, before: int, count: int) -> list[int]:
    """Up to `count` numbers of orders that the courier has to do with, below `before`, newest first."""
    parameters = {"courier": courier, "before": before, "count": count, "statuses": listing(CARRIED)}
    return [number for (number,) in tx.rows(_CARRIED, parameters)]


def carried_by(tx: Transaction, account: AccountId) -> bool:
    """Whether the account is on the way with an order."""
    out = listing([OrderStatus.OUT_FOR_DELIVERY])
    return tx.row(_CARRIED, {"courier": account, "before": MAX_INTEGER, "count": 1, "statuses": out}) is not None


def open_ones(tx: Transaction, account: AccountId) -> bool:
    """Whether the account waits for an order."""
    return tx.row(_ANY_OPEN, {"account": account, "statuses": listing(OPEN)}) is not None


def add(tx: Transaction, rows: Sequence[OrderRow], lines: Sequence[LineRow]) -> None:
    cells = tx.vault.seal_all(_ADDRESS, [(row.id, row.address) for row in rows])
    at = OrderRow._fields.index("address")
    tx.insert(_INSERT, [(*row[:at], cell, *row[at + 1 :]) for row, cell in zip(rows, cells, strict=True)])
    tx.insert(_INSERT_LINES, lines)


def change(tx: Transaction, changed: Sequence[StoredOrder]) -> None:
    """All of the orders that may change, but lines, address and history."""
    rows = []
    for stored in changed:
        row: Parameters = {f"new_{name}": getattr(stored.order, name) for name in _CHANGING}
        row |= {"new_courier_id": stored.courier, "new_wrong_codes": stored.wrong_codes, "order": stored.order.order}
        rows.append(row)
    tx.write(_CHANGE, rows)


def replace_lines(tx: Transaction, changed: Sequence[StoredOrder]) -> None:
    tx.write(_DROP_LINES, [{"order": stored.order.order} for stored in changed])
    tx.insert(
        _INSERT_LINES,
        [
            LineRow(stored.order.order, position, product, *msgspec.structs.astuple(line))
            for stored in changed
            for position, (line, product) in enumerate(zip(stored.order.lines, stored.products, strict=True), start=1)
        ],
    )


def readdress(tx: Transaction, changed: Iterable[Order]) -> None:
    seal = tx.vault.seal
    tx.write(
        _READDRESS,
        [{"order": order.order, "cell": seal(_ADDRESS, order.order, order.address)} for order in changed],
    )


def add_history(tx: Transaction, rows: Iterable[HistoryRow]) -> None:
    seal = tx.vault.seal
    tx.write(
        _INSERT_HISTORY,
        [row._asdict() | {"note": seal(_NOTE, (row.order_id, row.entry), row.note)} for row in rows],
    )


def erase(tx: Transaction, account: AccountId) -> None:
    """Forget where the account's orders went, what was noted on them, and the keys, which are its customer's words."""
    numbers = tx.rows(_OWN, {"account": account})
    tx.write(_FORGET, [{"number": number, "new_key": secrets.token_hex(16)} for (number,) in numbers])
    tx.write(_FORGET_NOTES, [{"account": account}])
