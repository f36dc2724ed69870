"""One parameter struct a method, and the results that are not in the model, for server and client. No service import.

The constraints are the sizes of docs/protocol.md, section 5; what breaks one is `invalid_params` with a JSON Pointer.
"""

from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import Meta

from securedelivery.model import OrderStatus, Timestamp

Item = TypeVar("Item")

STRICT_END = r"(?!\n)"  # Python's `$` also matches before a line end
# No control characters (they would break terminals and mail headers), nowhere but in texts of several lines.
_LINE = rf"^[^\x00-\x1f\x7f]*${STRICT_END}"
_TEXT = rf"^[^\x00]*${STRICT_END}"
_USERNAME = rf"^[a-z][a-z0-9._-]{{2,31}}${STRICT_END}"
_EMAIL = rf"^[^@\x00-\x20\x7f]+@[^@\x00-\x20\x7f]+${STRICT_END}"

PATTERNS = {
    _LINE: "one line without control characters",
    _TEXT: "text without U+0000",
    _USERNAME: "3 to 32 of a-z 0-9 . _ -, starting with a letter",
    _EMAIL: "an address like name@example.org",
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
OrderNumber = Annotated[int, Meta(ge=1, le=2**53 - 1)]
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


# catalog.*


class ListCatalog(msgspec.Struct, frozen=True):
    query: Query | None = None
    after: Cursor | None = None
    limit: Limit | None = None


class GetProduct(msgspec.Struct, frozen=True):
    sku: Sku


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
