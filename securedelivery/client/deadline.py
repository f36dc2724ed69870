"""One deadline for a whole exchange, not one for each read."""

import time

__all__ = ["Deadline"]


class Deadline:
    """seconds: from now on."""

    __slots__ = ("_end", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds that are left, never less than 0."""
        return max(0.0, self._end - time.monotonic())

    def at_most(self, seconds: float) -> "Deadline":
        """A deadline for a part: that many seconds from now, but no later than this one."""
        return Deadline(min(seconds, self.remaining()))
