"""The relay between real sockets: what is recorded is what was forwarded, however a connection goes and ends."""

import contextlib
import errno
import hashlib
import os
import resource
import select
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest
from wireshark.tshark import tshark

from securedelivery.errors import ConfigurationError
from securedelivery.wireshark import pcapng
from securedelivery.wireshark import relay as module
from securedelivery.wireshark.capture import Capture, Recorded
from securedelivery.wireshark.recording import RecordingFile
from securedelivery.wireshark.relay import BACKLOG_BYTES, RECEIVE_BYTES, Relay
from securedelivery.wireshark.tcp import Endpoint

SECONDS = 20.0
MIB = 1_048_576
FIN, RST = 1, 4
_FLAGS = 47  # of TCP, in a packet with IPv4
CUT = (ConnectionResetError, BrokenPipeError)
BLAMED = "-Y", "tcp.analysis.flags or tcp.checksum.status==0 or ip.checksum.status==0"
CHECKED = "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"


class Record:
    """What a relay has recorded and told, for those who wait for it."""

    def __init__(self) -> None:
        self.packets: list[Recorded] = []
        self.told: list[str] = []
        self.carried = 0  # bytes
        self.capture = Capture(self._take)
        self._changed = threading.Condition()

    def _take(self, packet: Recorded) -> None:
        with self._changed:
            self.packets.append(packet)
            self.carried += len(packet.payload)
            self._changed.notify_all()

    def tell(self, sentence: str) -> None:
        with self._changed:
            self.told.append(sentence)
            self._changed.notify_all()

    def wait_for(self, what: Callable[[], object]) -> None:
        with self._changed:
            assert self._changed.wait_for(what, SECONDS), (self.told, len(self.packets))

    def stream(self, flow: int, *, from_client: bool) -> bytes:
        with self._changed:
            return b"".join(one.payload for one in self.packets if (one.flow, one.from_client) == (flow, from_client))

    def ends(self, flow: int = 0) -> list[tuple[bool, str]]:
        """From whom FIN or RST came, in this order. (IPv4 only.)"""
        with self._changed:
            mine = [(one.from_client, one.data[_FLAGS]) for one in self.packets if one.flow == flow]
        return [(who, "RST" if flags & RST else "FIN") for who, flags in mine if flags & (FIN | RST)]

    def flawless(self, folder: Path) -> None:
        """Wireshark has nothing to say about it."""
        path = folder / "relay.pcapng"
        blocks = [pcapng.packet(one.data, at=one.at) for one in self.packets]
        path.write_bytes(pcapng.section_header("tests") + pcapng.interface(pcapng.ETHERNET, "wire") + b"".join(blocks))
        result = tshark(path, *CHECKED, *BLAMED)
        assert (result.stdout, result.stderr, result.code) == ("", "", 0)
        assert len(tshark(path).stdout.splitlines()) == len(self.packets)


class Place:
    """A service that a test plays itself, and the relay in front of it."""

    def __init__(self, listener: socket.socket, **options: Any) -> None:
        self.record = Record()
        self._listener = listener
        listener.settimeout(SECONDS)
        listen = (listener.getsockname()[0], 0)
        capture = options.pop("capture", self.record.capture)
        self.relay = Relay(listen, listener.getsockname()[:2], capture, told=self.record.tell, **options)
        self._sockets = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._sockets.enter_context(self._listener)
        self.relay.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *more: object) -> None:
        try:
            self.relay.__exit__(kind, *more)
        finally:
            self._sockets.close()

    def dial(self) -> socket.socket:
        return self._sockets.enter_context(socket.create_connection(self.relay.address, SECONDS))

    def cut_off(self) -> str:
        """A client that is reset at once; HOST:PORT of where it came from."""
        with socket.socket() as sock:
            sock.settimeout(SECONDS)
            sock.bind(("127.0.0.1", 0))
            with contextlib.suppress(ConnectionResetError):  # so soon that connect() notices
                sock.connect(self.relay.address)
                assert until_reset(sock) == b""
            return module.shown(sock.getsockname())

    def accept(self) -> socket.socket:
        sock = self._sockets.enter_context(self._listener.accept()[0])
        sock.settimeout(SECONDS)
        return sock

    def line(self) -> tuple[socket.socket, socket.socket]:
        """A connection: the client's end, the service's end."""
        return self.dial(), self.accept()


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert not [one for one in set(threading.enumerate()) - before if one.is_alive()]


