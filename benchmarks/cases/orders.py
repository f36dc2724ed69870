"""order.place, durable: what an order costs beside the peers, and how near it comes to what disk and machine allow."""

import sqlite3
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.cases.ping import ECHO, FASTAPI, GRPC, LITESTAR, OURS
from benchmarks.measure import (
    Bar,
    Figure,
    Goal,
    Load,
    Plot,
    Result,
    Sample,
    Server,
    Table,
    World,
    ratios,
    sample,
)

NAME = "orders"
TITLE = "An order on the disk: order.place"
CONNECTIONS = 64
BATCHES = (1, 8, 32, 128)

TUNED = f"{FASTAPI}, tuned"
SHOPS = {
    FASTAPI: ("http", "fastapi_shop"),
    TUNED: ("http", "fastapi_shop", "--tuned"),
    LITESTAR: ("http", "litestar_shop"),
    GRPC: ("grpc", "grpc_shop"),
}
"""Of each peer: its load generator, its module, the arguments of that."""

ALONE = f"{OURS}, 1 connection"
ALONE_ECHO = f"{ECHO}, 1 connection"
ALONE_FASTAPI = f"{FASTAPI}, 1 connection"
RAW = {batch: f"raw sqlite3, {batch} a transaction" for batch in BATCHES}
UNSYNCED = "raw sqlite3, 1 a transaction, synchronous=OFF"
DISK = "fdatasync"


@dataclass(frozen=True)
class _Counts:
    """Orders (or echoes) of a sample, so that it takes about as long for each."""

    ours: int
    peer: int
    raw: dict[int, int]
    alone: int


FULL = _Counts(12_000, 1_280, {1: 1_000, 8: 3_000, 32: 6_000, 128: 6_000}, 1_000)
QUICK = _Counts(3_000, 192, {1: 200, 8: 800, 32: 1_600, 128: 1_600}, 200)
WARMING = 2 * CONNECTIONS
WARMING_DATABASE = 640  # enough for the log to begin anew
LOGGED = 40  # orders after which the log's growth is looked at: fewer than would make it begin anew


def run(world: World, rounds: int, quick: bool) -> Result:
    counts = QUICK if quick else FULL
    with ExitStack() as stack:
        ours = stack.enter_context(world.service())
        peers = {name: stack.enter_context(world.peer(*shop)) for name, (_, *shop) in SHOPS.items()}
        raw = stack.enter_context(_RawDatabase(world.folder / "raw.db"))
        bench = _Bench(world, ours, peers, raw)
        learned = bench.ours(WARMING_DATABASE, CONNECTIONS)
        bench.request, bench.answer = (round(learned.more[f"{name}_bytes"]) for name in ("request", "answer"))
        bench.echo = stack.enter_context(world.peer("echo", "--answer", bench.answer))
        bench.warm()
        samples: dict[str, list[Sample]] = {}
        for _ in range(rounds):
            for name, taken in bench.once(counts).items():
                samples.setdefault(name, []).append(taken)
    floor = _floor(samples)
    return Result(_figures(samples), _plots(samples), _notes(bench), [floor], samples)


