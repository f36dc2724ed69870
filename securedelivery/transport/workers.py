"""A bounded pool of threads for what hashes or waits."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable

__all__ = ["Workers"]


class Workers:
    """threads: how many at once; capacity: how many jobs may wait. Jobs do not raise; they report their outcome."""

    def __init__(self, name: str, *, threads: int, capacity: int) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._capacity = capacity
        # Daemons, so that a job that never ends cannot keep the process from ending.
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{i}", daemon=True) for i in range(threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def submit(self, job: Callable[[], None]) -> bool:
        """Queue a job, from any thread. False, at once, where the queue is full."""
        if self._queue.qsize() >= self._capacity:  # a bound against floods: one more or less does not matter
            return False
        self._queue.put(job)
        return True

    def close(self) -> None:
        """Forget what is queued, and have the threads end with the job that they are at."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        for _ in self._threads:
            self._queue.put(None)

    def join(self, within_seconds: float) -> list[str]:
        """Wait for the threads, after close(). Returns the names of those that are stuck in a job."""
        ends = time.monotonic() + within_seconds
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))
        return [thread.name for thread in self._threads if thread.is_alive()]

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            job()
