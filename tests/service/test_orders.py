"""Placing, getting and listing orders."""

# ruff: noqa: S608 -- the values are these tests' own

import hashlib
import threading

import msgspec
import pytest
from service.shop import Shop, check_books

from securedelivery.errors import Reason, Refusal
from securedelivery.model import (
    AccountId,
    HistoryEntry,
    NextTier,
    Order,
    OrderLine,
    OrderStatus,
    Rewards,
    Role,
    timestamp,
)
from securedelivery.service.events import OrderChanged, RewardsChanged
from securedelivery.service.orders import cursor_of, without_code
from securedelivery.service.placement import MAX_LINES_TEXT
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session
from securedelivery.store import audit

GPU, CABLE = ("GPU-1", 1), ("CABLE-1", 3)


@pytest.fixture(autouse=True)
def _stocked(shop: Shop) -> None:
    shop.stock(("GPU-1", 60_000, 10), ("CABLE-1", 799, 1000), ("STICKER", 3, 1_000_000))


def refused(shop: Shop, session: Session, *lines: tuple[str, int], **more: object) -> tuple[Reason, dict[str, object]]:
    with pytest.raises(Refusal) as caught:
        shop.place(session, *lines, **more)
    return caught.value.reason, caught.value.data


def test_an_order(shop: Shop) -> None:
    alice = shop.customer("alice")
    order = shop.place(alice, GPU, CABLE)
    assert isinstance(order.delivery_code, str)
    assert order.delivery_code.isdigit()
    at = "2026-03-01T12:00:00.123456Z"
    assert order == Order(
        order=1,
        version=1,
        account="alice",
        status=OrderStatus.PLACED,
        lines=[
            OrderLine("GPU-1", "Product GPU-1", 1, 60_000, 60_000),
            OrderLine("CABLE-1", "Product CABLE-1", 3, 799, 2_397),
        ],
        subtotal=62_397,
        discount=0,
        total=62_397,
        currency="EUR",
        address="1 Road",
        points_earned=623,
        points_redeemed=0,
        courier=None,
        history=[HistoryEntry(OrderStatus.PLACED, at, "alice", None)],
        placed_at=at,
        changed_at=at,
        delivery_code=order.delivery_code,
    )
    assert shop.orders.get(alice, 1) == order
    assert shop.catalog.get("GPU-1").stock == 9
    assert shop.catalog.get("CABLE-1").stock == 997
    rewards = Rewards(623, "bronze", 1, NextTier("silver", 4))
    assert shop.rewards.get(alice) == rewards
    assert shop.events == [OrderChanged(alice.account_id, None, order), RewardsChanged(alice.account_id, rewards)]
    with shop.database.read() as tx:
        (_, entry, _), = audit.everything(tx)  # fmt: skip
    assert (entry.actor, entry.action, entry.subject) == (alice.account_id, "order.placed", "order:1")


def test_delivery_codes_are_of_six_digits_and_differ(shop: Shop) -> None:
    alice = shop.customer("alice")
    orders = shop.place_batch([shop.command(alice, ("STICKER", 1)) for _ in range(200)])
    codes = [order.delivery_code for order in orders if isinstance(order, Order)]
    assert all(isinstance(code, str) and len(code) == 6 and code.isdigit() for code in codes)
    assert len(set(codes)) > 190


def test_the_address_of_the_call_goes_before_the_accounts(shop: Shop) -> None:
    assert shop.place(shop.customer("alice"), GPU, address="2 Lane").address == "2 Lane"
    bob = shop.customer("bob", address=None)
    assert shop.place(bob, GPU, address="3 Lane").address == "3 Lane"
    assert refused(shop, bob, GPU) == (Reason.INVALID_PARAMS, {"path": "/address"})
    assert refused(shop, bob, GPU, address="  ") == (Reason.INVALID_PARAMS, {"path": "/address"})


def test_unknown_and_inactive_products(shop: Shop) -> None:
    alice = shop.customer("alice")
    assert refused(shop, alice, GPU, ("NONE", 1)) == (Reason.NOT_FOUND, {"sku": "NONE"})
    shop.sql("UPDATE products SET active = 0 WHERE sku = 'CABLE-1'")
    assert refused(shop, alice, GPU, CABLE) == (Reason.NOT_FOUND, {"sku": "CABLE-1"})
    assert shop.catalog.get("GPU-1").stock == 10
    assert shop.events == []


