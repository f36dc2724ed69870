"""Editing, cancelling, advancing and confirming orders, through a real database."""

# ruff: noqa: S608 -- the values are these tests' own

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import pytest
from service.shop import Line, Shop, check_books, entry

from securedelivery.errors import Reason, Refusal
from securedelivery.model import AccountId, HistoryEntry, Order, OrderLine, OrderStatus, Role, timestamp
from securedelivery.service.events import OrderChanged, RewardsChanged
from securedelivery.service.orders import (
    AdvanceCommand,
    CancelCommand,
    ConfirmCommand,
    UpdateCommand,
    without_code,
)
from securedelivery.service.session import Session
from securedelivery.store import audit
from securedelivery.store.engine import Transaction

GPU, CABLE, STICKER = ("GPU-1", 1), ("CABLE-1", 3), ("STICKER", 1)
GONE = Session(AccountId(99), "nobody", Role.ADMIN)


@dataclass
class People:
    alice: Session
    bob: Session
    carl: Session
    cora: Session
    agnes: Session
    adam: Session


@pytest.fixture
def people(shop: Shop) -> People:
    shop.stock(("GPU-1", 60_000, 10), ("CABLE-1", 799, 1000), ("STICKER", 3, 1_000_000))
    return People(
        shop.customer("alice"),
        shop.customer("bob"),
        shop.customer("carl", Role.COURIER),
        shop.customer("cora", Role.COURIER),
        shop.customer("agnes", Role.AGENT),
        shop.customer("adam", Role.ADMIN),
    )


LOTS = "SELECT entry, expires_at, remaining FROM points_ledger WHERE remaining > 0 ORDER BY entry"


def batch(shop: Shop, commands: Sequence[object]) -> list[object]:
    """All of one kind in one batch, whatever the writer's timing."""
    methods = {
        UpdateCommand: shop.orders.update,
        CancelCommand: shop.orders.cancel,
        AdvanceCommand: shop.orders.advance,
        ConfirmCommand: shop.orders.confirm,
    }
    method = methods[type(commands[0])]
    whole = lambda tx, batches: [method(tx, each) for each in batches]
    return list(shop.database.writer.call(whole, commands))


def refusal(call: object, *arguments: object, **more: object) -> tuple[Reason, dict[str, object]]:
    with pytest.raises(Refusal) as caught:
        call(*arguments, **more)  # type: ignore[operator]
    return caught.value.reason, caught.value.data


def illegal(status: str, *allowed: str) -> tuple[Reason, dict[str, object]]:
    return Reason.ILLEGAL_TRANSITION, {"status": status, "allowed": list(allowed)}


def stock(shop: Shop) -> dict[str, int]:
    return {str(sku): int(str(left)) for sku, left in shop.sql("SELECT sku, stock FROM products")}


def actions(shop: Shop) -> list[tuple[int | None, str, str | None, object]]:
    """The audit, oldest first."""
    with shop.database.read() as tx:
        rows = [row.entry for row in audit.everything(tx)]
    return [(row.actor, row.action, row.subject, msgspec.json.decode(row.detail or "null")) for row in rows]


def ledger(shop: Shop, account: Session) -> list[tuple[str, int]]:
    """Oldest first."""
    return [(entry.reason.value, entry.points) for entry in reversed(shop.rewards.history(account)[0])]


NOT_FOUND: tuple[Reason, dict[str, object]] = (Reason.NOT_FOUND, {})


# order.update


def test_an_edit(shop: Shop, people: People) -> None:
    placed = shop.place(people.alice, GPU, CABLE)
    shop.stock(("CABLE-1", 1_000, 997))  # today's price
    shop.clock.forward(hours=1)
    shop.events.clear()
    order = shop.edit(people.alice, 1, 1, ("CABLE-1", 2), STICKER, address="2 Lane")
    now = timestamp(shop.clock())
    assert order == msgspec.structs.replace(
        placed,
        version=2,
        lines=[
            OrderLine("CABLE-1", "Product CABLE-1", 2, 1_000, 2_000),
            OrderLine("STICKER", "Product STICKER", 1, 3, 3),
        ],
        subtotal=2_003,
        total=2_003,
        address="2 Lane",
        points_earned=20,
        history=[*placed.history, HistoryEntry(OrderStatus.PLACED, now, "alice", "edited")],
        changed_at=now,
    )
    assert shop.orders.get(people.alice, 1) == order
    assert stock(shop) == {"GPU-1": 10, "CABLE-1": 998, "STICKER": 999_999}
    assert ledger(shop, people.alice) == [("earned", 623), ("reversed", -603)]
    assert [type(event) for event in shop.events] == [RewardsChanged, OrderChanged]
    assert shop.events[1] == OrderChanged(people.alice.account_id, None, order)
    assert actions(shop)[1:] == [(people.alice.account_id, "order.edited", "order:1", {"version": 2})]
    check_books(shop)


