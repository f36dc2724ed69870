"""One connection of the server: its socket, what it sends, how it ends and when.

handshake.py brings it up, requests.py keeps the order of its requests.

A Peer belongs to one thread, whose loop alone touches it: while it handshakes, to a handshake thread, because that
arithmetic takes a millisecond; from then on to its I/O thread, to which it moves once.
"""

import contextlib
import select
import socket
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from cryptography import x509

from securedelivery.errors import LocalProtocolError, Refusal, RemoteProtocolError
from securedelivery.protocol.certificates import der
from securedelivery.protocol.connection import (
    CloseReceived,
    PeerAuthenticated,
    RequestRefused,
    ServerConnection,
    Truncated,
)
from securedelivery.protocol.jsonrpc import Id, Request
from securedelivery.transport.channel import TlsFailure
from securedelivery.transport.dispatch import Caller, Ending, Lane, Outcome, SessionChange
from securedelivery.transport.handshake import Handshake
from securedelivery.transport.io import IOThread
from securedelivery.transport.requests import Requests, Review, Work

if TYPE_CHECKING:
    from securedelivery.transport.server import Server

__all__ = ["Peer"]

RECEIVE_BYTES = 16_384  # a TLS record; what TLS is given at once, it keeps room for as long as the connection is open
LOW_WATER = 65_536  # unsent bytes from which a connection starts no further request until its client has read
LINGER_SECONDS = 2.0  # for a peer to take our last words: close() with unread input would send RST and lose them
ENDING_SECONDS = 5.0  # for requests under way when this side ends the connection
_READ = select.EPOLLIN | select.EPOLLRDHUP
_WRITABLE = select.EPOLLOUT
_INLINE, _WRITE = Lane.INLINE, Lane.WRITE  # CPython 3.11 finds an enum's member in Python code: not once a request


class Stage(Enum):
    HANDSHAKE = "handshake"
    OPEN = "open"
    ENDING = "ending"  # no new requests; those under way are answered, then CLOSE
    LINGER = "linger"  # all said; waiting for the peer to hang up
    GONE = "gone"


_HANDSHAKE, _OPEN, _GONE = Stage.HANDSHAKE, Stage.OPEN, Stage.GONE  # as above


