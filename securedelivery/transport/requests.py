"""The order of one connection's requests: one at a time, but writes beside writes, so that all take effect as sent."""

from collections import deque
from collections.abc import Callable

from securedelivery.protocol.connection import RequestRefused
from securedelivery.protocol.jsonrpc import Request
from securedelivery.transport.dispatch import Lane

__all__ = ["Requests", "Review", "Work"]


class Review:
    """Not of the peer's asking: have the application look at who is logged in, in its turn behind what was sent."""


Work = Request | RequestRefused | Review


class Requests:
    """start: runs a request of a lane. For Lane.INLINE it is done when start returns, else when finished() is called.

    Of the connection's I/O thread alone.
    """

    __slots__ = ("_running_lane", "_start", "_waiting", "running")

    def __init__(self, start: Callable[[Work, Lane], None]) -> None:
        self._start = start
        self._waiting: deque[tuple[Work, Lane]] = deque()
        self._running_lane = Lane.INLINE
        self.running = 0

    def __len__(self) -> int:
        """How many are unanswered."""
        return len(self._waiting) + self.running

    def add(self, request: Work, lane: Lane) -> None:
        """Take a request in its turn, which may be now."""
        if lane is Lane.INLINE and not self.running and not self._waiting:
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

    def _advance(self) -> None:
        waiting = self._waiting
        while waiting:
            request, lane = waiting[0]
            if self.running and not (lane is Lane.WRITE and self._running_lane is Lane.WRITE):
                return
            waiting.popleft()
            if lane is not Lane.INLINE:
                self.running += 1
                self._running_lane = lane
            self._start(request, lane)
