"""What the dissector makes of real traffic, whole, cut, altered and invented, in tshark."""

import json
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from wireshark.traffic import CLIENT, SERVER, Line, Studio
from wireshark.tshark import Result, tshark

from securedelivery.errors import Reason
from securedelivery.protocol.authentication import NO_CERTIFICATE, Auth, encode_auth
from securedelivery.protocol.frames import HEADER, FrameKind, pad
from securedelivery.wireshark.plugin import plugin
from securedelivery.wireshark.tcp import Endpoint

C2S, S2C = "client to server", "server to client"
AS_FRAMES = ("-d", "tcp.port==5555,securedelivery")  # for frames that no TLS is around
CUT_SHORT = "appears to have been cut short in the middle of a packet"  # tshark's own words


class Frame(NamedTuple):
    packet: int
    fields: Mapping[str, str]

    def __getattr__(self, name: str) -> str | None:
        return self.fields.get(name)


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "securedelivery.lua"
    path.write_text(plugin(), encoding="utf-8")
    return path


@pytest.fixture
def run(script: Path) -> Callable[..., Result]:
    def run(capture: Path, *arguments: str | Path, complaint: str = "", **more: Any) -> Result:
        result = tshark(capture, "-X", "lua_script:{}", script, *arguments, **more)
        said = [line for line in result.stderr.splitlines() if not complaint or complaint not in line]
        assert said == []
        return result

    return run


Dissect = Callable[..., list[Frame]]


@pytest.fixture
def dissect(run: Callable[..., Result]) -> Dissect:
    """All frames of a capture, the same in one pass and in two, of which the first makes no fields."""

    def dissect(capture: Path, *arguments: str | Path, **more: Any) -> list[Frame]:
        result = run(capture, *arguments, "-Y", "securedelivery", "-T", "json", "-J", "frame securedelivery", **more)
        packets = json.loads(result.stdout or "[]", object_pairs_hook=list)
        frames = [frame for packet in packets for frame in _frames(dict(dict(packet)["_source"])["layers"])]
        columns = [word for name in NAMES for word in ("-e", f"securedelivery.{name}")]
        again = run(capture, "-2", *arguments, "-T", "fields", "-e", "frame.number", *columns, **more).rows
        assert [row for row in again if any(row[1:])] == _rows(frames)
        return frames

    return dissect


NAMES = ("status", "counter", "direction", "diagnosis")


def _rows(frames: list[Frame]) -> list[list[str]]:
    """What `-T fields` says of the frames: a row a packet, the values of its frames joined."""
    packets: dict[int, list[Frame]] = {}
    for frame in frames:
        packets.setdefault(frame.packet, []).append(frame)
    return [
        [str(number), *(",".join(filter(None, (getattr(one, name) for one in within))) for name in NAMES)]
        for number, within in packets.items()
    ]


def _frames(layers: list[tuple[str, Any]]) -> list[Frame]:
    number = next(int(dict(value)["frame.number"]) for name, value in layers if name == "frame")
    return [
        Frame(number, dict(reversed(_flat(content))))  # of several, the first
        for name, content in layers
        if name == "securedelivery"
    ]


def _flat(content: Any) -> list[tuple[str, str]]:
    found = []
    for name, value in content if isinstance(content, list) else []:
        if isinstance(value, list):
            found += _flat(value)
        elif name == "_ws.expert.message":
            found.append(("expert", value))
        else:
            found.append((name.removeprefix("securedelivery.").replace(".", "_"), value))
    return found


def of(frames: Sequence[Frame], direction: str) -> list[Frame]:
    return [frame for frame in frames if frame.direction == direction]


def statuses(frames: Sequence[Frame]) -> list[str | None]:
    return [frame.status for frame in frames]


def plain(
    studio: Studio, *parts: tuple[bool, bytes], begins: int = 0, missing: int | None = None, keys: str = ""
) -> Path:
    """A capture of one connection without TLS around its frames; keys: in the comment of its first packet.

    parts: each a TCP segment or several. begins: how many of the parts came before the capture. missing: the one that
    the capture has not.
    """
    starts = [len(studio.capture.packets) + 1]
    flow = studio.capture.flow(CLIENT, SERVER)
    for from_client, data in parts:
        starts.append(len(studio.capture.packets) + 1)
        flow.sent(from_client, data)
    first = starts[begins + 1] if begins else starts[0]
    packets = set(range(first, len(studio.capture.packets) + 1))
    if missing is not None:
        packets -= set(range(starts[missing + 1], starts[missing + 2]))
    return studio.write(tls_keys=False, comments={first: [keys]}, packets=packets)


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 128 >> bit % 8
    return bytes(changed)


def with_keys(studio: Studio, *lines: Line) -> Path:
    return studio.write(comments={line.syn: [f"a connection\n{line.frame_keys}"] for line in lines})


def converse(line: Line, *, turns: int = 3, record: int = 16_384, together: bool = True) -> None:
    line.greet(record=record, together=together)
    for number in range(1, turns + 1):
        asked = line.ask(number, "order.place", idempotency_key=f"key-{number}", address="5 Harbour Lane, Bristol")
        line.send(True, asked, record=record, together=together)
        line.send(False, line.answer(number, order=number, total=129_900), record=record, together=together)
    line.close()


