"""What is written, where, and with which rights; what tshark makes of it is in test_kit.py."""

import os
import stat
from pathlib import Path

import pytest
from wireshark.told import opened, performed
from wireshark.tshark import run, tshark

from securedelivery.wireshark import files
from securedelivery.wireshark.files import Files
from securedelivery.wireshark.narration import narrate

NAMES = ["1-on-the-wire.pcapng", "2-tls-opened.pcapng", "3-all-opened.pcapng", "frame-keys.log", "tls-keys.log"]


@pytest.fixture
def written(tmp_path: Path) -> Files:
    return files.write(tmp_path, performed(), opened())


def test_five_files_and_nothing_else(written: Files, tmp_path: Path) -> None:
    assert sorted(one.name for one in tmp_path.iterdir()) == NAMES
    assert written.tls_keys.read_text() == performed().tls_keys
    assert written.frame_keys.read_text() == performed().frame_keys


def test_key_logs_are_for_their_owner_alone(written: Files) -> None:
    for file in (written.tls_keys, written.frame_keys):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(written.on_the_wire.stat().st_mode) == 0o666 & ~mask


def test_the_first_holds_no_key_and_the_second_only_those_of_tls(written: Files) -> None:
    tls = [line.split()[2] for line in performed().tls_keys.splitlines() if not line.startswith("#")]
    frames = [line.split()[2] for line in performed().frame_keys.splitlines()]
    assert len(frames) >= 30
    contents = [one.read_bytes() for one in (written.on_the_wire, written.tls_opened, written.all_opened)]
    for keys, expected in ((tls, [False, True, True]), (frames, [False, False, True])):
        for key in keys:
            assert [key.encode() in content for content in contents] == expected
            assert not any(bytes.fromhex(key) in content for content in contents)


def test_the_same_play_gives_the_same_bytes(written: Files, tmp_path: Path) -> None:
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    assert files.write(tmp_path, performed(), opened()) == written
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


def test_links_are_replaced_and_not_followed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    folder = tmp_path / "kit"
    folder.mkdir()
    for name in NAMES:
        (folder / name).symlink_to(mine)
    files.write(folder, performed(), opened())
    assert mine.read_text() == "mine"
    assert not any((folder / name).is_symlink() for name in NAMES)


def test_what_a_killed_run_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".1-on-the-wire.pcapng.new").write_text("half")
    files.write(tmp_path, performed(), opened())
    assert sorted(one.name for one in tmp_path.iterdir()) == NAMES


def test_a_capture_that_cannot_be_put_in_place_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "2-tls-opened.pcapng").mkdir()
    with pytest.raises(OSError, match="2-tls-opened"):
        files.write(tmp_path, performed(), opened())
    assert sorted(one.name for one in tmp_path.iterdir()) == ["1-on-the-wire.pcapng", "2-tls-opened.pcapng"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.write(tmp_path / "nowhere", performed(), opened())


def test_comments_and_messages_arrive_in_wireshark_as_they_were_written(written: Files) -> None:
    narration = narrate(performed(), opened())
    names = ("frame.number", "frame.comment", "frame.interface_name", "exported_pdu.orig_fno", "exported_pdu.dst_port")
    options = [word for name in names for word in ("-e", name)]
    result = tshark(written.all_opened, "-T", "fields", "-E", "aggregator=\x01", *options)
    assert result.stderr == ""
    messages = {one.number: one for one in narration.messages}
    assert len(result.rows) == len(performed().packets) + len(messages)
    for number, comments, interface, original, port in result.rows:
        said = comments.replace("\\n", "\n")
        for comment in narration.comments.get(int(number), ()):
            assert comment in said
        if not narration.comments.get(int(number)):
            assert said == ""
        message = messages.get(int(number))
        expected = ("wire", "", "") if message is None else ("opened", message.packet, message.destination.port)
        assert (interface, original, port) == tuple(map(str, expected))


def test_each_file_says_who_made_it(written: Files) -> None:
    for file in (written.on_the_wire, written.tls_opened, written.all_opened):
        result = run("capinfos", "-F", file)
        assert (result.code, result.stderr) == (0, "")
        assert "securedelivery 0." in result.stdout
