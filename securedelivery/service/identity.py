"""Certificate identities, and the names that were ever issued one."""

import logging
import threading
from pathlib import Path

_log = logging.getLogger(__name__)


def name_of(identity: str) -> str:
    """`alice` of `spiffe://example.org/account/alice`, whose form the handshake has checked."""
    return identity.rpartition("/")[2]


class IssuedNames:
    """names.txt beside the CA, one name a line: read again when it has changed; a missing one holds no names."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._names: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def __contains__(self, name: str) -> bool:
        with self._lock:
            self._refresh()
            return name in self._names

    def _refresh(self) -> None:
        if self._path is None:
            return
        try:
            found = self._path.stat()
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen != self._seen:
                self._names = frozenset(self._path.read_text("utf-8").split())
                self._seen = seen
        except FileNotFoundError:
            if self._names:
                _log.warning("! %s is gone; the names known so far stay reserved", self._path)
        except (OSError, UnicodeDecodeError) as error:
            # Better the names as they were than names given away.
            _log.warning("! %s cannot be read (%s); the names known so far stay reserved", self._path, error)
