"""The words of the shop: what services, store, wire and command line all speak of. No I/O, no rules.

The structs are the structures of docs/protocol.md, section "Structures"; msgspec encodes them as they stand.
"""

import re
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType

import msgspec
from msgspec import UNSET, UnsetType

Cents = NewType("Cents", int)
"""Money in minor units of the shop's currency."""

OrderId = NewType("OrderId", int)
AccountId = NewType("AccountId", int)
ConversationId = NewType("ConversationId", int)
ProductId = NewType("ProductId", int)

Timestamp = NewType("Timestamp", str)
"""RFC 3339 in UTC with microseconds and Z, always 27 characters, so that text order is time order."""

TIMESTAMP_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def timestamp(moment: datetime) -> Timestamp:
    """moment: aware, in UTC."""
    return Timestamp(moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z")


_MINOR_DIGITS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV"), 0),
    **dict.fromkeys(("XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}


def minor_digits(currency: str) -> int:
    """How many digits of an amount stand after the point (ISO 4217): 2 for EUR, 0 for JPY, 3 for KWD."""
    return _MINOR_DIGITS.get(currency, 2)


def money(amount: Cents, currency: str) -> str:
    """`EUR 1,234.50`, `JPY 1,235`, `EUR -5.00`."""
    digits = minor_digits(currency)
    whole, rest = divmod(abs(amount), 10**digits)
    fraction = f".{rest:0{digits}}" if digits else ""
    return f"{currency} {'-' if amount < 0 else ''}{whole:,}{fraction}"


USERNAME = re.compile(r"[a-z][a-z0-9._-]{2,31}", re.ASCII)
"""3 to 32 characters, starting with a letter. Match it with fullmatch."""


class Role(StrEnum):
    CUSTOMER = "customer"
    AGENT = "agent"
    COURIER = "courier"
    ADMIN = "admin"


class OrderStatus(StrEnum):
    PLACED = "placed"
    CONFIRMED = "confirmed"
    PACKED = "packed"
    OUT_FOR_DELIVERY = "out_for_delivery"
    DELIVERED = "delivered"
    RETURNED = "returned"
    CANCELLED = "cancelled"


class PointsReason(StrEnum):
    EARNED = "earned"
    REDEEMED = "redeemed"
    REVERSED = "reversed"
    RETURNED = "returned"
    EXPIRED = "expired"


class ConversationStatus(StrEnum):
    WAITING = "waiting"
    ASSIGNED = "assigned"
    RESOLVED = "resolved"


class MailKind(StrEnum):
    """What a mail tells of."""

    ORDER_PLACED = "order_placed"
    ORDER_CANCELLED = "order_cancelled"
    ORDER_DELIVERED = "order_delivered"
    ORDER_RETURNED = "order_returned"
    MISSED_CHAT = "missed_chat"
    CUSTOMER_SUMMARY = "customer_summary"
    OPERATOR_SUMMARY = "operator_summary"


class MailRoute(StrEnum):
    """The two ways out, each with a mail server of its own in the settings."""

    RECEIPTS = "receipts"
    SUMMARIES = "summaries"


def route_of(kind: MailKind) -> MailRoute:
    summary = kind in (MailKind.CUSTOMER_SUMMARY, MailKind.OPERATOR_SUMMARY)
    return MailRoute.SUMMARIES if summary else MailRoute.RECEIPTS


class MailState(StrEnum):
    """waiting -> sending -> sent or failed, or back to waiting for another try. withdrawn: nobody wants it any more."""

    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


class MailPreferences(msgspec.Struct, frozen=True):
    receipts: bool = True
    summaries: bool = True
    missed_chat: bool = True


class Account(msgspec.Struct, frozen=True):
    username: str
    role: Role
    name: str | None
    email: str | None
    address: str | None
    certificate: str | None
    has_password: bool
    mail: MailPreferences
    order_count: int
    points: int
    tier: str
    created_at: Timestamp


class Product(msgspec.Struct, frozen=True):
    sku: str
    name: str
    description: str
    price: Cents
    currency: str
    stock: int
    active: bool


class OrderLine(msgspec.Struct, frozen=True):
    sku: str
    name: str
    quantity: int
    unit_price: Cents
    total: Cents


class HistoryEntry(msgspec.Struct, frozen=True):
    status: OrderStatus
    at: Timestamp
    by: str
    note: str | None


class Order(msgspec.Struct, frozen=True):
    """history holds the newest 50 entries, oldest first; fewer where they would not fit a frame.

    address is empty once its customer has deleted the account. delivery_code is left out for everyone but the customer.
    """

    order: OrderId
    version: int
    account: str
    status: OrderStatus
    lines: list[OrderLine]
    subtotal: Cents
    discount: Cents
    total: Cents
    currency: str
    address: str
    points_earned: int
    points_redeemed: int
    courier: str | None
    history: list[HistoryEntry]
    placed_at: Timestamp
    changed_at: Timestamp
    delivery_code: str | UnsetType = UNSET


class NextTier(msgspec.Struct, frozen=True):
    """orders_needed: how many are still missing."""

    name: str
    orders_needed: int


class Rewards(msgspec.Struct, frozen=True):
    points: int
    tier: str
    order_count: int
    next_tier: NextTier | None


class PointsEntry(msgspec.Struct, frozen=True):
    """An entry of the ledger of points. expires_at: of points that were earned or came back."""

    entry: int
    points: int
    reason: PointsReason
    order: OrderId | None
    at: Timestamp
    expires_at: Timestamp | None


class Message(msgspec.Struct, frozen=True):
    """sequence: 1, 2, 3 ... of the conversation, without gaps. role: customer, or agent for the shop's side."""

    conversation: ConversationId
    sequence: int
    sender: str
    role: Role
    text: str
    at: Timestamp
    message_key: str


class Conversation(msgspec.Struct, frozen=True):
    """unread: messages of the other side, as seen by whoever gets this. waiting_since: where the status is waiting."""

    conversation: ConversationId
    customer: str
    status: ConversationStatus
    agent: str | None
    unread: int
    last_sequence: int
    waiting_since: Timestamp | None


class AuditRecord(msgspec.Struct, frozen=True):
    """actor: a username, `operator` for a command on the server's machine, None for somebody unknown.

    subject: `account:alice`, `order:17`; hash: 64 hex digits.
    """

    entry: int
    at: Timestamp
    actor: str | None
    action: str
    subject: str | None
    detail: dict[str, Any]
    hash: str


class DayFigures(msgspec.Struct, frozen=True):
    """date: of the placement, in UTC."""

    date: str
    orders: int
    turnover: Cents


class SoldProduct(msgspec.Struct, frozen=True):
    sku: str
    name: str
    quantity: int
    turnover: Cents


class LowStock(msgspec.Struct, frozen=True):
    sku: str
    name: str
    stock: int


class Figures(msgspec.Struct, frozen=True):
    """Of the orders placed within some days. Cancelled and returned ones count in by_status alone.

    tiers: how many accounts are in each, now; waiting: how many conversations wait for an agent, now.
    """

    orders: int
    turnover: Cents
    by_status: dict[OrderStatus, int]
    by_day: list[DayFigures]
    best_sellers: list[SoldProduct]
    low_stock: list[LowStock]
    tiers: dict[str, int]
    waiting: int
