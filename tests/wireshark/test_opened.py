"""Recorded connections opened again: held against what was sent, against tshark, and against bytes of any kind."""

import random
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from wireshark.told import opened, performed
from wireshark.traffic import HEADER, Line, Studio
from wireshark.tshark import require, tshark

from securedelivery.protocol.frames import FrameKind, pad
from securedelivery.wireshark import files
from securedelivery.wireshark.capture import Capture, Recorded
from securedelivery.wireshark.opened import OpenedLeg, Record, Status, open_play
from securedelivery.wireshark.plugin import plugin
from securedelivery.wireshark.relay import Relay
from securedelivery.wireshark.tcp import Endpoint

REKEY = 1_024
DONE_SECONDS = 30


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


@pytest.fixture
def line(studio: Studio) -> Line:
    return studio.line()


def opened_leg(studio: Studio, frame_keys: str, packets: Sequence[Recorded] | None = None) -> OpenedLeg:
    kept = studio.capture.packets if packets is None else packets
    (leg,) = open_play(kept, studio.key_log.read_text(), frame_keys)
    return leg


def messages(leg: OpenedLeg) -> list[str]:
    return [frame.message.says for frame in leg.frames if frame.message is not None]


def statuses(leg: OpenedLeg, *, from_client: bool) -> list[Status]:
    return [frame.status for frame in leg.frames if frame.from_client == from_client]


def altered(packets: Sequence[Recorded], number: int, place: int, bit: int = 1) -> list[Recorded]:
    """One bit of one packet's payload is flipped. number: of the packet, from 1; place: in its payload."""
    changed = list(packets)
    one = changed[number - 1]
    payload = bytearray(one.payload)
    payload[place] ^= bit
    changed[number - 1] = one._replace(payload=bytes(payload), data=one.data[: -len(payload)] + payload)
    return changed


def conversation(line: Line) -> None:
    line.greet()
    line.send(True, line.ask(1, "order.place", lines=[]))
    line.send(False, line.answer(1, order=7) + line.server.send_notification("order.changed", {"order": 7}))
    line.close()


# What was said


def test_a_conversation_is_opened_as_it_was_said(studio: Studio, line: Line) -> None:
    conversation(line)
    leg = opened_leg(studio, line.frame_keys)
    assert [(frame.from_client, frame.kind_name, frame.counter) for frame in leg.frames] == [
        (True, "HANDSHAKE", None),
        (False, "HANDSHAKE", None),
        (False, "AUTH", 0),
        (True, "AUTH", 0),
        (False, "MESSAGE", 1),
        (True, "MESSAGE", 1),
        (False, "MESSAGE", 2),
        (False, "MESSAGE", 3),
        (True, "CLOSE", 2),
        (False, "CLOSE", 4),
    ]
    assert messages(leg) == [
        "system.welcome (notification)",
        "order.place (id 1)",
        "result of order.place (id 1)",
        "order.changed (notification)",
        "CLOSE bye",
        "CLOSE bye",
    ]
    assert {frame.status for frame in leg.frames} == {Status.CLEAR, Status.OPENED}
    order = leg.frames[5]
    assert order.content == b'{"jsonrpc":"2.0","id":1,"method":"order.place","params":{"lines":[]}}'
    assert order.plaintext == pad(order.content)
    assert order.padding == 64 * 2 - len(order.content)
    assert order.raw == order.header + order.body + order.tag
    assert (len(order.header), len(order.tag), len(order.body)) == (4, 16, 128)
    auth = leg.frames[3].auth
    assert auth is not None
    assert auth.certificates == (studio.shop.alice.certificate,)
    sizes = 3 + len(auth.chain) + 2 + 2 + len(auth.signature)
    assert leg.frames[3].padding == 1_024 - sizes
    assert len(leg.frames[3].content) == sizes


