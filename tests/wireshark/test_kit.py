"""The kit as a teacher's Wireshark sees it."""

import re
from pathlib import Path

import pytest
from wireshark.tshark import Result, run, tshark

from securedelivery.wireshark.demo import Kit

PLUGIN = ("-X", "lua_script:{}")
ALL = ("on_the_wire", "tls_opened", "all_opened")
CHECKSUMS = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")


def fields(
    kit: Kit, capture: str, *names: str, shown: str = "", plugin: bool = False, twice: bool = False
) -> list[list[str]]:
    """A row a packet. Whatever tshark says on stderr fails the test."""
    wanted = [word for name in names for word in ("-e", name)]
    options = [
        *(("-Y", shown) if shown else ()),
        *(("-2",) if twice else ()),
        *((*PLUGIN, kit.plugin) if plugin else ()),
    ]
    return sound(tshark(getattr(kit.files, capture), *options, "-T", "fields", "-E", "aggregator=;", *wanted)).rows


def sound(result: Result) -> Result:
    assert result.stderr == ""
    assert result.code == 0
    return result


def messages(kit: Kit) -> list[bytes]:
    """Every message of the play: what is behind the tags of each exported PDU."""
    found = []
    for _, data, interface in blocks(kit.files.all_opened):
        if interface == 1:
            place = 0
            while any(data[place : place + 4]):  # tag and length, until one that is 0
                place += 4 + int.from_bytes(data[place + 2 : place + 4])
            found.append(data[place + 4 :])
    assert len(found) > 60
    return found


def test_the_three_files_hold_the_same_packets(kit: Kit) -> None:
    seen = [[packet[:2] for packet in blocks(getattr(kit.files, name)) if packet[2] == 0] for name in ALL]
    assert len(seen[0]) > 300
    assert seen[0] == seen[1] == seen[2]


def blocks(capture: Path) -> list[tuple[int, bytes, int]]:
    """Time, bytes and interface of each packet, read without any of our code."""
    data, found, place = capture.read_bytes(), [], 0
    while place < len(data):
        kind, length = (int.from_bytes(data[place + start : place + start + 4], "little") for start in (0, 4))
        if kind == 6:
            interface, high, low, captured = (
                int.from_bytes(data[place + start : place + start + 4], "little") for start in (8, 12, 16, 20)
            )
            found.append((high << 32 | low, data[place + 28 : place + 28 + captured], interface))
        place += length
    assert place == len(data)
    return found


def test_the_keys_are_all_that_the_second_file_has_more(kit: Kit) -> None:
    script = 'editcap --discard-all-secrets "$1" without.pcapng && cat without.pcapng | od -An -v -tx1'
    result = run("bash", "-c", script, "bash", kit.files.tls_opened)
    assert bytes.fromhex(sound(result).stdout) == kit.files.on_the_wire.read_bytes()


@pytest.mark.parametrize("capture", ALL)
def test_tcp_has_nothing_to_remark(kit: Kit, capture: str) -> None:
    shown = "tcp.analysis.flags || tcp.checksum.status == 0 || ip.checksum.status == 0 || _ws.malformed"
    assert sound(tshark(getattr(kit.files, capture), *CHECKSUMS, "-Y", shown)).stdout == ""


def test_on_the_wire_is_no_byte_of_what_is_said(kit: Kit) -> None:
    wire = b"".join(packet for _, packet, _ in blocks(kit.files.on_the_wire))
    for word in (b"jsonrpc", b"order.place", b"GPU-NV-4070S", b"Harbour Lane", b"spiffe://", b"BEGIN"):
        assert word not in wire
    for message in messages(kit):
        assert message[:24] not in wire
    # A positive control: what is in clear is found in the same way.
    assert b"securedelivery/1" in wire
    assert fields(kit, "on_the_wire", "tls.handshake.type", shown="tls.handshake.type > 2") == []
    assert fields(kit, "on_the_wire", "frame.number", shown="json || data") == []


def test_with_the_keys_of_tls_its_handshakes_are_open_and_the_frames_closed(kit: Kit) -> None:
    versions = {
        row[0]
        for row in fields(
            kit, "tls_opened", "tls.handshake.extensions.supported_version", shown="tls.handshake.type == 2"
        )
    }
    assert versions == {"0x0304"}
    connections = len(fields(kit, "tls_opened", "tcp.stream", shown="tls.handshake.type == 1"))
    servers = fields(kit, "tls_opened", "tcp.stream", shown="tls.handshake.type == 8")
    assert len(servers) == connections == 20
    assert len(fields(kit, "tls_opened", "tcp.stream", shown="tls.handshake.type == 11 && tcp.dstport == 5555")) == 20
    inside = b"".join(
        bytes.fromhex(row[0].replace(";", "")) for row in fields(kit, "tls_opened", "data.data", shown="data.data")
    )
    assert len(inside) > 50_000
    for message in messages(kit):
        assert message[:24] not in inside
    assert b"order.place" not in inside
    assert fields(kit, "tls_opened", "frame.number", shown="json") == []