@pytest.fixture
def place() -> Iterator[Place]:
    with Place(socket.create_server(("127.0.0.1", 0))) as place:
        yield place


def receive(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = sock.recv(count - len(data))
        assert piece, f"it ended after {len(data)} bytes of {count}"
        data += piece
    return bytes(data)


def receive_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(RECEIVE_BYTES), b""))


def until_reset(sock: socket.socket) -> bytes:
    """What comes before the reset, which must come."""
    data = bytearray()
    with contextlib.suppress(*CUT):
        while piece := sock.recv(RECEIVE_BYTES):
            data += piece
        raise AssertionError(f"it ended without a reset after {bytes(data)!r}")
    return bytes(data)


def reset(sock: socket.socket) -> None:
    """Close so that the other side gets RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# Bytes


def test_both_ways(place: Place, tmp_path: Path) -> None:
    client, server = place.line()
    client.sendall(b"question")
    assert receive(server, 8) == b"question"
    server.sendall(b"answer")
    assert receive(client, 6) == b"answer"
    client.close()
    assert receive_all(server) == b""
    server.close()
    place.record.wait_for(lambda: len(place.record.packets) == 9)
    assert place.record.stream(0, from_client=True) == b"question"
    assert place.record.stream(0, from_client=False) == b"answer"
    assert place.record.ends() == [(True, "FIN"), (False, "FIN")]
    assert place.relay.count == 1
    place.record.flawless(tmp_path)


def test_the_addresses_are_the_clients_and_the_relays_own(place: Place, tmp_path: Path) -> None:
    client, server = place.line()
    client.sendall(b"!")
    receive(server, 1)
    own, other = client.getsockname()[1], place.relay.address[1]
    path = tmp_path / "relay.pcapng"
    blocks = [pcapng.packet(one.data, at=one.at) for one in place.record.packets]
    path.write_bytes(pcapng.section_header("tests") + pcapng.interface(pcapng.ETHERNET, "wire") + b"".join(blocks))
    fields = "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport"
    rows = tshark(path, "-c", "1", "-T", "fields", *(word for name in fields for word in ("-e", name))).rows
    assert rows == [["127.0.0.1", str(own), "127.0.0.1", str(other)]]


def test_other_addresses_can_be_recorded() -> None:
    given = []

    def endpoints(client: Endpoint, relay: Endpoint) -> tuple[Endpoint, Endpoint]:
        given.append((client, relay))
        return Endpoint("192.0.2.10", client.port), Endpoint("192.0.2.1", 5_555)

    with Place(socket.create_server(("127.0.0.1", 0)), endpoints=endpoints) as place:
        client, _ = place.line()
        assert given == [(Endpoint(*client.getsockname()), Endpoint(*place.relay.address))]
        assert place.record.packets[0].data[26:34] == bytes([192, 0, 2, 10, 192, 0, 2, 1])


def test_recorded_before_forwarded() -> None:
    early: list[bool] = []
    ends: list[socket.socket] = []

    def look(packet: Recorded) -> None:
        if packet.payload:
            early.append(bool(select.select([ends[packet.from_client]], [], [], 0)[0]))

    with Place(socket.create_server(("127.0.0.1", 0)), capture=Capture(look)) as place:
        ends.extend(place.line())  # the client's end, which the server's bytes reach, at False
        for _ in range(20):
            ends[0].sendall(b"question")
            receive(ends[1], 8)
            ends[1].sendall(b"answer")
            receive(ends[0], 6)
    assert early == [False] * 40


def test_over_ipv6(tmp_path: Path) -> None:
    with Place(socket.create_server(("::1", 0), family=socket.AF_INET6)) as place:
        client, server = place.line()
        client.sendall(bytes(100_000))
        assert receive(server, 100_000) == bytes(100_000)
        server.close()
        assert receive_all(client) == b""
        client.close()
        place.record.wait_for(lambda: sum(one.data[67] & FIN for one in place.record.packets) == 2)
        place.record.flawless(tmp_path)
        assert place.relay.address[0] == "::1"


def test_fifty_connections_at_once(tmp_path: Path) -> None:
    path = tmp_path / "traffic.pcapng"
    sent: dict[int, bytes] = {}

    def send(sock: socket.socket, number: int) -> None:
        data = bytes([number]) + os.urandom(MIB - 1)
        sent[number] = hashlib.sha256(data).digest()
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == sent[number]

    def answer(sock: socket.socket) -> None:
        sock.sendall(hashlib.sha256(receive_all(sock)).digest())
        sock.close()

    with RecordingFile(path) as recording:
        kept = Record()
        both = Capture(lambda one: (recording._take(one), kept._take(one))[0], settle=recording._write)
        place = Place(socket.create_server(("127.0.0.1", 0), backlog=50), capture=both)
        with place, ThreadPoolExecutor(100) as pool:
            clients = [place.dial() for _ in range(50)]
            tasks = [pool.submit(send, sock, number) for number, sock in enumerate(clients)]
            tasks += [pool.submit(answer, place.accept()) for _ in range(50)]
            for task in tasks:
                task.result(2 * SECONDS)
            assert place.relay.count == 50
    recorded = {}
    for flow in range(50):
        data = kept.stream(flow, from_client=True)
        recorded[data[0]] = hashlib.sha256(data).digest()
        assert kept.stream(flow, from_client=False) == recorded[data[0]]
    assert recorded == sent
    result = tshark(path, *CHECKED, *BLAMED)
    assert (result.stdout, result.stderr, result.code) == ("", "", 0)
    streams = tshark(path, "-Y", "tcp.flags.syn==1 and tcp.flags.ack==0", "-T", "fields", "-e", "tcp.stream").rows
    assert streams == [[str(number)] for number in range(50)]


def test_who_does_not_read_holds_up_who_sends() -> None:
    """And the relay does not keep it all."""
    counted = []
    capture = Capture(lambda one: counted.append(len(one.payload)) if one.from_client else None)
    data = os.urandom(32 * MIB)
    with Place(socket.create_server(("127.0.0.1", 0)), capture=capture) as place, ThreadPoolExecutor(1) as pool:
        client, server = place.line()
        client.setblocking(False)
        sent, held, deadline = 0, 0, time.monotonic() + SECONDS
        while held < BACKLOG_BYTES or select.select([], [client], [], 0.2)[1]:
            with contextlib.suppress(BlockingIOError):
                sent += client.send(data[sent : sent + RECEIVE_BYTES])
            held = max((len(pair._server.out) for pair in place.relay._pairs if pair._server is not None), default=0)
            assert time.monotonic() < deadline
        assert held < BACKLOG_BYTES + RECEIVE_BYTES
        assert sent < len(data) - 8 * MIB
        client.settimeout(SECONDS)
        rest = pool.submit(lambda: (client.sendall(data[sent:]), client.close()))
        assert receive_all(server) == data
        rest.result(SECONDS)
    assert sum(counted) == len(data)


def test_tampering() -> None:
    calls = []

    def tamper(flow: int, from_client: bool, data: bytes) -> bytes:
        calls.append((flow, from_client, data))
        return data.replace(b"1", b"9") if from_client else b""

    with Place(socket.create_server(("127.0.0.1", 0)), tamper=tamper) as place:
        client, server = place.line()
        server.sendall(b"swallowed")
        server.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b""
        client.sendall(b"buy 1")
        assert receive(server, 5) == b"buy 9"
        assert calls == [(0, False, b"swallowed"), (0, True, b"buy 1")]
        assert place.record.stream(0, from_client=True) == b"buy 9"  # what was on the wire behind the attacker
        assert place.record.stream(0, from_client=False) == b""


# Ends


def test_the_client_has_said_all(place: Place, tmp_path: Path) -> None:
    client, server = place.line()
    client.sendall(b"all")
    client.shutdown(socket.SHUT_WR)
    assert receive_all(server) == b"all"
    answer = os.urandom(3 * MIB)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(lambda: (server.sendall(answer), server.close()))
        assert receive_all(client) == answer
        sending.result(SECONDS)
    assert place.record.stream(0, from_client=False) == answer
    assert place.record.ends() == [(True, "FIN"), (False, "FIN")]
    place.record.flawless(tmp_path)


def test_the_server_has_said_all(place: Place, tmp_path: Path) -> None:
    client, server = place.line()
    server.sendall(b"all")
    server.shutdown(socket.SHUT_WR)
    assert receive_all(client) == b"all"
    client.sendall(b"not yet")
    client.close()
    assert receive_all(server) == b"not yet"
    assert place.record.ends() == [(False, "FIN"), (True, "FIN")]
    place.record.flawless(tmp_path)


def test_a_client_that_vanishes(place: Place, tmp_path: Path) -> None:
    client, server = place.line()
    client.sendall(b"last words")
    assert receive(server, 10) == b"last words"
    reset(client)
    assert until_reset(server) == b""
    assert place.record.ends() == [(True, "RST")]
    place.record.flawless(tmp_path)


def test_a_server_that_vanishes(place: Place, tmp_path: Path) -> None:
    client, server = place.line()
    server.sendall(b"last words")
    reset(server)
    assert until_reset(client) == b"last words"
    assert place.record.stream(0, from_client=False) == b"last words"
    assert place.record.ends() == [(False, "RST")]
    place.record.flawless(tmp_path)


class Jam:
    """A connection whose server does not read, until the sockets are full and the relay holds some."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.client, self.server = place.line()
        self._other = place.line()
        self.sent = b""
        self._send(b"!")
        (self.pair,) = [pair for pair in place.relay._pairs if pair._flow.number == 0]
        assert self.pair._server is not None
        while not self.pair._server.out:
            self._send(os.urandom(RECEIVE_BYTES))

    def _send(self, data: bytes) -> None:
        self.client.sendall(data)
        self.sent += data
        self._place.record.wait_for(lambda: self._place.record.carried >= len(self.sent))
        self.catch_up()

    def catch_up(self) -> None:
        """Wait until the relay has done what was to be done: it has one thread."""
        self._other[0].sendall(b"?")
        assert receive(self._other[1], 1) == b"?"