def test_an_edit_of_nothing(shop: Shop, people: People) -> None:
    placed = shop.place(people.alice, GPU, CABLE)
    shop.events.clear()
    assert shop.edit(people.alice, 1, 1) == placed
    assert shop.edit(people.alice, 1, 1, address="1 Road") == placed
    assert shop.edit(people.alice, 1, 1, GPU, ("CABLE-1", 1), ("CABLE-1", 2)) == placed
    assert shop.events == []
    assert len(actions(shop)) == 1


def test_another_price_is_something(shop: Shop, people: People) -> None:
    shop.place(people.alice, CABLE)
    shop.stock(("CABLE-1", 899, 997))
    assert shop.edit(people.alice, 1, 1, address="2 Lane").total == 3 * 799
    assert shop.edit(people.alice, 1, 2, CABLE).total == 3 * 899
    assert shop.events[-1] == OrderChanged(people.alice.account_id, None, shop.orders.get(people.alice, 1))
    check_books(shop)


def test_an_edit_of_the_address_alone_tells_nothing_of_points(shop: Shop, people: People) -> None:
    shop.place(people.alice, CABLE)
    shop.events.clear()
    order = shop.edit(people.alice, 1, 1, address="2 Lane")
    assert shop.events == [OrderChanged(people.alice.account_id, None, order)]
    assert refusal(shop.edit, people.alice, 1, 2, address=" ") == (Reason.INVALID_PARAMS, {"path": "/address"})


def test_an_edit_that_earns_the_same_tells_nothing_of_points(shop: Shop, people: People) -> None:
    shop.place(people.alice, STICKER)
    shop.events.clear()
    order = shop.edit(people.alice, 1, 1, ("STICKER", 2))
    assert shop.events == [OrderChanged(people.alice.account_id, None, order)]
    assert ledger(shop, people.alice) == []


def test_who_may_edit_and_in_which_order_that_is_checked(shop: Shop, people: People) -> None:
    shop.place(people.alice, GPU)
    for stranger in (people.bob, people.carl, people.agnes, people.adam):
        assert refusal(shop.edit, stranger, 1, 1, CABLE) == NOT_FOUND
    assert refusal(shop.edit, people.alice, 2, 1, CABLE) == NOT_FOUND
    assert refusal(shop.edit, people.alice, 1, 2, ("NONE", 1)) == (Reason.VERSION_CONFLICT, {"version": 1})
    assert refusal(shop.edit, people.alice, 1, 1, ("NONE", 1)) == (Reason.NOT_FOUND, {"sku": "NONE"})
    shop.advance(people.agnes, 1, "confirmed")
    assert refusal(shop.edit, people.alice, 1, 1, ("NONE", 1)) == illegal("confirmed", "cancelled")
    shop.cancel(people.alice, 1)
    assert refusal(shop.edit, people.alice, 1, 3, GPU) == illegal("cancelled")


def test_an_edit_takes_only_what_it_wants_more(shop: Shop, people: People) -> None:
    shop.stock(("RARE", 100, 5))
    shop.place(people.alice, ("RARE", 4), CABLE)
    assert refusal(shop.edit, people.alice, 1, 1, ("RARE", 6)) == (
        Reason.OUT_OF_STOCK,
        {"sku": "RARE", "available": 5},
    )
    assert shop.edit(people.alice, 1, 1, ("RARE", 5)).lines[0].quantity == 5
    assert (stock(shop)["RARE"], stock(shop)["CABLE-1"]) == (0, 1000)
    assert shop.edit(people.alice, 1, 2, ("RARE", 2), ("RARE", 1)).lines[0].quantity == 3
    assert stock(shop)["RARE"] == 2
    shop.sql("UPDATE products SET active = 0 WHERE sku = 'RARE'")
    assert refusal(shop.edit, people.alice, 1, 3, ("RARE", 1)) == (Reason.NOT_FOUND, {"sku": "RARE"})
    assert shop.edit(people.alice, 1, 3, CABLE).version == 4
    assert stock(shop)["RARE"] == 5


def test_an_edit_keeps_to_the_limits_of_an_order(shop: Shop, people: People) -> None:
    shop.stock(("DEAR", 2**52, 100))
    shop.catalog.import_products([entry(f"{n:064}", 1, 10, name="\u2028" * 100) for n in range(100)])
    shop.place(people.alice, CABLE)
    for lines in ([("DEAR", 3)], [("STICKER", 10_000), STICKER], [(f"{n:064}", 1) for n in range(100)]):
        assert refusal(shop.edit, people.alice, 1, 1, *lines) == (Reason.INVALID_PARAMS, {"path": "/lines"})
    assert shop.orders.get(people.alice, 1).version == 1


