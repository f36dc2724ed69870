"""Random histories of orders, against a model that does one thing after the other in plain Python.

The model knows every single point by the day on which it expires. Nothing of it is taken from the code that it tests,
but the table of transitions, which is written by hand in test_transitions.
"""

# ruff: noqa: S608 -- the values are these tests' own

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, event, example, given, settings
from hypothesis import strategies as st
from service.shop import Clock, Line, Shop, check_books, entry
from service.test_transitions import LEGAL

from securedelivery.errors import Refusal
from securedelivery.model import AccountId, OrderStatus, Role, timestamp
from securedelivery.service.orders import AdvanceCommand, CancelCommand, ConfirmCommand, UpdateCommand, without_code
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session
from securedelivery.store import orders
from securedelivery.store.engine import Database

PRICES = {"A": 100, "B": 1_999, "C": 6_000}
STOCK = {"A": 30, "B": 8, "C": 12}
MULTIPLIERS = [(40, 200), (15, 150), (5, 125), (0, 100)]  # hundredths
ROLES = {
    "ada": Role.CUSTOMER,
    "bob": Role.CUSTOMER,
    "carl": Role.COURIER,
    "cora": Role.COURIER,
    "agnes": Role.AGENT,
    "adam": Role.ADMIN,
}
SESSIONS: dict[str, Session] = {}


class Refused(Exception):  # noqa: N818 -- not an error
    pass


@dataclass
class Point:
    until: datetime
    lot: int
    of: int


def by_age(point: Point) -> tuple[datetime, int]:
    return point.until, point.lot


@dataclass
class Purse:
    """debt: what is owed; there are no points then."""

    points: list[Point] = field(default_factory=list)
    debt: int = 0
    count: int = 0
    booked: Counter[tuple[str, int | None]] = field(default_factory=Counter)

    def put(self, points: list[Point]) -> None:
        """They pay what is owed, those that expire first before the others."""
        paid = min(self.debt, len(points))
        self.debt -= paid
        self.points += sorted(points, key=by_age)[paid:]

    def take(self, number: int, first: int | None = None) -> list[Point]:
        """first: an order whose points go before the others'."""
        self.points.sort(key=lambda point: (point.of != first, by_age(point)))
        taken, self.points = self.points[:number], self.points[number:]
        return taken

    def expire(self, now: datetime) -> None:
        good = [point for point in self.points if point.until > now]
        self.booked["expired", None] -= len(self.points) - len(good)
        self.points = good


@dataclass
class Known:
    """An order as the model has it."""

    number: int
    account: str
    lines: dict[str, tuple[int, int]]  # quantity, unit price
    address: str
    count_before: int
    placed_at: datetime
    changed_at: datetime
    redeemed: list[Point] = field(default_factory=list)
    redeemed_number: int = 0
    earned: int = 0
    status: str = "placed"
    version: int = 1
    courier: str | None = None
    wrong: int = 0
    history: list[tuple[str, datetime, str, str | None]] = field(default_factory=list)

    @property
    def subtotal(self) -> int:
        return sum(quantity * price for quantity, price in self.lines.values())


