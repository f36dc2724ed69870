"""Points and tiers: docs/protocol.md, "Rewards". Whole numbers throughout; every rounding is down."""

from calendar import monthrange
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import pairwise

import msgspec

from securedelivery import model
from securedelivery.model import Cents, NextTier, PointsEntry, Timestamp, timestamp
from securedelivery.service import cursors
from securedelivery.service.events import RewardsChanged
from securedelivery.service.points import Points, write_points
from securedelivery.service.session import Session, gone
from securedelivery.store import accounts, rewards
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.schema import MAX_INTEGER

MAX_MONTHS = 1_200  # a century; dates end with the year 9999
MAX_MULTIPLIER = 100  # anything near it is a slip of the pen

ACCOUNTS_AT_ONCE = 500
"""Whose points one command books: some 10 ms of the writer, so that orders do not wait for midnight's expiries."""


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """orders: from how many on, multiplier: of the points that an order earns."""

    name: str
    orders: int
    multiplier: Decimal


class RewardRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers; the defaults are the protocol's. Raises ValueError for numbers that make no sense together."""

    cents_per_point: int = 100
    """An order earns one point for each full so many minor units of its total, times the tier's multiplier."""

    cents_of_a_point: int = 5
    """What a point takes off, in minor units."""

    redeemable_percent: int = 50
    """At most this much of the subtotal is paid with points."""

    expire_after_months: int = 12

    tiers: tuple[Tier, ...] = (
        Tier("bronze", 0, Decimal(1)),
        Tier("silver", 5, Decimal("1.25")),
        Tier("gold", 15, Decimal("1.5")),
        Tier("platinum", 40, Decimal(2)),
    )
    """Ascending; the first from 0 orders on."""

    def __post_init__(self) -> None:
        orders = [tier.orders for tier in self.tiers]
        if not orders or orders[0] != 0 or any(a >= b for a, b in pairwise(orders)):
            raise ValueError("tiers: the first needs orders = 0, each further one more than the one before it")
        if any(not tier.multiplier.is_finite() or not 0 <= tier.multiplier <= MAX_MULTIPLIER for tier in self.tiers):
            raise ValueError(f"tiers: a multiplier is between 0 and {MAX_MULTIPLIER}")
        if self.cents_per_point < 1 or self.cents_of_a_point < 1:
            raise ValueError("cents_per_point and cents_of_a_point are at least 1")
        if not 1 <= self.expire_after_months <= MAX_MONTHS:
            raise ValueError(f"expire_after_months is between 1 and {MAX_MONTHS}")
        if not 0 <= self.redeemable_percent <= 100:  # noqa: PLR2004 -- it is a percentage
            raise ValueError("redeemable_percent is between 0 and 100")

    def tier(self, order_count: int) -> Tier:
        """order_count: orders that are not cancelled or returned."""
        found = self.tiers[0]
        for tier in self.tiers:
            if tier.orders > order_count:
                break
            found = tier
        return found

    def earned(self, total: Cents, order_count: int) -> int:
        """Points for an order. order_count: before it."""
        numerator, denominator = self.tier(order_count).multiplier.as_integer_ratio()
        return total // self.cents_per_point * numerator // denominator

    def redeemable(self, subtotal: Cents) -> int:
        """The most points that an order takes; a point counts in full or not at all."""
        return subtotal * self.redeemable_percent // (100 * self.cents_of_a_point)

    def worth(self, points: int) -> Cents:
        return Cents(points * self.cents_of_a_point)

    def expiry(self, earned_at: datetime) -> Timestamp:
        return timestamp(months_later(earned_at, self.expire_after_months))

    def standing(self, points: int, order_count: int) -> model.Rewards:
        """As rewards.get gives it."""
        following = next((tier for tier in self.tiers if tier.orders > order_count), None)
        return model.Rewards(
            points=points,
            tier=self.tier(order_count).name,
            order_count=order_count,
            next_tier=None if following is None else NextTier(following.name, following.orders - order_count),
        )


def months_later(moment: datetime, months: int) -> datetime:
    """The same day and time `months` later; the month's last day where it is shorter (29 February + 12 = 28
    February).
    """
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    month += 1
    return moment.replace(year=year, month=month, day=min(moment.day, monthrange(year, month)[1]))


class Rewards:
    def __init__(self, database: Database, clock: Callable[[], datetime], rules: RewardRules) -> None:
        """clock: aware, UTC."""
        self._database = database
        self._clock = clock
        self._rules = rules

    def get(self, session: Session) -> model.Rewards:
        with self._database.read() as tx:
            row = accounts.by_id(tx, session.account_id)
        if row is None:
            raise gone()
        return self._rules.standing(row.points, row.order_count)

    def history(
        self, session: Session, after: str | None = None, limit: int = 50
    ) -> tuple[list[PointsEntry], str | None]:
        """The account's ledger, newest first, with the cursor of what follows."""
        before = MAX_INTEGER if after is None else cursors.decode_number("p", after)
        with self._database.read() as tx:
            items = rewards.history(tx, session.account_id, before, limit + 1)
        return items[:limit], cursor_of(items[limit - 1]) if len(items) > limit else None

    def expire(self, tx: Transaction, commands: Sequence[object]) -> list[int]:
        """A batch for the writer: each command books the points whose time is up, of at most ACCOUNTS_AT_ONCE accounts.

        Answers of how many; where that is ACCOUNTS_AT_ONCE, there may be more. Publishes RewardsChanged.
        """
        return [self._expire(tx) for _ in commands]

    def _expire(self, tx: Transaction) -> int:
        moment = self._clock()
        now, expiry = timestamp(moment), self._rules.expiry(moment)
        holders = rewards.holders(tx, rewards.due(tx, now, ACCOUNTS_AT_ONCE))
        lots = rewards.lots(tx, {holder.id: holder.points for holder in holders})
        held = {holder.id: Points(holder, lots[holder.id], now, expiry) for holder in holders}
        changed = [points for points in held.values() if points.expire()]
        for points in changed:
            tx.publish(RewardsChanged(points.account, self._rules.standing(points.balance, points.order_count)))
        write_points(tx, changed)
        return len(
            changed
        )  # not of those due: what a damaged account cannot book is not to be asked for again and again


def cursor_of(entry: PointsEntry) -> str:
    """Where a history goes on behind this entry."""
    return cursors.encode("p", str(entry.entry))
