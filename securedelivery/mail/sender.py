"""The thread that brings one route's mail to its mail server, one after the other over one session.

    due? -> claim -> compose -> session -> send -> settle and claim the next -> ...

What goes wrong with a message is the message's: it waits, fails or is withdrawn. What goes wrong with the mail server
is the route's: all pauses, and nothing fails for it before outbox.PATIENCE is over.
"""

import contextlib
import logging
import random
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path

import structlog

from securedelivery.errors import (
    ConfigurationError,
    DamagedRow,
    MailRefused,
    MailServerFailure,
    NotYet,
    Undeliverable,
    Unwanted,
)
from securedelivery.mail.smtp import Session
from securedelivery.model import MailRoute
from securedelivery.service.outbox import Failed, Later, Outbox, Outcome, Sent, Withdrawn
from securedelivery.store.outbox import OutboxRow

POLL_SECONDS = 2.0
"""How often it looks for what other processes have queued, and other nodes have left behind."""

LINGER_SECONDS = 5.0
"""How long a session stays open without work: longer than customers' orders are apart in a busy hour."""

MESSAGES = 100
"""In one session; some servers end it themselves at about as many."""

MESSAGE_SECONDS = 300.0
"""For one message, whatever the server does meanwhile. Well below outbox.LEASE."""

STOP_SECONDS = 3.0
"""What is being sent at the end may take so long."""

FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=30), timedelta(hours=1)
"""Of a message that the server does not take for now; doubled each time."""

ROUTE_PAUSE, LONGEST_ROUTE_PAUSE = timedelta(seconds=5), timedelta(minutes=10)
"""Of the route, when there is no session to be had."""

BUSY = "the mail server asks for a pause; if that is often so, ask its operator for what it allows"

QUIET_SECONDS = 60.0
"""The same trouble is logged once in this time."""

_log = logging.getLogger(__name__)