@dataclass
class Model:
    now: datetime
    prices: dict[str, int] = field(default_factory=lambda: dict(PRICES))
    stock: dict[str, int] = field(default_factory=lambda: dict(STOCK))
    purses: dict[str, Purse] = field(default_factory=dict)
    orders: dict[int, Known] = field(default_factory=dict)
    lots: int = 0

    def purse(self, account: str) -> Purse:
        return self.purses.setdefault(account, Purse())

    def move(self, now: datetime) -> None:
        self.now = now
        for purse in self.purses.values():
            purse.expire(now)

    def sum_up(self, lines: list[tuple[str, int]], more: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        """more: what the order has taken already."""
        quantities: Counter[str] = Counter()
        for sku, quantity in lines:
            quantities[sku] += quantity
        if not quantities.keys() <= PRICES.keys():
            raise Refused("not_found")
        for sku, quantity in quantities.items():
            if quantity > self.stock[sku] + more.get(sku, (0, 0))[0]:
                raise Refused("out_of_stock")
        return {sku: (quantity, self.prices[sku]) for sku, quantity in quantities.items()}

    def move_stock(self, lines: dict[str, tuple[int, int]], sign: int) -> None:
        for sku, (quantity, _) in lines.items():
            self.stock[sku] += sign * quantity

    def earn(self, order: Known, points: int) -> None:
        try:
            until = self.now.replace(year=self.now.year + 1)
        except ValueError:  # on 29 February
            until = self.now.replace(year=self.now.year + 1, day=28)
        self.lots += 1
        purse = self.purse(order.account)
        purse.booked["earned", order.number] += points
        purse.put([Point(until, self.lots, order.number) for _ in range(points)])

    def reckon(self, order: Known) -> int:
        """What it earns."""
        percent = next(percent for orders, percent in MULTIPLIERS if orders <= order.count_before)
        return (order.subtotal - 5 * order.redeemed_number) // 100 * percent // 100

    def reverse(self, order: Known, points: int) -> None:
        purse = self.purse(order.account)
        purse.booked["reversed", order.number] -= points
        purse.debt += points - len(purse.take(points, first=order.number))

    def give_back(self, order: Known, points: int) -> None:
        """The last to expire."""
        order.redeemed.sort(key=by_age)
        kept = len(order.redeemed) - points
        back, order.redeemed = order.redeemed[kept:], order.redeemed[:kept]
        purse = self.purse(order.account)
        purse.booked["returned", order.number] += points
        purse.put(back)
        purse.expire(self.now)

    def place(self, who: str, lines: list[tuple[str, int]], redeem: int | None) -> Known:
        taken = self.sum_up(lines, {})
        purse = self.purse(who)
        number = len(self.orders) + 1
        order = Known(number, who, taken, "1 Road", purse.count, self.now, self.now)
        wanted = min(redeem or 0, order.subtotal // 2 // 5)
        if wanted > len(purse.points):
            raise Refused("not_enough_points")
        order.history.append(("placed", self.now, who, None))
        order.redeemed = purse.take(wanted)
        order.redeemed_number = wanted
        purse.booked["redeemed", number] -= wanted
        order.earned = self.reckon(order)
        self.earn(order, order.earned)
        purse.count += 1
        self.move_stock(taken, -1)
        self.orders[number] = order
        return order

    def parts(self, who: str | None, number: int) -> tuple[Known, set[str]]:
        """In what parts one acts on an order."""
        if number not in self.orders:
            raise Refused("not_found")
        order = self.orders[number]
        parts = {"agent", "admin"} if who in (None, "adam") else {"agent"} & {ROLES[str(who)]}
        parts |= {"customer"} if who == order.account else set()
        return order, parts | ({"courier"} if who is not None and who == order.courier else set())

    def change(self, order: Known, who: str | None, note: str | None) -> Known:
        order.version += 1
        order.changed_at = self.now
        order.history.append((order.status, self.now, who or "operator", note))
        return order

    def update(self, who: str, number: int, version: int, lines: list[tuple[str, int]], address: str | None) -> Known:
        order, parts = self.parts(who, number)
        if "customer" not in parts:
            raise Refused("not_found")
        if order.status != "placed":
            raise Refused("illegal_transition")
        if version != order.version:
            raise Refused("version_conflict")
        wanted = self.sum_up(lines, order.lines) if lines else order.lines
        if list(wanted.items()) == list(order.lines.items()) and address in (None, order.address):
            return order
        if list(wanted.items()) != list(order.lines.items()):
            self.move_stock(order.lines, 1)
            self.move_stock(wanted, -1)
            order.lines = wanted
            surplus = max(0, order.redeemed_number - order.subtotal // 2 // 5)
            order.redeemed_number -= surplus
            before, order.earned = order.earned, self.reckon(order)
            if order.earned > before:
                self.earn(order, order.earned - before)
            else:
                self.reverse(order, before - order.earned)
            self.give_back(order, surplus)
        order.address = address or order.address
        return self.change(order, who, "edited")

    def enter(self, order: Known, who: str | None, status: str, note: str | None) -> Known:
        order.status = status
        if status in ("cancelled", "returned"):
            self.move_stock(order.lines, 1)
            self.purse(order.account).count -= 1
            self.reverse(order, order.earned)
            self.give_back(order, order.redeemed_number)
        return self.change(order, who, note)

    def cancel(self, who: str | None, number: int, reason: str | None) -> Known:
        order, parts = self.parts(who, number)
        if not parts & {"customer", "agent"}:
            raise Refused("not_found")
        if order.status == "cancelled":
            return order
        if not any((order.status, "cancelled", part) in LEGAL for part in parts):
            raise Refused("illegal_transition")
        return self.enter(order, who, "cancelled", reason)

    def advance(self, who: str | None, number: int, status: str, courier: str | None, note: str | None) -> Known:
        order, parts = self.parts(who, number)
        parts -= {"customer"}
        if not parts:
            raise Refused("not_found")
        known = courier is None or (courier in ("carl", "cora", "adam") and ("agent" in parts or courier == who))
        if status == order.status:
            carried = status in ("packed", "out_for_delivery")
            if carried and not known:
                raise Refused("invalid_params")
            order.wrong = 0 if "agent" in parts else order.wrong
            if not carried or courier in (None, order.courier):
                return order
            order.courier = courier
            return self.change(order, who, note or "another courier")
        needs = {LEGAL.get((order.status, status, part)) for part in parts} - {None, "code"}
        if not needs:
            raise Refused("illegal_transition")
        if not known or ("courier" in needs and courier is None and order.courier is None):
            raise Refused("invalid_params")
        if "note" in needs and note is None:
            raise Refused("invalid_params")
        order.wrong = 0 if "agent" in parts else order.wrong
        order.courier = courier or order.courier
        return self.enter(order, who, status, note)

    def confirm(self, who: str, number: int, right: bool) -> Known:
        order, parts = self.parts(who, number)
        if not parts & {"courier", "admin"}:
            raise Refused("not_found")
        if order.status == "delivered" and right:
            return order
        if order.status != "out_for_delivery":
            raise Refused("illegal_transition")
        if order.wrong == 5 or not right:
            order.wrong = min(5, order.wrong + 1)
            raise Refused("wrong_code")
        return self.enter(order, who, "delivered", None)


# Most of what is drawn should be possible, or the orders never get far: resolved() makes an order that is there of a
# number, the present version of 0, its customer of "customer", and the next status in line of "next".
customers = st.sampled_from(["ada", "ada", "bob", "adam"])
staff = st.sampled_from(["agnes", "agnes", "adam", None])
numbers = st.integers(0, 20)
notes = st.sampled_from([None, "note", "note"])
lines = st.lists(st.tuples(st.sampled_from("ABCABCABCD"), st.integers(1, 6)), min_size=1, max_size=3)
couriers = st.sampled_from([None, "carl", "carl", "carl", "cora", "adam", "bob"])
ways = st.sampled_from(["next", "next", "next", *OrderStatus])
places = st.tuples(customers, lines, st.sampled_from([None, 0, 30, 100, 100, 120]))  # per cent of what there is
updates = st.tuples(
    st.sampled_from(["customer", "customer", "customer", "ada", "agnes"]),
    numbers,
    st.sampled_from([0, 0, 0, 1]),
    lines | st.just([]),
    st.sampled_from([None, None, "2 Lane"]),
)
cancels = st.tuples(st.sampled_from(["customer", "agnes", None, "bob", "carl"]), numbers, notes)
LIFE = ("placed", "confirmed", "packed", "out_for_delivery", "delivered", "returned", "returned")
advances = st.one_of(
    st.tuples(staff, numbers, st.just("next"), st.just("carl"), st.just("note")),
    st.tuples(st.sampled_from([*ROLES, "courier", "courier", None]), numbers, ways, couriers, notes),
)
confirms = st.tuples(st.sampled_from(["courier", "courier", "carl", "adam", "ada"]), numbers, st.booleans())


def batches(name: str, commands: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, list[Any]]]:
    return st.tuples(st.just(name), st.lists(commands, min_size=1, max_size=8))


steps = st.one_of(
    batches("place", places),
    batches("update", updates),
    batches("update", updates),
    batches("cancel", cancels),
    batches("advance", advances),
    batches("advance", advances),
    batches("advance", advances),
    batches("confirm", confirms),
    st.tuples(st.just("walk"), st.tuples(numbers, st.sampled_from([3, 3, 4, 5]))),
    st.tuples(st.just("walk"), st.tuples(numbers, st.sampled_from([3, 3, 4, 5]))),
    st.tuples(st.just("guess"), st.tuples(numbers, st.integers(3, 6))),
    st.tuples(st.just("price"), st.lists(st.tuples(st.sampled_from("ABC"), st.integers(1, 9_000)), max_size=1)),
)
# Days pass before each step: some points expire on the way. 366 let all of them.
histories = st.tuples(
    st.lists(places, min_size=3, max_size=8),
    st.lists(st.tuples(st.sampled_from([0, 0, 0, 1, 1, 100, 200, 366]), steps), min_size=5, max_size=25),
).map(lambda drawn: [(0, ("place", drawn[0])), *drawn[1]])


def resolved(model: Model, name: str, drawn: Any) -> tuple[str, list[Any]]:
    """What was drawn, as it stands with the model now."""
    if name == "place":
        points = {who: len(model.purse(who).points) for who, _, _ in drawn}
        return name, [(who, lines, part and points[who] * part // 100 + part // 120) for who, lines, part in drawn]
    if name == "walk":  # through several statuses in one batch
        number = 1 + drawn[0] % max(1, len(model.orders))
        return "advance", [("adam", number, status, "carl", "note") for status in LIFE[1 : drawn[1] + 1]]
    if name == "guess":  # the code, until it is locked or nearly so
        guesses = [("courier", drawn[0], False)] * drawn[1] + [("courier", drawn[0], True)]
        return "confirm", [_resolved(model, "confirm", guess) for guess in guesses]
    return name, [_resolved(model, name, command) for command in drawn]


def _resolved(model: Model, name: str, command: Any) -> Any:
    who, number, *rest = command
    number = 99 if number == 20 else 1 + number % max(1, len(model.orders))
    order = model.orders.get(number)
    if who in ("customer", "courier"):
        who = (order.account if who == "customer" else order.courier) if order else "ada"
        who = who or "carl"
    if name == "advance" and rest[0] == "next":
        status = order.status if order else "placed"
        rest[0] = LIFE[LIFE.index(status) + 1] if status in LIFE else "returned"
    if name == "update":
        rest[0] += order.version if order else 1
    return (who, number, *rest)


def commanded(shop: Shop, name: str, command: Any) -> Any:
    """As the service takes it."""
    who = SESSIONS[command[0]] if command[0] else None
    match name:
        case "place":
            assert who is not None
            return shop.command(who, *command[1], redeem=command[2])
        case "update":
            assert who is not None
            _, number, version, wanted, address = command
            return UpdateCommand(who, number, version, [Line(*line) for line in wanted] or None, address)
        case "cancel":
            return CancelCommand(who, *command[1:])
        case "advance":
            _, number, status, *rest = command
            return AdvanceCommand(who, number, OrderStatus(status), *rest)
    assert who is not None
    _, number, right = command
    with shop.database.read() as tx:
        found = orders.load(tx, [number])
    code = str(found[number].order.delivery_code) if found else ""
    return ConfirmCommand(who, number, code if right else "nonsense")


def plain(order: Known) -> dict[str, Any]:
    discount = 5 * order.redeemed_number
    return {
        "order": order.number,
        "version": order.version,
        "account": order.account,
        "status": order.status,
        "lines": [
            {"sku": sku, "name": f"Product {sku}", "quantity": quantity, "unit_price": price, "total": quantity * price}
            for sku, (quantity, price) in order.lines.items()
        ],
        "subtotal": order.subtotal,
        "discount": discount,
        "total": order.subtotal - discount,
        "currency": "EUR",
        "address": order.address,
        "points_earned": order.earned,
        "points_redeemed": order.redeemed_number,
        "courier": order.courier,
        "history": [
            {"status": status, "at": timestamp(at), "by": by, "note": note}
            for status, at, by, note in order.history[-50:]
        ],
        "placed_at": timestamp(order.placed_at),
        "changed_at": timestamp(order.changed_at),
    }


def compare(shop: Shop, model: Model) -> None:
    """Everything that is stored, once expiries are booked."""
    shop.database.writer.call(shop.rewards.expire, None)
    with shop.database.read() as tx:
        found = orders.load(tx, list(model.orders))
    assert {number: msgspec.to_builtins(without_code(stored.order)) for number, stored in found.items()} == {
        number: plain(order) for number, order in model.orders.items()
    }
    assert {number: stored.wrong_codes for number, stored in found.items()} == {
        number: order.wrong for number, order in model.orders.items()
    }
    assert {product.sku: product.stock for product in shop.catalog.export()} == model.stock
    assert min(model.stock.values()) >= 0
    for name, purse in model.purses.items():
        account = SESSIONS[name].account_id
        assert not (purse.points and purse.debt)
        rewards = shop.rewards.get(SESSIONS[name])
        assert (rewards.points, rewards.order_count) == (len(purse.points) - purse.debt, purse.count)
        assert rows(
            shop,
            account,
            "SELECT expires_at, sum(remaining) FROM points_ledger WHERE remaining > 0 AND account_id = {} GROUP BY 1",
        ) == (dict(Counter(timestamp(point.until) for point in purse.points)))
        booked = "reason || ':' || coalesce(order_id, ''), sum(points)"
        assert rows(shop, account, f"SELECT {booked} FROM points_ledger WHERE account_id = {{}} GROUP BY 1") == {
            f"{reason}:{number or ''}": points for (reason, number), points in purse.booked.items() if points
        }
    check_books(shop)


def rows(shop: Shop, account: AccountId, text: str) -> dict[object, object]:
    return dict(shop.sql(text.format(account)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A shop with its people and little stock, to be copied: migrating takes longer than an example."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.db"
        with Database.open(f"sqlite:///{path}") as database:
            shop = Shop(database, Clock(), RewardRules(), Path("names.txt"))
            shop.stock(*((sku, price, STOCK[sku]) for sku, price in PRICES.items()))
            SESSIONS.update({name: shop.customer(name, role) for name, role in ROLES.items()})
        yield path


def outcome_of(model: Model, name: str, call: Any) -> Known | str:
    """The order, or the slug of a refusal."""
    try:
        return getattr(model, name)(*call)  # type: ignore[no-any-return]
    except Refused as refused:
        return str(refused)


@settings(
    deadline=None,
    max_examples=100,
    phases=list(Phase)[:-1],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(histories)
@example(  # seldom drawn: an edit that gives back a part of what came from two lots
    [
        (0, ("place", [("ada", [("C", 2)], None)])),
        (1, ("place", [("ada", [("C", 2)], None)])),
        (1, ("place", [("ada", [("C", 6)], 100)])),
        (0, ("update", [("customer", 2, 0, [("B", 1)], None)])),
        (1, ("cancel", [("customer", 0, None), ("customer", 2, None)])),
    ]
)
def test_batches_do_what_one_after_the_other_would(
    template: Path, history: list[tuple[int, tuple[str, list[Any]]]]
) -> None:
    clock = Clock()
    model = Model(clock.now)
    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copy(template, folder)
        shutil.copy(f"{template}.key", folder)
        with Database.open(f"sqlite:///{path}") as database:
            shop = Shop(database, clock, RewardRules(), Path("names.txt"))
            for days, drawn in history:
                clock.forward(days=days)
                model.move(clock.now)
                if drawn[0] == "price":
                    for sku, price in drawn[1]:
                        shop.catalog.import_products([entry(sku, price, None)])
                        model.prices[sku] = price
                    continue
                name, calls = resolved(model, *drawn)
                run = getattr(shop.orders, name)
                whole = lambda tx, batches, run=run: [run(tx, batch) for batch in batches]
                outcomes = database.writer.call(whole, [commanded(shop, name, call) for call in calls])
                for call, outcome in zip(calls, outcomes, strict=True):
                    expected = outcome_of(model, name, call)
                    if isinstance(outcome, Refusal):
                        assert (name, call, outcome.reason.slug) == (name, call, expected)
                        event(f"{name}: {expected}")
                        continue
                    assert isinstance(expected, Known), (name, call, expected)
                    assert msgspec.to_builtins(without_code(outcome)) == plain(expected)
                    assert (outcome.delivery_code is msgspec.UNSET) == (call[0] != expected.account)
                    event(f"{name}: {expected.status}")
                compare(shop, model)
                for purse in model.purses.values():
                    for (reason, _), points in purse.booked.items():
                        if points:
                            event(reason)
                    if purse.debt:
                        event("in debt")
