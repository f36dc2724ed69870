"""The story of a real play: its bytes are those of the packets, its figures right, its verdicts the receivers'."""

import re
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import json
from wireshark.told import exhibit, exhibits, joined, opened, parts, performed, story, tables, words

from securedelivery.wireshark.opened import Piece
from securedelivery.wireshark.story import Exhibit, Layer, Part, Strip, Table, tell
from securedelivery.wireshark.story.cuts import as_text, in_pieces, record_parts, split
from securedelivery.wireshark.story.hello import hello_parts
from securedelivery.wireshark.story.hexadecimal import count, day, flip, money, packets, runs


def test_eight_acts_with_words_exhibits_and_questions() -> None:
    assert [act.number for act in story().acts] == list(range(1, 9))
    assert [act.opened for act in story().acts] == [0, 1, 2, 1, 1, 2, 2, 1]
    for act in story().acts:
        assert 3 <= len(act.questions) <= 6
        assert act.gist
        assert any(isinstance(one, Exhibit) for scene in act.scenes for one in scene.shown)
        assert act.filter.startswith("tcp.stream ")
    asked = [one.asked for act in story().acts for one in act.questions]
    assert len(set(asked)) == len(asked)


def texts(value: object) -> Iterator[str]:
    """All that a story says."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for one in value:
            yield from texts(one)
    elif isinstance(value, msgspec.Struct):
        yield from texts(msgspec.structs.astuple(value))


def test_its_sentences_are_whole() -> None:
    for text in texts(story().acts):
        assert "\u2014" not in text
        assert "None" not in text
        if not text.startswith(("{", "[")):  # JSON as it was sent
            assert "  " not in text, text
    for act in story().acts:
        for one in (act.gist, *(one.answer for one in act.questions), *words(act.number).splitlines()):
            assert one.endswith((".", "?", ")")), one


def test_the_same_play_gives_the_same_story() -> None:
    assert tell(performed(), opened()) == story()


def test_bytes_on_the_wire_are_those_of_the_packets() -> None:
    seen = 0
    for one in exhibits():
        for strip in one.strips:
            if strip.wire:
                assert joined(strip) == b"".join(performed().packets[number - 1].data for number in one.packets)
                seen += 1
    assert seen > 10


def test_opened_bytes_are_in_records_frames_or_what_an_attacker_had() -> None:
    play = performed()
    sources = [play.harvest.private_key, play.harvest.kem_ciphertext, play.harvest.classical_frame]
    sources += [play.harvest.classical_plaintext, *(one.plaintext for one in play.readings)]
    for leg in opened():
        sources += [record.raw + (record.content or b"") for record in leg.records]
        sources += [frame.raw + (frame.plaintext or b"") for frame in leg.frames]
    for one in exhibits():
        for strip in one.strips:
            for part in strip.parts:
                if not strip.wire and part.what != "content type":
                    assert any(part.data in source for source in sources), (one.title, part.what)


def test_exhibits_name_packets_of_their_connection() -> None:
    play = performed()
    for one in exhibits():
        last = play.packets[one.packets[-1] - 1]
        assert {play.packets[number - 1].flow for number in one.packets} == {one.leg}
        assert one.at == last.at
        leg = play.legs[one.leg]
        assert (one.sender, one.receiver) == (
            (leg.client, leg.server) if last.from_client else (leg.server, leg.client)
        )


def test_what_was_computed_is_said_to_be_and_is_in_no_packet() -> None:
    sent = [record.raw + (record.content or b"") for leg in opened() for record in leg.records]
    sent += [frame.plaintext or b"" for leg in opened() for frame in leg.frames]
    computed = [one for one in exhibits() if one.computed]
    assert [one.title for one in computed] == [
        "One envelope more, and no further",
        "For comparison: the same order under X25519 alone",
    ]
    for one in exhibits():
        first = max(one.strips[0].parts, key=lambda part: len(part.data)).data
        found = one.strips[0].wire or any(first in source for source in sent)
        assert found is not one.computed, one.title


def test_a_frames_tag_says_who_sealed_it() -> None:
    said = {
        (one.sender, one.receiver, one.strips[-1].parts[-1].reads)
        for act in (6, 7)
        for one in exhibits(act)
        if one.strips[-1].parts[-1].what == "frame tag" and not one.strips[-1].parts[-1].sealed
    }
    assert said == {
        ("gateway", "alice", "right: it is as the gateway sealed it"),
        ("gateway", "shop", "right: it is as the gateway sealed it"),
        ("mallory", "shop", "right: it is as Mallory sealed it"),
        ("bob", "shop", "right: nobody changed the frame"),
        ("shop", "bob", "right: nobody changed the frame"),
    }


def test_every_verdict_is_shown_once_and_in_its_own_words() -> None:
    said = [(one.who, one.words) for shown in exhibits() for one in shown.verdicts]
    assert sorted(said) == sorted((one.who, one.said) for one in performed().verdicts)


# Acts 1 to 3


def test_three_acts_show_the_same_packet() -> None:
    first = exhibit(1, "Somewhere in there is an order")
    second = exhibit(2, "The same packet, one envelope less")
    third = exhibit(3, "The order")
    assert first.packets == second.packets == third.packets
    assert first.strips[0] == second.strips[0]
    assert second.strips[1] == third.strips[0]
    assert [strip.title for strip in third.strips] == ["TLS opened", "Frame opened"]
    assert not any(
        part.layer is Layer.MESSAGE for shown in (first, second) for strip in shown.strips for part in strip.parts
    )
    assert all(part.sealed for part in second.strips[1].parts[1:])
    (message,) = [part for part in third.strips[1].parts if part.layer is Layer.MESSAGE]
    assert json.decode(message.data)["method"] == "order.place"
    assert json.decode(message.reads) == json.decode(message.data)


def test_the_eavesdropper_reads_names() -> None:
    hello = exhibit(1, "The first words of a connection").strips[0]
    found = {part.what: part for part in hello.parts}
    assert found["the name of the server that is wanted (SNI)"].data == b"localhost"
    assert found["the protocol that is wanted (ALPN)"].data == b"securedelivery/1"
    assert len(found["TLS key share of the client: X25519"].data) == 32
    (notebook, _) = tables(1)
    assert [row[:3] for row in notebook.rows] == [("alice", "shop", "localhost"), ("sam", "shop", "localhost")]
    recorded = [one for one in performed().packets if one.flow == 0 and one.from_client]
    assert notebook.rows[0][3] == f"{sum(len(one.payload) for one in recorded):,}"


def test_what_the_padding_hides_adds_up() -> None:
    (_, padding) = tables(1)
    rows = [tuple(int(cell.replace(",", "")) for cell in row[1:]) for row in padding.rows]
    assert len(rows) >= 8
    for length, filled, record in rows:
        assert 0 <= filled - length < 64
        assert filled % 64 == 0
        assert record == filled + 42
    alike = re.search(r"has (\d+) bytes, .* has (\d+)\. On the wire both are TLS records of (\d+) bytes", words(1))
    assert alike is not None
    one, other, record = map(int, alike.groups())
    assert one != other
    assert {(one, record), (other, record)} <= {(length, record) for length, _, record in rows}
    (answer,) = [one.answer for one in story().acts[0].questions if one.asked.startswith("Messages of 50")]
    assert answer.startswith("106, 106 and 170 bytes.")


def test_without_two_alike_the_padding_is_told_nevertheless() -> None:
    alice, *others = opened()
    frames = [one for one in alice.frames if one.message is None or one.message.method in {"order.place", "chat.send"}]
    told = tell(performed(), [msgspec.structs.replace(alice, frames=tuple(frames)), *others])
    assert "What is longer than a multiple takes the next one" in "".join(texts(told.acts[0]))


def test_the_receipt_is_the_shops() -> None:
    (receipt, said, everything) = tables(3)
    answer = exhibit(3, "The receipt")
    (message,) = [part for part in answer.strips[0].parts if part.layer is Layer.MESSAGE]
    order = json.decode(message.data)["result"]
    assert receipt.title == f"The receipt: order {order['order']}"
    rows = dict(receipt.rows)
    assert rows["Total"] == money(order["total"], "EUR") == "EUR 619.00"
    assert rows["Points earned"] == "619"
    assert answer.accepted
    assert [who for who, _ in said.rows] == ["alice", "sam"]
    counters = {"alice": [], "shop": []}
    for who, counter, *_ in everything.rows:
        if counter != "none":
            counters[who].append(int(counter))
    assert all(found == list(range(len(found))) for found in counters.values())
    assert len(counters["alice"]) > 5


# Acts 4 and 5


def test_the_flipped_bit_is_marked_and_was_the_quantity() -> None:
    outside = exhibit(4, "The record, one bit changed")
    inside = exhibit(4, "The frame, one bit changed, in a sound TLS record")
    for shown, strip, tampering in ((outside, 0, performed().tamperings[0]), (inside, 1, performed().tamperings[1])):
        (part,) = [part for part in shown.strips[strip].parts if part.bit is not None]
        place, bit = divmod(part.bit, 8)
        before = bytearray(part.data)
        before[place] ^= 0x80 >> bit
        assert bytes(before) in tampering.before
        assert part.data in tampering.after
        told = flip(part)
        assert told.place == place
        assert told.now == f"{part.data[place]:02x} = {part.data[place]:08b}"
        assert told.before == f"{before[place]:02x} = {before[place]:08b}"
        assert [run.hex for run in runs(part, 48) if run.flipped] == [f"{part.data[place]:02x}"]
        assert shown.verdicts
    assert 'would have turned "quantity":1 into "quantity":9 in' in words(4)
    alert = exhibit(4, "The shop's TLS answers").strips[1].parts[0]
    assert (alert.data, alert.reads) == (b"\x02\x14", "level 2 (fatal), alert 20 (bad_record_mac)")
    farewell = exhibit(4, "The shop's farewell").strips[0]
    assert json.decode(farewell.parts[1].data)["reason"] == "protocol_error"


def test_counters_tell_what_is_out_of_its_place() -> None:
    replayed, swapped = tables(5)
    (again,) = [row for row in replayed.rows if row[3] == "refused: wrong tag"]
    assert (again[0], again[1], again[2]) == ("order.place (id 2)", "2", "3")
    (early, behind, *_) = [row for row in swapped.rows if row[3] != "opens"]
    assert (early[0], early[1], early[2], early[3]) == ("rewards.get (id 3)", "3", "2", "refused: wrong tag")
    assert (behind[0], behind[3]) == ("order.place (id 2)", "behind a refused frame")


def test_the_cut_off_order_is_placed_once() -> None:
    numbers = re.search(r"had placed order (\d+), and now answers with order (\d+)\. There is one order", words(5))
    assert numbers is not None
    assert numbers[1] == numbers[2]
    assert exhibit(5, "The same order, asked for again").accepted
    ended = exhibit(5, "A polite end of TLS, and no CLOSE before it").strips[1].parts[0]
    assert (ended.data, ended.reads) == (b"\x01\x00", "level 1 (warning), alert 0 (close_notify)")


# Acts 6 and 7


def test_two_handshakes_have_different_keys_and_the_gateway_reads() -> None:
    mine = exhibit(6, "Alice's keys, as she sends them").strips[0].parts
    theirs = exhibit(6, "The gateway's keys, as the shop gets them").strips[0].parts
    for one, other in zip(mine, theirs, strict=True):
        assert one.data != other.data
        assert len(one.data) == len(other.data) in {32, 1184}
    read = exhibit(6, "The order, as the gateway reads it").strips[1].parts[0]
    assert read.data == performed().readings[0].plaintext.rstrip()
    assert json.decode(read.data)["method"] == "order.place"


def test_an_auth_frame_is_cut_into_chain_signature_and_zeros() -> None:
    (strip,) = exhibit(7, "An AUTH frame with Alice's certificate").strips
    found = {part.what: part for part in strip.parts}
    chain, signature = found["certificate chain"], found["signature over the handshake"]
    assert found["length of the chain"].reads == f"{len(chain.data):,}"
    assert found["signature scheme, length"].reads == f"ECDSA P-256 with SHA-256, {len(signature.data)} bytes"
    assert b"spiffe://shop.example/account/alice" in chain.data
    assert not any(found["padding: zeros"].data)
    assert sum(len(part.data) for part in strip.parts[1:-1]) == 1024


def test_false_names() -> None:
    alert = exhibit(7, "The shop's TLS ends it").strips[1].parts[0]
    assert alert.data == b"\x02\x2c"
    answer = exhibit(7, "The shop answers")
    assert [one.words.partition(":")[0] for one in answer.verdicts] == ["forbidden"]


# Act 8


def test_where_the_keys_are() -> None:
    sizes = {}
    for title in ("Alice to the shop: e, e1", "The shop to Alice: e, ee, ekem1"):
        sizes[title] = [(part.layer, len(part.data), part.sealed) for part in exhibit(8, title).strips[0].parts]
    assert sizes["Alice to the shop: e, e1"] == [
        (Layer.FRAME, 4, False), (Layer.X25519, 32, False), (Layer.KEM, 1184, False),
    ]  # fmt: skip
    assert sizes["The shop to Alice: e, ee, ekem1"] == [
        (Layer.FRAME, 4, False), (Layer.X25519, 32, False), (Layer.KEM, 1088, True), (Layer.FRAME, 16, True),
        (Layer.FRAME, 16, True),
    ]  # fmt: skip
    found = exhibit(8, "One envelope more, and no further")
    sealed = exhibit(8, "The shop to Alice: e, ee, ekem1").strips[0].parts[2].data
    assert len(found.strips[0].parts[1].data) == len(sealed)
    assert found.strips[0].parts[1].data != sealed
    assert found.note == performed().harvest.hybrid


def test_the_comparison_is_read_and_the_order_is_not() -> None:
    order = exhibit(8, "So Alice's order stays as it was")
    assert all(part.sealed for part in order.strips[0].parts[1:])
    compared = exhibit(8, "For comparison: the same order under X25519 alone")
    assert json.decode(compared.strips[1].parts[0].data)["method"] == "order.place"
    assert "in none of the files" in compared.note


@pytest.mark.parametrize("group", ["X25519MLKEM768", "x25519", "secp256r1"])
def test_the_key_agreement_of_tls_is_told_as_it_is(group: str) -> None:
    """Whatever OpenSSL agrees on by itself, the client of act 8 has offered it X25519 alone."""
    harvested = performed().harvest.leg
    legs = [leg if leg.number == harvested else msgspec.structs.replace(leg, tls_group=group) for leg in opened()]
    first, *_, last = ("".join(texts(act)) for act in tell(performed(), legs).acts)
    assert f"come from the key agreement {group}," in first
    assert "offers TLS x25519 alone" in last
    assert f"is seen in act 1: {group}." in last
    assert "Its key agreement: x25519." in last
    assert "TLS agreed on x25519: the quantum computer opens it" in last


# Cutting


def test_a_hybrid_key_share_is_two_keys() -> None:
    kem, point = bytes(range(256)) * 4 + bytes(160), b"\x09" * 32
    share = b"\x11\xec" + (1216).to_bytes(2) + kem + point + b"\x00\x17\x00\x02ab"
    extensions = b"\x00\x33" + (len(share) + 2).to_bytes(2) + len(share).to_bytes(2) + share
    hello = b"\x01" + bytes(37) + b"\x00" + b"\x00\x02\x13\x02" + b"\x01\x00" + len(extensions).to_bytes(2) + extensions
    found = hello_parts(hello)
    assert b"".join(part.data for part in found) == hello
    assert [(part.layer, part.data) for part in found if part.layer is not Layer.TLS] == [
        (Layer.KEM, kem),
        (Layer.X25519, point),
    ]


def test_lengths_in_a_hello_that_contradict_each_other() -> None:
    """A name that would end before it begins is not told apart."""
    extensions = b"\x00\x00\x00\x02ab"
    hello = b"\x01" + bytes(37) + b"\x00" + b"\x00\x02\x13\x02" + b"\x01\x00" + len(extensions).to_bytes(2) + extensions
    assert [(part.what, part.data) for part in hello_parts(hello)] == [("ClientHello", hello)]


@settings(deadline=None)  # the first one plays
@given(st.binary(max_size=80), st.integers(0, 600), st.integers(0, 599), st.integers(0, 255))
def test_no_hello_is_too_strange(start: bytes, length: int, place: int, byte: int) -> None:
    assert b"".join(part.data for part in hello_parts(start)) == start
    for record in opened()[0].records[:2]:
        changed = bytearray(record.ciphertext[:length])
        if place < len(changed):
            changed[place] = byte
        assert b"".join(part.data for part in hello_parts(bytes(changed))) == changed


@given(st.integers(0, 8 * 40 - 1), st.integers(0, 40))
def test_a_flipped_bit_stays_where_it_is_when_a_part_is_split(bit: int, at: int) -> None:
    part = Part(Layer.TLS, "what", bytes(range(40)), bit=bit)
    first, second = split(part, at)
    assert first.data + second.data == part.data
    (place,) = [
        at_bit for at_bit in (first.bit, None if second.bit is None else second.bit + 8 * at) if at_bit is not None
    ]
    assert place == bit


def test_a_record_in_two_packets_is_cut_where_they_end() -> None:
    record = next(one for leg in opened() for one in leg.records if len(one.pieces) == 2 and one.tag)
    (_, first), (_, second) = in_pieces(record_parts(record), record.pieces)
    assert b"".join(part.data for part in first + second) == record.raw
    assert sum(len(part.data) for part in first) == record.pieces[0].length
    assert second[0].what.endswith(", continued")


def test_pieces_may_end_between_parts() -> None:
    one, two = Part(Layer.TLS, "a", b"12"), Part(Layer.TLS, "b", b"345")
    pieces = (Piece(1, 0, 2), Piece(2, 0, 3))
    assert [found for _, found in in_pieces([one, two], pieces)] == [[one], [two]]


# Figures and words


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((47,), "packet 47"),
        ((47, 47), "packet 47"),
        ((48, 47), "packets 47 and 48"),
        ((47, 48, 49), "packets 47 to 49"),
        ((3, 5, 9), "packets 3, 5 and 9"),
    ],
)
def test_packets_in_words(numbers: tuple[int, ...], said: str) -> None:
    assert packets(numbers) == said


def test_numbers_in_words() -> None:
    assert (count(1, "byte"), count(1184, "byte")) == ("1 byte", "1,184 bytes")
    assert (money(123450, "EUR"), money(5, "EUR"), money(1200, "JPY")) == ("EUR 1,234.50", "EUR 0.05", "JPY 1,200")
    assert day(1_795_369_502_123_456_789) == "22 November 2026, 17:45:02 UTC"


@given(st.binary(min_size=1, max_size=400), st.data())
def test_runs_leave_nothing_unaccounted_for(data: bytes, dice: st.DataObject) -> None:
    bit = dice.draw(st.none() | st.integers(0, 8 * len(data) - 1))
    found = list(runs(Part(Layer.TLS, "what", data, bit=bit), 48))
    at = 0
    for run in found:
        shown = bytes.fromhex(run.hex)
        assert data[at : at + len(shown)] == shown
        assert bool(shown) != bool(run.left_out)
        if run.flipped:
            assert bit is not None
            assert at == bit // 8
        at += len(shown) + run.left_out
    assert at == len(data)
    assert sum(run.flipped for run in found) == (bit is not None)


def test_text_that_is_no_json_stays_as_it_is() -> None:
    assert as_text(b"x" * 200, in_lines=True) == "x" * 200
    assert as_text(b'{"a":1}', in_lines=True) == '{"a":1}'
    assert as_text(b"\xff") == "\ufffd"


def test_tables_have_as_many_cells_as_titles() -> None:
    found = [one for number in range(1, 9) for one in tables(number)]
    assert len(found) >= 8
    for one in found:
        assert isinstance(one, Table)
        assert {len(row) for row in one.rows} == {len(one.head)}


def test_every_strip_has_parts() -> None:
    for one in exhibits():
        assert one.strips
        for strip in one.strips:
            assert isinstance(strip, Strip)
            assert strip.parts
    assert all(part.data for part in parts())
