"""A bad line: carries bytes between clients and the server, and cuts connections without a word, mid-frame."""

import contextlib
import random
import selectors
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import Self

from wire_client import Address

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds: close() sends RST and drops what is queued
_STUCK_SECONDS = 10.0
_SWEEP_SECONDS = 0.005


@dataclass(eq=False)
class _Line:
    """One connection: both its sockets. carried: bytes, both ways. It is cut after `fuse` bytes, or once `seconds` have
    passed since its login, which is the deadline.
    """

    client: socket.socket
    server: socket.socket
    carried: int = 0
    fuse: int | None = None
    seconds: float | None = None
    deadline: float | None = None

    def other(self, end: socket.socket) -> socket.socket:
        return self.server if end is self.client else self.client


class CuttingRelay:
    """A context manager. Cuts nothing before arm(), which is to be told how much a connection carries until it is
    logged in: most cuts come behind that, and only those count.

    cuts: of connections at work; early_cuts: of those that were still at their handshake or login; torn: cuts within
    what was just being carried, which was delivered in part.
    """

    def __init__(self, server: Address, cuts: int, chance: random.Random) -> None:
        self._to = server
        self._wanted = cuts
        self._chance = chance
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address: Address = self._listener.getsockname()
        self.cuts = self.early_cuts = self.torn = 0
        self._login_bytes: int | None = None
        self._lines: dict[socket.socket, _Line] = {}
        self._selector = selectors.DefaultSelector()
        self._stopping = threading.Event()
        self._severing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cutting relay")
        self.failure: Exception | None = None

    def __enter__(self) -> Self:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._selector.close()
        self._listener.close()
        if self.failure is not None:
            raise self.failure

    @property
    def done(self) -> bool:
        """Whether it has cut as often as it should. From now on the line is good."""
        return self.cuts >= self._wanted

    @property
    def carried(self) -> int:
        """Bytes of the connections that are open, both ways."""
        return sum(line.carried for line in set(self._lines.values()))

    def arm(self, login_bytes: int) -> None:
        self._login_bytes = login_bytes

    def sever(self) -> None:
        """Cut every connection that there is, soon; these cuts are not counted."""
        self._severing.set()

    # On the relay's thread

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                for key, _ in self._selector.select(_SWEEP_SECONDS):
                    if key.fileobj is self._listener:
                        self._accept()
                    elif line := self._lines.get(key.fileobj):  # else it was cut in this round
                        self._carry(line, key.fileobj)
                self._sweep()
        except Exception as error:  # noqa: BLE001 -- raised again on the test's thread
            self.failure = error
        finally:
            for line in set(self._lines.values()):
                self._end(line)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(self._to, _STUCK_SECONDS)
        line = _Line(client, server)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.settimeout(_STUCK_SECONDS)
            self._lines[end] = line
            self._selector.register(end, selectors.EVENT_READ)

    def _light(self, line: _Line, login_bytes: int) -> None:
        """Decide when this one is to be cut."""
        if line.fuse is None and line.seconds is None:
            if self._chance.random() < 0.03:
                line.fuse = line.carried + self._chance.randrange(1, login_bytes)
            elif self._chance.random() < 0.6:
                line.fuse = max(line.carried, login_bytes) + self._chance.randrange(1, 8_000)
            else:
                line.seconds = self._chance.uniform(0, 0.1)
        if line.seconds is not None and line.deadline is None and line.carried > login_bytes:
            line.deadline = time.monotonic() + line.seconds

    def _carry(self, line: _Line, end: socket.socket) -> None:
        try:
            data = end.recv(16_384)
        except OSError:
            data = b""
        if not data:
            self._end(line)
            return
        if self._login_bytes is not None and not self.done:
            self._light(line, self._login_bytes)
        before, line.carried = line.carried, line.carried + len(data)
        burnt = line.fuse is not None and line.carried >= line.fuse and not self.done
        if burnt:
            whole, data = data, data[: max(0, line.fuse - before)]
            self.torn += 0 < len(data) < len(whole)
        try:
            line.other(end).sendall(data)
        except OSError:
            self._end(line)
            return
        if burnt:
            self._cut(line)

    def _sweep(self) -> None:
        if self._severing.is_set():
            self._severing.clear()
            for line in set(self._lines.values()):
                self._reset(line)
        if self.done:
            return
        now = time.monotonic()
        for line in [line for line in self._lines.values() if line.deadline is not None and line.deadline <= now]:
            if line.client in self._lines:
                self._cut(line)

    def _cut(self, line: _Line) -> None:
        assert self._login_bytes is not None
        if line.carried > self._login_bytes:
            self.cuts += 1
        else:
            self.early_cuts += 1
        self._reset(line)

    def _reset(self, line: _Line) -> None:
        for end in (line.client, line.server):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._end(line)

    def _end(self, line: _Line) -> None:
        for end in (line.client, line.server):
            if self._lines.pop(end, None) is not None:
                self._selector.unregister(end)
                end.close()
