"""Months summed up, against sums made by hand and by force; and which of them are queued, whatever happens."""

# ruff: noqa: S608, PLR0917 -- the values are these tests' own, and a row of a table has as many as it has

import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service.shop import Clock, Shop

from securedelivery.errors import ConfigurationError, Reason, Refusal
from securedelivery.model import AccountId, LowStock, MailRoute, MailState, OrderStatus, Role, SoldProduct, timestamp
from securedelivery.service import summaries as service
from securedelivery.service.months import Month, begin, later
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session
from securedelivery.service.summaries import (
    Bar,
    CustomerSummary,
    OperatorSummary,
    Order,
    PointsOfMonth,
    Queued,
    Summaries,
)
from securedelivery.store import accounts, outbox
from securedelivery.store.engine import Database, Transaction

MARCH = Month("2026-03")
BERLIN = ZoneInfo("Europe/Berlin")


def of(shop: Shop, zone: str = "UTC", *, hour: int = 8, operator: bool = True, low_stock: int = 5) -> Summaries:
    return Summaries(
        shop.database, shop.clock, shop.rules, zone=ZoneInfo(zone), hour=hour, low_stock=low_stock, operator=operator
    )


def use(shop: Shop, route: MailRoute = MailRoute.SUMMARIES) -> None:
    """As the server's settings have it from now on."""

    def run(tx: Transaction, routes: Sequence[MailRoute]) -> list[None]:
        return [outbox.use(tx, each, timestamp(shop.clock())) for each in routes]

    shop.database.writer.call(run, route)


def writable(shop: Shop, *sessions: Session, name: str | None = None) -> None:
    """Give them addresses, and a name."""

    def run(tx: Transaction, commands: Sequence[Sequence[Session]]) -> list[None]:
        for command in commands:
            rows = accounts.by_ids(tx, [session.account_id for session in command])
            accounts.change(tx, [row._replace(email=f"{row.username}@shop.test", name=name) for row in rows.values()])
        return [None for _ in commands]

    shop.database.writer.call(run, sessions)


def on(shop: Shop, moment: str) -> None:
    shop.clock.now = datetime.fromisoformat(moment).replace(tzinfo=UTC)


def mail(shop: Shop) -> list[tuple[object, ...]]:
    """(account, month), None for the operator's; each was queued once and waits."""
    rows = shop.sql(
        "SELECT u.username, o.period FROM outbox o LEFT JOIN accounts u ON u.id = o.account_id ORDER BY 2, 1"
    )
    assert shop.sql(
        "SELECT count(*) FROM outbox WHERE route <> 'summaries' OR state <> 'waiting' OR attempts + interrupted <> 0"
        " OR kind <> CASE WHEN account_id IS NULL THEN 'operator_summary' ELSE 'customer_summary' END"
        " OR due_at <> created_at OR node IS NOT NULL OR order_id IS NOT NULL OR up_to IS NOT NULL"
    ) == [(0,)]
    assert len(rows) == len(set(rows))
    return rows


# What a month was


def test_a_customer_who_did_nothing(shop: Shop) -> None:
    alice = shop.customer("alice")
    assert of(shop).customer(alice.account_id, MARCH) == CustomerSummary(
        customer="alice",
        account="alice",
        month=MARCH,
        time_zone="UTC",
        since="2026-03-01T00:00:00.000000Z",
        until="2026-04-01T00:00:00.000000Z",
        orders=0,
        spend=0,
        placed=[],
        refunds=0,
        refunded=0,
        undone=[],
        points=PointsOfMonth(0, 0, 0, 0, 0, 0),
        tier="bronze",
        bars=[Bar(Month(month), 0, 0) for month in ("2025-10", "2025-11", "2025-12", "2026-01", "2026-02", "2026-03")],
    )


