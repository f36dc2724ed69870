"""One parameter struct a method, and the results that are not in the model, for server and client. No service import.

The constraints are the sizes of docs/protocol.md, section 5; what breaks one is `invalid_params` with a JSON Pointer.
"""

from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from securedelivery.model import (
    Account,
    ConversationId,
    ConversationStatus,
    Message,
    Order,
    OrderStatus,
    PointsEntry,
    Role,
    Timestamp,
)

Item = TypeVar("Item")

STRICT_END = r"(?!\n)"  # Python's `$` also matches before a line end
# No control characters (they would break terminals and mail headers), nowhere but in texts of several lines.
_LINE = rf"^[^\x00-\x1f\x7f]*${STRICT_END}"
_TEXT = rf"^[^\x00]*${STRICT_END}"
_USERNAME = rf"^[a-z][a-z0-9._-]{{2,31}}${STRICT_END}"
_EMAIL = rf"^[^@\x00-\x20\x7f]+@[^@\x00-\x20\x7f]+${STRICT_END}"
_DAY = rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}${STRICT_END}"
_SKU = rf"^[!-9;-~]+${STRICT_END}"  # what a catalog file takes: ASCII without blanks and colons

PATTERNS = {
    _LINE: "one line without control characters",
    _TEXT: "text without U+0000",
    _USERNAME: "3 to 32 of a-z 0-9 . _ -, starting with a letter",
    _EMAIL: "an address like name@example.org",
    _DAY: "a day like 2026-11-30",
    _SKU: "ASCII without blanks and colons",
}
"""What each pattern asks for, in words."""

Username = Annotated[str, Meta(max_length=500)]
NewUsername = Annotated[str, Meta(pattern=_USERNAME, description=PATTERNS[_USERNAME])]
Password = Annotated[str, Meta(max_length=500)]
NewPassword = Annotated[str, Meta(min_length=8, max_length=256, description="8 to 256 characters, not a common one")]
Key = Annotated[
    str, Meta(min_length=1, max_length=128, pattern=_TEXT, description="the caller's own, once for each intent")
]
PersonName = Annotated[str, Meta(min_length=1, max_length=500, pattern=_LINE)]
Email = Annotated[str, Meta(min_length=3, max_length=500, pattern=_EMAIL)]
Address = Annotated[str, Meta(min_length=1, max_length=500, pattern=_TEXT)]
Sku = Annotated[str, Meta(min_length=1, max_length=64, pattern=_LINE)]
Quantity = Annotated[int, Meta(ge=1, le=10_000)]
Points = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Note = Annotated[str, Meta(min_length=1, max_length=500, pattern=_TEXT)]
ChatText = Annotated[str, Meta(min_length=1, max_length=4_000, pattern=_TEXT)]
Sequence = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Day = Annotated[str, Meta(pattern=_DAY, description=PATTERNS[_DAY])]
NewSku = Annotated[str, Meta(min_length=1, max_length=64, pattern=_SKU, description=PATTERNS[_SKU])]
Price = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Stock = Annotated[int, Meta(ge=0, le=10**9)]  # far enough from 2**53 for whatever comes back by cancelling
OrderNumber = Annotated[int, Meta(ge=1, le=2**53 - 1)]
ConversationNumber = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Limit = Annotated[int, Meta(ge=1, le=200)]
Cursor = Annotated[str, Meta(max_length=200)]
Query = Annotated[str, Meta(max_length=200)]


class Page(msgspec.Struct, Generic[Item], frozen=True):
    """A part of a list. next: where the following part begins, or None at the end."""

    items: list[Item]
    next: str | None


class Nothing(msgspec.Struct, frozen=True):
    """`{}`: no parameters, or nothing to say."""


# system.*, rpc.discover


class Info(msgspec.Struct, frozen=True):
    name: str
    version: str
    currency: str
    time: Timestamp
    limits: dict[str, int]


class Discover(msgspec.Struct, frozen=True):
    section: str | None = None


class Welcome(msgspec.Struct, frozen=True):
    """session: 64 hex digits."""

    session: str
    identity: str | None
    server: str


class Draining(msgspec.Struct, frozen=True):
    seconds: int


# account.*


class CreateAccount(msgspec.Struct, frozen=True):
    username: NewUsername
    password: NewPassword | None = None
    name: PersonName | None = None
    email: Email | None = None
    address: Address | None = None


class Login(msgspec.Struct, frozen=True):
    username: Username
    password: Password


class ChangeMail(msgspec.Struct, frozen=True):
    """None puts the default back."""

    receipts: bool | UnsetType | None = UNSET
    summaries: bool | UnsetType | None = UNSET
    missed_chat: bool | UnsetType | None = UNSET


class UpdateAccount(msgspec.Struct, frozen=True):
    """What is left out stays; None clears."""

    name: PersonName | UnsetType | None = UNSET
    email: Email | UnsetType | None = UNSET
    address: Address | UnsetType | None = UNSET
    mail: ChangeMail | UnsetType | None = UNSET


class ChangePassword(msgspec.Struct, frozen=True):
    new_password: NewPassword
    old_password: Password | None = None


