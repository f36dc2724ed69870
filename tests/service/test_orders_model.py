"""Random histories of placements, against a model that does one after the other in a few lines of plain Python."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service.shop import Clock, Shop
from service.test_orders import check_books

from securedelivery.errors import Refusal
from securedelivery.model import Order
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session
from securedelivery.store.engine import Database

PRICES = {"A": 100, "B": 1_999, "C": 60_000}
MULTIPLIERS = [(40, 200), (15, 150), (5, 125), (0, 100)]  # hundredths
SESSIONS: dict[str, Session] = {}


@dataclass(frozen=True)
class Call:
    account: str
    key: str
    lines: tuple[tuple[str, int], ...]
    redeem: int | None


@dataclass
class Model:
    """Rewards as a list of lots [day of expiry, points], oldest first."""

    stock: dict[str, int]
    lots: dict[str, list[list[int]]] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)
    placed: dict[tuple[str, str], tuple[Call, int]] = field(default_factory=dict)

    def place(self, call: Call, day: int) -> str | tuple[int, int, int, int]:
        """A refusal's slug, or (number, total, earned, redeemed)."""
        if (call.account, call.key) in self.placed:
            before, number = self.placed[call.account, call.key]
            return ("again", number) if before == call else "idempotency_conflict"  # type: ignore[return-value]
        quantities: dict[str, int] = {}
        for sku, quantity in call.lines:
            if sku not in PRICES:
                return "not_found"
            quantities[sku] = quantities.get(sku, 0) + quantity
        if any(quantity > self.stock[sku] for sku, quantity in quantities.items()):
            return "out_of_stock"
        subtotal = sum(PRICES[sku] * quantity for sku, quantity in quantities.items())
        lots = [lot for lot in self.lots.get(call.account, []) if lot[0] > day]
        redeemed = min(call.redeem or 0, subtotal // 2 // 5)
        if redeemed > sum(points for _, points in lots):
            return "not_enough_points"
        left = redeemed
        for lot in lots:
            used = min(lot[1], left)
            lot[1] -= used
            left -= used
        for sku, quantity in quantities.items():
            self.stock[sku] -= quantity
        total = subtotal - 5 * redeemed
        count = self.count.get(call.account, 0)
        earned = total // 100 * next(percent for orders, percent in MULTIPLIERS if orders <= count) // 100
        self.lots.setdefault(call.account, []).append([day + 365, earned])
        self.count[call.account] = count + 1
        number = len(self.placed) + 1
        self.placed[call.account, call.key] = (call, number)
        return number, total, earned, redeemed


calls = st.builds(
    Call,
    account=st.sampled_from(["ada", "bob", "cyd"]),
    key=st.integers(0, 30).map(str),
    lines=st.lists(st.tuples(st.sampled_from([*PRICES, *PRICES, "D"]), st.integers(1, 4)), min_size=1, max_size=3).map(
        tuple
    ),
    redeem=st.none() | st.integers(0, 2_000),
)
# Batches, and how many days pass before each: some points expire on the way.
histories = st.lists(
    st.tuples(st.sampled_from([0, 0, 1, 100, 200]), st.lists(calls, min_size=1, max_size=12)), max_size=10
)


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A shop with three customers and little stock, to be copied: migrating takes longer than an example."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.db"
        with Database.open(f"sqlite:///{path}") as database:
            shop = Shop(database, Clock(), RewardRules(), Path("names.txt"))
            shop.stock(("A", PRICES["A"], 60), ("B", PRICES["B"], 40), ("C", PRICES["C"], 20))
            SESSIONS.update({name: shop.customer(name) for name in ("ada", "bob", "cyd")})
        yield path


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories)
def test_batches_do_what_one_after_the_other_would(template: Path, history: list[tuple[int, list[Call]]]) -> None:
    model = Model({"A": 60, "B": 40, "C": 20})
    clock = Clock()
    day = 0
    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copy(template, folder)
        with Database.open(f"sqlite:///{path}") as database:
            shop = Shop(database, clock, RewardRules(), Path("names.txt"))
            for days, batch in history:
                day += days
                clock.now += timedelta(days=days)
                commands = [
                    shop.command(SESSIONS[call.account], *call.lines, key=call.key, redeem=call.redeem)
                    for call in batch
                ]
                for call, outcome in zip(batch, shop.place_batch(commands), strict=True):
                    expected = model.place(call, day)
                    if isinstance(outcome, Refusal):
                        assert outcome.reason.slug == expected
                    else:
                        assert isinstance(outcome, Order)
                        got = (outcome.order, outcome.total, outcome.points_earned, outcome.points_redeemed)
                        assert expected in (got, ("again", outcome.order))
                        assert outcome == shop.orders.get(SESSIONS[call.account], outcome.order)
            assert {product.sku: product.stock for product in shop.catalog.export()} == model.stock
            check_books(shop)