def test_an_edit_gives_back_points_that_it_can_no_longer_redeem(shop: Shop, people: People) -> None:
    shop.place(people.alice, GPU)
    shop.clock.forward(days=10)
    placed = shop.place(people.alice, ("CABLE-1", 10), redeem=500)
    assert (placed.subtotal, placed.points_redeemed, placed.points_earned) == (7_990, 500, 54)
    order = shop.edit(people.alice, 2, 1, ("CABLE-1", 2))
    assert (order.subtotal, order.points_redeemed, order.discount, order.total) == (1_598, 159, 795, 803)
    assert ledger(shop, people.alice) == [
        ("earned", 600), ("redeemed", -500), ("earned", 54), ("reversed", -46), ("returned", 341),
    ]  # fmt: skip
    back = shop.rewards.history(people.alice)[0][0]
    assert (back.expires_at, back.order) == ("2027-03-01T12:00:00.123456Z", 2)
    # More lines later do not redeem more.
    order = shop.edit(people.alice, 2, 2, ("CABLE-1", 10))
    assert (order.points_redeemed, order.points_earned) == (159, 71)
    assert ledger(shop, people.alice)[-1] == ("earned", 63)
    check_books(shop)


def test_an_edit_earns_with_the_tier_of_the_placement(shop: Shop, people: People) -> None:
    for _ in range(6):
        shop.place(people.alice, GPU)
    assert shop.orders.get(people.alice, 5).points_earned == 600
    assert shop.edit(people.alice, 5, 1, ("GPU-1", 2)).points_earned == 1200
    assert shop.edit(people.alice, 6, 1, ("GPU-1", 2)).points_earned == 1500
    later = shop.rewards.history(people.alice)[0][0]
    assert (later.points, later.expires_at) == (750, "2027-03-01T12:00:00.123456Z")
    check_books(shop)


def test_edits_of_one_batch_see_each_other(shop: Shop, people: People) -> None:
    shop.stock(("RARE", 100, 5))
    shop.place(people.alice, ("RARE", 3))
    shop.place(people.bob, ("RARE", 2))
    one, two, three, four, five = batch(
        shop,
        [
            UpdateCommand(people.bob, 2, 1, [Line("RARE", 3)]),
            UpdateCommand(people.alice, 1, 1, [Line("RARE", 1)]),
            UpdateCommand(people.alice, 1, 1, [Line("RARE", 2)]),
            UpdateCommand(people.bob, 2, 1, [Line("RARE", 4)], "3 Lane"),
            UpdateCommand(people.alice, 1, 2, None, "4 Lane"),
        ],
    )
    assert isinstance(one, Refusal)
    assert one.data == {"sku": "RARE", "available": 2}
    assert isinstance(two, Order)
    assert isinstance(three, Refusal)
    assert (three.reason, three.data) == (Reason.VERSION_CONFLICT, {"version": 2})
    assert isinstance(four, Order)
    assert isinstance(five, Order)
    assert (five.version, five.lines[0].quantity, five.address) == (3, 1, "4 Lane")
    assert [note.note for note in five.history] == [None, "edited", "edited"]
    assert shop.orders.get(people.alice, 1) == five
    assert shop.orders.get(people.bob, 2) == four
    assert stock(shop)["RARE"] == 0
    assert [event.order.version for event in shop.events if isinstance(event, OrderChanged)] == [1, 1, 2, 2, 3]
    check_books(shop)


# order.cancel


@pytest.mark.parametrize("status", ["placed", "confirmed", "packed", "out_for_delivery", "delivered", "returned"])
@pytest.mark.parametrize("name", ["alice", "agnes", "adam", None])
def test_who_may_cancel_what(shop: Shop, people: People, status: str, name: str | None) -> None:
    session = getattr(people, name) if name else None
    shop.place(people.alice, GPU, CABLE)
    shop.bring_to(status, 1, people.adam, "carl")
    before = shop.orders.get(people.alice, 1)
    shop.events.clear()
    if status not in {"alice": ("placed", "confirmed")}.get(str(name), ("placed", "confirmed", "packed")):
        found = {
            "alice": {}, "agnes": {"out_for_delivery": ["packed"], "delivered": ["returned"]},
        }.get(str(name), {"out_for_delivery": ["packed", "delivered"], "delivered": ["returned"]})  # fmt: skip
        assert refusal(shop.cancel, session, 1) == illegal(status, *found.get(status, []))
        assert shop.orders.get(people.alice, 1) == before
        return
    order = shop.cancel(session, 1, "changed my mind")
    assert order.status is OrderStatus.CANCELLED
    assert order.version == before.version + 1
    assert order.history[-1] == HistoryEntry(
        order.status, timestamp(shop.clock()), name or "operator", "changed my mind"
    )
    assert (order.delivery_code is msgspec.UNSET) == (name != "alice")
    assert (order.points_earned, order.points_redeemed) == (623, 0)
    assert without_code(order) == without_code(shop.orders.get(people.alice, 1))
    assert stock(shop) == {"GPU-1": 10, "CABLE-1": 1000, "STICKER": 1_000_000}
    rewards = shop.rewards.get(people.alice)
    assert (rewards.points, rewards.order_count) == (0, 0)
    assert shop.events[0] == RewardsChanged(people.alice.account_id, rewards)
    assert len(shop.events) == 2
    detail = {"version": order.version} | ({} if name else {"by": "operator"})
    assert actions(shop)[-1] == (session and session.account_id, "order.cancelled", "order:1", detail)
    # Once is enough.
    shop.events.clear()
    for caller in (people.alice, people.agnes, None):
        assert without_code(shop.cancel(caller, 1, "again")) == without_code(order)
    assert shop.events == []
    check_books(shop)