class Peer:
    """io: the handshake thread; home: the I/O thread; address: the remote IP address, for the log and the limits.

    10,000 of them are quiet: what a connection does not need any more goes, what TLS keeps is not kept twice.
    """

    __slots__ = (
        "_application",
        "_certificate_ends",
        "_channel",
        "_core",
        "_end_message",
        "_end_reason",
        "_ends_by",
        "_fd",
        "_frame_since",
        "_frames",
        "_handshake",
        "_home",
        "_inner_leaf",
        "_interest",
        "_io",
        "_is_dirty",
        "_last_frame",
        "_limits",
        "_opened",
        "_requests",
        "_server",
        "_sock",
        "_stage",
        "_stalled_since",
        "_unsent",
        "account",
        "address",
        "address_slot",
        "caller",
        "deadline",
        "security",
    )

    def __init__(self, server: "Server", io: IOThread, home: IOThread, sock: socket.socket, address: str) -> None:
        self._server = server
        self._io = io
        self._home = home
        self._sock = sock
        self._fd = sock.fileno()
        self._limits = server.limits
        self._application = server.application
        self.address = address
        self.security = server.security
        self._handshake: Handshake | None = Handshake(self.security, server.application.server_name)
        self._channel = self._handshake.channel
        self._core: ServerConnection
        self._stage = Stage.HANDSHAKE
        self.caller: Caller
        self.account: int | None = None  # the server's directory keeps these two
        self.address_slot: str | None = None
        self._inner_leaf: bytes | None = None  # DER, where it is not the one that TLS saw
        self._requests = Requests(self._start)
        self._end_reason = "bye"
        self._end_message = ""
        # Output: frames not yet encrypted by TLS, then bytes that the socket did not take.
        self._frames: list[bytes] = []
        self._unsent = bytearray()
        self._is_dirty = False
        self._interest = _READ
        # Times are monotonic seconds; 0.0 means: not running.
        self._opened = 0.0
        self._last_frame = 0.0
        self._frame_since = 0.0
        self._stalled_since = 0.0
        self._ends_by = 0.0
        self._certificate_ends = float("inf")
        self.deadline = io.now + self._limits.handshake_seconds

    @property
    def io(self) -> IOThread:
        """The thread that it belongs to: what is posted to another one is passed on."""
        return self._io

    def adopt(self) -> None:
        """Begin: the first call on the handshake thread."""
        if self.security.key_logs is not None:
            self._server.log.warning("! the keys of this connection are logged", remote=self.address)
        self.deadline = self._io.now + self._limits.handshake_seconds
        self._io.add(self, self._fd, self._interest)

    # Readiness

    def on_events(self, events: int) -> None:
        if events & _READ:
            if self._stage is _HANDSHAKE:
                self._receive()
                return  # it may belong to another thread now, which is told again what else is ready
            self._receive()
        elif events & (select.EPOLLERR | select.EPOLLHUP):
            self._vanish("reset")
            return
        if events & _WRITABLE and self._stage is not _GONE:
            self._arm(self._interest & ~_WRITABLE)
            self.flush()

    def _receive(self) -> None:
        try:
            raw = self._sock.recv(RECEIVE_BYTES)
        except BlockingIOError:  # a false alarm
            self._arm(self._interest, force=True)
            return
        except OSError:
            self._vanish("reset")
            return
        stage = self._stage
        if stage is _OPEN:
            self._channel.feed(raw)
            self._pump(fed=True)
        elif stage is Stage.HANDSHAKE:
            self._advance(raw)
        elif not raw:  # LINGER: what comes is thrown away, only the end is noted
            if self._unsent:
                self._arm(self._interest & ~_READ)  # half-closed: the peer may still take what it asked for
            else:
                self._gone()

    # Handshake

    def _advance(self, raw: bytes) -> None:
        """Go on with the handshake; where that was its end, this thread touches the connection no more."""
        assert self._handshake is not None
        if self.deadline <= self._io.now:  # whoever is too slow must not hold up those behind it
            self.expire()
            return
        try:
            authenticated = self._handshake.advance(raw)
        except RemoteProtocolError as error:
            self._refuse(error.reason, str(error))
        except TlsFailure as error:
            self._refuse(None, str(error))
        else:
            if authenticated is None:
                self._write_out()
            else:
                self._io.remove(self._fd)
                self._io = self._home
                self._io.post(self._open, authenticated)

    def _open(self, authenticated: PeerAuthenticated) -> None:
        handshake, inner_leaf = self._handshake, authenticated.leaf
        assert handshake is not None
        assert handshake.core is not None
        self._handshake = None
        self._core = handshake.core
        self._stage = Stage.OPEN
        self._opened = self._last_frame = self._io.now
        self.caller = Caller(authenticated.identity, self.address)
        if inner_leaf is not None and inner_leaf != handshake.outer_leaf:
            self._inner_leaf = der(inner_leaf)
        for leaf in (inner_leaf, handshake.outer_leaf):
            if leaf is not None:
                remaining = (leaf.not_valid_after_utc - datetime.now(UTC)).total_seconds()
                self._certificate_ends = min(self._certificate_ends, self._io.now + remaining)
        self._server.opened(self, handshake.outer_leaf)
        self._schedule()
        self.touch()
        self._io.add(self, self._fd, self._interest)
        if self._server.security is not self.security:
            self.recheck()  # the files were reloaded during the handshake
        self._pump()

    # Open: the hot path

    def _pump(self, *, fed: bool = False) -> None:
        """Handle what has arrived, as far as it may go on. fed: raw bytes have just come; else an answer made room."""
        core = self._core
        try:
            progress = self._handle_arrived(core)
        except RemoteProtocolError as error:
            self._server.log.warning("! protocol error", remote=self.address, reason=error.reason, error=str(error))
            self._finish_ending(error.reason, "the protocol was broken")
            return
        except TlsFailure as error:
            self._cut(str(error))
            return
        if progress is None or self._stage is not _OPEN:
            return
        if self._channel.has_raw:
            self.touch()
        now = self._io.now
        if progress:
            self._last_frame = now
            self._frame_since = 0.0
        if not self._frame_since and (core.mid_frame or (fed and not progress)):
            # Raw bytes that completed no frame count too: half a TLS record is half a frame.
            self._frame_since = now
            self.deadline = min(self.deadline, now + self._limits.frame_seconds)
        self._arm(self._interest | _READ)

    def _handle_arrived(self, core: ServerConnection) -> bool | None:
        """Whether there was anything to handle; None where the client has to wait before the rest is looked at."""
        channel, requests, lane = self._channel, self._requests, self._application.lane
        most = self._limits.outstanding_requests
        progress = False
        while self._stage is _OPEN:
            if (requests.running and len(requests) >= most) or len(self._unsent) > LOW_WATER:
                self._frame_since = 0.0  # it is this side that does not read
                self._arm(self._interest & ~_READ)
                return None
            if len(self._frames) >= most:
                self._write_out()  # in portions, so that what the client does not take shows in time
                continue
            event = core.next_event()
            if type(event) is Request:
                progress = True
                its_lane = lane(event.method)
                if its_lane is _INLINE and not requests.running:  # then none waits: it needs no place among them
                    self._answer(event.id, self._ask(event))
                else:
                    requests.add(event, its_lane)
            elif event is not None:
                progress = True
                self._handle(event)
            else:
                plaintext = channel.read()
                if plaintext is None:
                    break
                core.receive_data(plaintext)
        return progress

    def _handle(self, event: object) -> None:
        """What is no request."""
        if isinstance(event, RequestRefused):
            # Without an id it can only be told by its place, so it is answered in its turn.
            self._requests.add(event, Lane.INLINE)
        elif isinstance(event, CloseReceived):
            if event.reason != "bye":
                self._server.log.info("< CLOSE", remote=self.address, reason=event.reason, message=event.message)
            # Nothing hurries: the client waits for its answers, or its reset is noticed.
            self.end("bye", within_seconds=self._limits.idle_seconds)
        else:
            assert isinstance(event, Truncated)
            self._cut("the connection ended without CLOSE")

    def _start(self, request: Work, lane: Lane) -> None:
        """Run a request whose turn it is."""
        if isinstance(request, RequestRefused):
            self._answer(request.id, Refusal(request.reason, request.message), always=True)
        elif isinstance(request, Review):
            self._start_review(lane)
        elif lane is _INLINE:
            self._answer(request.id, self._ask(request))
        elif lane is _WRITE:
            done = partial(self._io.post, self._finished, request.id)
            self._io.write_waits()
            try:
                self._application.submit(self.caller, request, done)
            except Exception as error:  # noqa: BLE001 -- a bug of the application costs one answer, not the connection
                done(self._application.incident(error, "submitting a request"))
        else:
            self._start_call(request, lane)

    def _start_call(self, request: Request, lane: Lane) -> None:
        done = partial(self._io.post, self._finished, request.id)
        self._server.submit_call(lane, lambda: done(self._ask(request)), done)

    def _start_review(self, lane: Lane) -> None:
        looked = partial(self._io.post, self._reviewed)
        if self.caller.session is None:  # logged out by a request that stood before it
            looked(SessionChange(None, None, None))
        else:
            self._server.submit_call(lane, lambda: looked(self._look()), looked)

    def _ask(self, request: Request) -> Outcome:
        """The application's answer, on this thread."""
        try:
            return self._application.answer(self.caller, request)
        except Exception as error:  # noqa: BLE001 -- as in _start
            return self._application.incident(error, "answering a request")

    def review(self) -> None:
        """The account that is logged in here has changed: see, behind what was sent before, what that means."""
        if self._stage is Stage.OPEN and self.caller.session is not None:
            self._requests.add(Review(), Lane.SESSION)

    def _look(self) -> SessionChange | Ending | Refusal:
        """The application's view of who is logged in; on a worker."""
        try:
            return self._application.review(self.caller)
        except Exception as error:  # noqa: BLE001 -- as in _start
            return self._application.incident(error, "looking at an account again")

    def _reviewed(self, outcome: SessionChange | Ending | Refusal) -> None:
        if self._stage not in (Stage.OPEN, Stage.ENDING):
            return
        if isinstance(outcome, SessionChange):
            self._enter(outcome)
        else:
            self._requests.clear()  # nothing more is done for somebody who may no longer ask
            match outcome:
                case Ending(reason, message):
                    self.end(reason, message)
                case _:
                    self.end("internal", "the account could not be looked at")
        self._done()

    def _enter(self, change: SessionChange) -> None:
        self._server.moved(self, change.account)
        self.caller.session = change.session

    def _finished(self, request_id: Id | None, outcome: Outcome) -> None:
        if self._stage is not _OPEN and self._stage is not Stage.ENDING:
            return
        if isinstance(outcome, SessionChange):
            self._enter(outcome)
            # What changed between the login's transaction and here was told to nobody.
            self.review()
            outcome = outcome.result
        self._answer(request_id, outcome)
        self._done()

    def _done(self) -> None:
        """Something that was not answered on the spot has been dealt with."""
        self._requests.finished()
        if self._stage is _OPEN:
            if not self._interest & _READ:
                self._pump()
        elif not self._requests.running:
            self._finish_ending(self._end_reason, self._end_message)

    def _answer(self, request_id: Id | None, outcome: Outcome, *, always: bool = False) -> None:
        if request_id is None and not always:
            return
        core = self._core
        try:
            if isinstance(outcome, Refusal):
                frame = core.send_error(request_id, outcome.reason, outcome.message, outcome.data)
            else:
                assert request_id is not None
                frame = core.send_result(request_id, outcome)
        except Exception as error:  # noqa: BLE001 -- it cannot be encoded, or does not fit a frame
            refusal = self._application.incident(error, "encoding an answer")
            frame = core.send_error(request_id, refusal.reason, refusal.message, refusal.data)
        self._frames.append(frame)
        if not self._is_dirty:
            self.touch()

    def tell(self, account: int, method: str, params: object) -> None:
        """A notification for the account, if it is still the one that is logged in here."""
        if self.account == account:
            self.notify(method, params)

    def notify(self, method: str, params: object) -> None:
        """A notification for this connection, if it is still open."""
        if self._stage is not _OPEN:
            return
        try:
            self._frames.append(self._core.send_notification(method, params))
        except LocalProtocolError as error:  # it does not fit a frame; the client can still ask for what it was about
            self._application.incident(error, f"encoding the notification {method}")
        else:
            self.touch()

    # Output

    def touch(self) -> None:
        """Have flush() called at the end of this pass: one TLS write and one send for all that a pass has made."""
        if not self._is_dirty:
            self._is_dirty = True
            self._io.dirty.append(self)

    def flush(self) -> None:
        """Write out what there is, then go on with what waited for room."""
        self._is_dirty = False
        self._write_out()
        if self._unsent:
            return
        if self._stage is _OPEN:
            if not self._interest & _READ:
                self._pump()
        elif self._stage is Stage.LINGER:
            self._half_close()

    def _write_out(self) -> None:
        if self._stage is _GONE:
            return
        frames = self._frames
        if frames:
            try:
                self._channel.write(frames[0] if len(frames) == 1 else b"".join(frames))
            except TlsFailure as error:
                self._vanish(str(error))
                return
            frames.clear()
        raw = self._channel.take_raw()
        if raw or self._unsent:
            self._send(raw)

    def _send(self, raw: bytes) -> None:
        """Send raw behind what is unsent, and keep what the socket does not take."""
        unsent = self._unsent
        data: bytes | bytearray = raw
        if unsent:
            unsent += raw
            data = unsent
        sent = 0
        if not self._interest & _WRITABLE:  # else the socket is full, and epoll will say when it is not
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                pass
            except OSError:
                self._vanish("reset")
                return
        if sent == len(data):
            unsent.clear()
            self._stalled_since = 0.0
            return
        if unsent:
            del unsent[:sent]
        else:
            unsent += raw[sent:]
        if sent or not self._stalled_since:
            self._stalled_since = self._io.now
            self.deadline = min(self.deadline, self._io.now + self._limits.frame_seconds)
        if len(unsent) > self._limits.unsent_bytes:
            self._drop()
        else:
            self._arm(self._interest | _WRITABLE)

    def _arm(self, interest: int, *, force: bool = False) -> None:
        if interest != self._interest or force:
            self._interest = interest
            self._io.arm(self._fd, interest)

    # Ends

    def end(self, reason: str, message: str = "", *, within_seconds: float | None = None) -> None:
        """Take no further requests, answer those under way, then CLOSE. The first reason stands."""
        if self._stage is Stage.HANDSHAKE:
            self._refuse(reason, message)
        elif self._stage is Stage.OPEN:
            self._stage = Stage.ENDING
            self._end_reason, self._end_message = reason, message
            self._arm(self._interest & ~_READ)
            self._end_within(ENDING_SECONDS if within_seconds is None else within_seconds)
            if not self._requests.running:
                self._finish_ending(reason, message)
        elif self._stage is Stage.ENDING:
            self._end_within(min(ENDING_SECONDS, self._ends_by - self._io.now))

    def _end_within(self, seconds: float) -> None:
        self._ends_by = self._io.now + seconds
        self._schedule()

    def _finish_ending(self, reason: str, message: str) -> None:
        """Say CLOSE and close_notify behind all that was answered, then wait for the peer to hang up."""
        self._server.log.info("= closed", remote=self.address, reason=reason, account=self._name())
        self._frames.append(self._core.send_close(reason, message))
        self._last_words()

    def _refuse(self, reason: str | None, why: str) -> None:
        """End during the handshake. reason: for the CLOSE, where there are keys; None where TLS has failed."""
        self._server.log.warning("! refused", remote=self.address, reason=reason or "tls", why=why)
        core = self._handshake.core if self._handshake is not None else None
        if reason is not None and core is not None:
            self._frames.append(core.send_close(reason))
        self._last_words()

    def _cut(self, why: str) -> None:
        """TLS ended without a CLOSE, or broke: what came of the requests before it still goes out, and the alert."""
        self._server.log.info("= truncated", remote=self.address, why=why, account=self._name())
        self._last_words()

    def _last_words(self) -> None:
        self._requests.clear()
        frames = b"".join(self._frames)
        self._frames.clear()
        with contextlib.suppress(TlsFailure):  # where TLS itself is broken, its alert is all that there is to say
            if frames:
                self._channel.write(frames)
        self._channel.close()
        self._leave()
        self._stage = Stage.LINGER
        self._end_within(LINGER_SECONDS)
        self._arm(_READ | (self._interest & _WRITABLE), force=True)  # fails where epoll does not know it: collapse()
        self.touch()

    def _half_close(self) -> None:
        """All is said."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._gone()
            return
        if not self._interest & _READ:  # the peer had already hung up
            self._gone()
        self._end_within(LINGER_SECONDS)

    def _drop(self) -> None:
        self._server.log.warning("! dropped", remote=self.address, reason="too_slow", unsent=len(self._unsent))
        self._gone()

    def _vanish(self, why: str) -> None:
        """The peer is gone, or cannot be talked to."""
        if self._stage is Stage.HANDSHAKE:
            self._server.log.warning("! refused", remote=self.address, reason="truncated", why=why)
        elif self._stage is not Stage.LINGER:
            self._server.log.info("= truncated", remote=self.address, why=why, account=self._name())
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
        """A bug of ours: CLOSE `internal` if that still works, else out without a word. Never raises."""
        with contextlib.suppress(Exception):
            if self._stage in (Stage.OPEN, Stage.ENDING):
                self._finish_ending("internal", "an internal error")
                return
            if self._stage is Stage.HANDSHAKE:
                self._refuse("internal", "an internal error")
                return
        self._gone()

    def give_way(self) -> None:
        """Go without a word: its file descriptor is needed. Only a handshake; what is open by now stays."""
        if self._stage is Stage.HANDSHAKE:
            self._vanish("gave way: out of file descriptors")

    def abandon(self) -> None:
        """Close the socket, without a word."""
        self._stage = Stage.GONE
        self._requests.close()
        self._io.remove(self._fd)
        self._sock.close()
        self._server.left(self)

    def _leave(self) -> None:
        if self._stage in (Stage.OPEN, Stage.ENDING):
            self._server.moved(self, None)

    def _name(self) -> str | None:
        return self.caller.identity.uri if self.caller.identity else None

    def _leaves(self) -> list[x509.Certificate]:
        """The client's certificates. Of an open connection they are parsed anew, for that is seldom needed."""
        if self._handshake is not None:
            outer_leaf = self._handshake.outer_leaf
            return [] if outer_leaf is None else [outer_leaf]
        encoded = (self._inner_leaf, self._channel.peer_certificate())
        return [x509.load_der_x509_certificate(one) for one in encoded if one is not None]

    # Time

    def expire(self) -> None:
        """The deadline is over: find out which, act, and set the next."""
        now, limits = self._io.now, self._limits
        if self._stage is Stage.HANDSHAKE:
            self.end("too_slow", f"the handshake took longer than {limits.handshake_seconds} s")
        elif self._stalled_since and now - self._stalled_since >= limits.frame_seconds:
            self._drop()
        elif self._stage is Stage.LINGER:
            if self._unsent:
                self._schedule()  # it still reads what it asked for
            else:
                self._gone()
        elif self._stage is Stage.ENDING:
            if now >= self._ends_by:
                self._finish_ending(self._end_reason, self._end_message)
            else:
                self._schedule()
        elif self._frame_since and now - self._frame_since >= limits.frame_seconds:
            self.end("too_slow", f"a frame was not complete within {limits.frame_seconds} s")
        elif now - self._last_frame >= limits.idle_seconds:
            self.end("idle", f"nothing was heard for {limits.idle_seconds} s")
        elif now - self._opened >= limits.connection_seconds:
            self.end("session_expired", f"a connection lives {limits.connection_seconds} s")
        else:
            if now >= self._certificate_ends:
                self.recheck()
            if self._stage is Stage.OPEN:
                self._schedule()

    def _schedule(self) -> None:
        limits = self._limits
        stalled = self._stalled_since + limits.frame_seconds if self._stalled_since else float("inf")
        if self._stage is not Stage.OPEN:
            self.deadline = stalled if self._stage is Stage.LINGER and self._unsent else min(self._ends_by, stalled)
            return
        self.deadline = min(
            self._last_frame + limits.idle_seconds,
            self._opened + limits.connection_seconds,
            max(self._certificate_ends, self._io.now + 1.0),
            self._frame_since + limits.frame_seconds if self._frame_since else float("inf"),
            stalled,
        )

    def recheck(self) -> None:
        """Hold both certificates against the clock and the revocation list in force; end what does not stand."""
        if self._stage in (Stage.LINGER, Stage.GONE):
            return  # all has been said, and its TLS may not even have begun
        trust, now = self._server.security.policy.trust, datetime.now(UTC)
        for leaf in self._leaves():
            slug = trust.standing(leaf, now)
            if slug is not None:
                self.end(slug, "the certificate is no longer accepted")
                return
