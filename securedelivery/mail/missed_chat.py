"""What the mail about missed chat says, and what its template is given.

shop, account, customer   account: the username; customer: by name, or else the username
count, senders            how many messages there are, and who wrote them: `agnes, bert and adam`
messages                  the first of them, none where the operator wants none in mail: sender, at, text, is_cut
more                      how many follow those that are shown
links                     a links.Links; None where the shop has no web page
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from securedelivery.mail.links import OF_NOBODY, Links, Site
from securedelivery.mail.rendering import Content
from securedelivery.model import ConversationId, MailKind, Message, Role, Timestamp
from securedelivery.service.missed_chat import Missed, missed
from securedelivery.store import accounts
from securedelivery.store.engine import Transaction
from securedelivery.store.outbox import OutboxRow

__all__ = ["content", "samples"]

ChatText = Literal["full", "beginning", "none"]

BEGINNING = 200
"""Characters of each message, where mail may tell that much."""

_LINE_ENDS = re.compile("\r\n|[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]")
# What has no place in HTML or plain text: controls other than the line end, and what turns the direction of writing.
_UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def content(
    tx: Transaction, row: OutboxRow, chat_text: ChatText, *, shop_name: str, links: Links | None = None
) -> Content:
    """Raises Unwanted where it was read meanwhile, DamagedRow."""
    found = missed(tx, row)
    assert row.account_id is not None
    account = accounts.by_id(tx, row.account_id)
    name = account.name if account is not None else None
    return _content(found, chat_text, name or found.customer, shop_name, links)


def _content(found: Missed, chat_text: ChatText, customer: str, shop_name: str, links: Links | None = None) -> Content:
    shown = [] if chat_text == "none" else [_shown(message, chat_text) for message in found.messages]
    return Content(
        MailKind.MISSED_CHAT.value,
        {
            "shop": shop_name,
            "account": found.customer,
            "customer": customer,
            "count": found.total,
            "senders": _together(list(dict.fromkeys(map(_name, found.senders)))),
            "messages": shown,
            "more": found.total - len(shown),
            "links": links,
        },
    )


def _shown(message: Message, chat_text: ChatText) -> dict[str, Any]:
    text = _UNSAFE.sub(" ", _LINE_ENDS.sub("\n", message.text)).strip()
    is_cut = chat_text == "beginning" and len(text) > BEGINNING
    if is_cut:
        text = text[:BEGINNING].rstrip()
    return {"sender": _name(message.sender), "at": message.at, "text": text, "is_cut": is_cut}


def _name(username: str) -> str:
    """Who has deleted the account has a pseudonym, with a sign that no username has."""
    return "somebody who has left" if "~" in username else username


def _together(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


_LONG = (
    "Mind its length: the card has 267 mm.\nYour case takes cards of up to 320 mm, once the cage for disks is taken"
    " out; with the cage 250 mm. It is held by two screws at its bottom, and nothing else hangs on it. The power"
    " supply has both of the plugs."
)
_SAMPLE = Missed(
    customer="alice",
    senders=["agnes", "bert"],
    total=3,
    messages=[
        Message(ConversationId(3), sequence, sender, Role.AGENT, text, Timestamp(at), str(sequence))
        for sequence, sender, text, at in (
            (2, "agnes", "Hello Alice, yes, it fits: the board has two such slots.", "2026-11-30T17:45:00.000000Z"),
            (3, "bert", _LONG, "2026-11-30T18:02:00.000000Z"),
        )
    ],
)


def samples(site: Site | None) -> Mapping[str, Mapping[str, Any]]:
    """What the template is tried with when the server starts."""
    links = None if site is None else site.links(token=OF_NOBODY)
    found = _content(_SAMPLE, "beginning", "Alice Example", "Parts & Co", links)
    return {found.template: found.values}
