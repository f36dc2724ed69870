"""The table of transitions, against one written by hand from docs/protocol.md, "Orders"."""

from itertools import chain, combinations

import pytest

from securedelivery.model import OrderStatus, Role
from securedelivery.service.transitions import TRANSITIONS, Need, allowed, find

# before, after: who may, and what it takes of them
BY_HAND = """
placed           confirmed         agent              none
placed           confirmed         admin              none
placed           cancelled         customer           none
placed           cancelled         agent              none
placed           cancelled         admin              none
confirmed        packed            agent              none
confirmed        packed            admin              none
confirmed        cancelled         customer           none
confirmed        cancelled         agent              none
confirmed        cancelled         admin              none
packed           out_for_delivery  agent              courier
packed           out_for_delivery  admin              courier
packed           out_for_delivery  courier            courier
packed           cancelled         agent              none
packed           cancelled         admin              none
out_for_delivery packed            agent              none
out_for_delivery packed            admin              none
out_for_delivery packed            courier            none
out_for_delivery delivered         courier            code
out_for_delivery delivered         admin              note
delivered        returned          agent              none
delivered        returned          admin              none
"""
LEGAL = {(before, after, who): need for before, after, who, need in map(str.split, BY_HAND.split("\n")[1:-1])}

# One acts in several parts at once: an admin who ordered something and delivers it himself, for one.
EVERYONE = list(chain.from_iterable(combinations(Role, size) for size in range(len(Role) + 1)))
EVERY_STEP = [(before, after) for before in OrderStatus for after in OrderStatus]


def test_by_hand() -> None:
    """The names above are those of the statuses and roles, and none is missing."""
    assert {before for before, _, _ in LEGAL} == set(OrderStatus) - {"returned", "cancelled"}
    assert {after for _, after, _ in LEGAL} == set(OrderStatus) - {"placed"}
    assert {who for _, _, who in LEGAL} == set(Role)


@pytest.mark.parametrize("who", EVERYONE, ids="+".join)
@pytest.mark.parametrize(("before", "after"), EVERY_STEP, ids="-".join)
def test_every_step_for_everyone(before: OrderStatus, after: OrderStatus, who: tuple[Role, ...]) -> None:
    needs = {LEGAL[before, after, role] for role in who if (before, after, role) in LEGAL}
    assert (after in allowed(before, who)) == bool(needs)
    by_code, otherwise = find(before, after, who, by_code=True), find(before, after, who)
    assert (by_code is not None) == ("code" in needs)
    assert (otherwise is not None) == bool(needs - {"code"})
    assert {row.need for row in (by_code, otherwise) if row is not None} == needs
    for row in (by_code, otherwise):
        assert row is None or ((row.before, row.after) == (before, after) and row.who & set(who))


@pytest.mark.parametrize("who", EVERYONE, ids="+".join)
def test_what_is_allowed_comes_in_the_order_of_an_orders_life(who: tuple[Role, ...]) -> None:
    for status in OrderStatus:
        ways = allowed(status, who)
        assert ways == sorted(ways, key=list(OrderStatus).index)
        assert len(ways) == len(set(ways))


def test_the_table_says_each_thing_once() -> None:
    said = [(row.before, row.after, role, row.need) for row in TRANSITIONS for role in row.who]
    assert len(said) == len(set(said)) == len(LEGAL)
    assert {row.need for row in TRANSITIONS} == set(Need)
