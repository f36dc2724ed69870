"""How each structure of the protocol looks, as text and as JSON. The writing itself is terminal.py's."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import UNSET

from securedelivery.api.messages import Info, Page, Welcome
from securedelivery.cli.terminal import Column, document, error, fields, json, json_text, line, note, progress, table
from securedelivery.cli.text import moment, money, quantity
from securedelivery.client.profile import Found
from securedelivery.model import (
    Account,
    Cents,
    Conversation,
    MailPreferences,
    Order,
    OrderStatus,
    PointsEntry,
    PointsReason,
    Product,
    Rewards,
)

__all__ = [
    "account",
    "conversation",
    "conversations",
    "deliveries",
    "document",
    "error",
    "info",
    "json",
    "json_text",
    "line",
    "note",
    "order",
    "orders",
    "ping",
    "points",
    "product",
    "products",
    "profile",
    "progress",
    "rewards",
]

NONE = "-"
_SETTINGS = {
    "server": "Server",
    "ca": "CA",
    "certificate": "Certificate",
    "key": "Key",
    "crl": "Revocation list",
    "tls_ca": "CA of TLS",
}
_STATUS = {status: status.value.replace("_", " ") for status in OrderStatus}
_TO_COME = frozenset((OrderStatus.PLACED, OrderStatus.CONFIRMED, OrderStatus.PACKED, OrderStatus.OUT_FOR_DELIVERY))
_POINTS = {
    PointsReason.EARNED: "earned",
    PointsReason.REDEEMED: "redeemed",
    PointsReason.REVERSED: "taken back",
    PointsReason.RETURNED: "given back",
    PointsReason.EXPIRED: "expired",
}


def info(shown: Info, *, as_json: bool) -> None:
    if as_json:
        json(shown)
        return
    pairs = [("Service", shown.name), ("Version", shown.version), ("Currency", shown.currency)]
    fields([*pairs, ("Time", moment(shown.time)), *((name, f"{limit:,}") for name, limit in shown.limits.items())])


def ping(welcome: Welcome, connected: float, trips: Sequence[float], *, as_json: bool) -> None:
    """connected, trips: seconds."""
    if as_json:
        json({"welcome": welcome, "connect_seconds": connected, "round_trip_seconds": trips})
        return
    line(f"connected to {welcome.server} in {connected * 1000:.1f} ms, as {welcome.identity or 'nobody yet'}")
    for trip in trips:
        line(f"round trip {trip * 1000:.1f} ms")


def account(shown: Account, *, as_json: bool) -> None:
    if as_json:
        json(shown)
        return
    fields(
        [
            ("Account", shown.username),
            ("Role", shown.role.value),
            ("Name", shown.name or NONE),
            ("E-mail", shown.email or NONE),
            ("Address", shown.address or NONE),
            ("Certificate", shown.certificate or NONE),
            ("Password", "set" if shown.has_password else NONE),
            ("Mail", _mail(shown.mail)),
            ("Orders", f"{shown.order_count:,}"),
            ("Points", f"{shown.points:,}"),
            ("Tier", shown.tier),
            ("Since", moment(shown.created_at)),
        ]
    )


def _mail(wanted: MailPreferences) -> str:
    kinds = [
        ("receipts", wanted.receipts),
        ("summaries", wanted.summaries),
        ("missed chat", wanted.missed_chat),
    ]
    return ", ".join(name for name, yes in kinds if yes) or NONE


def products(shown: Sequence[Product], following: str | None, *, as_json: bool) -> None:
    """following: the cursor of what comes next, None at the end."""
    if as_json:
        json(Page(list(shown), following))
        return
    columns = [Column("SKU"), Column("Product", wide=True), Column("Price", right=True), Column("Stock", right=True)]
    rows = [[one.sku, one.name, money(one.price, one.currency), f"{one.stock:,}"] for one in shown]
    if not all(one.active for one in shown):
        columns.append(Column("Sold"))
        for row, one in zip(rows, shown, strict=True):
            row.append("yes" if one.active else "no")
    table(columns, rows)
    _more(following)


def product(shown: Product, *, as_json: bool) -> None:
    if as_json:
        json(shown)
        return
    fields(
        [
            ("SKU", shown.sku),
            ("Product", shown.name),
            ("Description", shown.description or NONE),
            ("Price", money(shown.price, shown.currency)),
            ("Stock", f"{shown.stock:,}"),
        ]
    )


def orders(shown: Sequence[Order], following: str | None, *, as_json: bool) -> None:
    """Newest first. following: the cursor of the older ones, None at the end."""
    if as_json:
        json(Page(list(shown), following))
        return
    columns = [
        Column("Order", right=True),
        Column("Placed"),
        Column("Status"),
        Column("Products", wide=True),
        Column("Total", right=True),
    ]
    rows = [
        [
            str(one.order),
            moment(one.placed_at),
            _STATUS[one.status],
            ", ".join(f"{line.quantity} x {line.sku}" for line in one.lines),
            money(one.total, one.currency),
        ]
        for one in shown
    ]
    if not all(_is_own(one) for one in shown):
        columns.insert(1, Column("Customer", wide=True))
        for row, one in zip(rows, shown, strict=True):
            row.insert(1, one.account)
    table(columns, rows)
    _more(following)


def order(shown: Order, *, as_json: bool) -> None:
    if as_json:
        json(shown)
        return
    head = [
        ("Order", str(shown.order)),
        ("Status", _STATUS[shown.status]),
        ("Placed", moment(shown.placed_at)),
        ("Address", shown.address or NONE),
    ]
    if not _is_own(shown):
        head.insert(1, ("Customer", shown.account))
    if shown.courier is not None:
        head.append(("Courier", shown.courier))
    if _is_own(shown) and shown.status in _TO_COME:
        head.append(("Delivery code", f"{shown.delivery_code} (for the courier, when the parcel is in your hands)"))
    fields(head)
    line()
    table(
        [
            Column("Quantity", right=True),
            Column("SKU"),
            Column("Product", wide=True),
            Column("Each", right=True),
            Column("Total", right=True),
        ],
        [
            [
                str(one.quantity),
                one.sku,
                one.name,
                money(one.unit_price, shown.currency),
                money(one.total, shown.currency),
            ]
            for one in shown.lines
        ],
    )
    line()
    fields(_sums(shown))
    if len(shown.history) > 1:
        line()
        table(
            [Column("When"), Column("Status"), Column("By"), Column("Note", wide=True)],
            [[moment(one.at), _STATUS[one.status], one.by, one.note or ""] for one in shown.history],
        )


def _is_own(shown: Order) -> bool:
    """Whether whoever asked is its customer, who alone gets the code."""
    return shown.delivery_code is not UNSET


def deliveries(shown: Sequence[Order], following: str | None, *, as_json: bool) -> None:
    """Newest first. following: the cursor of the older ones, None at the end."""
    if as_json:
        json(Page(list(shown), following))
        return
    columns = [
        Column("Order", right=True),
        Column("Status"),
        Column("Total", right=True),
        Column("Customer"),
        Column("Address", wide=True),
    ]
    table(
        columns,
        [
            [str(one.order), _STATUS[one.status], money(one.total, one.currency), one.account, one.address]
            for one in shown
        ],
    )
    _more(following)


def _sums(shown: Order) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    if shown.discount:
        points = f" ({quantity(shown.points_redeemed, 'point')})" if shown.points_redeemed else ""
        pairs += [
            ("Subtotal", money(shown.subtotal, shown.currency)),
            ("Discount", money(Cents(-shown.discount), shown.currency) + points),
        ]
    pairs.append(("Total", money(shown.total, shown.currency)))
    if shown.points_earned:
        kept = shown.status not in (OrderStatus.CANCELLED, OrderStatus.RETURNED)
        pairs.append(("Earned", f"{quantity(shown.points_earned, 'point')}{'' if kept else ', taken back'}"))
    return pairs


def _more(following: str | None) -> None:
    if following is not None:
        note(f"There are more: --limit NUMBER, or go on with --after {following}")


def rewards(shown: Rewards, *, as_json: bool) -> None:
    if as_json:
        json(shown)
        return
    following = NONE
    if shown.next_tier is not None:
        following = f"{shown.next_tier.name}, after {quantity(shown.next_tier.orders_needed, 'more order')}"
    fields(
        [
            ("Points", f"{shown.points:,}"),
            ("Tier", shown.tier),
            ("Orders", f"{shown.order_count:,}"),
            ("Next tier", following),
        ]
    )


def points(shown: Sequence[PointsEntry], following: str | None, *, as_json: bool) -> None:
    """Newest first. following: the cursor of the older ones, None at the end."""
    if as_json:
        json(Page(list(shown), following))
        return
    columns = [
        Column("When"),
        Column("Points", right=True),
        Column("What", wide=True),
        Column("Order", right=True),
        Column("Until"),
    ]
    table(
        columns,
        [
            [
                moment(one.at),
                f"{one.points:+,}",
                _POINTS[one.reason],
                NONE if one.order is None else str(one.order),
                NONE if one.expires_at is None else moment(one.expires_at),
            ]
            for one in shown
        ],
    )
    _more(following)


def conversations(shown: Sequence[Conversation], following: str | None, *, as_json: bool) -> None:
    """following: the cursor of what comes next, None at the end."""
    if as_json:
        json(Page(list(shown), following))
        return
    columns = [
        Column("Number", right=True),
        Column("Customer", wide=True),
        Column("Waiting since"),
        Column("Agent", wide=True),
        Column("Unread", right=True),
        Column("Messages", right=True),
    ]
    table(
        columns,
        [
            [
                str(one.conversation),
                one.customer,
                NONE if one.waiting_since is None else moment(one.waiting_since),
                one.agent or NONE,
                f"{one.unread:,}",
                f"{one.last_sequence:,}",
            ]
            for one in shown
        ],
    )
    _more(following)


def conversation(shown: Conversation, *, as_json: bool) -> None:
    if as_json:
        json(shown)
        return
    pairs = [
        ("Conversation", str(shown.conversation)),
        ("Customer", shown.customer),
        ("Status", shown.status.value),
        ("Agent", shown.agent or NONE),
    ]
    if shown.waiting_since is not None:
        pairs.append(("Waiting since", moment(shown.waiting_since)))
    fields([*pairs, ("Unread", f"{shown.unread:,}"), ("Messages", f"{shown.last_sequence:,}")])


def profile(file: Path, shown: Mapping[str, Found], *, as_json: bool) -> None:
    """shown: each setting with its source."""
    if as_json:
        json({"file": str(file), **{name: one.value for name, one in shown.items()}})
        return
    sources = {"flag": "flag", "file": "profile", "folder": "found beside the profile", "default": "default"}
    table(
        [Column("Setting"), Column("Value", wide=True), Column("From")],
        [
            [_SETTINGS[name], one.value or NONE, sources.get(one.source, one.source) if one.source else ""]
            for name, one in shown.items()
        ],
    )
    note(f"The profile is {file}" if file.exists() else f"There is no profile yet ({file})")