def test_what_the_hellos_say(studio: Studio, line: Line) -> None:
    leg = opened_leg(studio, "")
    assert (leg.number, leg.packets[0], leg.server_name) == (0, 1, "localhost")
    assert leg.offered_alpn == ("securedelivery/1",)
    assert leg.alpn == "securedelivery/1"
    assert leg.cipher_suite == "TLS_AES_256_GCM_SHA384"
    assert leg.tls_group in {"x25519", "X25519MLKEM768"}
    assert leg.client_random.hex() in studio.key_log.read_text()
    says = {(record.from_client, record.says) for record in leg.records}
    assert (True, "Client Hello") in says
    assert (False, "Server Hello") in says
    said = ", ".join(record.says for record in leg.records if record.status is Status.OPENED)
    for name in ("Encrypted Extensions", "Certificate Request", "Certificate, ", "Certificate Verify", "Finished"):
        assert name in said


def test_an_answer_names_its_request_and_an_error_its_reason(studio: Studio, line: Line) -> None:
    line.greet()
    line.send(True, line.ask(4, "catalog.get", sku="x"))
    line.send(False, line.server._seal(FrameKind.MESSAGE, pad(b'{"id":4,"error":{"data":{"reason":"not_found"}}}')))
    line.send(False, line.server._seal(FrameKind.MESSAGE, pad(b'{"id":9,"error":{"data":{"reason":5}}}')))
    line.send(False, line.server._seal(FrameKind.MESSAGE, pad(b'{"id":9,"result":null}')))
    assert messages(opened_leg(studio, line.frame_keys))[1:] == [
        "catalog.get (id 4)",
        "error not_found for catalog.get (id 4)",
        "error  for a request (id 9)",
        "result of a request (id 9)",
    ]


@pytest.mark.parametrize("text", [b"[1]", b"\xff", b'"\\ud800"', b"[" * 60_000, b'{"id":{}}', b""])
def test_a_message_that_is_no_message(studio: Studio, line: Line, text: bytes) -> None:
    line.greet()
    line.send(True, line.client._seal(FrameKind.MESSAGE, text))
    frame = opened_leg(studio, line.frame_keys).frames[-1]
    assert frame.status is Status.OPENED
    assert frame.message is not None
    assert (frame.message.what, frame.message.says) == ("unreadable", "no JSON-RPC")


def test_an_auth_that_is_no_auth(studio: Studio, line: Line) -> None:
    line.greet()
    line.send(True, line.client._seal(FrameKind.AUTH, b"\xff" * 1_024))
    frame = opened_leg(studio, line.frame_keys).frames[-1]
    assert (frame.kind_name, frame.status, frame.auth, frame.padding) == ("AUTH", Status.OPENED, None, 0)


def test_an_auth_without_certificate(studio: Studio, line: Line) -> None:
    line.greet()
    line.send(True, line.client._seal(FrameKind.AUTH, bytes(1_024)))
    frame = opened_leg(studio, line.frame_keys).frames[-1]
    assert frame.auth is not None
    assert (frame.auth.certificates, frame.padding, frame.content) == ((), 1_017, bytes(7))


# Keys


def test_without_the_keys_of_tls_only_what_is_in_clear_is_read(studio: Studio, line: Line) -> None:
    conversation(line)
    (leg,) = open_play(studio.capture.packets, "", line.frame_keys)
    assert leg.frames == ()
    assert leg.server_name == "localhost"
    assert leg.alpn == ""
    closed = [record for record in leg.records if record.content_type == 23]
    assert {(record.status, record.content, record.says, record.inner_type) for record in closed} == {
        (Status.NO_KEY, None, "encrypted", None)
    }
    assert {record.status for record in leg.records if record.content_type != 23} == {Status.CLEAR}


