"""One connection of the server: its socket, its channel, its protocol core and the order of its requests.

A Peer belongs to its I/O thread. While it handshakes, it is lent to a worker with each portion of bytes, because that
arithmetic takes a millisecond: `lent` says so, epoll is disarmed (ONESHOT), and the I/O thread only marks it.
"""

import select
import socket
from collections import deque
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from cryptography import x509

from securedelivery.errors import LocalProtocolError, Refusal, RemoteProtocolError
from securedelivery.protocol.connection import (
    CloseReceived,
    HandshakeReceived,
    PeerAuthenticated,
    RequestRefused,
    ServerConnection,
    Truncated,
)
from securedelivery.protocol.jsonrpc import Id, Request
from securedelivery.transport.channel import Channel, TlsFailure
from securedelivery.transport.dispatch import Caller, Lane, Outcome, SessionChange
from securedelivery.transport.io import IOThread

if TYPE_CHECKING:
    from securedelivery.transport.server import Server

__all__ = ["Peer"]

RECEIVE_BYTES = 65_536
LOW_WATER = 65_536  # unsent bytes from which a connection starts no further request until its client has read
LINGER_SECONDS = 2.0  # for a peer to take our last words: close() with unread input would send RST and lose them
ENDING_SECONDS = 5.0  # for requests under way when the connection ends
_READ = select.EPOLLIN | select.EPOLLRDHUP


class Stage(Enum):
    HANDSHAKE = "handshake"
    OPEN = "open"
    ENDING = "ending"  # no new requests; those under way are answered, then CLOSE
    LINGER = "linger"  # all said; waiting for the peer to hang up
    GONE = "gone"


