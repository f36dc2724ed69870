"""The floor of a durable order: the rows alone, by raw sqlite3 in one thread, so many orders a transaction.

    python -m benchmarks.peers.raw_sqlite --database FILE [--batch 1|8|32|128] [--orders 1000] [--synchronous FULL|OFF]

The rows are those of benchmarks/peers/shop.py, in its tables and under its pragmas. A transaction reads what an order
needs to know (the customers, whether a key was used, the products, the first free number) with one statement each, and
writes with one executemany a table; the driver keeps the statements prepared. Nobody is answered, nothing is parsed,
encrypted or chained. --synchronous OFF leaves the disk out: the processor's part of a transaction's latency.

The dialogue is that of a load generator (benchmarks/load/loop.py). requests: orders; p50_us, p99_us: of a transaction.
"""

import argparse
import json
import secrets
import sqlite3
import time
import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import order
from benchmarks.load.loop import Timing, converse
from benchmarks.peers import shop

WARM_UP = 2  # transactions

CUSTOMERS = """SELECT id, username, order_count, points, ledger_entries FROM accounts
    WHERE username IN (SELECT value FROM json_each(?))"""
USED = """SELECT o.account_id, o.idempotency_key, o.id FROM orders o
    JOIN json_each(?) k ON o.account_id = json_extract(k.value, '$[0]')
    AND o.idempotency_key = json_extract(k.value, '$[1]')"""
GOODS = "SELECT id, sku, name, price, stock FROM products WHERE sku IN (SELECT value FROM json_each(?))"
LAST = "SELECT max(id) FROM orders"
ADD_ORDERS = """INSERT INTO orders (id, account_id, idempotency_key, version, status, total, currency, address,
    points_earned, delivery_code, placed_at, changed_at) VALUES (?, ?, ?, 1, 'placed', ?, ?, ?, ?, ?, ?, ?)"""
ADD_LINES = """INSERT INTO order_lines (order_id, position, product_id, sku, name, quantity, unit_price, total)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
TAKE = "UPDATE products SET stock = stock - ?1 WHERE id = ?2 AND stock >= ?1"
ADD_POINTS = """INSERT INTO points_ledger (account_id, entry, order_id, reason, points, at, expires_at)
    VALUES (?, ?, ?, 'earned', ?, ?, ?)"""
CREDIT = "UPDATE accounts SET order_count = ?, points = ?, ledger_entries = ? WHERE id = ?"
ADD_AUDIT = "INSERT INTO audit (at, actor_id, action, subject) VALUES (?, ?, 'order.placed', ?)"


def place(connection: sqlite3.Connection, seed: str, first: int, count: int) -> None:
    """Orders number `first` to `first + count - 1`, in one transaction."""
    numbers = range(first, first + count)
    wanted = {number: order.lines(number) for number in numbers}
    connection.execute("BEGIN IMMEDIATE")
    names = json.dumps(list({order.customer(number) for number in numbers}))
    customers = {row[1]: list(row) for row in connection.execute(CUSTOMERS, (names,))}
    keys = json.dumps([(customers[order.customer(number)][0], f"{seed}-{number}") for number in numbers])
    assert not connection.execute(USED, (keys,)).fetchall(), "a key was used before"
    skus = json.dumps(list({product.sku for pair in wanted.values() for product, _ in pair}))
    found = {row[1]: row for row in connection.execute(GOODS, (skus,))}
    at = datetime.now(UTC)
    now, expiry = shop.timestamp(at), shop.timestamp(at + shop.EXPIRY)
    row_id = connection.execute(LAST).fetchone()[0] or 0

    orders: list[tuple[Any, ...]] = []
    lines: list[tuple[Any, ...]] = []
    points: list[tuple[Any, ...]] = []
    audit: list[tuple[Any, ...]] = []
    taken: Counter[int] = Counter()
    for number in numbers:
        row_id += 1
        customer = customers[order.customer(number)]
        total = 0
        for position, (product, quantity) in enumerate(wanted[number], start=1):
            product_id, sku, name, price, stock = found[product.sku]
            taken[product_id] += quantity
            assert taken[product_id] <= stock, "out of stock"
            total += price * quantity
            lines.append((row_id, position, product_id, sku, name, quantity, price, price * quantity))
        earned = shop.earned(total, customer[2])
        customer[2] += 1
        customer[3] += earned
        customer[4] += 1
        code = f"{secrets.randbelow(1_000_000):06}"
        key = f"{seed}-{number}"
        orders.append((row_id, customer[0], key, total, order.CURRENCY, order.ADDRESS, earned, code, now, now))
        points.append((customer[0], customer[4], row_id, earned, now, expiry))
        audit.append((now, customer[0], f"order:{row_id}"))

    connection.executemany(ADD_ORDERS, orders)
    connection.executemany(ADD_LINES, lines)
    updated = connection.executemany(TAKE, [(quantity, product) for product, quantity in taken.items()])
    assert updated.rowcount == len(taken), "out of stock"
    connection.executemany(ADD_POINTS, points)
    connection.executemany(CREDIT, [(row[2], row[3], row[4], row[0]) for row in customers.values()])
    connection.executemany(ADD_AUDIT, audit)
    connection.execute("COMMIT")


def work(connection: sqlite3.Connection, orders: int, batch: int) -> dict[str, Any]:
    seed = uuid.uuid4().hex
    for number in range(WARM_UP):
        place(connection, f"{seed}-warm", number * batch, batch)
    latencies = []
    began, cpu = time.perf_counter(), time.process_time()
    for first in range(0, orders, batch):
        before = time.perf_counter()
        place(connection, seed, first, min(batch, orders - first))
        latencies.append((time.perf_counter() - before) * 1e6)
    timing = Timing(time.perf_counter() - began, time.process_time() - cpu, latencies)
    written = connection.execute(
        "SELECT count(*) FROM orders WHERE substr(idempotency_key, 1, ?) = ?", (len(seed) + 1, f"{seed}-")
    ).fetchone()[0]
    missing = orders + WARM_UP * batch - written
    return {"requests": orders, **timing.as_json(), "errors": missing, "checked": orders, "batch": batch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", type=Path, required=True, help="made, with customers and goods, if it is missing")
    parser.add_argument("--batch", type=int, default=1, help="orders a transaction")
    parser.add_argument("--orders", type=int, default=1_000)
    parser.add_argument("--synchronous", choices=["FULL", "OFF"], default="FULL")
    options = parser.parse_args()
    shop.open_shop(options.database).dispose()
    connection = sqlite3.connect(options.database, isolation_level=None)
    for pragma in shop.PRAGMAS:
        connection.execute(pragma)
    connection.execute(f"PRAGMA synchronous={options.synchronous}")
    converse(lambda: work(connection, options.orders, options.batch))


if __name__ == "__main__":
    main()