def test_who_may_not_even_know_of_it(shop: Shop, people: People) -> None:
    shop.place(people.alice, GPU)
    shop.bring_to("out_for_delivery", 1, people.agnes, "carl")
    for stranger in (people.bob, people.carl, people.cora):
        assert refusal(shop.cancel, stranger, 1) == NOT_FOUND
    for session in (people.alice, people.adam, None):
        assert refusal(shop.cancel, session, 2) == NOT_FOUND


def test_cancelling_gives_redeemed_points_back_with_the_expiry_they_had(shop: Shop, people: People) -> None:
    for _ in range(3):
        shop.place(people.alice, ("CABLE-1", 10))  # 79 points each
        shop.clock.forward(days=30)
    before = shop.sql(LOTS)
    order = shop.place(people.alice, GPU, redeem=100)
    order = shop.cancel(people.alice, order.order)
    assert (order.points_earned, order.points_redeemed) == (595, 100)
    entries = shop.rewards.history(people.alice)[0]
    assert [(each.reason.value, each.points, str(each.expires_at)[:10]) for each in entries[:3]] == [
        ("returned", 21, "2027-03-31"),
        ("returned", 79, "2027-03-01"),
        ("reversed", -595, "None"),
    ]
    assert shop.sql(LOTS) == before
    check_books(shop)


def test_cancelling_what_was_spent_leaves_a_debt(shop: Shop, people: People) -> None:
    shop.place(people.alice, GPU)
    spent = shop.place(people.alice, GPU, redeem=600)
    shop.cancel(people.alice, 1)
    assert shop.rewards.get(people.alice).points == -30
    assert shop.sql("SELECT * FROM points_ledger WHERE remaining > 0") == []
    assert refusal(shop.place, people.alice, GPU, redeem=1) == (Reason.NOT_ENOUGH_POINTS, {"points": 0})
    check_books(shop)
    # What comes back is of the first order, and pays the debt before it can be spent.
    shop.cancel(people.alice, spent.order)
    assert ledger(shop, people.alice)[-2:] == [("reversed", -570), ("returned", 600)]
    assert shop.rewards.get(people.alice).points == 0
    check_books(shop)


def test_an_order_without_points_posts_none(shop: Shop, people: People) -> None:
    shop.place(people.alice, STICKER)
    shop.cancel(people.alice, 1)
    assert ledger(shop, people.alice) == []
    assert shop.rewards.get(people.alice).order_count == 0


def test_points_that_come_back_too_late_are_gone(shop: Shop, people: People) -> None:
    shop.place(people.alice, GPU)
    shop.clock.forward(days=300)
    shop.place(people.alice, GPU, redeem=600)
    shop.clock.forward(days=100)
    shop.cancel(people.alice, 2)
    expected = [("earned", 600), ("redeemed", -600), ("earned", 570), ("reversed", -570), ("returned", 600)]
    assert ledger(shop, people.alice) == [*expected, ("expired", -600)]
    check_books(shop)


def test_cancellations_of_one_batch(shop: Shop, people: People) -> None:
    for session in (people.alice, people.bob, people.alice):
        shop.place(session, GPU)
    outcomes = batch(
        shop,
        [
            CancelCommand(people.alice, 1),
            CancelCommand(people.alice, 2),
            CancelCommand(None, 2, "fraud"),
            CancelCommand(people.alice, 3),
            CancelCommand(people.alice, 1, "again"),
        ],
    )
    assert [type(outcome) for outcome in outcomes] == [Order, Refusal, Order, Order, Order]
    assert outcomes[0] is outcomes[4]
    assert shop.rewards.get(people.alice).points == shop.rewards.get(people.bob).points == 0
    assert stock(shop)["GPU-1"] == 10
    check_books(shop)


# order.advance


