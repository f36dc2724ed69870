"""What the mails about orders say, and what their templates are given.

shop, currency, order     as in the settings; a model.Order as it is now, perhaps further than what the mail tells of
customer                  by name, or else the username
at                        when that happened which the mail tells of
undone                    whether it is cancelled or returned by now
reason                    of a cancellation or return, as the shop has noted it; or None
refund                    what the customer gets back, in cents; 0 where nothing was paid for
points_back               points of the order's discount that went back to the account
points_taken              points that the order had earned, and that were taken back
links                     a links.Links, with the order's page; None where the shop has no web page
"""

from collections.abc import Mapping
from typing import Any

from securedelivery.mail.links import OF_NOBODY, Links, Site
from securedelivery.mail.rendering import Content
from securedelivery.model import (
    Cents,
    HistoryEntry,
    MailKind,
    Order,
    OrderId,
    OrderLine,
    OrderStatus,
    Timestamp,
)
from securedelivery.service.orders import without_code
from securedelivery.service.transitions import UNDOING

__all__ = ["content", "samples"]

_STATUS = {
    MailKind.ORDER_CANCELLED: OrderStatus.CANCELLED,
    MailKind.ORDER_DELIVERED: OrderStatus.DELIVERED,
    MailKind.ORDER_RETURNED: OrderStatus.RETURNED,
}


def content(kind: MailKind, order: Order, customer: str, shop_name: str, links: Links | None = None) -> Content:
    undone = order.status in UNDOING
    entered = _entry(kind, order)
    at, reason = order.placed_at, None
    if entered is not None:
        at = entered.at
        if entered.status in UNDOING and entered.by != order.account:
            reason = entered.note
    return Content(
        kind.value,
        {
            "shop": shop_name,
            "currency": order.currency,
            "order": without_code(order),
            "customer": customer,
            "at": at,
            "undone": undone,
            "reason": reason,
            "refund": order.total if undone else 0,
            "points_back": order.points_redeemed if undone else 0,
            "points_taken": order.points_earned if undone else 0,
            "links": links,
        },
    )


def _entry(kind: MailKind, order: Order) -> HistoryEntry | None:
    """Of the history: when the order came to be what the mail tells of. None for its beginning."""
    status = _STATUS.get(kind)
    if status is None:
        return None
    return next(entry for entry in reversed(order.history) if entry.status is status)


_NOTES = {
    OrderStatus.CANCELLED: "The maker sends no more of this card.",
    OrderStatus.RETURNED: "Unopened, within 14 days.",
}


def _sample(status: OrderStatus) -> Order:
    lines = [
        OrderLine("GPU-NV-4070S", "GeForce RTX 4070 Super 12 GB", 1, Cents(61_900), Cents(61_900)),
        OrderLine("RAM-D5-32", "DDR5-6000 32 GB kit (2 x 16 GB), CL30", 2, Cents(11_990), Cents(23_980)),
    ]
    placed = Timestamp("2026-11-30T17:45:00.000000Z")
    now = Timestamp("2026-12-02T10:20:00.000000Z")
    return Order(
        order=OrderId(17),
        version=1,
        account="alice",
        status=status,
        lines=lines,
        subtotal=Cents(85_880),
        discount=Cents(500),
        total=Cents(85_380),
        currency="EUR",
        address="Alice Example\n12 Sample Street\n12345 Springfield",
        points_earned=853,
        points_redeemed=500,
        courier=None,
        history=[
            HistoryEntry(OrderStatus.PLACED, placed, "alice", None),
            HistoryEntry(status, now, "sam", _NOTES.get(status)),
        ],
        placed_at=placed,
        changed_at=now,
    )


def samples(site: Site | None) -> Mapping[str, Mapping[str, Any]]:
    """What the templates are tried with when the server starts."""
    links = None if site is None else site.links(order=OrderId(17), token=OF_NOBODY)
    return {
        kind.value: content(kind, _sample(status), "Alice Example", "Parts & Co", links).values
        for kind, status in {MailKind.ORDER_PLACED: OrderStatus.PLACED, **_STATUS}.items()
    }
