"""Random histories of orders against a model of the rewards, through real sockets and the database of a real server.

The model is written from docs/protocol.md, "Rewards", and knows what is left of the points of each date. After every
step it has to agree with all that customers are shown: points, tier, the whole ledger, orders and stock; at the end,
with the database. Points that expire are not in here, for nobody can wait twelve months: with a moved clock they are
in service/test_orders_model.py. The dates themselves are: each entry of the ledger has its own.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from end_to_end.bookkeeping import Books
from end_to_end.customers import RingOf, log_in
from end_to_end.server_process import ServerProcess, write_catalog
from hypothesis import Phase, event, example, given, settings
from hypothesis import strategies as st
from planted import planted
from wire_client import Refused, WireClient

PRICES = {"CPU-1": 199, "GPU-1": 6_000, "RAM-1": 1_999}
STOCK = {"CPU-1": 30, "GPU-1": 20, "RAM-1": 14}
TIERS = (("bronze", 0, 100), ("silver", 2, 125), ("gold", 4, 150), ("platinum", 6, 200))
"""Name, from how many orders on, multiplier in hundredths; within reach of a history, unlike the protocol's."""
CUSTOMERS = 2
PAGE = 6  # of a ledger: many have several
ANY = 8
NEXT = {"placed": "confirmed", "confirmed": "packed", "packed": "out_for_delivery", "out_for_delivery": "delivered"}
NEXT["delivered"] = "returned"
ENTRY = ("points", "reason", "order", "at", "expires_at")
CANCELLABLE = {"customer": ("placed", "confirmed"), "sam": ("placed", "confirmed", "packed")}

_numbers = itertools.count(1)  # no example meets an account of another


@dataclass
class Lot:
    """What is left of points that expire on one date. of: the order that earned them."""

    until: str
    of: int
    left: int = 0


@dataclass
class Known:
    """An order as the model has it. lines: quantity and unit price; uses: what it redeemed, oldest first."""

    number: int
    who: int
    lines: dict[str, tuple[int, int]]
    percent: int
    redeemed: int
    uses: list[tuple[Lot, int]]
    earned: int = 0
    status: str = "placed"
    version: int = 1

    @property
    def subtotal(self) -> int:
        return sum(quantity * price for quantity, price in self.lines.values())

    @property
    def worth(self) -> int:
        """What it earns."""
        return (self.subtotal - 5 * self.redeemed) // 100 * self.percent // 100


@dataclass
class Purse:
    """An account. lots: oldest first; they hold the balance, or nothing where that is below 0. ledger: by ENTRY."""

    balance: int = 0
    count: int = 0
    lots: list[Lot] = field(default_factory=list)
    ledger: Counter[tuple[Any, ...]] = field(default_factory=Counter)

    def book(self, points: int, reason: str, order: int, at: str, until: str | None = None) -> None:
        if points:
            self.balance += points
            self.ledger[points, reason, order, at, until] += 1

    def take(self, points: int, first: int | None = None) -> list[tuple[Lot, int]]:
        """first: an order whose points go before the others'."""
        taken = []
        for lot in sorted(self.lots, key=lambda lot: lot.of != first):
            taken.append((lot, min(points, lot.left)))
            lot.left -= taken[-1][1]
            points -= taken[-1][1]
        return taken

    def put(self, parts: list[tuple[Lot, int]], reason: str, order: int, at: str) -> None:
        """One entry for each date. What is owed is paid from them, oldest first."""
        for until in sorted({lot.until for lot, _ in parts}):
            some = [(lot, points) for lot, points in parts if lot.until == until]
            owed = max(0, -self.balance)
            self.book(sum(points for _, points in some), reason, order, at, until)
            for lot, points in some:
                paid = min(owed, points)
                owed -= paid
                lot.left += points - paid

    def earn(self, order: Known, points: int, at: str) -> None:
        """They expire after twelve months."""
        lot = Lot(f"{int(at[:4]) + 1}{at[4:]}".replace("-02-29T", "-02-28T"), order.number)
        self.lots.append(lot)
        self.put([(lot, points)], "earned", order.number, at)

    def settle(self, order: Known, earned: int, redeemed: int, at: str) -> None:
        """Make it that the order has earned and redeemed so much: the last points that it used come back."""
        if earned > order.earned:
            self.earn(order, earned - order.earned, at)
        else:
            self.book(earned - order.earned, "reversed", order.number, at)
            self.take(order.earned - earned, first=order.number)
        kept, back = [], []
        for lot, points in order.uses:
            stays = min(points, redeemed - sum(points for _, points in kept))
            kept.append((lot, stays))
            back.append((lot, points - stays))
        self.put(back, "returned", order.number, at)
        order.uses = kept


