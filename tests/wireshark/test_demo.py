"""Where the kit cannot be made."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from wireshark import told

from securedelivery.errors import ConfigurationError, LocalProtocolError
from securedelivery.protocol.frames import FrameKind
from securedelivery.wireshark import acts, demo, files
from securedelivery.wireshark import opened as opened_again
from securedelivery.wireshark.opened import Frame, OpenedLeg


def failing(error: Exception) -> object:
    def play(*_: object) -> None:
        raise error

    return play


@pytest.mark.parametrize(
    ("fault", "raised", "words"),
    [
        (TimeoutError("connection 3 does not end"), LocalProtocolError, "came to a stop (connection 3 does not end)"),
        (OSError(24, "Too many open files"), ConfigurationError, "cannot be built (Too many open files)"),
    ],
)
def test_a_play_that_goes_wrong_leaves_nothing(
    fault: Exception, raised: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acts, "play", failing(fault))
    with pytest.raises(raised) as told:
        demo.make_kit(tmp_path / "kit")
    assert words in str(told.value)
    assert list((tmp_path / "kit").iterdir()) == []


def test_a_disk_that_is_full_is_told_as_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "write", failing(OSError(28, "No space left on device")))
    with pytest.raises(ConfigurationError, match=r".* cannot be written into \(No space left on device\)") as told:
        demo.make_kit(tmp_path / "kit")
    assert (told.value.key, told.value.hint) == ("--out", "make room, or name another folder")


@pytest.mark.parametrize(("second", "plays"), [(0, 2), (1, 2), (2, 1), (255, 1)])
def test_a_handshake_that_looks_like_remote_desktop_is_played_again(
    second: int, plays: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Wireshark's heuristic for it would have it: by the second byte of e."""
    real, count = opened_again.open_play, 0

    def open_play(*play: Any) -> list[OpenedLeg]:
        nonlocal count
        count += 1
        legs = [replace(leg, frames=tuple(_with(frame, 7) for frame in leg.frames)) for leg in real(*play)]
        if count == 1:
            legs[3] = replace(legs[3], frames=(_with(legs[3].frames[0], second), *legs[3].frames[1:]))
        return legs

    monkeypatch.setattr(demo, "open_play", open_play)
    monkeypatch.setattr(demo, "tell", lambda _play, _legs: told.story())
    monkeypatch.setattr(files, "write", lambda *_: None)
    demo.make_kit(tmp_path)
    assert count == plays


def _with(frame: Frame, second: int) -> Frame:
    if frame.kind != FrameKind.HANDSHAKE:
        return frame
    return replace(frame, body=frame.body[:1] + bytes([second]) + frame.body[2:])


def test_another_run_leaves_the_files_of_others_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    first = demo.make_kit(tmp_path).lesson.read_text()
    assert demo.make_kit(tmp_path).lesson.read_text() != first
    assert (tmp_path / "mine.txt").read_text() == "mine"
