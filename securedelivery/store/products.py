"""Rows of the catalogue, and the search through it."""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import bindparam, column, func, insert, select, table, update

from securedelivery.model import Cents, ProductId
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import products
from securedelivery.store.statements import Parameters, Statement, gathered, listed, listed_rows, listing


class ProductRow(NamedTuple):
    id: ProductId
    sku: str
    name: str
    description: str
    price: Cents
    stock: int
    active: bool


class Offer(NamedTuple):
    """What an order needs to know of a product."""

    id: ProductId
    sku: str
    name: str
    price: Cents
    stock: int
    active: bool


_WORD = re.compile(r"[^\W_]+")  # as the index cuts texts into words

_columns = [products.c[name] for name in ProductRow._fields]
_words = table("products_words", column("rowid"), column("products_words"))

_BY_SKU = Statement(select(*_columns).where(products.c.sku == bindparam("sku")))
_BY_SKUS = Statement(select(*_columns).where(products.c.sku.in_(listed("skus"))))
_OFFERS = gathered(select(*(products.c[name] for name in Offer._fields)).where(products.c.sku.in_(listed("skus"))))
_offers_decoder = msgspec.json.Decoder(list[Offer], strict=False)  # SQLite has 0 and 1 for truth
_ALL = Statement(select(*_columns).order_by(products.c.id))
_ACTIVE = Statement(
    select(*_columns)
    .where(products.c.active == 1, products.c.id > bindparam("after"))
    .order_by(products.c.id)
    .limit(bindparam("count"))
)
# By number, which is the order of the index itself: it stops after `count` rows, however common the words are.
_FOUND = Statement(
    select(*_columns)
    .select_from(_words.join(products, products.c.id == _words.c.rowid))
    .where(
        _words.c.products_words.op("MATCH")(bindparam("expression")),
        _words.c.rowid > bindparam("after"),
        products.c.active == 1,
    )
    .order_by(_words.c.rowid)
    .limit(bindparam("count"))
)
_LAST = Statement(select(func.max(products.c.id)))
_INSERT = Statement(insert(products))
_UPDATE = Statement(
    update(products)
    .where(products.c.id == bindparam("product"))
    .values({name: bindparam(f"new_{name}") for name in ("name", "description", "price", "stock", "active")})
)
_taken = listed_rows("taken", "product", "quantity")
_TAKE = Statement(
    update(products).where(products.c.id == _taken.c.product).values(stock=products.c.stock - _taken.c.quantity)
)


def by_sku(tx: Transaction, sku: str) -> ProductRow | None:
    """Active or not."""
    found = tx.row(_BY_SKU, {"sku": sku})
    return None if found is None else ProductRow(*found)


def by_skus(tx: Transaction, skus: Iterable[str]) -> dict[str, ProductRow]:
    """Those of the products that exist, active or not."""
    return {row[1]: ProductRow(*row) for row in tx.rows(_BY_SKUS, {"skus": listing(skus)})}


def offers(tx: Transaction, skus: Iterable[str]) -> dict[str, Offer]:
    """Those of the products that exist, active or not."""
    return {offer.sku: offer for offer in tx.gathered(_OFFERS, _offers_decoder, {"skus": listing(skus)})}


def everything(tx: Transaction) -> Iterator[ProductRow]:
    """Active or not, in the catalogue's order. Use it up before the next statement."""
    return (ProductRow(*row) for row in tx.stream(_ALL))


def active(tx: Transaction, query: str | None, after: int, count: int) -> list[ProductRow]:
    """Up to `count` products numbered above `after`, in the catalogue's order.

    query: words; found is where each is the beginning of a word in sku, name or description, whatever the case and
    accents.
    """
    parameters: Parameters = {"after": after, "count": count}
    if query is None or not query.strip():
        return [ProductRow(*row) for row in tx.rows(_ACTIVE, parameters)]
    words = dict.fromkeys(_WORD.findall(query))
    if not words:
        return []
    parameters["expression"] = " AND ".join(f'"{word}"*' for word in words)
    try:
        found = tx.rows(_FOUND, parameters)
    except sqlite3.OperationalError as error:
        if "phrase queries" not in str(error):
            raise
        return []  # a letter that is younger than SQLite's tables: it cuts the word there, and has no such word
    return [ProductRow(*row) for row in found]


def next_id(tx: Transaction) -> int:
    """The first free number. It stays free: this transaction holds the write lock, and rows are never deleted."""
    found = tx.row(_LAST)
    assert found is not None
    return (found[0] or 0) + 1


def add(tx: Transaction, rows: Sequence[ProductRow]) -> None:
    tx.write(_INSERT, [row._asdict() for row in rows])


def change(tx: Transaction, rows: Sequence[ProductRow]) -> None:
    """Everything but number and sku."""
    tx.write(
        _UPDATE,
        [
            {
                "product": row.id,
                "new_name": row.name,
                "new_description": row.description,
                "new_price": row.price,
                "new_stock": row.stock,
                "new_active": row.active,
            }
            for row in rows
        ],
    )


def take(tx: Transaction, quantities: Iterable[tuple[ProductId, int]]) -> None:
    """Lower the stock. The database refuses to go below 0. quantities: one for each product."""
    tx.write(_TAKE, [{"taken": listing(quantities)}])
