"""One account's points in memory."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securedelivery.model import AccountId, Order, OrderId, OrderStatus, PointsReason, Timestamp, timestamp
from securedelivery.service.points import Points
from securedelivery.store.accounts import Credit
from securedelivery.store.rewards import Holder, LotRow, Trace, Use, UseRow

ALICE = AccountId(7)


def at(year: int) -> Timestamp:
    return timestamp(datetime(year, 1, 1, tzinfo=UTC))


NOW, EXPIRY = at(2027), at(2028)


def held(*lots: tuple[int, int], balance: int | None = None) -> Points:
    """lots: (year of expiry, remaining), numbered 1, 2, 3 ..."""
    rows = [LotRow(ALICE, entry, at(year), left) for entry, (year, left) in enumerate(lots, start=1)]
    whole = sum(left for _, left in lots) if balance is None else balance
    return Points(Holder(ALICE, 3, whole, 10), sorted(rows, key=lambda row: (row.expires_at, row.entry)), NOW, EXPIRY)


def order(earned: int = 0, redeemed: int = 0) -> Order:
    return Order(
        order=OrderId(5), version=1, account="alice", status=OrderStatus.PLACED, lines=[], subtotal=0, discount=0,
        total=0, currency="EUR", address="", points_earned=earned, points_redeemed=redeemed, courier=None, history=[],
        placed_at=NOW, changed_at=NOW,
    )  # fmt: skip


def posted(points: Points) -> list[tuple[int, str, int]]:
    return [(row.entry, row.reason, row.points) for row in points.ledger()]


def left(points: Points) -> dict[int, int]:
    """What is stored of lots, new and changed, by entry."""
    new = {row.entry: row.remaining for row in points.ledger() if row.reason == "earned"}
    return new | {lot.entry: lot.remaining for lot in points.changed_lots()}


def test_nothing_happens() -> None:
    points = held((2028, 5))
    assert points.credit() is None
    assert points.changed_lots() == []
    points.expire()
    points.settle(order(3, 2), Trace({1}, [Use(1, at(2028), 2)]), earned=3, redeemed=2)
    assert (points.credit(), points.ledger()) == (None, [])


def test_what_is_up_is_booked_once_as_one_entry() -> None:
    points = held((2026, 5), (2027, 3), (2028, 10))  # that of 2027 ends right now
    assert points.spendable == 10
    points.expire()
    points.expire()
    assert posted(points) == [(11, "expired", -8)]
    assert points.ledger()[0].order_id is None
    assert left(points) == {1: 0, 2: 0}
    assert (points.balance, points.spendable) == (10, 10)
    assert points.credit() == Credit(ALICE, -8, 0, 1)


def test_to_redeem_takes_the_oldest_that_are_good() -> None:
    points = held((2026, 5), (2030, 10), (2029, 4))
    points.redeem(OrderId(5), 6)
    assert posted(points) == [(11, "expired", -5), (12, "redeemed", -6)]
    assert points.uses == [UseRow(ALICE, 12, 3, 4), UseRow(ALICE, 12, 2, 2)]
    assert left(points) == {1: 0, 2: 8, 3: 0}


def test_what_is_earned_pays_a_debt_first() -> None:
    points = held(balance=-30)
    assert points.spendable == 0
    points.earn(OrderId(5), 20)
    assert (points.balance, left(points)) == (-10, {11: 0})
    points.earn(OrderId(6), 25)
    assert (points.balance, left(points)) == (15, {11: 0, 12: 15})
    assert [(row.expires_at, row.order_id) for row in points.ledger()] == [(EXPIRY, 5), (EXPIRY, 6)]


def test_a_reversal_takes_the_orders_own_points_then_the_oldest_then_none() -> None:
    points = held((2029, 10), (2028, 7), (2030, 20))
    points.settle(order(earned=15), Trace({3}, []), earned=0, redeemed=0)
    assert (posted(points), left(points)) == ([(11, "reversed", -15)], {3: 5})
    points = held((2029, 10), (2028, 7), (2030, 20))
    points.settle(order(earned=30), Trace({3}, []), earned=0, redeemed=0)
    assert left(points) == {3: 0, 2: 0, 1: 7}
    points = held((2029, 10), (2028, 7))
    points.settle(order(earned=20), Trace({3}, []), earned=0, redeemed=0)
    assert (points.balance, left(points)) == (-3, {1: 0, 2: 0})


def test_the_orders_own_points_are_all_that_it_has_earned() -> None:
    """At placement, and by an edit in this batch."""
    points, trace = held((2029, 5)), Trace({1}, [])
    points.settle(order(earned=5), trace, earned=12, redeemed=0)
    assert (posted(points), trace.earned) == ([(11, "earned", 7)], {1, 11})
    points.earn(OrderId(6), 50)
    points.settle(order(earned=12), trace, earned=0, redeemed=0)
    assert left(points) == {1: 0, 11: 0, 12: 50}


USES = [Use(1, at(2028), 10), Use(2, at(2028), 5), Use(3, at(2029), 20)]


def test_what_comes_back_goes_where_it_came_from() -> None:
    points = held((2028, 1), balance=1)
    points.settle(order(redeemed=35), Trace(set(), USES), earned=0, redeemed=0)
    assert posted(points) == [(11, "returned", 15), (12, "returned", 20)]  # one for each expiry
    assert [row.expires_at for row in points.ledger()] == [at(2028), at(2029)]
    assert left(points) == {1: 11, 2: 5, 3: 20}
    assert points.changed_lots()[1:] == [LotRow(ALICE, 2, at(2028), 5), LotRow(ALICE, 3, at(2029), 20)]


def test_the_oldest_stay_used_and_a_part_can_come_back_in_steps() -> None:
    points, trace = held(), Trace(set(), USES)
    points.settle(order(redeemed=35), trace, earned=0, redeemed=12)
    assert (posted(points), left(points)) == ([(11, "returned", 3), (12, "returned", 20)], {2: 3, 3: 20})
    points.settle(order(redeemed=12), trace, earned=0, redeemed=12)
    points.settle(order(redeemed=12), trace, earned=0, redeemed=0)
    assert posted(points)[2:] == [(13, "returned", 12)]
    assert left(points) == {1: 10, 2: 5, 3: 20}


def test_what_comes_back_pays_a_debt_with_what_expires_first() -> None:
    points = held(balance=-12)
    points.settle(order(redeemed=35), Trace(set(), USES), earned=0, redeemed=0)
    assert (points.balance, left(points)) == (23, {2: 3, 3: 20})
    points = held(balance=-50)
    points.settle(order(redeemed=35), Trace(set(), USES), earned=0, redeemed=0)
    assert (points.balance, left(points)) == (-15, {})


def test_what_comes_back_too_late_expires_at_once() -> None:
    points = held((2029, 1))
    uses = [Use(4, at(2026), 10), Use(5, at(2030), 3)]
    points.settle(order(redeemed=13), Trace(set(), uses), earned=0, redeemed=0)
    assert posted(points) == [(11, "returned", 10), (12, "returned", 3), (13, "expired", -10)]
    assert (points.balance, left(points)) == (4, {5: 3})


def test_a_shorter_expiry_lets_new_points_go_first() -> None:
    points = held((2030, 10))
    points.earn(OrderId(5), 4)
    points.redeem(OrderId(6), 5)
    assert left(points) == {1: 9, 11: 0}


def test_the_count_of_orders_is_the_callers() -> None:
    points = held()
    points.order_count -= 1
    assert points.credit() == Credit(ALICE, 0, -1, 0)


def test_more_than_there_is_cannot_be_redeemed() -> None:
    with pytest.raises(AssertionError, match="the lots hold less than the balance"):
        held((2026, 5), (2028, 5)).redeem(OrderId(5), 6)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("earn"), st.integers(1, 50)),
        st.tuples(st.just("redeem"), st.integers(1, 50)),
        st.tuples(st.just("reverse"), st.integers(1, 80)),
        st.tuples(st.just("give back"), st.integers(1, 35)),
    ),
    max_size=20,
)


@given(st.lists(st.tuples(st.sampled_from([2026, 2028, 2029]), st.integers(1, 30)), max_size=5), steps)
def test_the_lots_hold_the_balance_or_nothing(lots: list[tuple[int, int]], steps: list[tuple[str, int]]) -> None:
    points = held(*lots)
    stored = {entry: left for entry, (_, left) in enumerate(lots, start=1)}
    for step, amount in steps:
        match step:
            case "earn":
                points.earn(OrderId(5), amount)
            case "redeem" if points.spendable:
                points.redeem(OrderId(5), min(amount, points.spendable))
            case "reverse":
                points.settle(order(earned=amount), Trace({1}, []), earned=0, redeemed=0)
            case "give back":
                points.settle(order(redeemed=35), Trace(set(), USES), earned=0, redeemed=35 - amount)
        assert sum((stored | left(points)).values()) == max(0, points.balance)
        assert points.balance == sum(stored.values()) + sum(row.points for row in points.ledger())
        assert 0 <= points.spendable <= max(0, points.balance)
    assert [row.entry for row in points.ledger()] == list(range(11, 11 + len(points.ledger())))
    assert all(row.points for row in points.ledger())
    given_back = {PointsReason.EARNED, PointsReason.RETURNED}
    assert all((row.expires_at is not None) == (row.reason in given_back) for row in points.ledger())
    assert all(remaining >= 0 for remaining in left(points).values())
