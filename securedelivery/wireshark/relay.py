"""A relay that records what it forwards: byte for byte, in the order in which it happened, without any rights.

One thread, so that what a capture shows as cause and effect was in that order here. What comes is recorded, then
forwarded; so the recording may have a little more at its end than has arrived, as one made on the way would. Where a
side does not read, the other is not read either. A side that hangs up or resets does so at the other end too, behind
what it has sent before.
"""

import contextlib
import errno
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Any, Self

from securedelivery.errors import ConfigurationError
from securedelivery.wireshark.capture import Capture, RecordedFlow
from securedelivery.wireshark.tcp import Endpoint

__all__ = ["Relay", "Tamper", "shown"]

RECEIVE_BYTES = 65_536
BACKLOG_BYTES = 262_144  # to one side; then the other is not read until it has taken some
MAX_CONNECTIONS = 256  # two descriptors each, and 1,024 is what a process usually may have
DIAL_SECONDS = 10.0  # for one address; a client does not wait longer for its whole handshake
AGAIN_SECONDS = 1.0  # nothing can be accepted, and no connection is open whose end would change that
LOOK_UP_SECONDS = 1.0  # a signal that comes in the moment before a wait is handled behind it
_GONE = (errno.EAGAIN, errno.ECONNABORTED)
_REACHED = (0, errno.ECONNRESET, errno.EPIPE)  # the last two: it was there, and has broken off already
_LINGER_NOT = struct.pack("ii", 1, 0)  # close() then sends RST

Address = tuple[str, int]
Tamper = Callable[[int, bool, bytes], bytes]
"""(flow number, from_client, data) -> what is recorded and forwarded in its place."""


def _as_they_are(client: Endpoint, server: Endpoint) -> tuple[Endpoint, Endpoint]:
    return client, server


def shown(address: tuple[Any, ...]) -> str:
    """HOST:PORT, [IPv6]:PORT of a socket address."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _resolve(address: Address, key: str) -> list[tuple[int, Any]]:
    """Families and socket addresses of a host, to be tried in this order."""
    try:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigurationError(
            key, f"{address[0]} has no address ({error.strerror})", "name a host that exists"
        ) from error
    return [(family, socket_address) for family, _, _, _, socket_address in found]


def _listening(address: Address) -> socket.socket:
    """A socket that listens on the first of the host's addresses that can be listened on."""
    why = ""
    for family, socket_address in _resolve(address, "--listen"):
        try:
            return socket.create_server(socket_address, family=family)
        except OSError as error:
            why = os.strerror(error.errno or 0)
    raise ConfigurationError(
        "--listen",
        f"{shown(address)} cannot be listened on ({why})",
        "name an address of this machine, and a free port",
    )


def _leads_to(family: int, target: Any, own: Address) -> bool:
    """Whether who dials the target gets to whoever listens on `own`."""
    if target[1] != own[1]:
        return False
    if not ip_address(own[0]).is_unspecified:
        return bool(target[0] == own[0])
    with socket.socket(family, socket.SOCK_STREAM) as sock:  # only an address of this machine can be bound to
        return not _fails(sock.bind, (target[0], 0, *target[2:]))


def _fails(call: Callable[[Any], object], argument: object) -> bool:
    try:
        call(argument)
    except OSError:
        return True
    return False