class _RawDatabase:
    """The database of peers/raw_sqlite.py, the same for all samples, as the servers have theirs. A context manager.

    A connection of this process holds it open, without a transaction: else the write-ahead log would go with each
    process that ends, and most of what is measured would be how a file grows (fdatasync of one takes 10 times as long).
    log_bytes: what a transaction of one order puts into the log.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.log_bytes = 0

    def __enter__(self) -> Self:
        self.place(1, 1)  # which makes it
        self._holding = sqlite3.connect(self.file)
        self._holding.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        log = self.file.with_name(f"{self.file.name}-wal")
        before = log.stat().st_size
        self.place(1, LOGGED)
        self.log_bytes = (log.stat().st_size - before) // LOGGED
        self.place(32, WARMING_DATABASE)
        return self

    def __exit__(self, *_: object) -> None:
        self._holding.close()

    def place(self, batch: int, orders: int, synchronous: str = "FULL") -> Sample:
        """No server, so its own CPU time is what counts. p50: of a transaction."""
        options = ("--orders", orders, "--batch", batch, "--synchronous", synchronous)
        with Load("benchmarks.peers.raw_sqlite", "--database", self.file, *options) as raw:
            return sample(None, raw)


class _Bench:
    """The contenders. request, answer: bytes of ours, which the echo gets and sends too, once they are known."""

    def __init__(self, world: World, ours: Server, peers: dict[str, Server], raw: _RawDatabase) -> None:
        self._world = world
        self._ours = ours
        self._peers = peers
        self.raw = raw
        self.echo: Server
        self.request = self.answer = 0

    def warm(self) -> None:
        """What is imported, compiled or filled at first use is no cost of an order."""
        self._echo(WARMING, CONNECTIONS)
        for name in self._peers:
            self._peer(name, WARMING, CONNECTIONS)

    def once(self, counts: _Counts) -> dict[str, Sample]:
        """A round: every contender once."""
        taken = {OURS: self.ours(counts.ours, CONNECTIONS), ECHO: self._echo(counts.ours, CONNECTIONS)}
        for name in self._peers:
            taken[name] = self._peer(name, counts.peer, CONNECTIONS)
        for batch, name in RAW.items():
            taken[name] = self.raw.place(batch, counts.raw[batch])
        taken[ALONE] = self.ours(counts.alone, 1)
        taken[ALONE_ECHO] = self._echo(counts.alone, 1)
        taken[UNSYNCED] = self.raw.place(1, counts.alone, synchronous="OFF")
        taken[DISK] = self._disk(counts.alone)
        taken[ALONE_FASTAPI] = self._peer(FASTAPI, max(counts.alone // 4, 10), 1)
        return taken

    def ours(self, orders: int, connections: int) -> Sample:
        return self._load("ours", self._ours, connections, "--what", "order", "--requests", orders)

    def _echo(self, requests: int, connections: int) -> Sample:
        sizes = ("--bytes", self.request, "--answer", self.answer)
        return self._load("echo", self.echo, connections, "--requests", requests, *sizes)

    def _peer(self, name: str, orders: int, connections: int) -> Sample:
        return self._load(SHOPS[name][0], self._peers[name], connections, "--what", "order", "--requests", orders)

    def _load(self, module: str, server: Server, connections: int, *arguments: object) -> Sample:
        with self._world.load(module, server, "--connections", connections, *arguments) as load:
            return sample(server, load)

    def _disk(self, requests: int) -> Sample:
        arguments = ("--file", self._world.folder / "disk", "--bytes", self.raw.log_bytes, "--requests", requests)
        with Load("benchmarks.load.disk", *arguments) as load:
            return sample(None, load)


def _figures(samples: dict[str, list[Sample]]) -> list[Figure]:
    rate = {name: [one.rate for one in taken] for name, taken in samples.items()}
    cpu = {name: [one.cpu_us for one in taken] for name, taken in samples.items()}
    p50 = {name: [one.p50_us for one in taken] for name, taken in samples.items()}
    floor = [a + b for a, b in zip(cpu[ECHO], cpu[RAW[32]], strict=True)]
    durable = [a + b for a, b in zip(p50[ALONE_ECHO], p50[RAW[1]], strict=True)]
    fastest = [sum(parts) for parts in zip(p50[DISK], p50[ALONE_ECHO], p50[UNSYNCED], strict=True)]
    return [
        Figure("order.place, 64 connections", "/s", rate[OURS], note="orders on the disk, one outstanding on each"),
        Figure("order.place / FastAPI", "", ratios(rate[OURS], rate[FASTAPI]), Goal("at least", 25), "orders a second"),
        Figure("order.place / FastAPI, tuned", "", ratios(rate[OURS], rate[TUNED]), note="orders a second"),
        Figure("order.place / Litestar", "", ratios(rate[OURS], rate[LITESTAR]), note="orders a second"),
        Figure("order.place / gRPC", "", ratios(rate[OURS], rate[GRPC]), note="orders a second"),
        Figure("order.place, server CPU", "us", cpu[OURS], note="an order, 64 connections"),
        Figure("echo + raw sqlite3 at 32 a transaction", "us", floor, note="server CPU an order"),
        Figure(
            "order.place / (echo + raw sqlite3)",
            "",
            ratios(cpu[OURS], floor),
            Goal("at most", 2),
            "server CPU an order, 32 a transaction",
        ),
        Figure("order.place, 1 connection", "us", p50[ALONE], note="median latency, one at a time"),
        Figure("fdatasync + echo + raw transaction", "us", fastest, note="median latencies, added"),
        Figure(
            "order.place / (fdatasync + echo + raw)",
            "",
            ratios(p50[ALONE], fastest),
            Goal("at most", 1.3),
            "latency, 1 connection, one at a time",
        ),
        Figure(
            "order.place / (echo + durable raw transaction)",
            "",
            ratios(p50[ALONE], durable),
            note="the same with synchronous=FULL: what one thread with raw sqlite3 does reach",
        ),
    ]


def _plots(samples: dict[str, list[Sample]]) -> list[Plot]:
    rate = {name: [one.rate for one in taken] for name, taken in samples.items()}
    cpu = {name: [one.cpu_us for one in taken] for name, taken in samples.items()}

    def behind(values: dict[str, list[float]], name: str) -> str:
        if name == OURS:
            return ""
        times = Figure("", "", ratios(values[name], values[OURS])).median
        return f"{times:.2g} x ours" if times >= 0.1 else f"ours is {1 / times:.0f} x"

    def bars(values: dict[str, list[float]], names: tuple[str, ...]) -> list[Bar]:
        return [Bar(name, values[name], ours=name == OURS, note=behind(values, name)) for name in names]

    served = (OURS, GRPC, TUNED, LITESTAR, FASTAPI)
    return [
        Plot(
            "orders-rate",
            "Orders a second, each on the disk before it is answered",
            "orders/s",
            bars(rate, served),
            subtitle=f"{CONNECTIONS} connections, mutual TLS 1.3, SQLite with WAL and synchronous=FULL",
        ),
        Plot(
            "orders-cpu",
            "CPU of an order",
            "us",
            bars(cpu, (*served, *RAW.values(), ECHO)),
            subtitle=f"of the server, {CONNECTIONS} connections; raw sqlite3: one thread, no network",
        ),
    ]


def _floor(samples: dict[str, list[Sample]]) -> Table:
    """Where the latency of one order goes that nobody can go below."""

    def row(label: str, name: str) -> tuple[str, str, str]:
        figure = Figure(label, "us", [one.p50_us for one in samples[name]])
        return label, f"{figure.median:,.0f}", f"{min(figure.values):,.0f} to {max(figure.values):,.0f}"

    return Table(
        "One connection, one order at a time: median latency, us",
        ("what", "median", "range of the rounds"),
        (
            row("order.place", ALONE),
            row("fdatasync", DISK),
            row("echo round trip", ALONE_ECHO),
            row("raw transaction, synchronous=OFF", UNSYNCED),
            row("for comparison: raw transaction, synchronous=FULL", RAW[1]),
            row("for comparison: FastAPI + SQLAlchemy", ALONE_FASTAPI),
        ),
    )


def _notes(bench: _Bench) -> list[str]:
    return [
        f"""{CONNECTIONS} accounts with a certificate each, one connection and one outstanding order each. Ours answers
