"""The operator's report, against sums made by hand."""

import msgspec
import pytest
from service.chat_room import Room
from service.shop import Shop, entry

from securedelivery.errors import Reason, Refusal
from securedelivery.model import DayFigures, Figures, LowStock, OrderStatus, Role, SoldProduct
from securedelivery.protocol.frames import MAX_PLAINTEXT
from securedelivery.service.figures import FiguresReport
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session


@pytest.fixture
def root(shop: Shop) -> Session:
    return shop.customer("root", Role.ADMIN)


def test_an_empty_shop(shop: Shop, root: Session) -> None:
    assert shop.figures.get(root, "2026-02-28", "2026-03-01") == Figures(
        orders=0,
        turnover=0,
        by_status=dict.fromkeys(OrderStatus, 0),
        by_day=[DayFigures("2026-02-28", 0, 0), DayFigures("2026-03-01", 0, 0)],
        best_sellers=[],
        low_stock=[],
        tiers={"bronze": 0, "silver": 0, "gold": 0, "platinum": 0},
        waiting=0,
    )


def test_what_was_sold(shop: Shop, root: Session) -> None:
    shop.stock(("A", 1000, 100), ("B", 250, 6), ("C", 10, 5), ("D", 1, 50))
    alice, bob = shop.customer("alice"), shop.customer("bob")
    shop.customer("courier", Role.COURIER)
    # The clock stands at 2026-03-01, noon.
    shop.place(alice, ("A", 2), ("B", 1))
    cancelled = shop.place(bob, ("A", 50))
    returned = shop.place(bob, ("C", 3))
    shop.clock.forward(hours=11, minutes=59, seconds=59, microseconds=876543)
    assert shop.clock.now.isoformat() == "2026-03-01T23:59:59.999999+00:00"
    shop.place(alice, ("B", 2))
    shop.clock.forward(microseconds=1)
    shop.place(bob, ("D", 40), redeem=0)
    shop.clock.forward(days=2)
    shop.place(bob, ("A", 1))
    shop.cancel(bob, cancelled.order)
    shop.bring_to("returned", returned.order, root, "courier")
    shop.catalog.import_products([entry("A", 999, 90, name="A anew")])
    assert shop.figures.get(root, "2026-03-01", "2026-03-04") == Figures(
        orders=4,
        turnover=2250 + 500 + 40 + 1000,
        by_status={**dict.fromkeys(OrderStatus, 0), "placed": 4, "cancelled": 1, "returned": 1},  # type: ignore[dict-item]
        by_day=[
            DayFigures("2026-03-01", 2, 2750),
            DayFigures("2026-03-02", 1, 40),
            DayFigures("2026-03-03", 0, 0),
            DayFigures("2026-03-04", 1, 1000),
        ],
        # Prices as they were, names as they are.
        best_sellers=[
            SoldProduct("D", "Product D", 40, 40),
            SoldProduct("A", "A anew", 3, 3000),
            SoldProduct("B", "Product B", 3, 750),
        ],
        low_stock=[LowStock("B", "Product B", 3), LowStock("C", "Product C", 5)],
        tiers={"bronze": 2, "silver": 0, "gold": 0, "platinum": 0},
        waiting=0,
    )
    only = shop.figures.get(None, "2026-03-02", "2026-03-02")
    assert (only.orders, only.turnover, only.by_day) == (1, 40, [DayFigures("2026-03-02", 1, 40)])
    assert [each.sku for each in only.best_sellers] == ["D"]


def test_points_take_off_the_turnover_and_not_the_lines(shop: Shop, root: Session) -> None:
    shop.stock(("A", 10_000, 100))
    alice = shop.customer("alice")
    shop.place(alice, ("A", 1))
    shop.place(alice, ("A", 1), redeem=100)
    figures = shop.figures.get(root, "2026-03-01", "2026-03-01")
    assert (figures.turnover, figures.best_sellers[0].turnover) == (19_500, 20_000)


def test_the_ten_that_sell_best(shop: Shop, root: Session) -> None:
    shop.stock(*((f"P{n:02}", 1, 1000) for n in range(1, 15)))
    alice = shop.customer("alice")
    shop.place(alice, *((f"P{n:02}", n if n < 13 else 3) for n in range(1, 15)))
    best = shop.figures.get(root, "2026-03-01", "2026-03-01").best_sellers
    expected = ["P12", "P11", "P10", "P09", "P08", "P07", "P06", "P05", "P04", "P03"]
    assert [each.sku for each in best] == expected  # of equals those that were there first


def test_what_runs_out(shop: Shop, root: Session) -> None:
    shop.stock(("A", 1, 2), ("B", 1, 0), ("C", 1, 3), ("D", 1, 2))
    shop.catalog.import_products([entry("OLD", 1, 0, active=False)])
    low = FiguresReport(shop.database, shop.clock, shop.rules, low_stock=2).get(root, "2026-03-01", "2026-03-01")
    assert [(each.sku, each.stock) for each in low.low_stock] == [("B", 0), ("A", 2), ("D", 2)]
    shop.stock(*((f"P{n:02}", 1, 1) for n in range(60)))
    low = shop.figures.get(root, "2026-03-01", "2026-03-01")
    assert len(low.low_stock) == 50
    assert [each.sku for each in low.low_stock[:3]] == ["B", "P00", "P01"]


