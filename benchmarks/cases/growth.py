"""What a request costs when the shop has grown a thousandfold, and how long a search in 100,000 products takes."""

import json
import shutil
import sqlite3
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any

from benchmarks import order, seeding
from benchmarks.load.ours import Connection
from benchmarks.measure import (
    Bar,
    BenchmarkFailure,
    Figure,
    Goal,
    Plot,
    Result,
    Sample,
    Server,
    Table,
    World,
    ratios,
    sample,
    service,
)
from securedelivery.service import cursors

NAME = "growth"
TITLE = "What grows with the shop"
SMALL, LARGE, QUICK = 1_000, 1_000_000, 20_000
"""Orders, and as many messages. QUICK: instead of LARGE, which takes minutes to make."""

PRODUCTS, QUICK_PRODUCTS = 100_000, 20_000
QUICK_CLIENTS = 16  # connections, instead of one for each customer
PLACE = "order.place"
READS: dict[str, dict[str, Any]] = {
    "order.get": {},  # one of the caller's own, at random
    "order.list": {"limit": seeding.OF_A_CLIENT},  # all that a client has, in the small shop as in the large one
    "chat.history": {"limit": seeding.OF_A_CLIENT},
}
METHODS = (PLACE, *READS)
WARMING = 500  # requests before those that count, for what is imported, compiled or filled at first use

LIMIT = 200  # the largest page
FRUITLESS = ("a word that none has", "a word that all have and one that none has")

Shops = Mapping[int, Path]
"""By the number of orders: the folder."""

Searches = Mapping[str, Sequence[Sequence[float]]]
"""By kind, round by round: milliseconds of each."""


def run(world: World, rounds: int, quick: bool) -> Result:
    size = QUICK if quick else LARGE
    requests = 1_000 if quick else 4_000
    rounds = min(rounds, 2) if quick else rounds
    clients = QUICK_CLIENTS if quick else order.CUSTOMERS
    products = QUICK_PRODUCTS if quick else PRODUCTS
    shops = _shops(world, (SMALL, size), products)
    samples: dict[str, list[Sample]] = {_name(method, n): [] for method in METHODS for n in shops}
    with service(shops[size], world.certs) as large:
        with _of_a_copy(world, shops[SMALL]) as small:
            searches = _searches(world, large, _kinds(products), rounds, 20 if quick else 100)
            servers = {SMALL: small, size: large}
            calls = {
                (method, n): _calls(shop, method, requests, clients) for method in READS for n, shop in shops.items()
            }
            for method in READS:
                for n in shops:
                    _sampled(world, servers[n], clients, WARMING, calls[method, n])
                for _ in range(rounds):
                    for n in shops:
                        taken = _sampled(world, servers[n], clients, requests, calls[method, n])
                        samples[_name(method, n)].append(taken)
        _sampled(world, large, clients, WARMING)
        for _ in range(rounds):
            with _of_a_copy(world, shops[SMALL]) as small:  # it would not stay small
                _sampled(world, small, clients, WARMING)
                samples[_name(PLACE, SMALL)].append(_sampled(world, small, clients, requests))
            samples[_name(PLACE, size)].append(_sampled(world, large, clients, requests))
    return _result(size, products, samples, searches)


def _name(method: str, orders: int) -> str:
    return f"{method}, {orders:,} orders"


def _shops(world: World, sizes: Iterable[int], products: int) -> Shops:
    """Made out of the same catalogue."""
    stocked = world.folder / "growth"
    stocked.mkdir()
    seeding.stock(stocked / "shop.db", products)
    shops = {}
    for size in sizes:
        shops[size] = world.folder / f"growth-{size}"
        shutil.copytree(stocked, shops[size])
        seeding.populate(shops[size] / "shop.db", size)
    return shops


@contextmanager
def _of_a_copy(world: World, shop: Path) -> Iterator[Server]:
    copy = world.folder / "growth-copy"
    shutil.copytree(shop, copy)
    with service(copy, world.certs) as server:
        yield server
    shutil.rmtree(copy)


def _calls(shop: Path, method: str, requests: int, clients: int) -> Path:
    """A file for load.ours: the n-th is that of connection n, in turn."""
    random = Random(requests)
    own: dict[str, list[int]] = {}
    with closing(sqlite3.connect(f"file:{shop}/shop.db?mode=ro", uri=True)) as connection:
        for name, number in connection.execute(
            "SELECT username, orders.id FROM accounts JOIN orders ON account_id = accounts.id"
            " WHERE certificate IS NOT NULL"
        ):
            own.setdefault(name, []).append(number)
    path = shop / f"{method}.jsonl"
    with path.open("w", encoding="ascii") as file:
        for number in range(requests):
            params = READS[method] or {"order": random.choice(own[order.customer(number % clients)])}
            file.write(json.dumps({"method": method, "params": params}) + "\n")
    return path