an order and then notifies its account twice (order.changed, rewards.changed): that is in its CPU time. The echo gets
{bench.request} bytes and sends {bench.answer}, as many as ours for an order, in one piece.""",
        """FastAPI, Litestar and gRPC are written as their documentation shows it: FastAPI with a plain def endpoint (in
Starlette's pool of 40 threads), Litestar with sync_to_thread=True, gRPC with a ThreadPoolExecutor of 10; SQLAlchemy 2
Core with its default pool, a connection for each request, and each statement written where it is executed. Beyond the
documentation they have what makes them correct with so many connections: WAL, synchronous=FULL, BEGIN IMMEDIATE and a
busy timeout. FastAPI and Litestar run with uvloop and httptools. The goal is measured against this FastAPI.""",
        """"FastAPI, tuned" places the same order by the same rules, with what its documentation does not tell: the
statements are built once, when the program starts; the customer and the used key are read with one statement, and the
stock of all lines is lowered with one; two threads of run_in_executor instead of a def endpoint in a pool of 40; and
one connection for all, so that threads sleep while they wait for SQLite's one writer instead of asking for its lock
again and again.""",
        """raw sqlite3 goes on with one database, as the servers do with theirs, and places about as many orders a round
as ours: its indexes are as large. With a new database for each sample it would be a third cheaper, for a while.""",
        f"""Latency: the raw transaction runs with synchronous=OFF, so it writes all that it writes and waits for
nothing. fdatasync is measured by itself, after a write of {bench.raw.log_bytes} bytes (what a raw transaction puts
into the write-ahead log) into a file that is there already, as that log is most of the time. So no wait for the disk is
counted twice or left out. The sum is less than anybody reaches, for a thread that has slept in fdatasync goes on with
cold caches, and one that never sleeps does not; so the raw transaction with synchronous=FULL stands beside it.""",
    ]