def test_without_the_keys_of_the_frames_kinds_and_lengths_are_read(studio: Studio, line: Line) -> None:
    conversation(line)
    leg = opened_leg(studio, "")
    assert leg.frame_keys == (None, None)
    assert leg.frames[0].raw[HEADER : HEADER + 32] == leg.initiator_e
    assert [frame.status for frame in leg.frames] == [Status.CLEAR] * 2 + [Status.NO_KEY] * 8
    assert {frame.plaintext for frame in leg.frames} == {None}
    assert {frame.content for frame in leg.frames} == {b""}
    assert [frame.kind_name for frame in leg.frames][-1] == "CLOSE"


def test_one_direction_can_be_open_and_the_other_closed(studio: Studio, line: Line) -> None:
    conversation(line)
    leg = opened_leg(studio, line.frame_keys.splitlines()[1])
    assert Status.OPENED not in statuses(leg, from_client=True)
    assert Status.NO_KEY not in statuses(leg, from_client=False)


@pytest.mark.parametrize("wrong", ["key of another length", "another suite", "another connection"])
def test_keys_that_do_not_fit_are_no_keys(studio: Studio, line: Line, wrong: str) -> None:
    conversation(line)
    keys, frame_keys, packets = studio.key_log.read_text(), line.frame_keys, studio.capture.packets
    if wrong == "key of another length":
        keys = re.sub(r"[0-9a-f]{2}$", "", keys, flags=re.MULTILINE)
        frame_keys = re.sub(r"[0-9a-f]{2}$", "", frame_keys, flags=re.MULTILINE)
    elif wrong == "another suite":  # in the ServerHello: header, message header, version, random, session id, suite
        packets = altered(packets, 5, 5 + 4 + 2 + 32 + 1 + 32 + 1, bit=0x40)
    else:
        keys = re.sub(r" [0-9a-f]{4}", " 0000", keys)
    (leg,) = open_play(packets, keys, frame_keys)
    assert leg.frames == ()
    assert Status.OPENED not in {record.status for record in leg.records}
    if wrong == "another suite":
        assert leg.cipher_suite == "suite 0x1342"


def test_key_logs_may_hold_anything_else(studio: Studio, line: Line) -> None:
    conversation(line)
    noise = "# a comment\n\nCLIENT_RANDOM zz zz\nSD_FRAME_KEY_C2S 00\n\0\n"
    leg = opened_leg(studio, noise + line.frame_keys.replace("\n", "\r\n") + noise)
    assert Status.NO_KEY not in {frame.status for frame in leg.frames}


def test_a_key_is_changed_where_the_sender_changes_it(studio: Studio, line: Line) -> None:
    line.greet()
    for _ in range(REKEY + 2):
        line.send(True, line.client.send_request(1, "system.ping", {}))
    frames = [frame for frame in opened_leg(studio, line.frame_keys).frames if frame.counter is not None]
    client = [frame for frame in frames if frame.from_client]
    assert [frame.counter for frame in client] == list(range(REKEY + 3))
    assert {frame.status for frame in client} == {Status.OPENED}
    assert {frame.rekeys for frame in client[:REKEY]} == {0}
    assert {frame.rekeys for frame in client[REKEY:]} == {1}


# Where the bytes are


@pytest.mark.parametrize(("record", "together"), [(16_384, True), (700, True), (700, False), (1, True), (5, False)])
def test_frames_are_found_however_they_are_cut(studio: Studio, line: Line, record: int, *, together: bool) -> None:
    line.greet()
    line.send(True, line.ask(1) + line.ask(2, "chat.send", text="x" * 3_000), record=record, together=together)
    line.send(False, line.answer(1) + line.answer(2), record=record, together=together)
    leg = opened_leg(studio, line.frame_keys)
    assert messages(leg)[1:] == [
        "system.ping (id 1)",
        "chat.send (id 2)",
        "result of system.ping (id 1)",
        "result of chat.send (id 2)",
    ]
    check_places(leg, studio.capture.packets)