def test_a_customers_month(shop: Shop) -> None:
    shop.stock(("A", 10_000, 100), ("B", 250, 100))
    alice, bob, root = shop.customer("alice"), shop.customer("bob"), shop.customer("root", Role.ADMIN)
    shop.customer("courier", Role.COURIER)
    on(shop, "2026-01-31T22:59:59.999999")  # January in Berlin still
    first = shop.place(alice, ("A", 1))
    on(shop, "2026-01-31T23:00:00")
    second = shop.place(alice, ("A", 2))
    shop.bring_to("delivered", second.order, root, "courier")
    on(shop, "2026-02-28T23:00:00")
    third = shop.place(alice, ("A", 1), ("B", 2), redeem=100)
    fourth = shop.place(alice, ("B", 4))
    shop.place(bob, ("A", 50))
    shop.clock.forward(days=3)
    shop.cancel(alice, fourth.order)
    shop.advance(root, second.order, "returned")
    shop.clock.forward(days=3)
    shop.advance(root, third.order, "confirmed")
    shop.advance(root, third.order, "packed")
    on(shop, "2026-03-31T21:59:59.999999")
    shop.cancel(alice, first.order)
    summaries = of(shop, "Europe/Berlin")
    march = CustomerSummary(
        customer="alice",
        account="alice",
        month=MARCH,
        time_zone="Europe/Berlin",
        since="2026-02-28T23:00:00.000000Z",
        until="2026-03-31T22:00:00.000000Z",
        orders=2,
        spend=10_500 - 500 + 1_000,
        placed=[
            Order(third.order, third.placed_at, OrderStatus.PACKED, 10_000),
            Order(fourth.order, fourth.placed_at, OrderStatus.CANCELLED, 1_000),
        ],
        refunds=3,
        refunded=1_000 + 20_000 + 10_000,
        undone=[
            Order(second.order, "2026-03-03T23:00:00.000000Z", OrderStatus.RETURNED, 20_000),
            Order(fourth.order, "2026-03-03T23:00:00.000000Z", OrderStatus.CANCELLED, 1_000),
            Order(first.order, "2026-03-31T21:59:59.999999Z", OrderStatus.CANCELLED, 10_000),
        ],
        points=PointsOfMonth(
            earned=100 + 10, spent=100, taken_back=10 + 200 + 100, given_back=0, expired=0, balance=0
        ),
        tier="bronze",
        bars=[Bar(Month(f"2025-{n}"), 0, 0) for n in (10, 11, 12)]
        + [Bar(Month("2026-01"), 1, 10_000), Bar(Month("2026-02"), 1, 20_000), Bar(MARCH, 2, 11_000)],
    )  # fmt: skip
    assert summaries.customer(alice.account_id, MARCH) == march
    # What comes afterwards does not change it: it is of another month.
    shop.clock.forward(microseconds=1)
    shop.cancel(root, third.order)
    shop.place(alice, ("B", 1))
    assert summaries.customer(alice.account_id, MARCH) == march
    april = summaries.customer(alice.account_id, later(MARCH, 1))
    assert (april.orders, april.spend, april.refunds, april.refunded) == (1, 250, 1, 10_000)
    assert april.points == PointsOfMonth(earned=2, spent=0, taken_back=100, given_back=100, expired=0, balance=2)
    assert [bar.amount for bar in april.bars] == [0, 0, 10_000, 20_000, 11_000, 250]


def test_points_that_expire_and_tiers(shop: Shop) -> None:
    shop.stock(("A", 10_000, 100))
    alice = shop.customer("alice")
    numbers = [shop.place(alice, ("A", 1)).order for _ in range(5)]
    on(shop, "2026-04-02T00:00:00")
    shop.cancel(alice, numbers[0])
    on(shop, "2027-03-01T12:00:01")
    shop.database.writer.call(shop.rewards.expire, None)
    summaries = of(shop)
    assert summaries.customer(alice.account_id, MARCH).tier == "silver"
    assert summaries.customer(alice.account_id, Month("2026-04")).tier == "bronze"
    points = summaries.customer(alice.account_id, Month("2027-03")).points
    assert points == PointsOfMonth(earned=0, spent=0, taken_back=0, given_back=0, expired=400, balance=0)


def test_a_customer_is_called_by_name(shop: Shop) -> None:
    alice = shop.customer("alice")
    writable(shop, alice, name="Alice Example")
    summary = of(shop).customer(alice.account_id, MARCH)
    assert (summary.customer, summary.account) == ("Alice Example", "alice")


def test_long_lists_end_with_the_newest(shop: Shop) -> None:
    shop.stock(("A", 100, 1_000))
    alice = shop.customer("alice")
    for _ in range(service.ORDERS_SHOWN + 3):
        shop.clock.forward(seconds=1)
        shop.cancel(alice, shop.place(alice, ("A", 1)).order)
    summary = of(shop).customer(alice.account_id, MARCH)
    shown = list(range(4, service.ORDERS_SHOWN + 4))
    assert [each.order for each in summary.placed] == [each.order for each in summary.undone] == shown
    assert (summary.orders, summary.refunds, summary.spend) == (53, 53, 5_300)


def test_an_empty_shop(shop: Shop) -> None:
    summary = of(shop).operator(MARCH)
    assert (summary.orders, summary.turnover, summary.refunds, summary.best_sellers) == (0, 0, 0, [])
    assert summary.by_status == dict.fromkeys(OrderStatus, 0)
    assert summary.now == timestamp(shop.clock())


