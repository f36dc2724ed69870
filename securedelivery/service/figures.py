"""The operator's report: what was sold, and what needs somebody's attention."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from typing import TypeVar

import msgspec

from securedelivery.errors import Refusal
from securedelivery.model import Cents, DayFigures, Figures, OrderStatus, timestamp
from securedelivery.service import chat
from securedelivery.service.batches import one_by_one
from securedelivery.service.profiles import by, check_admin, entry
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session
from securedelivery.store import audit, figures
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.figures import VOID, Sum

Item = TypeVar("Item")

MAX_DAYS = 366
BEST_SELLERS = 10
LOW_STOCK = 50

MAX_LIST_BYTES = 15_000
"""JSON that the best sellers take at most, and the products that run out.

Figures have to fit a frame of 65,472 bytes: 366 days take at most 29,000, which leaves 6,000 for everything else.
"""


class FiguresReport:
    def __init__(
        self, database: Database, clock: Callable[[], datetime], rules: RewardRules, *, low_stock: int = 5
    ) -> None:
        """clock: aware, UTC. low_stock: of which products to tell: those of which there are no more."""
        self._database = database
        self._clock = clock
        self._rules = rules
        self._low_stock = low_stock

    def get(self, actor: Session | None, since: str, until: str) -> Figures:
        """Of the orders placed from one day to another, both inclusive, like 2026-11-30, in UTC; at most MAX_DAYS.

        actor: an admin's session, or None for the operator. Raises Refusal at /from or /to.
        """
        days = _days(since, until)
        # Not in one transaction with what is read: nobody's data are in it, and the sums may take their time.
        self._database.writer.call(self._note, (actor, since, until))
        with self._database.read() as tx:
            sums = figures.sums(tx, since, until)
            best_sellers = figures.best_sellers(tx, since, until, BEST_SELLERS)
            low_stock = figures.low_stock(tx, self._low_stock, LOW_STOCK)
            counts = figures.order_counts(tx)
            waiting = chat.waiting(tx)
        sold = [each for each in sums if each.status not in VOID]
        tiers = Counter({tier.name: 0 for tier in self._rules.tiers})
        for orders, customers in counts:
            tiers[self._rules.tier(orders).name] += customers
        return Figures(
            orders=sum(each.orders for each in sold),
            turnover=Cents(sum(each.turnover for each in sold)),
            by_status=_by_status(sums),
            by_day=_by_day(sold, days),
            best_sellers=_fitting(best_sellers),
            low_stock=_fitting(low_stock),
            tiers=dict(tiers),
            waiting=waiting,
        )

    def _note(self, tx: Transaction, commands: Sequence[tuple[Session | None, str, str]]) -> list[bool | Refusal]:
        now = timestamp(self._clock())

        def note(command: tuple[Session | None, str, str]) -> bool:
            actor, since, until = command
            check_admin(tx, actor)
            detail = {"from": since, "to": until, "by": by(actor)}
            audit.append(tx, [entry(now, actor, "report.viewed", None, **detail)])
            return True

        return one_by_one(note, commands)


def _days(since: str, until: str) -> list[str]:
    first, last = _day("/from", since), _day("/to", until)
    if last < first:
        raise Refusal.invalid("/to", f"{until} is before {since}")
    count = (last - first).days + 1
    if count > MAX_DAYS:
        raise Refusal.invalid("/to", f"{count} days; at most {MAX_DAYS} at once")
    return [(first + timedelta(days=day)).isoformat() for day in range(count)]


def _day(path: str, text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:  # 20261130 and 2026-W48-1 are ISO 8601, too
        raise Refusal.invalid(path, "not a day like 2026-11-30")
    return day


def _by_status(sums: Sequence[Sum]) -> dict[OrderStatus, int]:
    return {status: sum(each.orders for each in sums if each.status is status) for status in OrderStatus}


def _by_day(sold: Sequence[Sum], days: Sequence[str]) -> list[DayFigures]:
    orders: Counter[str] = Counter()
    turnover: Counter[str] = Counter()
    for each in sold:
        orders[each.day] += each.orders
        turnover[each.day] += each.turnover
    return [DayFigures(day, orders[day], Cents(turnover[day])) for day in days]


def _fitting(items: list[Item]) -> list[Item]:
    """As many of the first ones as may be told of."""
    while len(msgspec.json.encode(items)) > MAX_LIST_BYTES:
        items = items[:-1]
    return items