class Sender:
    """node: who sends, of all senders in all processes. dice: 0 to 1, for the jitter."""

    def __init__(
        self,
        route: MailRoute,
        outbox: Outbox,
        compose: Callable[[OutboxRow], EmailMessage],
        session: Callable[[], Session],
        node: str,
        *,
        dice: Callable[[], float] = random.random,
    ) -> None:
        """compose: raises Unwanted, Undeliverable. session: gives one that is not open yet."""
        self._route = route
        self._outbox = outbox
        self._compose = compose
        self._new_session = session
        self._node = node
        self._dice = dice
        self._session: Session | None = None
        self._sent_in_session = 0
        self._used = 0.0  # when, by the monotonic clock
        # What became of the last row, as long as it is not written down: a full disk must not have it sent twice.
        self._ended: tuple[OutboxRow, Outcome] | None = None
        self._failures = 0  # of sessions, one after the other
        self._resume = 0.0  # of the monotonic clock: the route pauses until then
        self._quiet_until = 0.0
        self._stop_by = 0.0  # of the monotonic clock
        self._stopping = threading.Event()
        self._lifted = threading.Event()  # the route's pause is over
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mail-{route}", daemon=True)
        self._logger = structlog.get_logger("securedelivery.mail")

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something may be due. From any thread, without waiting."""
        self._woken.set()

    def resume(self) -> None:
        """Wait no longer for the mail server to get well. From any thread, without waiting."""
        self._resume = 0.0
        self._lifted.set()
        self._woken.set()

    def finish(self) -> None:
        """Send nothing more after this message, for which there is STOP_SECONDS. Without waiting."""
        if not self._stopping.is_set():
            self._stop_by = time.monotonic() + STOP_SECONDS
            self._stopping.set()
            self._lifted.set()
            self._woken.set()

    def stop(self) -> None:
        """finish(), and wait for it. Does nothing before start()."""
        self.finish()
        if self._thread.ident is not None:
            self._thread.join(max(0.0, self._stop_by - time.monotonic()))
            self._abort()
            self._thread.join(STOP_SECONDS)
            if self._thread.is_alive():  # looking up a name, which nothing can end: it has sent nothing
                self._logger.warning("= left behind, still looking for its mail server", route=self._route.value)

    # On the thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._work()
            except Exception as error:  # noqa: BLE001 -- whatever it is, the mail that comes later has to leave
                self._hang_up()
                self._pause_route()
                if self._may_complain():
                    _log.error("! sending mail has failed; it will be tried again: %s", place_of(error))
        self._hang_up()
        if self._ended is not None:
            try:
                self._settle(*self._ended)
            except Exception as error:  # noqa: BLE001 -- the next start sends it again, and says so
                _log.error("! what became of mail %d is not written down: %s", self._ended[0].id, place_of(error))

    def _settle(self, row: OutboxRow, outcome: Outcome) -> None:
        self._outbox.settle(self._node, row, outcome)
        self._ended = None

    def _work(self) -> None:
        """Send what is due, or wait for a moment."""
        if (pause := self._paused()) > 0:
            self._lifted.wait(pause)
            if not self._stopping.is_set():
                self._lifted.clear()
            return
        self._woken.clear()
        if (wait := self._seconds_to_work()) > 0:
            if self._session is not None and time.monotonic() - self._used >= LINGER_SECONDS:
                self._hang_up()
            self._woken.wait(min(wait, POLL_SECONDS))
            return
        while self._paused() <= 0 and not self._stopping.is_set():
            row = self._outbox.next(self._route, self._node, self._ended)
            self._ended = None
            if row is None:
                return
            self._ended = (row, self._delivered(row))
        if self._ended is not None:
            self._settle(*self._ended)

    def _seconds_to_work(self) -> float:
        if self._ended is not None:
            return 0.0
        due = self._outbox.seconds_to_next(self._route)
        return POLL_SECONDS if due is None else due

    def _paused(self) -> float:
        """Seconds."""
        return self._resume - time.monotonic()

    def _delivered(self, row: OutboxRow) -> Outcome:
        try:
            outcome = self._tried(row)
        except Exception as error:  # noqa: BLE001 -- a bug in one mail, or a machine short of something for a moment
            _log.error("! mail %d could not be sent: %s", row.id, place_of(error))
            uncertain = self._is_uncertain()
            self._hang_up()
            self._pause_route()
            answer = f"a fault of this program or machine: {type(error).__name__}; it is in the log"
            outcome = Later(answer, self._pause_of(row), uncertain)
        self._tell(row, outcome)
        return outcome

    def _tried(self, row: OutboxRow) -> Outcome:
        try:
            message = self._compose(row)
        except Unwanted as error:
            return Withdrawn(str(error))
        except NotYet as error:
            return Later(str(error), self._pause_of(row))
        except (Undeliverable, DamagedRow, ConfigurationError) as error:  # the last: a template
            return Failed(str(error))
        try:
            session = self._usable()
            with self._in_time(session):
                if not session.is_open:
                    session.open()
                answer = session.send(message)
        except Undeliverable as error:
            return Failed(str(error))
        except MailRefused as error:
            if error.answer.startswith("421"):  # it wants to be left in peace (RFC 5321, 3.8)
                self._hang_up()
                self._pause_route()
                if self._may_complain():
                    self._logger.warning("! mail does not leave", route=self._route.value, code="421", hint=BUSY)
                return Later(error.answer, max(self._pause_of(row), timedelta(seconds=self._paused())))
            self._succeeded()
            return Failed(error.answer) if error.permanent else Later(error.answer, self._pause_of(row))
        except MailServerFailure as error:
            uncertain = self._is_uncertain()
            self._hang_up()
            self._pause_route()
            if self._may_complain():
                self._logger.warning("! mail does not leave", route=self._route.value, what=str(error), hint=error.hint)
            pause = timedelta(seconds=max(0.0, self._paused()))
            # What may have arrived is not sent again as often as the route is tried.
            return Later(str(error), max(pause, self._pause_of(row)) if uncertain else pause, uncertain)
        self._succeeded()
        return Sent(answer)

    def _is_uncertain(self) -> bool:
        return self._session is not None and self._session.uncertain

    def _usable(self) -> Session:
        """The session, or a new one that is not open yet."""
        if self._session is not None and (not self._session.is_open or self._sent_in_session >= MESSAGES):
            self._hang_up()
        if self._session is None:
            self._session = self._new_session()
            if self._stopping.is_set() and time.monotonic() >= self._stop_by:
                self._session.abort()  # stop() has come too early to do it
        return self._session

    @contextlib.contextmanager
    def _in_time(self, session: Session) -> Iterator[None]:
        """Ends what is in it after MESSAGE_SECONDS; a server that drips would else never meet a timeout."""
        watchdog = threading.Timer(MESSAGE_SECONDS, session.abort)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()

    def _abort(self) -> None:
        session = self._session
        if session is not None:
            session.abort()

    def _succeeded(self) -> None:
        """The server has dealt with a message, one way or the other."""
        self._sent_in_session += 1
        self._used = time.monotonic()
        self._failures = 0
        self._quiet_until = 0.0

    def _hang_up(self) -> None:
        session, self._session = self._session, None
        self._sent_in_session = 0
        if session is not None:
            session.close()

    def _pause_route(self) -> None:
        pause = self._jittered(_doubled(ROUTE_PAUSE, self._failures, LONGEST_ROUTE_PAUSE))
        self._failures += 1
        self._resume = time.monotonic() + pause.total_seconds()

    def _pause_of(self, row: OutboxRow) -> timedelta:
        return self._jittered(_doubled(FIRST_PAUSE, row.attempts - 1, LONGEST_PAUSE))

    def _jittered(self, pause: timedelta) -> timedelta:
        """A quarter more or less, so that many do not come back at once."""
        return pause * (0.75 + self._dice() / 2)

    def _may_complain(self) -> bool:
        now = time.monotonic()
        if now < self._quiet_until:
            return False
        self._quiet_until = now + QUIET_SECONDS
        return True

    def _tell(self, row: OutboxRow, outcome: Outcome) -> None:
        """Never what the mail server said, which may quote the address."""
        known: dict[str, int | str] = {"mail": row.id, "kind": row.kind.value, "attempts": row.attempts}
        match outcome:
            case Sent():
                if row.interrupted:
                    self._logger.warning("> mail sent, maybe not for the first time", **known)
                else:
                    self._logger.info("> mail sent", **known)
            case Failed(answer):
                known |= code_of(answer)
                self._logger.warning("! mail failed", **known, hint=f"securedelivery admin mail queue: mail {row.id}")
            case Later(answer):
                known |= code_of(answer)
                self._logger.info("= mail waits", **known)
            case Withdrawn():
                self._logger.info("= mail withdrawn", **known)


_CODE = re.compile(r"[245]\d\d(?: [245]\.\d{1,3}\.\d{1,3})?(?= |$)")


def code_of(answer: str) -> dict[str, str]:
    """The reply code and the enhanced status code at the beginning of a server's answer, if it is one."""
    found = _CODE.match(answer)
    return {"code": found[0]} if found else {}


def place_of(error: Exception) -> str:
    """What kind of fault and where, innermost first; not what it says, for that may quote an address."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__} at {where}"


def _doubled(first: timedelta, times: int, most: timedelta) -> timedelta:
    return min(first * (1 << min(times, 16)), most)
