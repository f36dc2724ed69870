"""Sums of months, and the rows of mail that tells of them.

A month is half open, [since, until), and is summed up as it stood at its end. Cancelled and returned are final, so the
time of an order's last change is when it became that; what another order was at the month's end its history tells, if
it has changed since. What cannot be told any more is what an order held before it was edited.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from securedelivery.model import (
    AccountId,
    Cents,
    MailKind,
    MailRoute,
    MailState,
    OrderId,
    OrderStatus,
    PointsReason,
    SoldProduct,
    Timestamp,
)
from securedelivery.store.engine import Transaction
from securedelivery.store.figures import VOID
from securedelivery.store.schema import (
    accounts,
    mail_months,
    order_history,
    order_lines,
    orders,
    outbox,
    points_ledger,
    products,
)
from securedelivery.store.statements import Insertion, Parameters, Statement, listed, listing

MONTHS = 6
"""Months in a row whose sums are asked for at once."""


class MonthSum(NamedTuple):
    """month: 0 for the first of those asked for. void: whether they were cancelled or returned by the month's end."""

    month: int
    void: bool
    orders: int
    total: Cents


class OrderOfMonth(NamedTuple):
    """at: of the placement, or of the cancellation or return. status: at the month's end."""

    order: OrderId
    at: Timestamp
    status: OrderStatus
    total: Cents


class Undone(NamedTuple):
    """Orders that were cancelled or returned within a month. earlier: those of them that were placed before it."""

    orders: int
    total: Cents
    earlier_orders: int
    earlier_total: Cents


class MailRow(NamedTuple):
    """One of the outbox. at: waiting, when it is tried next; sending, until when; else when that became of it."""

    number: int
    state: MailState
    attempts: int
    at: Timestamp


_ZERO: ColumnElement[Any] = literal_column("0")
_ONE: ColumnElement[Any] = literal_column("1")
_since: ColumnElement[Any] = bindparam("since")
_until: ColumnElement[Any] = bindparam("until")
# An expression, for the planner, who knows no numbers, would go through all that were ever cancelled.
_void = (orders.c.status + literal_column("''")).in_([literal_column(f"'{status}'") for status in VOID])
_placed = and_(orders.c.placed_at >= _since, orders.c.placed_at < _until)
_became_void = and_(_void, orders.c.changed_at >= _since, orders.c.changed_at < _until)
_void_by_end = and_(_void, orders.c.changed_at < _until)
# An order changes when it is placed, or later: so that one index leads to what was placed in a time. The caller leaves
# it a margin, for clocks that were set back.
_touched = orders.c.changed_at >= bindparam("touched")
_of_account = orders.c.account_id == bindparam("account")

_last_status = (
    select(order_history.c.status)
    .where(order_history.c.order_id == orders.c.id, order_history.c.at < _until)
    .order_by(order_history.c.entry.desc())
    .limit(_ONE)
    .scalar_subquery()
)
_status_at_end = case(
    (orders.c.changed_at < _until, orders.c.status),
    else_=func.coalesce(_last_status, literal_column("'placed'")),
)


