"""What a month was, for each customer and for the operator, and the mail that tells of it.

A summary tells of a month as it stood at its end, whenever it is made: an order that is cancelled afterwards is a
refund of the month in which that happened. Two things are as they are now, because nobody has noted how they were:
what an order holds, where it was edited after the month, and what the operator is told of products (names and stock).
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from securedelivery.errors import ConfigurationError, Reason, Refusal
from securedelivery.model import (
    AccountId,
    Cents,
    LowStock,
    MailRoute,
    MailState,
    OrderId,
    OrderStatus,
    PointsReason,
    SoldProduct,
    Timestamp,
    timestamp,
)
from securedelivery.service import months
from securedelivery.service.batches import one_by_one
from securedelivery.service.credentials import known
from securedelivery.service.months import Month
from securedelivery.service.profiles import by, entry
from securedelivery.service.rewards import RewardRules
from securedelivery.store import accounts, audit, figures, outbox, summaries
from securedelivery.store.accounts import AccountRow
from securedelivery.store.engine import Database, Transaction

ACCOUNTS_AT_ONCE = 500
"""Whose mail one transaction queues: a few milliseconds of the writer."""

ORDERS_SHOWN = 50
"""Of each list in a mail, which is to be read by people."""

BEST_SELLERS = 10
LOW_STOCK = 20

MARGIN = timedelta(days=1)
"""How far back clocks are set at the most, where orders are looked for by their last change."""


class Bar(msgspec.Struct, frozen=True):
    """One of the last months: how many orders, and what they came to."""

    month: Month
    orders: int
    amount: Cents


class Order(msgspec.Struct, frozen=True):
    """at: of its placement; in a list of refunds, of its cancellation or return. status: at the month's end."""

    order: OrderId
    at: Timestamp
    status: OrderStatus
    total: Cents


class PointsOfMonth(msgspec.Struct, frozen=True):
    """All 0 or more. taken_back, given_back: because of orders that were edited, cancelled or returned.

    balance: at the month's end; below 0 for one who owes.
    """

    earned: int
    spent: int
    taken_back: int
    given_back: int
    expired: int
    balance: int


class CustomerSummary(msgspec.Struct, frozen=True):
    """A customer's month, from `since` until before `until`. customer: by name, or else the username.

    orders, spend: all that were placed within it, whatever became of them. refunds, refunded: those that were cancelled
    or returned within it, whenever they were placed. placed, undone: the newest ORDERS_SHOWN of them, oldest first.
    points, tier: at the month's end. bars: spend of the last months, this one last.
    """

    customer: str
    account: str
    month: Month
    time_zone: str
    since: Timestamp
    until: Timestamp
    orders: int
    spend: Cents
    placed: list[Order]
    refunds: int
    refunded: Cents
    undone: list[Order]
    points: PointsOfMonth
    tier: str
    bars: list[Bar]


class OperatorSummary(msgspec.Struct, frozen=True):
    """The shop's month, from `since` until before `until`.

    orders, turnover: of what was placed within it and not cancelled or returned by its end; so are best_sellers and
    bars. by_status: all that were placed within it, as they were at its end. refunds, refunded: all that were cancelled
    or returned within it; earlier_refunds, earlier_refunded: those of them that were placed before it, and so were in
    the turnover of another month. low_stock: as it is at `now`.
    """

    month: Month
    time_zone: str
    since: Timestamp
    until: Timestamp
    orders: int
    turnover: Cents
    by_status: dict[OrderStatus, int]
    refunds: int
    refunded: Cents
    earlier_refunds: int
    earlier_refunded: Cents
    best_sellers: list[SoldProduct]
    low_stock: list[LowStock]
    now: Timestamp
    bars: list[Bar]


class Queued(msgspec.Struct, frozen=True):
    """What there is of a summary's mail. new: whether it was put there just now.

    at: waiting, when it is tried next; sending, until when the server has it; else when that became of it.
    """

    number: int
    month: Month
    state: MailState
    new: bool
    attempts: int
    at: Timestamp


class _Portion(NamedTuple):
    month: Month
    accounts: list[AccountId]


class _Wish(NamedTuple):
    """account: a username, None for the operator."""

    month: Month
    account: str | None


