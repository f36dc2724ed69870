"""Watches the server's files: what has changed is loaded for new connections, or the old stays in force."""

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import structlog

from securedelivery.errors import ConfigurationError
from securedelivery.transport.tls import ServerFiles, ServerSecurity

__all__ = ["Beside", "SecurityWatcher"]

LOOK_SECONDS = 1.0
WARN_BEFORE = timedelta(days=7)  # docs/protocol.md, section 1
WARN_AGAIN = timedelta(hours=12)  # so that each day's log says it


class Beside(NamedTuple):
    """A door beside the socket's. renew: loads its files, and what it has of the socket door's; does not raise.

    life: from when until when its own certificate is valid; None where it shows the server's.
    """

    paths: Sequence[Path]
    renew: Callable[[], None]
    life: Callable[[], tuple[datetime, datetime] | None]


class SecurityWatcher(threading.Thread):
    """load: what makes a ServerSecurity of the files; use: where it goes. Both are called on this thread.

    beside: another door with files of its own.
    """

    def __init__(
        self,
        files: ServerFiles,
        load: Callable[[], ServerSecurity],
        use: Callable[[ServerSecurity], None],
        beside: "Beside | None" = None,
    ) -> None:
        super().__init__(name="security-watcher")
        self._beside = beside
        others = () if beside is None else beside.paths
        self._paths = (files.ca, files.certificate, files.key, files.crl, *others)
        self._load = load
        self._use = use
        self._wake = threading.Event()
        self._stopping = False
        self._asked = False
        self._log = structlog.get_logger("securedelivery.transport")
        self._warned = datetime.now(UTC)

    def watch(self, security: ServerSecurity) -> None:
        """Begin, with what is in force now."""
        self._seen = self._used = self._state()
        self._security = security
        self._warn()
        self.start()

    def reload(self) -> None:
        """Load now, changed or not: for SIGHUP. From any thread."""
        self._asked = True
        self._wake.set()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        self.join()

    def run(self) -> None:
        while True:
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()
            if self._stopping:
                return
            state = self._state()
            # Certificate and key are renamed into place one after the other: load when two looks in a row agree.
            settled, self._seen = state == self._seen, state
            if self._asked or (settled and state != self._used):
                self._asked = False
                self._used = state
                self._reload()
                if self._beside is not None:
                    self._beside.renew()
            now, security = datetime.now(UTC), self._security
            ends = [moment for moment in (security.crl_expires, security.certificate_ends) if moment is not None]
            if now - self._warned > WARN_AGAIN or any(self._warned < moment <= now for moment in ends):
                self._warn()

    def _reload(self) -> None:
        try:
            security = self._load()
        except ConfigurationError as error:
            self._log.error("! files not reloaded, the old ones stay", error=str(error), hint=error.hint)
            return
        except Exception:  # noqa: BLE001 -- a bug must not end the watch
            self._log.exception("! files not reloaded, the old ones stay")
            return
        self._security = security
        self._use(security)
        self._log.info("= files reloaded", crl_expires=security.crl_expires and security.crl_expires.isoformat())
        self._warn()

    def _warn(self) -> None:
        now, expires = datetime.now(UTC), self._security.crl_expires
        self._warned = now
        if expires is None:
            self._log.error("! no revocation list: every client certificate is refused", hint="run ./gen_certs.sh crl")
        elif expires <= now:
            self._log.error(
                "! the revocation list is outdated: every client certificate is refused",
                expired=expires.isoformat(),
                hint="run ./gen_certs.sh crl",
            )
        elif expires - now < WARN_BEFORE:
            self._log.warning(
                "! the revocation list is outdated soon", expires=expires.isoformat(), hint="run ./gen_certs.sh crl"
            )
        own = self._security.certificate_begins, self._security.certificate_ends
        self._warn_of_certificate("server", own, now, "run ./gen_certs.sh renew server")
        life = None if self._beside is None else self._beside.life()
        if life is not None:
            self._warn_of_certificate(
                "web", life, now, "renew it where it comes from; the new files are loaded at once"
            )

    def _warn_of_certificate(self, whose: str, life: tuple[datetime, datetime], now: datetime, hint: str) -> None:
        begins, ends = life
        if now < begins:
            self._log.error(
                f"! the {whose}'s certificate is not valid yet: no client accepts it",
                begins=begins.isoformat(),
                hint="check this machine's clock",
            )
        elif ends <= now:
            self._log.error(
                f"! the {whose}'s certificate has ended: no client accepts it", ended=ends.isoformat(), hint=hint
            )
        elif ends - now < WARN_BEFORE:
            self._log.warning(f"! the {whose}'s certificate ends soon", ends=ends.isoformat(), hint=hint)

    def _state(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_fingerprint(path) for path in self._paths)


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
