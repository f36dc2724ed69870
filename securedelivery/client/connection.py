"""One connection after the welcome: calls from any thread, one thread that reads.

Locks. `_lock` guards core, channel, the bytes not yet sent and the table of calls; it is never held while waiting for
the network, so the reader always gets on and a server that waits for us to read is read. Callers put their bytes on the
socket themselves as far as it takes them; the reader sends the rest. A signal (Ctrl-C) can strike a caller between any
two steps of that; then nobody knows what has been encrypted and sent, and the connection is given up.

The reader also sends system.ping after `ping_seconds` without a request, and gives up on a server that does not answer
it. It sleeps in select() and wakes for the socket, bytes to send, a close, and the next ping: nothing is polled.
"""

import contextlib
import itertools
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

from msgspec import Raw

from securedelivery.client import diagnosis
from securedelivery.client.answers import Reply, refusal
from securedelivery.client.deadline import Deadline
from securedelivery.client.handshake import RECEIVE_BYTES, OpenLine
from securedelivery.errors import (
    ConnectionFailure,
    LocalProtocolError,
    PeerClosed,
    RemoteProtocolError,
)
from securedelivery.protocol.connection import CloseReceived, Event, Truncated
from securedelivery.protocol.jsonrpc import ErrorResponse, Id, Request, Response
from securedelivery.transport.channel import TlsFailure

__all__ = ["PING_SECONDS", "Connection"]

PING_SECONDS = 300.0  # of quiet; the server closes after 1,800
PONG_SECONDS = 30.0  # for the answer: then the other side, or the way to it, is gone
OUTSTANDING = 32  # calls; with more unanswered the server reads no further
CLOSE_SECONDS = 2.0  # for the server to answer our CLOSE, and to hang up

# What a request that cannot be sent raises, before anything was encrypted.
_HARMLESS = (ConnectionFailure, LocalProtocolError, TypeError, ValueError, OverflowError, RecursionError)

_Arrival = Request | tuple[Reply, Raw | Exception]
"""A notification, or the answer to a call."""


