"""The peers of the benchmarks, as real processes: as strict as the service that they are compared with."""

import json
import socket
import sqlite3
import ssl
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any, Protocol

import pytest

for needed in ("fastapi", "uvicorn", "uvloop", "httptools", "litestar", "grpc", "grpc_tools", "psutil"):
    pytest.importorskip(needed, reason=f"{needed} is not installed: pip install -e '.[bench]'")

# ruff: noqa: E402 -- what follows needs the packages above

import grpc
from sqlalchemy import Engine

from benchmarks import order
from benchmarks.load import grpc as grpc_load
from benchmarks.load import http as http_load
from benchmarks.load.ours import Connection
from benchmarks.measure import BenchmarkFailure, Load, Server, World
from benchmarks.peers import documented, shop, tuned
from benchmarks.peers.messages import messages

PATIENCE_SECONDS = 30.0
STOCK = 20  # of each product
FIRST_PART, OTHER_PART, SCARCE_PART, RARE_PART = (product.sku for product in order.PRODUCTS[:4])
TABLES = ("orders", "order_lines", "points_ledger", "audit")

Lines = Sequence[tuple[str, int]]
Json = dict[str, Any]


class Refused(Exception):  # noqa: N818 -- an answer, not a fault
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Customer(Protocol):
    """A connection made with a customer's certificate."""

    def place(self, key: str, lines: Lines, address: str = order.ADDRESS) -> Json:
        """Raises Refused."""

    def durability(self) -> Json: ...

    def close(self) -> None: ...