class Relay:
    """A context manager; it listens at once. address: where.

    endpoints: what is recorded as the addresses of a connection, given the client's and the relay's own. told: called
    on the relay's thread with a sentence about what could not be forwarded. count: connections so far. Raises
    ConfigurationError for an address that cannot be. Whoever leaves the context gets what its thread has raised, such
    as the OSError of the capture's sink.
    """

    def __init__(
        self,
        listen: Address,
        onward: Address,
        capture: Capture,
        *,
        endpoints: Callable[[Endpoint, Endpoint], tuple[Endpoint, Endpoint]] = _as_they_are,
        tamper: Tamper | None = None,
        told: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        self.count = 0
        self._onward = shown(onward)
        self._targets = _resolve(onward, "--to")
        self._capture = capture
        self._endpoints = endpoints
        self._tamper = tamper
        self._told = told
        self._listener = _listening(listen)
        self._listener.setblocking(False)
        self._accepting = False
        self._again: float | None = None
        self.address: Address = self._listener.getsockname()[:2]
        if any(_leads_to(family, target, self.address) for family, target in self._targets):
            self._listener.close()
            raise ConfigurationError("--to", f"{self._onward} is the relay itself", "name the service's port")
        self._bell, self._alarm = socket.socketpair()
        self._bell.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._pairs: set[_Pair] = set()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="relay")

    def __enter__(self) -> Self:
        self._accept_again()
        self._selector.register(self._alarm, selectors.EVENT_READ, None)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()
        if kind is None:
            self.wait()

    def wait(self) -> None:
        """Until it has ended, by close() or a failure. Raises what its thread has raised."""
        while self._thread.is_alive():
            self._thread.join(LOOK_UP_SECONDS)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Let it end, and every connection through it; from any thread or signal handler, more than once."""
        with contextlib.suppress(OSError):
            self._bell.send(b"!")

    def close(self) -> None:
        """End it, and wait until it has ended."""
        self.stop()
        self._thread.join()
        self._bell.close()

    # On the relay's thread

    def _run(self) -> None:
        try:
            while True:
                for key, events in self._selector.select(self._patience()):
                    if key.data is None:
                        return
                    key.data(events)
        except BaseException as error:  # noqa: BLE001 -- it belongs to whoever waits
            self._failure = error
        finally:
            for pair in tuple(self._pairs):
                pair.close()
            self._selector.close()
            self._listener.close()
            self._alarm.close()

    def _patience(self) -> float | None:
        """Do what is due; returns the seconds until there is more, None for ever."""
        now = time.monotonic()
        for pair in tuple(self._pairs):
            if pair.deadline is not None and pair.deadline <= now:
                pair.give_up()
        if self._again is not None and self._again <= now:
            self._accept_again()
        due = [pair.deadline for pair in self._pairs if pair.deadline is not None]
        if self._again is not None:
            due.append(self._again)
        return max(0.0, min(due) - now) if due else None

    def _accept_again(self) -> None:
        if not self._accepting:
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._accepting = True
        self._again = None

    def _pause(self, why: str) -> None:
        """Accept no more until a connection has ended. The system keeps who comes waiting."""
        self._told(f"{why}: who comes now waits")
        self._selector.unregister(self._listener)
        self._accepting = False
        if not self._pairs:
            self._again = time.monotonic() + AGAIN_SECONDS

    def _accept(self, _events: int) -> None:
        try:
            sock, peer = self._listener.accept()
        except OSError as error:
            if error.errno not in _GONE:  # there are no descriptors or no memory left: it would fail at once again
                self._pause(f"no more connections can be accepted ({error.strerror})")
            return
        try:
            own = sock.getsockname()
            flow = self._capture.flow(*self._endpoints(Endpoint(peer[0], peer[1]), Endpoint(own[0], own[1])))
        except BaseException:
            sock.close()
            raise
        self.count += 1
        pair = _Pair(self, sock, flow, shown(peer))
        self._pairs.add(pair)
        if len(self._pairs) >= MAX_CONNECTIONS:
            self._pause(f"{MAX_CONNECTIONS} connections are open")
        pair.dial("there is no address")

    # For its pairs

    @property
    def selector(self) -> selectors.BaseSelector:
        return self._selector

    @property
    def targets(self) -> list[tuple[int, Any]]:
        return self._targets

    def unreachable(self, client: str, why: str) -> None:
        self._told(f"{self._onward} cannot be reached ({why}), so the connection of {client} was cut")

    def altered(self, flow: int, from_client: bool, data: bytes) -> bytes:
        return data if self._tamper is None else self._tamper(flow, from_client, data)

    def forget(self, pair: "_Pair") -> None:
        self._pairs.discard(pair)
        self._accept_again()


class _Side:
    """One socket of a pair.

    out: what is still to be written to it. ended: nothing more comes from it. shut: it was told that nothing more comes
    to it. broken: it takes nothing any more, but what it has sent before can still be there. last: it is to be cut once
    the system has sent what was written to it.
    """

    def __init__(self, sock: socket.socket, *, from_client: bool) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.from_client = from_client
        self.out = bytearray()
        self.ended = self.shut = self.broken = self.last = False
        self.interest = 0


class _Pair:
    """A client's connection and the one onward. deadline: until when the latter is being dialled, else None.

    name: the client's, for people.
    """

    def __init__(self, relay: Relay, client: socket.socket, flow: RecordedFlow, name: str) -> None:
        self._relay = relay
        self._name = name
        self._flow = flow
        self._client = _Side(client, from_client=True)
        self._server: _Side | None = None
        self._targets = iter(relay.targets)
        self._over = False
        self.deadline: float | None = None

    def close(self) -> None:
        self._over = True
        self.deadline = None
        for side in self._sides():
            self._hang_up(side)
        self._relay.forget(self)

    def dial(self, why: str) -> None:
        """Try the next address; without one, the client is cut off. why: the one before was none."""
        self.deadline = None
        for family, address in self._targets:
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:
                why = os.strerror(error.errno or 0)
                continue
            server = _Side(sock, from_client=False)
            code = sock.connect_ex(address)
            if code in (0, errno.EINPROGRESS):
                self._server = server
                self.deadline = time.monotonic() + DIAL_SECONDS
                self._watch(server, selectors.EVENT_WRITE)
                return
            why = os.strerror(code)
            sock.close()
        self._relay.unreachable(self._name, why)
        self._cut(from_client=False)

    def give_up(self) -> None:
        self._redial(f"no answer within {DIAL_SECONDS:.0f} seconds")

    def _redial(self, why: str) -> None:
        for side in self._sides()[1:]:
            self._hang_up(side)
        self._server = None
        self.dial(why)

    def _handle(self, side: _Side, events: int) -> None:
        if self._over or self._server is None or side.last:  # an event of the same moment has ended it
            return
        if self.deadline is not None:
            code = self._server.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code not in _REACHED:
                self._redial(os.strerror(code))
                return
            self.deadline = None
            self._server.broken = bool(code)
        elif events & selectors.EVENT_READ:
            self._read(side, self._server if side.from_client else self._client)
        self._settle(self._client, self._server)

    def _read(self, side: _Side, other: _Side) -> None:
        try:
            data = side.sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            side.broken, data = True, b""
        if data:
            data = self._relay.altered(self._flow.number, side.from_client, data)
            self._flow.sent(side.from_client, data)
            other.out += data
            return
        side.ended = True
        if not side.broken:
            self._flow.finished(side.from_client)

    def _write(self, side: _Side, other: _Side) -> None:
        try:
            if side.out:
                with contextlib.suppress(BlockingIOError):
                    del side.out[: side.sock.send(side.out)]
            if other.ended and not other.broken and not side.out and not side.shut:
                side.sock.shutdown(socket.SHUT_WR)
                side.shut = True
        except OSError:
            side.broken = True
            side.out.clear()

    def _settle(self, client: _Side, server: _Side) -> None:
        """Write what can be written, then wait for what is possible now, or end it."""
        both = ((client, server), (server, client))
        for one, other in both:
            if not one.broken:
                self._write(one, other)
        for one, other in both:
            # What it has sent before it broke off is still read and passed on, such as the alert that says why.
            if one.broken and other.broken:
                self._cut(one.from_client)
                return
            if one.broken and one.ended and not other.out:
                self._cut_behind(one, other)
                return
        if client.shut and server.shut:
            self.close()
        else:
            for one, other in both:
                reading = not one.ended and not other.broken and len(other.out) < BACKLOG_BYTES
                self._watch(one, (selectors.EVENT_READ if reading else 0) | (selectors.EVENT_WRITE if one.out else 0))

    def _cut_behind(self, one: _Side, other: _Side) -> None:
        """Cut once the system has sent what the other side was given: with RST it would throw that away."""
        other.last = True
        other.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 1)  # writable is now: all has been sent
        self._watch(one, 0)
        self._watch(other, 0)
        self._watch(other, selectors.EVENT_WRITE, lambda _events: self._cut(one.from_client))

    def _cut(self, from_client: bool) -> None:
        """One side has broken off, the client or the other: so does the relay, towards both."""
        self._flow.reset(from_client)
        for side in self._sides():
            with contextlib.suppress(OSError):
                side.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self.close()

    def _sides(self) -> list[_Side]:
        return [self._client] if self._server is None else [self._client, self._server]

    def _hang_up(self, side: _Side) -> None:
        self._watch(side, 0)
        side.sock.close()

    def _watch(self, side: _Side, interest: int, then: Callable[[int], None] | None = None) -> None:
        """Wait for these events, or for none. then: what is to be done, if not what usually is."""
        if interest == side.interest:
            return
        selector, call = self._relay.selector, then or partial(self._handle, side)
        if not interest:
            selector.unregister(side.sock)
        elif side.interest:
            selector.modify(side.sock, interest, call)
        else:
            selector.register(side.sock, interest, call)
        side.interest = interest
