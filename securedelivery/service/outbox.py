"""The life of a mail, from the commit that caused it until it has left or never will.

    waiting -> sending      next(): one sender of one node has it, until LEASE is over
    sending -> sent         the mail server has taken it
            -> waiting      it did not, for now; or nobody knows, since the sender has died: interrupted counts those
            -> failed       it never will; retry() has it wait again
            -> withdrawn    nobody wants it any more

A mail server may have taken a message whose sender dies before it can say so. Such a message is sent once more with
the same Message-ID: SMTP has no way to ask (RFC 1047).
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from securedelivery.errors import Reason, Refusal
from securedelivery.model import AccountId, MailRoute, MailState, Timestamp, timestamp
from securedelivery.service.events import MailRetried
from securedelivery.service.profiles import by, entry
from securedelivery.store import accounts, audit, outbox
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.outbox import OutboxRow, Settlement

LEASE = timedelta(minutes=30)
"""How long a sender may have a row: what a message takes at the most, and a pause behind it if what became of it cannot
be written down, and what the clocks of nodes differ.
"""

PATIENCE = timedelta(days=5)
"""For how long a mail is tried (RFC 5321, 4.5.4.1), from the first try or the operator's retry()."""

MOST_UNCERTAIN = 5
"""How often a mail may be sent of which no server has said whether it took it: its customer may have all of them."""

FARTHEST = timedelta(hours=2)
"""No mail is put off for longer. What waits for a later time was put off while the clock was ahead."""

STALE = "held: its mail server was out of use when it was due; admin mail retry sends it"

KEPT = timedelta(days=400)
"""How long it is known what was sent: a month's summary is unique for longer than anybody would send it again."""

_OPEN = (MailState.WAITING, MailState.SENDING)

AT_ONCE = 500
"""Old rows that one transaction takes out."""


class Sent(msgspec.Struct, frozen=True):
    """answer: the mail server's, as in the others."""

    answer: str


class Later(msgspec.Struct, frozen=True):
    """To be tried again after the pause. uncertain: whether it may have gone out all the same."""

    answer: str
    pause: timedelta
    uncertain: bool = False


class Failed(msgspec.Struct, frozen=True):
    answer: str


class Withdrawn(msgspec.Struct, frozen=True):
    """answer: why."""

    answer: str


Outcome = Sent | Later | Failed | Withdrawn


class Next(msgspec.Struct, frozen=True):
    """A sender's step: what has become of the row that it had (None: it had none), and give it another one."""

    route: MailRoute
    node: str
    ended: tuple[OutboxRow, Outcome] | None