def _month(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """In which of the months it is, 0 the first; MONTHS for what is later."""
    number = _ZERO
    for one in range(1, MONTHS + 1):
        number = number + case((column >= bindparam(f"begin{one}"), _ONE), else_=_ZERO)
    return number


def _sums(*where: ColumnElement[bool]) -> Statement:
    within = and_(orders.c.placed_at >= bindparam("begin0"), orders.c.placed_at < bindparam(f"begin{MONTHS}"))
    of_month = _month(orders.c.placed_at)
    void = case((and_(_void, _month(orders.c.changed_at) <= of_month), _ONE), else_=_ZERO)
    found = select(of_month.label("month"), void.label("void"), orders.c.total).where(within, *where).subquery()
    return Statement(
        select(found.c.month, found.c.void, func.count(), func.sum(found.c.total)).group_by(found.c.month, found.c.void)
    )


def _newest(at: ColumnElement[Any], status: ColumnElement[Any], within: ColumnElement[bool]) -> Statement:
    return Statement(
        select(orders.c.id, at, status, orders.c.total)
        .where(_of_account, within)
        .order_by(at.desc(), orders.c.id.desc())
        .limit(bindparam("count"))
    )


_SUMS = _sums(_touched)
_SUMS_OF_ACCOUNT = _sums(_of_account)
_PLACED_OF_ACCOUNT = _newest(orders.c.placed_at, _status_at_end, _placed)
_VOID_OF_ACCOUNT = _newest(orders.c.changed_at, orders.c.status, _became_void)


def _undone(*where: ColumnElement[bool]) -> Statement:
    earlier = orders.c.placed_at < _since
    return Statement(
        select(
            func.count(),
            func.coalesce(func.sum(orders.c.total), _ZERO),
            func.coalesce(func.sum(case((earlier, _ONE), else_=_ZERO)), _ZERO),
            func.coalesce(func.sum(case((earlier, orders.c.total), else_=_ZERO)), _ZERO),
        ).where(_became_void, *where)
    )


_UNDONE = _undone()
_UNDONE_OF_ACCOUNT = _undone(_of_account)
_COUNTING = Statement(select(func.count()).where(_of_account, orders.c.placed_at < _until, ~_void_by_end))
_POINTS = Statement(
    select(
        points_ledger.c.reason,
        func.sum(points_ledger.c.points),
        func.sum(case((points_ledger.c.at >= _since, points_ledger.c.points), else_=_ZERO)),
    )
    .where(points_ledger.c.account_id == bindparam("account"), points_ledger.c.at < _until)
    .group_by(points_ledger.c.reason)
)
_STATUSES = Statement(select(_status_at_end, func.count()).where(_touched, _placed).group_by(_status_at_end))
_quantity = func.sum(order_lines.c.quantity)
# The expression has the planner begin with the orders of the month, not with all lines.
_BEST = Statement(
    select(products.c.sku, products.c.name, _quantity, func.sum(order_lines.c.total))
    .select_from(
        orders.join(order_lines, order_lines.c.order_id == orders.c.id + _ZERO).join(
            products, products.c.id == order_lines.c.product_id
        )
    )
    .where(_touched, _placed, ~_void_by_end)
    .group_by(products.c.id)
    .order_by(_quantity.desc(), products.c.id)
    .limit(bindparam("count"))
)

_wanting = and_(
    accounts.c.email.is_not(None),
    accounts.c.mail_summaries == _ONE,
    accounts.c.disabled == _ZERO,
    accounts.c.deleted_at.is_(None),
)
_WANTING = Statement(
    select(accounts.c.id)
    .where(accounts.c.id > bindparam("after"), _wanting)
    .order_by(accounts.c.id)
    .limit(bindparam("count"))
)
_ACTIVE = Statement(
    select(accounts.c.id).where(
        accounts.c.id.in_(listed("ids")),
        or_(
            exists(_ONE).where(orders.c.account_id == accounts.c.id, or_(_placed, _became_void)),
            exists(_ONE).where(
                points_ledger.c.account_id == accounts.c.id, points_ledger.c.at >= _since, points_ledger.c.at < _until
            ),
        ),
    )
)
_MISSING = Statement(
    select(accounts.c.id)
    .where(
        accounts.c.id.in_(listed("ids")),
        _wanting,
        ~exists(_ONE).where(outbox.c.period == bindparam("month"), outbox.c.account_id == accounts.c.id),
    )
    .order_by(accounts.c.id)
)
_MAIL = select(outbox.c.id, outbox.c.state, outbox.c.attempts, outbox.c.due_at).where(
    outbox.c.period == bindparam("month")
)
_MAIL_OF_ACCOUNT = Statement(_MAIL.where(outbox.c.account_id == bindparam("account")))
_MAIL_OF_OPERATOR = Statement(_MAIL.where(outbox.c.kind == literal_column("'operator_summary'")))
_COLUMNS = (
    "kind",
    "route",
    "account_id",
    "period",
    "state",
    "attempts",
    "interrupted",
    "created_at",
    "due_at",
)
_INSERT = Insertion(outbox, _COLUMNS)
_REVIVE = Statement(
    update(outbox)
    .where(outbox.c.id == bindparam("number"), outbox.c.state == literal_column("'withdrawn'"))
    .values(
        state=literal_column("'waiting'"),
        attempts=_ZERO,
        created_at=bindparam("at"),  # from which it is tried for some days
        due_at=bindparam("at"),
        answer=None,
    )
)
_TOLD = Statement(select(mail_months.c.month).where(mail_months.c.month.in_(listed("months"))))
_TELL = Statement(insert(mail_months).values({name: bindparam(name) for name in ("month", "at")}))


def sums(
    tx: Transaction, begins: Sequence[Timestamp], *, account: AccountId | None, touched: Timestamp
) -> list[MonthSum]:
    """Of the orders placed in MONTHS months in a row. account: whose alone.

    begins: the instants at which the months begin, and at which the last one ends. touched: for everybody's orders, a
    time before the first of them; only orders that have changed since are looked at.
    """
    parameters: Parameters = {f"begin{number}": begin for number, begin in enumerate(begins)}
    if account is None:
        rows = tx.rows(_SUMS, parameters | {"touched": touched})
    else:
        rows = tx.rows(_SUMS_OF_ACCOUNT, parameters | {"account": account})
    return [MonthSum(month, bool(void), *rest) for month, void, *rest in rows]


def placed(tx: Transaction, account: AccountId, since: Timestamp, until: Timestamp, count: int) -> list[OrderOfMonth]:
    """Up to `count` orders that were placed within the month, newest first."""
    return _listed(tx, _PLACED_OF_ACCOUNT, {"account": account, "since": since, "until": until, "count": count})


def became_void(
    tx: Transaction, account: AccountId, since: Timestamp, until: Timestamp, count: int
) -> list[OrderOfMonth]:
    """Up to `count` orders that were cancelled or returned within the month, newest first."""
    return _listed(tx, _VOID_OF_ACCOUNT, {"account": account, "since": since, "until": until, "count": count})


def _listed(tx: Transaction, statement: Statement, parameters: Parameters) -> list[OrderOfMonth]:
    rows = tx.rows(statement, parameters)
    return [OrderOfMonth(number, at, OrderStatus(status), total) for number, at, status, total in rows]


def undone(tx: Transaction, since: Timestamp, until: Timestamp, *, account: AccountId | None) -> Undone:
    """account: whose alone."""
    parameters: Parameters = {"since": since, "until": until}
    if account is None:
        found = tx.row(_UNDONE, parameters)
    else:
        found = tx.row(_UNDONE_OF_ACCOUNT, parameters | {"account": account})
    assert found is not None
    return Undone(*found)


def counting(tx: Transaction, account: AccountId, until: Timestamp) -> int:
    """Orders that counted for the tier by then."""
    found = tx.row(_COUNTING, {"account": account, "until": until})
    assert found is not None
    return int(found[0])


def points(
    tx: Transaction, account: AccountId, since: Timestamp, until: Timestamp
) -> tuple[int, dict[PointsReason, int]]:
    """The balance at the month's end, and what each kind of entry added to it within the month; below 0 for less."""
    rows = tx.rows(_POINTS, {"account": account, "since": since, "until": until})
    return sum(total for _, total, _ in rows), {PointsReason(reason): within for reason, _, within in rows}


def by_status(tx: Transaction, since: Timestamp, until: Timestamp, touched: Timestamp) -> dict[OrderStatus, int]:
    """Of the orders placed within the month. touched: as for sums()."""
    rows = tx.rows(_STATUSES, {"since": since, "until": until, "touched": touched})
    return {OrderStatus(status): count for status, count in rows}


def best_sellers(
    tx: Transaction, since: Timestamp, until: Timestamp, touched: Timestamp, count: int
) -> list[SoldProduct]:
    """By quantity, most first, in the month's orders that were not undone by its end; the products as they are called
    now. touched: as for sums().
    """
    rows = tx.rows(_BEST, {"since": since, "until": until, "touched": touched, "count": count})
    return [SoldProduct(*row) for row in rows]


def wanting(tx: Transaction, after: int, count: int) -> list[AccountId]:
    """Up to `count` accounts, numbered above `after`, that can be written to and want it, ascending."""
    return [account for (account,) in tx.rows(_WANTING, {"after": after, "count": count})]


def active(tx: Transaction, ids: Collection[AccountId], since: Timestamp, until: Timestamp) -> list[AccountId]:
    """Those of the accounts with an order, a refund or points within the month. Reads all that they ever ordered."""
    parameters: Parameters = {"ids": listing(ids), "since": since, "until": until}
    return [account for (account,) in tx.rows(_ACTIVE, parameters)]


def missing(tx: Transaction, month: str, ids: Iterable[AccountId]) -> list[AccountId]:
    """Those of the accounts that can be written to and want it, and for whose month there is no mail yet."""
    return [account for (account,) in tx.rows(_MISSING, {"ids": listing(ids), "month": month})]


def mail(tx: Transaction, month: str, account: AccountId | None) -> MailRow | None:
    """That of the account's month, or of the operator's."""
    if account is None:
        found = tx.row(_MAIL_OF_OPERATOR, {"month": month})
    else:
        found = tx.row(_MAIL_OF_ACCOUNT, {"month": month, "account": account})
    return None if found is None else MailRow(found[0], MailState(found[1]), *found[2:])


def add(tx: Transaction, month: str, recipients: Sequence[AccountId | None], at: Timestamp) -> None:
    """Mail that waits. recipients: None for the operator. Raises the database's error for one that there is."""
    rows: list[tuple[Any, ...]] = []
    for account in recipients:
        kind = MailKind.OPERATOR_SUMMARY if account is None else MailKind.CUSTOMER_SUMMARY
        waits = (MailState.WAITING.value, 0, 0, at, at)
        rows.append((kind.value, MailRoute.SUMMARIES.value, account, month, *waits))
    tx.insert(_INSERT, rows)


def revive(tx: Transaction, number: int, at: Timestamp) -> None:
    """Have mail that was withdrawn wait again."""
    tx.write(_REVIVE, [{"number": number, "at": at}])


def told(tx: Transaction, months: Iterable[str]) -> set[str]:
    """Those of the months whose mail is all in the outbox."""
    return {month for (month,) in tx.rows(_TOLD, {"months": listing(months)})}


def tell(tx: Transaction, month: str, at: Timestamp) -> None:
    """All of the month's mail is in the outbox. Raises the database's error for one of which that was said."""
    tx.write(_TELL, [{"month": month, "at": at}])
