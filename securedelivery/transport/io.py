"""A thread with an epoll loop, the only toucher of its connections. Others reach them by post()."""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from securedelivery.transport.peer import Peer

__all__ = ["IOThread"]

SWEEP_SECONDS = 0.5  # how late a deadline may be noticed; one look at 10,000 deadlines costs 0.1 ms
POSTS_PER_PASS = 1_000  # so that a flood of posts does not keep sockets waiting
WRITES_WAIT_SECONDS = 0.01  # at most, while connections keep this thread busy


class IOThread(threading.Thread):
    """report: what to do with a bug in one connection's handling (that connection ends, the others do not notice).

    begin_writes: called when this thread has nothing else to do, or soon, once write_waits() was called. Two threads
    that run at once fight for the interpreter's lock, which made an order half as dear again; and what is written
    later is written with more of its kind.
    """

    def __init__(
        self, name: str, report: Callable[["Peer", Exception], None], begin_writes: Callable[[], None]
    ) -> None:
        super().__init__(name=name)
        self._epoll = select.epoll()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wakeup, select.EPOLLIN)
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._asleep = False
        self._held = False
        self._stopping = False
        self._report = report
        self._begin_writes = begin_writes
        self._writes_begin_by: float | None = None
        self.peers: dict[int, Peer] = {}
        self.dirty: list[Peer] = []
        self.now = time.monotonic()

    def post(self, call: Callable[..., None], *args: Any) -> None:
        """Have call(*args) run on this thread, in the order of the posts. From any thread; never blocks."""
        self._inbox.append((call, args))
        if self._asleep and not self._held:
            self._wake()

    def hold(self) -> None:
        """Let posts wait until release(), so that several wake this thread once: being woken costs more than most of
        what is posted, and the one that woke it then waits for the interpreter's lock. For the writer's thread.
        """
        self._held = True

    def release(self) -> None:
        self._held = False
        if self._asleep and self._inbox:
            self._wake()

    def _wake(self) -> None:
        self._asleep = False
        os.eventfd_write(self._wakeup, 1)

    def stop(self) -> None:
        """End after what has been posted; connections that are left are closed without a word. From any thread."""
        self.post(self._stop)

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end, after stop(). Once, for it takes away what post() wakes the thread with."""
        super().join(timeout)
        os.close(self._wakeup)

    def _stop(self) -> None:
        self._stopping = True

    # Below: on this thread only.

    def arm(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def add(self, peer: "Peer", fd: int, events: int) -> None:
        self._epoll.register(fd, events)
        self.peers[fd] = peer

    def remove(self, fd: int) -> None:
        """Also for one that add() did not take."""
        if self.peers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def write_waits(self) -> None:
        """A connection has submitted something that waits for begin_writes."""
        if self._writes_begin_by is None:
            self._writes_begin_by = self.now + WRITES_WAIT_SECONDS

    def _ready(self, next_sweep: float) -> list[tuple[int, int]]:
        """What epoll has; waits for it."""
        if self._writes_begin_by is not None:
            ready = self._epoll.poll(0.0)
            if ready and self.now < self._writes_begin_by:
                return ready
            self._writes_begin_by = None
            self._begin_writes()
            if ready:
                return ready
        # Clear, look, sleep, in this order: a post between the look and the sleep writes the eventfd.
        self._asleep = True
        timeout = 0.0 if self._inbox else max(0.0, next_sweep - time.monotonic())
        ready = self._epoll.poll(timeout)
        self._asleep = False
        return ready

    def run(self) -> None:
        next_sweep = time.monotonic() + SWEEP_SECONDS
        while not self._stopping:
            ready = self._ready(next_sweep)
            self.now = now = time.monotonic()
            for fd, events in ready:
                peer = self.peers.get(fd)
                if peer is not None:
                    self._guarded(peer, peer.on_events, events)
                elif fd == self._wakeup:
                    os.eventfd_read(self._wakeup)
            self._run_posts()
            self._flush()
            if now >= next_sweep:
                next_sweep = now + SWEEP_SECONDS
                for peer in [peer for peer in self.peers.values() if peer.deadline <= now]:
                    self._guarded(peer, peer.expire)
                self._flush()
        for peer in list(self.peers.values()):
            peer.abandon()
        self._epoll.close()

    def _run_posts(self) -> None:
        inbox = self._inbox
        for _ in range(min(len(inbox), POSTS_PER_PASS)):
            call, args = inbox.popleft()
            owner = getattr(call, "__self__", None)
            if owner is None or owner is self:
                call(*args)
            elif owner.io is not self:  # it has moved since
                owner.io.post(call, *args)
            else:
                self._guarded(owner, call, *args)

    def _flush(self) -> None:
        while self.dirty:  # a flush can end a connection, which can give others something to say
            batch, self.dirty = self.dirty, []
            for peer in batch:
                self._guarded(peer, peer.flush)

    def _guarded(self, peer: "Peer", call: Callable[..., None], *args: Any) -> None:
        try:
            call(*args)
        except Exception as error:  # noqa: BLE001 -- the last line of defence: a bug ends one connection, not the server
            self._report(peer, error)
