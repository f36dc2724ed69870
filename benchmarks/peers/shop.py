"""The shop that FastAPI, Litestar and gRPC have in common: the tables and the rules, with SQLAlchemy 2 Core.

An order is placed in one of two styles, with the same rules and the same rows: as the documentation shows it
(benchmarks/peers/documented.py, the default) or tuned beyond that (benchmarks/peers/tuned.py, `--tuned`).

Common to both: constructs of Core (no ORM, which would cost these peers more), `with engine.begin()`, SQLite's pragmas
set by a listener for "connect", and BEGIN sent by one for "begin" (both from the page on the SQLite dialect);
IMMEDIATE, because a transaction that reads first and writes then could otherwise find that another has written
in between, and would have to be run again; and a busy timeout, so that those who wait for the lock are not refused.

The rows of an order are those that the service itself writes: the order (one for each account and key), its lines, the
stock (guarded against going below 0), an entry of the points ledger, the account's sums, an entry of the audit; all in
one transaction that is on the disk (WAL, synchronous=FULL) before the answer goes out. The tables have the service's
keys and indexes. What the service does beyond that (a sealed address, a keyed fingerprint, a chain of hashes) is not
asked of the peers.
"""

import argparse
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    RowMapping,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    insert,
    select,
)

from benchmarks import order

metadata = MetaData()

accounts = Table(
    "accounts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("username", Text, nullable=False, unique=True),
    Column("order_count", Integer, nullable=False),
    Column("points", Integer, nullable=False),
    Column("ledger_entries", Integer, nullable=False),
)

products = Table(
    "products",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sku", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("price", Integer, nullable=False),
    Column("stock", Integer, CheckConstraint("stock >= 0"), nullable=False),
)