def test_from_placement_to_return(shop: Shop, people: People) -> None:
    placed = shop.place(people.alice, GPU, CABLE)
    steps = [
        (people.agnes, "confirmed", None, None),
        (people.agnes, "packed", None, "box 7"),
        (people.agnes, "out_for_delivery", "carl", None),
        (people.carl, "packed", None, "nobody at home"),
        (people.carl, "out_for_delivery", "carl", None),
    ]
    for version, (session, status, courier, note) in enumerate(steps, start=2):
        shop.clock.forward(hours=1)
        shop.events.clear()
        order = shop.advance(session, 1, status, courier, note)
        assert (order.status, order.version, order.changed_at) == (status, version, timestamp(shop.clock()))
        assert order.history[-1] == HistoryEntry(order.status, order.changed_at, session.username, note)
        assert order == without_code(shop.orders.get(people.alice, 1))
        (event,) = shop.events
        carl = people.carl.account_id if version >= 4 else None
        whole = shop.orders.get(people.alice, 1)
        assert event == OrderChanged(people.alice.account_id, carl, whole)
        assert whole.delivery_code == placed.delivery_code
    assert isinstance(placed.delivery_code, str)
    shop.confirm(people.carl, 1, placed.delivery_code)
    order = shop.advance(people.agnes, 1, "returned", note="wrong colour")
    assert [each.status for each in order.history] == [
        "placed", "confirmed", "packed", "out_for_delivery", "packed", "out_for_delivery", "delivered", "returned",
    ]  # fmt: skip
    assert (order.courier, order.points_earned) == ("carl", 623)
    assert stock(shop) == {"GPU-1": 10, "CABLE-1": 1000, "STICKER": 1_000_000}
    assert ledger(shop, people.alice) == [("earned", 623), ("reversed", -623)]
    assert shop.rewards.get(people.alice).order_count == 0
    carl = people.carl.account_id
    assert [(action, detail) for _, action, _, detail in actions(shop) if action != "order.viewed"] == [
        ("order.placed", None),
        ("order.confirmed", {"version": 2}),
        ("order.packed", {"version": 3}),
        ("order.out_for_delivery", {"version": 4, "courier": carl}),
        ("order.packed", {"version": 5}),
        ("order.out_for_delivery", {"version": 6}),
        ("order.delivered", {"version": 7}),
        ("order.returned", {"version": 8}),
    ]
    check_books(shop)


STEPS = {  # how the table reads for advance: who may make what of each status
    "agnes": {
        "placed": ["confirmed", "cancelled"],
        "confirmed": ["packed", "cancelled"],
        "packed": ["out_for_delivery", "cancelled"],
        "out_for_delivery": ["packed"],
        "delivered": ["returned"],
    },
    "carl": {"packed": ["out_for_delivery"], "out_for_delivery": ["packed"]},
}
STEPS["adam"] = STEPS["agnes"] | {"out_for_delivery": ["packed", "delivered"]}


@pytest.mark.parametrize("name", ["agnes", "adam", "carl", None])
@pytest.mark.parametrize("status", list(OrderStatus))
def test_every_step_of_everyone(shop: Shop, people: People, status: OrderStatus, name: str | None) -> None:
    session = getattr(people, name) if name else None
    steps = STEPS[name or "adam"].get(status, [])
    # By his code a courier may do one thing more than advance lets him.
    allowed = ["packed", "delivered"] if (name, status) == ("carl", "out_for_delivery") else steps
    for number, after in enumerate(OrderStatus, start=1):
        shop.place(people.alice, GPU)
        shop.sql(f"UPDATE orders SET courier_id = {people.carl.account_id}")
        shop.bring_to(status, number, people.adam, "carl")
        before = shop.orders.get(people.alice, number)
        if after in (status, *steps):
            order = shop.advance(session, number, after, note="so it is")
            assert order.status is after
            assert order.version == before.version + (after is not status)
        else:
            assert refusal(shop.advance, session, number, after, note="so it is") == illegal(status, *allowed)
            assert shop.orders.get(people.alice, number) == before
        if status not in ("cancelled", "returned"):
            shop.sql("UPDATE products SET stock = 10 WHERE sku = 'GPU-1'")


def test_whose_order_it_is_not(shop: Shop, people: People) -> None:
    shop.place(people.alice, GPU)
    for stranger in (people.alice, people.bob, people.carl, people.cora):
        assert refusal(shop.advance, stranger, 1, "confirmed") == NOT_FOUND
    shop.bring_to("packed", 1, people.agnes, "carl")
    shop.advance(people.agnes, 1, "packed", "carl")
    assert refusal(shop.advance, people.cora, 1, "out_for_delivery") == NOT_FOUND
    assert refusal(shop.advance, people.agnes, 7, "packed") == NOT_FOUND
    # One who is a courier no more has no part in it either.
    shop.sql(f"UPDATE accounts SET role = 'customer' WHERE id = {people.carl.account_id}")
    assert refusal(shop.advance, people.carl, 1, "out_for_delivery") == NOT_FOUND
    assert refusal(shop.confirm, people.carl, 1, "123456") == NOT_FOUND