class Connection:
    """on_notification(method, params): called on the reader thread, in the order of arrival; it must not call().

    on_end(): called once, on the reader thread, when the connection has ended and `failure` says why.
    """

    def __init__(
        self,
        line: OpenLine,
        *,
        on_notification: Callable[[str, Raw], None],
        on_end: Callable[[], None],
        ping_seconds: float = PING_SECONDS,
    ) -> None:
        self.welcome = line.welcome
        self._server = line.server
        self._sock = line.sock
        self._channel = line.channel
        self._core = line.core
        self._on_notification = on_notification
        self._on_end = on_end
        self._ping_seconds = ping_seconds
        self._lock = threading.Lock()
        self._unsent = bytearray()
        self._calls: dict[Id, Reply] = {}
        self._ids = itertools.count(1)
        self._places = threading.BoundedSemaphore(OUTSTANDING)
        self._failure: ConnectionFailure | None = None
        self._closing = False
        self._spoiled = False  # interrupted amid sending: nothing that makes sense can follow
        self._ended = threading.Event()
        self._last_sent = time.monotonic()
        self._pong: Reply | None = None
        self._pong_deadline = Deadline(PONG_SECONDS)
        self._alarm, self._bell = socket.socketpair()
        self._alarm.setblocking(False)
        self._bell.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._sock, selectors.EVENT_READ)
        self._selector.register(self._alarm, selectors.EVENT_READ)
        # A daemon only so that a program that forgets close() can end; close() joins it.
        self._thread = threading.Thread(target=self._run, name="securedelivery-reader", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> ConnectionFailure | None:
        """Why the connection has ended; None while it is up."""
        return self._failure

    def call(self, method: str, params: object, deadline: Deadline) -> Raw:
        """Ask and wait for the answer; from any thread but the reader's. Returns the result as JSON.

        Raises Refusal, ConnectionFailure, PeerClosed; LocalProtocolError where the request does not fit a frame.
        """
        if threading.current_thread() is self._thread:
            raise LocalProtocolError("a notification callback cannot wait for an answer: hand it to another thread")
        if not self._places.acquire(timeout=deadline.remaining()):
            raise self._no_answer(method, deadline)
        try:
            with self._lock, self._giving_up_if_interrupted():
                request_id, reply = self._ask(method, params)
            if not reply.wait(deadline.remaining()):
                with self._lock:
                    self._calls.pop(request_id, None)  # an answer that comes later is not waited for
                raise self._no_answer(method, deadline)
        finally:
            self._places.release()
        if isinstance(reply.outcome, Exception):
            raise reply.outcome
        return reply.outcome

    def close(self) -> None:
        """CLOSE bye, the server's CLOSE, close_notify; then the reader is joined. At most a few seconds."""
        with self._lock, self._giving_up_if_interrupted():
            if self._failure is None and not self._closing:
                self._closing = True
                with contextlib.suppress(TlsFailure):
                    self._channel.write(self._core.send_close("bye"))
                self._flush()
        if threading.current_thread() is self._thread:
            return  # from a callback: the reader ends by itself
        if not self._ended.wait(CLOSE_SECONDS):
            with self._lock:
                self._end(ConnectionFailure(f"{self._server} did not answer the CLOSE"))
            self._ring()
        self._thread.join()

    def _no_answer(self, method: str, deadline: Deadline) -> ConnectionFailure:
        return ConnectionFailure(
            f"{self._server} did not answer {method} within {deadline.seconds:g} s", "try again in a moment"
        )

    # With the lock held

    @contextlib.contextmanager
    def _giving_up_if_interrupted(self) -> Iterator[None]:
        try:
            yield
        except _HARMLESS:
            raise
        except BaseException:
            self._spoiled = True
            self._end(ConnectionFailure("a call was interrupted while it was sent", "call again", temporary=True))
            self._ring()
            raise

    def _ask(self, method: str, params: object) -> tuple[int, Reply]:
        if self._failure is not None:
            raise _again(self._failure)
        if self._closing:
            raise ConnectionFailure("this connection was closed by this program")
        request_id = next(self._ids)
        frame = self._core.send_request(request_id, method, params)
        reply = self._calls[request_id] = Reply()
        self._last_sent = time.monotonic()
        try:
            self._channel.write(frame)
        except TlsFailure:
            self._ring()  # the reader finds out why
        self._flush()
        return request_id, reply

    def _flush(self) -> None:
        """Put on the socket what it takes; the reader does the rest."""
        self._unsent += self._channel.take_raw()
        if not self._unsent:
            return
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The server has hung up. Why, it said before: that is still to be read, so only the reader ends things.
            sent = len(self._unsent)
        del self._unsent[:sent]
        if self._unsent and threading.current_thread() is not self._thread:
            self._ring()

    def _end(self, failure: ConnectionFailure) -> None:
        """The first reason stands."""
        if self._failure is not None:
            return
        self._failure = failure
        for reply in self._calls.values():
            reply.set(_again(failure))
        self._calls.clear()

    def _take(self) -> list[_Arrival]:
        """Everything that has arrived in full: what is to be delivered without the lock, in this order."""
        arrivals: list[_Arrival] = []
        core, channel = self._core, self._channel
        try:
            while self._failure is None:
                event = core.next_event()
                if event is not None:
                    self._handle(event, arrivals)
                    continue
                plaintext = channel.read()
                if plaintext is None:
                    break
                core.receive_data(plaintext)
        except RemoteProtocolError as error:
            with contextlib.suppress(TlsFailure):
                channel.write(core.send_close(error.reason))
            self._end(diagnosis.inner_refused(self._server, error))
        except TlsFailure as failure:
            if channel.raw_ended and isinstance(failure.__cause__, ssl.SSLEOFError):
                self._end(diagnosis.truncated(self._server, connected=True))
            else:
                self._end(diagnosis.tls_failed(self._server, self._server, failure, has_crl=False))
        return arrivals

    def _handle(self, event: Event, arrivals: list[_Arrival]) -> None:
        match event:
            case Response():
                reply = self._calls.pop(event.id, None)
                if reply is not None:
                    arrivals.append((reply, event.result))
            case ErrorResponse():
                if event.id is None:
                    raise RemoteProtocolError(f"the server could not read a request: {event.error.message}")
                reply = self._calls.pop(event.id, None)
                if reply is not None:
                    arrivals.append((reply, refusal(event.error)))
            case Request():
                arrivals.append(event)
            case CloseReceived():
                with contextlib.suppress(TlsFailure):
                    self._channel.write(self._core.send_close("bye"))
                if self._closing:
                    self._end(PeerClosed("this connection was closed by this program", reason=event.reason))
                else:
                    self._end(diagnosis.closed(self._server, event))
            case Truncated():
                self._end(diagnosis.truncated(self._server, connected=True))
            case _:
                raise RemoteProtocolError(f"{type(event).__name__} came after the welcome")

    # On the reader thread

    def _run(self) -> None:
        reason = "internal"
        try:
            self._read_all()
            reason = "bye"
        finally:
            with self._lock:  # whatever happened, nobody waits for ever
                self._end(ConnectionFailure("the client's reader failed", "this is a bug of securedelivery"))
            self._ended.set()
            self._on_end()
            try:
                self._say_goodbye(reason)
            finally:
                self._selector.close()
                for sock in (self._sock, self._alarm, self._bell):
                    sock.close()

    def _read_all(self) -> None:
        with self._lock:
            arrivals = self._take()  # what came with the welcome
        while True:
            for one in arrivals:
                self._deliver(one)
            if self._failure is not None:
                return
            with self._lock:
                seconds = self._ping()
                self._flush()
                interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
            arrivals = self._wait(interest, seconds)

    def _wait(self, interest: int, seconds: float) -> list[_Arrival]:
        self._selector.modify(self._sock, interest)
        arrivals: list[_Arrival] = []
        for key, events in self._selector.select(seconds):
            if key.fileobj is self._alarm:
                with contextlib.suppress(BlockingIOError):
                    self._alarm.recv(RECEIVE_BYTES)
            elif events & selectors.EVENT_READ:
                try:
                    raw = self._sock.recv(RECEIVE_BYTES)
                except BlockingIOError:
                    continue
                except OSError:
                    raw = b""
                with self._lock:
                    self._channel.feed(raw)
                    arrivals += self._take()
        return arrivals

    def _ping(self) -> float:
        """With the lock held: send what is due. Returns the seconds until the next time."""
        if self._pong is not None:
            if self._pong.wait(0):
                self._pong = None
            elif not self._pong_deadline.remaining():
                self._end(diagnosis.truncated(self._server, connected=True))
                return 0.0
            else:
                return self._pong_deadline.remaining()
        quiet = time.monotonic() - self._last_sent
        if quiet >= self._ping_seconds and not self._closing and self._failure is None:
            _, self._pong = self._ask("system.ping", {})
            self._pong_deadline = Deadline(PONG_SECONDS)
            return PONG_SECONDS
        return max(self._ping_seconds - quiet, 0.01)

    def _deliver(self, arrival: _Arrival) -> None:
        """A caller goes on when the notifications before its answer have been delivered."""
        if isinstance(arrival, tuple):
            reply, outcome = arrival
            reply.set(outcome)
            return
        try:
            self._on_notification(arrival.method, arrival.params)
        except Exception as error:  # noqa: BLE001 -- the callback's bug is shown as a thread's is, and reading goes on
            threading.excepthook(
                threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread()))
            )

    def _say_goodbye(self, reason: str) -> None:
        """Last words and close_notify, then wait for the server to hang up: closing earlier could reset them away."""
        raw = b""
        with self._lock:
            if not self._spoiled:
                with contextlib.suppress(TlsFailure):
                    self._channel.write(self._core.send_close(reason))  # nothing where it has been said already
                self._channel.close()
                raw = bytes(self._unsent) + self._channel.take_raw()
            self._unsent.clear()
        deadline = Deadline(CLOSE_SECONDS)
        with contextlib.suppress(OSError):
            self._sock.settimeout(CLOSE_SECONDS)
            self._sock.sendall(raw)
            self._sock.shutdown(socket.SHUT_WR)
            while deadline.remaining() and not self._channel.raw_ended:
                self._sock.settimeout(max(deadline.remaining(), 0.001))
                if not self._sock.recv(RECEIVE_BYTES):
                    return

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # full: it is awake anyway; closed: it is over
            self._bell.send(b"!")


def _again(failure: ConnectionFailure) -> ConnectionFailure:
    """A copy for each who raises it: a traceback belongs to one thread."""
    if isinstance(failure, PeerClosed):
        return PeerClosed(str(failure), failure.hint, failure.reason, temporary=failure.temporary)
    return ConnectionFailure(str(failure), failure.hint, temporary=failure.temporary)