@pytest.fixture
def jam() -> Iterator[tuple[Place, Jam]]:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)  # so that most stays on the sender's side
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    with Place(listener) as place:
        yield place, Jam(place)


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_server_that_vanishes_before_the_relay_looks(tmp_path: Path, *, half_closed: bool) -> None:
    """It was reached, so this is no failed dialling."""
    place = Place(socket.create_server(("127.0.0.1", 0)))
    with socket.create_connection(place.relay.address, SECONDS) as client:
        place.relay._accept(selectors.EVENT_READ)
        server = place.accept()
        server.sendall(b"last words")
        if half_closed:
            server.shutdown(socket.SHUT_WR)
        reset(server)
        with place:
            assert until_reset(client) == b"last words"
    assert place.record.told == []
    assert place.record.stream(0, from_client=False) == b"last words"
    assert place.record.ends() == [(False, "RST")]
    place.record.flawless(tmp_path)


def test_what_was_sent_before_the_end_arrives(jam: tuple[Place, Jam], tmp_path: Path) -> None:
    place, line = jam
    line.client.close()
    line.catch_up()
    assert line.pair._client.ended
    assert line.pair._server.out
    assert receive_all(line.server) == line.sent
    line.server.close()
    place.record.wait_for(lambda: place.record.ends() == [(True, "FIN"), (False, "FIN")])
    assert place.record.stream(0, from_client=True) == line.sent
    place.record.flawless(tmp_path)


