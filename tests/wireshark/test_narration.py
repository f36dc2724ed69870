"""What the third capture says: every sentence is held against the bytes that it is about."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from wireshark.told import opened, performed
from wireshark.traffic import Line, Studio

from securedelivery.protocol.frames import FrameKind
from securedelivery.wireshark import acts
from securedelivery.wireshark.narration import Narration, narrate
from securedelivery.wireshark.opened import Frame, OpenedLeg, Status, open_play
from securedelivery.wireshark.play import Harvest, Leg, Play, Reading, Tampering, Verdict
from securedelivery.wireshark.stage import ADDRESSES
from securedelivery.wireshark.tcp import Endpoint

NO_HARVEST = Harvest(-1, b"", b"", "", b"", b"")


@cache
def narration() -> Narration:
    return narrate(performed(), opened())


def leg_named(number: int) -> Leg:
    return performed().legs[number]


def texts(packet: int) -> str:
    return "\n".join(narration().comments.get(packet, ()))


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def told(studio: Studio, lines: Sequence[Line], **changes: object) -> Narration:
    """Of connections that a test has made itself."""
    plain = Play(
        packets=tuple(studio.capture.packets),
        legs=tuple(Leg(number, 1, "alice", "shop", "A test.") for number in range(len(lines))),
        tamperings=(),
        verdicts=(),
        readings=(),
        harvest=NO_HARVEST,
        tls_keys=studio.key_log.read_text(),
        frame_keys="".join(one.frame_keys for one in lines),
        seconds=0.0,
    )
    play = msgspec.structs.replace(plain, **changes)
    return narrate(play, open_play(play.packets, play.tls_keys, play.frame_keys))


# The play


def test_every_connection_says_what_it_is_for_and_holds_its_keys() -> None:
    lines = set(performed().frame_keys.split("\n"))
    for leg in opened():
        first, *rest = narration().comments[leg.packets[0]][0].split("\n")
        about = leg_named(leg.number)
        assert first == f"Act {about.act}. {about.client} -> {about.server} (tcp.stream {leg.number}). {about.says}"
        keys = [line for line in rest if line.startswith("SD_FRAME_KEY_")]
        assert set(keys) <= lines
        sealed = {frame.kind for frame in leg.frames} - {FrameKind.HANDSHAKE}
        assert len(keys) == (2 if sealed else 0)


def test_every_frame_is_named_where_it_is_complete() -> None:
    count = 0
    for leg in opened():
        about = leg_named(leg.number)
        for frame in leg.frames:
            way = (about.client, about.server) if frame.from_client else (about.server, about.client)
            counter = "" if frame.counter is None else f", counter {frame.counter}"
            assert f"{way[0]} -> {way[1]}: {frame.kind_name}{counter}" in texts(frame.packets[-1])
            for packet in frame.packets[:-1]:
                assert f"{frame.kind_name}, a part; the rest is in packet {frame.packets[-1]}" in texts(packet)
            count += 1
    assert count > 150


def test_every_message_has_a_packet_of_its_own_and_is_named_beside_it() -> None:
    play, said = performed(), [(leg, frame) for leg in opened() for frame in leg.frames if frame.message is not None]
    messages = narration().messages
    assert [one.number for one in messages] == list(range(len(play.packets) + 1, len(play.packets) + len(said) + 1))
    assert [one.packet for one in messages] == sorted(one.packet for one in messages)
    by_place: dict[tuple[int, bytes], tuple[OpenedLeg, Frame]] = {
        (frame.packets[-1], frame.plaintext or b""): (leg, frame) for leg, frame in said
    }
    assert len(by_place) == len(said) == len(messages)
    for one in messages:
        leg, frame = by_place[one.packet, one.payload]
        assert frame.message is not None
        about = leg_named(leg.number)
        ends = (about.client, about.server) if frame.from_client else (about.server, about.client)
        assert tuple(end.address for end in (one.source, one.destination)) == tuple(ADDRESSES[end] for end in ends)
        assert (one.destination if frame.from_client else one.source).port == 5555
        assert one.at == play.packets[one.packet - 1].at
        assert one.info == f"{ends[0]} -> {ends[1]}  {frame.message.says}, from packet {one.packet}"
        assert one.protocol in one.info
        told_there = next(text for text in narration().comments[one.packet] if text.endswith(f" packet {one.number}"))
        assert f"{len(frame.content):,} bytes and {frame.padding:,} of padding" in told_there


def test_flipped_bits_are_told_to_the_byte() -> None:
    flips = [one for one in performed().tamperings if one.bit is not None]
    assert len(flips) == 2
    for tampering in flips:
        assert tampering.bit is not None
        place, bit = divmod(tampering.bit, 8)
        ((packet, text),) = [
            (packet, text)
            for packet in tampering.packets
            for text in narration().comments[packet]
            if text.startswith(f"ATTACK: {tampering.what}")
        ]
        data = performed().packets[packet - 1].data
        value, before, after = re.search(r"value 0x(..) .*: 0x(..) became 0x(..)", text).groups()  # type: ignore[union-attr]
        assert int(value, 16) == 0x80 >> bit == int(before, 16) ^ int(after, 16)
        assert (tampering.before[place], tampering.after[place]) == (int(before, 16), int(after, 16))
        byte, shown = re.search(r"offset (\d+) \(0x(....)\) of this packet", text).groups()  # type: ignore[union-attr]
        assert int(byte) == int(shown, 16)
        if "inside TLS" in text:
            frame = next(one for leg in opened() for one in leg.frames if one.raw == tampering.after)
            wire = opened()[tampering.leg].wire(frame)
            places = [index for piece in wire for index in range(piece.start, piece.start + piece.length)]
            assert places[place] == int(byte)
            assert f"at offset {place - 4} of the frame's body" in text
        else:
            assert data[int(byte)] == int(after, 16)


def test_every_attack_verdict_and_reading_is_told_on_its_connection() -> None:
    play = performed()
    for number, start in [
        *((one.leg, f"ATTACK: {one.what}") for one in play.tamperings),
        *((one.leg, f"{one.who}, in its own words: {one.said}") for one in play.verdicts),
        *((one.leg, f"ATTACK: {one.who} reads this message in clear") for one in play.readings),
    ]:
        packets = [
            packet
            for packet in opened()[number].packets
            if any(text.startswith(start) for text in narration().comments.get(packet, ()))
        ]
        assert len(packets) == 1, start


def test_a_verdict_stands_where_it_shows() -> None:
    for verdict in performed().verdicts:
        packet = next(
            packet for packet in opened()[verdict.leg].packets if f"in its own words: {verdict.said}" in texts(packet)
        )
        if "protocol" in verdict.said:
            assert "CLOSE" in texts(packet)
    assert "alert 20 (bad_record_mac)" in texts(packet_of_alert(20))
    assert "shop, in its own words" in texts(packet_of_alert(20))
    assert "shop, in its own words" in texts(packet_of_alert(44))


def packet_of_alert(number: int) -> int:
    return next(record.packets[-1] for leg in opened() for record in leg.records if record.alert == number)


def test_rejected_frames_say_what_became_of_them() -> None:
    rejected = [
        text for one in narration().comments.values() for text in one if "REJECTED" in text and "record" not in text
    ]
    assert len(rejected) == 3
    assert sum("it was altered" in text for text in rejected) == 1
    assert sum("it is a replay" in text for text in rejected) == 1
    assert sum("it came too early" in text for text in rejected) == 1
    behind = sum(frame.status is Status.BEHIND for leg in opened() for frame in leg.frames)
    assert behind == sum(
        "the receiver never decrypts again" in text for one in narration().comments.values() for text in one
    )


def test_the_harvest_is_told_on_both_handshakes() -> None:
    harvest = performed().harvest
    first, second = (frame for frame in opened()[harvest.leg].frames if frame.kind == FrameKind.HANDSHAKE)
    assert "quantum computer" in texts(first.packets[-1])
    assert harvest.hybrid in texts(second.packets[-1])


def test_no_comment_is_said_twice_nor_holds_a_payload() -> None:
    for one in narration().comments.values():
        assert len(set(one)) == len(one)
        assert not any("Harbour Lane" in text or "jsonrpc" in text for text in one)


def test_another_play_is_told_alike() -> None:
    """Numbers and words follow from the play and from nothing else."""
    play = performed()
    assert narrate(play, open_play(play.packets, play.tls_keys, play.frame_keys)) == narration()
    other = acts.play()
    assert narrate(other, open_play(other.packets, other.tls_keys, other.frame_keys)) != narration()


# Connections that the play has not


def test_without_keys_it_says_so(studio: Studio) -> None:
    line = studio.line()
    line.greet()
    line.close()
    closed = told(studio, [line], tls_keys="")
    assert closed.messages == ()
    assert any("that these keys do not open" in text for one in closed.comments.values() for text in one)
    framed = told(studio, [line], frame_keys="")
    assert framed.messages == ()
    assert any(text.endswith("AUTH: these keys do not open it") for one in framed.comments.values() for text in one)
    assert "SD_FRAME_KEY" not in framed.comments[1][0]


def test_records_behind_a_rejected_one_say_so(studio: Studio) -> None:
    line = studio.line()
    line.greet()
    number = len(studio.capture.packets) + 1
    line.send(True, line.ask(1))
    line.send(True, line.ask(2))
    packets = studio.capture.packets
    payload = packets[number - 1].payload[:-1] + bytes([packets[number - 1].payload[-1] ^ 1])
    packets[number - 1] = packets[number - 1]._replace(payload=payload)
    said = told(studio, [line]).comments
    assert said[number] == (
        "alice -> shop: TLS record, REJECTED: its tag does not fit, the receiver ends the connection",
    )
    assert said[number + 1] == ("alice -> shop: TLS record behind a rejected one: it is not decrypted any more",)


def test_a_connection_without_a_leg_is_passed_over(studio: Studio) -> None:
    line = studio.line()
    line.greet()
    assert told(studio, [line], legs=()) == Narration({}, ())


def test_addresses_of_ipv6(studio: Studio) -> None:
    client, server = Endpoint("2001:db8::10", 40_001), Endpoint("2001:db8::1", 5555)
    line = studio.line(client, server)
    line.greet()
    (welcome,) = told(studio, [line]).messages
    assert (welcome.source, welcome.destination) == (server, client)


def test_what_is_in_an_auth_is_told(studio: Studio) -> None:
    line = studio.line()
    line.greet()
    line.send(True, line.client._seal(FrameKind.AUTH, bytes(1_024)))
    line.send(True, line.client._seal(FrameKind.AUTH, b"\xff" * 1_024))
    said = [text for one in told(studio, [line]).comments.values() for text in one if "AUTH, counter" in text]
    assert [text.split(": ", 2)[2] for text in said] == [
        said[0].split(": ", 2)[2],
        said[1].split(": ", 2)[2],
        "no certificate, 7 bytes and 1,017 of padding",
        "1,024 bytes and 0 of padding, which are no AUTH",
    ]
    assert "the certificate of CN=server" in said[0]
    assert "the certificate of spiffe://shop.test/account/alice" in said[1]


def test_a_name_that_cannot_be_read(studio: Studio) -> None:
    line = studio.line()
    line.greet()
    der = studio.shop.host.certificate.public_bytes(Encoding.DER)
    assert der.count(b"\x0c\x06server") == 1
    der = der.replace(b"\x0c\x06server", b"\x0c\x06\xffserve")  # no UTF-8
    chain = len(der).to_bytes(3) + der
    line.send(True, line.client._seal(FrameKind.AUTH, len(chain).to_bytes(3) + chain + bytes(4)))
    said = [text for one in told(studio, [line]).comments.values() for text in one if "cannot be read" in text]
    assert len(said) == 1


def test_attacks_whose_bytes_were_not_recorded(studio: Studio) -> None:
    line = studio.line()
    line.greet()
    last = max(number for number, one in enumerate(studio.capture.packets, 1) if one.payload)
    line.flow.finished(True)
    said = told(
        studio,
        [line],
        tamperings=(
            Tampering(0, (), "An answer is held back.", b"answer", b""),
            Tampering(0, (4,), "A bit of something else.", b"\x00\x01", b"\x00\x03", 14),
        ),
        readings=(Reading(1, 0, "gateway", b"something else"),),
        verdicts=(Verdict(1, 0, "alice", "it ended"),),
    ).comments
    assert "ATTACK: An answer is held back." in said[last]
    assert "ATTACK: A bit of something else. The bit of value 0x02 was flipped at offset 1: 0x01 became 0x03" in said[4]
    assert "ATTACK: gateway reads this message in clear, all 14 bytes" in said[last]
    assert "alice, in its own words: it ended" in said[last]


def test_a_connection_of_nothing_but_its_opening(studio: Studio) -> None:
    studio.line()
    studio.capture.flow(Endpoint("192.0.2.9", 4_000), Endpoint("192.0.2.1", 5555))
    syn = len(studio.capture.packets) - 2
    legs = (Leg(1, 2, "mallory", "shop", "Nothing comes."),)
    said = told(studio, [], legs=legs, verdicts=(Verdict(2, 1, "shop", "too slow"),)).comments
    assert said == {
        syn: ("Act 2. mallory -> shop (tcp.stream 1). Nothing comes.",),
        syn + 2: ("shop, in its own words: too slow",),
    }
