"""What has to be done from time to time, on one thread."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

QUIET_SECONDS = 60.0
"""A chore that keeps failing is logged once in this time."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chore:
    """seconds: from the end of one run to the next; the first is at the start."""

    name: str
    seconds: float
    run: Callable[[], object]


class Housekeeper:
    """Does its chores from start() to stop(), one after the other. One that fails is tried again in its turn."""

    def __init__(self, *chores: Chore, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: seconds, steadily growing."""
        self._clock = clock
        self._due = dict.fromkeys(chores, 0.0)
        self._logged: dict[Chore, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeper", daemon=True)

    def start(self) -> None:
        self._due = dict.fromkeys(self._due, self._clock())
        self._thread.start()

    def stop(self) -> None:
        """Have the chore that is being done finish, and end. Does nothing before start()."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for chore, due in self._due.items():
                if due <= self._clock() and not self._stopping.is_set():
                    self._do(chore)
                    self._due[chore] = self._clock() + chore.seconds
            self._stopping.wait(max(0.0, min(self._due.values()) - self._clock()))

    def _do(self, chore: Chore) -> None:
        try:
            chore.run()
        except Exception:  # noqa: BLE001 -- whatever it is, the other chores have to be done
            now = self._clock()
            if now - self._logged.get(chore, -QUIET_SECONDS) >= QUIET_SECONDS:
                self._logged[chore] = now
                _log.exception("! the chore %r has failed; it will be tried again", chore.name)