def test_an_ordinary_connection_is_open_from_end_to_end(studio: Studio, dissect: Dissect) -> None:
    line = studio.line()
    converse(line)
    frames = dissect(with_keys(studio, line))
    up, down = of(frames, C2S), of(frames, S2C)
    assert len(up) + len(down) == len(frames)
    assert [frame.kind for frame in up] == ["1", "2", "3", "3", "3", "4"]
    assert [frame.kind for frame in down] == ["1", "2", "3", "3", "3", "3", "4"]
    for way in (up, down):
        assert statuses(way) == ["clear", *["opened"] * (len(way) - 1)]
        assert [frame.counter for frame in way] == [None, *map(str, range(len(way) - 1))]
        assert {frame.tag_ok for frame in way[1:]} == {"1"}
        assert {frame.rekeys for frame in way[1:]} == {"0"}
        assert way[-1].close_reason == "bye"
        assert not any(frame.expert for frame in way)
    assert [frame.method for frame in up[2:5]] == ["order.place"] * 3
    assert [frame.id for frame in up[2:5]] == ["1", "2", "3"] == [frame.id for frame in down[3:6]]
    assert down[2].method == "system.welcome"
    sent = '{"jsonrpc":"2.0","id":1,"method":"order.place","params":'
    sent += '{"idempotency_key":"key-1","address":"5 Harbour Lane, Bristol"}}'
    assert up[2].plaintext == sent
    assert int(up[2].padding or "") == -len(sent) % 64
    assert int(up[2].length or "") == len(pad(sent.encode())) + 16


def test_the_parts_of_the_handshake_and_of_auth(studio: Studio, dissect: Dissect) -> None:
    line = studio.line()
    hello = line.hello()
    flight = line.flight(hello)
    proof = line.proof()
    for from_client, data in ((True, hello), (False, flight), (True, proof)):
        line.send(from_client, data)
    frames = dissect(with_keys(studio, line))
    first, second, server, client = frames

    def joined(*parts: str | None) -> str:
        return "".join((part or "").replace(":", "") for part in parts)

    assert joined(first.noise_e, first.noise_e1) == hello[4:].hex()
    parts = (second.noise_e, second.noise_ekem1, second.noise_ekem1_tag, second.noise_payload_tag)
    assert joined(*parts) == flight[4:1156].hex()
    for auth, credentials in ((server, studio.shop.host.credentials), (client, studio.shop.alice.credentials)):
        assert auth.auth_chain_length == str(len(credentials.chain))
        assert joined(auth.auth_certificate) == credentials.chain[3:].hex()
        assert int(auth.auth_scheme or "", 16) == 0x0403
        signature = len(joined(auth.auth_signature)) // 2
        assert int(auth.auth_padding or "") == 1_024 - 3 - len(credentials.chain) - 4 - signature
    assert joined(client.tag) == proof[-16:].hex()


def test_certificates_and_json_are_wiresharks_own_to_show(studio: Studio, run: Callable[..., Result]) -> None:
    line = studio.line()
    converse(line, turns=1)
    shown = run(with_keys(studio, line), "-V", "-Y", "securedelivery.kind").stdout
    assert "uniformResourceIdentifier: spiffe://shop.test/account/alice" in shown
    assert "dNSName: localhost" in shown
    assert "Key: idempotency_key" in shown
    names = ("json.value.string", "x509ce.dNSName")
    rows = run(
        studio.folder / "capture.pcapng", "-T", "fields", *(word for name in names for word in ("-e", name))
    ).rows
    assert any("order.place" in row[0] for row in rows)
    assert any("localhost" in row[-1] for row in rows)


def test_columns_say_what_is_in_a_packet(studio: Studio, run: Callable[..., Result]) -> None:
    line = studio.line()
    line.greet()
    line.send(True, line.ask(1) + line.ask(2), record=40)
    line.send(False, line.server.send_close("bye"))
    columns = ("-T", "fields", "-e", "_ws.col.Protocol", "-e", "_ws.col.Info")
    rows = run(with_keys(studio, line), "-Y", "securedelivery", *columns).rows
    assert {protocol for protocol, _ in rows} == {"SecureDelivery"}
    assert [info for _, info in rows] == [
        "HANDSHAKE",
        "HANDSHAKE | AUTH 0 1 certificate",
        "AUTH 0 1 certificate",
        "MESSAGE 1 system.welcome",
        "MESSAGE 1 system.ping (id 1) | MESSAGE 2 system.ping (id 2)",
        "CLOSE 2 bye",
    ]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("record", [1, 2, 5, 63, 300, 1_217])
def test_frames_may_be_cut_anywhere(studio: Studio, dissect: Dissect, record: int, together: bool) -> None:
    """A TLS record a byte, and a TCP segment a record: the frames are the same."""
    line = studio.line()
    line.greet()
    requests = [line.ask(number, "order.get", order=number) for number in range(1, 6)]
    line.send(True, b"".join(requests), record=record, together=together)
    line.send(False, b"".join(line.answer(number) for number in range(1, 6)), record=record, together=together)
    line.close()
    frames = dissect(with_keys(studio, line))
    up, down = of(frames, C2S), of(frames, S2C)
    assert statuses(frames) == ["clear"] * 2 + ["opened"] * (len(frames) - 2)
    assert [frame.id for frame in up if frame.id] == [str(number) for number in range(1, 6)]
    assert [frame.id for frame in down if frame.id] == [str(number) for number in range(1, 6)]
    assert [frame.counter for frame in up[1:]] == [str(number) for number in range(7)]


def test_the_handshake_in_records_of_a_byte(studio: Studio, dissect: Dissect) -> None:
    line = studio.line()
    line.greet(record=1)
    frames = dissect(with_keys(studio, line))
    assert statuses(frames) == ["clear", "clear", "opened", "opened", "opened"]


def test_the_largest_frame(studio: Studio, dissect: Dissect) -> None:
    line = studio.line()
    line.greet()
    line.send(True, line.ask(1, "chat.send", text="x" * 65_360))
    line.send(True, line.ask(2))
    frames = dissect(with_keys(studio, line))
    assert [(frame.length, frame.status) for frame in frames[-2:]] == [("65488", "opened"), ("80", "opened")]


