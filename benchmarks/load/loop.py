"""The dialogue with whoever measures, and the loop that keeps requests outstanding on many connections.

In the measured part a generator only sends bytes that were made before, receives, and finds the ends of answers. What
the answers say is looked at after the clock has stopped.
"""

import gc
import json
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

__all__ = ["Line", "Timing", "converse", "dial", "run"]

QUIET_SECONDS = 30.0  # without a byte from the server: it owes answers that will not come


class Line(Protocol):
    """A connection with its requests made. left: sendings that are still to be made."""

    socket: socket.socket
    left: int

    def ask(self) -> None:
        """Send the next one."""

    def take(self) -> bool:
        """Receive what is there; whether all that was asked is answered."""


class Timing:
    """Of a run. latencies: microseconds from a sending to its last answer, sorted."""

    def __init__(self, seconds: float, cpu_seconds: float, latencies: list[float]) -> None:
        self.seconds = seconds
        self.cpu_seconds = cpu_seconds
        self.latencies = sorted(latencies)

    def at(self, share: float) -> float:
        return self.latencies[min(int(len(self.latencies) * share), len(self.latencies) - 1)]

    def as_json(self) -> dict[str, float]:
        return {
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "p50_us": self.at(0.5),
            "p99_us": self.at(0.99),
        }


def dial(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), QUIET_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def run(lines: Sequence[Line], rate: float | None = None) -> Timing:
    """Each line asks, waits for the answer, and asks again, until all have asked everything.

    rate: askings a second of all lines together, evenly spaced; else as fast as the answers come. Between them this
    waits awake, for the kernel's sleep is too coarse, so it looks busy and is not the bottleneck.
    """
    by_fd = {line.socket.fileno(): line for line in lines}
    for line in lines:
        line.socket.setblocking(False)
    with select.epoll() as poll:
        for fd in by_fd:
            poll.register(fd, select.EPOLLIN)
        gc.collect()
        gc.disable()
        began, cpu = time.perf_counter(), time.process_time()
        latencies = _closed(by_fd, poll) if rate is None else _paced(by_fd, poll, 1 / rate)
        timing = Timing(time.perf_counter() - began, time.process_time() - cpu, latencies)
        gc.enable()
    return timing


def _closed(by_fd: dict[int, Line], poll: select.epoll) -> list[float]:
    clock = time.perf_counter
    since: dict[int, float] = {}
    latencies: list[float] = []
    for fd, line in by_fd.items():
        if line.left:
            since[fd] = clock()
            line.ask()
    while since:
        events = poll.poll(QUIET_SECONDS)
        if not events:
            sys.exit(f"error: {len(since)} connections wait for an answer that does not come")
        for fd, _ in events:
            line = by_fd[fd]
            if not line.take() or fd not in since:  # what came last may be a notification behind the answer
                continue
            now = clock()
            latencies.append((now - since[fd]) * 1e6)
            if line.left:
                since[fd] = now
                line.ask()
            else:
                del since[fd]
    return latencies


def _paced(by_fd: dict[int, Line], poll: select.epoll, interval: float) -> list[float]:
    clock = time.perf_counter
    idle = deque(fd for fd, line in by_fd.items() if line.left)
    since: dict[int, float] = {}
    latencies: list[float] = []
    due = heard = clock()
    while idle or since:
        now = clock()
        if idle and now >= due:
            fd = idle.popleft()
            since[fd] = now
            by_fd[fd].ask()
            due += interval
        for fd, _ in poll.poll(0):
            heard = now
            if by_fd[fd].take() and fd in since:
                latencies.append((clock() - since.pop(fd)) * 1e6)
                if by_fd[fd].left:
                    idle.append(fd)
        if since and now - heard > QUIET_SECONDS:
            sys.exit(f"error: {len(since)} connections wait for an answer that does not come")
    return latencies


def converse(work: Callable[[], dict[str, Any]]) -> None:
    """Say that all is ready, wait for "go", work, say what came of it, and stay until stdin ends."""
    print(json.dumps({"ready": True}), flush=True)
    if sys.stdin.readline().strip() != "go":
        return
    print(json.dumps(work()), flush=True)
    sys.stdin.read()
