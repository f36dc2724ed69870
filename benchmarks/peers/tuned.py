"""Placing an order with less of what it costs as the documentation has it (benchmarks/peers/documented.py).

The statements are built once, when this is imported; the customer and the order that a key has placed are read with
one of them; the stock of all lines is lowered by one executemany; one connection serves everybody, and as many threads
wait for it as have a use for that (benchmarks/peers/asgi.py has the figures).
"""

from typing import Any

from sqlalchemy import Engine, and_, bindparam, insert, select, update

from benchmarks.peers import shop
from benchmarks.peers.shop import accounts, audit, order_lines, orders, points_ledger, products

POOL = {"pool_size": 1, "max_overflow": 0}
"""SQLite lets one transaction write at a time, and further connections would ask again and again for its lock where a
thread that waits for the pool just sleeps."""

THREADS = 2
"""One has the database while the other hands over its answer."""

_CUSTOMER = (
    select(
        accounts.c.id,
        accounts.c.order_count,
        accounts.c.points,
        accounts.c.ledger_entries,
        orders.c.id.label("order_id"),
    )
    .select_from(
        accounts.outerjoin(
            orders, and_(orders.c.account_id == accounts.c.id, orders.c.idempotency_key == bindparam("key"))
        )
    )
    .where(accounts.c.username == bindparam("name"))
)
_PRODUCTS = select(products.c.id, products.c.sku, products.c.name, products.c.price, products.c.stock).where(
    products.c.sku.in_(bindparam("skus", expanding=True))
)
_TAKE = (
    update(products)
    .where(products.c.id == bindparam("product"), products.c.stock >= bindparam("taken"))
    .values(stock=products.c.stock - bindparam("taken"))
)
_ADD_ORDER = insert(orders)
_ADD_LINES = insert(order_lines)
_ADD_POINTS = insert(points_ledger)
_CREDIT = (
    update(accounts)
    .where(accounts.c.id == bindparam("account"))
    .values(
        order_count=accounts.c.order_count + 1,
        points=accounts.c.points + bindparam("earned"),
        ledger_entries=accounts.c.ledger_entries + 1,
    )
)
_ADD_AUDIT = insert(audit)
_ORDER = select(orders).where(orders.c.id == bindparam("number"))
_LINES = select(order_lines).where(order_lines.c.order_id == bindparam("number")).order_by(order_lines.c.position)


def place(engine: Engine, username: str, wanted: shop.Wanted) -> dict[str, Any]:
    """As documented.place()."""
    with engine.begin() as connection:
        customer = connection.execute(_CUSTOMER, {"name": username, "key": wanted.key}).one_or_none()
        if customer is None:
            raise shop.Refused(403, "forbidden", f"there is no account {username}")
        if customer.order_id is not None:
            placed = connection.execute(_ORDER, {"number": customer.order_id}).mappings().one()
            lines = connection.execute(_LINES, {"number": customer.order_id}).mappings().all()
            return shop.replayed(username, placed, lines, wanted)

        found = connection.execute(_PRODUCTS, {"skus": [sku for sku, _ in wanted.lines]})
        draft = shop.drafted(customer, found, wanted)
        key = connection.execute(_ADD_ORDER, draft.order).inserted_primary_key
        assert key is not None
        number = key[0]
        connection.execute(_ADD_LINES, draft.line_rows(number))
        takes = [{"product": product, "taken": quantity} for product, quantity in draft.taken]
        if connection.execute(_TAKE, takes).rowcount != len(takes):
            raise shop.Refused(409, "out_of_stock", "somebody else was quicker")
        connection.execute(_ADD_POINTS, draft.points_row(number, customer.ledger_entries + 1))
        connection.execute(_CREDIT, {"account": customer.id, "earned": draft.order["points_earned"]})
        connection.execute(_ADD_AUDIT, draft.audit_row(number))
    return shop.shown(number, username, draft.order, draft.lines)