def test_the_operators_month(shop: Shop) -> None:
    shop.stock(("A", 1_000, 100), ("B", 250, 6), ("C", 10, 7))
    alice, bob, root = shop.customer("alice"), shop.customer("bob"), shop.customer("root", Role.ADMIN)
    shop.customer("courier", Role.COURIER)
    on(shop, "2026-02-10T00:00:00")
    old = shop.place(bob, ("A", 10))
    shop.cancel(bob, shop.place(bob, ("A", 5)).order)
    on(shop, "2026-03-10T00:00:00")
    shop.place(alice, ("A", 2), ("B", 1))
    gone = shop.place(bob, ("A", 50))
    back = shop.place(bob, ("C", 3))
    stays = shop.place(alice, ("B", 2))
    shop.clock.forward(days=2)
    shop.cancel(bob, gone.order)
    shop.cancel(bob, old.order)
    shop.bring_to("returned", back.order, root, "courier")
    shop.advance(root, stays.order, "confirmed")
    on(shop, "2026-04-02T00:00:00")
    summaries = of(shop)
    march = summaries.operator(MARCH)
    assert march == OperatorSummary(
        month=MARCH,
        time_zone="UTC",
        since="2026-03-01T00:00:00.000000Z",
        until="2026-04-01T00:00:00.000000Z",
        orders=2,
        turnover=2_250 + 500,
        by_status={**dict.fromkeys(OrderStatus, 0), "placed": 1, "confirmed": 1, "cancelled": 1, "returned": 1},  # type: ignore[dict-item]
        refunds=3,
        refunded=50_000 + 10_000 + 30,
        earlier_refunds=1,
        earlier_refunded=10_000,
        best_sellers=[SoldProduct("B", "Product B", 3, 750), SoldProduct("A", "Product A", 2, 2_000)],
        low_stock=[LowStock("B", "Product B", 3)],
        now="2026-04-02T00:00:00.000000Z",
        bars=[Bar(Month(month), 0, 0) for month in ("2025-10", "2025-11", "2025-12", "2026-01")]
        + [Bar(Month("2026-02"), 1, 10_000), Bar(MARCH, 2, 2_750)],
    )
    # As the operator's report had it, before anything was changed afterwards.
    report = shop.figures.get(None, "2026-03-01", "2026-03-31")
    assert (report.orders, report.turnover, report.by_status) == (march.orders, march.turnover, march.by_status)
    assert (report.best_sellers, report.low_stock) == (march.best_sellers, march.low_stock)
    shop.cancel(alice, stays.order)
    shop.advance(root, 3, "confirmed")
    assert msgspec.structs.replace(summaries.operator(MARCH), low_stock=march.low_stock) == march
    april = summaries.operator(Month("2026-04"))
    assert (april.orders, april.earlier_refunds, april.earlier_refunded) == (0, 1, 500)


# By force

STEPS = ("advance", "cancel", "deliver", "return", "edit")
ZONES = ("UTC", "Europe/Berlin", "Pacific/Kiritimati", "America/St_Johns", "Etc/GMT+12")


@contextmanager
def temporary_shop() -> Iterator[Shop]:
    with tempfile.TemporaryDirectory() as folder, Database.open(f"sqlite:///{folder}/shop.db") as database:
        yield Shop(database, Clock(), RewardRules(), Path(folder) / "names.txt")


