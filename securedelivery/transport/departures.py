"""When accounts were last connected, for whoever wants to know whether somebody has been away."""

import threading
import time
from collections import OrderedDict
from datetime import UTC, datetime, timedelta

__all__ = ["Departures"]

REMEMBERED = 20_000
"""Accounts of which it is known when they left: 4 MiB; beyond it the first to leave is forgotten."""


class Departures:
    """Safe for threads. However the clock is set meanwhile, what it says lies as long ago as it says."""

    def __init__(self) -> None:
        self._left: OrderedDict[int, float] = OrderedDict()  # monotonic seconds
        self._lock = threading.Lock()

    def note(self, account: int) -> None:
        """The account's last connection has gone."""
        with self._lock:
            self._left[account] = time.monotonic()
            self._left.move_to_end(account)
            if len(self._left) > REMEMBERED:
                self._left.popitem(last=False)

    def last(self, account: int) -> datetime | None:
        """When it left (aware, UTC). None: not since the start, or many others have left since."""
        with self._lock:
            left = self._left.get(account)
        return None if left is None else datetime.now(UTC) - timedelta(seconds=time.monotonic() - left)