def test_what_was_sent_before_a_reset_arrives(jam: tuple[Place, Jam], tmp_path: Path) -> None:
    """All of it, although the one who gets it reads late, and more is under way than fits into the sockets."""
    place, line = jam
    reset(line.client)
    line.catch_up()
    assert line.pair._client.broken
    assert place.record.ends() == []
    assert until_reset(line.server) == line.sent
    assert place.record.ends() == [(True, "RST")]
    assert place.record.stream(0, from_client=True) == line.sent
    place.record.flawless(tmp_path)


def test_what_is_on_its_way_to_who_has_vanished(jam: tuple[Place, Jam], tmp_path: Path) -> None:
    """Nobody gets it, but the other side is told."""
    place, line = jam
    reset(line.server)
    assert until_reset(line.client) == b""
    assert place.record.ends() == [(False, "RST")]
    assert place.record.stream(0, from_client=True) == line.sent
    place.record.flawless(tmp_path)


def test_the_reason_arrives_although_the_other_side_still_sends(tmp_path: Path) -> None:
    """As with a TLS alert: the server says why and closes with unread data, so the next bytes to it fail."""
    stalled, go = threading.Event(), threading.Event()

    def tamper(_flow: int, _from_client: bool, data: bytes) -> bytes:
        if data == b"second":
            stalled.set()
            assert go.wait(SECONDS)
        return data

    with Place(socket.create_server(("127.0.0.1", 0)), tamper=tamper) as place:
        client, server = place.line()
        client.sendall(b"first")
        place.record.wait_for(lambda: place.record.stream(0, from_client=True))
        assert select.select([server], [], [], SECONDS)[0]
        client.sendall(b"second")
        assert stalled.wait(SECONDS)
        server.sendall(b"alert")
        server.close()
        go.set()
        assert until_reset(client) == b"alert"
        assert place.record.stream(0, from_client=False) == b"alert"
        assert place.record.ends() == [(False, "RST")]
        place.record.flawless(tmp_path)


