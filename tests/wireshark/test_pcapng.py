"""The file format, read by a second implementation here, by tshark, by editcap and capinfos."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from struct import unpack_from

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wireshark.tshark import run, tshark

from securedelivery.wireshark import pcapng
from securedelivery.wireshark.capture import Capture
from securedelivery.wireshark.tcp import Endpoint

SECTION, INTERFACE, PACKET, SECRETS = 0x0A0D0D0A, 1, 6, 0x0A
NOON = 1_795_867_200_123_456_789  # nanoseconds: 2026-11-28 12:00:00.123456789
ALICE, SHOP = Endpoint("192.0.2.10", 40_001), Endpoint("192.0.2.1", 5555)
KEY_LOG = f"CLIENT_TRAFFIC_SECRET_0 {'ab' * 32} {'cd' * 32}\n"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


def blocks_of(file: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(file):
        kind, length = unpack_from("<II", file, at)
        assert length % 4 == 0
        assert length >= 12
        assert unpack_from("<I", file, at + length - 4) == (length,)
        yield kind, file[at + 8 : at + length - 4]
        at += length
    assert at == len(file)


def options_of(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while data[at:]:
        code, length = unpack_from("<HH", data, at)
        at += 4
        if code == 0:
            assert (length, data[at:]) == (0, b"")
            return found
        found.append((code, data[at : at + length]))
        padding = -length % 4
        assert data[at + length : at + length + padding] == bytes(padding)
        at += length + padding
    assert found == [], "options without their end"
    return found


def one_block(block: bytes) -> tuple[int, bytes]:
    (only,) = blocks_of(block)
    return only


def head() -> bytes:
    return pcapng.section_header("the tests") + pcapng.interface(pcapng.ETHERNET, "wire", "a description")


def small_capture() -> list[bytes]:
    capture = Capture(clock=iter(range(NOON, NOON + 10**9, 10**6)).__next__)
    flow = capture.flow(ALICE, SHOP)
    for size in (1, 2, 3, 4, 1_460):
        flow.sent(True, bytes(size))
    return [packet.data for packet in capture.packets]


def packets_of(frames: list[bytes], comments: dict[int, list[str]] | None = None) -> list[bytes]:
    return [
        pcapng.packet(frame, at=NOON + number * 1_000, comments=(comments or {}).get(number, ()))
        for number, frame in enumerate(frames)
    ]


def test_the_section_and_its_interfaces() -> None:
    kind, body = one_block(pcapng.section_header("Ångström"))
    assert kind == SECTION
    assert unpack_from("<IHHq", body) == (0x1A2B3C4D, 1, 0, -1)
    assert options_of(body[16:]) == [(4, "Ångström".encode())]
    kind, body = one_block(pcapng.interface(pcapng.EXPORTED_PDU, "opened", "what the keys open"))
    assert (kind, unpack_from("<HH", body)) == (INTERFACE, (252, 0))
    assert options_of(body[8:]) == [(2, b"opened"), (3, b"what the keys open"), (9, b"\x09")]
    _, body = one_block(pcapng.interface(pcapng.ETHERNET, "wire"))
    assert options_of(body[8:]) == [(2, b"wire"), (9, b"\x09")]


@given(st.binary(max_size=70), st.integers(0, 2**64 - 1), st.integers(0, 3), st.lists(TEXT, max_size=3))
def test_any_packet(data: bytes, at: int, interface: int, comments: list[str]) -> None:
    kind, body = one_block(pcapng.packet(data, at=at, interface=interface, comments=comments))
    assert kind == PACKET
    number, high, low, captured, length = unpack_from("<IIIII", body)
    assert (number, high << 32 | low, captured, length) == (interface, at, len(data), len(data))
    padded = len(data) + -len(data) % 4
    assert body[20 : 20 + padded] == data + bytes(-len(data) % 4)
    assert options_of(body[20 + padded :]) == [(1, comment.encode()) for comment in comments]


@given(TEXT)
def test_any_key_log(text: str) -> None:
    kind, body = one_block(pcapng.tls_secrets(text))
    secrets = text.encode()
    assert (kind, unpack_from("<II", body)) == (SECRETS, (0x544C534B, len(secrets)))
    assert body[8:] == secrets + bytes(-len(secrets) % 4)


def test_wireshark_reads_every_block(tmp_path: Path) -> None:
    """Wireshark can dissect the file itself, and marks what is wrong with a block."""
    file = tmp_path / "all.pcapng"
    pdu = pcapng.packet(
        pcapng.exported_pdu(b"{}", dissector="json", packet=1, source=ALICE, destination=SHOP, protocol="a", info="bc"),
        at=NOON,
        interface=1,
    )
    inner = pcapng.interface(pcapng.EXPORTED_PDU, "opened")
    packets = packets_of(small_capture(), {0: ["one"], 3: ["two", "and three"]})
    file.write_bytes(head() + inner + pcapng.tls_secrets(KEY_LOG) + b"".join(packets) + pdu)
    as_file = ("-X", "read_format:MIME Files Format")
    kinds = tshark(file, *as_file, "-T", "fields", "-e", "pcapng.block.type.value").rows
    assert [int(kind, 0) for kind in kinds[0][0].split(",")] == [SECTION, 1, 1, SECRETS, *[PACKET] * 9]
    assert tshark(file, *as_file, "-Y", "_ws.malformed or _ws.expert.severity >= warning").stdout == ""
    damaged = bytearray(file.read_bytes())
    damaged[-4] ^= 4
    file.write_bytes(damaged)
    assert tshark(file, *as_file, "-Y", "_ws.malformed or _ws.expert.severity >= warning").stdout


def test_what_tshark_shows(tmp_path: Path) -> None:
    frames = small_capture()
    comments = {0: ["A first comment, with ünïcode: 🔑"], 2: ["one", "two"]}
    file = tmp_path / "commented.pcapng"
    file.write_bytes(head() + b"".join(packets_of(frames, comments)))
    fields = ("frame.number", "frame.time_epoch", "frame.len", "frame.cap_len")
    fields += ("frame.interface_name", "frame.interface_description", "frame.comment")
    shown = tshark(file, "-T", "fields", "-E", "aggregator=|", *(word for field in fields for word in ("-e", field)))
    assert (shown.code, shown.stderr) == (0, "")
    assert shown.rows == [
        [
            str(number + 1), f"1795867200.{123_456_789 + number * 1_000:09}", str(len(frame)), str(len(frame)),
            "wire", "a description", "|".join(comments.get(number, [])),
        ]
        for number, frame in enumerate(frames)
    ]  # fmt: skip


def test_what_capinfos_says(tmp_path: Path) -> None:
    file = tmp_path / "a.pcapng"
    file.write_bytes(head() + b"".join(packets_of(small_capture())))
    said = run("capinfos", file).stdout
    assert "File encapsulation:  Ethernet" in said
    assert "File timestamp precision:  nanoseconds (9)" in said
    assert "Number of packets:   8" in said
    assert "Capture application: the tests" in said
    assert "Strict time order:   True" in said


def test_without_its_secrets_it_is_the_file_without_them(tmp_path: Path) -> None:
    packets = b"".join(packets_of(small_capture(), {1: ["kept"]}))
    bare, with_keys = head() + packets, head() + pcapng.tls_secrets(KEY_LOG) + packets
    assert with_keys != bare
    file = tmp_path / "keys.pcapng"
    file.write_bytes(with_keys)
    with anybodys_folder() as folder:
        done = run("editcap", "--discard-all-secrets", file, str(folder / "bare.pcapng"))
        assert (done.code, done.stderr) == (0, "")
        assert (folder / "bare.pcapng").read_bytes() == bare


@contextlib.contextmanager
def anybodys_folder() -> Iterator[Path]:
    """Where an unprivileged program can write."""
    with tempfile.TemporaryDirectory(prefix="wireshark-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


@pytest.mark.parametrize(
    ("source", "destination", "version"),
    [(ALICE, SHOP, "ipv4"), (Endpoint("2001:db8::10", 40_001), Endpoint("2001:db8::1", 5555), "ipv6")],
    ids=["IPv4", "IPv6"],
)
def test_an_exported_message(tmp_path: Path, source: Endpoint, destination: Endpoint, version: str) -> None:
    file = tmp_path / "messages.pcapng"
    contents = [b'{"method":"order.place"}', b'{"id":17}   ', b'["padded"]' + b" " * 54]
    pdus = [
        pcapng.exported_pdu(
            payload, dissector="json", packet=number, source=source, destination=destination,
            protocol="SecureDelivery", info=f"Nachricht größer als {number}",
        )
        for number, payload in enumerate(contents, 4)
    ]  # fmt: skip
    packets = [pcapng.packet(pdu, at=NOON, interface=1, comments=["opened"]) for pdu in pdus]
    interfaces = head() + pcapng.interface(pcapng.EXPORTED_PDU, "opened")
    file.write_bytes(interfaces + b"".join(packets_of(small_capture()) + packets))
    fields = ("frame.number", "frame.interface_name", "exported_pdu.prot_name", "exported_pdu.orig_fno")
    fields += (f"exported_pdu.{version}_src", f"exported_pdu.{version}_dst")
    fields += ("exported_pdu.src_port", "exported_pdu.dst_port", "_ws.col.Protocol", "json.key")
    columns = [word for field in fields for word in ("-e", field)]
    shown = tshark(file, "-Y", "exported_pdu", "-T", "fields", *columns)
    assert (shown.code, shown.stderr) == (0, "")
    keys = ["method", "id", ""]
    assert shown.rows == [
        [
            str(9 + number), "opened", "json", str(4 + number), source.address, destination.address,
            "40001", "5555", "SecureDelivery/JSON", key,
        ]
        for number, key in enumerate(keys)
    ]  # fmt: skip
    assert tshark(file, "-Y", "_ws.malformed and exported_pdu").stdout == ""
    assert tshark(file, "-Y", "json", "-T", "fields", "-e", "frame.number").stdout.split() == ["9", "10", "11"]


@given(st.binary(max_size=40), TEXT, TEXT, st.integers(0, 2**32 - 1))
def test_tags_of_any_message(payload: bytes, protocol: str, info: str, packet: int) -> None:
    pdu = pcapng.exported_pdu(
        payload, dissector="json", packet=packet, source=ALICE, destination=SHOP, protocol=protocol, info=info
    )
    tags, at = {}, 0
    while (tag_and_length := unpack_from(">HH", pdu, at)) != (0, 0):
        tag, length = tag_and_length
        assert length % 4 == 0
        tags[tag] = pdu[at + 4 : at + 4 + length]
        at += 4 + length
    assert pdu[at + 4 :] == payload
    assert set(tags) == {12, 20, 21, 24, 25, 26, 30, 33, 36}
    assert tags[12] == b"json"
    assert (tags[20], tags[21]) == (bytes([192, 0, 2, 10]), bytes([192, 0, 2, 1]))
    assert [int.from_bytes(tags[tag]) for tag in (24, 25, 26, 30)] == [2, 40_001, 5555, packet]
    assert tags[33].rstrip(b"\0") == protocol.encode().rstrip(b"\0")
    assert tags[36].rstrip(b"\0") == info.encode().rstrip(b"\0")


def test_a_file_that_was_cut_shows_what_is_whole(tmp_path: Path) -> None:
    """As after a SIGKILL in the middle of a write."""
    blocks = packets_of(small_capture())
    start, last = head() + b"".join(blocks[:-1]), blocks[-1]
    for cut in (0, 1, 4, 8, 20, 28, len(last) // 2, len(last) - 5, len(last) - 4, len(last) - 1):
        file = tmp_path / f"cut-{cut}.pcapng"
        file.write_bytes(start + last[:cut])
        shown = tshark(file, "-T", "fields", "-e", "frame.number")
        assert shown.stdout.split() == [str(number) for number in range(1, 8)]
        assert ("cut short" in shown.stderr) == bool(cut)