def _sampled(world: World, server: Server, clients: int, requests: int, calls: Path | None = None) -> Sample:
    """calls: None for orders to be placed."""
    what = ("--what", "order") if calls is None else ("--calls", calls)
    with world.load("ours", server, *what, "--connections", clients, "--requests", requests) as load:
        return sample(server, load)


def _kinds(products: int) -> dict[str, dict[str, Any]]:
    """Parameters of searches, the worst that come to mind."""
    deep = cursors.encode("p", f"PART-{products * 9 // 10:06d}")
    kinds = {
        "all, first page": (None, None),
        "all, a deep page": (None, deep),
        "a word that all have": (seeding.EVERYWHERE, None),
        "a word that all have, a deep page": (seeding.EVERYWHERE, deep),
        "two words that all have": (f"every {seeding.EVERYWHERE}", None),
        "the beginning of that word": (seeding.EVERYWHERE[:4], None),
        "one letter": ("b", None),
        "one letter, a deep page": ("b", deep),
        "two letters apart": ("b z", None),
        "a SKU": (f"PART-{products // 2:06d}", None),
        FRUITLESS[0]: ("xylophone", None),
        FRUITLESS[1]: (f"{seeding.EVERYWHERE} xylophone", None),
    }
    return {kind: {"query": query, "after": after, "limit": LIMIT} for kind, (query, after) in kinds.items()}


def _searches(
    world: World, server: Server, kinds: Mapping[str, Mapping[str, Any]], rounds: int, times: int
) -> Searches:
    """One after the other over one connection, from the asking to the opened answer."""
    connection = Connection(server.port, world.certs, order.customer(0))
    taken: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, params in kinds.items():
            milliseconds = []
            for _ in range(times):
                began = time.perf_counter()
                page = connection.call("catalog.list", dict(params))
                milliseconds.append((time.perf_counter() - began) * 1e3)
            if bool(page["items"]) is (kind in FRUITLESS):
                raise BenchmarkFailure(f"catalog.list with {params} found {len(page['items'])} products")
            taken[kind].append(milliseconds)
    connection.socket.close()
    return taken


def _result(size: int, products: int, samples: Mapping[str, Sequence[Sample]], searches: Searches) -> Result:
    cpu = {name: [one.cpu_us for one in taken] for name, taken in samples.items()}
    grown = {method: ratios(cpu[_name(method, size)], cpu[_name(method, SMALL)]) for method in METHODS}
    typical = {kind: [statistics.median(times) for times in taken] for kind, taken in searches.items()}
    slowest = max(typical, key=lambda kind: statistics.median(typical[kind]))
    figures = [
        Figure(f"{method}, {size:,} / {SMALL:,}", "", grown[method], Goal("at most", 1.25), "server CPU, by orders")
        for method in METHODS
    ]
    figures += [
        Figure(name, "us", cpu[name], note="server CPU a request")
        for method in METHODS
        for name in [_name(method, size)]
    ]
    figures.append(
        Figure(
            f"catalog.list in {products:,} products", "ms", typical[slowest], Goal("at most", 5),
            f"latency of the slowest kind, {slowest}",
        )
    )  # fmt: skip
    rows = [
        [kind, f"{statistics.median(times):.2f}", f"{times[len(times) * 99 // 100]:.2f}", f"{times[-1]:.2f}"]
        for kind, taken in searches.items()
        for times in [sorted(one for times in taken for one in times)]
    ]
    return Result(
        figures,
        [_plot(size, cpu)],
        [*_NOTES, *([_QUICK_NOTE] if size == QUICK else [])],
        [Table(f"catalog.list, {products:,} products, pages of {LIMIT}: ms", ["what", "median", "p99", "worst"], rows)],
        samples,
    )


def _plot(size: int, cpu: Mapping[str, Sequence[float]]) -> Plot:
    bars = [Bar(_name(method, n), cpu[_name(method, n)], ours=n == size) for method in METHODS for n in (SMALL, size)]
    return Plot(
        "growth",
        "Server CPU of a request in a small shop and a large one",
        "us",
        bars,
        subtitle="as many messages as orders",
    )


_NOTES = [
    """The services themselves have made both shops (benchmarks/seeding.py): customers with some 20 orders and messages
each, a few with a thousand, in random turn over 300 days, a tenth of the orders delivered; the same products in
both. The customers that ask, one a connection, have as many orders and messages in both shops, and in the large one lie
far apart: their rows share no pages. Orders go into a new copy of the small shop in each round, for it would not stay
small.""",
    f"""A search is asked over one connection, one at a time, pages of {LIMIT}; its latency has the client's work in it.
Worse kinds can be thought out: with fourteen single letters that have to occur together it is 12 ms.""",
]
_QUICK_NOTE = f"""This was a quick run: the large shop has {QUICK:,} orders instead of {LARGE:,}, there are
{QUICK_PRODUCTS:,} products instead of {PRODUCTS:,}, and {QUICK_CLIENTS} connections instead of {order.CUSTOMERS}."""