def test_both_vanish_in_one_moment(tmp_path: Path) -> None:
    """The relay finds both ends ready at once."""
    stalled, go = threading.Event(), threading.Event()

    def tamper(flow: int, _from_client: bool, data: bytes) -> bytes:
        if flow == 0:
            stalled.set()
            assert go.wait(SECONDS)
        return data

    with Place(socket.create_server(("127.0.0.1", 0)), tamper=tamper) as place:
        slow, _ = place.line()
        pairs = [place.line() for _ in range(4)]
        slow.sendall(b"!")
        assert stalled.wait(SECONDS)
        for at, (client, server) in enumerate(pairs):
            client.sendall(b"never read")
            server.sendall(b"never read")
            for one in (client, server) if at % 2 else (server, client):
                reset(one)
        go.set()
        place.record.wait_for(lambda: all(place.record.ends(flow) for flow in (1, 2, 3, 4)))
        assert [len(place.record.ends(flow)) for flow in (1, 2, 3, 4)] == [1] * 4
        again, server = place.line()
        again.sendall(b"still there")
        assert receive(server, 11) == b"still there"
        place.record.flawless(tmp_path)


def test_a_reset_behind_the_end(place: Place, tmp_path: Path) -> None:
    """A client that half closes and vanishes: it is noticed when something is to be written to it."""
    client, server = place.line()
    client.shutdown(socket.SHUT_WR)
    assert receive_all(server) == b""
    reset(client)
    with contextlib.suppress(*CUT):
        while True:
            server.sendall(bytes(RECEIVE_BYTES))
    place.record.wait_for(lambda: len(place.record.ends()) == 2)
    assert place.record.ends() == [(True, "FIN"), (True, "RST")]
    place.record.flawless(tmp_path)


def test_leaving_ends_what_is_open(place: Place) -> None:
    client, server = place.line()
    place.relay.stop()
    place.relay.stop()
    place.relay.wait()
    for sock in (client, server):
        assert receive_all(sock) == b""
    place.relay.stop()
    with pytest.raises(ConnectionRefusedError):
        place.dial()


# Towards the service