def test_the_third_file_tells_every_message_without_a_plugin(kit: Kit) -> None:
    told = [row[0] for row in fields(kit, "all_opened", "exported_pdu.orig_fno", shown="json")]
    assert len(told) == len(messages(kit))
    packets = len(blocks(kit.files.on_the_wire))
    assert all(1 <= int(number) <= packets for number in told)
    dissected = fields(
        kit, "all_opened", "frame.number", "securedelivery.plaintext", shown="securedelivery.plaintext", plugin=True
    )
    frames = [(int(number), len(texts.split(";{"))) for number, texts in dissected]
    assert sum(count for _, count in frames) == len(told)
    assert sorted({int(number) for number in told}) == sorted(number for number, _ in frames)
    for word in (b"order.place", b"delivery_code", b"Harbour Lane", b"chat.message", b'"points"'):
        assert any(word in message for message in messages(kit)), word


def test_counters_have_no_gaps_and_exactly_the_tampered_frames_are_rejected(kit: Kit) -> None:
    names = (
        "tcp.stream",
        "securedelivery.direction",
        "securedelivery.counter",
        "securedelivery.status",
    )
    rows = fields(kit, "all_opened", *names, shown="securedelivery", plugin=True)
    counters: dict[tuple[str, str], list[int]] = {}
    rejected = []
    for stream, directions, numbers, statuses in rows:
        rejected += [int(stream)] * statuses.split(";").count("rejected")
        assert "no key" not in statuses
        assert "counter unknown" not in statuses
        counters.setdefault((stream, directions.split(";")[0]), []).extend(
            int(number) for number in numbers.split(";") if number
        )
    for sequence in counters.values():
        assert sequence == list(range(len(sequence)))
    # The gateway's halves of: a bit flipped inside, a frame sent twice, two frames swapped.
    assert rejected == [4, 6, 8]


def test_the_flip_outside_is_an_alert_and_nothing_else_is(kit: Kit) -> None:
    alerts = fields(kit, "all_opened", "tcp.stream", "tls.alert_message.desc", shown="tls.alert_message.desc > 0")
    assert alerts == [["2", "20"], ["16", "44"]]


def test_a_second_pass_gives_the_same(kit: Kit) -> None:
    names = (
        "frame.number",
        "securedelivery.counter",
        "securedelivery.status",
        "securedelivery.tag_ok",
        "securedelivery.method",
    )
    once = fields(kit, "all_opened", *names, plugin=True)
    assert fields(kit, "all_opened", *names, plugin=True, twice=True) == once
    assert any("opened" in row[2] for row in once)


def test_one_altered_byte_is_found(kit: Kit, tmp_path: Path) -> None:
    whole = kit.files.all_opened.read_bytes()
    [[number]] = fields(
        kit,
        "all_opened",
        "frame.number",
        shown='securedelivery.method == "order.place" && tcp.stream == 19',
        plugin=True,
    )
    packet = blocks(kit.files.all_opened)[int(number) - 1][1]
    place = whole.index(packet) + len(packet) - 30
    altered = tmp_path / "altered.pcapng"
    altered.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    shown = f"frame.number == {number} && securedelivery.method"
    assert sound(tshark(kit.files.all_opened, *PLUGIN, kit.plugin, "-Y", shown)).stdout != ""
    assert sound(tshark(altered, *PLUGIN, kit.plugin, "-Y", shown)).stdout == ""
    bad = sound(
        tshark(altered, *CHECKSUMS, "-Y", "tcp.checksum.status == 0", "-T", "fields", "-e", "frame.number")
    ).rows
    assert bad == [[number]]


def test_the_profile_is_taken_without_a_word(kit: Kit) -> None:
    script = (
        "place=own/profiles/securedelivery; mkdir -p $place; capture=$1; shift;"
        ' for file in "$@"; do name=${file##*/}; cp "$file" "$place/${name#*-}"; done;'
        ' WIRESHARK_CONFIG_DIR=$PWD/own tshark -C securedelivery -r "$capture"'
    )
    profile = kit.folder / "wireshark" / "profiles" / "securedelivery"
    names = ("preferences", "colorfilters", "dfilter_buttons", "hosts", "recent")
    result = sound(run("bash", "-c", script, "bash", kit.files.all_opened, *(profile / name for name in names)))
    assert re.search(r"alice +(→|->) shop +TCP", result.stdout)


def test_every_button_shows_its_act(kit: Kit) -> None:
    buttons = (kit.folder / "wireshark/profiles/securedelivery/dfilter_buttons").read_text().splitlines()
    assert len(buttons) == 8
    for button in buttons:
        _, name, expression, _ = (part.strip('"') for part in re.findall('"[^"]*"', button))
        assert sound(tshark(kit.files.all_opened, "-Y", expression)).stdout, name