orders = Table(
    "orders",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("total", Integer, nullable=False),
    Column("currency", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("points_earned", Integer, nullable=False),
    Column("delivery_code", Text, nullable=False),
    Column("placed_at", Text, nullable=False),
    Column("changed_at", Text, nullable=False),
    UniqueConstraint("account_id", "idempotency_key"),
    Index("ix_orders_account", "account_id", "id"),
    Index("ix_orders_status", "status", "id"),
    Index("ix_orders_changed_at", "changed_at"),
)

order_lines = Table(
    "order_lines",
    metadata,
    Column("order_id", ForeignKey("orders.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("product_id", ForeignKey("products.id"), nullable=False),
    Column("sku", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("unit_price", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    sqlite_with_rowid=False,
)

points_ledger = Table(
    "points_ledger",
    metadata,
    Column("account_id", ForeignKey("accounts.id"), primary_key=True),
    Column("entry", Integer, primary_key=True),
    Column("order_id", ForeignKey("orders.id")),
    Column("reason", Text, nullable=False),
    Column("points", Integer, nullable=False),
    Column("at", Text, nullable=False),
    Column("expires_at", Text, nullable=False),
    sqlite_with_rowid=False,
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Text, nullable=False),
    Column("actor_id", ForeignKey("accounts.id"), nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Index("ix_audit_actor", "actor_id", "id"),
)

PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA cache_size=-8000",
)
"""The service's own, for every connection."""

TIERS = ((40, 2, 1), (15, 3, 2), (5, 5, 4), (0, 1, 1))
"""From how many orders on, and the multiplier of the points as a fraction."""

EXPIRY = timedelta(days=365)
BUSY_SECONDS = 30


class Refused(Exception):  # noqa: N818 -- an answer, not a fault
    """status: as HTTP has it. reason: one word."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class Wanted(NamedTuple):
    """What somebody orders. lines: (sku, quantity), no sku twice."""

    key: str
    lines: Sequence[tuple[str, int]]
    address: str


class Draft(NamedTuple):
    """A new order whose rows have no number yet. taken: (id of the product, quantity)."""

    order: dict[str, Any]
    lines: list[dict[str, Any]]
    taken: list[tuple[int, int]]
    expires_at: str

    def line_rows(self, number: int) -> list[dict[str, Any]]:
        return [{"order_id": number, **line} for line in self.lines]

    def points_row(self, number: int, entry: int) -> dict[str, Any]:
        """entry: of the customer's ledger, counted from 1."""
        return {
            "account_id": self.order["account_id"],
            "entry": entry,
            "order_id": number,
            "reason": "earned",
            "points": self.order["points_earned"],
            "at": self.order["placed_at"],
            "expires_at": self.expires_at,
        }

    def audit_row(self, number: int) -> dict[str, Any]:
        return {
            "at": self.order["placed_at"],
            "actor_id": self.order["account_id"],
            "action": "order.placed",
            "subject": f"order:{number}",
        }


def options(description: str | None) -> argparse.ArgumentParser:
    """What every peer is asked."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--certs", type=Path, required=True, help="the folder that gen_certs.sh made")
    parser.add_argument("--database", type=Path, required=True, help="made, with customers and goods, if it is missing")
    parser.add_argument("--tuned", action="store_true", help="beyond what the documentation shows")
    parser.add_argument("--stock", type=int, default=order.STOCK, help="of each product in a new database")
    return parser


def open_shop(path: Path, *, stock: int = order.STOCK, pool: Mapping[str, int] | None = None) -> Engine:
    """The database at `path`, made and filled if it is missing. pool: settings of it; None for SQLAlchemy's own."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_SECONDS}, **(pool or {}))
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    with engine.begin() as connection:
        metadata.create_all(connection)
        if connection.execute(select(accounts.c.id).limit(1)).first() is None:
            _fill(connection, stock)
    return engine


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours, not the driver's
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _fill(connection: Connection, stock: int) -> None:
    connection.execute(
        insert(accounts),
        [
            {"username": order.customer(number), "order_count": 0, "points": 0, "ledger_entries": 0}
            for number in range(order.CUSTOMERS)
        ],
    )
    connection.execute(
        insert(products),
        [
            {"sku": product.sku, "name": product.name, "description": "", "price": product.price, "stock": stock}
            for product in order.PRODUCTS
        ],
    )


def pragmas(engine: Engine) -> dict[str, Any]:
    """Those that the server's own connections are under, as SQLite says."""
    names = ("journal_mode", "synchronous", "foreign_keys")
    with engine.connect() as connection:
        return {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names}


def earned(total: int, order_count: int) -> int:
    """Points for an order. total: cents; order_count: of the customer, before it."""
    for least, numerator, denominator in TIERS:
        if order_count >= least:
            return total // 100 * numerator // denominator
    raise AssertionError(order_count)


def timestamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def drafted(customer: Any, products: Iterable[Any], wanted: Wanted) -> Draft:
    """customer, products: rows; of the products those whose sku is wanted. Raises Refused."""
    found = {product.sku: product for product in products}
    lines = []
    for position, (sku, quantity) in enumerate(wanted.lines, start=1):
        product = found.get(sku)
        if product is None:
            raise Refused(404, "not_found", f"there is no product {sku}")
        if product.stock < quantity:
            raise Refused(409, "out_of_stock", f"{sku}: {product.stock} left")
        lines.append(
            {
                "position": position,
                "product_id": product.id,
                "sku": sku,
                "name": product.name,
                "quantity": quantity,
                "unit_price": product.price,
                "total": product.price * quantity,
            }
        )
    total = sum(line["total"] for line in lines)
    at = datetime.now(UTC)
    now = timestamp(at)
    row = {
        "account_id": customer.id,
        "idempotency_key": wanted.key,
        "version": 1,
        "status": "placed",
        "total": total,
        "currency": order.CURRENCY,
        "address": wanted.address,
        "points_earned": earned(total, customer.order_count),
        "delivery_code": f"{secrets.randbelow(1_000_000):06}",
        "placed_at": now,
        "changed_at": now,
    }
    taken = [(line["product_id"], line["quantity"]) for line in lines]
    return Draft(row, lines, taken, timestamp(at + EXPIRY))


def replayed(username: str, placed: RowMapping, lines: Sequence[RowMapping], wanted: Wanted) -> dict[str, Any]:
    """The order that this key has placed before. Raises Refused where that was another one."""
    before = [(line["sku"], line["quantity"]) for line in lines]
    if before != list(wanted.lines) or placed["address"] != wanted.address:
        raise Refused(409, "idempotency_conflict", "this key was used for another order; take a new one")
    return shown(placed["id"], username, dict(placed), map(dict, lines))


def shown(number: int, username: str, row: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """An order as it is told, with the members that the service's own has."""
    return {
        "order": number,
        "version": row["version"],
        "account": username,
        "status": row["status"],
        "lines": [
            {
                "sku": line["sku"],
                "name": line["name"],
                "quantity": line["quantity"],
                "unit_price": line["unit_price"],
                "total": line["total"],
            }
            for line in lines
        ],
        "subtotal": row["total"],
        "discount": 0,
        "total": row["total"],
        "currency": row["currency"],
        "address": row["address"],
        "points_earned": row["points_earned"],
        "points_redeemed": 0,
        "courier": None,
        "history": [{"status": "placed", "at": row["placed_at"], "by": username, "note": None}],
        "placed_at": row["placed_at"],
        "changed_at": row["changed_at"],
        "delivery_code": row["delivery_code"],
    }
