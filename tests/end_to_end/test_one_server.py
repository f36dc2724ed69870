"""A database file has one server, and its key is nobody else's to read."""

from pathlib import Path

import pytest
from end_to_end.server_process import ServerProcess


def test_a_second_server_on_the_database_is_told_so(server: ServerProcess, certs: Path) -> None:
    """It would not tell its customers of what the first one changes."""
    second = ServerProcess(server.folder, certs)
    with pytest.raises(AssertionError, match="another server is serving"):
        second.start()
    server.kill()
    with second:
        assert second.running


def test_a_passphrase_that_others_can_read(tmp_path: Path, certs: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("a few words that only the operator knows\n")
    words.chmod(0o644)
    server = ServerProcess(tmp_path, certs, {"database": {"passphrase_file": str(words)}})
    with pytest.raises(AssertionError, match="can be read by others"):
        server.start()
    words.chmod(0o600)
    with server:
        assert not (tmp_path / "shop.db.key").exists()
