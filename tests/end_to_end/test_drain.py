"""SIGTERM: what runs is answered, everyone is told, and the process ends by itself, in time."""

import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from end_to_end.bookkeeping import Books
from end_to_end.customers import Enter, Record, RingOf, StartServer, order, refusal
from end_to_end.server_process import STOP_SECONDS
from wire_client import PATIENCE_SECONDS, WireClient

CLIENTS = 50


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another program holds the write lock, so that an order stays under way for as long as a test wants."""
    with closing(sqlite3.connect(database, isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


def test_what_is_under_way_is_answered_and_the_rest_is_told(start_server: StartServer, enter: Enter) -> None:
    server = start_server(stock={"CPU-1": 100})
    customer, quiet = enter(server, "busy"), enter(server, "quiet")
    with locked(server.database):
        # Both in one segment: once the ping is answered, the order is under way.
        ping, placing = customer.send_all(("system.ping", {}), ("order.place", order("k", CPU_1=1)))
        customer.answer(ping)
        server.signal(signal.SIGTERM)
        assert customer.wait_for("system.draining")["seconds"] > 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(server.address)
        assert quiet.wait_for_end().reason == "draining"
        assert quiet.notifications[-1][0] == "system.draining"
    placed = customer.answer(placing)
    assert customer.wait_for_end().reason == "draining"
    assert server.exit_code() == 0
    assert Books(server.database).orders() == {("busy", "k"): placed["order"]}


def test_pipelined_orders_are_answered_or_not_begun(start_server: StartServer, enter: Enter) -> None:
    """Whatever the moment: an answer means an order, and CLOSE means that the unanswered ones may be tried again."""
    server = start_server(stock={"CPU-1": 100_000})
    client = enter(server, "eager")
    answered: dict[str, int] = {}
    keys = [f"key-{number}" for number in range(200)]
    ids = client.send_all(*[("order.place", order(key, CPU_1=1)) for key in keys])
    answered[keys[0]] = client.answer(ids[0])["order"]
    server.signal(signal.SIGTERM)
    assert client.wait_for_end().reason == "draining"
    for key, number in zip(keys, ids, strict=True):
        if number in client.arrivals and key not in answered:
            answered[key] = client.answer(number)["order"]
    assert server.exit_code() == 0
    assert client.arrivals[-1] != "system.welcome"
    there = {key: number for (_, key), number in Books(server.database).orders().items()}
    assert there == answered


def test_it_ends_in_time_whatever_its_clients_do(
    start_server: StartServer, enter: Enter, ring: RingOf, record_property: Record
) -> None:
    server = start_server(stock={"CPU-1": 100})
    customers = [enter(server, "alice") for _ in range(CLIENTS // 5)]
    unentered = [WireClient.connect(server.address, ring("alice")) for _ in range(CLIENTS // 5)]
    behind_tls = [WireClient(server.address, ring("alice")) for _ in range(CLIENTS // 5)]
    hellos = [WireClient(server.address, ring("alice")) for _ in range(CLIENTS // 5)]
    silent = [socket.create_connection(server.address, PATIENCE_SECONDS) for _ in range(CLIENTS // 5)]
    for client in behind_tls:
        client.start_tls()
    for client in hellos:
        client.hello()

    code, seconds = server.stop()

    record_property("seconds", round(seconds, 2))
    assert code == 0
    assert seconds < STOP_SECONDS
    assert {client.wait_for_end().reason for client in customers + unentered} == {"draining"}
    for one in silent:
        assert hung_up(one)
        one.close()


def hung_up(one: socket.socket) -> bool:
    try:
        return one.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_second_signal_changes_nothing(start_server: StartServer, enter: Enter) -> None:
    server = start_server(stock={"CPU-1": 100})
    customer = enter(server, "busy")
    with locked(server.database):
        ping, placing = customer.send_all(("system.ping", {}), ("order.place", order("k", CPU_1=1)))
        customer.answer(ping)
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            server.signal(number)
        customer.wait_for("system.draining")
    assert customer.answer(placing)["status"] == "placed"
    assert server.exit_code() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_an_idle_server_ends_at_once_and_starts_again(start_server: StartServer, number: signal.Signals) -> None:
    server = start_server()
    server.signal(number)
    assert server.exit_code() == 0
    server.start()


def test_a_database_that_stays_locked_does_not_keep_it_from_ending(start_server: StartServer, enter: Enter) -> None:
    server = start_server(stock={"CPU-1": 100})
    customer = enter(server, "busy")
    with locked(server.database):
        ping, placing = customer.send_all(("system.ping", {}), ("order.place", order("k", CPU_1=1)))
        customer.answer(ping)
        code, seconds = server.stop()
    assert code == 0
    assert seconds < STOP_SECONDS
    assert customer.wait_for_end().reason == "draining"
    if placing in customer.arrivals:
        assert refusal(lambda: customer.answer(placing)).reason == "unavailable"
    assert Books(server.database).orders() == {}


def test_logins_that_wait_for_their_turn_do_not_keep_it_from_ending(
    start_server: StartServer, ring: RingOf, record_property: Record
) -> None:
    server = start_server({"server": {"client_certificates": "optional"}})
    strangers = [WireClient.connect(server.address, ring(None), source=f"127.0.3.{1 + n % 4}") for n in range(160)]
    for number, stranger in enumerate(strangers):
        # Both in one segment: once the ping is answered, the login is under way.
        stranger.send_all(
            ("system.ping", {}), ("account.login", {"username": f"nobody-{number}", "password": "no such password"})
        )
    for stranger in strangers:
        stranger.answer(1)
    code, seconds = server.stop()
    record_property("seconds", round(seconds, 2))
    assert code == 0
    assert seconds < STOP_SECONDS
