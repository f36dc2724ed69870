"""The rules of points and tiers."""

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from service.shop import Shop, check_books

from securedelivery import model
from securedelivery.errors import Reason, Refusal
from securedelivery.model import AccountId, NextTier, OrderId, PointsEntry, PointsReason, Role, Timestamp, timestamp
from securedelivery.service.events import RewardsChanged
from securedelivery.service.rewards import RewardRules, Tier, cursor_of, months_later
from securedelivery.service.session import Session

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


def test_get(shop: Shop) -> None:
    alice = shop.customer("alice")
    assert shop.rewards.get(alice) == model.Rewards(0, "bronze", 0, NextTier("silver", 5))
    with pytest.raises(Refusal) as refused:
        shop.rewards.get(Session(AccountId(99), "nobody", Role.CUSTOMER))
    assert refused.value.reason is Reason.NOT_LOGGED_IN


def test_history(shop: Shop) -> None:
    shop.stock(("GPU-1", 60_000, 100))
    alice, bob = shop.customer("alice"), shop.customer("bob")
    assert shop.rewards.history(alice) == ([], None)
    first = timestamp(shop.clock())
    shop.place(alice, ("GPU-1", 1))
    shop.place(bob, ("GPU-1", 1))
    shop.clock.forward(days=1)
    now = timestamp(shop.clock())
    shop.place(alice, ("GPU-1", 1), redeem=100)
    whole = [
        PointsEntry(3, 595, PointsReason.EARNED, OrderId(3), now, Timestamp(now.replace("2026", "2027"))),
        PointsEntry(2, -100, PointsReason.REDEEMED, OrderId(3), now, None),
        PointsEntry(1, 600, PointsReason.EARNED, OrderId(1), first, Timestamp(first.replace("2026", "2027"))),
    ]
    assert shop.rewards.history(alice) == (whole, None)
    page, after = shop.rewards.history(alice, limit=2)
    assert (page, after) == (whole[:2], cursor_of(whole[1]))
    assert shop.rewards.history(alice, after, 2) == (whole[2:], None)
    assert shop.rewards.history(alice, limit=3) == (whole, None)
    with pytest.raises(Refusal) as refused:
        shop.rewards.history(alice, "bzox")  # a list of orders
    assert refused.value.data == {"path": "/after"}


def test_the_housekeeper_books_what_is_up(shop: Shop) -> None:
    shop.stock(("GPU-1", 60_000, 100))
    alice, bob = shop.customer("alice"), shop.customer("bob")
    shop.place(alice, ("GPU-1", 1))
    shop.clock.forward(days=30)
    shop.place(alice, ("GPU-1", 2))
    shop.place(bob, ("GPU-1", 1))
    expire = lambda: shop.database.writer.call(shop.rewards.expire, None)
    shop.clock.forward(days=334)
    shop.events.clear()
    assert expire() == 0
    shop.clock.forward(days=1)  # to the microsecond
    assert expire() == 1
    assert shop.rewards.get(alice).points == 1200
    assert shop.events == [RewardsChanged(alice.account_id, shop.rewards.get(alice))]
    assert shop.rewards.history(alice)[0][0] == PointsEntry(
        3, -600, PointsReason.EXPIRED, None, timestamp(shop.clock()), None
    )
    check_books(shop)
    shop.clock.forward(days=30)
    both = lambda tx, batches: [shop.rewards.expire(tx, batch) for batch in batches]
    assert shop.database.writer.call(both, [None, None]) == [2, 0]
    assert shop.rewards.get(alice).points == shop.rewards.get(bob).points == 0
    assert shop.sql("SELECT * FROM points_ledger WHERE remaining > 0") == []
    check_books(shop)


def test_so_many_accounts_at_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securedelivery.service.rewards.ACCOUNTS_AT_ONCE", 2)
    shop.stock(("GPU-1", 60_000, 100))
    for name in ("alice", "bob", "cyd"):
        session = shop.customer(name)
        for _ in range(3):
            shop.place(session, ("GPU-1", 1))
            shop.clock.forward(seconds=1)
    shop.clock.forward(days=366)
    assert [shop.database.writer.call(shop.rewards.expire, None) for _ in range(3)] == [2, 1, 0]
    assert shop.sql("SELECT DISTINCT points FROM accounts") == [(0,)]
    check_books(shop)


def test_what_a_damaged_account_cannot_book_holds_up_nobody(shop: Shop) -> None:
    """Its balance says that there is nothing, its lots say that there is; the doctor has to look at that."""
    shop.stock(("GPU-1", 60_000, 100))
    alice, bob = shop.customer("alice"), shop.customer("bob")
    for session in (alice, bob):
        shop.place(session, ("GPU-1", 1))
    shop.sql("UPDATE accounts SET points = 0 WHERE username = 'alice'")
    shop.clock.forward(days=366)
    shop.events.clear()
    expire = lambda: shop.database.writer.call(shop.rewards.expire, None)
    assert [expire(), expire()] == [1, 0]
    assert [event.account for event in shop.events] == [bob.account_id]