class Summaries:
    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        rules: RewardRules,
        *,
        zone: ZoneInfo,
        hour: int,
        low_stock: int,
        operator: bool,
    ) -> None:
        """clock: aware, UTC. zone: whose months. hour: when they are due, on the first of the next one.

        low_stock: as for FiguresReport. operator: whether there is somebody to get the operator's.
        """
        self._database = database
        self._clock = clock
        self._rules = rules
        self._zone = zone
        self._hour = hour
        self._low_stock = low_stock
        self._operator = operator

    def last_whole(self) -> Month:
        """The last month that is over."""
        return months.last_whole(self._clock(), self._zone)

    def is_over(self, month: Month) -> bool:
        return month <= self.last_whole()

    def checked(self, text: str) -> Month:
        """A month that has begun. Raises Refusal at /month."""
        month = months.parsed(text)
        if months.begin(month, self._zone) > self._clock():
            raise Refusal.invalid("/month", f"{month} has not begun")
        return month

    def customer(self, account: AccountId, month: Month) -> CustomerSummary:
        """account: one that there is."""
        with self._database.read() as tx:
            row = accounts.by_id(tx, account)
            assert row is not None
            return self._customer(tx, row, month)

    def _customer(self, tx: Transaction, row: AccountRow, month: Month) -> CustomerSummary:
        since, until = months.bounds(month, self._zone)
        placed = summaries.placed(tx, row.id, since, until, ORDERS_SHOWN)
        undone = summaries.became_void(tx, row.id, since, until, ORDERS_SHOWN)
        refunds = summaries.undone(tx, since, until, account=row.id)
        balance, moved = summaries.points(tx, row.id, since, until)
        bars = self._bars(tx, month, row.id)
        return CustomerSummary(
            customer=row.name or row.username,
            account=row.username,
            month=month,
            time_zone=self._zone.key,
            since=since,
            until=until,
            orders=bars[-1].orders,
            spend=bars[-1].amount,
            placed=[Order(*each) for each in reversed(placed)],
            refunds=refunds.orders,
            refunded=refunds.total,
            undone=[Order(*each) for each in reversed(undone)],
            points=PointsOfMonth(
                earned=moved.get(PointsReason.EARNED, 0),
                spent=-moved.get(PointsReason.REDEEMED, 0),
                taken_back=-moved.get(PointsReason.REVERSED, 0),
                given_back=moved.get(PointsReason.RETURNED, 0),
                expired=-moved.get(PointsReason.EXPIRED, 0),
                balance=balance,
            ),
            tier=self._rules.tier(summaries.counting(tx, row.id, until)).name,
            bars=bars,
        )

    def operator(self, month: Month) -> OperatorSummary:
        """Reads all orders of the last months, but holds up nobody."""
        since, until = months.bounds(month, self._zone)
        touched = self._touched(month)
        now = timestamp(self._clock())
        with self._database.read() as tx:
            bars = self._bars(tx, month, None)
            statuses = summaries.by_status(tx, since, until, touched)
            refunds = summaries.undone(tx, since, until, account=None)
            return OperatorSummary(
                month=month,
                time_zone=self._zone.key,
                since=since,
                until=until,
                orders=bars[-1].orders,
                turnover=bars[-1].amount,
                by_status={status: statuses.get(status, 0) for status in OrderStatus},
                refunds=refunds.orders,
                refunded=refunds.total,
                earlier_refunds=refunds.earlier_orders,
                earlier_refunded=refunds.earlier_total,
                best_sellers=summaries.best_sellers(tx, since, until, touched, BEST_SELLERS),
                low_stock=figures.low_stock(tx, self._low_stock, LOW_STOCK),
                now=now,
                bars=bars,
            )

    def _touched(self, month: Month) -> Timestamp:
        return timestamp(months.begin(month, self._zone) - MARGIN)

    def _bars(self, tx: Transaction, month: Month, account: AccountId | None) -> list[Bar]:
        """Of an account all that it placed, of the shop what was sold."""
        shown = [months.later(month, number) for number in range(1 - summaries.MONTHS, 1)]
        begins = [timestamp(months.begin(each, self._zone)) for each in (*shown, months.later(month, 1))]
        found = summaries.sums(tx, begins, account=account, touched=self._touched(shown[0]))
        counting = [each for each in found if account is not None or not each.void]
        return [
            Bar(
                each,
                sum(one.orders for one in counting if one.month == number),
                Cents(sum(one.total for one in counting if one.month == number)),
            )
            for number, each in enumerate(shown)
        ]

    def view(self, text: str, account: str | None) -> CustomerSummary | OperatorSummary:
        """A month like 2026-10, which may not be over, for the operator at the machine; the audit notes it.

        account: a username, None for the shop's. Raises Refusal at /month; not_found.
        """
        wish = _Wish(self.checked(text), account)
        # Not in one transaction with what is read, which may take its time; but before it.
        number = self._database.writer.call(self._note, wish)
        return self.operator(wish.month) if number is None else self.customer(number, wish.month)

    def _note(self, tx: Transaction, wishes: Sequence[_Wish]) -> list[AccountId | Refusal | None]:
        now = timestamp(self._clock())

        def note(wish: _Wish) -> AccountId | None:
            row = None if wish.account is None else known(tx, wish.account)
            audit.append(tx, [entry(now, None, "report.viewed", row, month=wish.month, by=by(None))])
            return None if row is None else row.id

        return one_by_one(note, wishes)

    def queue(self, text: str, account: str | None) -> Queued:
        """Have the server send a month's summary, if it has not done so; for the operator at the machine.

        account: a username, None for the operator's. Raises Refusal at /month for one that is not over, at /account for
        one who cannot be written to; not_found; ConfigurationError where nothing is set up for it.
        """
        month = self.checked(text)
        if not self.is_over(month):
            raise Refusal.invalid("/month", f"{month} is not over, and a month is told of once")
        with self._database.read() as tx:
            used = MailRoute.SUMMARIES in outbox.routes(tx)
        if not used:
            raise ConfigurationError(
                "mail.summaries", "the server sends no summaries", "set host and sender there, then start it anew"
            )
        if account is None and not self._operator:
            raise ConfigurationError(
                "mail.operator",
                "nobody is named to get the operator's summary",
                "set it to an address, and name the settings with --config FILE",
            )
        return self._database.writer.call(self._wish, _Wish(month, account))

    def _wish(self, tx: Transaction, wishes: Sequence[_Wish]) -> list[Queued | Refusal]:
        now = timestamp(self._clock())

        def wish(one: _Wish) -> Queued:
            row = None if one.account is None else _reachable(known(tx, one.account))
            number = None if row is None else row.id
            before = summaries.mail(tx, one.month, number)
            new = before is None or before.state is MailState.WITHDRAWN
            if before is None:
                summaries.add(tx, one.month, [number], now)
            elif new:  # it was not wanted then
                summaries.revive(tx, before.number, now)
            found = summaries.mail(tx, one.month, number)
            assert found is not None
            if new:
                audit.append(tx, [entry(now, None, "report.queued", row, month=one.month, by=by(None))])
            return Queued(found.number, one.month, found.state, new, found.attempts, found.at)

        return one_by_one(wish, wishes)

    def queue_due(self, between: Callable[[], bool] = lambda: False) -> int:
        """Put the mail of all months that are due into the outbox, where it is not yet; returns how many.

        Only months that ended since the server has sent summaries, and at most the last MAX_BACK of months. It may be
        killed at any point, and run beside itself: what is there already stays as it is. between: called behind each
        portion of ACCOUNTS_AT_ONCE accounts; whether to leave the rest to the next call.
        """
        with self._database.read() as tx:
            since = outbox.routes(tx).get(MailRoute.SUMMARIES)
            if since is None:
                return 0
            due = months.to_tell(datetime.fromisoformat(since), self._clock(), self._zone, self._hour)
            told = summaries.told(tx, due)
        queued = 0
        for month in due:
            if month in told:
                continue
            after: int | None = 0
            while after is not None:
                portion, after = self._portion(month, after)
                if portion.accounts:
                    queued += self._database.writer.call(self._queue, portion)
                if between():
                    return queued
            queued += self._database.writer.call(self._finish, month)
        return queued

    def _portion(self, month: Month, after: int) -> tuple[_Portion, int | None]:
        """Who is to be told of the month, among the next accounts; and behind which to go on, None at the end."""
        since, until = months.bounds(month, self._zone)
        with self._database.read() as tx:
            wanting = summaries.wanting(tx, after, ACCOUNTS_AT_ONCE)
            found = summaries.missing(tx, month, summaries.active(tx, wanting, since, until))
        return _Portion(month, found), wanting[-1] if len(wanting) == ACCOUNTS_AT_ONCE else None

    def _queue(self, tx: Transaction, portions: Sequence[_Portion]) -> list[int]:
        now = timestamp(self._clock())
        counts = []
        for month, wanted in portions:
            found = summaries.missing(tx, month, wanted)  # once more: who knows what was before this transaction
            summaries.add(tx, month, found, now)
            counts.append(len(found))
        return counts

    def _finish(self, tx: Transaction, finished: Sequence[Month]) -> list[int]:
        """Queue the operator's, and have the month done with."""
        now = timestamp(self._clock())
        counts = []
        for month in finished:
            wanted = self._operator and summaries.mail(tx, month, None) is None
            if wanted:
                summaries.add(tx, month, [None], now)
            if not summaries.told(tx, [month]):
                summaries.tell(tx, month, now)
            counts.append(int(wanted))
        return counts


def _reachable(row: AccountRow) -> AccountRow:
    """Raises Refusal for one who cannot be written to, or does not want it."""
    if row.disabled:
        raise _unwritable("disabled", f"{row.username} is disabled")
    if row.email is None:
        raise _unwritable("email", f"{row.username} has given no e-mail address")
    if not row.mail_summaries:
        raise _unwritable("mail", f"{row.username} wants no summaries")
    return row


def _unwritable(field: str, message: str) -> Refusal:
    """field: of the account, that says so."""
    return Refusal(Reason.INVALID_PARAMS, message, path="/account", field=field)
