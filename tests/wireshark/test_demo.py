"""Where the kit cannot be made."""

from pathlib import Path

import pytest

from securedelivery.errors import ConfigurationError, LocalProtocolError
from securedelivery.wireshark import acts, demo, files


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


def test_another_run_leaves_the_files_of_others_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    first = demo.make_kit(tmp_path).lesson.read_text()
    assert demo.make_kit(tmp_path).lesson.read_text() != first
    assert (tmp_path / "mine.txt").read_text() == "mine"
