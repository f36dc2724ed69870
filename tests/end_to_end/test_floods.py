"""Many who connect and do nothing do not shut the door for a customer."""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from end_to_end.customers import Enter, Record, RingOf, StartServer, Witness, order
from end_to_end.server_process import ServerProcess
from wire_client import PATIENCE_SECONDS, ConnectionEnded, Keyring, WireClient

SILENT = 1_000
HALF_DONE = 500
PER_ADDRESS = 125


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """Sockets that stay open until the end of the test."""
    with ExitStack() as stack:
        yield stack


def test_silent_and_half_done_connections_do_not_stop_a_new_customer(
    start_server: StartServer, enter: Enter, ring: RingOf, held: ExitStack, record_property: Record
) -> None:
    server = start_server(stock={"CPU-1": 10_000})
    sources = [f"127.0.1.{1 + number // PER_ADDRESS}" for number in range(SILENT + HALF_DONE)]
    with Witness(enter(server, "early")) as witness:
        for source in sources[:SILENT]:
            held.enter_context(socket.create_connection(server.address, PATIENCE_SECONDS, (source, 0)))
        # The default limit is 1,024 handshakes in progress: from here on the oldest gives way to each new one.
        for number, source in enumerate(sources[SILENT:]):
            client = WireClient(server.address, ring("half"), source=source)
            if number % 5:
                client.hello()
            else:
                client.start_tls()

        began = time.monotonic()
        late = enter(server, "late")
        placed = late.call("order.place", **order("k", CPU_1=1))
        record_property("new_customer_seconds", round(time.monotonic() - began, 3))

        assert late.call("order.get", order=placed["order"])["status"] == "placed"
    record_property("longest_order_seconds", round(witness.longest, 3))
    assert len(witness.orders) > 1


def test_not_even_where_file_descriptors_run_out(
    start_server: StartServer, enter: Enter, ring: RingOf, held: ExitStack
) -> None:
    server = start_server({"limits": {"handshake_seconds": 120}}, stock={"CPU-1": 10})
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (256, 256))
    for number in range(600):
        source = (f"127.0.1.{1 + number // PER_ADDRESS}", 0)
        held.enter_context(socket.create_connection(server.address, PATIENCE_SECONDS, source))
    late = enter(server, "late")
    assert late.call("order.place", **order("k", CPU_1=1))["status"] == "placed"
    server.log.wait_for("! cannot accept")


def connect_when_there_is_room(server: ServerProcess, keyring: Keyring) -> WireClient:
    """A moment may pass until the server has noticed that somebody left."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return WireClient.connect(server.address, keyring)
        except ConnectionEnded:
            assert time.monotonic() < deadline


def test_one_address_cannot_take_all_places(start_server: StartServer, ring: RingOf, held: ExitStack) -> None:
    server = start_server({"limits": {"connections_per_address": 20}})
    for _ in range(20):
        held.enter_context(socket.create_connection(server.address, PATIENCE_SECONDS, ("127.0.1.1", 0)))
    with socket.create_connection(server.address, PATIENCE_SECONDS, ("127.0.1.1", 0)) as one_too_many:
        assert one_too_many.recv(1) == b""
    server.log.wait_for("refused.*connections_per_address")

    with WireClient.connect(server.address, ring("somebody"), source="127.0.1.2") as neighbour:
        assert neighbour.call("system.ping") == {}


def test_beyond_all_connections_the_door_is_shut_and_opens_again(
    start_server: StartServer, ring: RingOf, held: ExitStack
) -> None:
    server = start_server({"limits": {"connections": 5}})
    clients = [WireClient.connect(server.address, ring("somebody")) for _ in range(5)]
    with socket.create_connection(server.address, PATIENCE_SECONDS) as one_too_many:
        assert one_too_many.recv(1) == b""
    server.log.wait_for("refused.*limit=connections")

    clients.pop().close()
    clients.append(connect_when_there_is_room(server, ring("somebody")))
    assert all(client.call("system.ping") == {} for client in clients)