def test_tiers_of_customers_who_can_buy(shop: Shop, root: Session) -> None:
    for number, orders in enumerate((0, 4, 5, 14, 15, 39, 40, 1000)):
        shop.customer(f"user{number}")
        shop.sql(f"UPDATE accounts SET order_count = {orders} WHERE username = 'user{number}'")  # noqa: S608 -- numbers
    shop.accounts.disable(None, "user0", disabled=True)
    shop.accounts.set_role(None, "user7", Role.COURIER)
    figures = shop.figures.get(root, "2026-03-01", "2026-03-01")
    assert figures.tiers == {"bronze": 1, "silver": 2, "gold": 2, "platinum": 1}


def test_who_waits(shop: Shop, root: Session) -> None:
    room = Room(shop)
    for name in ("alice", "bob"):
        room.say(room.person(name), "Hello?")
    room.say(room.person("agnes", Role.AGENT), "Yes?", 1)
    assert shop.figures.get(root, "2026-03-01", "2026-03-01").waiting == 1


@pytest.mark.parametrize(
    ("since", "until", "path"),
    [
        ("2026-02-30", "2026-03-01", "/from"),
        ("2026-03-01", "2026-13-01", "/to"),
        ("", "2026-03-01", "/from"),
        ("2026-3-1", "2026-03-01", "/from"),
        ("20260301", "2026-03-01", "/from"),
        ("2026-W09-7", "2026-03-01", "/from"),
        ("2026-03-01", "2026-03-01T00:00:00Z", "/to"),
        ("2026-03-02", "2026-03-01", "/to"),
        ("2025-03-01", "2026-03-02", "/to"),
        ("0000-01-01", "0000-01-02", "/from"),
    ],
)
def test_days_that_are_none(shop: Shop, root: Session, since: str, until: str, path: str) -> None:
    with pytest.raises(Refusal) as caught:
        shop.figures.get(root, since, until)
    assert (caught.value.reason, caught.value.data) == (Reason.INVALID_PARAMS, {"path": path})
    assert shop.sql("SELECT count(*) FROM audit") == [(0,)]


def test_the_longest_range_and_the_last_day(shop: Shop, root: Session) -> None:
    assert len(shop.figures.get(root, "2024-01-01", "2024-12-31").by_day) == 366
    assert [day.date for day in shop.figures.get(root, "9999-12-31", "9999-12-31").by_day] == ["9999-12-31"]


def test_who_looks_is_written_down(shop: Shop, root: Session) -> None:
    shop.figures.get(root, "2026-03-01", "2026-03-02")
    shop.figures.get(None, "2026-03-01", "2026-03-02")
    assert shop.sql("SELECT actor_id, action, subject, detail FROM audit ORDER BY id") == [
        (1, "report.viewed", None, '{"from":"2026-03-01","to":"2026-03-02","by":"admin"}'),
        (None, "report.viewed", None, '{"from":"2026-03-01","to":"2026-03-02","by":"operator"}'),
    ]


def test_it_fits_a_frame_whatever_the_sizes(shop: Shop, root: Session) -> None:
    """The longest texts that the protocol allows, in their longest encoding, and the largest sums."""
    name = "\U0001f4a9" * 199
    shop.catalog.import_products(
        [entry(f"{n:02}" + "\\" * 62, 90_000_000_000, 5, name=f"{name}{n % 10}") for n in range(60)]
    )
    alice = shop.customer("alice")
    for start in range(0, 60, 10):
        shop.place(alice, *((f"{n:02}" + "\\" * 62, 1) for n in range(start, start + 10)))
    most = 2**53 - 1
    placed_at = "printf('%s-%02d-%02dT00:00:00.000000Z', '2026', (id - 1) % 12 + 1, 1)"
    shop.sql(f"UPDATE orders SET subtotal = {most}, total = {most}, discount = 0, placed_at = {placed_at}")  # noqa: S608
    figures = shop.figures.get(root, "2026-01-01", "2026-12-31")
    assert figures.turnover == 6 * most
    assert len(figures.best_sellers) == 10
    assert 10 < len(figures.low_stock) < 50
    busiest = [DayFigures(day.date, most, most) for day in figures.by_day]
    worst = msgspec.structs.replace(figures, by_day=busiest)
    assert len(msgspec.json.encode(worst)) < MAX_PLAINTEXT - 2_000


def test_tiers_of_another_configuration(shop: Shop, root: Session) -> None:
    rules = msgspec.convert({"tiers": [{"name": "all", "orders": 0, "multiplier": "1"}]}, RewardRules)
    shop.customer("alice")
    report = FiguresReport(shop.database, shop.clock, rules)
    assert report.get(root, "2026-03-01", "2026-03-01").tiers == {"all": 1}