class Outbox:
    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        """clock: aware, UTC."""
        self._database = database
        self._clock = clock

    # For the server, when it starts

    def use(self, routes: Collection[MailRoute]) -> None:
        """Leave word of which routes are in use: other processes go by it.

        What has been waiting for longer than PATIENCE for a route that comes into use fails, so that somebody decides.
        """
        now = timestamp(self._clock())
        used = self.uses()
        if used.keys() != set(routes) or any(since > now for since in used.values()):
            self._database.writer.call(self._use, frozenset(routes))

    def _use(self, tx: Transaction, commands: Sequence[frozenset[MailRoute]]) -> list[None]:
        moment = self._clock()
        now = timestamp(moment)
        for wanted in commands:
            used = {route for route, since in outbox.routes(tx).items() if since <= now}
            for route in MailRoute:
                if route not in used & wanted:
                    outbox.disuse(tx, route)
                if route in wanted - used:
                    outbox.use(tx, route, now)
                    # Nobody wants to be thanked now for an order of last summer.
                    outbox.hold(tx, route, timestamp(moment - PATIENCE), now, STALE)
        return [None for _ in commands]

    def uses(self) -> dict[MailRoute, Timestamp]:
        """Which routes the server has in use, and since when."""
        with self._database.read() as tx:
            return outbox.routes(tx)

    def recover(self) -> int:
        """Have everything wait that was being sent when the last server ended; how much that was.

        Only for the one server of a database: it would take the mail out of the hands of others.
        """
        return self._database.writer.call(self._recover, None)

    def _recover(self, tx: Transaction, commands: Sequence[None]) -> list[int]:
        now = self._clock()
        counts = [outbox.release(tx, timestamp(now)) for _ in commands]
        outbox.pull(tx, timestamp(now + FARTHEST), timestamp(now))
        return counts

    # For a sender

    def next(self, route: MailRoute, node: str, ended: tuple[OutboxRow, Outcome] | None = None) -> OutboxRow | None:
        """Settle the row that the sender had, and claim the one that is due next; None where none is.

        node: who is sending, of all senders in all processes. In one transaction, so that a mail costs one commit.
        """
        return self._database.writer.call(self._next, Next(route, node, ended))

    def _next(self, tx: Transaction, commands: Sequence[Next]) -> list[OutboxRow | None]:
        now = self._clock()
        return [self._step(tx, command, now) for command in commands]

    def _step(self, tx: Transaction, command: Next, now: datetime) -> OutboxRow | None:
        if command.ended is not None:
            outbox.settle(tx, command.node, settlement(*command.ended, now))
        return outbox.claim(tx, command.route, command.node, timestamp(now), timestamp(now + LEASE))

    def settle(self, node: str, row: OutboxRow, outcome: Outcome) -> None:
        """The same without another row, for a sender that pauses or ends."""
        self._database.writer.call(self._settle, (node, row, outcome))

    def _settle(self, tx: Transaction, commands: Sequence[tuple[str, OutboxRow, Outcome]]) -> list[bool]:
        now = self._clock()
        return [outbox.settle(tx, node, settlement(row, outcome, now)) for node, row, outcome in commands]

    def seconds_to_next(self, route: MailRoute) -> float | None:
        """Until a row is due, or the claim of one ends; 0 where one is; None where there is none."""
        with self._database.read() as tx:
            due = outbox.next_due(tx, route)
        return None if due is None else max(0.0, (datetime.fromisoformat(due) - self._clock()).total_seconds())

    # For the operator

    def page(self, states: Iterable[MailState], after: int = 0, limit: int = 50) -> tuple[list[OutboxRow], int | None]:
        """In order of their numbers, behind `after`; and where the list goes on."""
        with self._database.read() as tx:
            rows = outbox.page(tx, states, after, limit + 1)
        return rows[:limit], rows[limit - 1].id if len(rows) > limit else None

    def view(self, states: Sequence[MailState], after: int, limit: int) -> tuple[list[OutboxRow], int | None]:
        """page(), for the operator: written down, since the mail servers' answers quote addresses."""
        self._database.writer.call(self._note, [state.value for state in states])
        return self.page(states, after, limit)

    def _note(self, tx: Transaction, commands: Sequence[list[str]]) -> list[None]:
        now = timestamp(self._clock())
        audit.append(tx, [entry(now, None, "mail.listed", None, states=states, by=by(None)) for states in commands])
        return [None for _ in commands]

    def counts(self) -> dict[tuple[MailRoute, MailState], int]:
        """How many there are of each; what is older than KEPT has been taken out."""
        with self._database.read() as tx:
            return outbox.counts(tx)

    def names(self, rows: Iterable[OutboxRow]) -> dict[AccountId, str]:
        """The usernames of those to whom they go."""
        with self._database.read() as tx:
            return accounts.usernames(tx, {row.account_id for row in rows if row.account_id is not None})

    def retry(self, numbers: Sequence[int] | None = None) -> list[int]:
        """Have those tried now that wait, failed or were withdrawn; None: all that failed. Gives their numbers.

        Raises Refusal not_found, illegal_transition, and then does nothing.
        """
        return self._database.writer.call(self._retry, numbers)

    def _retry(self, tx: Transaction, commands: Sequence[Sequence[int] | None]) -> list[list[int] | Refusal]:
        now = timestamp(self._clock())
        outcomes: list[list[int] | Refusal] = []
        for numbers in commands:
            try:
                wanted = outbox.in_state(tx, MailState.FAILED) if numbers is None else _retriable(tx, numbers)
            except Refusal as refusal:
                outcomes.append(refusal)
                continue
            outbox.retry(tx, wanted, now)
            if wanted:
                tx.publish(MailRetried())
            audit.append(tx, [entry(now, None, "mail.retried", None, mail=wanted[:AT_ONCE], by=by(None))])
            outcomes.append(wanted)
        return outcomes

    # For the housekeeper

    def tidy(self, between: Callable[[], bool] = lambda: False) -> None:
        """Take out what was settled long ago, and see that nothing waits for a clock that was ahead.

        between: called behind each AT_ONCE rows; whether to leave the rest to the next time.
        """
        self._database.writer.call(self._pull, None)
        before = timestamp(self._clock() - KEPT)
        after = 0
        while True:
            with self._database.read() as tx:
                rows = outbox.ages(tx, after, AT_ONCE)
            old = [row for row in rows if row.created_at < before]
            gone = [row.number for row in old if row.due_at < before and row.state not in _OPEN]
            if gone:
                self._database.writer.call(_forget, gone)
            if len(old) < AT_ONCE or between():
                return
            after = rows[-1].number

    def _pull(self, tx: Transaction, commands: Sequence[None]) -> list[int]:
        now = self._clock()
        return [outbox.pull(tx, timestamp(now + FARTHEST), timestamp(now)) for _ in commands]


