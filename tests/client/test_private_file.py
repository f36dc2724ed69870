import stat
from pathlib import Path

import pytest

from securedelivery.client.private_file import replace_private


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "mine", tmp_path / "elsewhere"
    elsewhere.write_text("not mine")
    file.symlink_to(elsewhere)
    replace_private(file, "Bücher\r\n")
    assert file.read_bytes() == "Bücher\r\n".encode()
    assert not file.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert elsewhere.read_text() == "not mine"
    file.chmod(0o644)
    replace_private(file, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["text", "half a surrogate pair: \ud800"])
def test_a_failure_leaves_what_was_there(tmp_path: Path, text: str) -> None:
    target = tmp_path / "a folder"
    target.mkdir()
    with pytest.raises((IsADirectoryError, UnicodeEncodeError)):
        replace_private(target, text)
    assert list(tmp_path.iterdir()) == [target]