def check_places(leg: OpenedLeg, packets: Sequence[Recorded]) -> None:
    """Every record and every frame is where it says, to the byte."""
    for record in leg.records:
        assert taken(record, packets) == record.raw
    for frame in leg.frames:
        wire = leg.wire(frame)
        assert sum(piece.length for piece in wire) == len(frame.raw)
        inside, where = b"", []
        for index in frame.records:
            record = leg.records[index]
            assert record.content is not None
            assert record.from_client == frame.from_client
            inside += record.content
            where += [place for piece in record.pieces for place in range(piece.start, piece.start + piece.length)][
                5 : 5 + len(record.content)
            ]
        assert inside[frame.start : frame.start + len(frame.raw)] == frame.raw
        places = [place for piece in wire for place in range(piece.start, piece.start + piece.length)]
        assert places == where[frame.start : frame.start + len(frame.raw)]
        assert {piece.packet for piece in wire} <= set(frame.packets)
        assert list(frame.packets) == sorted(set(frame.packets))
        assert frame.packets[-1] == leg.records[frame.records[-1]].packets[-1]


def taken(record: Record, packets: Sequence[Recorded]) -> bytes:
    return b"".join(packets[piece.packet - 1].data[piece.start : piece.start + piece.length] for piece in record.pieces)


def test_every_byte_of_the_play_is_where_it_says() -> None:
    legs = opened()
    assert len(legs) == 20
    for leg in legs:
        check_places(leg, performed().packets)


def test_connections_do_not_mix(studio: Studio) -> None:
    lines = [studio.line(Endpoint("192.0.2.10", 40_001 + number)) for number in range(3)]
    for one in lines:
        one.greet()
    for number, one in enumerate(lines):
        one.send(True, one.ask(number, f"method.{number}"))
    legs = open_play(
        studio.capture.packets, studio.key_log.read_text(), "".join(one.frame_keys for one in reversed(lines))
    )
    assert [leg.number for leg in legs] == [0, 1, 2]
    for number, leg in enumerate(legs):
        assert messages(leg)[-1] == f"method.{number} (id {number})"
        assert {studio.capture.packets[packet - 1].flow for packet in leg.packets} == {number}


# What does not open


@pytest.mark.parametrize("place", [3, 5, 40, -17, -1], ids=["length", "first", "middle", "type inside", "tag"])
def test_a_bit_flipped_outside_ends_that_direction(studio: Studio, line: Line, place: int) -> None:
    line.greet()
    line.send(True, line.ask(1))
    number = studio.capture.packets.index(next(one for one in reversed(studio.capture.packets) if one.payload)) + 1
    line.send(True, line.ask(2))
    line.send(False, line.answer(1))
    sound = opened_leg(studio, line.frame_keys)
    leg = opened_leg(studio, line.frame_keys, altered(studio.capture.packets, number, place))
    assert "system.ping (id 1)" in messages(sound)
    assert "system.ping (id 1)" not in messages(leg)
    assert "system.ping (id 2)" not in messages(leg)
    assert "result of a request (id 1)" in messages(leg)
    own = [record for record in leg.records if record.from_client and number <= record.packets[-1]]
    if place != 3:  # a length that is no length leaves nothing to be called a record
        assert [record.status for record in own] == [Status.REJECTED, Status.BEHIND]
        assert own[0].sequence is not None
        assert own[0].content is None
        assert taken(own[0], altered(studio.capture.packets, number, place)) == own[0].raw


