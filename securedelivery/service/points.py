"""One account's points while a batch changes them: decided in memory, written once. docs/protocol.md, "Rewards".

What gave points is a lot, by its expiry. At any time the lots hold the balance, or nothing where that is below 0: a
debt is paid from whatever comes in. A lot whose time is up counts until expire() books it, and what changes a balance
by more than earning books it first.
"""

from bisect import insort
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Protocol

from securedelivery.model import AccountId, Order, OrderId, PointsReason, Timestamp
from securedelivery.store import accounts, rewards
from securedelivery.store.engine import Transaction
from securedelivery.store.rewards import LedgerRow, LotRow, Trace, Use, UseRow

_Entry = tuple[AccountId, int, OrderId | None, str, int, Timestamp, Timestamp | None]
"""A LedgerRow, but what will be left of it."""


class Holder(Protocol):
    """An account's sums, as stored. ledger_entries: how many, and so the number of the newest."""

    @property
    def id(self) -> AccountId: ...
    @property
    def order_count(self) -> int: ...
    @property
    def points(self) -> int: ...
    @property
    def ledger_entries(self) -> int: ...


class Points:
    """order_count: orders that are not cancelled or returned; the caller's to change.

    newest: the number of the ledger's newest entry. uses: what is new.
    """

    def __init__(self, holder: Holder, lots: Iterable[LotRow], now: Timestamp, expiry: Timestamp) -> None:
        """lots: all of the account's, oldest expiry first; for one who earns and nothing else, none will do.

        expiry: of what is earned now.
        """
        self.balance = holder.points
        self.order_count = holder.order_count
        self.uses: list[UseRow] = []
        self._before = holder
        self._ledger: list[_Entry] = []
        self.newest = holder.ledger_entries
        self._lots = list(lots)
        self._stored = {lot.entry: lot.remaining for lot in self._lots}
        self._now = now
        self._expiry = expiry

    @property
    def spendable(self) -> int:
        """What can be redeemed now, whether or not what is up has been booked."""
        return max(0, self.balance - sum(lot.remaining for lot in self._lots if lot.expires_at <= self._now))

    @property
    def account(self) -> AccountId:
        return self._before.id

    def expire(self) -> bool:
        """Book what is up, as one entry. Whether anything was."""
        due = 0
        for index, lot in enumerate(self._lots):
            if lot.expires_at > self._now:
                break
            due += lot.remaining
            self._lots[index] = lot._replace(remaining=0)
        if due:
            self._post(None, PointsReason.EXPIRED, -due)
        return due > 0

    def redeem(self, order: OrderId, points: int) -> None:
        """points: at most what is spendable, at least 1."""
        self.expire()
        entry = self._post(order, PointsReason.REDEEMED, -points)
        used = self._take(points)
        assert sum(used.values()) == points, "the lots hold less than the balance"
        self.uses += [UseRow(self._before.id, entry, lot, taken) for lot, taken in used.items()]

    def earn(self, order: OrderId, points: int) -> int:
        """The ledger's entry. points: at least 1."""
        debt = max(0, -self.balance)
        entry = self._post(order, PointsReason.EARNED, points, self._expiry)
        self._add(LotRow(self._before.id, entry, self._expiry, points - min(debt, points)))
        return entry

    def settle(self, order: Order, trace: Trace, *, earned: int, redeemed: int) -> None:
        """Make it that the order, as it was, has earned and redeemed so much; to redeem more is not possible.

        trace: what the ledger knows of the order; it is kept up.
        """
        self.expire()
        more = earned - order.points_earned
        if more > 0:
            trace.earned.add(self.earn(order.order, more))
        elif more < 0:
            self._post(order.order, PointsReason.REVERSED, more)
            self._take(-more, first=trace.earned)  # what they lack is owed
        # The oldest were used first, so what is used after all is the oldest still, and the rest comes back.
        self._give_back(order.order, _cut(trace.uses, redeemed, order.points_redeemed))
        self.expire()

    def credit(self) -> accounts.Credit | None:
        """What is to be added to the account's sums, if anything."""
        before = self._before
        more = (
            self.balance - before.points,
            self.order_count - before.order_count,
            self.newest - before.ledger_entries,
        )
        return accounts.Credit(before.id, *more) if any(more) else None

    def ledger(self) -> list[LedgerRow]:
        """The new entries, with what is left of them."""
        left = {lot.entry: lot.remaining for lot in self._lots if lot.entry > self._before.ledger_entries}
        return [LedgerRow(*row, left.get(row[1], 0)) for row in self._ledger]

    def changed_lots(self) -> list[LotRow]:
        """Those of earlier entries that hold something else than they did."""
        earlier = (lot for lot in self._lots if lot.entry <= self._before.ledger_entries)
        return [lot for lot in earlier if lot.remaining != self._stored.get(lot.entry, 0)]

    def _give_back(self, order: OrderId, uses: Iterator[Use]) -> None:
        for expires_at, group in groupby(uses, attrgetter("expires_at")):
            parts = list(group)
            debt = max(0, -self.balance)
            self._post(order, PointsReason.RETURNED, sum(part.points for part in parts), expires_at)
            for part in parts:
                paid = min(debt, part.points)
                debt -= paid
                self._put(part.lot, expires_at, part.points - paid)

    def _post(
        self, order: OrderId | None, reason: PointsReason, points: int, expires_at: Timestamp | None = None
    ) -> int:
        self.newest += 1
        self.balance += points
        self._ledger.append((self._before.id, self.newest, order, reason.value, points, self._now, expires_at))
        return self.newest

    def _take(self, points: int, first: Collection[int] = ()) -> dict[int, int]:
        """What each lot gives, as far as they go: those named first, then by expiry."""
        given: dict[int, int] = {}
        for index in sorted(range(len(self._lots)), key=lambda index: self._lots[index].entry not in first):
            if not points:
                break
            lot = self._lots[index]
            used = min(points, lot.remaining)
            if used:
                points -= used
                given[lot.entry] = used
                self._lots[index] = lot._replace(remaining=lot.remaining - used)
        return given

    def _put(self, entry: int, expires_at: Timestamp, points: int) -> None:
        """Into the lot of this entry, whether or not there is still one."""
        for index, lot in enumerate(self._lots):
            if lot.entry == entry:
                self._lots[index] = lot._replace(remaining=lot.remaining + points)
                return
        self._add(LotRow(self._before.id, entry, expires_at, points))

    def _add(self, lot: LotRow) -> None:
        # Not simply last: a change of the configuration can let new points expire before older ones.
        insort(self._lots, lot, key=attrgetter("expires_at", "entry"))


def write_points(tx: Transaction, changed: Collection[Points]) -> None:
    """Store what the accounts' points have become."""
    entries: list[LedgerRow] = []
    uses: list[UseRow] = []
    lots: list[LotRow] = []
    sums: list[accounts.Credit] = []
    for points in changed:
        credit = points.credit()
        if credit is None:
            continue
        sums.append(credit)
        entries += points.ledger()
        uses += points.uses
        lots += points.changed_lots()
    rewards.post(tx, entries, uses)
    rewards.change_lots(tx, lots)
    accounts.credit(tx, sums)


def _cut(uses: Sequence[Use], start: int, end: int) -> Iterator[Use]:
    """Of the points that the uses hold, laid end to end, those from `start` to `end`."""
    position = 0
    for use in uses:
        points = min(end, position + use.points) - max(start, position)
        if points > 0:
            yield use._replace(points=points)
        position += use.points