def test_a_service_that_is_not_there(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    with Place(listener) as place:
        listener.close()
        client = place.cut_off()
        place.record.wait_for(lambda: place.record.told)
        assert place.record.told == [
            f"127.0.0.1:{address[1]} cannot be reached (Connection refused), so the connection of {client} was cut"
        ]
        place.record.wait_for(lambda: place.record.ends() == [(False, "RST")])
        assert len(place.record.packets) == 4
        place.record.flawless(tmp_path)
        with socket.create_server(address) as there:
            again = place.dial()
            again.sendall(b"now it is")
            with there.accept()[0] as server:
                assert receive(server, 9) == b"now it is"


def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        refused = gone.getsockname()
    with Place(socket.create_server(("127.0.0.1", 0))) as place:
        there = place.relay.targets[0]
        bad_at_once = (socket.AF_INET, ("255.255.255.255", 1))
        no_such_family = (socket.AF_APPLETALK, ("?", 1))
        monkeypatch.setattr(place.relay, "_targets", [no_such_family, (socket.AF_INET, refused), bad_at_once, there])
        client, server = place.line()
        client.sendall(b"found")
        assert receive(server, 5) == b"found"
        assert place.record.told == []
        monkeypatch.setattr(place.relay, "_targets", [bad_at_once])
        place.cut_off()
        monkeypatch.setattr(place.relay, "_targets", [])
        place.cut_off()
        place.record.wait_for(lambda: len(place.record.told) == 2)
        assert "cannot be reached (Network is unreachable)" in place.record.told[0] or "denied" in place.record.told[0]
        assert "cannot be reached (there is no address)" in place.record.told[1]


def test_a_service_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DIAL_SECONDS", 0.2)
    with contextlib.ExitStack() as stack:
        deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        stack.enter_context(socket.create_connection(deaf.getsockname(), SECONDS))  # the queue is full
        with Relay(("127.0.0.1", 0), deaf.getsockname(), Capture(), told=(told := []).append) as relay:
            client = stack.enter_context(socket.create_connection(relay.address, SECONDS))
            assert until_reset(client) == b""
    assert len(told) == 1
    assert "cannot be reached (no answer within 0 seconds)" in told[0]


# Faults on this side


class DiskFullError(OSError):
    """What a sink raises."""


@pytest.mark.parametrize("at", range(5))
def test_what_the_sink_raises_is_no_network_error(at: int) -> None:
    """Whatever was about to be recorded: it ends the relay, and nobody's connection is blamed."""
    count = 0

    def sink(packet: Recorded) -> None:
        nonlocal count
        count += 1
        if not packet.payload and packet.data[_FLAGS] & (FIN | RST):
            count = max(count, 5)
        if count > at:
            raise DiskFullError(errno.ENOSPC, "No space left on device")

    place = Place(socket.create_server(("127.0.0.1", 0)), capture=Capture(sink))
    with place, contextlib.suppress(*CUT):
        client = place.dial()
        client.sendall(b"hello")
        reset(client)
        with pytest.raises(DiskFullError):
            place.relay.wait()
        place.relay._failure = None  # told once
    assert place.record.told == []


def test_a_tamper_that_fails_is_not_silent() -> None:
    def tamper(_flow: int, _from_client: bool, _data: bytes) -> bytes:
        raise ZeroDivisionError

    def go() -> None:
        with Place(socket.create_server(("127.0.0.1", 0)), tamper=tamper) as place:
            client, _ = place.line()
            client.sendall(b"!")
            receive_all(client)

    with pytest.raises(ZeroDivisionError):
        go()


def test_the_callers_own_fault_comes_first() -> None:
    def tamper(_flow: int, _from_client: bool, _data: bytes) -> bytes:
        raise ZeroDivisionError

    def go() -> None:
        with Place(socket.create_server(("127.0.0.1", 0)), tamper=tamper) as place:
            client, _ = place.line()
            client.sendall(b"!")
            receive_all(client)
            raise KeyError

    with pytest.raises(KeyError):
        go()


def test_more_connections_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 2)
    with Place(socket.create_server(("127.0.0.1", 0))) as place:
        (first, first_end), (second, _) = place.line(), place.line()
        third = place.dial()
        third.sendall(b"patience")
        assert place.record.told == ["2 connections are open: who comes now waits"]
        assert len(place.relay._pairs) == place.relay.count == 2
        first.close()
        first_end.close()
        server = place.accept()
        assert receive(server, 8) == b"patience"
        second.close()


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Until then no more than that many files and sockets can be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free: list[int] = [os.dup(0) for _ in range(count + 1)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1], before[1]))
        for one in free:
            os.close(one)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_no_descriptors_left_for_who_comes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits, without burning the processor, until a connection has ended."""
    monkeypatch.setattr(module, "AGAIN_SECONDS", 3_600)
    client, server = place.line()
    with descriptors_left(1):
        waiting = place.dial()
        place.record.wait_for(lambda: place.record.told)
        began = time.process_time()
        client.sendall(b"goes on")
        assert receive(server, 7) == b"goes on"
        assert not select.select([waiting], [], [], 0.3)[0]
        assert time.process_time() - began < 0.2
    assert place.record.told == ["no more connections can be accepted (Too many open files): who comes now waits"]
    client.close()
    server.close()
    waiting.sendall(b"patience")
    assert receive(place.accept(), 8) == b"patience"


def test_no_descriptors_left_and_nobody_there_whose_end_would_help(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.05)
    with descriptors_left(1):
        waiting = place.dial()
        place.record.wait_for(lambda: len(place.record.told) == 3)
    waiting.sendall(b"patience")
    assert receive(place.accept(), 8) == b"patience"


def test_no_descriptors_left_to_dial(place: Place) -> None:
    with descriptors_left(2):
        place.cut_off()
        place.record.wait_for(lambda: place.record.told)
    assert "cannot be reached (Too many open files)" in place.record.told[0]
    client, server = place.line()
    client.sendall(b"goes on")
    assert receive(server, 7) == b"goes on"


def test_a_client_that_is_gone_before_it_is_accepted(place: Place) -> None:
    for _ in range(20):
        reset(place.dial())
    client = place.dial()
    client.sendall(b"!")
    got = b""
    while not got:  # those who were accepted all the same come first
        with contextlib.suppress(*CUT):
            got = place.accept().recv(1)
    assert got == b"!"
    assert {end for flow in range(place.relay.count - 1) for end in place.record.ends(flow)} <= {(True, "RST")}


def test_nobody_there_any_more_and_nothing_to_read() -> None:
    """What the system announces can be gone again when it is looked at, and a pair with it."""
    place = Place(socket.create_server(("127.0.0.1", 0)))
    place.relay._accept(selectors.EVENT_READ)
    assert place.relay.count == 0
    with socket.create_connection(place.relay.address, SECONDS):
        place.relay._accept(selectors.EVENT_READ)
        (pair,) = place.relay._pairs
        server = place.accept()
        assert pair._server is not None
        pair._handle(pair._server, selectors.EVENT_WRITE)
        for _ in range(2):
            pair._handle(pair._client, selectors.EVENT_READ)
            pair._handle(pair._server, selectors.EVENT_READ)
            pair.close()
        assert receive_all(server) == b""
    assert len(place.record.packets) == 3
    with place:
        pass


def test_nothing_is_recorded_for_who_has_broken_off() -> None:
    """Neither what comes while that one's last words are read, nor in the moment in which the end is prepared."""
    place = Place(socket.create_server(("127.0.0.1", 0)))
    with socket.create_connection(place.relay.address, SECONDS):
        place.relay._accept(selectors.EVENT_READ)
        (pair,) = place.relay._pairs
        server = place.accept()
        assert pair._server is not None
        pair._handle(pair._server, selectors.EVENT_WRITE)
        assert pair._server.interest == selectors.EVENT_READ
        server.sendall(b"too late")
        pair._client.broken = True
        pair._settle(pair._client, pair._server)
        assert (pair._server.interest, pair._client.interest) == (0, selectors.EVENT_READ)
        pair._client.ended = True
        pair._settle(pair._client, pair._server)
        pair._handle(pair._server, selectors.EVENT_READ)
        assert (pair._server.interest, pair._client.interest) == (selectors.EVENT_WRITE, 0)
        assert len(place.record.packets) == 3
        with place:
            assert until_reset(server) == b""
    assert place.record.ends() == [(True, "RST")]
    assert place.record.stream(0, from_client=False) == b""


