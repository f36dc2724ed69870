"""The auditor: what has to add up in the database, read past the product with nothing but sqlite3 and the schema.

The hash chain is computed here once more, from its description in store/audit.py.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

# Each finds what must not be; what is cancelled or returned is back on the shelf.
_FAULTS = {
    "an order without lines": "SELECT id FROM orders WHERE id NOT IN (SELECT order_id FROM order_lines)",
    "lines that do not sum up to the order": """
        SELECT o.id FROM orders o JOIN order_lines l ON l.order_id = o.id
        GROUP BY o.id HAVING o.subtotal <> sum(l.total) OR o.total <> o.subtotal - o.discount""",
    "one key, two orders": """
        SELECT account_id, idempotency_key FROM orders GROUP BY account_id, idempotency_key HAVING count(*) > 1""",
    "a balance that is not the ledger's sum": """
        SELECT a.id, a.points, a.ledger_entries, coalesce(sum(l.points), 0), count(l.entry)
        FROM accounts a LEFT JOIN points_ledger l ON l.account_id = a.id
        GROUP BY a.id HAVING a.points <> coalesce(sum(l.points), 0) OR a.ledger_entries <> count(l.entry)""",
    "lots that are not the balance": """
        SELECT a.id, a.points, coalesce(sum(l.remaining), 0)
        FROM accounts a LEFT JOIN points_ledger l ON l.account_id = a.id
        GROUP BY a.id HAVING max(a.points, 0) <> coalesce(sum(l.remaining), 0)""",
    "an order count that is not the orders'": """
        SELECT a.id, a.order_count, count(o.id)
        FROM accounts a LEFT JOIN orders o ON o.account_id = a.id AND o.status NOT IN ('cancelled', 'returned')
        GROUP BY a.id HAVING a.order_count <> count(o.id)""",
    "points of an order that are not the ledger's": """
        SELECT o.id, o.status, o.points_earned, o.points_redeemed, l.earned, l.redeemed FROM orders o LEFT JOIN (
            SELECT order_id, sum(points * (reason IN ('earned', 'reversed'))) AS earned,
                sum(-points * (reason IN ('redeemed', 'returned'))) AS redeemed
            FROM points_ledger GROUP BY order_id) l ON l.order_id = o.id
        WHERE coalesce(l.earned, 0) <> o.points_earned * (o.status NOT IN ('cancelled', 'returned'))
            OR coalesce(l.redeemed, 0) <> o.points_redeemed * (o.status NOT IN ('cancelled', 'returned'))""",
    "an order that its history does not tell": """
        SELECT o.id, o.version, o.status, h.changes, h.entries, h.status FROM orders o LEFT JOIN (
            SELECT order_id, count(*) AS changes, max(entry) AS entries, status FROM order_history GROUP BY order_id
        ) h ON h.order_id = o.id
        WHERE o.version <> 1 + coalesce(h.changes, 0) OR h.entries <> h.changes
            OR o.status <> coalesce(h.status, 'placed')""",
    "a conversation with a gap": """
        SELECT c.id, c.last_sequence, count(m.sequence), max(m.sequence)
        FROM conversations c LEFT JOIN messages m ON m.conversation_id = c.id
        GROUP BY c.id HAVING c.last_sequence <> count(m.sequence) OR c.last_sequence <> coalesce(max(m.sequence), 0)""",
    "more unread than was said": """
        SELECT c.id, c.customer_unread, c.staff_unread, sum(m.staff), sum(1 - m.staff)
        FROM conversations c JOIN messages m ON m.conversation_id = c.id
        GROUP BY c.id HAVING c.customer_unread > sum(m.staff) OR c.staff_unread > sum(1 - m.staff)""",
    "an audit that goes on behind its head": """
        SELECT h.entry, a.id FROM audit a LEFT JOIN audit_head h ON h.entry = a.id AND h.hash = a.hash
        WHERE a.id = (SELECT max(id) FROM audit) AND h.entry IS NULL""",
}


class Books:
    """Of a database that a server may be working on: each question is answered as of one moment."""

    def __init__(self, database: Path) -> None:
        self._database = database

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._database, timeout=30, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            yield connection

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self._reading() as connection:
            return connection.execute(sql, parameters).fetchall()

    def count(self, table: str) -> int:
        return self.rows(f"SELECT count(*) FROM {table}")[0][0]  # noqa: S608 -- a test's own word

    def orders(self) -> dict[tuple[str, str], int]:
        """The order's number by (account, key)."""
        rows = self.rows("SELECT username, idempotency_key, o.id FROM orders o JOIN accounts a ON a.id = o.account_id")
        numbers = {(username, key): number for username, key, number in rows}
        assert len(numbers) == len(rows)
        return numbers

    def faults(self, initial_stock: dict[str, int]) -> list[str]:
        """Everything that does not add up. initial_stock: by sku, before the first order."""
        with self._reading() as connection:
            found = [f"{what}: {row}" for what, sql in _FAULTS.items() for row in connection.execute(sql).fetchmany(5)]
            ordered = dict(
                connection.execute(
                    "SELECT p.sku, sum(l.quantity) FROM order_lines l JOIN products p ON p.id = l.product_id"
                    " JOIN orders o ON o.id = l.order_id WHERE o.status NOT IN ('cancelled', 'returned') GROUP BY p.sku"
                )
            )
            for sku, stock in connection.execute("SELECT sku, stock FROM products"):
                if sku in initial_stock and stock + ordered.get(sku, 0) != initial_stock[sku]:
                    found.append(f"{sku}: stock {stock} + ordered {ordered.get(sku, 0)} is not {initial_stock[sku]}")
            found += _broken_chain(connection)
        return found

    def damage(self) -> list[tuple[Any, ...]]:
        """What SQLite itself finds wrong with the file."""
        with self._reading() as connection:
            integrity = [row for row in connection.execute("PRAGMA integrity_check") if row != ("ok",)]
            return integrity + connection.execute("PRAGMA foreign_key_check").fetchall()


def _broken_chain(connection: sqlite3.Connection) -> list[str]:
    previous = bytes(32)
    expected = 1
    for number, at, actor, action, subject, detail, stored in connection.execute(
        "SELECT id, at, actor_id, action, subject, detail, hash FROM audit ORDER BY id"
    ):
        row = json.dumps([number, at, actor, action, subject, detail], separators=(",", ":"), ensure_ascii=False)
        previous = hashlib.sha256(previous + row.encode()).digest()
        if number != expected or stored != previous:
            return [f"audit: the chain breaks at {number}"]
        expected += 1
    return []