def test_a_courier_is_needed_and_has_to_be_one(shop: Shop, people: People) -> None:
    shop.place(people.alice, GPU)
    shop.bring_to("packed", 1, people.agnes, "carl")
    expected = (Reason.INVALID_PARAMS, {"path": "/courier"})
    for name in (None, "nobody", "alice", "agnes"):
        assert refusal(shop.advance, people.agnes, 1, "out_for_delivery", name) == expected
    shop.sql(f"UPDATE accounts SET disabled = 1 WHERE id = {people.cora.account_id}")
    assert refusal(shop.advance, people.agnes, 1, "out_for_delivery", "cora") == expected
    assert refusal(shop.advance, people.agnes, 1, "packed", "cora") == expected
    order = shop.advance(people.agnes, 1, "packed", "carl")
    assert (order.courier, order.version, order.history[-1].note) == ("carl", 4, "another courier")
    assert refusal(shop.advance, people.carl, 1, "out_for_delivery", "adam") == expected
    # He has gone meanwhile, so the shop has to name another.
    shop.sql(f"UPDATE accounts SET disabled = 1 WHERE id = {people.carl.account_id}")
    assert refusal(shop.advance, people.agnes, 1, "out_for_delivery") == expected
    assert shop.advance(people.agnes, 1, "out_for_delivery", "adam").courier == "adam"


def test_a_courier_can_be_named_early(shop: Shop, people: People) -> None:
    shop.place(people.alice, GPU)
    assert shop.advance(people.agnes, 1, "confirmed", "carl").courier == "carl"
    assert shop.orders.get(people.carl, 1).courier == "carl"
    shop.advance(None, 1, "packed")
    assert shop.advance(people.carl, 1, "out_for_delivery").courier == "carl"


def test_another_courier(shop: Shop, people: People) -> None:
    shop.place(people.alice, GPU)
    shop.bring_to("out_for_delivery", 1, people.agnes, "carl")
    shop.events.clear()
    version = shop.orders.get(people.alice, 1).version
    assert shop.advance(people.agnes, 1, "out_for_delivery", "carl").version == version
    assert shop.advance(people.carl, 1, "out_for_delivery", "carl").version == version
    expected = (Reason.INVALID_PARAMS, {"path": "/courier"})
    assert refusal(shop.advance, people.carl, 1, "out_for_delivery", "cora") == expected
    assert shop.events == []
    order = shop.advance(None, 1, "out_for_delivery", "cora", "carl is ill")
    assert (order.courier, order.version, order.status) == ("cora", version + 1, "out_for_delivery")
    assert order.history[-1] == HistoryEntry(order.status, order.changed_at, "operator", "carl is ill")
    whole = shop.orders.get(people.alice, 1)
    carl, cora = people.carl.account_id, people.cora.account_id
    assert shop.events == [OrderChanged(people.alice.account_id, cora, whole, carl)]
    assert actions(shop)[-1] == (
        None, "order.courier", "order:1", {"version": version + 1, "courier": cora, "by": "operator"},
    )  # fmt: skip
    assert refusal(shop.advance, people.carl, 1, "packed") == NOT_FOUND
    # In a status in which nobody carries it, the name is of no account.
    shop.place(people.alice, GPU)
    assert shop.advance(people.agnes, 2, "placed", "nobody").version == 1


def test_a_delivery_without_the_code_takes_an_admin_and_a_note(shop: Shop, people: People) -> None:
    shop.place(people.alice, GPU)
    shop.bring_to("out_for_delivery", 1, people.agnes, "carl")
    for note in (None, "  "):
        expected = (Reason.INVALID_PARAMS, {"path": "/note"})
        assert refusal(shop.advance, people.adam, 1, "delivered", note=note) == expected
    order = shop.advance(people.adam, 1, "delivered", note="signed for")
    assert (order.status, order.history[-1].by, order.history[-1].note) == ("delivered", "adam", "signed for")


def test_an_admin_who_is_customer_and_courier_at_once(shop: Shop, people: People) -> None:
    placed = shop.place(people.adam, GPU)
    assert isinstance(placed.delivery_code, str)
    shop.advance(people.adam, 1, "confirmed", "adam")
    assert refusal(shop.edit, people.adam, 1, 2, CABLE) == illegal("confirmed", "packed", "cancelled")
    shop.advance(people.adam, 1, "packed")
    order = shop.advance(people.adam, 1, "out_for_delivery")
    assert order.delivery_code == placed.delivery_code
    assert shop.confirm(people.adam, 1, placed.delivery_code).status is OrderStatus.DELIVERED


