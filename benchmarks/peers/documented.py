"""Placing an order as SQLAlchemy's tutorial has it: each statement is written where it is executed.

`with engine.begin() as connection`, the engine with its own pool (5 connections and 10 more when those are taken), no
statement kept: SQLAlchemy finds by its cache what it has compiled before.
"""

from typing import Any

from sqlalchemy import Engine, insert, select, update

from benchmarks.peers import shop
from benchmarks.peers.shop import accounts, audit, order_lines, orders, points_ledger, products


def place(engine: Engine, username: str, wanted: shop.Wanted) -> dict[str, Any]:
    """The whole order, as JSON would have it: a new one, or the one that this key has placed before.

    It waits for the disk: call it where that holds nobody up. Raises Refused.
    """
    with engine.begin() as connection:
        customer = connection.execute(select(accounts).where(accounts.c.username == username)).one_or_none()
        if customer is None:
            raise shop.Refused(403, "forbidden", f"there is no account {username}")
        placed = (
            connection.execute(
                select(orders).where(orders.c.account_id == customer.id, orders.c.idempotency_key == wanted.key)
            )
            .mappings()
            .one_or_none()
        )
        if placed is not None:
            lines = connection.execute(
                select(order_lines).where(order_lines.c.order_id == placed["id"]).order_by(order_lines.c.position)
            )
            return shop.replayed(username, placed, lines.mappings().all(), wanted)

        skus = [sku for sku, _ in wanted.lines]
        draft = shop.drafted(customer, connection.execute(select(products).where(products.c.sku.in_(skus))), wanted)
        key = connection.execute(insert(orders), draft.order).inserted_primary_key
        assert key is not None
        number = key[0]
        connection.execute(insert(order_lines), draft.line_rows(number))
        for product, quantity in draft.taken:
            changed = connection.execute(
                update(products)
                .where(products.c.id == product, products.c.stock >= quantity)
                .values(stock=products.c.stock - quantity)
            )
            if changed.rowcount != 1:
                raise shop.Refused(409, "out_of_stock", "somebody else was quicker")
        connection.execute(insert(points_ledger), draft.points_row(number, customer.ledger_entries + 1))
        connection.execute(
            update(accounts)
            .where(accounts.c.id == customer.id)
            .values(
                order_count=accounts.c.order_count + 1,
                points=accounts.c.points + draft.order["points_earned"],
                ledger_entries=accounts.c.ledger_entries + 1,
            )
        )
        connection.execute(insert(audit), draft.audit_row(number))
    return shop.shown(number, username, draft.order, draft.lines)
