"""How many may come in: connections, connections of one address, handshakes in progress, seconds for a handshake."""

import socket
import threading
from typing import Any

import pytest
from transport.driver import Client, Ended, read_to_end
from transport.stage import Log, Stage

from securedelivery.errors import ConfigurationError
from securedelivery.transport.channel import TlsFailure
from securedelivery.transport.handshake import Handshake
from securedelivery.transport.server import Server, _slot


def test_more_connections_than_allowed_are_closed_at_accept(stage: Stage, log: Log) -> None:
    stage.serve(connections=2)
    first, second = stage.connect(), stage.connect()
    assert read_to_end(stage.dial()) == b""
    log.wait_for("! refused", limit="connections", remote="127.0.0.1")
    first.say_bye()
    first.hang_up()
    log.wait_for("= closed")
    stage.wait_idle()
    assert stage.connect().is_served()
    assert second.is_served()


def test_more_connections_of_one_address_than_allowed_are_closed_at_accept(stage: Stage, log: Log) -> None:
    stage.serve(connections_per_address=2)
    clients = [stage.connect(), stage.connect()]
    assert read_to_end(stage.dial()) == b""
    log.wait_for("! refused", limit="connections_per_address", remote="127.0.0.1")
    assert stage.connect(source="127.0.0.2").is_served()
    clients.pop().hang_up()
    log.wait_for("= truncated")
    stage.wait_idle()
    assert stage.connect().is_served()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_one_customer_is_an_ipv4_address_or_an_ipv6_network(one: str, other: str, *, same: bool) -> None:
    assert (_slot(one) == _slot(other)) is same


def test_ipv6(stage: Stage) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    stage.serve("::")
    assert stage.connect().is_served()
    with socket.create_connection(("::1", stage.port), timeout=5) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        read_to_end(sock)


def test_the_oldest_handshake_gives_way(stage: Stage, log: Log) -> None:
    stage.serve(handshakes=2)
    silent, half_done = stage.dial(), stage.client()
    half_done.tls()
    half_done.hello()
    stage.wait_idle()
    assert stage.connect().is_served()
    assert read_to_end(silent) == b""
    assert "gave way" in log.wait_for("! refused", reason="too_slow")["why"]
    assert len(log.find("! refused")) == 1
    half_done.transmit(half_done.core.send_auth())
    assert half_done.is_served()


class Held:
    """Handshakes that stop, each on its thread, at the first portion of bytes until gate is set.

    entered: is released at each portion that is begun; admitted: at each connection that was let in.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.entered, self.admitted = threading.Semaphore(0), threading.Semaphore(0)
        advance, admit = Handshake.advance, Server._admit

        def held(handshake: Handshake, raw: bytes) -> object:
            self.entered.release()
            assert self.gate.wait(10)
            return advance(handshake, raw)

        def admitted(server: Server, *connection: Any) -> None:
            admit(server, *connection)
            self.admitted.release()

        monkeypatch.setattr(Handshake, "advance", held)
        monkeypatch.setattr(Server, "_admit", admitted)

    def dial(self, stage: Stage) -> Client:
        client = stage.client()
        assert self.admitted.acquire(timeout=10)
        return client

    def begin(self, client: Client, *, enters: bool = True) -> None:
        """Have the client say ClientHello. enters: a thread is free to take it."""
        assert not client.channel.handshake()
        client.sock.sendall(client.channel.take_raw())
        assert not enters or self.entered.acquire(timeout=10)


def test_a_handshake_that_gives_way_while_its_thread_is_busy_ends_when_it_is_free(
    stage: Stage, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    stage.serve(handshakes=1)
    going: list[Client] = []
    for number in range(4):  # two for the threads, one that waits for its turn, one for which that one gives way
        going.append(held.dial(stage))
        held.begin(going[-1], enters=number < len(stage.server._handshake_threads))
    last = going.pop()
    held.gate.set()
    for client in going:
        read_to_end(client.sock)
    log.wait_for("! refused", count=3, reason="too_slow")
    assert held.entered.acquire(timeout=10)
    assert not held.entered.acquire(blocking=False)  # the third cost no arithmetic
    last.channel.feed(last.sock.recv(65_536))
    assert last.channel.handshake()


def test_whose_time_ran_out_while_its_thread_was_busy_costs_no_arithmetic(
    stage: Stage, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    stage.serve()
    clients = []
    for _ in range(3):  # the first and the third get the same thread
        clients.append(held.dial(stage))
        stage.wait_idle()
    held.begin(clients[0])
    held.begin(clients[1])
    late = stage.peers()[2]
    held.begin(clients[2], enters=False)
    late.deadline = 0.0
    held.gate.set()
    assert read_to_end(clients[2].sock) == b""
    log.wait_for("! refused", count=1, reason="too_slow")
    assert not held.entered.acquire(blocking=False)


@pytest.mark.parametrize("layer", ["tls", "inner"])
def test_a_handshake_that_trickles_has_no_more_time_than_another(stage: Stage, log: Log, layer: str) -> None:
    stage.serve(handshake_seconds=0.5)
    client = stage.client()
    if layer == "inner":
        client.tls()
        trickle = client.core.send_handshake() + bytes(100_000)
        portions = [client.raw(trickle[at : at + 1]) for at in range(2_000)]
    else:
        assert not client.channel.handshake()
        trickle = client.channel.take_raw()
        portions = [trickle[:5] + b"", *(bytes([one]) for one in trickle[5:-1])]
    stage.wait_idle()
    try:
        for portion in portions:
            client.sock.sendall(portion)
            stage.wait_idle()
            if log.find("! refused"):
                break
    except (BrokenPipeError, ConnectionResetError):
        pass
    log.wait_for("! refused", reason="too_slow")


def test_running_out_of_file_descriptors_is_logged_once_and_passes(
    stage: Stage, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = stage.serve()
    listener, failures = server._listener, iter([OSError(24, "Too many open files")] * 3)

    class Exhausted:
        def accept(self) -> object:
            for failure in failures:
                raise failure
            return listener.accept()

        def __getattr__(self, name: str) -> object:
            return getattr(listener, name)

    server._listener = Exhausted()
    assert stage.connect().is_served()
    assert len(log.find("! cannot accept")) == 1


def test_a_bug_at_the_door_costs_one_connection(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.expected_incidents = 3
    stage.serve()
    with monkeypatch.context() as patch:
        patch.setattr("securedelivery.transport.handshake.Channel", None)
        assert read_to_end(stage.dial()) == b""
    for threads in (stage.server._handshake_threads, stage.server._io_threads):
        with monkeypatch.context() as patch:
            for thread in threads:
                patch.setattr(thread._epoll, "register", None, raising=False)
            client = stage.client()
            with pytest.raises((Ended, TlsFailure, OSError)):
                client.open()
    assert stage.connect().is_served()


def test_an_address_that_cannot_be_listened_on_is_an_error_of_the_configuration(stage: Stage) -> None:
    stage.serve()
    taken = stage.port
    with pytest.raises(ConfigurationError, match=f"listen 127.0.0.1:{taken}: Address already in use"):
        type(stage.server)(stage.application, stage.load(), stage.server.limits).start("127.0.0.1", taken)