@pytest.mark.parametrize(
    ("what", "fits"), [("altered", None), ("replayed", 1), ("early", 4), ("cut to nothing", None), ("other kind", None)]
)
def test_a_frame_that_does_not_fit_is_told_why(studio: Studio, line: Line, what: str, fits: int | None) -> None:
    line.greet()
    first, second, third, fourth = (line.ask(number) for number in (1, 2, 3, 4))
    line.send(True, first + second)
    wrong = {
        "altered": third[:-20] + bytes([third[-20] ^ 1]) + third[-19:],
        "replayed": first,
        "early": fourth,
        "cut to nothing": b"\x03\0\0\x05short",
        "other kind": b"\x04" + third[1:],
    }[what]
    line.send(True, wrong + third)
    line.send(False, line.answer(1))
    leg = opened_leg(studio, line.frame_keys)
    assert statuses(leg, from_client=True)[-4:] == [Status.OPENED, Status.OPENED, Status.REJECTED, Status.BEHIND]
    rejected, behind = [frame for frame in leg.frames if frame.from_client][-2:]
    assert (rejected.counter, rejected.fits, rejected.plaintext) == (3, fits, None)
    assert (behind.counter, behind.fits) == (None, None)
    assert statuses(leg, from_client=False)[-1] is Status.OPENED


@pytest.mark.parametrize(
    ("sent", "wrong", "fits"),
    [
        (REKEY + 76, 6, 6),  # of the generation before
        (REKEY + 76, REKEY + 5, REKEY + 5),
        (2 * REKEY + 9, 6, 6),
        (REKEY - 3, REKEY + 2, REKEY + 2),  # of the next one
        (REKEY - 3, 2 * REKEY + 2, 2 * REKEY + 2),
        (REKEY - 3, None, None),
    ],
)
def test_a_frame_out_of_its_place_is_found_over_a_rekey(
    studio: Studio, line: Line, sent: int, wrong: int | None, fits: int | None
) -> None:
    """And called the same by the dissector. wrong: the frame that comes where `sent` is due; None: an altered one."""
    line.greet()
    frames = [b"", *(line.ask(number) for number in range(1, 2 * REKEY + 20))]  # behind AUTH
    line.send(True, b"".join(frames[:sent]))
    line.send(True, frames[sent][:-1] + bytes([frames[sent][-1] ^ 1]) if wrong is None else frames[wrong])
    last = opened_leg(studio, line.frame_keys).frames[-1]
    assert (last.status, last.counter, last.fits) == (Status.REJECTED, sent, fits)
    script = studio.folder / "securedelivery.lua"
    script.write_text(plugin(), encoding="utf-8")
    capture = studio.write(comments={1: [line.frame_keys]})
    shown = tshark(capture, "-X", "lua_script:{}", script, "-T", "fields", "-e", "securedelivery.diagnosis").rows
    words = "altered: " if fits is None else f"a replay: frame {fits} " if fits < sent else f"too early: frame {fits},"
    assert shown[-1][0].startswith(words)


@pytest.mark.parametrize(
    ("sent", "wrong", "fits"), [(4_100, 4, 4), (4_100, 3, None), (2, 2_050, 2_050), (2, 2_051, None)]
)
def test_how_far_a_frames_place_is_looked_for(
    studio: Studio, line: Line, sent: int, wrong: int, fits: int | None
) -> None:
    """4,096 back and 2,048 ahead; what is farther away is called altered, as the dissector does."""
    line.greet()
    frames = [b"", *(line.ask(number) for number in range(1, 4_101))]
    line.send(True, b"".join(frames[:sent]))
    line.send(True, frames[wrong])
    last = opened_leg(studio, line.frame_keys).frames[-1]
    assert (last.status, last.counter, last.fits) == (Status.REJECTED, sent, fits)


def test_a_kind_that_nobody_knows_is_shown_as_it_is(studio: Studio, line: Line) -> None:
    line.greet()
    line.send(True, b"\x09\x07\0\0")
    frame = opened_leg(studio, line.frame_keys).frames[-1]
    assert (frame.kind_name, frame.flags, frame.status, frame.raw) == ("kind 9", 7, Status.REJECTED, b"\x09\x07\0\0")


def test_an_alert_that_a_refused_client_gets_is_read(studio: Studio) -> None:
    (leg,) = (one for one in opened() if any(record.alert == 44 for record in one.records))
    record = next(record for record in leg.records if record.alert == 44)
    assert (record.from_client, record.says) == (False, "alert 44 (certificate_revoked)")
    assert record.status is Status.OPENED