class HttpCustomer:
    def __init__(self, world: World, port: int, name: str) -> None:
        context = client_context(world, name)
        self._connection = HTTPSConnection("localhost", port, timeout=PATIENCE_SECONDS, context=context)

    def place(self, key: str, lines: Lines, address: str = order.ADDRESS) -> Json:
        wanted = [{"sku": sku, "quantity": quantity} for sku, quantity in lines]
        return self._ask("POST", "/orders", {"idempotency_key": key, "lines": wanted, "address": address})

    def durability(self) -> Json:
        return self._ask("GET", "/durability", None)

    def close(self) -> None:
        self._connection.close()

    def _ask(self, method: str, path: str, content: Json | None) -> Json:
        self._connection.request(method, path, json.dumps(content), {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        said = json.loads(answer.read())
        if answer.status != 200:
            raise Refused(said.get("reason", "invalid_params"))
        return said


class GrpcCustomer:
    """By grpcio's own client, which the load generator does without."""

    def __init__(self, world: World, port: int, name: str) -> None:
        certificate, key = world.client(name)
        credentials = grpc.ssl_channel_credentials(
            (world.certs / "ca.crt").read_bytes(), key.read_bytes(), certificate.read_bytes()
        )
        self._channel = grpc.secure_channel(f"localhost:{port}", credentials, [("grpc.use_local_subchannel_pool", 1)])

    def place(self, key: str, lines: Lines, address: str = order.ADDRESS) -> Json:
        wanted = [{"sku": sku, "quantity": quantity} for sku, quantity in lines]
        asked = messages.PlaceOrder(idempotency_key=key, lines=wanted, address=address)
        return self._ask("Place", asked, messages.Order)

    def durability(self) -> Json:
        return self._ask("Durability", messages.DurabilityQuestion(), messages.DurabilityAnswer)

    def close(self) -> None:
        self._channel.close()

    def _ask(self, method: str, asked: Any, answer: Any) -> Json:
        call = self._channel.unary_unary(
            f"/shop.Shop/{method}", type(asked).SerializeToString, answer.FromString, _registered_method=False
        )
        try:
            return plain(call(asked, timeout=PATIENCE_SECONDS))
        except grpc.RpcError as error:
            raise Refused(error.details().partition(":")[0]) from error


def plain(message: Any) -> Json:
    """A message as JSON would have it."""
    found = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            value = [plain(one) for one in value]
        elif field.has_presence and not message.HasField(field.name):
            value = None
        found[field.name] = value
    return found


PEERS: dict[str, tuple[type[HttpCustomer | GrpcCustomer], str, str]] = {
    "fastapi_shop": (HttpCustomer, "http", "http/1.1"),
    "litestar_shop": (HttpCustomer, "http", "http/1.1"),
    "grpc_shop": (GrpcCustomer, "grpc", "h2"),
}
"""Of each peer: its customers, its load generator, its ALPN."""

STYLES = {"documented": (), "tuned": ("--tuned",)}
KINDS = [(name, style) for name in PEERS for style in STYLES]


class Peer:
    """A peer that listens, with few goods in stock."""

    def __init__(self, name: str, world: World, server: Server, database: Path) -> None:
        self.name = name
        self.world = world
        self.server = server
        self.database = database
        self._customer, self.load, self.alpn = PEERS[name]
        self._opened: list[Customer] = []

    def customer(self, number: int = 0) -> Customer:
        self._opened.append(self._customer(self.world, self.server.port, order.customer(number)))
        return self._opened[-1]

    def close(self) -> None:
        for customer in self._opened:
            customer.close()
        self._opened.clear()

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(sql, values).fetchall()

    def counts(self) -> list[int]:
        return [self.rows(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES]  # noqa: S608 -- ours

    def stock(self, sku: str) -> int:
        return self.rows("SELECT stock FROM products WHERE sku = ?", sku)[0][0]


def client_context(world: World, name: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(world.certs / "ca.crt")
    if name is not None:
        context.load_cert_chain(*world.client(name))
    return context


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"), quick=True)


@pytest.fixture(scope="module", params=KINDS, ids=", ".join)
def started(request: pytest.FixtureRequest, world: World) -> Iterator[Peer]:
    name, style = request.param
    database = world.folder / f"{name}_{style}.db"
    command = ["-m", f"benchmarks.peers.{name}", "--certs", world.certs, "--database", database, *STYLES[style]]
    with Server([sys.executable, *map(str, command), "--stock", str(STOCK)]) as server:
        yield Peer(name, world, server, database)


@pytest.fixture
def peer(started: Peer) -> Iterator[Peer]:
    yield started
    started.close()


@pytest.fixture(scope="module")
def ours(world: World) -> Iterator[Callable[[int], Json]]:
    """The service itself: places order `number`."""
    with world.service() as server:
        connection = Connection(server.port, world.certs, order.customer(0))
        with closing(connection.socket):
            connection.call("account.login_certificate", {})
            yield lambda number: connection.call("order.place", placement(number))


def placement(number: int) -> Json:
    lines = [{"sku": product.sku, "quantity": quantity} for product, quantity in order.lines(number)]
    return {"idempotency_key": f"same-{number}", "lines": lines, "address": order.ADDRESS}


def new_key() -> str:
    return uuid.uuid4().hex


# ------------------------------------------------------------------------------------------------------------------ TLS


HELLO = {
    "http/1.1": b"GET /durability HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "h2": grpc_load.PREFACE + grpc_load.frame(grpc_load.SETTINGS, 0, 0, b""),
}


def spoken(peer: Peer, context: ssl.SSLContext) -> str | None:
    """The version of TLS in which the server has answered, or None where it has hung up instead."""
    context.set_alpn_protocols([peer.alpn])
    with socket.create_connection(("127.0.0.1", peer.server.port), PATIENCE_SECONDS) as plaintext:
        try:
            # In TLS 1.3 a client learns by its first read whether it is welcome.
            with context.wrap_socket(plaintext, server_hostname="localhost") as tls:
                tls.sendall(HELLO[peer.alpn])
                return tls.version() if tls.recv(1) else None
        except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
            return None


def test_a_client_without_a_certificate_is_refused(peer: Peer) -> None:
    assert spoken(peer, client_context(peer.world, "bench0")) == "TLSv1.3"
    assert spoken(peer, client_context(peer.world, None)) is None


def test_tls_1_2_is_refused(peer: Peer) -> None:
    context = client_context(peer.world, "bench0")
    assert spoken(peer, context) == "TLSv1.3"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert spoken(peer, context) is None


# --------------------------------------------------------------------------------------------------------------- orders


def test_the_same_order_comes_to_the_same_as_ours(peer: Peer, ours: Callable[[int], Json]) -> None:
    for number in (40, 41, 42):
        wanted = [(product.sku, quantity) for product, quantity in order.lines(number)]
        theirs, own = peer.customer().place(f"same-{number}", wanted), ours(number)
        assert theirs["total"] == own["total"] == order.total(number)
        own |= {name: theirs[name] for name in ("order", "placed_at", "changed_at", "delivery_code")}
        own["history"][0]["at"] = theirs["placed_at"]
        own["points_earned"] = theirs["points_earned"]  # the peer's customer may have placed more orders before
        assert theirs == own
        assert theirs["points_earned"] >= theirs["total"] // 100


def test_an_order_leaves_its_rows(peer: Peer) -> None:
    customer = peer.customer(1)
    before = peer.counts()
    placed = customer.place(new_key(), [(FIRST_PART, 2), (OTHER_PART, 1)])
    assert [after - count for after, count in zip(peer.counts(), before, strict=True)] == [1, 2, 1, 1]
    number = placed["order"]
    assert peer.rows("SELECT sku, quantity, total FROM order_lines WHERE order_id = ? ORDER BY position", number) == [
        (FIRST_PART, 2, 2 * order.PRODUCTS[0].price),
        (OTHER_PART, 1, order.PRODUCTS[1].price),
    ]
    assert peer.rows("SELECT address, total FROM orders WHERE id = ?", number) == [(order.ADDRESS, placed["total"])]
    assert peer.rows("SELECT action FROM audit WHERE subject = ?", f"order:{number}") == [("order.placed",)]
    (sums,) = peer.rows(
        "SELECT id, order_count, points, ledger_entries FROM accounts WHERE username = ?", order.customer(1)
    )
    ledger = peer.rows(
        "SELECT account_id, count(*), sum(points), max(entry) FROM points_ledger WHERE account_id = ?", sums[0]
    )
    assert ledger == [sums]


def test_a_key_that_was_used_gives_the_same_order_again(peer: Peer) -> None:
    customer, key, lines = peer.customer(), new_key(), [(FIRST_PART, 1), (OTHER_PART, 1)]
    placed = customer.place(key, lines)
    before = peer.counts(), peer.stock(FIRST_PART)
    assert peer.customer().place(key, lines) == placed
    assert (peer.counts(), peer.stock(FIRST_PART)) == before


@pytest.mark.parametrize(("lines", "address"), [([(FIRST_PART, 1)], "Elsewhere 1"), ([(OTHER_PART, 1)], order.ADDRESS)])
def test_a_key_is_not_used_for_another_order(peer: Peer, lines: Lines, address: str) -> None:
    customer, key = peer.customer(), new_key()
    customer.place(key, [(FIRST_PART, 1)])
    with pytest.raises(Refused, match="idempotency_conflict"):
        customer.place(key, lines, address)


def test_a_key_belongs_to_its_customer(peer: Peer) -> None:
    key, lines = new_key(), [(FIRST_PART, 1)]
    one, other = peer.customer(2).place(key, lines), peer.customer(3).place(key, lines)
    assert one["order"] != other["order"]
    assert (one["account"], other["account"]) == (order.customer(2), order.customer(3))


def test_what_is_not_in_stock_is_refused_and_leaves_nothing(peer: Peer) -> None:
    customer, key = peer.customer(), new_key()
    before = peer.counts()
    with pytest.raises(Refused, match="out_of_stock"):
        customer.place(key, [(RARE_PART, 1), (SCARCE_PART, STOCK + 1)])
    assert peer.counts() == before
    assert peer.stock(RARE_PART) == STOCK
    assert customer.place(key, [(RARE_PART, 1)])["total"] == order.PRODUCTS[3].price  # the key was not used up


@pytest.mark.parametrize(
    ("lines", "reason"),
    [([("NO-SUCH-PART", 1)], "not_found"), ([], "invalid_params"), ([(FIRST_PART, 0)], "invalid_params")],
)
def test_what_makes_no_sense_is_refused(peer: Peer, lines: Lines, reason: str) -> None:
    before = peer.counts()
    with pytest.raises(Refused, match=reason):
        peer.customer().place(new_key(), lines)
    assert peer.counts() == before


def test_eight_at_once_get_what_there_is_and_no_more(peer: Peer) -> None:
    each = STOCK // 4  # twice as many as there are

    def buy(customer: Customer) -> int:
        bought = 0
        for _ in range(each):
            try:
                customer.place(new_key(), [(SCARCE_PART, 1)])
            except Refused as refused:
                refusals.append(refused.reason)
            else:
                bought += 1
        return bought

    refusals: list[str] = []

    with ThreadPoolExecutor(8) as pool:
        bought = list(pool.map(buy, [peer.customer(number) for number in range(8)]))
    assert sum(bought) == STOCK
    assert refusals == ["out_of_stock"] * STOCK
    assert peer.stock(SCARCE_PART) == 0
    assert peer.rows("SELECT sum(quantity) FROM order_lines WHERE sku = ?", SCARCE_PART) == [(STOCK,)]


def test_a_commit_is_on_the_disk_before_its_answer(peer: Peer) -> None:
    assert peer.customer().durability() == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


# ------------------------------------------------------------------------------------------------------ load generators


@pytest.mark.parametrize("name", PEERS)
def test_the_load_generator_gets_right_answers(world: World, name: str) -> None:
    with (
        world.peer(name) as server,
        world.load(PEERS[name][1], server, "--what", "ping", "--connections", 3, "--requests", 20) as load,
    ):
        outcome = load.go(PATIENCE_SECONDS)
    assert (outcome.requests, outcome.checked, outcome.errors) == (20, 20, 0)


@pytest.mark.parametrize(("name", "style"), KINDS)
def test_the_orders_of_64_at_once_are_all_placed(world: World, name: str, style: str, tmp_path: Path) -> None:
    """Nobody's transaction is refused because others hold the lock."""
    command = [sys.executable, "-m", f"benchmarks.peers.{name}", "--certs", str(world.certs), *STYLES[style]]
    with (
        Server([*command, "--database", str(tmp_path / "many.db")]) as server,
        world.load(PEERS[name][1], server, "--what", "order", "--connections", 64, "--requests", 320) as load,
    ):
        outcome = load.go(2 * PATIENCE_SECONDS)
    assert (outcome.requests, outcome.checked, outcome.errors) == (320, 320, 0)
    counted = "SELECT count(*), count(DISTINCT account_id) FROM orders WHERE id IN (SELECT order_id FROM points_ledger)"
    ((placed, customers),) = rows(tmp_path / "many.db", counted)
    assert placed >= 320
    assert customers == 64


@pytest.mark.parametrize("name", PEERS)
def test_the_load_generator_tells_of_wrong_answers(world: World, name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", f"benchmarks.peers.{name}", "--certs", str(world.certs), "--stock", "1"]
    with (
        Server([*command, "--database", str(tmp_path / "empty.db")]) as server,
        world.load(PEERS[name][1], server, "--what", "order", "--connections", 1, "--requests", 20) as load,
        pytest.raises(BenchmarkFailure, match="wrong answers"),
    ):
        load.go(PATIENCE_SECONDS)


def test_another_total_and_another_customer_are_wrong() -> None:
    call = http_load.placement("seed", 5)
    said = {"account": "bench5", "lines": call["lines"], "total": order.total(5), "address": order.ADDRESS}

    def answer(**changed: object) -> bytes:
        return http_load.OK + b"OK\r\ncontent-length: 9\r\n\r\n" + json.dumps(said | changed).encode()

    assert http_load.right("bench5", call, answer())
    assert not http_load.right("bench5", call, answer(total=order.total(5) + 1))
    assert not http_load.right("bench6", call, answer())
    assert not http_load.right("bench5", call, answer(lines=[]))
    assert not http_load.right("bench5", call, answer().replace(b"200", b"409", 1))


def test_another_message_of_grpc_is_wrong() -> None:
    call = grpc_load.placement("seed", 5)

    def answer(**changed: object) -> bytes:
        said = {"account": "bench5", "lines": list(lines), "total": order.total(5), "address": order.ADDRESS} | changed
        body = messages.Order(**said).SerializeToString()
        return grpc_load.PREFIX.pack(0, len(body)) + body

    lines = [{"sku": line.sku, "quantity": line.quantity} for line in call.lines]
    assert grpc_load.right("bench5", call, answer())
    assert not grpc_load.right("bench5", call, answer(total=1))
    assert not grpc_load.right("bench6", call, answer())
    assert not grpc_load.right("bench5", call, answer()[:-1])
    assert not grpc_load.right("bench5", call, b"")


# ------------------------------------------------------------------------------------------------------------ the floor


@pytest.mark.parametrize("place", [documented.place, tuned.place], ids=STYLES)
@pytest.mark.parametrize(("batch", "synchronous"), [(1, "FULL"), (8, "FULL"), (8, "OFF")])
def test_the_floor_writes_the_rows_of_the_peers(
    tmp_path: Path, batch: int, synchronous: str, place: Callable[[Engine, str, shop.Wanted], Json]
) -> None:
    database = tmp_path / "floor.db"
    arguments = ("--database", database, "--orders", 20, "--batch", batch, "--synchronous", synchronous)
    with Load("benchmarks.peers.raw_sqlite", *arguments) as load:
        outcome = load.go(PATIENCE_SECONDS)
    assert outcome.requests == 20
    engine = shop.open_shop(database)
    try:
        seed, _, _ = rows(database, "SELECT idempotency_key FROM orders WHERE idempotency_key NOT LIKE '%warm%'")[0][
            0
        ].partition("-")
        before = len(rows(database, "SELECT id FROM orders"))
        for number in range(20):
            key = f"{seed}-{number}"
            wanted = shop.Wanted(key, [(one.sku, quantity) for one, quantity in order.lines(number)], order.ADDRESS)
            assert place(engine, order.customer(number), wanted)["total"] == order.total(number)
        # Each was there already, and is what a peer would have written.
        assert len(rows(database, "SELECT id FROM orders")) == before
    finally:
        engine.dispose()
    unequal = """SELECT username FROM accounts a JOIN points_ledger l ON account_id = a.id GROUP BY username
        HAVING order_count <> count(*) OR a.points <> sum(l.points) OR ledger_entries <> max(entry)"""
    assert rows(database, unequal) == []
    sold = dict(rows(database, "SELECT sku, sum(quantity) FROM order_lines GROUP BY sku"))
    left = dict(rows(database, "SELECT sku, stock FROM products"))
    assert {sku: order.STOCK - stock for sku, stock in left.items() if stock != order.STOCK} == sold


def rows(database: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()