def test_the_same_sku_in_two_lines_is_one_line(shop: Shop) -> None:
    alice = shop.customer("alice")
    order = shop.place(alice, ("GPU-1", 2), CABLE, ("GPU-1", 3))
    assert [(line.sku, line.quantity) for line in order.lines] == [("GPU-1", 5), ("CABLE-1", 3)]
    expected = (Reason.OUT_OF_STOCK, {"sku": "GPU-1", "available": 5})
    assert refused(shop, alice, ("GPU-1", 3), ("GPU-1", 3)) == expected
    assert refused(shop, alice, ("STICKER", 9_000), ("STICKER", 1_001)) == (Reason.INVALID_PARAMS, {"path": "/lines"})
    assert shop.place(alice, ("STICKER", 9_000), ("STICKER", 1_000)).lines[0].quantity == 10_000


def test_the_sum_stays_a_number_that_json_can_carry(shop: Shop) -> None:
    shop.stock(*((f"DEAR-{n}", 2**51 - 1, 100) for n in range(3)))
    alice = shop.customer("alice")
    assert shop.place(alice, ("DEAR-0", 4)).total == 2**53 - 4
    assert refused(shop, alice, ("DEAR-0", 4), ("STICKER", 2)) == (Reason.INVALID_PARAMS, {"path": "/lines"})


def test_an_order_fits_a_frame(shop: Shop) -> None:
    """The largest of all: 100 long names that JSON writes with six bytes a character, and the longest address."""
    from service.shop import entry

    longest = "\u2028" * 95 + '"' * 2
    shop.catalog.import_products([entry(f"{n:064}", 2**40, 10_000, name=longest) for n in range(100)])
    alice = shop.customer("alice", address="\x01" * 500)
    assert refused(shop, alice, *((f"{n:064}", 1) for n in range(100))) == (Reason.INVALID_PARAMS, {"path": "/lines"})
    largest = max(count for count in range(1, 101) if count * len(msgspec.json.encode(("0" * 64, longest))) < 29_900)
    order = shop.place(alice, *((f"{n:064}", 10) for n in range(largest)))
    assert len(msgspec.json.encode(order)) < 45_000