def test_an_alert_that_is_none(studio: Studio, line: Line) -> None:
    line.raw(True, b"\x15\x03\x03\0\x01\x02")
    record = opened_leg(studio, "").records[-1]
    assert (record.says, record.alert, record.status) == ("content of type 21", None, Status.CLEAR)


def test_what_has_not_come_whole_is_not_told(studio: Studio, line: Line) -> None:
    line.greet()
    line.send(True, line.ask(1)[:-1])  # a frame that lacks a byte
    line.raw(True, b"\x17\x03\x03\x01\x00" + bytes(255))  # a record that does
    leg = opened_leg(studio, line.frame_keys)
    assert messages(leg) == ["system.welcome (notification)"]
    assert Status.REJECTED not in {record.status for record in leg.records}


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_bytes_are_nothing_breaks(studio: Studio, line: Line, seed: int) -> None:
    dice = random.Random(seed)
    conversation(line)
    packets = list(studio.capture.packets)
    for _ in range(dice.randrange(1, 6)):
        number = dice.randrange(len(packets))
        one = packets[number]
        payload = bytearray(one.payload or b"\0")
        match dice.randrange(5):
            case 0:
                payload[dice.randrange(len(payload))] = dice.randrange(256)
            case 1:
                del payload[dice.randrange(len(payload)) :]
            case 2:
                payload = bytearray(dice.randbytes(dice.randrange(2_000)))
            case 3:
                packets[number : number + 2] = reversed(packets[number : number + 2])
                continue
            case _:
                del packets[number]
                continue
        packets[number] = one._replace(payload=bytes(payload), data=bytes(54) + payload)
    for leg in open_play(packets, studio.key_log.read_text(), line.frame_keys):
        check_places(leg, packets)
        assert [frame.index for frame in leg.frames] == list(range(len(leg.frames)))


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_said_inside_tls_nothing_breaks(studio: Studio, line: Line, seed: int) -> None:
    dice = random.Random(seed)
    line.greet()
    line.send(True, line.client._seal(FrameKind.MESSAGE, dice.randbytes(dice.randrange(300))))
    line.send(True, dice.randbytes(dice.randrange(1, 20_000)))
    check_places(opened_leg(studio, line.frame_keys), studio.capture.packets)


@pytest.mark.parametrize("cut", range(0, 200, 3))
def test_hellos_cut_anywhere(studio: Studio, line: Line, cut: int) -> None:
    """Both hellos end early, and say that this is all: what cannot be read is left out."""
    packets = list(studio.capture.packets)
    for number in (4, 5):
        one = packets[number - 1]
        body = one.payload[9 : 9 + cut]
        payload = b"\x16\x03\x03" + (len(body) + 4).to_bytes(2) + one.payload[5:6] + len(body).to_bytes(3) + body
        packets[number - 1] = one._replace(payload=payload, data=bytes(54) + payload)
    leg = opened_leg(studio, "", packets[:5])
    assert [record.says for record in leg.records] == ["Client Hello", "Server Hello"]
    assert leg.client_random in {b"", one_random(studio)}


def one_random(studio: Studio) -> bytes:
    return bytes.fromhex(studio.key_log.read_text().split("CLIENT_HANDSHAKE_TRAFFIC_SECRET ")[1].split()[0])


# Against tshark