@dataclass
class Model:
    """Its methods give the order, or the slug of a refusal. at: when the server says that it happened."""

    prices: dict[str, int] = field(default_factory=lambda: dict(PRICES))
    stock: dict[str, int] = field(default_factory=lambda: dict(STOCK))
    purses: list[Purse] = field(default_factory=lambda: [Purse() for _ in range(CUSTOMERS)])
    orders: list[Known] = field(default_factory=list)

    def priced(self, wanted: dict[str, int]) -> dict[str, tuple[int, int]]:
        return {sku: (quantity, self.prices[sku]) for sku, quantity in wanted.items()}

    def lacks(self, wanted: dict[str, int], held: dict[str, tuple[int, int]]) -> bool:
        return any(quantity > self.stock[sku] + held.get(sku, (0, 0))[0] for sku, quantity in wanted.items())

    def move(self, lines: dict[str, tuple[int, int]], sign: int) -> None:
        for sku, (quantity, _) in lines.items():
            self.stock[sku] += sign * quantity

    def objection(self, who: int, wanted: dict[str, int], redeem: int) -> str | None:
        if self.lacks(wanted, {}):
            return "out_of_stock"
        return "not_enough_points" if self.redeemed(wanted, redeem) > max(0, self.purses[who].balance) else None

    def redeemed(self, wanted: dict[str, int], redeem: int) -> int:
        """At most half of the subtotal, in whole points of 5 cents."""
        return min(redeem, sum(quantity * self.prices[sku] for sku, quantity in wanted.items()) // 2 // 5)

    def place(self, who: int, wanted: dict[str, int], redeem: int, number: int, at: str) -> "Known | str":
        if objection := self.objection(who, wanted, redeem):
            return objection
        purse, redeemed = self.purses[who], self.redeemed(wanted, redeem)
        percent = [percent for _, orders, percent in TIERS if orders <= purse.count][-1]
        order = Known(number, who, self.priced(wanted), percent, redeemed, purse.take(redeemed))
        purse.book(-redeemed, "redeemed", number, at)
        order.earned = order.worth
        purse.earn(order, order.earned, at)
        purse.count += 1
        self.move(order.lines, -1)
        self.orders.append(order)
        return order

    def update(self, order: Known, version: int, wanted: dict[str, int], at: str) -> "Known | str":
        if order.status != "placed":
            return "illegal_transition"
        if version != order.version:
            return "version_conflict"
        if self.lacks(wanted, order.lines):
            return "out_of_stock"
        if list(self.priced(wanted).items()) == list(order.lines.items()):
            return order
        self.move(order.lines, 1)
        order.lines = self.priced(wanted)
        self.move(order.lines, -1)
        order.redeemed = self.redeemed(wanted, order.redeemed)
        self.purses[order.who].settle(order, order.worth, order.redeemed, at)
        order.earned = order.worth
        order.version += 1
        return order

    def enter(self, order: Known, status: str, at: str) -> Known:
        order.status = status
        order.version += 1
        if status in ("cancelled", "returned"):
            self.move(order.lines, 1)
            self.purses[order.who].count -= 1
            self.purses[order.who].settle(order, 0, 0, at)
        return order

    def cancel(self, order: Known, who: str, at: str) -> "Known | str":
        if order.status == "cancelled":
            return order
        return self.enter(order, "cancelled", at) if order.status in CANCELLABLE[who] else "illegal_transition"

    def advance(self, order: Known, status: str, at: str) -> "Known | str":
        return self.enter(order, status, at) if NEXT.get(order.status) == status else "illegal_transition"


def shown(order: Known) -> dict[str, Any]:
    """What the server has to say of it."""
    return {
        "order": order.number,
        "version": order.version,
        "status": order.status,
        "lines": [
            {
                "sku": sku,
                "name": f"The part {sku}",
                "quantity": quantity,
                "unit_price": price,
                "total": quantity * price,
            }
            for sku, (quantity, price) in order.lines.items()
        ],
        "subtotal": order.subtotal,
        "discount": 5 * order.redeemed,
        "total": order.subtotal - 5 * order.redeemed,
        "points_earned": order.earned,
        "points_redeemed": order.redeemed,
    }


FIELDS = tuple(shown(Known(0, 0, {}, 100, 0, [])))


def standing(purse: Purse) -> dict[str, Any]:
    reached = [name for name, orders, _ in TIERS if orders <= purse.count]
    ahead = [(name, orders) for name, orders, _ in TIERS if orders > purse.count]
    missing = {"name": ahead[0][0], "orders_needed": ahead[0][1] - purse.count} if ahead else None
    return {"points": purse.balance, "tier": reached[-1], "order_count": purse.count, "next_tier": missing}


class History:
    """The people of one example at the server, and the model beside them. Each method is a step, as it was drawn."""

    def __init__(self, server: ServerProcess, ring: RingOf, staff: dict[str, WireClient]) -> None:
        self.server = server
        self.ring = ring
        self.staff = staff
        self.model = Model()
        self.names = [f"model.{next(_numbers)}" for _ in range(CUSTOMERS)]
        self.clients = [log_in(server, name, ring(name)) for name in self.names]
        self.codes: dict[int, str] = {}
        self.placed: list[tuple[Known, dict[str, Any]]] = []
        self.keys = itertools.count(1)
        for sku in STOCK:
            self._put(sku)

    def close(self) -> None:
        for client in self.clients:
            client.close()

    # Steps. back: how many orders to go back from the newest that the step is meant for; from ANY on, of all there are.

    def place(self, who: int, wishes: list[tuple[list[tuple[str, int]], int | None]], lost: bool) -> None:
        """Orders in one segment. wishes: lines, and how many per cent of the points that there are to redeem.

        lost: only the first; hang up before the answer, and ask again.
        """
        calls = []
        for lines, part in wishes:
            params = {"idempotency_key": f"key {next(self.keys)}", "lines": listed(lines)}
            if part is not None:
                params["redeem_points"] = max(0, self.model.purses[who].balance) * part // 100 + part // 101
            calls.append(params)
        # What is refused uses no key up: on the connection that is gone it could still happen, later.
        if lost and self.model.objection(who, summed(wishes[0][0]), calls[0].get("redeem_points", 0)) is None:
            calls = calls[:1]
            self.clients[who].send("order.place", **calls[0])
            self.reconnect(who, polite=False)
        client = self.clients[who]
        numbers = client.send_all(*[("order.place", params) for params in calls])
        for number, params, (lines, _) in zip(numbers, calls, wishes, strict=False):
            answer = outcome(lambda number=number: client.answer(number))
            redeem = params.get("redeem_points", 0)
            expected = self.model.place(who, summed(lines), redeem, *_of(answer, "order", "placed_at"))
            self._compare("place", answer, expected)
            if isinstance(expected, Known):
                self.codes[expected.number] = answer["delivery_code"]
                self.placed.append((expected, params))

    def again(self, back: int, other: bool) -> None:
        """The same key again; other: with other parameters."""
        if self.placed:
            order, params = self.placed[-1 - back % len(self.placed)]
            changed = {**params, "redeem_points": params.get("redeem_points", 0) + 1} if other else params
            answer = ask(self.clients[order.who], "order.place", **changed)
            self._compare("again", answer, "idempotency_conflict" if other else order)

    def update(self, back: int, lines: list[tuple[str, int]], stale: bool) -> None:
        if order := self._order(back, ("placed",)):
            version = (order.version - 1 or 2) if stale else order.version
            params = {"order": order.number, "version": version, "lines": listed(lines)}
            answer = ask(self.clients[order.who], "order.update", **params)
            expected = self.model.update(order, version, summed(lines), *_of(answer, "changed_at"))
            self._compare("update", answer, expected)

    def cancel(self, back: int, who: str) -> None:
        if order := self._order(back, CANCELLABLE[who]):
            client = self.staff.get(who, self.clients[order.who])
            answer = ask(client, "order.cancel", order=order.number, reason=planted("changed my mind"))
            self._compare("cancel", answer, self.model.cancel(order, who, *_of(answer, "changed_at")))

    def advance(self, back: int, steps: int, code: bool) -> None:
        """code: the courier delivers it against its code, otherwise the admin with a note."""
        order = self._order(back, NEXT)
        for _ in range(steps if order else 0):
            status = NEXT.get(order.status, "confirmed")
            if status == "delivered" and code:
                params = {"order": order.number, "code": self.codes[order.number]}
                answer = ask(self.staff["kim"], "delivery.confirm", **params)
            else:
                params = {"order": order.number, "status": status, "note": planted("seen to")}
                if status == "packed":
                    params["courier"] = "kim"
                client = self.staff["root" if status == "delivered" else "sam"]
                answer = ask(client, "order.advance", **params)
            self._compare(f"advance to {status}", answer, self.model.advance(order, status, *_of(answer, "changed_at")))

    def price(self, sku: str, price: int) -> None:
        """It is for orders and edits to come."""
        self.model.prices[sku] = price
        self._put(sku)

    def reconnect(self, who: int, polite: bool) -> None:
        client = self.clients[who]
        (client.close if polite else client.cut)()
        self.clients[who] = WireClient.connect(self.server.address, self.ring(self.names[who]))
        self.clients[who].call("account.login_certificate")

    # What must hold

    def check(self) -> None:
        """What each customer is shown is the model's."""
        for who, (client, purse) in enumerate(zip(self.clients, self.model.purses, strict=True)):
            requests = [("rewards.get", {}), ("order.list", {"limit": 200})]
            requests += [("catalog.get", {"sku": sku}) for sku in STOCK]
            rewards, orders, *products = map(client.answer, client.send_all(*requests))
            assert rewards == standing(purse)
            event(f"tier {rewards['tier']}")
            if purse.balance < 0:
                event("in debt")
            ledger = ledger_of(client)
            assert sum(one["points"] for one in ledger) == purse.balance
            event(f"pages of a ledger: {1 + (len(ledger) - 1) // PAGE}")
            assert [one["entry"] for one in ledger] == list(range(len(ledger), 0, -1))
            assert Counter(tuple(one[name] for name in ENTRY) for one in ledger) == purse.ledger
            mine = [shown(order) for order in reversed(self.model.orders) if order.who == who]
            assert [{name: one[name] for name in FIELDS} for one in orders["items"]] == mine
            assert {one["sku"]: one["stock"] for one in products} == self.model.stock

    def check_database(self) -> None:
        """What is stored is the model's, and adds up for every account there is."""
        books = Books(self.server.database)
        for name, purse in zip(self.names, self.model.purses, strict=True):
            assert purse.balance == sum(points * times for (points, *_), times in purse.ledger.items())
            ((account, points, count),) = books.rows(
                "SELECT id, points, order_count FROM accounts WHERE username = ?", name
            )
            assert (points, count) == (purse.balance, purse.count)
            ledger = "SELECT coalesce(sum(points), 0) FROM points_ledger WHERE account_id = ?"
            assert books.rows(ledger, account) == [(purse.balance,)]
            held = (
                "SELECT expires_at, sum(remaining) FROM points_ledger WHERE remaining > 0 AND account_id = ? GROUP BY 1"
            )
            left: Counter[str] = Counter()
            for lot in purse.lots:
                left[lot.until] += lot.left
            assert dict(books.rows(held, account)) == +left  # without what is used up
            assert sum(left.values()) == max(0, purse.balance)
        assert books.faults({}) == []

    # Inside

    def _order(self, back: int, meant: Container[str]) -> Known | None:
        orders = [order for order in self.model.orders if back >= ANY or order.status in meant]
        return orders[-1 - back % len(orders)] if orders else None

    def _put(self, sku: str) -> None:
        known = {"sku": sku, "name": f"The part {sku}", "description": "A part for tests", "active": True}
        self.staff["root"].call("catalog.put", **known, price=self.model.prices[sku], stock=self.model.stock[sku])

    def _compare(self, step: str, answer: dict[str, Any] | str, expected: Known | str) -> None:
        """An Order with an order, a slug with a slug."""
        if isinstance(expected, Known) and isinstance(answer, dict):
            event(f"{step}: done")
            assert {name: answer[name] for name in FIELDS} == shown(expected)
        else:
            event(f"{step}: {expected}")
            assert answer == expected


def ask(client: WireClient, method: str, **params: Any) -> dict[str, Any] | str:
    return outcome(lambda: client.call(method, **params))


def outcome(call: Callable[[], dict[str, Any]]) -> dict[str, Any] | str:
    """The Order, or the slug of a refusal."""
    try:
        return call()
    except Refused as refused:
        return str(refused.reason)


def ledger_of(client: WireClient) -> list[dict[str, Any]]:
    """All pages of rewards.history."""
    items, after = [], None
    while True:
        page = client.call("rewards.history", limit=PAGE, after=after)
        items += page["items"]
        after = page["next"]
        if after is None:
            return items


def _of(answer: dict[str, Any] | str, *names: str) -> list[Any]:
    """These fields of an Order; where it was refused, what no order has, for a model that would not have refused."""
    return ["0000" if isinstance(answer, str) else answer[name] for name in names]


def summed(lines: list[tuple[str, int]]) -> dict[str, int]:
    wanted: Counter[str] = Counter()
    for sku, quantity in lines:
        wanted[sku] += quantity
    return dict(wanted)


def listed(lines: list[tuple[str, int]]) -> list[dict[str, Any]]:
    return [{"sku": sku, "quantity": quantity} for sku, quantity in lines]


people = st.integers(0, CUSTOMERS - 1)
backs = st.integers(0, ANY + 3)
seldom = st.sampled_from([False] * 5 + [True])
some_lines = st.lists(st.tuples(st.sampled_from(sorted(STOCK)), st.integers(1, 5)), min_size=1, max_size=3)
wishes = st.tuples(some_lines, st.sampled_from([None, None, 30, 100, 100, 130]))
bursts = st.one_of(st.lists(wishes, min_size=1, max_size=1), st.lists(wishes, min_size=1, max_size=4))
placings = st.tuples(st.just("place"), people, bursts, seldom)
steps = st.one_of(
    placings,
    placings,
    st.tuples(st.just("update"), backs, some_lines, seldom),
    st.tuples(st.just("update"), backs, some_lines, seldom),
    st.tuples(st.just("cancel"), backs, st.sampled_from(["customer", "customer", "sam"])),
    st.tuples(st.just("cancel"), backs, st.sampled_from(["customer", "customer", "sam"])),
    st.tuples(st.just("advance"), backs, st.sampled_from([1, 3, 4, 5, 5]), st.booleans()),
    st.tuples(st.just("advance"), backs, st.sampled_from([1, 3, 4, 5, 5]), st.booleans()),
    st.tuples(st.just("again"), backs, seldom),
    st.tuples(st.just("reconnect"), people, st.booleans()),
    st.tuples(st.just("price"), st.sampled_from(sorted(STOCK)), st.integers(1, 9_000)),
)
histories = st.tuples(st.lists(placings, min_size=2, max_size=5), st.lists(steps, min_size=5, max_size=25)).map(
    lambda drawn: [*drawn[0], *drawn[1]]
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, certs: Path) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    tiers = [{"name": name, "orders": orders, "multiplier": f"{of / 100}"} for name, orders, of in TIERS]
    catalog = write_catalog(folder / "catalog.csv", STOCK)
    with ServerProcess(folder, certs, {"rewards": {"tiers": tiers}}, catalog=catalog) as running:
        for name, role in (("sam", "agent"), ("kim", "courier"), ("root", "admin")):
            running.create_account(name, role)
        yield running


@pytest.fixture(scope="module")
def staff(shop: ServerProcess, ring: RingOf) -> dict[str, WireClient]:
    return {name: log_in(shop, name, ring(name)) for name in ("sam", "kim", "root")}


@pytest.mark.timeout(400)  # only a failure takes long: Hypothesis looks up to 300 s for a shorter history that fails
@settings(deadline=None, max_examples=80, phases=list(Phase)[:-1])
@given(histories)
@example(  # owed points, then an edit that gives back a part of what came from two dates
    [
        ("place", 0, [([("GPU-1", 2)], None)], False),
        ("place", 0, [([("GPU-1", 2)], 100)], False),
        ("cancel", 1, "customer"),
        ("place", 0, [([("RAM-1", 1)], 100)], False),
        ("place", 0, [([("GPU-1", 1)], None)], True),
        ("place", 0, [([("GPU-1", 5)], 100)], False),
        ("update", 0, [("CPU-1", 3)], False),
        ("advance", 0, 5, True),
    ]
)
@example(  # up through all tiers and down again
    [
        ("place", 1, [([("RAM-1", 1), ("CPU-1", 2), ("RAM-1", 1)], None)] * 6, False),
        ("place", 1, [([("RAM-1", 1)], 100)] * 2, False),
        *[("advance", back, 5, bool(back % 2)) for back in range(6)],
        ("cancel", 6, "sam"),
    ]
)
def test_balances_are_the_ledgers_and_the_models(
    shop: ServerProcess, ring: RingOf, staff: dict[str, WireClient], history: list[tuple[Any, ...]]
) -> None:
    told = History(shop, ring, staff)
    try:
        for step, *drawn in history:
            getattr(told, step)(*drawn)
            told.check()
        told.check_database()
    finally:
        told.close()
