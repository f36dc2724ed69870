"""Sums for the operator's report."""

from typing import NamedTuple

from sqlalchemy import bindparam, func, literal_column, select

from securedelivery.model import Cents, LowStock, OrderStatus, SoldProduct
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import accounts, order_lines, orders, products
from securedelivery.store.statements import Parameters, Statement, listed, listing


class Sum(NamedTuple):
    """Of the orders of a day (`2026-11-30`) that have a status."""

    day: str
    status: OrderStatus
    orders: int
    turnover: Cents


VOID = (OrderStatus.CANCELLED, OrderStatus.RETURNED)
"""Orders that were not sold in the end."""

_placed = orders.c.placed_at.between(bindparam("since"), bindparam("until"))
_day = func.substr(orders.c.placed_at, literal_column("1"), literal_column("10"))
_SUMS = Statement(
    select(_day, orders.c.status, func.count(), func.sum(orders.c.total)).where(_placed).group_by(_day, orders.c.status)
)
_quantity = func.sum(order_lines.c.quantity)
_BEST = Statement(
    select(products.c.sku, products.c.name, _quantity, func.sum(order_lines.c.total))
    .select_from(
        orders.join(order_lines, order_lines.c.order_id == orders.c.id).join(
            products, products.c.id == order_lines.c.product_id
        )
    )
    .where(_placed, orders.c.status.not_in(listed("void")))
    .group_by(products.c.id)
    .order_by(_quantity.desc(), products.c.id)
    .limit(bindparam("count"))
)
_LOW = Statement(
    select(products.c.sku, products.c.name, products.c.stock)
    .where(products.c.active == literal_column("1"), products.c.stock <= bindparam("most"))
    .order_by(products.c.stock, products.c.id)
    .limit(bindparam("count"))
)
_COUNTS = Statement(
    select(accounts.c.order_count, func.count())
    .where(accounts.c.role == literal_column("'customer'"), accounts.c.disabled == literal_column("0"))
    .group_by(accounts.c.order_count)
)


def _range(since: str, until: str) -> Parameters:
    # Text order is time order; nothing of a day comes behind its T24.
    return {"since": since, "until": f"{until}T24"}


def sums(tx: Transaction, since: str, until: str) -> list[Sum]:
    """By day of placement and status; both days inclusive, in UTC."""
    return [Sum(day, OrderStatus(status), *rest) for day, status, *rest in tx.rows(_SUMS, _range(since, until))]


def best_sellers(tx: Transaction, since: str, until: str, count: int) -> list[SoldProduct]:
    """By quantity, most first, in orders that were not cancelled or returned; the products as they are called now."""
    parameters = _range(since, until) | {"void": listing(VOID), "count": count}
    return [SoldProduct(*row) for row in tx.rows(_BEST, parameters)]


def low_stock(tx: Transaction, most: int, count: int) -> list[LowStock]:
    """Active products of which there are at most so many, fewest first."""
    return [LowStock(*row) for row in tx.rows(_LOW, {"most": most, "count": count})]


def order_counts(tx: Transaction) -> list[tuple[int, int]]:
    """(orders, how many customers have so many), of accounts that can be used."""
    return [(orders_, customers) for orders_, customers in tx.rows(_COUNTS)]
