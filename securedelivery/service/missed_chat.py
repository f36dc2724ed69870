"""Mail for customers who were away when the shop answered them: which is due, and what it tells.

A mail tells of what its customer has not read, up to a sequence; that sequence is the mark behind which the next one
begins, so nothing is told in two mails. The mark is the mail's row itself, so both commit together.

Due: the oldest message not told is QUIET old, its customer has been away for as long, no mail about chat waits for him,
and the last one left LEAST_PAUSE ago. What was said longer than NEWS ago, or before mail was in use, is no news.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from securedelivery.errors import Unwanted
from securedelivery.model import AccountId, MailRoute, Message, Timestamp, timestamp
from securedelivery.store import missed_chat, outbox
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.missed_chat import Times
from securedelivery.store.outbox import OutboxRow

QUIET = timedelta(minutes=5)

LEAST_PAUSE = timedelta(hours=1)

NEWS = timedelta(days=7)
"""Longer than a mail may wait (outbox.PATIENCE), so that what is said meanwhile is told as well; and far shorter than
it is known what was sent (outbox.KEPT).
"""

AT_ONCE = 500
"""Customers that are looked at in one transaction."""

SHOWN = 20
"""Messages that one mail shows; of the others it says how many they are."""


class Missed(NamedTuple):
    """customer: the username. senders: who wrote, as usernames, first come first. total: of all messages; messages:
    the first SHOWN of them.
    """

    customer: str
    senders: list[str]
    total: int
    messages: list[Message]


class MissedChat:
    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        last_connected: Callable[[AccountId], datetime | None],
    ) -> None:
        """clock: aware, UTC. last_connected: when the account was last connected to this server; now, if it is; None if
        not since the start, which is taken to be now.
        """
        self._database = database
        self._clock = clock
        self._last_connected = last_connected
        self._started = clock()

    def queue_due(self) -> int:
        """Queue the mail that is due; how many that is."""
        now = self._clock()
        self._started = min(self._started, now)  # the clock may have been set back
        after, queued = 0, 0
        while True:
            with self._database.read() as tx:
                times = _times(tx, now)
                found = [] if times is None else missed_chat.due(tx, times, after, AT_ONCE)
            away = [due.customer for due in found if self._is_away(due.customer, now)]
            if away:
                queued += self._database.writer.call(self._queue, away)
            if len(found) < AT_ONCE:
                return queued
            after = found[-1].customer

    def _queue(self, tx: Transaction, commands: Sequence[Sequence[AccountId]]) -> list[int]:
        """With a second look: since the first one somebody may have read what was said."""
        now = self._clock()
        return [self._queue_for(tx, customers, now) for customers in commands]

    def _queue_for(self, tx: Transaction, customers: Sequence[AccountId], now: datetime) -> int:
        times = _times(tx, now)
        rows = [] if times is None else missed_chat.still_due(tx, times, customers)
        missed_chat.add(tx, rows, timestamp(now))
        return len(rows)

    def _is_away(self, customer: AccountId, now: datetime) -> bool:
        return now - (self._last_connected(customer) or self._started) >= QUIET


def missed(tx: Transaction, row: OutboxRow) -> Missed:
    """What the mail of this row tells, as things are now. Raises Unwanted, DamagedRow."""
    assert row.account_id is not None
    assert row.up_to is not None
    where = missed_chat.place(tx, row.account_id, row.up_to)
    if where is None or where.disabled:
        raise Unwanted("the account is disabled" if where else "the conversation has no such message")
    since = timestamp(datetime.fromisoformat(row.created_at).astimezone(UTC) - NEWS)
    senders = missed_chat.senders(tx, where, row.up_to, since)
    if not senders:
        raise Unwanted("its customer has read the messages meanwhile")
    return Missed(
        where.customer,
        [name for name, _ in senders],
        sum(count for _, count in senders),
        missed_chat.said(tx, where, row.up_to, since, SHOWN),
    )


def _times(tx: Transaction, now: datetime) -> Times | None:
    """None where no mail leaves by this way. A time far ahead is from before the clock was set back: nobody knows how
    long ago that is, so it holds nothing up.
    """
    in_use = outbox.routes(tx).get(MailRoute.RECEIPTS)
    if in_use is None:
        return None
    news = timestamp(now - NEWS)
    return Times(
        said_since=max(news, in_use) if in_use <= timestamp(now) else news,
        young_since=_after(now - QUIET),
        young_until=_before(now + QUIET),
        recent_since=_after(now - LEAST_PAUSE),
        recent_until=_before(now + LEAST_PAUSE),
    )


def _after(moment: datetime) -> Timestamp:
    return timestamp(moment + timedelta.resolution)


def _before(moment: datetime) -> Timestamp:
    return timestamp(moment - timedelta.resolution)
