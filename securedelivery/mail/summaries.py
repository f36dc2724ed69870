"""What the mails about months say, and what their templates are given.

Both:
    shop, currency      as in the settings
    month, month_number `October 2026`, `2026-10`
    time_zone           whose month: `Europe/Berlin`
    bars                the last months, oldest first: month (`Oct 2026`), orders, amount, percent (of the largest, a
                        whole number), marks (#### as many as it takes in plain text)
    links               a links.Links; None where the shop has no web page
customer_summary:
    customer, account           by name, or else the username; the username
    tier, balance               at the month's end
    orders, spend, placed       how many, their sum, and the newest of them: number, at, status, total, and page, the
                                address of its page or None
    refunds, refunded, undone   the same of what was cancelled or returned
    points                      what was not nothing: what, points (with their sign)
operator_summary:
    orders, turnover, refunds, refunded, earlier_refunds, earlier_refunded
    statuses                    what there was: what, orders
    best_sellers                sku, name, quantity, turnover
    low_stock, now              sku, name, stock; and when that was so
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from securedelivery.mail.links import OF_NOBODY, Links, Site
from securedelivery.mail.rendering import Content
from securedelivery.model import Cents, LowStock, OrderId, OrderStatus, SoldProduct, Timestamp
from securedelivery.service import months
from securedelivery.service.months import Month
from securedelivery.service.summaries import Bar, CustomerSummary, OperatorSummary, Order, PointsOfMonth

MARKS = 30
"""Of the longest bar in plain text; with month and sum beside it a line has less than 72 columns."""

_WHOLE = 100  # percent


def content(
    summary: CustomerSummary | OperatorSummary, *, shop_name: str, currency: str, links: Links | None = None
) -> Content:
    if isinstance(summary, CustomerSummary):
        name, values = "customer_summary", _customer(summary, links)
    else:
        name, values = "operator_summary", _operator(summary)
    common = {
        "shop": shop_name,
        "currency": currency,
        "month": months.title(summary.month),
        "month_number": summary.month,
        "time_zone": summary.time_zone,
        "bars": _bars(summary.bars),
        "links": links,
    }
    return Content(name, common | values)


def _customer(summary: CustomerSummary, links: Links | None) -> dict[str, Any]:
    points = summary.points
    moved = [
        ("earned", points.earned),
        ("spent", -points.spent),
        ("taken back", -points.taken_back),
        ("given back", points.given_back),
        ("expired", -points.expired),
    ]
    return {
        "customer": summary.customer,
        "account": summary.account,
        "orders": summary.orders,
        "spend": summary.spend,
        "placed": _orders(summary.placed, links),
        "refunds": summary.refunds,
        "refunded": summary.refunded,
        "undone": _orders(summary.undone, links),
        "points": [{"what": what, "points": number} for what, number in moved if number],
        "balance": points.balance,
        "tier": summary.tier,
    }


def _operator(summary: OperatorSummary) -> dict[str, Any]:
    return {
        "orders": summary.orders,
        "turnover": summary.turnover,
        "statuses": [
            {"what": _words(status), "orders": orders} for status, orders in summary.by_status.items() if orders
        ],
        "refunds": summary.refunds,
        "refunded": summary.refunded,
        "earlier_refunds": summary.earlier_refunds,
        "earlier_refunded": summary.earlier_refunded,
        "best_sellers": summary.best_sellers,
        "low_stock": summary.low_stock,
        "now": summary.now,
    }


def _orders(orders: Iterable[Order], links: Links | None) -> list[dict[str, Any]]:
    return [
        {
            "number": each.order,
            "at": each.at,
            "status": _words(each.status),
            "total": each.total,
            "page": None if links is None else links.page_of(each.order),
        }
        for each in orders
    ]


def _words(status: OrderStatus) -> str:
    return status.value.replace("_", " ")


def _bars(bars: Sequence[Bar]) -> list[dict[str, Any]]:
    most = max(bar.amount for bar in bars)
    return [
        {
            "month": months.short_title(bar.month),
            "orders": bar.orders,
            "amount": bar.amount,
            "percent": _share(bar.amount, most, _WHOLE),
            "marks": "#" * _share(bar.amount, most, MARKS),
        }
        for bar in bars
    ]


def _share(amount: Cents, most: Cents, whole: int) -> int:
    """Of a whole, rounded down, and at least 1 for what is not nothing."""
    return max(1, amount * whole // most) if amount > 0 else 0


_BARS = [
    Bar(Month(month), orders, Cents(amount))
    for month, orders, amount in (
        ("2026-05", 0, 0),
        ("2026-06", 1, 4_990),
        ("2026-07", 3, 21_450),
        ("2026-08", 2, 12_000),
        ("2026-09", 1, 123_450),
        ("2026-10", 3, 50_970),
    )
]
_SINCE, _UNTIL = Timestamp("2026-09-30T22:00:00.000000Z"), Timestamp("2026-10-31T23:00:00.000000Z")
_CUSTOMER_SAMPLE = CustomerSummary(
    customer="Ada Example",
    account="ada",
    month=Month("2026-10"),
    time_zone="Europe/Berlin",
    since=_SINCE,
    until=_UNTIL,
    orders=3,
    spend=Cents(50_970),
    placed=[
        Order(OrderId(17), Timestamp("2026-10-03T09:14:15.000000Z"), OrderStatus.DELIVERED, Cents(39_990)),
        Order(OrderId(23), Timestamp("2026-10-19T17:08:00.000000Z"), OrderStatus.OUT_FOR_DELIVERY, Cents(5_990)),
    ],
    refunds=1,
    refunded=Cents(123_450),
    undone=[Order(OrderId(11), Timestamp("2026-10-05T08:00:00.000000Z"), OrderStatus.RETURNED, Cents(123_450))],
    points=PointsOfMonth(earned=458, spent=100, taken_back=1_234, given_back=0, expired=20, balance=758),
    tier="silver",
    bars=_BARS,
)
_OPERATOR_SAMPLE = OperatorSummary(
    month=Month("2026-10"),
    time_zone="Europe/Berlin",
    since=_SINCE,
    until=_UNTIL,
    orders=3,
    turnover=Cents(50_970),
    by_status={status: int(status not in (OrderStatus.CONFIRMED, OrderStatus.PACKED)) for status in OrderStatus},
    refunds=3,
    refunded=Cents(130_450),
    earlier_refunds=1,
    earlier_refunded=Cents(123_450),
    best_sellers=[
        SoldProduct("PASTE-4", "Thermal paste, 4 g", 11, Cents(10_980)),
        SoldProduct("GPU-1", "A graphics card", 1, Cents(39_990)),
    ],
    low_stock=[LowStock("GPU-1", "A graphics card", 0)],
    now=Timestamp("2026-11-01T07:00:00.000000Z"),
    bars=_BARS,
)


def samples(site: Site | None) -> Mapping[str, Mapping[str, Any]]:
    """What the templates are tried with when the server starts."""
    given: list[tuple[CustomerSummary | OperatorSummary, Links | None]] = [
        (_CUSTOMER_SAMPLE, None if site is None else site.links(token=OF_NOBODY)),
        (_OPERATOR_SAMPLE, None if site is None else site.links()),
    ]
    found = [content(each, shop_name="Parts & Co", currency="EUR", links=links) for each, links in given]
    return {each.template: each.values for each in found}
