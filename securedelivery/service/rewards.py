"""Points and tiers: docs/protocol.md, "Rewards". Whole numbers throughout; every rounding is down."""

from calendar import monthrange
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import pairwise

import msgspec

from securedelivery import model
from securedelivery.errors import Reason, Refusal
from securedelivery.model import Cents, NextTier, Timestamp, timestamp
from securedelivery.service.session import Session
from securedelivery.store import accounts
from securedelivery.store.engine import Database
from securedelivery.store.rewards import LotRow

MAX_MONTHS = 1_200  # a century; dates end with the year 9999
MAX_MULTIPLIER = 100  # anything near it is a slip of the pen


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
        return next(tier for tier in reversed(self.tiers) if tier.orders <= order_count)

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


def spendable(balance: int, lots: Iterable[LotRow], now: Timestamp) -> int:
    """Points that can be redeemed now: those of the balance whose time is not up, whether or not that is booked
    already.
    """
    return max(0, balance - sum(lot.remaining for lot in lots if lot.expires_at <= now))


def oldest_first(lots: Sequence[LotRow], points: int, now: Timestamp) -> list[tuple[int, int]]:
    """Which lots pay `points`: (index in lots, how much). lots: by expiry, with at least so much unexpired."""
    paid = []
    for index, lot in enumerate(lots):
        if not points:
            break
        if lot.expires_at > now and lot.remaining:
            used = min(points, lot.remaining)
            points -= used
            paid.append((index, used))
    assert not points, "the lots hold less than the balance"
    return paid


def unspent(earned: int, balance: int) -> int:
    """What remains of newly earned points for redemption: a balance below 0 is paid from them at once."""
    return max(0, earned + min(0, balance))


class Rewards:
    def __init__(self, database: Database, rules: RewardRules) -> None:
        self._database = database
        self._rules = rules

    def get(self, session: Session) -> model.Rewards:
        with self._database.read() as tx:
            row = accounts.by_id(tx, session.account_id)
        if row is None:
            raise Refusal(Reason.NOT_LOGGED_IN, "this account no longer exists")
        return self._rules.standing(row.points, row.order_count)
