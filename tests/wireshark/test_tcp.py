"""Headers of our own making, read by a second implementation here and by tshark: a kernel's could not be more right."""

import socket
from dataclasses import dataclass
from pathlib import Path
from struct import unpack, unpack_from
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wireshark.tshark import tshark

from securedelivery.wireshark import pcapng
from securedelivery.wireshark.capture import Capture
from securedelivery.wireshark.tcp import Endpoint, TcpFlow, is_from_client, payload_of

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
WORLD = 2**32
FOUR = (Endpoint("192.0.2.10", 40_001), Endpoint("192.0.2.1", 5555))
SIX = (Endpoint("2001:db8::10", 40_001), Endpoint("2001:db8::1", 5555))
CHECKED = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")


@dataclass
class Packet:
    """A frame, taken apart by the RFCs."""

    sender: str
    receiver: str
    source_port: int
    destination_port: int
    sequence: int
    acknowledgement: int
    flags: int
    window: int
    options: bytes
    data: bytes
    identification: int | None


def take_apart(frame: bytes) -> Packet:
    (kind,) = unpack_from(">H", frame, 12)
    if kind == 0x0800:
        word, length, identification, fragment, ttl, protocol = unpack_from(">HHHHBB", frame, 14)
        assert (word, fragment, ttl) == (0x4500, 0x4000, 64)  # 20 bytes of header; not to be fragmented
        assert length == len(frame) - 14
        assert ones_sum(frame[14:34]) == 0xFFFF
        family, addresses, segment = socket.AF_INET, frame[26:34], frame[34:]
    else:
        assert kind == 0x86DD
        word, length, protocol, hops = unpack_from(">IHBB", frame, 14)
        assert (word, hops) == (0x6000_0000, 64)
        assert length == len(frame) - 54
        family, addresses, segment, identification = socket.AF_INET6, frame[22:54], frame[54:], None
    assert protocol == 6
    pseudo = addresses + len(segment).to_bytes(4) + bytes([0, 0, 0, 6])
    assert ones_sum(pseudo + segment) == 0xFFFF
    ports_and_numbers = unpack_from(">HHIIBBHHH", segment)
    source, destination, sequence, acknowledgement, offset, flags, window, _checksum, urgent = ports_and_numbers
    assert (offset & 15, urgent) == (0, 0)
    header = (offset >> 4) * 4
    half = len(addresses) // 2
    return Packet(
        socket.inet_ntop(family, addresses[:half]), socket.inet_ntop(family, addresses[half:]), source, destination,
        sequence, acknowledgement, flags, window, segment[20:header], segment[header:], identification,
    )  # fmt: skip


def ones_sum(data: bytes) -> int:
    """RFC 1071, word by word."""
    total = 0
    for (word,) in [unpack_from(">H", data + b"\0", at) for at in range(0, len(data), 2)]:
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total


class Watcher:
    """Follows a connection as its two ends would, and complains of what they would not understand."""

    def __init__(self, ends: tuple[Endpoint, Endpoint], sequences: tuple[int, int]) -> None:
        self.ends = ends
        self.next = {True: sequences[0], False: sequences[1]}
        self.acknowledged: dict[bool, int | None] = {True: None, False: None}  # by the other side
        self.arrived = {True: b"", False: b""}
        self.finished: set[bool] = set()
        self.reset = False
        self.most_unacknowledged = 0
        self.packets: list[Packet] = []

    def see(self, frames: list[bytes]) -> list[Packet]:
        seen = [self._one(frame) for frame in frames]
        self.packets += seen
        return seen

    def _one(self, frame: bytes) -> Packet:
        packet = take_apart(frame)
        client, server = self.ends
        mine = (packet.sender, packet.source_port) == (client.address, client.port)
        source, destination = (client, server) if mine else (server, client)
        assert (packet.sender, packet.source_port) == (source.address, source.port)
        assert (packet.receiver, packet.destination_port) == (destination.address, destination.port)
        assert not self.reset, "something after an RST"
        assert packet.sequence == self.next[mine], "a gap, or something sent twice"
        if packet.flags & ACK:
            assert packet.acknowledgement == self.next[not mine], "not all that there is"
            self.acknowledged[not mine] = packet.acknowledgement
        else:
            assert packet.acknowledgement == 0
        if packet.data:
            assert mine not in self.finished, "data behind the FIN"
        self.arrived[mine] += packet.data
        self.next[mine] = (
            self.next[mine] + len(packet.data) + bool(packet.flags & SYN) + bool(packet.flags & FIN)
        ) % WORLD
        if packet.flags & FIN:
            assert mine not in self.finished
            self.finished.add(mine)
        self.reset = bool(packet.flags & RST)
        if (sure := self.acknowledged[mine]) is not None:
            self.most_unacknowledged = max(self.most_unacknowledged, (self.next[mine] - sure) % WORLD)
        assert is_from_client(frame) == mine
        assert payload_of(frame) == packet.data
        return packet