class Peer:
    """address: the remote IP address, for the log and the limits."""

    def __init__(self, server: "Server", io: IOThread, sock: socket.socket, address: str) -> None:
        self._server = server
        self._io = io
        self._sock = sock
        self._fd = sock.fileno()
        self._limits = server.limits
        self._application = server.application
        self.address = address
        self.security = server.security
        self._channel = Channel(self.security.context)
        self._core: ServerConnection
        self._tls_up = False
        self._outer_leaf: x509.Certificate | None = None
        self._stage = Stage.HANDSHAKE
        self._lent = False
        self._doomed: str | None = None
        self.caller: Caller
        self.account: int | None = None  # the server's directory keeps these two
        self.address_slot: str | None = None
        self._leaf: x509.Certificate | None = None
        # Requests: `waiting` in the order sent, `running` of the lane that is under way.
        self._waiting: deque[tuple[Request, Lane]] = deque()
        self._running = 0
        self._running_lane = Lane.INLINE
        self._end_reason = "bye"
        self._end_message = ""
        # Output: frames not yet encrypted by TLS, then bytes that the socket did not take.
        self._frames: list[bytes] = []
        self._unsent = bytearray()
        self._is_dirty = False
        self._interest = 0
        # Times are monotonic seconds; 0.0 means: not running.
        self._opened = 0.0
        self._last_frame = 0.0
        self._frame_since = 0.0
        self._stalled_since = 0.0
        self._certificate_ends = float("inf")
        self.deadline = io.now + self._limits.handshake_seconds

    def adopt(self) -> None:
        """Begin: the first call on the I/O thread."""
        self.deadline = self._io.now + self._limits.handshake_seconds
        self._io.add(self, self._fd, _READ | select.EPOLLONESHOT)

    # Readiness

    def on_events(self, events: int) -> None:
        if events & (select.EPOLLIN | select.EPOLLRDHUP):
            self._receive()
        elif events & (select.EPOLLERR | select.EPOLLHUP):
            self._vanish("reset")
            return
        if events & select.EPOLLOUT:
            self.flush()

    def _receive(self) -> None:
        try:
            raw = self._sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            raw = None
        except OSError:
            self._vanish("reset")
            return
        stage = self._stage
        if stage is Stage.OPEN:
            if raw is not None:
                self._channel.feed(raw)
                self._pump(fed=True)
        elif stage is Stage.HANDSHAKE:
            self._lend(raw)
        elif not raw and raw is not None:  # LINGER and ENDING: nothing more is read, only the end is noted
            if stage is Stage.LINGER:
                self._gone()
            else:
                self._arm(self._interest & ~_READ)

    # Handshake, lent to a worker

    def _lend(self, raw: bytes | None) -> None:
        if raw is None:
            self._arm(_READ | select.EPOLLONESHOT, force=True)
            return
        self._lent = True
        if not self._server.handshake_workers.submit(lambda: self._io.post(self._returned, *self._step(raw))):
            self._lent = False
            self._refuse("unavailable: too many handshakes are waiting")

    def _step(self, raw: bytes) -> tuple[PeerAuthenticated | None, Exception | None]:
        """One portion of the handshake; on a worker. Returns what the I/O thread has to know."""
        channel = self._channel
        try:
            channel.feed(raw)
            if not self._tls_up:
                if not channel.handshake():
                    return None, TlsFailure("the peer hung up") if channel.raw_ended else None
                self._tls_up = True
                outer = channel.peer_certificate()
                self._outer_leaf = x509.load_der_x509_certificate(outer) if outer else None
                security = self.security
                self._core = ServerConnection(
                    security.credentials, security.policy, self._outer_leaf, lambda: datetime.now(UTC)
                )
            while True:
                match self._core.next_event():
                    case None:
                        plaintext = channel.read()
                        if plaintext is None:
                            return None, None
                        self._core.receive_data(plaintext)
                    case HandshakeReceived():
                        channel.write(self._core.send_handshake())
                    case PeerAuthenticated() as authenticated:
                        channel.write(self._core.send_notification("system.welcome", self._welcome(authenticated)))
                        return authenticated, None
                    case CloseReceived(reason, message):
                        return None, PeerRefusedUs(f"the client sent CLOSE {reason}: {message}")
                    case _:
                        return None, TlsFailure("the peer hung up during the handshake")
        except (RemoteProtocolError, TlsFailure, ValueError) as error:
            return None, error
        except Exception as error:  # noqa: BLE001 -- handed to the I/O thread, which reports it as an incident
            return None, error

    def _welcome(self, authenticated: PeerAuthenticated) -> dict[str, Any]:
        identity = authenticated.identity
        return {
            "session": self._core.session.hex(),
            "identity": identity.uri if identity else None,
            "server": self._application.server_name,
        }

    def _returned(self, authenticated: PeerAuthenticated | None, error: Exception | None) -> None:
        """The worker is done with this portion; on the I/O thread."""
        self._lent = False
        if self._stage is Stage.GONE:
            return
        if isinstance(error, RemoteProtocolError):
            self._refuse(str(error), error.reason)
        elif isinstance(error, TlsFailure | PeerRefusedUs | ValueError):
            self._refuse(str(error))
        elif error is not None:
            raise error
        elif self._doomed is not None:
            self._refuse(self._doomed)
        elif authenticated is None:
            self.touch()
            self._arm(_READ | select.EPOLLONESHOT, force=True)
        else:
            self._open(authenticated)

    def _open(self, authenticated: PeerAuthenticated) -> None:
        identity = authenticated.identity
        self._stage = Stage.OPEN
        self._opened = self._last_frame = self._io.now
        self.caller = Caller(identity, self.address)
        self._leaf = authenticated.leaf
        if self._leaf is not None:
            remaining = (self._leaf.not_valid_after_utc - datetime.now(UTC)).total_seconds()
            self._certificate_ends = self._io.now + remaining
        self._server.opened(self, self._outer_leaf)
        self._schedule()
        self.touch()
        self._arm(_READ, force=True)
        self.recheck()  # the files may have been reloaded while a worker had this one
        if self._stage is Stage.OPEN:
            self._pump()

    # Open: the hot path

    def _pump(self, *, fed: bool = False) -> None:
        """Handle what has arrived, as far as it may go on. fed: raw bytes have just come; else an answer made room."""
        core, channel, limits = self._core, self._channel, self._limits
        progress = False
        try:
            while self._stage is Stage.OPEN:
                if len(self._waiting) + self._running >= limits.outstanding_requests or len(self._unsent) > LOW_WATER:
                    self._frame_since = 0.0  # it is this side that does not read
                    self._arm(self._interest & ~_READ)
                    return
                event = core.next_event()
                if event is None:
                    plaintext = channel.read()
                    if plaintext is None:
                        break
                    core.receive_data(plaintext)
                else:
                    progress = True
                    self._handle(event)
        except RemoteProtocolError as error:
            self._server.log.warning("! protocol error", remote=self.address, reason=error.reason, error=str(error))
            self._waiting.clear()
            self._finish_ending(error.reason, "the protocol was broken")
            return
        except TlsFailure as error:
            self._vanish(str(error))
            return
        if self._stage is not Stage.OPEN:
            return
        now = self._io.now
        if progress:
            self._last_frame = now
            self._frame_since = 0.0
        if not self._frame_since and (core.mid_frame or (fed and not progress)):
            # Raw bytes that completed no frame count too: half a TLS record is half a frame.
            self._frame_since = now
            self.deadline = min(self.deadline, now + limits.frame_seconds)
        self._arm(self._interest | _READ)

    def _handle(self, event: object) -> None:
        if type(event) is Request:
            lane = self._application.lane(event.method)
            if lane is Lane.INLINE and not self._running and not self._waiting:
                self._answer(event.id, self._application.answer(self.caller, event))
            else:
                self._waiting.append((event, lane))
                self._advance()
        elif isinstance(event, RequestRefused):
            # In its turn, behind what came before it, would be nicer to no one: it has no effect.
            self._answer(event.id, Refusal(event.reason, event.message), always=True)
        elif isinstance(event, CloseReceived):
            self.end("bye")
        elif isinstance(event, Truncated):
            self._waiting.clear()
            self._vanish("the connection ended without CLOSE")

    def _advance(self) -> None:
        """Start what may start: alone, but writes beside writes."""
        waiting = self._waiting
        while waiting:
            request, lane = waiting[0]
            if self._running and not (lane is Lane.WRITE and self._running_lane is Lane.WRITE):
                return
            waiting.popleft()
            self._start(request, lane)

    def _start(self, request: Request, lane: Lane) -> None:
        application, io, finished = self._application, self._io, self._finished
        if lane is Lane.INLINE:
            self._answer(request.id, application.answer(self.caller, request))
            return
        self._running += 1
        self._running_lane = lane
        if lane is Lane.WRITE:
            application.submit(self.caller, request, lambda outcome: io.post(finished, request.id, outcome))
        else:
            caller = self.caller
            self._server.submit_call(
                lambda: io.post(finished, request.id, application.answer(caller, request)),
                lambda busy: io.post(finished, request.id, busy),
            )

    def _finished(self, request_id: Id | None, outcome: Outcome) -> None:
        self._running -= 1
        if self._stage not in (Stage.OPEN, Stage.ENDING):
            return
        if isinstance(outcome, SessionChange):
            self._server.moved(self, outcome.account)
            self.caller.session = outcome.session
            outcome = outcome.result
        self._answer(request_id, outcome)
        self._advance()
        if self._stage is Stage.OPEN:
            if not self._interest & _READ:
                self._pump()
        elif not self._running:
            self._finish_ending(self._end_reason, self._end_message)

    def _answer(self, request_id: Id | None, outcome: Outcome, *, always: bool = False) -> None:
        if request_id is None and not always:
            return
        core = self._core
        if isinstance(outcome, Refusal):
            frame = core.send_error(request_id, outcome.reason, outcome.message, outcome.data)
        else:
            assert request_id is not None
            try:
                frame = core.send_result(request_id, outcome)
            except (LocalProtocolError, TypeError) as error:
                refusal = self._application.incident(error, "encoding an answer")
                frame = core.send_error(request_id, refusal.reason, refusal.message, refusal.data)
        self._frames.append(frame)
        if not self._is_dirty:
            self.touch()

    def notify(self, method: str, params: object) -> None:
        """A notification for this connection, if it is still open."""
        if self._stage is Stage.OPEN:
            self._frames.append(self._core.send_notification(method, params))
            self.touch()

    # Output

    def touch(self) -> None:
        """Have flush() called at the end of this pass: one TLS write and one send for all that a pass has made."""
        if not self._is_dirty:
            self._is_dirty = True
            self._io.dirty.append(self)

    def flush(self) -> None:
        self._is_dirty = False
        if self._stage is Stage.GONE:
            return
        frames, unsent = self._frames, self._unsent
        if frames:
            try:
                self._channel.write(frames[0] if len(frames) == 1 else b"".join(frames))
            except TlsFailure as error:
                self._vanish(str(error))
                return
            frames.clear()
        raw = self._channel.take_raw()
        if unsent:
            unsent += raw
            raw = bytes(unsent)
        if raw:
            self._send(raw)
        if self._stage is Stage.LINGER and not self._unsent:
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self._gone()

    def _send(self, raw: bytes) -> None:
        unsent = self._unsent
        try:
            sent = self._sock.send(raw)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._vanish("reset")
            return
        if sent == len(raw):
            if unsent:
                unsent.clear()
                self._stalled_since = 0.0
                self._arm(self._interest & ~select.EPOLLOUT)
                if self._stage is Stage.OPEN and not self._interest & _READ:
                    self._pump()
            return
        self._unsent = bytearray(raw[sent:])
        if sent or not self._stalled_since:
            self._stalled_since = self._io.now
            self.deadline = min(self.deadline, self._io.now + self._limits.frame_seconds)
        if self._stage is Stage.HANDSHAKE:
            return  # ONESHOT: the rest goes out with the next step, and a flight fits every socket buffer
        if len(self._unsent) > self._limits.unsent_bytes:
            self._server.log.warning("! dropped", remote=self.address, reason="too_slow", unsent=len(self._unsent))
            self._gone()
        else:
            self._arm(self._interest | select.EPOLLOUT)

    def _arm(self, interest: int, *, force: bool = False) -> None:
        if interest != self._interest or force:
            self._interest = interest
            self._io.arm(self._fd, interest)

    # Ends

    def end(self, reason: str, message: str = "") -> None:
        """Take no further requests, answer those under way, then CLOSE. The first reason stands."""
        if self._stage is Stage.HANDSHAKE:
            self._doomed = f"{reason}: {message}"
            if not self._lent:
                self._refuse(self._doomed, reason)
        elif self._stage is Stage.OPEN:
            self._stage = Stage.ENDING
            self._end_reason, self._end_message = reason, message
            self._arm(self._interest & ~_READ)
            self.deadline = self._io.now + ENDING_SECONDS
            if not self._running and not self._waiting:
                self._finish_ending(reason, message)

    def _finish_ending(self, reason: str, message: str) -> None:
        """Say CLOSE and close_notify behind all that was answered, then wait for the peer to hang up."""
        self._frames.append(self._core.send_close(reason, message))
        self._server.log.info("= closed", remote=self.address, reason=reason, account=self._name())
        self._last_words()

    def _refuse(self, why: str, reason: str = "too_slow") -> None:
        """End during the handshake: with a CLOSE where there are keys, else with what TLS has to say."""
        self._server.log.warning("! refused", remote=self.address, reason=reason, why=why)
        if self._tls_up:
            self._frames.append(self._core.send_close(reason))
        self._last_words()

    def _last_words(self) -> None:
        frames = [frame for frame in self._frames if frame]
        self._frames.clear()
        try:
            if frames:
                self._channel.write(b"".join(frames))
            if self._tls_up:
                self._channel.close()
        except TlsFailure:
            pass  # TLS itself is broken: its alert is all that there is to say
        self._leave()
        self._stage = Stage.LINGER
        self.deadline = self._io.now + LINGER_SECONDS
        self._arm(_READ, force=True)
        self.flush()

    def _vanish(self, why: str) -> None:
        """The peer is gone, or cannot be talked to."""
        if self._stage is Stage.HANDSHAKE:
            self._server.log.warning("! refused", remote=self.address, reason="truncated", why=why)
        elif self._stage is not Stage.LINGER:
            self._server.log.info("= truncated", remote=self.address, why=why, account=self._name())
        if self._lent:
            self._doomed = why
        self._gone()

    def _gone(self) -> None:
        if self._stage is not Stage.GONE:
            self._leave()
            self.abandon()

    def drain(self, params: dict[str, int]) -> None:
        """The server stops: tell the client, answer what is under way, close."""
        self.notify("system.draining", params)
        self.end("draining", "the server is stopping; connect again in a moment")

    def collapse(self) -> None:
        """A bug of ours: CLOSE `internal` if that still works, and out."""
        if self._stage in (Stage.OPEN, Stage.ENDING):
            self._waiting.clear()
            try:
                self._finish_ending("internal", "an internal error")
            except (LocalProtocolError, TlsFailure, OSError):
                self._gone()
        else:
            self._gone()

    def abandon(self) -> None:
        """Close the socket, without a word."""
        self._stage = Stage.GONE
        self._waiting.clear()
        self._io.remove(self._fd)
        self._sock.close()
        self._server.left(self)

    def _leave(self) -> None:
        if self._stage in (Stage.OPEN, Stage.ENDING):
            self._server.moved(self, None)

    def _name(self) -> str | None:
        return str(self.caller.identity.uri) if self._tls_up and self.caller.identity else None

    # Time

    def expire(self) -> None:
        """The deadline is over: find out which, act, and set the next."""
        now, limits = self._io.now, self._limits
        if self._stage is Stage.HANDSHAKE:
            self.end("too_slow", f"the handshake took longer than {limits.handshake_seconds} s")
            if self._lent:
                self._gone()
        elif self._stage is Stage.LINGER:
            self._gone()
        elif self._stage is Stage.ENDING:
            self._waiting.clear()
            self._finish_ending(self._end_reason, self._end_message)
        elif self._stalled_since and now - self._stalled_since >= limits.frame_seconds:
            self._server.log.warning("! dropped", remote=self.address, reason="too_slow", unsent=len(self._unsent))
            self._gone()
        elif self._frame_since and now - self._frame_since >= limits.frame_seconds:
            self.end("too_slow", f"a frame was not complete within {limits.frame_seconds} s")
        elif now - self._last_frame >= limits.idle_seconds:
            self.end("idle", f"nothing was heard for {limits.idle_seconds} s")
        elif now - self._opened >= limits.connection_seconds:
            self.end("session_expired", f"a connection lives {limits.connection_seconds} s")
        elif now >= self._certificate_ends:
            self.recheck()
            self._schedule()
        else:
            self._schedule()

    def _schedule(self) -> None:
        limits = self._limits
        self.deadline = min(
            self._last_frame + limits.idle_seconds,
            self._opened + limits.connection_seconds,
            max(self._certificate_ends, self._io.now + 1.0),
            self._frame_since + limits.frame_seconds if self._frame_since else float("inf"),
            self._stalled_since + limits.frame_seconds if self._stalled_since else float("inf"),
        )

    def recheck(self) -> None:
        """Hold both certificates against the clock and the revocation list in force; end what does not stand."""
        trust, now = self._server.security.policy.trust, datetime.now(UTC)
        for leaf in (self._leaf, self._outer_leaf):
            slug = trust.standing(leaf, now) if leaf is not None else None
            if slug is not None:
                self.end(slug, "the certificate is no longer accepted")
                return


class PeerRefusedUs(Exception):  # noqa: N818 -- a fact for the log
    """The client sent CLOSE before it was authenticated: it does not accept this server."""
