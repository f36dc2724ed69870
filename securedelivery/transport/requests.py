"""The order of one connection's requests: one at a time, but writes beside writes, so that all take effect as sent."""

from collections.abc import Callable

from securedelivery.protocol.connection import RequestRefused
from securedelivery.protocol.jsonrpc import Request
from securedelivery.transport.dispatch import Lane

__all__ = ["Requests", "Review", "Work"]


class Review:
    """Not of the peer's asking: have the application look at who is logged in, in its turn behind what was sent."""


Work = Request | RequestRefused | Review

# CPython 3.11 finds an enum's member in Python code: too slow for once a request.
_INLINE, _WRITE = Lane.INLINE, Lane.WRITE


class Requests:
    """start: runs a request of a lane. For Lane.INLINE it is done when start returns, else when finished() is called.

    Of the connection's I/O thread alone.
    """

    __slots__ = ("_running_lane", "_start", "_waiting", "running")

    def __init__(self, start: Callable[[Work, Lane], None]) -> None:
        self._start = start
        self._waiting: list[tuple[Work, Lane]] = []  # short; an empty deque takes 0.6 KiB
        self._running_lane = Lane.INLINE
        self.running = 0

    def __len__(self) -> int:
        """How many are unanswered."""
        return len(self._waiting) + self.running

    def add(self, request: Work, lane: Lane) -> None:
        """Take a request in its turn, which may be now."""
        if lane is _INLINE and not self.running:  # then nothing waits either
            self._start(request, lane)
        else:
            self._waiting.append((request, lane))
            self._advance()

    def finished(self) -> None:
        """One that was running has been answered."""
        self.running -= 1
        self._advance()

    def clear(self) -> None:
        """Forget those that wait."""
        self._waiting.clear()

    def close(self) -> None:
        """Start nothing any more, and let go of the connection, which holds this: a cycle would outlive both."""
        self._waiting.clear()
        del self._start

    def _advance(self) -> None:
        waiting = self._waiting
        while waiting:
            request, lane = waiting[0]
            if self.running and not (lane is _WRITE and self._running_lane is _WRITE):
                return
            del waiting[0]
            if lane is not _INLINE:
                self.running += 1
                self._running_lane = lane
            self._start(request, lane)