def opened(
    ends: tuple[Endpoint, Endpoint] = FOUR, sequences: tuple[int, int] = (1_000, 2_000)
) -> tuple[TcpFlow, Watcher]:
    flow, watcher = TcpFlow(*ends, sequences=sequences), Watcher(ends, sequences)
    watcher.see(flow.open())
    return flow, watcher


BOTH = pytest.mark.parametrize(("ends", "segment"), [(FOUR, 1_460), (SIX, 1_440)], ids=["IPv4", "IPv6"])
SEQUENCE = st.sampled_from([0, 1, 2**31 - 1, 2**31, WORLD - 2, WORLD - 1]) | st.integers(0, WORLD - 1)
STEP = st.one_of(
    st.tuples(st.just("send"), st.booleans(), st.integers(0, 5_000) | st.integers(30_000, 70_000)),
    st.tuples(st.just("finish"), st.booleans(), st.just(0)),
    st.tuples(st.just("reset"), st.booleans(), st.just(0)),
)


@settings(deadline=None, max_examples=300)
@given(ends=st.sampled_from([FOUR, SIX]), sequences=st.tuples(SEQUENCE, SEQUENCE), steps=st.lists(STEP, max_size=12))
def test_any_conversation_is_one_that_both_ends_understand(
    ends: tuple[Endpoint, Endpoint], sequences: tuple[int, int], steps: list[tuple[str, bool, int]]
) -> None:
    flow, watcher = opened(ends, sequences)
    expected = {True: b"", False: b""}
    finished: set[bool] = set()
    reset = False
    for number, (step, from_client, size) in enumerate(steps):
        if step == "send":
            data = bytes([number]) * size
            watcher.see(flow.send(from_client, data))
            if from_client not in finished and not reset:
                expected[from_client] += data
        elif step == "finish":
            watcher.see(flow.finish(from_client))
            finished |= set() if reset else {from_client}
        else:
            watcher.see(flow.reset(from_client))
            reset = reset or len(finished) < 2
        assert (watcher.arrived, watcher.finished, watcher.reset) == (expected, finished, reset)
    assert watcher.most_unacknowledged <= 65_535


@BOTH
def test_the_opening(ends: tuple[Endpoint, Endpoint], segment: int) -> None:
    _, watcher = opened(ends, (7, WORLD - 1))
    assert [packet.flags for packet in watcher.packets] == [SYN, SYN | ACK, ACK]
    assert [packet.sequence for packet in watcher.packets] == [7, WORLD - 1, 8]
    assert [packet.acknowledgement for packet in watcher.packets] == [0, 8, 0]
    options = b"\x02\x04" + segment.to_bytes(2) + b"\x01\x03\x03\x07"
    assert [packet.options for packet in watcher.packets] == [options, options, b""]
    assert watcher.next == {True: 8, False: 0}


