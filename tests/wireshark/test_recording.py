"""A capture in a file: what tshark reads in it at any moment, and what becomes of it when the disk is full."""

import contextlib
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from wireshark import tshark

from securedelivery import __version__
from securedelivery.errors import ConfigurationError
from securedelivery.wireshark.recording import RecordingFile
from securedelivery.wireshark.tcp import Endpoint

CLIENT, SERVER = Endpoint("192.0.2.10", 50_000), Endpoint("192.0.2.1", 5_555)


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As if the disk were full: whoever writes a file beyond `size` bytes gets an OSError."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def open_descriptors() -> set[str]:
    return {one.name for one in Path("/proc/self/fd").iterdir()}


def lengths(path: Path) -> list[int]:
    """The TCP payloads of a file's packets, as tshark reads them; it must not complain."""
    result = tshark.tshark(path, "-T", "fields", "-e", "tcp.len")
    assert (result.stderr, result.code) == ("", 0)
    return [int(row[0]) for row in result.rows]


def test_the_file_is_whole_after_each_call(tmp_path: Path) -> None:
    path = tmp_path / "traffic.pcapng"
    with RecordingFile(path) as recording:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert lengths(path) == []
        flow = recording.capture.flow(CLIENT, SERVER)
        assert lengths(path) == [0, 0, 0]
        flow.sent(True, b"hello")
        assert lengths(path) == [0, 0, 0, 5]
        flow.sent(False, bytes(2_000))
        assert lengths(path) == [0, 0, 0, 5, 1_460, 540]
        flow.finished(True)
    assert lengths(path) == [0, 0, 0, 5, 1_460, 540, 0, 0]
    assert recording.capture.count == 8
    assert recording.capture.packets == []  # a relay that runs for days does not keep them


def test_it_says_who_wrote_it_and_where(tmp_path: Path) -> None:
    path = tmp_path / "traffic.pcapng"
    with RecordingFile(path) as recording:
        recording.capture.flow(CLIENT, SERVER)
    said = tshark.run("capinfos", path).stdout
    for words in ("Wireshark/... - pcapng\n", f"securedelivery {__version__} relay\n", "Ethernet", "resolution = 0x09"):
        assert words in said
    rows = tshark.tshark(path, "-T", "fields", "-e", "frame.interface_name", "-e", "frame.interface_description").rows
    assert rows == [["relay", "as forwarded by securedelivery relay"]] * 3


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "traffic.pcapng"
    path.write_text("precious")
    with (
        pytest.raises(ConfigurationError, match=r"--write: .*traffic\.pcapng is there already") as refused,
        RecordingFile(path),
    ):
        pass
    assert refused.value.hint == "name another file, or remove it"
    assert path.read_text() == "precious"


@pytest.mark.parametrize("there", [True, False])
def test_a_symbolic_link_is_not_followed(tmp_path: Path, *, there: bool) -> None:
    target = tmp_path / "target"
    if there:
        target.write_text("precious")
    link = tmp_path / "traffic.pcapng"
    link.symlink_to(target)
    with pytest.raises(ConfigurationError, match="is there already"), RecordingFile(link):
        pass
    assert target.exists() == there
    assert not there or target.read_text() == "precious"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(
            ConfigurationError, match=r"--write: .*nowhere/it cannot be made \(No such file or directory\)"
        ) as no,
        RecordingFile(tmp_path / "nowhere" / "it"),
    ):
        pass
    assert no.value.hint == "name a file in a folder that can be written to"


def test_a_full_disk_leaves_whole_packets(tmp_path: Path) -> None:
    path = tmp_path / "traffic.pcapng"
    with RecordingFile(path) as recording:
        flow = recording.capture.flow(CLIENT, SERVER)
        flow.sent(True, b"hello")
        size = path.stat().st_size
        with (
            largest_file(size + 100),
            pytest.raises(OSError, match=r"traffic\.pcapng cannot be written any more \(File too large\)"),
        ):
            flow.sent(True, bytes(1_000))
        assert path.stat().st_size == size
    assert lengths(path) == [0, 0, 0, 5]


def test_a_disk_that_was_full_from_the_first_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "traffic.pcapng"
    descriptors = open_descriptors()
    with largest_file(20), pytest.raises(OSError, match="cannot be written any more"), RecordingFile(path):
        pass
    assert not path.exists()
    assert open_descriptors() == descriptors


def test_nothing_is_left_where_nothing_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "traffic.pcapng"
    with pytest.raises(KeyboardInterrupt), RecordingFile(path):
        raise KeyboardInterrupt
    assert not path.exists()
    with contextlib.suppress(KeyboardInterrupt), RecordingFile(path) as recording:
        recording.capture.flow(CLIENT, SERVER)
        raise KeyboardInterrupt
    assert lengths(path) == [0, 0, 0]
