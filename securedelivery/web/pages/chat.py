"""A customer's conversation with the shop. chat.js makes it live; without it each message is a form sent."""

import contextlib
import secrets
from typing import NamedTuple, get_args

from starlette.responses import Response

from securedelivery.api import messages as m
from securedelivery.errors import Refusal
from securedelivery.model import Message
from securedelivery.web.desk import Desk
from securedelivery.web.pages import Page, redirect
from securedelivery.web.pages.forms import NO_ERRORS, Errors
from securedelivery.web.visits import Visit

__all__ = ["ROUTES", "TEXT_LENGTH", "Excerpt", "number", "read", "reply_key"]

PAGE = 50
END = 2**53 - 1
TEXT_LENGTH: int = get_args(m.ChatText)[1].max_length
"""In characters: what a field takes is what the table takes."""

READ_COOKIE = "__Host-chat-read"
"""`<username>:<sequence>`: up to where this browser has shown the chat. Scripts write it too; it allows nothing."""

_KEPT = 31_536_000  # seconds


class Excerpt(NamedTuple):
    """Messages, ascending. earlier: before which sequence there are more, or None; last: the conversation's."""

    items: list[Message]
    earlier: int | None
    last: int


async def read(
    desk: Desk, visit: Visit, conversation: int | None, *, before: int | None = None, last: int | None = None
) -> Excerpt:
    """A page's worth of a conversation: the newest, or those before a sequence. last: of the conversation, where that
    is known.
    """
    if before is not None:
        end = before - 1
    elif last is not None:
        end = last
    else:
        end = (await _history(desk, visit, conversation, END)).last
    start = seen = max(0, end - PAGE)
    items: list[Message] = []
    while True:
        part = await _history(desk, visit, conversation, seen)
        items += part.items
        if part.next is None or (before is not None and part.next >= end):
            break
        seen = part.next
    items = [message for message in items if before is None or message.sequence < before]
    return Excerpt(items, start + 1 if start else None, part.last)


async def _history(desk: Desk, visit: Visit, conversation: int | None, after: int) -> m.History[Message]:
    params = {"conversation": conversation, "after": after, "limit": PAGE}
    part: m.History[Message] = await desk.call(visit, "chat.history", params, kind=m.History[Message])
    return part


def number(text: str) -> int | None:
    """Of an address: a sequence, an order, a conversation."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None  # noqa: PLR2004 -- 2**53


def reply_key() -> str:
    """Of the message that a form is about to send, however often it is sent."""
    return secrets.token_urlsafe(16)


async def show(desk: Desk, visit: Visit) -> Response:
    return await _page(desk, visit)


async def say(desk: Desk, visit: Visit) -> Response:
    text, key = visit.form.get("text"), visit.form.get("message_key")
    try:
        message = await desk.call(visit, "chat.send", {"text": text, "message_key": key}, kind=Message)
    except Refusal as refusal:
        return await _page(desk, visit, Errors.of(refusal).placed("text"), text)
    return redirect(f"/chat#m{message.sequence}")


async def _page(desk: Desk, visit: Visit, errors: Errors = NO_ERRORS, typed: str = "") -> Response:
    before = number(visit.request.query_params.get("before", ""))
    excerpt = await read(desk, visit, None, before=before)
    had_read = _had_read(visit)
    known = _known(visit, excerpt, had_read)
    new = [message for message in excerpt.items if message.sequence > known]
    response = desk.page(
        visit,
        "chat",
        status=errors.status,
        excerpt=excerpt,
        before=before,
        first_new=new[0].sequence if new else None,
        unread=len(new),
        message_key=reply_key(),
        typed=typed,
        text_length=TEXT_LENGTH,
        errors=errors,
    )
    if before is None and excerpt.last > had_read:
        await _mark_read(desk, visit, response, excerpt.last)
    return response


def _had_read(visit: Visit) -> int:
    assert visit.session is not None
    name, _, sequence = visit.request.cookies.get(READ_COOKIE, "").rpartition(":")
    return (number(sequence) or 0) if name == visit.session.username else 0


def _known(visit: Visit, excerpt: Excerpt, had_read: int) -> int:
    """Up to where everything is known: read here before, or answered to from wherever."""
    assert visit.session is not None
    own = [message.sequence for message in excerpt.items if message.sender == visit.session.username]
    return max([had_read, *own])


async def _mark_read(desk: Desk, visit: Visit, response: Response, last: int) -> None:
    assert visit.session is not None
    with contextlib.suppress(Refusal):  # it is shown all the same, and the next visit marks it
        await desk.call(visit, "chat.mark_read", {"up_to": last})
        cookie = f"{READ_COOKIE}={visit.session.username}:{last}; Max-Age={_KEPT}; Path=/; Secure; SameSite=Lax"
        response.headers.append("set-cookie", cookie)


ROUTES = [
    Page("/chat", show, login=True),
    Page("/chat", say, ("POST",), login=True),
]