def test_steps_of_one_batch_see_each_other(shop: Shop, people: People) -> None:
    shop.place(people.alice, GPU)
    statuses = [OrderStatus(each) for each in ("confirmed", "packed", "out_for_delivery", "packed", "cancelled")]
    steps = [
        AdvanceCommand(people.agnes, 1, statuses[0]),
        AdvanceCommand(people.agnes, 1, statuses[2], "carl"),
        AdvanceCommand(people.agnes, 1, statuses[1], "carl"),
        AdvanceCommand(people.carl, 1, statuses[2]),
        AdvanceCommand(people.agnes, 1, statuses[2], "cora"),
        AdvanceCommand(people.carl, 1, statuses[3]),
        AdvanceCommand(people.cora, 1, statuses[3]),
        AdvanceCommand(people.agnes, 1, statuses[4]),
    ]
    outcomes = batch(shop, steps)
    assert [outcome.status if isinstance(outcome, Order) else outcome.reason.slug for outcome in outcomes] == [  # type: ignore[attr-defined]
        "confirmed", "illegal_transition", "packed", "out_for_delivery", "out_for_delivery", "not_found", "packed",
        "cancelled",
    ]  # fmt: skip
    assert outcomes[-1] == without_code(shop.orders.get(people.alice, 1))
    assert stock(shop)["GPU-1"] == 10
    check_books(shop)


# delivery.confirm


@pytest.fixture
def code(shop: Shop, people: People) -> str:
    """That of order 1, which carl is on the way with."""
    order = shop.place(people.alice, GPU)
    shop.bring_to("out_for_delivery", 1, people.agnes, "carl")
    assert isinstance(order.delivery_code, str)
    return order.delivery_code


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


def test_the_code_delivers(shop: Shop, people: People, code: str) -> None:
    shop.events.clear()
    order = shop.confirm(people.carl, 1, code)
    assert (order.status, order.history[-1].by, order.delivery_code) == ("delivered", "carl", msgspec.UNSET)
    assert len(shop.events) == 1
    # The answer was lost on the way.
    assert shop.confirm(people.carl, 1, code) == order
    assert len(shop.events) == 1
    assert refusal(shop.confirm, people.carl, 1, wrong(code)) == illegal("delivered")


@pytest.mark.parametrize("status", ["placed", "confirmed", "packed", "returned", "cancelled"])
def test_nothing_to_confirm(shop: Shop, people: People, status: str) -> None:
    code = shop.place(people.alice, GPU).delivery_code
    assert isinstance(code, str)
    shop.bring_to(status, 1, people.adam, "carl")
    shop.sql(f"UPDATE orders SET courier_id = {people.carl.account_id}")
    allowed = {"packed": ["out_for_delivery"]}.get(status, [])
    for guess in (code, wrong(code)):
        assert refusal(shop.confirm, people.carl, 1, guess) == illegal(status, *allowed)
    assert shop.sql("SELECT wrong_codes FROM orders") == [(0,)]


def test_whose_delivery_it_is_not(shop: Shop, people: People, code: str) -> None:
    for stranger in (people.alice, people.bob, people.cora, people.agnes):
        assert refusal(shop.confirm, stranger, 1, code) == NOT_FOUND
    assert refusal(shop.confirm, people.carl, 2, code) == NOT_FOUND
    assert shop.confirm(people.adam, 1, code).status is OrderStatus.DELIVERED


def test_wrong_codes_lock_the_order_until_staff_looks(shop: Shop, people: People, code: str) -> None:
    version = shop.orders.get(people.alice, 1).version
    shop.events.clear()
    for guess, left in zip((wrong(code), "", "1" * 32, code + "0", "\uff11\uff12\uff13"), (4, 3, 2, 1, 0), strict=True):
        assert refusal(shop.confirm, people.carl, 1, guess) == (Reason.WRONG_CODE, {"tries_left": left})
    for guess in (code, wrong(code)):
        assert refusal(shop.confirm, people.carl, 1, guess) == (Reason.WRONG_CODE, {"tries_left": 0})
    assert shop.events == []
    assert shop.orders.get(people.alice, 1).version == version
    carl = people.carl.account_id
    assert actions(shop)[-5:] == [
        (carl, "delivery.wrong_code", "order:1", {"tries_left": left}) for left in (4, 3, 2, 1, 0)
    ]
    for session in (people.alice, people.carl):  # they are no staff
        shop.orders.get(session, 1)
    assert refusal(shop.confirm, people.carl, 1, code) == (Reason.WRONG_CODE, {"tries_left": 0})
    shop.orders.get(people.agnes, 1)
    assert [(actor, action) for actor, action, _, _ in actions(shop)[-2:]] == [
        (people.agnes.account_id, "order.viewed"),
        (people.agnes.account_id, "order.unlocked"),
    ]
    assert shop.confirm(people.carl, 1, code).status is OrderStatus.DELIVERED