@BOTH
def test_segments_are_as_long_as_they_may_be(ends: tuple[Endpoint, Endpoint], segment: int) -> None:
    for size in (1, segment - 1, segment, segment + 1, 2 * segment, 2 * segment + 1):
        flow, watcher = opened(ends)
        sizes = [len(packet.data) for packet in watcher.see(flow.send(True, bytes(size)))]
        assert sizes == [segment] * (size // segment) + [size % segment] * (size % segment > 0)
        pushed = [bool(packet.flags & PSH) for packet in watcher.packets[3:]]
        assert pushed == [False] * (len(sizes) - 1) + [True]
        assert max(len(frame) for frame in flow.send(False, bytes(size))) <= 14 + 1_500


def test_nothing_is_no_packet() -> None:
    flow, _ = opened()
    assert flow.send(True, b"") == []


@BOTH
def test_much_one_way_is_acknowledged_now_and_then(ends: tuple[Endpoint, Endpoint], segment: int) -> None:
    flow, watcher = opened(ends)
    pure = [packet for packet in watcher.see(flow.send(False, bytes(1_000_000))) if not packet.data]
    assert {packet.flags for packet in pure} == {ACK}
    assert len(pure) == 1_000_000 // (-(-32_768 // segment) * segment)
    assert 32_768 <= watcher.most_unacknowledged < 32_768 + segment
    assert watcher.arrived[False] == bytes(1_000_000)


def test_an_answer_acknowledges_too() -> None:
    flow, watcher = opened()
    for _ in range(100):
        assert len(watcher.see(flow.send(True, bytes(1_000)))) == 1
        assert len(watcher.see(flow.send(False, bytes(1_000)))) == 1
    assert watcher.most_unacknowledged == 1_000


def test_half_closed_the_other_side_goes_on() -> None:
    flow, watcher = opened()
    watcher.see(flow.send(True, b"question"))
    assert [packet.flags for packet in watcher.see(flow.finish(True))] == [FIN | ACK, ACK]
    watcher.see(flow.send(False, bytes(100_000)))
    watcher.see(flow.finish(False))
    assert watcher.finished == {True, False}
    assert watcher.arrived == {True: b"question", False: bytes(100_000)}
    assert flow.reset(True) == []  # it is over


def test_nothing_comes_behind_an_end() -> None:
    flow, _ = opened()
    flow.finish(True)
    assert flow.finish(True) == []
    assert flow.send(True, b"late") == []
    assert len(flow.reset(False)) == 1
    for from_client in (True, False):
        assert flow.send(from_client, b"late") == []
        assert flow.finish(from_client) == []
        assert flow.reset(from_client) == []


def test_sequence_numbers_begin_where_nobody_knows() -> None:
    begun = [take_apart(TcpFlow(*FOUR).open()[0]).sequence for _ in range(5)]
    assert len(set(begun)) == 5


def test_identifications_count_and_wrap() -> None:
    flow, watcher = opened()
    seen = [packet.identification for packet in watcher.packets if packet.sender == FOUR[0].address]
    for _ in range(65_600):
        (frame,) = flow.send(True, b"x")
        seen += unpack_from(">H", frame, 18)
        flow._client.acknowledged = flow._server.sequence  # nobody else sends, and nothing is due
        flow._server.acknowledged = flow._client.sequence
    assert seen == [number % 65_536 for number in range(1, len(seen) + 1)]


@BOTH
def test_every_checksum(ends: tuple[Endpoint, Endpoint], segment: int) -> None:
    """As kernels write them: 0xFFFF, the other zero of one's complement, never occurs (RFC 1071)."""
    at = 16 + (34 if ends is FOUR else 54)
    values = set()
    for word in range(65_536):
        flow = TcpFlow(*ends, sequences=(0, 0))
        (frame,) = flow.send(True, word.to_bytes(2))
        checksum = unpack_from(">H", frame, at)[0]
        values.add(checksum)
        if checksum in (0, 1, 0xFFFE) or word % 4_096 == 0:
            take_apart(frame)
    assert values == set(range(0xFFFF))


def test_an_odd_number_of_bytes() -> None:
    flow, watcher = opened()
    for size in range(1, 40):
        watcher.see(flow.send(True, bytes(range(1, size + 1))))


@pytest.mark.parametrize(
    ("client", "server"), [("192.0.2.1", "2001:db8::1"), ("::1", "127.0.0.1"), ("shop.example", "127.0.0.1")]
)
def test_addresses_that_cannot_be(client: str, server: str) -> None:
    with pytest.raises(ValueError):
        TcpFlow(Endpoint(client, 1), Endpoint(server, 2))


def test_a_zone_is_no_part_of_an_address() -> None:
    """A client on a link-local address has one."""
    flow = TcpFlow(Endpoint("fe80::1%eth0", 40_000), Endpoint("fe80::2%eth0", 5555))
    assert [take_apart(frame).sender for frame in flow.open()] == ["fe80::1", "fe80::2", "fe80::1"]


# The same, as Wireshark sees it


def write(path: Path, frames: list[bytes]) -> Path:
    blocks = [pcapng.packet(frame, at=number * 1_000_000) for number, frame in enumerate(frames)]
    path.write_bytes(pcapng.section_header("tests") + pcapng.interface(pcapng.ETHERNET, "wire") + b"".join(blocks))
    return path


def complaints(path: Path) -> str:
    bad = "tcp.analysis.flags or tcp.checksum.status != 1 or ip.checksum.status != 1"
    done = tshark(path, *CHECKED, "-Y", bad)
    assert done.code == 0, done.stderr
    return done.stdout


def conversations() -> list[bytes]:
    """All that there is: both kinds of addresses, much and little, wrapping numbers, every end."""
    frames: list[bytes] = []
    port = 40_000
    for kind in ("192.0.2.10", "192.0.2.1"), ("2001:db8::10", "2001:db8::1"):
        for sequences in ((0, 0), (WORLD - 1, WORLD - 100), (2**31 - 1, WORLD - 1_000_000)):
            for end in ("fin", "server fin", "rst", "server rst", "half", "fin rst", "answered rst", "open"):
                port += 1
                flow = TcpFlow(Endpoint(kind[0], port), Endpoint(kind[1], 5555), sequences=sequences)
                frames += flow.open()
                for from_client, size in (
                    (True, 517),
                    (False, 4_000),
                    (True, 300_000),
                    (False, 2_000_000 // 4),
                    (True, 1),
                ):
                    frames += flow.send(from_client, bytes(size))
                first = not end.startswith("server")
                if end in ("fin", "server fin"):
                    frames += flow.finish(first) + flow.finish(not first)
                elif end in ("rst", "server rst"):
                    frames += flow.reset(first)
                elif end == "half":
                    frames += flow.finish(True) + flow.send(False, bytes(200_000)) + flow.finish(False)
                elif end == "fin rst":
                    frames += flow.finish(True) + flow.reset(True)
                elif end == "answered rst":  # what a kernel does that gets data for a closed socket
                    frames += flow.finish(False) + flow.send(True, bytes(3_000)) + flow.reset(False)
    return frames


def test_tshark_finds_nothing_to_complain_of(tmp_path: Path) -> None:
    frames = conversations()
    path = write(tmp_path / "all.pcapng", frames)
    assert complaints(path) == ""
    ports = tshark(
        path, "-T", "fields", "-e", "tcp.stream", "-e", "tcp.srcport", "-Y", "tcp.flags.syn==1 and tcp.flags.ack==0"
    )
    assert ports.rows == [[str(number), str(40_001 + number)] for number in range(48)]
    assert tshark(path, "-T", "fields", "-e", "tcp.stream").stdout.count("\n") == len(frames)


def test_tshark_would_complain(tmp_path: Path) -> None:
    """The control: each thing that is right above, made wrong."""
    flow = TcpFlow(*FOUR)
    frames = [*flow.open(), *flow.send(True, bytes(5_000)), *flow.send(False, b"yes")]
    assert complaints(write(tmp_path / "right.pcapng", frames)) == ""
    altered = [*frames[:4], frames[4][:-1] + b"!", *frames[5:]]
    assert complaints(write(tmp_path / "checksum.pcapng", altered))
    assert "not captured" in complaints(write(tmp_path / "gap.pcapng", frames[:4] + frames[5:]))
    assert "Retransmission" in complaints(write(tmp_path / "twice.pcapng", [*frames, frames[4]]))
    header = frames[3][:22] + b"\x01" + frames[3][23:]  # the time to live
    assert complaints(write(tmp_path / "ip.pcapng", [*frames[:3], header, *frames[4:]]))


def test_tshark_reads_the_stream(tmp_path: Path) -> None:
    capture = Capture()
    flow = capture.flow(*SIX)
    flow.sent(True, b"".join(number.to_bytes(2) for number in range(2_000)))
    path = write(tmp_path / "stream.pcapng", [packet.data for packet in capture.packets])
    followed: Any = tshark(path, "-q", "-z", "follow,tcp,raw,0").stdout
    lines = [line for line in followed.splitlines() if line and set(line) <= set("0123456789abcdef")]
    assert bytes.fromhex("".join(lines)) == b"".join(number.to_bytes(2) for number in range(2_000))
    assert unpack(">2000H", bytes.fromhex("".join(lines))) == tuple(range(2_000))