# Addresses


def test_a_host_that_is_unknown() -> None:
    with pytest.raises(ConfigurationError, match=r"^--to: nowhere\.invalid has no address \(.+\)$") as refused:
        Relay(("127.0.0.1", 0), ("nowhere.invalid", 5_555), Capture())
    assert refused.value.hint == "name a host that exists"
    with pytest.raises(ConfigurationError, match=r"^--listen: nowhere\.invalid has no address \(.+\)$"):
        Relay(("nowhere.invalid", 0), ("127.0.0.1", 5_555), Capture())


def test_an_address_that_cannot_be_listened_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError) as refused:
            Relay(("127.0.0.1", port), ("127.0.0.1", 5_555), Capture())
    assert str(refused.value) == f"--listen: 127.0.0.1:{port} cannot be listened on (Address already in use)"
    assert refused.value.hint == "name an address of this machine, and a free port"
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1:0 cannot .* \(Cannot assign requested address\)"):
        Relay(("192.0.2.1", 0), ("127.0.0.1", 5_555), Capture())


@pytest.mark.parametrize("listen", ["127.0.0.1", "0.0.0.0"])
def test_a_relay_does_not_lead_to_itself(listen: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    with pytest.raises(ConfigurationError) as refused:
        Relay((listen, port), ("127.0.0.1", port), Capture())
    assert str(refused.value) == f"--to: 127.0.0.1:{port} is the relay itself"
    assert refused.value.hint == "name the service's port"


@pytest.mark.parametrize(("listen", "onward"), [("127.0.0.2", "127.0.0.1"), ("0.0.0.0", "192.0.2.1")])
def test_the_same_port_elsewhere_is_no_loop(listen: str, onward: str) -> None:
    with socket.create_server((listen, 0)) as once:
        port = once.getsockname()[1]
    with Relay((listen, port), (onward, port), Capture()) as relay:
        assert relay.address == (listen, port)


def test_ipv6_addresses_are_shown_with_brackets() -> None:
    assert module.shown(("::1", 5_555, 0, 0)) == "[::1]:5555"
    assert module.shown(("127.0.0.1", 5_555)) == "127.0.0.1:5555"