def settlement(row: OutboxRow, outcome: Outcome, now: datetime) -> Settlement:
    """What is written of it. A mail that still does not leave after PATIENCE has failed, and so has one that may have
    left MOST_UNCERTAIN times.
    """
    at = timestamp(now)
    match outcome:
        case Sent(answer):
            return Settlement(row.id, MailState.SENT, at, answer)
        case Failed(answer):
            return Settlement(row.id, MailState.FAILED, at, answer)
        case Withdrawn(answer):
            return Settlement(row.id, MailState.WITHDRAWN, at, answer)
        case Later(answer, pause, uncertain):
            since = now if row.tried_since is None else datetime.fromisoformat(row.tried_since)
            given_up = ""
            if now - since >= PATIENCE:
                given_up = f"given up after {PATIENCE.days} days"
            elif uncertain and row.interrupted + 1 >= MOST_UNCERTAIN:
                given_up = f"given up, for it may have arrived {row.interrupted + 1} times"
            if given_up:
                answer = f"{given_up}: {answer}"
                return Settlement(row.id, MailState.FAILED, at, answer, interrupted=uncertain)
            return Settlement(row.id, MailState.WAITING, timestamp(now + pause), answer, interrupted=uncertain)


def withdraw(tx: Transaction, account: AccountId, now: Timestamp) -> None:
    """The account is being deleted: nothing goes there any more, and nothing of its address stays."""
    outbox.withdraw(tx, account, now)


_NOT_AGAIN = {MailState.SENDING: "being sent just now", MailState.SENT: "sent; nobody gets it twice"}


def _retriable(tx: Transaction, numbers: Sequence[int]) -> list[int]:
    """Raises Refusal."""
    found = {row.id: row for row in outbox.by_numbers(tx, numbers)}
    for number in numbers:
        if number not in found:
            raise Refusal(Reason.NOT_FOUND, f"there is no mail {number}")
        state = found[number].state
        if state in (MailState.SENDING, MailState.SENT):
            raise Refusal(
                Reason.ILLEGAL_TRANSITION,
                f"mail {number} is {_NOT_AGAIN[state]}",
                status=state.value,
                allowed=[],
            )
    return sorted(found)


def _forget(tx: Transaction, commands: Sequence[Sequence[int]]) -> list[None]:
    for numbers in commands:
        outbox.forget(tx, numbers)
    return [None for _ in commands]