def test_staff_that_advances_it_has_looked(shop: Shop, people: People, code: str) -> None:
    for _ in range(5):
        refusal(shop.confirm, people.carl, 1, wrong(code))
    # What is refused has no effect, nor has what the courier does himself.
    refusal(shop.advance, people.agnes, 1, "returned")
    refusal(shop.advance, people.adam, 1, "delivered")
    shop.advance(people.carl, 1, "packed")
    shop.advance(people.carl, 1, "out_for_delivery")
    assert refusal(shop.confirm, people.carl, 1, code) == (Reason.WRONG_CODE, {"tries_left": 0})
    shop.advance(None, 1, "out_for_delivery")
    assert actions(shop)[-2:] == [
        (None, "order.unlocked", "order:1", {"wrong_codes": 5, "by": "operator"}),
        (None, "order.viewed", "order:1", {"account": people.alice.account_id, "by": "operator"}),
    ]
    assert refusal(shop.confirm, people.carl, 1, wrong(code)) == (Reason.WRONG_CODE, {"tries_left": 4})
    shop.advance(people.agnes, 1, "packed")
    shop.advance(people.agnes, 1, "out_for_delivery")
    assert refusal(shop.confirm, people.carl, 1, wrong(code)) == (Reason.WRONG_CODE, {"tries_left": 4})


def test_guesses_of_one_batch_count(shop: Shop, people: People, code: str) -> None:
    guesses = [ConfirmCommand(people.carl, 1, wrong(code)) for _ in range(6)] + [ConfirmCommand(people.carl, 1, code)]
    outcomes = batch(shop, guesses)
    assert [outcome.data["tries_left"] for outcome in outcomes if isinstance(outcome, Refusal)] == [4, 3, 2, 1, 0, 0, 0]
    assert shop.sql("SELECT wrong_codes FROM orders") == [(5,)]


# Whoever it is


def test_accounts_that_are_disabled_or_gone(shop: Shop, people: People, code: str) -> None:
    calls = [
        (shop.edit, lambda session: (session, 1, 1, CABLE)),
        (shop.cancel, lambda session: (session, 1)),
        (shop.advance, lambda session: (session, 1, "packed")),
        (shop.confirm, lambda session: (session, 1, code)),
        (shop.orders.get, lambda session: (session, 1)),
    ]
    shop.sql("UPDATE accounts SET disabled = 1")
    for call, arguments in calls:
        assert refusal(call, *arguments(GONE)) == (Reason.NOT_LOGGED_IN, {})
        assert refusal(call, *arguments(people.adam)) == (Reason.DISABLED, {})


def test_the_role_that_counts_is_the_one_of_now(shop: Shop, people: People) -> None:
    shop.place(people.alice, GPU)
    shop.sql(f"UPDATE accounts SET role = 'customer' WHERE id = {people.agnes.account_id}")
    assert refusal(shop.advance, people.agnes, 1, "confirmed") == NOT_FOUND
    assert refusal(shop.cancel, people.agnes, 1) == NOT_FOUND
    assert refusal(shop.orders.get, people.agnes, 1) == NOT_FOUND


def test_a_batch_takes_the_same_statements_whatever_its_size(shop: Shop, people: People) -> None:
    for number in range(8):
        shop.place(people.alice, ("CABLE-1", 2), redeem=1 if number else None)
        shop.place(people.bob, ("CABLE-1", 2))

    def count(commands: Sequence[object]) -> int:
        counted = 0

        def run(tx: Transaction, batches: Sequence[Sequence[object]]) -> list[object]:
            nonlocal counted
            for name in ("_execute", "write"):
                whole = getattr(tx, name)

                def counting(*arguments: object, whole: object = whole) -> object:
                    nonlocal counted
                    counted += 1
                    return whole(*arguments)  # type: ignore[operator]

                setattr(tx, name, counting)
            try:
                methods = {UpdateCommand: shop.orders.update, AdvanceCommand: shop.orders.advance}
                return [methods.get(type(each[0]), shop.orders.cancel)(tx, each) for each in batches]  # type: ignore[operator]
            finally:
                for name in ("_execute", "write"):
                    delattr(tx, name)

        outcomes = shop.database.writer.call(run, commands)
        assert all(isinstance(outcome, Order) for outcome in outcomes)  # type: ignore[attr-defined]
        return counted

    # Both customers are in each: one statement reads what each of them has left of points.
    edits = [UpdateCommand((people.bob, people.alice)[n % 2], n, 1, [Line("CABLE-1", 1)], "x") for n in range(1, 17)]
    assert count(edits[:2]) == count(edits[2:])
    steps = [AdvanceCommand(people.agnes, n, OrderStatus.CONFIRMED, "carl", "x") for n in range(1, 17)]
    assert count(steps[:2]) == count(steps[2:])
    ends = [CancelCommand(None, n) for n in range(1, 17)]
    assert count(ends[:2]) == count(ends[2:])
    check_books(shop)
