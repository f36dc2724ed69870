"""The server at rest: just started over a new database with the sample catalog, after its first few requests."""

import tempfile
import uuid
from pathlib import Path

from benchmarks.load.ours import Connection
from benchmarks.measure import ROOT, Bar, Figure, Goal, Plot, Result, World, service

NAME = "memory"
TITLE = "Memory of a server at rest"
CATALOG = ROOT / "securedelivery/data/catalog.csv"
SKU = "GPU-NV-4060"
MIB = 1024 * 1024
PEERS = {
    "FastAPI + SQLAlchemy": "fastapi_shop",
    "Litestar + SQLAlchemy": "litestar_shop",
    "gRPC + SQLAlchemy": "grpc_shop",
}


def run(world: World, rounds: int, quick: bool) -> Result:
    new, again = [], []
    for _ in range(rounds):
        folder = Path(tempfile.mkdtemp(prefix="rest.", dir=world.folder))
        new.append(_at_rest(world, folder, "create"))
        again.append(_at_rest(world, folder, "login_certificate"))
    peers = {} if quick else {label: [_peer(world, name)] for label, name in PEERS.items()}
    return Result(
        [
            Figure(
                "server at rest, new database",
                "MiB",
                new,
                Goal("at most", 80),
                "resident, children included, after its first requests; it has made the database and read the catalog",
            ),
            Figure("server at rest, started again", "MiB", again, note="the same over the database of before"),
        ],
        [
            Plot(
                "memory",
                "Resident memory of a server at rest",
                "MiB",
                [
                    Bar("securedelivery, new database", new, ours=True),
                    Bar("securedelivery, started again", again, ours=True),
                    *(Bar(label, values) for label, values in peers.items()),
                ],
                goal=80,
            )
        ],
        [_REQUESTS],
    )


_REQUESTS = (
    "The first requests: an account or a login, system.info, catalog.list, three times order.place, order.list, "
    "rewards.get, chat.send, system.ping."
)


def _at_rest(world: World, folder: Path, begin: str) -> float:
    with service(folder, world.certs, catalog=CATALOG) as server:
        connection = Connection(server.port, world.certs, "bench")
        connection.call(f"account.{begin}", {"username": "bench"})
        connection.call("system.info", {})
        connection.call("catalog.list", {"limit": 50})
        for _ in range(3):
            connection.call(
                "order.place",
                {
                    "idempotency_key": uuid.uuid4().hex,
                    "lines": [{"sku": SKU, "quantity": 1}],
                    "address": "1 Analytical Row, London",
                },
            )
        connection.call("order.list", {})
        connection.call("rewards.get", {})
        connection.call("chat.send", {"text": "Hello?", "message_key": uuid.uuid4().hex})
        connection.call("system.ping", {})
        resident = server.rss() / MIB
        connection.socket.close()
        return resident


def _peer(world: World, name: str) -> float:
    """Just started; requests would need its own client, and add little."""
    with world.peer(name) as server:
        return server.rss() / MIB
