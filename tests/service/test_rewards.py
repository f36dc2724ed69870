"""The rules of points and tiers."""

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securedelivery import model
from securedelivery.errors import Reason, Refusal
from securedelivery.model import AccountId, NextTier, Role, timestamp
from securedelivery.service.rewards import RewardRules, Tier, months_later, oldest_first, spendable, unspent
from securedelivery.service.session import Session
from securedelivery.store.rewards import LotRow

RULES = RewardRules()


@pytest.mark.parametrize(
    ("order_count", "tier", "following"),
    [
        (0, "bronze", NextTier("silver", 5)),
        (4, "bronze", NextTier("silver", 1)),
        (5, "silver", NextTier("gold", 10)),
        (14, "silver", NextTier("gold", 1)),
        (15, "gold", NextTier("platinum", 25)),
        (39, "gold", NextTier("platinum", 1)),
        (40, "platinum", None),
        (10_000, "platinum", None),
    ],
)
def test_tiers(order_count: int, tier: str, following: NextTier | None) -> None:
    assert RULES.standing(-3, order_count) == model.Rewards(-3, tier, order_count, following)


@pytest.mark.parametrize(
    ("total", "order_count", "points"),
    [
        (0, 0, 0),
        (99, 40, 0),
        (100, 0, 1),
        (199, 40, 2),
        (32_999, 0, 329),
        (32_999, 5, 411),  # 329 x 1.25 = 411.25
        (32_999, 15, 493),  # 493.5
        (32_999, 40, 658),
        (2**53 - 1, 40, 180143985094818),
    ],
)
def test_an_order_earns(total: int, order_count: int, points: int) -> None:
    assert RULES.earned(total, order_count) == points


@pytest.mark.parametrize(("subtotal", "points"), [(0, 0), (9, 0), (10, 1), (99, 9), (100, 10), (32_900, 3_290)])
def test_at_most_half_is_paid_with_points(subtotal: int, points: int) -> None:
    assert RULES.redeemable(subtotal) == points
    assert RULES.worth(points) * 2 <= subtotal


@pytest.mark.parametrize(
    ("moment", "months", "later"),
    [
        ("2026-03-01", 12, "2027-03-01"),
        ("2028-02-29", 12, "2029-02-28"),
        ("2027-02-28", 12, "2028-02-28"),
        ("2028-02-29", 48, "2032-02-29"),
        ("2026-08-31", 6, "2027-02-28"),
        ("2026-12-31", 1, "2027-01-31"),
        ("2026-11-30", 3, "2027-02-28"),
    ],
)
def test_months_later(moment: str, months: int, later: str) -> None:
    assert months_later(datetime.fromisoformat(moment), months) == datetime.fromisoformat(later)


def test_points_expire_after_a_year() -> None:
    assert RULES.expiry(datetime(2028, 2, 29, 1, 2, 3, 4, tzinfo=UTC)) == "2029-02-28T01:02:03.000004Z"


def lots(*each: tuple[int, int]) -> list[LotRow]:
    """each: (year of expiry, remaining)"""
    return [
        LotRow(AccountId(1), entry, timestamp(datetime(year, 1, 1, tzinfo=UTC)), remaining)
        for entry, (year, remaining) in enumerate(each, start=1)
    ]


NOW = timestamp(datetime(2027, 1, 1, tzinfo=UTC))


def test_what_has_expired_cannot_be_spent_even_before_it_is_booked() -> None:
    held = lots((2026, 5), (2027, 3), (2028, 10))
    assert spendable(18, held, NOW) == 10
    assert oldest_first(held, 10, NOW) == [(2, 10)]
    assert spendable(-4, [], NOW) == 0


@given(st.lists(st.integers(0, 20), max_size=8), st.data())
def test_the_oldest_lots_pay(remaining: list[int], data: st.DataObject) -> None:
    held = lots(*((2028 + number, points) for number, points in enumerate(remaining)))
    wanted = data.draw(st.integers(0, sum(remaining)))
    paid = dict(oldest_first(held, wanted, NOW))
    assert sum(paid.values()) == wanted
    assert all(0 < points <= remaining[index] for index, points in paid.items())
    if paid:
        assert all(paid.get(index, 0) == remaining[index] for index in range(max(paid)))


@given(st.integers(0, 1000), st.integers(-1000, 1000))
def test_a_debt_is_paid_from_what_is_earned(earned: int, balance: int) -> None:
    """What remains of all lots is the balance, or nothing."""
    assert max(0, balance) + unspent(earned, balance) == max(0, balance + earned)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tiers": []}, "the first needs orders = 0"),
        ({"tiers": [{"name": "a", "orders": 1, "multiplier": "1"}]}, "the first needs orders = 0"),
        ({"tiers": [{"name": "a", "orders": 0, "multiplier": 1}] * 2}, "one more than the one before"),
        ({"tiers": [{"name": "a", "orders": 0, "multiplier": "101"}]}, "a multiplier is between 0 and 100"),
        ({"tiers": [{"name": "a", "orders": 0, "multiplier": "NaN"}]}, "a multiplier is between 0 and 100"),
        ({"cents_per_point": 0}, "at least 1"),
        ({"cents_of_a_point": 0}, "at least 1"),
        ({"expire_after_months": 0}, "between 1 and 1200"),
        ({"redeemable_percent": 101}, "redeemable_percent is between 0 and 100"),
    ],
)
def test_rules_that_make_no_sense(changes: dict[str, object], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(changes, RewardRules)


def test_rules_come_from_a_file() -> None:
    text = b"""
    expire_after_months = 6
    tiers = [{name = "one", orders = 0, multiplier = 1}, {name = "two", orders = 2, multiplier = 1.1}]
    """
    rules = msgspec.toml.decode(text, type=RewardRules)
    assert rules.tiers[1] == Tier("two", 2, Decimal("1.1"))
    assert rules.earned(1000, 2) == 11


def test_get(shop: object) -> None:
    alice = shop.customer("alice")  # type: ignore[attr-defined]
    assert shop.rewards.get(alice) == model.Rewards(0, "bronze", 0, NextTier("silver", 5))  # type: ignore[attr-defined]
    with pytest.raises(Refusal) as refused:
        shop.rewards.get(Session(AccountId(99), "nobody", Role.CUSTOMER))  # type: ignore[attr-defined]
    assert refused.value.reason is Reason.NOT_LOGGED_IN
