"""An I/O thread's decisions, taken without its loop: when it begins the writes, and when it is woken."""

import os
from collections.abc import Iterator

import pytest

from securedelivery.transport import io
from securedelivery.transport.io import IOThread


class Loop:
    """One that does not run. begun: how often it has begun the writes; busy: a descriptor that is ready or not."""

    def __init__(self) -> None:
        self.begun = 0
        self.thread = IOThread("io-test", lambda _peer, _error: None, self._begin)
        self.busy = os.eventfd(0, os.EFD_NONBLOCK)
        self.thread._epoll.register(self.busy, io.select.EPOLLIN)

    def _begin(self) -> None:
        self.begun += 1

    def look(self) -> list[int]:
        return [fd for fd, _ in self.thread._ready(self.thread.now)]

    def woken(self) -> bool:
        try:
            return os.eventfd_read(self.thread._wakeup) > 0
        except BlockingIOError:
            return False


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.thread._epoll.close()
    os.close(loop.thread._wakeup)
    os.close(loop.busy)


def test_writes_begin_when_no_connection_is_ready(loop: Loop) -> None:
    assert (loop.look(), loop.begun) == ([], 0)
    loop.thread.write_waits()
    assert (loop.look(), loop.begun) == ([], 1)
    assert (loop.look(), loop.begun) == ([], 1)


def test_busy_connections_hold_them_up_only_for_a_while(loop: Loop) -> None:
    os.eventfd_write(loop.busy, 1)
    loop.thread.write_waits()
    assert (loop.look(), loop.begun) == ([loop.busy], 0)
    loop.thread.now += io.WRITES_WAIT_SECONDS / 2
    loop.thread.write_waits()  # the first one counts
    assert (loop.look(), loop.begun) == ([loop.busy], 0)
    loop.thread.now += io.WRITES_WAIT_SECONDS
    assert (loop.look(), loop.begun) == ([loop.busy], 1)
    assert (loop.look(), loop.begun) == ([loop.busy], 1)


def test_posts_wake_a_sleeping_thread_once(loop: Loop) -> None:
    loop.thread.post(loop.thread.write_waits)
    assert not loop.woken()  # it is not asleep
    loop.thread._asleep = True
    loop.thread.post(loop.thread.write_waits)
    assert loop.woken()
    loop.thread.post(loop.thread.write_waits)
    assert not loop.woken()


def test_what_is_held_wakes_it_at_the_end(loop: Loop) -> None:
    loop.thread._asleep = True
    loop.thread.hold()
    loop.thread.post(loop.thread.write_waits)
    loop.thread.post(loop.thread.write_waits)
    assert not loop.woken()
    loop.thread.release()
    assert loop.woken()
    loop.thread._asleep = True
    loop.thread._inbox.clear()
    loop.thread.hold()
    loop.thread.release()
    assert not loop.woken()  # for nothing
