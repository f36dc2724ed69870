"""Word from a process without connections (an operator's command) to the server: what it has changed is a row, written
in the same transaction, and the server, who looks once a second, tells whom it concerns.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from securedelivery.errors import DamagedRow
from securedelivery.model import AccountId, Timestamp, timestamp
from securedelivery.service import chat
from securedelivery.service.chat_events import ConversationChanged, MessageSent
from securedelivery.service.events import AccountChanged, MailRetried, OrderChanged, RewardsChanged
from securedelivery.service.rewards import RewardRules
from securedelivery.store import announcements, orders, rewards
from securedelivery.store.announcements import Announcement
from securedelivery.store.engine import Database, Transaction

KEPT = timedelta(hours=1)
"""How long a row stays: a server looks every second, and one that was down has no connections to tell."""

AT_ONCE = 256
"""Rows that one look takes; the next one takes the rest."""


_log = logging.getLogger(__name__)


class Announcements:
    def __init__(self, database: Database, clock: Callable[[], datetime], rules: RewardRules) -> None:
        """clock: aware, UTC."""
        self._database = database
        self._clock = clock
        self._rules = rules

    def write(self, tx: Transaction, events: Sequence[object]) -> None:
        """A Writer.before_commit: leave word of what the transaction has published."""
        announcements.add(tx, rows(events), timestamp(self._clock()))

    def latest(self) -> int:
        """Where to begin: nobody is connected yet who would have to be told of what was before."""
        with self._database.read() as tx:
            return announcements.latest(tx)

    def hear(self, last: int) -> int:
        """Publish what was announced behind the number `last`; returns the number to go on from.

        The events tell of the things as they are now, each once. They come from the writer, so that nobody hears of an
        older state behind a newer one.
        """
        return last if self.latest() <= last else self._database.writer.call(self._hear, last)

    def _hear(self, tx: Transaction, commands: Sequence[int]) -> list[int]:
        return [self._publish(tx, last) for last in commands]

    def _publish(self, tx: Transaction, last: int) -> int:
        found = announcements.since(tx, last, AT_ONCE)
        for event in self._events(tx, dict.fromkeys(each for _, each in found)):
            tx.publish(event)
        return found[-1][0] if found else last

    def forget(self) -> None:
        """Take out what everybody has heard."""
        self._database.writer.call(_forget, timestamp(self._clock() - KEPT))

    def _events(self, tx: Transaction, found: Iterable[Announcement]) -> list[object]:
        numbers: dict[str, list[int]] = {"account": [], "order": [], "rewards": [], "conversation": [], "mail": []}
        for kind, subject in found:
            if kind in numbers:  # another version of this program may know more
                numbers[kind].append(subject)
        # Connections that have to end come last: they hear the rest before.
        stored = _load(tx, numbers["order"])
        rewarded = rewards.holders(tx, [AccountId(number) for number in numbers["rewards"]])
        return [
            *(OrderChanged(each.customer, each.courier, each.order) for each in stored.values()),
            *(RewardsChanged(row.id, self._rules.standing(row.points, row.order_count)) for row in rewarded),
            *chat.changes(tx, numbers["conversation"]),
            *(MailRetried() for _ in numbers["mail"]),
            *(AccountChanged(AccountId(number)) for number in numbers["account"]),
        ]


def rows(events: Iterable[object]) -> list[Announcement]:
    """What to write for the events, each once."""
    found: dict[Announcement, None] = {}
    for event in events:
        match event:
            case AccountChanged(account):
                found[Announcement("account", account)] = None
            case OrderChanged(order=order):
                found[Announcement("order", order.order)] = None
            case RewardsChanged(account):
                found[Announcement("rewards", account)] = None
            case ConversationChanged(for_staff=conversation):
                found[Announcement("conversation", conversation.conversation)] = None
            case MailRetried():
                found[Announcement("mail", 0)] = None
            case MessageSent(message=message):
                found[Announcement("conversation", message.conversation)] = None
            case _:
                raise AssertionError(f"nobody would hear of {type(event).__name__}")
    return list(found)


def _load(tx: Transaction, numbers: Sequence[int]) -> dict[int, orders.StoredOrder]:
    try:
        return orders.load(tx, numbers)
    except DamagedRow as error:
        # Who looks at the order learns of it; what else was announced has to be told.
        _log.error("! nobody is told of a change: %s", error)
        return {}


def _forget(tx: Transaction, commands: Sequence[Timestamp]) -> list[None]:
    for before in commands:
        announcements.forget(tx, before)
    return [None for _ in commands]
