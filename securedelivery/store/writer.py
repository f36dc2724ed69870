"""One thread that writes: it takes what has queued up, commits once, and only then answers all.

    submit -> queue -> BEGIN IMMEDIATE
                         consecutive commands of one batch function     (one group)
                         ...
                       COMMIT (on disk) -> done(...) for each command -> on_commit(events)

A commit costs an fdatasync, whether it holds one order or a hundred. A Refusal is a result like any other: it is data
that the batch function returns, and undoes nothing. A batch function that raises has a bug or met a constraint: then
everything is rolled back and run again with a savepoint around each group, and a group that fails again is rolled back
to it and run command by command, so that what fails, fails alone. Not with savepoints from the start, for SQLite copies
each page that changes behind one.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from securedelivery.errors import Reason, Refusal, StoreError

if TYPE_CHECKING:
    from securedelivery.store.engine import Transaction

C = TypeVar("C")
R = TypeVar("R")

MAX_BATCH = 256
"""Commands in one transaction. Beyond this a commit's fdatasync is shared by enough, and the first would wait for the
last."""

POLL_MILLISECONDS = 2
"""Between two tries for a lock that another process has. Left to itself SQLite sleeps for up to 0.1 s between two, and
one that imports a catalogue beside the server takes the lock again in less."""

MAX_QUEUE = 8_192
"""Commands waiting. About a second of work: who would wait longer is better told to come back."""

_log = logging.getLogger(__name__)


_Batch = Callable[["Transaction", Sequence[Any]], Sequence[Any]]
_Group = tuple[_Batch, list[Any]]
"""Commands that one batch function gets together."""


class _Job(NamedTuple):
    batch: _Batch
    command: Any
    done: Callable[[Any], None]
    at_once: bool


class _Busy(Exception):  # noqa: N818 -- a state, turned into a Refusal right here
    """Another process kept the write lock for too long."""


class Writer:
    """The only one that writes. Its thread starts with the first command and ends with close()."""

    on_commit: Callable[[Sequence[object]], None]
    """Called on the writer's thread after the commit and after the done() calls, with what the transaction published,
    in order; never with nothing. Set it before the first command."""

    delivering: Callable[[], AbstractContextManager[None]]
    """Entered before the done() calls of a transaction and left behind on_commit. Whoever submits what is not done at
    once sees to a begin() behind it, for what has queued up meanwhile. Set it before the first command."""

    before_commit: Callable[["Transaction", Sequence[object]], None]
    """Called in the transaction with what it has published, never with nothing; for a process that has to leave word
    to another one. Set it before the first command."""

    def __init__(
        self, connect: Callable[[], "Transaction"], driver_error: type[Exception], *, busy_seconds: float
    ) -> None:
        self.on_commit = _nobody
        self.before_commit = _nothing
        self.delivering = nullcontext
        self._connect = connect
        self._driver_error = driver_error
        self._busy_seconds = busy_seconds
        self._tx: Transaction | None = None
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._begun = False
        self._closing = False
        self._thread: threading.Thread | None = None

    def submit(
        self,
        batch: "Callable[[Transaction, Sequence[C]], Sequence[R | Refusal]]",
        command: C,
        done: "Callable[[R | BaseException], None]",
        *,
        at_once: bool = True,
    ) -> None:
        """Queue a command; from any thread, without waiting.

        at_once: if not, it waits for a begin() that comes behind the answers of the transaction before it.

        batch: gets commands in the order in which they were submitted, gives one result for each. It may run again.
        done: called with the result, a Refusal, a StoreError, or what the batch function raised; on the writer's thread
        after the commit, or, where the command is not even queued (too many wait: Refusal `unavailable`; closed:
        StoreError), on the caller's. It must not wait for anything.
        """
        with self._changed:
            refused = self._refusal()
            if refused is None:
                self._jobs.append(_Job(batch, command, done, at_once))
                if self._thread is None:
                    # A daemon, so that a crash elsewhere ends the process; nothing unanswered was promised to anyone.
                    self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
                    self._thread.start()
                if at_once:
                    self._begin()
        if refused is not None:
            done(refused)

    def begin(self) -> None:
        """Carry out what has been queued; from any thread, without waiting."""
        with self._changed:
            if self._jobs:
                self._begin()

    def _begin(self) -> None:
        self._begun = True
        self._changed.notify()

    def call(self, batch: "Callable[[Transaction, Sequence[C]], Sequence[R | Refusal]]", command: C) -> R:
        """Submit and wait. Raises what submit() would hand over: Refusal, StoreError, or the batch function's
        exception.
        """
        assert threading.current_thread() is not self._thread, "the writer cannot wait for itself"
        box: queue.SimpleQueue[R | BaseException] = queue.SimpleQueue()
        self.submit(batch, command, box.put)
        outcome = box.get()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def close(self) -> None:
        """Carry out what is queued, refuse what comes later, and wait for the thread's end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _refusal(self) -> Refusal | StoreError | None:
        if self._closing:
            return StoreError("the database is closed")
        if len(self._jobs) >= MAX_QUEUE:
            return Refusal(Reason.UNAVAILABLE, "too much is waiting to be written; try again in a moment")
        return None

    # What follows runs on the writer's thread alone.

    def _run(self) -> None:
        while jobs := self._take():
            outcomes, events = self._outcomes(jobs)
            with self._changed:
                self._begun = False  # a begin() up to here was for these
            with self.delivering():
                self._answer(jobs, outcomes, events)
        self._disconnect()

    def _take(self) -> list[_Job]:
        """What is queued, at most MAX_BATCH; waits for it. Empty at the end."""
        with self._changed:
            full = len(self._jobs) >= MAX_BATCH  # which gains nothing by waiting
            self._begun = self._begun or full or any(job.at_once for job in self._jobs)
            self._changed.wait_for(lambda: self._begun or self._closing)
            return [self._jobs.popleft() for _ in range(min(len(self._jobs), MAX_BATCH))]

    def _outcomes(self, jobs: list[_Job]) -> tuple[list[Any], Sequence[object]]:
        """Carry out the jobs in one transaction. Gives their results, one each, and the events."""
        try:
            groups = [(batch, [job.command for job in group]) for batch, group in groupby(jobs, attrgetter("batch"))]
            tx, outcomes = self._together(groups) or self._apart(groups)
            if tx.events:
                self.before_commit(tx, tx.events)
            tx.control("COMMIT")
        except _Busy:
            return [Refusal(Reason.UNAVAILABLE, "the database is in use by another program") for _ in jobs], ()
        except Exception as error:  # noqa: BLE001 -- logged, and handed to all who wait
            # Of the transaction as a whole: no disk left, an input/output error. An exception object for each,
            # because each is raised on a thread of its own.
            if isinstance(error, self._driver_error):  # a full disk needs no traceback on it as well
                _log.error("! a transaction of %d commands was lost: %s", len(jobs), error)
            else:
                _log.exception("! a transaction of %d commands was lost", len(jobs))
            self._disconnect()
            outcomes = []
            for _ in jobs:
                lost = StoreError(f"nothing was written: {error}")
                lost.__cause__ = error
                outcomes.append(lost)
            return outcomes, ()
        return outcomes, tx.events

    def _locked(self) -> "Transaction":
        """A transaction that has the write lock."""
        deadline = time.monotonic() + self._busy_seconds
        while True:
            if self._tx is None:
                self._tx = self._connect()
                self._tx.control(f"PRAGMA busy_timeout={POLL_MILLISECONDS}")
            self._tx.events = []
            try:
                self._tx.control("BEGIN IMMEDIATE")
            except self._driver_error as error:
                if "locked" not in str(error):
                    raise
                if time.monotonic() >= deadline:
                    raise _Busy from error
            else:
                return self._tx

    def _together(self, groups: list[_Group]) -> "tuple[Transaction, list[Any]] | None":
        """The transaction, not committed yet, and the results. None where one failed: nothing has happened."""
        tx = self._locked()
        try:
            return tx, [outcome for group in groups for outcome in _run(tx, *group)]
        except Exception:  # noqa: BLE001 -- it comes again in _apart(), where it is somebody's answer
            with suppress(self._driver_error):  # it may have rolled back by itself, as on a full disk
                tx.control("ROLLBACK")
            return None

    def _apart(self, groups: list[_Group]) -> "tuple[Transaction, list[Any]]":
        """The same, where one that fails is the answer to its command."""
        tx = self._locked()
        return tx, [outcome for group in groups for outcome in self._guarded(tx, *group)]

    def _guarded(self, tx: "Transaction", batch: _Batch, commands: list[Any]) -> Sequence[Any]:
        published = len(tx.events)
        tx.control("SAVEPOINT command")
        try:
            outcomes = _run(tx, batch, commands)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is the answer to one command
            # Fails where the database has already rolled back everything (a full disk): then the whole transaction is
            # lost.
            tx.control("ROLLBACK TO command")
            tx.control("RELEASE command")
            del tx.events[published:]
            if len(commands) == 1:
                return [error]
            return [outcome for command in commands for outcome in self._guarded(tx, batch, [command])]
        tx.control("RELEASE command")
        return outcomes

    def _answer(self, jobs: list[_Job], outcomes: Sequence[Any], events: Sequence[object]) -> None:
        for job, outcome in zip(jobs, outcomes, strict=True):
            try:
                job.done(outcome)
            except Exception:  # noqa: BLE001 -- one caller's bug is not the others'
                _log.exception("! the answer to a command was not delivered")
        if events:
            try:
                self.on_commit(events)
            except Exception:  # noqa: BLE001 -- logged; the orders stand
                _log.exception("! the events of a transaction were not delivered")

    def _disconnect(self) -> None:
        if self._tx is not None:
            self._tx.connection.close()
            self._tx = None


def _run(tx: "Transaction", batch: _Batch, commands: list[Any]) -> Sequence[Any]:
    outcomes = batch(tx, commands)
    assert len(outcomes) == len(commands), f"{batch}: {len(outcomes)} results for {len(commands)} commands"
    return outcomes


def _nobody(events: Sequence[object]) -> None:
    """No one listens."""


def _nothing(tx: "Transaction", events: Sequence[object]) -> None:
    """Nobody else needs to know."""