def test_tshark_finds_the_same_inside_tls(tmp_path: Path) -> None:
    """The bytes that a stock tshark finds inside TLS, connection by connection, are those of our frames."""
    require()
    capture = files.write(tmp_path, performed(), opened()).tls_opened
    guess = ("--disable-heuristic", "rdpmt_tls_")  # it takes one random HANDSHAKE in some hundred for Remote Desktop
    result = tshark(
        capture, *guess, "-Y", "data.data", "-T", "fields", "-e", "tcp.stream", "-e", "tcp.dstport", "-e", "data.data"
    )
    assert result.stderr == ""
    found: dict[tuple[int, bool], bytes] = {}
    for stream, port, data in result.rows:
        key = int(stream), port == "5555"
        found[key] = found.get(key, b"") + bytes.fromhex(data.replace(",", ""))
    ours: dict[tuple[int, bool], bytes] = {}
    for leg in opened():
        for record in leg.records:
            if record.inner_type == 23 and record.content:
                key = leg.number, record.from_client
                ours[key] = ours.get(key, b"") + record.content
    assert len(ours) > 30
    assert ours == found


# Other suites, another try for the key agreement, new keys on the way: a real OpenSSL behind the real relay


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    pem = tmp_path / "server.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    subprocess.run([*command.split(), "-keyout", pem, "-out", tmp_path / "c"], check=True, capture_output=True)
    pem.write_bytes(pem.read_bytes() + (tmp_path / "c").read_bytes())
    return pem


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(DONE_SECONDS)
        yield listening


def echo(listening: socket.socket, context: ssl.SSLContext) -> None:
    """One connection: says what it hears in capitals."""
    connection, _ = listening.accept()
    connection.settimeout(DONE_SECONDS)
    with context.wrap_socket(connection, server_side=True) as tls, suppress(ssl.SSLError, OSError):
        while heard := tls.recv(1_000):
            tls.sendall(heard.upper())


@pytest.mark.parametrize(
    ("suite", "groups", "group"),
    [
        ("TLS_AES_128_GCM_SHA256", "X25519", "x25519"),
        ("TLS_AES_256_GCM_SHA384", "P-384:X25519", "secp384r1"),
        ("TLS_CHACHA20_POLY1305_SHA256", "P-521:P-256", "secp256r1"),
    ],
)
def test_other_suites_and_groups_and_new_keys(
    certificate: Path, listener: socket.socket, suite: str, groups: str, group: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_ecdh_curve("prime256v1" if "P-256" in groups else "secp384r1" if "P-384" in groups else "X25519")
    keys, capture = certificate.with_name("keys.log"), Capture()
    server = threading.Thread(target=echo, args=(listener, context))
    server.start()
    with Relay(("127.0.0.1", 0), listener.getsockname()[:2], capture) as relay:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{relay.address[1]}", "-servername", "localhost"]
        command += ["-ciphersuites", suite, "-groups", groups, "-keylogfile", str(keys)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as client:
            # K asks both sides for new keys, Q ends: commands of s_client.
            for say, answer in ((b"one", b"ONE"), (b"K", b"KEYUPDATE"), (b"two", b"TWO"), (b"Q", b"")):
                assert client.stdin is not None
                assert client.stdout is not None
                client.stdin.write(say + b"\n")
                client.stdin.flush()
                while answer and (line := client.stdout.readline().strip()) != answer:
                    assert client.poll() is None, line
            client.communicate(timeout=DONE_SECONDS)
        server.join(DONE_SECONDS)
    (leg,) = open_play(capture.packets, keys.read_text(), "")
    assert leg.cipher_suite == suite
    assert {record.status for record in leg.records} == {Status.CLEAR, Status.OPENED}
    assert inside(leg, from_client=True) == [b"one\n", b"two\n"]
    assert inside(leg, from_client=False) == [b"ONE\n", b"TWO\n"]
    for from_client in (True, False):
        assert (from_client, "Key Update") in {(record.from_client, record.says) for record in leg.records}
    hellos = [record.says for record in leg.records].count("Client Hello")
    assert (hellos, leg.tls_group) == (2 if groups.endswith("P-256") else 1, group)


def inside(leg: OpenedLeg, *, from_client: bool) -> list[bytes]:
    return [
        record.content or b"" for record in leg.records if record.inner_type == 23 and record.from_client == from_client
    ]
