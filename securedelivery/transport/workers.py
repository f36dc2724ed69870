"""A bounded pool of threads for what hashes or waits."""

import queue
import threading
from collections.abc import Callable

__all__ = ["Workers"]


class Workers:
    """threads: how many at once; capacity: how many jobs may wait. Jobs do not raise; they report their outcome."""

    def __init__(self, name: str, *, threads: int, capacity: int) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._capacity = capacity
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{i}") for i in range(threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def submit(self, job: Callable[[], None]) -> bool:
        """Queue a job, from any thread. False, at once, where the queue is full."""
        if self._queue.qsize() >= self._capacity:  # a bound against floods: one more or less does not matter
            return False
        self._queue.put(job)
        return True

    def stop(self) -> None:
        """Finish what is queued, then end the threads and join them."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            job()