def test_both_sides_speak_at_once(studio: Studio, dissect: Dissect) -> None:
    line = studio.line()
    line.greet()
    up = b"".join(line.ask(number, "order.get", order=number) for number in range(1, 9))
    down = b"".join(line.answer(number, order=number) for number in range(1, 9))
    for at in range(0, max(len(up), len(down)), 50):
        line.send(True, up[at : at + 50])
        line.send(False, down[at : at + 50])
    line.close()
    frames = dissect(with_keys(studio, line))
    assert statuses(frames) == ["clear"] * 2 + ["opened"] * (len(frames) - 2)
    assert [frame.id for frame in of(frames, C2S) if frame.id] == [str(number) for number in range(1, 9)]


def test_connections_side_by_side(studio: Studio, dissect: Dissect) -> None:
    """Also where they differ in nothing but the client's address."""
    lines = [studio.line(Endpoint(f"192.0.2.{10 + n}", 40_000 + n // 2)) for n in range(4)]
    for line in lines:
        line.greet()
    for number in range(1, 5):
        for line in lines:
            line.send(True, line.ask(number, "order.get", order=number))
        for line in reversed(lines):
            line.send(False, line.answer(number))
    for line in lines:
        line.close()
    frames = dissect(with_keys(studio, *lines))
    assert set(statuses(frames)) == {"clear", "opened"}
    assert [frame.status for frame in frames].count("clear") == 8
    assert [frame.counter for frame in of(frames, C2S) if frame.id] == [str(n) for n in range(1, 5) for _ in lines]


def test_a_port_on_both_ends(studio: Studio, dissect: Dissect) -> None:
    line = studio.line(Endpoint("192.0.2.10", 5555), Endpoint("192.0.2.1", 5555))
    converse(line)
    frames = dissect(with_keys(studio, line))
    assert statuses(frames) == ["clear"] * 2 + ["opened"] * (len(frames) - 2)
    assert [frame.method for frame in of(frames, C2S) if frame.method] == ["order.place"] * 3


def test_ipv6_and_another_port(studio: Studio, dissect: Dissect) -> None:
    """The ALPN alone says what it is."""
    line = studio.line(Endpoint("2001:db8::10", 40_000), Endpoint("2001:db8::1", 7_555))
    converse(line)
    frames = dissect(with_keys(studio, line))
    assert statuses(frames) == ["clear"] * 2 + ["opened"] * (len(frames) - 2)


def test_without_alpn_the_port_says_it(studio: Studio, dissect: Dissect) -> None:
    line = studio.line(alpn=False)
    converse(line, turns=1)
    assert "opened" in statuses(dissect(with_keys(studio, line)))


def test_the_port_is_a_preference(studio: Studio, dissect: Dissect) -> None:
    line = studio.line(server=Endpoint("192.0.2.1", 7_555), alpn=False)
    converse(line, turns=1)
    capture = with_keys(studio, line)
    assert dissect(capture) == []
    assert "opened" in statuses(dissect(capture, "-o", "securedelivery.port:7555"))


def test_rekeys_are_followed(studio: Studio, dissect: Dissect) -> None:
    line = studio.line()
    line.greet()
    for start in range(1, 2_101, 20):
        numbers = range(start, start + 20)
        line.send(True, b"".join(line.ask(number) for number in numbers))
        line.send(False, b"".join(line.answer(number) for number in numbers))
    line.close()
    frames = dissect(with_keys(studio, line))
    for direction in (C2S, S2C):
        way = of(frames, direction)
        assert statuses(way) == ["clear", *["opened"] * (len(way) - 1)]
        assert [frame.counter for frame in way[1:]] == [str(number) for number in range(len(way) - 1)]
        assert [frame.rekeys for frame in way[1:]] == [str(number // 1_024) for number in range(len(way) - 1)]
        assert len(way) > 2_100


# Keys

WRITER = """
local at, path, lines, done = %d, "%s", [[%s]], false
local function write()
    local file = io.open(path, "a")
    file:write(lines)
    file:close()
    done = true
end
local late = Proto("late_%d", "writes a key log at packet " .. at)
function late.dissector(_, pinfo)
    if pinfo.number == at and not done then
        write()
    end
end
register_postdissector(late)
if at == 0 then
    write()
end
"""


def writer(studio: Studio, name: str, lines: str, at: int = 0) -> tuple[str | Path, ...]:
    """Arguments for a script that appends to a file in tshark's folder: at once, or behind a packet."""
    path = studio.folder / f"writer-{name}-{at}.lua"
    path.write_text(WRITER % (at, name, lines, at))
    return "-X", "lua_script:{}", path


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("way", ["environment", "preference", "comment", "both logs"])
def test_where_keys_may_come_from(studio: Studio, dissect: Dissect, way: str, upper: bool) -> None:
    line = studio.line()
    converse(line, turns=1)
    keys = line.frame_keys
    if upper:
        keys = "".join(word.upper() if len(word) == 64 else word for word in re.split("([ \n])", keys))
    first, second = keys.splitlines()
    variable = {"SECUREDELIVERY_FRAME_KEYLOG": "one.log"}
    preference = ("-o", "securedelivery.keylog_file:two.log")
    capture = studio.write(comments={line.syn: [keys]} if way == "comment" else None)
    match way:
        case "environment":
            frames = dissect(capture, *writer(studio, "one.log", f"# a comment\n{keys}"), environment=variable)
        case "preference":
            frames = dissect(capture, *preference, *writer(studio, "two.log", keys))
        case "comment":
            frames = dissect(capture)
        case _:
            logs = (*writer(studio, "one.log", first), *writer(studio, "two.log", second, at=1))
            frames = dissect(capture, *preference, *logs, environment=variable)
    assert statuses(frames) == ["clear"] * 2 + ["opened"] * (len(frames) - 2)


def test_without_a_key_frames_are_closed_and_say_why(
    studio: Studio, dissect: Dissect, run: Callable[..., Result]
) -> None:
    line = studio.line()
    converse(line)
    capture = studio.write()
    frames = dissect(capture)
    assert statuses(frames) == ["clear"] * 2 + ["no key"] * (len(frames) - 2)
    assert [frame.counter for frame in of(frames, C2S)[1:]] == ["0", "1", "2", "3", "4"]
    assert not any(frame.plaintext or frame.tag_ok or frame.expert for frame in frames)
    shown = run(capture, "-V", environment={"SECUREDELIVERY_FRAME_KEYLOG": "nowhere.log"}).stdout
    e = line.frame_keys.split()[1]
    assert (
        f"no key: SD_FRAME_KEY_C2S {e[:8]}... is in no packet comment before it, nor in nowhere.log: No such" in shown
    )


def test_one_direction_has_a_key(studio: Studio, dissect: Dissect) -> None:
    line = studio.line()
    converse(line)
    frames = dissect(studio.write(comments={line.syn: [line.frame_keys.splitlines()[1]]}))
    assert set(statuses(of(frames, C2S))) == {"clear", "no key"}
    assert set(statuses(of(frames, S2C))) == {"clear", "opened"}


def test_a_key_of_another_connection_opens_nothing(studio: Studio, dissect: Dissect) -> None:
    line, other = studio.line(), studio.line(Endpoint("192.0.2.11", 40_001))
    converse(line, turns=1)
    converse(other, turns=1)
    e, foreign = line.frame_keys.split()[1], other.frame_keys.split()[2]
    wrong = f"SD_FRAME_KEY_C2S {e} {foreign}"
    frames = dissect(studio.write(comments={line.syn: [wrong]}))
    assert statuses(of(frames, C2S))[:3] == ["clear", "rejected", "behind a rejected frame"]
    assert "the key in the log is not this connection's" in (of(frames, C2S)[1].diagnosis or "")


@pytest.mark.parametrize(
    "lines",
    [
        "SD_FRAME_KEY_C2S",
        "SD_FRAME_KEY_C2S zz zz",
        "SD_FRAME_KEY_C2S {e}",
        "SD_FRAME_KEY_C2S {e} {e}00",
        "SD_FRAME_KEY_C2C {e} {e}",
        "SD_FRAME_KEY_C2S  {e} {e}",
        "\0\xff",
    ],
)
def test_lines_that_are_no_keys_are_passed_over(studio: Studio, dissect: Dissect, lines: str) -> None:
    line = studio.line()
    converse(line, turns=1)
    frames = dissect(studio.write(comments={line.syn: [lines.format(e=line.frame_keys.split()[1])]}))
    assert set(statuses(frames)) == {"clear", "no key"}


def test_keys_that_come_late(studio: Studio, script: Path, run: Callable[..., Result]) -> None:
    """As in a living capture: closed until the key is there, and all open when they are looked at again."""
    line = studio.line()
    line.greet()
    packets = []
    for number in range(1, 7):
        line.send(True, line.ask(number))
        packets.append(len(studio.capture.packets))
    capture = studio.write()
    arguments = (
        *writer(studio, "late.log", line.frame_keys[:200], at=packets[1]),  # half a line, as a writer leaves it
        *writer(studio, "late.log", line.frame_keys[200:], at=packets[3]),
    )
    shown = ("-Y", "securedelivery.kind == 3 && tcp.dstport == 5555", "-T", "fields", "-e", "securedelivery.status")
    variable = {"SECUREDELIVERY_FRAME_KEYLOG": "late.log"}
    once = run(capture, *arguments, *shown, environment=variable)
    # Of the first half, the line for this direction is whole.
    assert [row[0] for row in once.rows] == ["no key"] * 2 + ["opened"] * 4
    twice = run(capture, "-2", *arguments, *shown, environment=variable)
    assert [row[0] for row in twice.rows] == ["opened"] * 6


# What an attacker does


def tampered(studio: Studio, dissect: Dissect, change: Callable[[list[bytes]], list[bytes]]) -> list[Frame]:
    """Eight requests of which the attacker makes others; the frames from client to server behind AUTH."""
    line = studio.line()
    line.greet()
    for one in change([line.ask(number, "order.get", order=number) for number in range(1, 9)]):
        line.send(True, one)
    line.send(False, line.server.send_close("protocol_error", "it does not decrypt"))
    frames = dissect(with_keys(studio, line))
    assert of(frames, S2C)[-1].close_reason == "protocol_error"
    return of(frames, C2S)[2:]


def test_a_flipped_bit_is_rejected_wherever_it_is(studio: Studio, dissect: Dissect) -> None:
    lines = []
    bits = [4 * 8, 4 * 8 + 7, 40 * 8 + 3, 67 * 8, -128, -1]
    for number, bit in enumerate(bits):
        line = studio.line(Endpoint("192.0.2.10", 41_000 + number))
        line.greet()
        for request in range(1, 6):
            asked = line.ask(request)
            line.send(True, flip(asked, bit % (len(asked) * 8)) if request == 3 else asked)
        lines.append(line)
    frames = of(dissect(with_keys(studio, *lines)), C2S)
    messages = [frame for frame in frames if frame.kind == "3"]
    behind = "behind a rejected frame"
    assert statuses(messages) == ["opened", "opened", "rejected", behind, behind] * len(bits)
    for frame in messages[2::5]:
        assert frame.tag_ok == "0"
        assert frame.diagnosis == frame.expert == "altered: neither the counter 3 that is due nor another near it fits"
    assert {frame.counter for frame in messages[3::5]} == {None}


def test_a_replay_is_told_by_its_counter(studio: Studio, dissect: Dissect) -> None:
    frames = tampered(studio, dissect, lambda asked: [*asked[:3], asked[1], *asked[3:]])
    assert statuses(frames) == ["opened"] * 3 + ["rejected"] + ["behind a rejected frame"] * 5
    assert frames[3].diagnosis == "a replay: frame 2 again, where frame 4 is due"


def test_a_replay_in_one_packet_with_the_original(studio: Studio, dissect: Dissect) -> None:
    frames = tampered(studio, dissect, lambda asked: [asked[0] + asked[0] + asked[1]])
    assert statuses(frames) == ["opened", "rejected", "behind a rejected frame"]
    assert frames[1].diagnosis == "a replay: frame 1 again, where frame 2 is due"


@pytest.mark.parametrize(
    "change", [lambda asked: [asked[0], asked[2], asked[1], *asked[3:]], lambda asked: [asked[0], *asked[2:]]]
)
def test_what_comes_too_early_was_reordered_or_something_is_lost(
    studio: Studio, dissect: Dissect, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    frames = tampered(studio, dissect, change)
    assert statuses(frames)[:3] == ["opened", "rejected", "behind a rejected frame"]
    assert frames[1].diagnosis == ("too early: frame 3, where frame 2 is due; frames were lost, held back or reordered")


def test_a_frame_that_is_sent_back_to_its_sender(studio: Studio, dissect: Dissect) -> None:
    line = studio.line()
    line.greet()
    answer = line.answer(1)
    line.send(False, answer)
    line.send(True, answer)
    frames = dissect(with_keys(studio, line))
    assert of(frames, C2S)[-1].diagnosis == "reflected: the receiver's own frame 2, sent back to it"


def test_a_replay_over_a_rekey(studio: Studio, dissect: Dissect) -> None:
    line = studio.line()
    line.greet()
    asked = [line.ask(number) for number in range(1, 1_100)]
    line.send(True, b"".join([*asked, asked[5]]))
    last = of(dissect(with_keys(studio, line)), C2S)[-1]
    assert last.diagnosis == "a replay: frame 6 again, where frame 1100 is due"
    assert last.rekeys == "1"


def test_frames_lost_over_a_rekey(studio: Studio, dissect: Dissect) -> None:
    line = studio.line()
    line.greet()
    asked = [line.ask(number) for number in range(1, 1_100)]
    line.send(True, asked[0] + asked[-1])
    last = of(dissect(with_keys(studio, line)), C2S)[-1]
    assert (last.diagnosis or "").startswith("too early: frame 1099, where frame 2 is due")


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ((3, 1, 80), "flags are 0x01, not 0"),
        ((9, 0, 80), "unknown kind 9"),
        ((3, 0, 81), "a MESSAGE body cannot have 81 bytes"),
        ((3, 0, 0), "a MESSAGE body cannot have 0 bytes"),
        ((2, 0, 80), "a AUTH body cannot have 80 bytes"),
        ((1, 0, 80), "a HANDSHAKE body cannot have 80 bytes"),
        ((1, 0, 1_216), "HANDSHAKE is out of turn behind AUTH"),
        ((2, 0, 1_040), "AUTH is out of turn behind AUTH"),
    ],
)
def test_headers_against_the_protocol(
    studio: Studio, dissect: Dissect, header: tuple[int, int, int], fault: str
) -> None:
    line = studio.line()
    line.greet()
    line.send(True, HEADER.pack(*header) + bytes(header[2]))
    line.send(True, line.ask(1))
    *_, wrong, behind = of(dissect(with_keys(studio, line)), C2S)
    assert wrong.status == "rejected"
    assert wrong.expert == fault
    assert (behind.status, behind.expert) == ("behind a rejected frame", None)


def test_nothing_follows_close(studio: Studio, dissect: Dissect) -> None:
    line = studio.line()
    line.greet()
    line.send(True, line.client.send_close("bye") + sealed(line, FrameKind.MESSAGE, pad(b"{}")))
    assert of(dissect(with_keys(studio, line)), C2S)[-1].expert == "MESSAGE is out of turn behind CLOSE"


def sealed(line: Line, kind: FrameKind, plaintext: bytes) -> bytes:
    return line.client._seal(kind, plaintext)


CHAIN = (3).to_bytes(3) + b"abc"


@pytest.mark.parametrize(
    ("plaintext", "fault"),
    [
        ((1_022).to_bytes(3) + bytes(1_021), "AUTH is shorter than the lengths in it"),
        (bytes(3) + bytes(2) + (1_018).to_bytes(2) + bytes(1_017), "AUTH is shorter than the lengths in it"),
        (bytes(1_023) + b" ", "AUTH is padded with something other than zeros"),
        (bytes(3) + b"\4\3" + bytes(1_019), "AUTH has a signature and no certificate"),
        ((5).to_bytes(3) + CHAIN[:5] + bytes(1_016), "the certificate chain is cut short"),
        ((2).to_bytes(3) + bytes(1_021), "the certificate chain is cut short"),
        ((9).to_bytes(3) + CHAIN + bytes(1_015), "the certificate chain is cut short"),
    ],
)
def test_auth_that_is_not_what_it_should_be(studio: Studio, dissect: Dissect, plaintext: bytes, fault: str) -> None:
    line = studio.line()
    hello = line.hello()
    line.send(True, hello)
    line.send(False, line.flight(hello))
    line.send(True, sealed(line, FrameKind.AUTH, plaintext) + sealed(line, FrameKind.MESSAGE, pad(b"{}")))
    _, auth, behind = of(dissect(with_keys(studio, line)), C2S)
    assert (auth.status, auth.expert) == ("opened", fault)
    assert behind.status == "behind a rejected frame"


def test_a_client_without_certificate(studio: Studio, dissect: Dissect, run: Callable[..., Result]) -> None:
    line = studio.line()
    hello = line.hello()
    line.send(True, hello)
    line.send(False, line.flight(hello))
    line.send(True, sealed(line, FrameKind.AUTH, encode_auth(NO_CERTIFICATE)))
    capture = with_keys(studio, line)
    auth = of(dissect(capture), C2S)[-1]
    assert (auth.auth_chain_length, auth.auth_padding, auth.auth_signature) == ("0", "1017", None)
    assert "AUTH 0 no certificate" in run(capture).stdout


def test_a_certificate_that_is_none(studio: Studio, dissect: Dissect) -> None:
    """The X.509 dissector gets bytes that are no certificate at all."""
    line = studio.line()
    hello = line.hello()
    line.send(True, hello)
    line.send(False, line.flight(hello))
    dice = random.Random(3)
    for junk in (b"abc", b"\x30\x84\xff\xff\xff\xff", dice.randbytes(300)):
        auth = encode_auth(Auth(len(junk).to_bytes(3) + junk, (), 0x0403, b"signature"))
        line.send(True, sealed(line, FrameKind.AUTH, auth))
    auth = of(dissect(with_keys(studio, line)), C2S)[1]
    assert auth.auth_certificate == "61:62:63"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"", "not JSON-RPC"),
        (b"not json at all", "not JSON-RPC"),
        (b"[1,2,3]", "not JSON-RPC"),
        (b'{"id":7', "not JSON-RPC (id 7)"),
        (b'{"id":7,"result":{"method":"no.method"}}', "result (id 7)"),
        (b'{"id":"a\\"b","method":"x\\u0041"}', 'x\\u0041 (id a\\"b)'),
        (b' { "params" : {"a":["}",{}]} , "method" : "spaced" } ', "spaced"),
        (
            b'{"error":{"code":1409,"message":"}","data":{"reason":"out_of_stock","sku":"X"}},"id":3}',
            "error out_of_stock (id 3)",
        ),
        (b'{"error":{"code":-32700},"id":null}', "error (id null)"),
        (b'{"error":"text"}', "error"),
        (b'{"method"', "not JSON-RPC"),
        (b'{"method":"cut', "not JSON-RPC"),
        (b'{"params":{"a":"cut', "not JSON-RPC"),
        (b'{"params":[[[[', "not JSON-RPC"),
        (b'{"a":}', "not JSON-RPC"),
        (b"{" * 30_000, "not JSON-RPC"),
        (b"{" + b" " * 60_000 + b"}", "not JSON-RPC"),
        (b'{"method":"\xff\xfe\x00\x1b\n"}', "....."),
        ('{"method":"über"}'.encode(), "..ber"),
        (b'{"method":"","id":""}', " (id )"),
        (b'{"method":"' + b"x" * 60_000 + b'"}', "x" * 128),
    ],
)
def test_messages_of_every_sort(studio: Studio, run: Callable[..., Result], text: bytes, shown: str) -> None:
    line = studio.line()
    line.greet()
    line.send(True, sealed(line, FrameKind.MESSAGE, pad(text) or b" " * 64))
    capture = with_keys(studio, line)
    for passes in ((), ("-2",)):
        rows = run(
            capture,
            *passes,
            "-Y",
            "securedelivery.counter == 1 && tcp.dstport == 5555",
            "-T",
            "fields",
            "-e",
            "_ws.col.Info",
        ).rows
        assert len(rows) == 1
        info = rows[0][0].replace("\\\\", "\\")  # newer versions double it
        assert info == f"MESSAGE 1 {shown}"


def test_text_of_every_script_is_shown(studio: Studio, dissect: Dissect) -> None:
    line = studio.line()
    line.greet()
    line.send(True, line.ask(1, "chat.send", text="Grüße, 你好, \U0001f44b"))
    assert "Grüße, 你好, \U0001f44b" in (dissect(with_keys(studio, line))[-1].plaintext or "")


def test_close_that_is_not_json(studio: Studio, dissect: Dissect) -> None:
    line = studio.line()
    line.greet()
    line.send(True, sealed(line, FrameKind.CLOSE, pad(b"good bye")))
    assert of(dissect(with_keys(studio, line)), C2S)[-1].expert == "CLOSE is not what it should be"


def test_a_refusal_shows_its_reason(studio: Studio, dissect: Dissect) -> None:
    line = studio.line()
    line.greet()
    line.send(False, line.server.send_error(4, Reason.OUT_OF_STOCK, "only 2 are there", {"sku": "X", "available": 2}))
    last = dissect(with_keys(studio, line))[-1]
    assert (last.reason, last.id, last.method) == ("out_of_stock", "4", None)


# Endings


@pytest.mark.parametrize("from_client", [True, False])
def test_a_connection_that_is_cut_short_is_marked(
    studio: Studio, run: Callable[..., Result], from_client: bool
) -> None:
    line = studio.line()
    line.greet()
    line.send(not from_client, line.server.send_close("bye") if from_client else line.client.send_close("bye"))
    line.hang_up(from_client)
    line.hang_up(not from_client)
    for passes in ((), ("-2",)):
        rows = run(
            with_keys(studio, line),
            *passes,
            "-Y",
            "securedelivery.truncated",
            "-T",
            "fields",
            "-e",
            "tcp.dstport",
            "-e",
            "_ws.expert.message",
        ).rows
        (row,) = rows
        assert row[0] == ("5555" if from_client else "40001")
        assert row[1].startswith("TLS close_notify without a CLOSE before it")


def test_a_connection_that_is_reset_is_marked(studio: Studio, run: Callable[..., Result]) -> None:
    line = studio.line()
    line.greet()
    line.flow.reset(True)
    rows = run(
        with_keys(studio, line), "-Y", "securedelivery.truncated", "-T", "fields", "-e", "_ws.expert.message"
    ).rows
    assert ["TCP RST without a CLOSE" in row[0] for row in rows] == [True]


def test_a_proper_end_is_not_marked(studio: Studio, run: Callable[..., Result]) -> None:
    line = studio.line()
    converse(line)
    complaints = "securedelivery.truncated || securedelivery.protocol_error || securedelivery.rejected"
    assert run(with_keys(studio, line), "-Y", complaints).stdout == ""


# Captures that are not whole, and bytes that are not ours


def test_a_capture_that_begins_in_the_middle(studio: Studio, dissect: Dissect) -> None:
    line = studio.line()
    hello = line.hello()
    flight = line.flight(hello)
    asked = [(True, line.proof()), *((True, line.ask(number)) for number in range(1, 4)), (False, line.answer(1))]
    capture = plain(studio, (True, hello), (False, flight), *asked, begins=3, keys=line.frame_keys)
    frames = dissect(capture, *AS_FRAMES)
    assert statuses(frames) == ["counter unknown"] * 4
    assert {(frame.counter, frame.direction) for frame in frames} == {(None, None)}


def test_a_capture_that_begins_with_the_servers_handshake(studio: Studio, dissect: Dissect) -> None:
    line = studio.line()
    hello = line.hello()
    flight = line.flight(hello)
    rest = [(True, line.proof()), (True, line.ask(1))]
    capture = plain(studio, (True, hello), (False, flight), *rest, begins=1, keys=line.frame_keys)
    frames = dissect(capture, *AS_FRAMES)
    assert statuses(frames) == ["clear", *["counter unknown"] * 3]
    assert [frame.direction for frame in frames] == [S2C, S2C, C2S, C2S]


def test_frames_without_tls_can_be_decoded_as_such(studio: Studio, dissect: Dissect) -> None:
    line = studio.line()
    hello = line.hello()
    flight = line.flight(hello)
    rest = [(True, line.proof()), (True, line.ask(1)), (True, b"\3\0")]
    capture = plain(studio, (True, hello), (False, flight), *rest, keys=line.frame_keys)
    frames = dissect(capture, *AS_FRAMES)
    assert statuses(frames) == ["clear", "clear", "opened", "opened", "opened"]


def test_a_tcp_segment_that_the_capture_has_not(studio: Studio, dissect: Dissect) -> None:
    line = studio.line()
    hello = line.hello()
    flight = line.flight(hello)
    rest = [(True, line.proof()), *((True, line.ask(number)) for number in range(1, 5))]
    capture = plain(studio, (True, hello), (False, flight), *rest, missing=4, keys=line.frame_keys)
    last = of(dissect(capture, *AS_FRAMES), C2S)[-2:]
    assert statuses(last) == ["rejected", "behind a rejected frame"]
    assert (last[0].diagnosis or "").startswith("too early: frame 3, where frame 2 is due")


@pytest.mark.parametrize("alpn", [True, False])
def test_random_bytes_are_called_what_they_are(studio: Studio, dissect: Dissect, alpn: bool) -> None:
    dice = random.Random(8)
    line = studio.line(alpn=alpn)
    for _ in range(20):
        line.send(dice.random() < 0.5, dice.randbytes(dice.randrange(1, 3_000)), record=dice.randrange(1, 500))
    frames = dissect(studio.write())
    assert {frame.status for frame in frames} == {"rejected", "behind a rejected frame"}
    assert statuses(frames).count("rejected") == 2


@pytest.mark.parametrize("seed", range(6))
def test_random_bytes_in_a_real_connection(studio: Studio, dissect: Dissect, seed: int) -> None:
    """Behind real frames, in their headers, instead of them, in the handshake."""
    dice = random.Random(seed)
    lines = []
    for number in range(8):
        line = studio.line(Endpoint("192.0.2.10", 42_000 + number))
        hello = line.hello()
        flight = line.flight(hello)
        stream = [(True, hello), (False, flight), (True, line.proof())]
        stream += [(True, line.ask(request)) for request in range(1, 5)]
        stream += [(False, line.answer(request)) for request in range(1, 5)]
        for _ in range(dice.randrange(4)):
            at = dice.randrange(len(stream))
            side, data = stream[at]
            match dice.randrange(4):
                case 0:
                    stream[at] = (side, flip(data, dice.randrange(len(data) * 8)))
                case 1:
                    stream[at] = (side, data[: dice.randrange(len(data))])
                case 2:
                    stream[at] = (side, bytes([dice.randrange(1, 5), 0]) + dice.randbytes(dice.randrange(200)))
                case _:
                    stream.insert(at, (not side, data))
        for side, data in stream:
            line.send(side, data, record=dice.choice([7, 100, 16_384]))
        lines.append(line)
    frames = dissect(with_keys(studio, *lines))
    assert "opened" in statuses(frames)


def test_the_file_may_end_at_any_byte(studio: Studio, run: Callable[..., Result]) -> None:
    line = studio.line()
    converse(line, record=100)
    whole = with_keys(studio, line).read_bytes()
    cut = studio.folder / "cut.pcapng"
    counts = []
    dice = random.Random(2)
    for length in [*sorted(dice.sample(range(400, len(whole)), 25)), len(whole)]:
        cut.write_bytes(whole[:length])
        counts.append(len(run(cut, "-V", "-Y", "securedelivery.kind", complaint=CUT_SHORT).stdout))
    assert counts == sorted(counts)
    assert counts[-1] > 0


def test_any_packet_may_be_missing(studio: Studio, run: Callable[..., Result]) -> None:
    line = studio.line()
    converse(line)
    numbers = range(1, len(studio.capture.packets) + 1)
    for missing in numbers:
        capture = studio.write(comments={1: [line.frame_keys]}, packets=set(numbers) - {missing})
        shown = run(capture, "-2", "-T", "fields", "-e", "securedelivery.status").stdout
        assert "rejected" not in shown


def test_an_altered_byte_of_the_file_is_noticed(studio: Studio, run: Callable[..., Result]) -> None:
    """An altered byte of what the client sent inside TLS is a bad TLS record: nothing is opened from there on."""
    line = studio.line()
    converse(line)
    whole = with_keys(studio, line).read_bytes()
    shown = ("-T", "fields", "-e", "securedelivery.status")
    sound = run(studio.folder / "capture.pcapng", *shown).stdout
    altered = studio.folder / "altered.pcapng"
    start = whole.index(studio.capture.packets[-12].data) + 80
    for at in range(start, start + 12):
        altered.write_bytes(flip(whole, at * 8))
        assert run(altered, *shown).stdout.count("opened") < sound.count("opened")


# The script itself


def test_loaded_twice_it_is_there_once(studio: Studio, script: Path, dissect: Dissect) -> None:
    line = studio.line()
    converse(line, turns=1)
    capture = with_keys(studio, line)
    assert dissect(capture, "-X", "lua_script:{}", script) == dissect(capture)


# What Wireshark 4.6 has of libgcrypt, as wslua_gcrypt.c documents it: every call out of its turn or with something else
# than it takes is an error, which tshark shows. MODULE: aesgcm.lua; VERDICT: whether checktag() finds the tag right.
GCRYPT = """
local aesgcm = (function()
MODULE
end)()
local methods = {}
methods.__index = methods
_G.GCRY_CIPHER_AES256, _G.GCRY_CIPHER_MODE_GCM = "AES256", "GCM" -- which in libgcrypt are both 9
_G.GcryptCipher = {
    open = function(...)
        local algorithm, mode, flags, more = ...
        assert(algorithm == "AES256" and mode == "GCM" and flags == 0 and more == nil, "open")
        return setmetatable({ turn = "setkey" }, methods)
    end,
}

local function turn(handle, one, of, following)
    assert(of:find(handle.turn, 1, true), one .. " where it is the turn of " .. handle.turn)
    handle.turn = following
end

function methods:setkey(key)
    turn(self, "setkey", "setkey", "setiv")
    assert(key:len() == 32, "setkey")
    self.key = aesgcm.new(key:raw())
end

function methods:setiv(iv)
    turn(self, "setiv", "setiv", "authenticate")
    assert(iv:len() == 12, "setiv")
    self.iv = { iv:raw(0, 4), iv:raw(4, 4), iv:raw(8, 4) }
    for at, word in ipairs(self.iv) do
        local a, b, c, d = word:byte(1, 4)
        self.iv[at] = ((a * 256 + b) * 256 + c) * 256 + d
    end
end

function methods:authenticate(ad)
    turn(self, "authenticate", "authenticate", "decrypt")
    self.ad = ad:raw()
end

function methods:decrypt(in_place, ciphertext)
    turn(self, "decrypt", "decrypt", "checktag")
    assert(in_place == nil, "decrypt")
    local text = ciphertext:raw()
    local a, b, c, d = aesgcm.ghash(self.key, self.ad, text)
    self.tag = aesgcm.tag(self.key, self.iv[1], self.iv[2], self.iv[3], a, b, c, d)
    return ByteArray.new(aesgcm.crypt(self.key, self.iv[1], self.iv[2], self.iv[3], text), true)
end

function methods:checktag(tag)
    turn(self, "checktag", "checktag", "setiv")
    assert(tag:len() == 16, "checktag")
    if VERDICT then
        return 0
    end
    return 10, "Checksum error"
end
"""


def test_libgcrypt_and_lua_give_the_same(studio: Studio, dissect: Dissect, tmp_path: Path) -> None:
    """The first is Wireshark's own, where it has one; the stub holds the calls with every version."""
    line = studio.line()
    line.greet()
    asked = [line.ask(number) for number in range(1, 1_030)]
    line.send(True, b"".join(asked) + flip(line.ask(2_000), 99))
    capture = with_keys(studio, line)
    frames = dissect(capture)
    assert statuses(frames)[-2:] == ["opened", "rejected"]
    assert statuses(frames).count("opened") > 1_030
    pure = ("-o", "securedelivery.pure_lua:TRUE")
    assert dissect(capture, *pure) == frames

    module = files("securedelivery.wireshark").joinpath("aesgcm.lua").read_text(encoding="utf-8")
    stub = tmp_path / "gcrypt.lua"
    sound = GCRYPT.replace("VERDICT", "tag:raw() == self.tag").replace("MODULE", module)
    stub.write_text(sound, encoding="utf-8")
    assert dissect(capture, "-X", "lua_script:{}", stub) == frames
    stub.write_text(sound.replace("tag:raw() == self.tag", "false"), encoding="utf-8")  # that it is asked at all
    assert "opened" not in statuses(dissect(capture, "-X", "lua_script:{}", stub))
    assert dissect(capture, "-X", "lua_script:{}", stub, *pure) == frames


def test_twenty_thousand_frames_within_a_minute(studio: Studio, run: Callable[..., Result]) -> None:
    """Of 144 to 464 bytes, in Lua alone. The harness allows 90 seconds for starting tshark and all."""
    line = studio.line()
    line.greet()
    for number in range(1, 10_001):
        note = "x" * (number % 5 * 64)
        line.send(True, line.ask(number, "order.place", idempotency_key=f"key-{number}", note=note))
        line.send(False, line.answer(number, order=number, address="5 Harbour Lane, Bristol", note=note))
    capture = with_keys(studio, line)
    begin = time.monotonic()
    shown = run(capture, "-o", "securedelivery.pure_lua:TRUE", "-T", "fields", "-e", "securedelivery.status").stdout
    assert time.monotonic() - begin < 60
    assert shown.count("opened") == 20_003
    assert "rejected" not in shown