moves = st.tuples(
    st.sampled_from((0, 1, 3_600, 86_400 * 3, 86_400 * 9, 86_400 * 31, 86_400 * 100)),  # seconds
    st.sampled_from(("place", "place", "place", "redeem", *STEPS)),
    st.integers(0, 10),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(zone=st.sampled_from(ZONES), start=st.integers(0, 86_400), history=st.lists(moves, max_size=25))
def test_against_sums_by_force(zone: str, start: int, history: list[tuple[int, str, int]]) -> None:
    with temporary_shop() as shop:
        people = [shop.customer("alice"), shop.customer("bob")]
        root = shop.customer("root", Role.ADMIN)
        shop.customer("courier", Role.COURIER)
        shop.stock(("A", 1_234, 10_000), ("B", 77_000, 10_000))
        shop.clock.now = datetime(2026, 2, 28, 12, tzinfo=UTC) + timedelta(seconds=start)
        first = shop.clock.now
        for seconds, move, which in history:
            shop.clock.forward(seconds=seconds)
            shop.database.writer.call(shop.rewards.expire, None)
            perform(shop, people, root, move, which)
        summaries = of(shop, zone)
        month = later(Month(first.strftime("%Y-%m")), -1)
        last = Month(shop.clock.now.strftime("%Y-%m"))
        seen = 0
        while month <= later(last, 1):
            seen += check_month(shop, summaries, people, month, ZoneInfo(zone))
            month = later(month, 1)
        assert seen == shop.sql("SELECT count(*) FROM orders")[0][0]


def perform(shop: Shop, people: list[Session], root: Session, move: str, which: int) -> None:
    """Whatever is refused is not done."""
    try:
        if move in ("place", "redeem"):
            redeem = 30 if move == "redeem" else None
            shop.place(people[which % 2], ("AB"[which % 3 // 2], which + 1), redeem=redeem)
        else:
            numbers = shop.sql("SELECT id, version, status, account_id FROM orders ORDER BY id DESC")
            number, version, status, account = numbers[which % len(numbers)] if numbers else (99, 1, "placed", 0)
            step(shop, root, move, number, version, status, account)  # type: ignore[arg-type]
    except Refusal:
        pass


def step(shop: Shop, root: Session, move: str, number: int, version: int, status: str, account: int) -> None:
    if move == "advance":
        following = {"placed": "confirmed", "confirmed": "packed", "packed": "out_for_delivery"}.get(status, status)
        shop.advance(root, number, following, "courier" if following == "out_for_delivery" else None)
    elif move == "cancel":
        shop.cancel(root, number)
    elif move == "deliver":
        shop.advance(root, number, "delivered", note="left at the door")
    elif move == "return":
        shop.bring_to("returned", number, root, "courier")
    else:
        shop.edit(Session(AccountId(account), "anyone", Role.CUSTOMER), number, version, ("A", 3))


def check_month(shop: Shop, summaries: Summaries, people: list[Session], month: Month, zone: ZoneInfo) -> int:
    """How many orders were placed within it."""
    inside = lambda at: begin(month, zone) <= datetime.fromisoformat(at) < begin(later(month, 1), zone)
    before_end = lambda at: datetime.fromisoformat(at) < begin(later(month, 1), zone)
    orders = shop.sql("SELECT id, account_id, placed_at, total FROM orders")
    changes = shop.sql("SELECT order_id, status, at FROM order_history ORDER BY order_id, entry")
    at_end = {number: "placed" for number, *_ in orders} | {
        number: status for number, status, at in changes if before_end(at)
    }
    placed = [row for row in orders if inside(row[2])]
    undone = [
        row for row in orders for number, status, at in changes
        if number == row[0] and status in ("cancelled", "returned") and inside(at)
    ]  # fmt: skip
    ledger = shop.sql("SELECT account_id, reason, points, at FROM points_ledger")
    for person in people:
        summary = summaries.customer(person.account_id, month)
        own = [row for row in placed if row[1] == person.account_id]
        assert (summary.orders, summary.spend) == (len(own), sum(row[3] for row in own))  # type: ignore[misc]
        assert [(one.order, one.at, one.status, one.total) for one in summary.placed] == sorted(
            [(row[0], row[2], at_end[row[0]], row[3]) for row in own], key=lambda one: (one[1], one[0])  # type: ignore[arg-type, return-value]
        )  # fmt: skip
        back = [row for row in undone if row[1] == person.account_id]
        assert (summary.refunds, summary.refunded) == (len(back), sum(row[3] for row in back))  # type: ignore[misc]
        assert sorted(one.order for one in summary.undone) == sorted(row[0] for row in back)  # type: ignore[type-var]
        moved: Counter[object] = Counter()
        for account, reason, points, at in ledger:
            if account == person.account_id and inside(at):
                moved[reason] += abs(points)  # type: ignore[arg-type]
        names = ("earned", "redeemed", "reversed", "returned", "expired")
        assert summary.points == PointsOfMonth(
            *(moved[name] for name in names),
            sum(row[2] for row in ledger if row[0] == person.account_id and before_end(row[3])),  # type: ignore[misc]
        )
        counting = [
            row for row in orders
            if row[1] == person.account_id and before_end(row[2]) and at_end[row[0]] not in ("cancelled", "returned")
        ]  # fmt: skip
        assert summary.tier == shop.rules.tier(len(counting)).name
        assert summary.bars[-1] == Bar(month, summary.orders, summary.spend)
        assert summary.bars[:-1] == summaries.customer(person.account_id, later(month, -1)).bars[1:]
    check_shop(shop, summaries, month, placed, undone, at_end)
    return len(placed)


def check_shop(
    shop: Shop, summaries: Summaries, month: Month, placed: list[Any], undone: list[Any], at_end: dict[Any, Any]
) -> None:
    summary = summaries.operator(month)
    sold = [row for row in placed if at_end[row[0]] not in ("cancelled", "returned")]
    assert (summary.orders, summary.turnover) == (len(sold), sum(row[3] for row in sold))
    statuses = Counter(at_end[row[0]] for row in placed)
    assert summary.by_status == {status: statuses[status] for status in OrderStatus}
    assert (summary.refunds, summary.refunded) == (len(undone), sum(row[3] for row in undone))
    earlier = [row for row in undone if row[2] < summary.since]
    assert (summary.earlier_refunds, summary.earlier_refunded) == (len(earlier), sum(row[3] for row in earlier))
    numbers = {row[0] for row in sold}
    quantities: Counter[object] = Counter()
    amounts: Counter[object] = Counter()
    for number, sku, quantity, total in shop.sql("SELECT order_id, sku, quantity, total FROM order_lines"):
        if number in numbers:
            quantities[sku] += quantity  # type: ignore[arg-type]
            amounts[sku] += total  # type: ignore[arg-type]
    best = sorted(quantities, key=lambda sku: (-quantities[sku], sku))
    assert [(one.sku, one.quantity, one.turnover) for one in summary.best_sellers] == [
        (sku, quantities[sku], amounts[sku]) for sku in best
    ]
    assert summary.bars[-1] == Bar(month, summary.orders, summary.turnover)
    assert summary.bars[:-1] == summaries.operator(later(month, -1)).bars[1:]
    for account in {row[1] for row in (*placed, *undone)}:
        with shop.database.read() as tx:
            assert service.summaries.active(tx, [account], summary.since, summary.until) == [account]


# Which are queued


@pytest.fixture
def busy(shop: Shop) -> Shop:
    """alice, bob and cyd have each ordered in March; they can be written to. It is 1 March, and summaries are sent."""
    shop.stock(("A", 1_000, 1_000))
    people = [shop.customer(name) for name in ("alice", "bob", "cyd")]
    writable(shop, *people)
    use(shop)
    for person in people:
        shop.place(person, ("A", 1))
    return shop


EVERYBODY = [(None, "2026-03"), ("alice", "2026-03"), ("bob", "2026-03"), ("cyd", "2026-03")]


def test_nothing_is_queued_where_none_are_sent(shop: Shop) -> None:
    alice = shop.customer("alice")
    writable(shop, alice)
    shop.stock(("A", 1_000, 1_000))
    shop.place(alice, ("A", 1))
    use(shop, MailRoute.RECEIPTS)
    on(shop, "2026-05-01T08:00")
    assert of(shop).queue_due() == 0
    assert (mail(shop), shop.sql("SELECT * FROM mail_months")) == ([], [])


def test_when_a_month_is_queued(busy: Shop) -> None:
    summaries = of(busy, "Europe/Berlin", hour=9)
    on(busy, "2026-04-01T06:59:59.999999")
    assert (summaries.queue_due(), mail(busy)) == (0, [])
    busy.clock.forward(microseconds=1)
    assert (summaries.queue_due(), mail(busy)) == (4, EVERYBODY)
    assert busy.sql("SELECT * FROM mail_months") == [("2026-03", "2026-04-01T07:00:00.000000Z")]
    assert [summaries.queue_due() for _ in range(2)] == [0, 0]
    busy.clock.forward(days=20)
    assert (summaries.queue_due(), mail(busy)) == (0, EVERYBODY)


def test_without_an_operator(busy: Shop) -> None:
    on(busy, "2026-04-01T08:00")
    assert (of(busy, operator=False).queue_due(), mail(busy)) == (3, EVERYBODY[1:])
    # One who is named later gets what comes.
    assert (of(busy).queue_due(), mail(busy)) == (0, EVERYBODY[1:])


def test_old_months_are_nobodys_news(shop: Shop) -> None:
    alice = shop.customer("alice")
    writable(shop, alice)
    shop.stock(("A", 1_000, 1_000))
    for _ in range(5):
        shop.place(alice, ("A", 1))
        shop.clock.forward(days=30)
    use(shop)  # on 29 July
    assert of(shop).queue_due() == 0
    on(shop, "2026-08-01T08:00")
    assert (of(shop).queue_due(), mail(shop)) == (1, [(None, "2026-07")])


def test_a_downtime_of_some_months(busy: Shop) -> None:
    alice = Session(AccountId(1), "alice", Role.CUSTOMER)
    for month in ("04", "06"):
        on(busy, f"2026-{month}-15T00:00")
        busy.place(alice, ("A", 1))
    on(busy, "2026-07-15T00:00")
    assert of(busy).queue_due() == 4 + 2 + 1 + 2
    assert mail(busy) == [
        *EVERYBODY, (None, "2026-04"), ("alice", "2026-04"), (None, "2026-05"), (None, "2026-06"), ("alice", "2026-06"),
    ]  # fmt: skip
    assert [month for month, _ in busy.sql("SELECT * FROM mail_months")] == [f"2026-{n:02}" for n in range(3, 7)]


def test_a_downtime_of_years(busy: Shop) -> None:
    on(busy, "2029-01-15T00:00")
    assert of(busy).queue_due() == 12
    assert mail(busy) == [(None, f"2028-{month:02}") for month in range(1, 13)]


@pytest.mark.parametrize(
    "change",
    [
        "mail_summaries = 0",
        "email = NULL",
        "disabled = 1",
        "deleted_at = '2026-03-20T00:00:00.000000Z', disabled = 1, email = NULL",
    ],
)
def test_who_gets_none(busy: Shop, change: str) -> None:
    busy.sql(f"UPDATE accounts SET {change} WHERE username = 'bob'")
    on(busy, "2026-04-01T08:00")
    assert (of(busy).queue_due(), mail(busy)) == (3, [each for each in EVERYBODY if each[0] != "bob"])
    busy.sql("UPDATE accounts SET mail_summaries = 1, email = x'00', disabled = 0, deleted_at = NULL")
    assert (of(busy).queue_due(), len(mail(busy))) == (0, 3)  # who changes his mind gets the next one


@pytest.mark.parametrize("what", ["order", "cancelled", "returned", "without points", "expired", "edited", "nothing"])
def test_whose_month_is_told_of(shop: Shop, what: str) -> None:
    shop.stock(("A", 1_000, 1_000), ("B", 99, 1_000))
    alice, root = shop.customer("alice"), shop.customer("root", Role.ADMIN)
    shop.customer("courier", Role.COURIER)
    writable(shop, alice)
    on(shop, "2025-03-10T00:00")
    order = shop.place(alice, ("B" if what == "without points" else "A", 1))
    if what == "returned":
        shop.bring_to("delivered", order.order, root, "courier")
    on(shop, "2026-03-10T00:00")
    if what != "nothing":
        shop.database.writer.call(shop.rewards.expire, None)
    {
        "order": lambda: shop.place(alice, ("A", 1)),
        "cancelled": lambda: shop.cancel(alice, order.order),
        "without points": lambda: shop.cancel(alice, order.order),
        "returned": lambda: shop.advance(root, order.order, "returned"),
        "edited": lambda: shop.edit(alice, order.order, 1, ("A", 2)),
    }.get(what, lambda: None)()
    use(shop)
    on(shop, "2026-04-01T08:00")
    of(shop).queue_due()
    assert mail(shop) == [(None, "2026-03"), *([("alice", "2026-03")] if what != "nothing" else [])]


class Killed(Exception):  # noqa: N818 -- what a test does
    pass


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(6))
def test_killed_at_any_point(busy: Shop, monkeypatch: pytest.MonkeyPatch, at: int, after: bool) -> None:
    """Before or behind any commit; each portion is one account."""
    monkeypatch.setattr(service, "ACCOUNTS_AT_ONCE", 1)
    on(busy, "2026-04-01T08:00")
    real = busy.database.writer.call
    calls = 0

    def call(batch: Callable[..., Any], command: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at + 1 and not after:
            raise Killed
        found = real(batch, command)
        if calls == at + 1:
            raise Killed
        return found

    monkeypatch.setattr(busy.database.writer, "call", call)
    if at < 4:  # three portions, and the end
        with pytest.raises(Killed):
            of(busy).queue_due()
        monkeypatch.undo()
        monkeypatch.setattr(service, "ACCOUNTS_AT_ONCE", 1)
        before = shop_rows(busy)
        assert before == at + after
        assert of(busy).queue_due() == 4 - before
    else:
        assert of(busy).queue_due() == 4
    monkeypatch.undo()
    assert mail(busy) == EVERYBODY
    assert len(busy.sql("SELECT * FROM mail_months")) == 1


QUEUEING = """
import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo
from securedelivery.service import summaries
from securedelivery.service.rewards import RewardRules
from securedelivery.store.engine import Database

summaries.ACCOUNTS_AT_ONCE = 2
with Database.open(sys.argv[1]) as database:
    summaries.Summaries(
        database, lambda: datetime(2026, 6, 1, 8, tzinfo=UTC), RewardRules(),
        zone=ZoneInfo("UTC"), hour=8, low_stock=5, operator=True,
    ).queue_due(lambda: print(flush=True))
"""


def test_processes_that_are_killed(shop: Shop) -> None:
    """Each a little later than the one before; what they leave is whole, and nothing comes twice."""
    shop.stock(("A", 1_000, 1_000))
    people = [shop.customer(f"person{number}") for number in range(9)]
    writable(shop, *people)
    use(shop)
    for month in ("03", "04", "05"):
        on(shop, f"2026-{month}-10T00:00")
        for person in people:
            shop.place(person, ("A", 1))
    counts = []
    for portions in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", QUEUEING, f"sqlite:///{shop.database.path}"], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            for _ in range(portions):
                assert process.stdout.readline() == b"\n"
            process.kill()
            assert process.wait(30) in (-signal.SIGKILL, 0)
        counts.append(len(mail(shop)))
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
    on(shop, "2026-06-01T08:00")
    of(shop).queue_due()
    everybody = [None, *(person.username for person in people)]
    assert mail(shop) == [(name, f"2026-{month}") for month in ("03", "04", "05") for name in everybody]


def shop_rows(shop: Shop) -> int:
    return int(shop.sql("SELECT count(*) FROM outbox")[0][0])  # type: ignore[call-overload]


def test_beside_itself(busy: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one is at the same portion, and commits first."""
    monkeypatch.setattr(service, "ACCOUNTS_AT_ONCE", 2)
    on(busy, "2026-04-01T08:00")
    other = of(busy)
    real = busy.database.writer.call
    ran = []

    def call(batch: Callable[..., Any], command: Any) -> Any:
        monkeypatch.setattr(busy.database.writer, "call", real)
        ran.append(other.queue_due())
        return real(batch, command)

    monkeypatch.setattr(busy.database.writer, "call", call)
    assert of(busy).queue_due() == 0
    assert (ran, mail(busy)) == ([4], EVERYBODY)
    assert len(busy.sql("SELECT * FROM mail_months")) == 1


def test_others_have_their_turn_between_portions(busy: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "ACCOUNTS_AT_ONCE", 2)
    on(busy, "2026-04-01T08:00")
    turns = iter([False, True])
    assert of(busy).queue_due(lambda: next(turns)) == 3
    assert mail(busy) == EVERYBODY[1:]
    assert (of(busy).queue_due(), mail(busy)) == (1, EVERYBODY)


def test_exactly_a_portion(busy: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "ACCOUNTS_AT_ONCE", 3)
    on(busy, "2026-04-01T08:00")
    assert (of(busy).queue_due(), mail(busy)) == (4, EVERYBODY)


def test_the_database_is_not_held_up(busy: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each portion is a transaction of its own, and the writer does something else between two."""
    monkeypatch.setattr(service, "ACCOUNTS_AT_ONCE", 1)
    on(busy, "2026-04-01T08:00")
    counts = []

    def between() -> bool:
        counts.append(shop_rows(busy))
        return False

    of(busy).queue_due(between)
    assert counts == [1, 2, 3, 3]  # the last finds nobody


# For the operator at the machine


def noted(shop: Shop) -> list[tuple[object, ...]]:
    return shop.sql("SELECT actor_id, action, subject, detail FROM audit WHERE action LIKE 'report.%' ORDER BY id")


def test_a_look_is_noted(busy: Shop) -> None:
    summaries = of(busy)
    seen = summaries.view("2026-03", "alice")
    assert isinstance(seen, CustomerSummary)
    assert (seen, seen.orders) == (summaries.customer(AccountId(1), MARCH), 1)
    assert summaries.view("2026-02", None) == summaries.operator(Month("2026-02"))
    assert noted(busy) == [
        (None, "report.viewed", "account:1", '{"month":"2026-03","by":"operator"}'),
        (None, "report.viewed", None, '{"month":"2026-02","by":"operator"}'),
    ]
    assert mail(busy) == []


@pytest.mark.parametrize(
    ("month", "account", "reason", "data", "words"),
    [
        ("2026-3", None, Reason.INVALID_PARAMS, {"path": "/month"}, "not a month like 2026-10"),
        ("2026-05", None, Reason.INVALID_PARAMS, {"path": "/month"}, "2026-05 has not begun"),
        ("2026-03", "dora", Reason.NOT_FOUND, {}, "there is no account dora"),
    ],
)
def test_what_there_is_not(
    busy: Shop, month: str, account: str | None, reason: Reason, data: dict[str, str], words: str
) -> None:
    on(busy, "2026-04-01T00:00")
    for ask in (of(busy).view, of(busy).queue):
        with pytest.raises(Refusal, match=words) as refused:
            ask(month, account)
        assert (refused.value.reason, refused.value.data) == (reason, data)
    assert (noted(busy), mail(busy)) == ([], [])


def test_queued_by_hand(busy: Shop) -> None:
    summaries = of(busy)
    on(busy, "2026-04-01T00:00")
    assert summaries.last_whole() == "2026-03"
    now = timestamp(busy.clock())
    assert summaries.queue("2026-03", "bob") == Queued(1, MARCH, MailState.WAITING, True, 0, now)
    assert summaries.queue("2026-03", None) == Queued(2, MARCH, MailState.WAITING, True, 0, now)
    assert noted(busy) == [
        (None, "report.queued", "account:2", '{"month":"2026-03","by":"operator"}'),
        (None, "report.queued", None, '{"month":"2026-03","by":"operator"}'),
    ]
    busy.clock.forward(hours=8)
    assert (summaries.queue_due(), mail(busy)) == (2, EVERYBODY)


@pytest.mark.parametrize("state", [MailState.WAITING, MailState.SENDING, MailState.SENT, MailState.FAILED])
@pytest.mark.parametrize("account", ["bob", None])
def test_what_is_there_already_stays(busy: Shop, state: MailState, account: str | None) -> None:
    summaries = of(busy)
    on(busy, "2026-04-01T08:00")
    first = summaries.queue("2026-03", account)
    node = "'here'" if state is MailState.SENDING else "NULL"
    busy.sql(
        f"UPDATE outbox SET state = '{state}', node = {node}, attempts = 3, due_at = '2026-04-01T09:00:00.000000Z'"
    )
    again = Queued(first.number, MARCH, state, False, 3, "2026-04-01T09:00:00.000000Z")
    assert summaries.queue("2026-03", account) == again
    assert (shop_rows(busy), len(noted(busy))) == (1, 1)


def test_what_was_not_wanted_can_be_wanted_after_all(busy: Shop) -> None:
    summaries = of(busy)
    on(busy, "2026-04-01T08:00")
    first = summaries.queue("2026-03", "bob")
    busy.sql("UPDATE outbox SET state = 'withdrawn', attempts = 1, answer = x'00'")
    busy.clock.forward(days=1)
    now = timestamp(busy.clock())
    assert summaries.queue("2026-03", "bob") == Queued(first.number, MARCH, MailState.WAITING, True, 0, now)
    assert busy.sql("SELECT state, attempts, due_at, answer FROM outbox") == [("waiting", 0, now, None)]


@pytest.mark.parametrize(
    ("change", "words", "field"),
    [
        ("mail_summaries = 0", "bob wants no summaries", "mail"),
        ("email = NULL", "bob has given no e-mail address", "email"),
        ("disabled = 1", "bob is disabled", "disabled"),
    ],
)
def test_who_cannot_be_written_to(busy: Shop, change: str, words: str, field: str) -> None:
    busy.sql(f"UPDATE accounts SET {change} WHERE username = 'bob'")
    on(busy, "2026-04-01T08:00")
    with pytest.raises(Refusal, match=words) as refused:
        of(busy).queue("2026-03", "bob")
    assert refused.value.data == {"path": "/account", "field": field}
    assert mail(busy) == []


def test_a_month_that_is_not_over_can_be_seen_but_not_sent(busy: Shop) -> None:
    summaries = of(busy)
    on(busy, "2026-03-31T23:59")
    assert not summaries.is_over(MARCH)
    assert isinstance(summaries.view("2026-03", None), OperatorSummary)
    with pytest.raises(Refusal, match="2026-03 is not over") as refused:
        summaries.queue("2026-03", None)
    assert refused.value.data == {"path": "/month"}
    busy.clock.forward(minutes=1)
    assert summaries.is_over(MARCH)


def test_what_has_to_be_set_up(shop: Shop) -> None:
    on(shop, "2026-04-01T08:00")
    with pytest.raises(ConfigurationError, match="the server sends no summaries") as wrong:
        of(shop).queue("2026-03", None)
    assert (wrong.value.key, wrong.value.hint != "") == ("mail.summaries", True)
    use(shop)
    with pytest.raises(ConfigurationError, match="nobody is named") as wrong:
        of(shop, operator=False).queue("2026-03", None)
    assert (wrong.value.key, wrong.value.hint != "") == ("mail.operator", True)
    assert mail(shop) == []
