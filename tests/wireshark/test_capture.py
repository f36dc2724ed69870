"""What is recorded stands in the order of recording, whoever records it."""

import threading
from itertools import pairwise
from pathlib import Path

import pytest
from wireshark.tshark import tshark

from securedelivery.wireshark import pcapng
from securedelivery.wireshark.capture import Capture, Recorded
from securedelivery.wireshark.tcp import Endpoint

SHOP = Endpoint("192.0.2.1", 5555)
SIZE = 10_000


def client(number: int) -> Endpoint:
    return Endpoint("192.0.2.10", 40_000 + number)


def write(path: Path, packets: list[Recorded]) -> Path:
    blocks = [pcapng.packet(packet.data, at=packet.at) for packet in packets]
    path.write_bytes(pcapng.section_header("tests") + pcapng.interface(pcapng.ETHERNET, "wire") + b"".join(blocks))
    return path


def test_a_connection() -> None:
    capture = Capture()
    flow = capture.flow(client(0), SHOP)
    assert len(capture.packets) == capture.count == 3
    assert flow.sent(True, b"hello") == range(4, 5)
    assert flow.sent(False, b"x" * SIZE) == range(5, 12)
    flow.finished(False)
    assert flow.sent(True, b"still here") == range(14, 15)
    flow.reset(True)
    assert [(packet.flow, packet.from_client, len(packet.payload)) for packet in capture.packets] == [
        (0, True, 0), (0, False, 0), (0, True, 0),
        (0, True, 5), *[(0, False, 1_460)] * 6, (0, False, SIZE - 6 * 1_460),
        (0, False, 0), (0, True, 0), (0, True, 10), (0, True, 0),
    ]  # fmt: skip
    assert capture.count == 15
    for packet in capture.packets:
        assert packet.data.endswith(packet.payload)


def test_the_numbers_are_those_of_the_packets_that_carry_it() -> None:
    capture = Capture()
    flows = [capture.flow(client(number), SHOP) for number in range(3)]
    for size in (1, 1_459, 1_460, 1_461, 32_767, 32_768, 32_769, 70_000, 200_000):
        for flow in flows:
            data = flow.number.to_bytes(1) * size
            numbers = flow.sent(size % 2 == 0, data)
            carrying = [capture.packets[number - 1] for number in numbers]
            assert b"".join(packet.payload for packet in carrying) == data
            assert carrying[0].payload
            assert carrying[-1].payload
            assert {packet.flow for packet in carrying} == {flow.number}


def test_nothing_sent_is_nothing_recorded() -> None:
    capture = Capture()
    flow = capture.flow(client(0), SHOP)
    assert list(flow.sent(True, b"")) == []
    flow.finished(True)
    before = capture.count
    assert list(flow.sent(True, b"too late")) == []
    flow.finished(True)
    assert capture.count == before


def test_time_goes_on_where_the_clock_does_not() -> None:
    times = iter([100, 100, 100, 5_000_000, 4_000_000, 0, 5_000_000, 9_000_000, *[9_000_000] * 100])
    capture = Capture(clock=lambda: next(times))
    capture.flow(client(0), SHOP).sent(True, bytes(SIZE))
    seen = [packet.at for packet in capture.packets]
    assert all(later > earlier for earlier, later in pairwise(seen))
    assert seen[3] == 5_000_000  # as the clock says, where it can be
    assert seen[7] == 9_000_000
    assert seen[-1] < 9_100_000


def test_the_system_clock() -> None:
    import time

    before = time.time_ns()
    capture = Capture()
    capture.flow(client(0), SHOP)
    assert before <= capture.packets[0].at <= time.time_ns()


def test_a_sink_gets_all_and_is_told_of_each_end() -> None:
    heard: list[str] = []
    capture = Capture(lambda packet: heard.append(str(len(packet.payload))), settle=lambda: heard.append("settled"))
    flow = capture.flow(client(0), SHOP)
    flow.sent(True, bytes(1_500))
    flow.sent(True, b"")
    flow.finished(True)
    flow.finished(True)
    flow.reset(False)
    flow.reset(False)
    assert heard == [*"000", "settled", "1460", "40", "settled", *"00", "settled", "0", "settled"]
    assert capture.packets == []
    assert capture.count == 8


def test_a_sink_that_fails_is_heard_and_locks_nobody_out() -> None:
    full = True

    def sink(_packet: Recorded) -> None:
        if full:
            raise OSError(28, "no space")

    capture = Capture(sink)
    with pytest.raises(OSError, match="no space"):
        capture.flow(client(0), SHOP)
    full = False
    assert capture.flow(client(1), SHOP).number == 1
    assert capture.count == 3


def test_addresses_of_two_kinds_take_no_number() -> None:
    capture = Capture()
    with pytest.raises(ValueError, match="two kinds"):
        capture.flow(Endpoint("::1", 40_000), SHOP)
    assert capture.flow(client(0), SHOP).number == 0
    assert capture.count == 3


def test_many_threads(tmp_path: Path) -> None:
    capture = Capture()
    together = threading.Barrier(8)
    problems: list[BaseException] = []

    def work(first: int) -> None:
        try:
            together.wait(10)
            for number in range(first, first + 10):
                flow = capture.flow(client(number), SHOP)
                for part in range(5):
                    data = bytes([number, part]) * 20_000
                    assert b"".join(capture.packets[at - 1].payload for at in flow.sent(part % 2 == 0, data)) == data
                flow.finished(True)
                flow.finished(False)
        except BaseException as error:  # noqa: BLE001 -- told below
            problems.append(error)

    threads = [threading.Thread(target=work, args=(10 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    packets = capture.packets
    assert len(packets) == capture.count
    assert all(later.at > earlier.at for earlier, later in pairwise(packets))
    first_seen = list(dict.fromkeys(packet.flow for packet in packets))
    assert first_seen == list(range(80))
    for number in range(80):
        sent = b"".join(packet.payload for packet in packets if packet.flow == number and packet.from_client)
        (who,) = set(sent[::2])
        assert sent == b"".join(bytes([who, part]) * 20_000 for part in (0, 2, 4))
    path = write(tmp_path / "threads.pcapng", packets)
    assert tshark(path, "-Y", "tcp.analysis.flags").stdout == ""
    rows = tshark(path, "-T", "fields", "-e", "tcp.stream").rows
    assert [int(row[0]) for row in rows] == [packet.flow for packet in packets]


def test_a_port_that_is_used_again_is_another_connection(tmp_path: Path) -> None:
    """As real clients do after some ten thousand connections. Wireshark notes it, and counts as the capture does."""
    capture = Capture()
    for _ in range(3):
        flow = capture.flow(client(0), SHOP)
        flow.sent(True, b"data")
        flow.finished(True)
        flow.finished(False)
    path = write(tmp_path / "again.pcapng", capture.packets)
    rows = tshark(path, "-T", "fields", "-e", "tcp.stream").rows
    assert [int(row[0]) for row in rows] == [packet.flow for packet in capture.packets]
    assert tshark(path, "-Y", "tcp.analysis.flags and !tcp.analysis.reused_ports").stdout == ""