@pytest.mark.parametrize("note", ["\x01" * 500, "\U0001f4e6" * 500, "n" * 500])
def test_an_order_with_the_longest_history_fits_a_frame(shop: Shop, note: str) -> None:
    """100 lines as long as they may be, the longest address, and 50 of the longest notes."""
    from service.shop import entry

    for room in range(300, 0, -1):
        products = [entry(f"{n:064}", 2**39, 10_000, name="\u2028" * (room // 3)) for n in range(100)]
        names = msgspec.json.encode([(product.sku, product.name) for product in products])
        if len(names) <= MAX_LINES_TEXT:
            break
    assert len(names) > MAX_LINES_TEXT - 1_000
    shop.catalog.import_products(products)
    longest = "longest" + "_" * 25
    alice, agnes = shop.customer(longest), shop.customer("agent" + "_" * 27, Role.AGENT)
    shop.customer("courier" + "_" * 25, Role.COURIER)
    order = shop.place(alice, *((product.sku, 100) for product in products), address="\x01" * 500)
    shop.bring_to("packed", 1, agnes, "", note)
    for _ in range(25):
        shop.advance(agnes, 1, "out_for_delivery", "courier" + "_" * 25, note)
        shop.advance(agnes, 1, "packed", None, note)
    order = shop.orders.get(alice, 1)
    assert len(msgspec.json.encode(order)) <= 65_472 - 512
    assert order.history[-1].note == note
    assert len(order.history) > 4
    assert len(msgspec.json.encode(order.history)) <= 18_000
    assert len(order.lines) == 100


@pytest.mark.parametrize("again", [{}, {"address": None}])
def test_the_same_key_again_gives_the_same_order(shop: Shop, again: dict[str, object]) -> None:
    alice = shop.customer("alice")
    order = shop.place(alice, GPU, CABLE, key="k")
    events = list(shop.events)
    assert shop.place(alice, GPU, CABLE, key="k", **again) == order
    assert shop.events == events
    assert shop.catalog.get("GPU-1").stock == 9
    assert shop.rewards.get(alice).order_count == 1


def test_the_same_key_gives_the_order_as_it_is_now(shop: Shop) -> None:
    alice, _ = shop.customer("alice"), shop.customer("bob", Role.COURIER)
    shop.place(alice, GPU, key="k")
    shop.bring_to("out_for_delivery", 1, shop.customer("agnes", Role.AGENT), "bob", "note")
    order = shop.place(alice, GPU, key="k")
    assert (order.status, order.version, order.courier) == (OrderStatus.OUT_FOR_DELIVERY, 4, "bob")
    assert [entry.status for entry in order.history] == ["placed", "confirmed", "packed", "out_for_delivery"]
    assert order.history[1] == HistoryEntry(OrderStatus.CONFIRMED, timestamp(shop.clock()), "agnes", "note")


@pytest.mark.parametrize(
    ("lines", "more"),
    [
        ([GPU], {}),
        ([CABLE, GPU], {}),
        ([("GPU-1", 2), CABLE], {}),
        ([GPU, CABLE], {"address": "1 Road"}),
        ([GPU, CABLE], {"redeem": 0}),
        ([GPU, CABLE], {"redeem": 1}),
        ([("NONE", 1)], {}),
    ],
)
def test_the_same_key_with_other_parameters(shop: Shop, lines: list[tuple[str, int]], more: dict[str, object]) -> None:
    alice = shop.customer("alice")
    shop.place(alice, GPU, CABLE, key="k")
    assert refused(shop, alice, *lines, key="k", **more) == (Reason.IDEMPOTENCY_CONFLICT, {})


def test_keys_are_an_accounts_own(shop: Shop) -> None:
    orders = [shop.place(shop.customer(name), GPU, key="k") for name in ("alice", "bob")]
    assert [order.order for order in orders] == [1, 2]


def test_a_refused_call_does_not_use_the_key_up(shop: Shop) -> None:
    alice = shop.customer("alice")
    assert refused(shop, alice, ("GPU-1", 11), key="k")[0] is Reason.OUT_OF_STOCK
    assert shop.place(alice, ("GPU-1", 10), key="k").order == 1


def test_within_a_batch_later_commands_see_earlier_ones(shop: Shop) -> None:
    alice, bob = shop.customer("alice"), shop.customer("bob")
    one, two, three, four, five = shop.place_batch(
        [
            shop.command(alice, ("GPU-1", 6), key="a"),
            shop.command(bob, ("GPU-1", 6), key="a"),
            shop.command(alice, ("GPU-1", 6), key="a"),
            shop.command(alice, ("GPU-1", 5), key="a"),
            shop.command(bob, ("GPU-1", 4), key="a"),
        ]
    )
    assert isinstance(one, Order)
    assert isinstance(two, Refusal)
    assert two.data == {"sku": "GPU-1", "available": 4}
    assert three is one
    assert isinstance(four, Refusal)
    assert four.reason is Reason.IDEMPOTENCY_CONFLICT
    assert isinstance(five, Order)
    assert (one.order, five.order) == (1, 2)
    assert shop.catalog.get("GPU-1").stock == 0


def test_within_a_batch_tiers_rise_and_points_are_there(shop: Shop) -> None:
    alice = shop.customer("alice")
    orders = shop.place_batch(
        [
            *[shop.command(alice, GPU) for _ in range(6)],
            shop.command(alice, GPU, redeem=3_100),
            shop.command(alice, GPU, redeem=10_000),
        ]
    )
    assert [order.points_earned for order in orders if isinstance(order, Order)] == [600] * 5 + [750, 556]
    assert isinstance(orders[6], Order)
    assert (orders[6].points_redeemed, orders[6].discount, orders[6].total) == (3_100, 15_500, 44_500)
    last = orders[7]
    assert isinstance(last, Refusal)
    balance = 5 * 600 + 750 - 3_100 + 556
    assert (last.reason, last.data) == (Reason.NOT_ENOUGH_POINTS, {"points": balance})
    assert shop.rewards.get(alice) == Rewards(balance, "silver", 7, NextTier("gold", 8))
    published = [event.rewards.order_count for event in shop.events if isinstance(event, RewardsChanged)]
    assert published == [1, 2, 3, 4, 5, 6, 7]
    check_books(shop)


def test_redemption(shop: Shop) -> None:
    alice = shop.customer("alice")
    assert refused(shop, alice, GPU, redeem=1) == (Reason.NOT_ENOUGH_POINTS, {"points": 0})
    assert shop.place(alice, GPU).points_earned == 600
    # Reduced to half the subtotal before the balance is looked at.
    order = shop.place(alice, CABLE, redeem=2**53 - 1)
    assert (order.points_redeemed, order.discount, order.total, order.points_earned) == (239, 1_195, 1_202, 12)
    assert refused(shop, alice, GPU, redeem=374) == (Reason.NOT_ENOUGH_POINTS, {"points": 373})
    assert shop.place(alice, GPU, redeem=373).points_redeemed == 373
    assert shop.place(alice, ("STICKER", 1), redeem=5).points_redeemed == 0
    check_books(shop)


def test_redemption_uses_the_oldest_lots_and_remembers_which(shop: Shop) -> None:
    alice = shop.customer("alice")
    for _ in range(3):
        shop.place(alice, ("CABLE-1", 10))  # 79 points each
        shop.clock.forward(days=30)
    shop.place(alice, GPU, redeem=100)
    assert shop.sql("SELECT entry, lot, points FROM points_uses ORDER BY lot") == [(4, 1, 79), (4, 2, 21)]
    assert shop.sql("SELECT entry, remaining FROM points_ledger WHERE remaining > 0 ORDER BY entry") == [
        (2, 58),
        (3, 79),
        (5, 595),
    ]
    expiries = [expiry for (expiry,) in shop.sql("SELECT expires_at FROM points_ledger WHERE reason = 'earned'")]
    assert [str(expiry)[:10] for expiry in expiries] == ["2027-03-01", "2027-03-31", "2027-04-30", "2027-05-30"]
    check_books(shop)


def test_points_whose_time_is_up_cannot_be_redeemed(shop: Shop) -> None:
    alice = shop.customer("alice")
    shop.place(alice, GPU)
    shop.clock.forward(days=200)
    shop.place(alice, ("CABLE-1", 10))
    shop.clock.forward(days=166)
    # The housekeeper has not been yet: the balance still counts them.
    assert shop.rewards.get(alice).points == 679
    assert refused(shop, alice, GPU, redeem=80) == (Reason.NOT_ENOUGH_POINTS, {"points": 79})
    assert shop.place(alice, GPU, redeem=79).points_redeemed == 79


def test_one_who_owes_points(shop: Shop) -> None:
    """After a reversal of points that were spent already."""
    alice = shop.customer("alice")
    shop.sql(f"INSERT INTO points_ledger VALUES (1, 1, NULL, 'reversed', -700, '{timestamp(shop.clock())}', NULL, 0)")
    shop.sql("UPDATE accounts SET points = -700, ledger_entries = 1")
    assert refused(shop, alice, GPU, redeem=1) == (Reason.NOT_ENOUGH_POINTS, {"points": 0})
    shop.place(alice, GPU)
    assert shop.rewards.get(alice).points == -100
    assert shop.sql("SELECT * FROM points_ledger WHERE remaining > 0") == []
    shop.place(alice, GPU)
    assert shop.sql("SELECT entry, remaining FROM points_ledger WHERE remaining > 0") == [(3, 500)]
    check_books(shop)


def test_a_shorter_expiry_lets_new_points_go_first(shop: Shop) -> None:
    from securedelivery.service.orders import Orders

    alice = shop.customer("alice")
    shop.place(alice, GPU)
    shorter = Orders(shop.database, shop.clock, RewardRules(expire_after_months=1), "EUR")
    commands = [shop.command(alice, GPU, redeem=1), shop.command(alice, GPU, redeem=700)]
    whole = lambda tx, batches: [shorter.place(tx, batch) for batch in batches]
    shop.database.writer.call(whole, commands)
    assert shop.sql("SELECT entry, lot, points FROM points_uses ORDER BY entry, lot") == [
        (2, 1, 1),
        (4, 1, 101),
        (4, 3, 599),
    ]
    check_books(shop)


def test_an_account_that_is_disabled_or_gone(shop: Shop) -> None:
    alice = shop.customer("alice")
    shop.sql("UPDATE accounts SET disabled = 1")
    assert refused(shop, alice, GPU) == (Reason.DISABLED, {})
    assert refused(shop, Session(AccountId(99), "nobody", Role.CUSTOMER), GPU) == (Reason.NOT_LOGGED_IN, {})


def test_a_constraint_that_is_hit_stops_one_order_alone(shop: Shop) -> None:
    """Were a rule here wrong, the database would still not have it."""
    alice, bob = shop.customer("alice"), shop.customer("bob")
    shop.sql(
        "CREATE TRIGGER no_bob BEFORE INSERT ON orders WHEN new.account_id = 2 BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    outcomes: dict[str, object] = {}
    done = threading.Semaphore(0)
    for session in (alice, bob, alice):
        command = shop.command(session, GPU)

        def answer(outcome: object, key: str = command.idempotency_key) -> None:
            outcomes[key] = outcome
            done.release()

        shop.database.writer.submit(shop.orders.place, command, answer)
    for _ in range(3):
        assert done.acquire(timeout=10)
    first, failed, second = outcomes.values()
    assert isinstance(first, Order)
    assert isinstance(second, Order)
    assert isinstance(failed, Exception)
    assert shop.catalog.get("GPU-1").stock == 8
    assert shop.rewards.get(bob).order_count == 0
    check_books(shop)


def test_fifty_at_once_with_one_key(shop: Shop) -> None:
    alice = shop.customer("alice")
    outcomes = together(lambda _: shop.place(alice, GPU, key="k"), 50)
    assert {order.order for order in outcomes if isinstance(order, Order)} == {1}
    assert len(outcomes) == 50
    assert shop.catalog.get("GPU-1").stock == 9


def test_a_hundred_buyers_and_one_unit(shop: Shop) -> None:
    shop.stock(("LAST", 100, 1))
    buyers = [shop.customer(f"buyer{n}") for n in range(100)]
    outcomes = together(lambda n: shop.place(buyers[n], ("LAST", 1), key="k"), 100)
    orders = [outcome for outcome in outcomes if isinstance(outcome, Order)]
    refusals = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    assert len(orders) == 1
    assert len(refusals) == 99
    assert all(each.reason is Reason.OUT_OF_STOCK and each.data["available"] == 0 for each in refusals)
    assert shop.catalog.get("LAST").stock == 0


def together(call: object, count: int) -> list[object]:
    outcomes: list[object] = []
    ready = threading.Barrier(count)

    def run(number: int) -> None:
        ready.wait()
        try:
            outcomes.append(call(number))  # type: ignore[operator]
        except Refusal as refusal:
            outcomes.append(refusal)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_who_may_see_an_order(shop: Shop) -> None:
    alice, bob = shop.customer("alice"), shop.customer("bob")
    courier, other = shop.customer("carl", Role.COURIER), shop.customer("cora", Role.COURIER)
    agent, admin = shop.customer("agnes", Role.AGENT), shop.customer("adam", Role.ADMIN)
    order = shop.place(alice, GPU)
    shop.sql(f"UPDATE orders SET courier_id = {courier.account_id}")
    order = msgspec.structs.replace(order, courier="carl")
    assert shop.orders.get(alice, 1) == order
    for session in (courier, agent, admin):
        assert shop.orders.get(session, 1) == without_code(order)
        assert b"delivery_code" not in msgspec.json.encode(shop.orders.get(session, 1))
    for session, number in ((bob, 1), (other, 1), (alice, 2), (admin, 2)):
        with pytest.raises(Refusal) as caught:
            shop.orders.get(session, number)
        assert caught.value.reason is Reason.NOT_FOUND


def numbers(shop: Shop, session: Session, **more: object) -> list[int]:
    """All pages of a list, two at a time."""
    found: list[int] = []
    after = None
    while True:
        items, following = shop.orders.list(session, after=after, limit=2, **more)  # type: ignore[arg-type]
        found += [order.order for order in items]
        assert len(items) <= 2
        if following is None:
            return found
        assert following == cursor_of(items[-1])
        after = following


def test_lists(shop: Shop) -> None:
    alice, bob, carl = shop.customer("alice"), shop.customer("bob"), shop.customer("carl", Role.COURIER)
    agent = shop.customer("agnes", Role.AGENT)
    for session in (alice, bob, alice, alice, bob, alice):
        shop.place(session, ("CABLE-1", 1))
        shop.clock.forward(seconds=10)
    shop.sql(f"UPDATE orders SET status = 'confirmed', courier_id = {carl.account_id} WHERE id IN (1, 2, 4)")
    assert numbers(shop, alice) == [6, 4, 3, 1]
    assert numbers(shop, alice, account="alice") == [6, 4, 3, 1]
    assert numbers(shop, bob) == [5, 2]
    assert numbers(shop, carl) == []
    assert numbers(shop, agent) == [6, 5, 4, 3, 2, 1]
    assert numbers(shop, agent, account="bob") == [5, 2]
    assert numbers(shop, agent, account="agnes") == []
    assert numbers(shop, agent, status=OrderStatus.CONFIRMED) == [4, 2, 1]
    assert numbers(shop, alice, status=OrderStatus.CONFIRMED) == [4, 1]
    since = {"changed_since": "2026-03-01T12:00:30.123456Z"}  # the time of order 4
    assert numbers(shop, agent, **since) == [6, 5, 4]
    assert numbers(shop, alice, **since) == [6, 4]
    assert numbers(shop, agent, status=OrderStatus.CONFIRMED, **since) == [4]
    assert numbers(shop, alice, status=OrderStatus.CONFIRMED, **since) == [4]
    assert numbers(shop, alice, changed_since="2026-03-01T12:00:30.123457Z") == [6]
    assert numbers(shop, alice, changed_since="2026-03-01T12:00:31Z") == [6]
    assert numbers(shop, alice, changed_since="2999-01-01T00:00:00+00:00") == []
    (newest, *_), _ = shop.orders.list(alice)
    assert newest == shop.orders.get(alice, 6)
    (newest, *_), _ = shop.orders.list(agent)
    assert newest == shop.orders.get(agent, 6)


def audited(shop: Shop) -> list[tuple[int | None, str, str | None, object]]:
    """What was written of reading, oldest first."""
    with shop.database.read() as tx:
        rows = [row.entry for row in audit.everything(tx) if row.entry.action in ("order.viewed", "orders.listed")]
    return [(row.actor, row.action, row.subject, msgspec.json.decode(str(row.detail))) for row in rows]


def seen(order: int) -> dict[str, int]:
    return {"orders": 1, "newest": order, "oldest": order}


def test_staff_that_looks_at_what_is_not_its_own_is_written_down(shop: Shop) -> None:
    alice, carl = shop.customer("alice"), shop.customer("carl", Role.COURIER)
    agnes, adam = shop.customer("agnes", Role.AGENT), shop.customer("adam", Role.ADMIN)
    shop.place(alice, GPU)
    shop.place(agnes, GPU)
    shop.sql(f"UPDATE orders SET courier_id = {carl.account_id}")
    shop.events.clear()
    for session in (alice, carl):
        shop.orders.get(session, 1)
        shop.orders.list(session)
    shop.orders.list(alice, account="alice")
    shop.orders.get(agnes, 2)
    shop.orders.list(agnes, account="agnes")
    shop.orders.deliveries(carl)
    for number in (3, 99):
        with pytest.raises(Refusal):
            shop.orders.get(adam, number)
    with pytest.raises(Refusal):
        shop.orders.list(adam, account="nobody")
    assert audited(shop) == []
    assert shop.orders.get(agnes, 1).account == "alice"
    assert shop.orders.get(None, 2).account == "agnes"
    shop.orders.list(agnes)
    shop.orders.list(adam, account="alice", status=OrderStatus.PLACED)
    shop.orders.list(None, account="agnes")
    shop.advance(agnes, 1, "placed")  # as it is: that is a look, too
    shop.orders.deliveries(adam)
    one, two = alice.account_id, agnes.account_id
    assert audited(shop) == [
        (agnes.account_id, "order.viewed", "order:1", {"account": one}),
        (None, "order.viewed", "order:2", {"account": two, "by": "operator"}),
        (agnes.account_id, "orders.listed", None, {"account": None, "orders": 2, "newest": 2, "oldest": 1}),
        (adam.account_id, "orders.listed", None, {"account": one, "status": "placed"} | seen(1)),
        (None, "orders.listed", None, {"account": two, "by": "operator"} | seen(2)),
        (agnes.account_id, "order.viewed", "order:1", {"account": one}),
        (adam.account_id, "orders.listed", None, {"deliveries": True}),
    ]
    assert shop.events == []
    check_books(shop)


def test_what_the_operator_sees(shop: Shop) -> None:
    alice = shop.customer("alice")
    order = without_code(shop.place(alice, GPU))
    assert shop.orders.get(None, 1) == order
    assert shop.orders.list(None) == ([order], None)
    assert shop.orders.list(None, account="alice", limit=1) == ([order], None)
    with pytest.raises(Refusal) as caught:
        shop.orders.get(None, 2)
    assert caught.value.reason is Reason.NOT_FOUND


def test_deliveries(shop: Shop) -> None:
    alice, agnes = shop.customer("alice"), shop.customer("agnes", Role.AGENT)
    carl, cora = shop.customer("carl", Role.COURIER), shop.customer("cora", Role.COURIER)
    for status in ("placed", "packed", "out_for_delivery", "packed", "cancelled", "packed"):
        order = shop.place(alice, ("CABLE-1", 1)).order
        shop.bring_to(status, order, agnes, "carl")
    for number in (2, 4):
        shop.advance(agnes, number, "packed", "carl")
    shop.advance(agnes, 6, "packed", "cora")
    found: list[int] = []
    after = None
    while True:
        items, after = shop.orders.deliveries(carl, after=after, limit=2)
        found += [order.order for order in items]
        if after is None:
            break
        assert after == cursor_of(items[-1])
    assert found == [4, 3, 2]
    (order,), _ = shop.orders.deliveries(cora)
    assert order == shop.orders.get(cora, 6)
    assert b"delivery_code" not in msgspec.json.encode(order)
    assert shop.orders.deliveries(alice) == ([], None)
    with pytest.raises(Refusal):
        shop.orders.deliveries(carl, after="nonsense")


def test_lists_of_others(shop: Shop) -> None:
    alice, agent = shop.customer("alice"), shop.customer("agnes", Role.AGENT)
    for session, account in ((alice, "agnes"), (alice, "nobody"), (agent, "nobody"), (None, "nobody")):
        with pytest.raises(Refusal) as caught:
            shop.orders.list(session, account=account)
        assert caught.value.reason is Reason.NOT_FOUND


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-03-01", "2026-03-01T12:00:00", "2026-03-01T12:00:00+01:00", "2026-02-30T12:00:00Z", "1"],
)
def test_times_that_are_none(shop: Shop, text: str) -> None:
    with pytest.raises(Refusal) as caught:
        shop.orders.list(shop.customer("alice"), changed_since=text)
    assert (caught.value.reason, caught.value.data) == (Reason.INVALID_PARAMS, {"path": "/changed_since"})


def test_a_cursor_of_another_list(shop: Shop) -> None:
    with pytest.raises(Refusal) as caught:
        shop.orders.list(shop.customer("alice"), after="cDpHUFUtMQ")
    assert caught.value.data == {"path": "/after"}


def test_the_newest_fifty_of_a_history(shop: Shop) -> None:
    alice, agnes = shop.customer("alice"), shop.customer("agnes", Role.AGENT)
    shop.customer("carl", Role.COURIER)
    shop.place(alice, GPU)
    shop.bring_to("packed", 1, agnes, "carl")
    for number in range(30):
        shop.advance(agnes, 1, "out_for_delivery", "carl", f"{number} out")
        order = shop.advance(agnes, 1, "packed", None, f"{number} back")
    history = shop.orders.get(alice, 1).history
    assert history == order.history
    assert [entry.note for entry in history] == [
        f"{number} {way}" for number in range(5, 30) for way in ("out", "back")
    ]
    assert order.version == 63


def test_a_fingerprint_is_for_ever(shop: Shop) -> None:
    """Keys of old orders are compared with those of today: this text may never change."""
    from securedelivery.service.placement import fingerprint

    alice = shop.customer("alice")
    whole = fingerprint(shop.command(alice, ("A-1", 2), ("B-2", 1), address="Straße 1", redeem=5))
    assert whole == hashlib.sha256('[[["A-1",2],["B-2",1]],"Straße 1",5]'.encode()).digest()
    assert fingerprint(shop.command(alice, GPU)) == hashlib.sha256(b'[[["GPU-1",1]],null,null]').digest()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE accounts SET disabled = 1 WHERE username = 'agnes'", Reason.DISABLED),
        ("UPDATE accounts SET role = 'customer' WHERE username = 'agnes'", Reason.FORBIDDEN),
        ("DELETE FROM accounts WHERE username = 'agnes'", Reason.NOT_LOGGED_IN),
    ],
)
def test_who_is_staff_no_more_lists_nothing(shop: Shop, change: str, reason: Reason) -> None:
    """Also while the connection has not heard of it."""
    agnes, adam = shop.customer("agnes", Role.AGENT), shop.customer("adam", Role.ADMIN)
    shop.place(shop.customer("alice"), GPU)
    assert shop.orders.deliveries(adam) == ([], None)
    shop.sql(change)
    for call in (lambda: shop.orders.list(agnes), lambda: shop.orders.deliveries(agnes)):
        with pytest.raises(Refusal) as caught:
            call()
        assert caught.value.reason is reason