class ExportAccount(msgspec.Struct, frozen=True):
    after: Cursor | None = None


class DeleteAccount(msgspec.Struct, frozen=True):
    password: Password | None = None


class ListAccounts(msgspec.Struct, frozen=True):
    query: Query | None = None
    after: Cursor | None = None
    limit: Limit | None = None


class SetRole(msgspec.Struct, frozen=True):
    username: Username
    role: Role


class DisableAccount(msgspec.Struct, frozen=True):
    username: Username
    disabled: bool


class ExportedProfile(msgspec.Struct, frozen=True, tag="account", tag_field="kind"):
    account: Account


class ExportedOrder(msgspec.Struct, frozen=True, tag="order", tag_field="kind"):
    order: Order


class ExportedPoints(msgspec.Struct, frozen=True, tag="points", tag_field="kind"):
    points: PointsEntry


class ExportedMessage(msgspec.Struct, frozen=True, tag="message", tag_field="kind"):
    message: Message


class ExportedEvent(msgspec.Struct, frozen=True, tag="event", tag_field="kind"):
    """A row of the audit about the account, without who else was concerned."""

    at: Timestamp
    action: str
    detail: dict[str, Any]


Exported = ExportedProfile | ExportedOrder | ExportedPoints | ExportedMessage | ExportedEvent


# audit.*, report.*


class ListAudit(msgspec.Struct, frozen=True):
    account: Username | None = None
    action: Annotated[str, Meta(max_length=64)] | None = None
    after: Cursor | None = None
    limit: Limit | None = None


class GetFigures(msgspec.Struct, frozen=True, rename={"since": "from", "until": "to"}):
    """Both days inclusive, in UTC."""

    since: Day
    until: Day


# catalog.*


class ListCatalog(msgspec.Struct, frozen=True):
    query: Query | None = None
    after: Cursor | None = None
    limit: Limit | None = None


class GetProduct(msgspec.Struct, frozen=True):
    sku: Sku


class PutProduct(msgspec.Struct, frozen=True):
    sku: NewSku
    name: Annotated[str, Meta(min_length=1, max_length=200, pattern=_LINE)]
    description: Annotated[str, Meta(max_length=2_000, pattern=_TEXT)]
    price: Price
    stock: Stock
    active: bool


# order.*


class LineRequest(msgspec.Struct, frozen=True):
    sku: Sku
    quantity: Quantity


Lines = Annotated[list[LineRequest], Meta(min_length=1, max_length=100)]


class PlaceOrder(msgspec.Struct, frozen=True):
    idempotency_key: Key
    lines: Lines
    address: Address | None = None
    redeem_points: Points | None = None


class GetOrder(msgspec.Struct, frozen=True):
    order: OrderNumber


class ListOrders(msgspec.Struct, frozen=True):
    after: Cursor | None = None
    limit: Limit | None = None
    status: OrderStatus | None = None
    account: Username | None = None
    changed_since: str | None = None


class UpdateOrder(msgspec.Struct, frozen=True):
    order: OrderNumber
    version: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    lines: Lines | None = None
    address: Address | None = None


class CancelOrder(msgspec.Struct, frozen=True):
    order: OrderNumber
    reason: Note | None = None


class AdvanceOrder(msgspec.Struct, frozen=True):
    order: OrderNumber
    status: OrderStatus
    courier: Username | None = None
    note: Note | None = None


# delivery.*


class ListDeliveries(msgspec.Struct, frozen=True):
    after: Cursor | None = None
    limit: Limit | None = None


class ConfirmDelivery(msgspec.Struct, frozen=True):
    order: OrderNumber
    code: Annotated[str, Meta(max_length=32, description="the 6 digits that the customer has")]


# rewards.*


class ListRewards(msgspec.Struct, frozen=True):
    after: Cursor | None = None
    limit: Limit | None = None


# chat.*


class SendMessage(msgspec.Struct, frozen=True):
    text: ChatText
    message_key: Key
    conversation: ConversationNumber | None = None


class GetHistory(msgspec.Struct, frozen=True):
    conversation: ConversationNumber | None = None
    after: Sequence | None = None
    limit: Limit | None = None


class MarkRead(msgspec.Struct, frozen=True):
    up_to: Sequence
    conversation: ConversationNumber | None = None


class ListConversations(msgspec.Struct, frozen=True):
    status: ConversationStatus | None = None
    after: Cursor | None = None
    limit: Limit | None = None


class Type(msgspec.Struct, frozen=True):
    conversation: ConversationNumber | None = None


class NameConversation(msgspec.Struct, frozen=True):
    conversation: ConversationNumber


class TransferConversation(msgspec.Struct, frozen=True):
    conversation: ConversationNumber
    agent: Username


class History(msgspec.Struct, Generic[Item], frozen=True):
    """A part of a conversation, ascending. next: the sequence to go on after, or None; last: the conversation's."""

    items: list[Item]
    next: int | None
    last: int


class Typing(msgspec.Struct, frozen=True):
    """The notification chat.typing."""

    conversation: ConversationId
    sender: str
