"""What agents and couriers work with: the inbox and the deliveries."""

from typing import NamedTuple
from urllib.parse import urlencode

from starlette.responses import Response

from securedelivery.api import messages as m
from securedelivery.errors import Reason, Refusal
from securedelivery.model import Conversation, ConversationStatus, Message, Order, OrderStatus, Role
from securedelivery.service.transitions import allowed
from securedelivery.web.desk import Desk
from securedelivery.web.pages import Page, chat, redirect
from securedelivery.web.pages.forms import NO_ERRORS, Errors
from securedelivery.web.visits import Visit

__all__ = ["ROUTES"]

PAGE = 50
SEARCHED = 5  # pages of the queue in which a conversation is looked for; no method gives one by its number
SEARCHED_AT_ONCE = 200

TABS = {
    "waiting": ConversationStatus.WAITING,
    "mine": ConversationStatus.ASSIGNED,
    "answered": ConversationStatus.RESOLVED,
}


# The inbox


async def inbox(desk: Desk, visit: Visit) -> Response:
    query = visit.request.query_params
    tab = query.get("tab", "waiting")
    if tab not in TABS:
        tab = "waiting"
    queue = await _queue(desk, visit, TABS[tab], query.get("after"), PAGE)
    done = query.get("done", "")
    return desk.page(
        visit,
        "inbox",
        tab=tab,
        tabs=list(TABS),
        queue=queue,
        later="after" in query,
        done=_DONE.get(done),
        about=chat.number(query.get("conversation", "")),
    )


async def _queue(
    desk: Desk, visit: Visit, status: ConversationStatus, after: str | None, limit: int
) -> m.Page[Conversation]:
    page: m.Page[Conversation] = await desk.call(
        visit, "chat.queue", {"status": status, "after": after, "limit": limit}, kind=m.Page[Conversation]
    )
    return page


async def conversation(desk: Desk, visit: Visit) -> Response:
    return await _conversation_page(desk, visit)


async def reply(desk: Desk, visit: Visit) -> Response:
    number, text = _number(visit, "conversation"), visit.form.get("text")
    params = {"conversation": number, "text": text, "message_key": visit.form.get("message_key")}
    try:
        message = await desk.call(visit, "chat.send", params, kind=Message)
    except Refusal as refusal:
        return await _conversation_page(desk, visit, Errors.of(refusal).placed("text"), text)
    return redirect(f"/inbox/{number}#m{message.sequence}")


async def claim(desk: Desk, visit: Visit) -> Response:
    return await _handle(desk, visit, "chat.claim")


async def release(desk: Desk, visit: Visit) -> Response:
    return await _handle(desk, visit, "chat.release", "released")


async def resolve(desk: Desk, visit: Visit) -> Response:
    return await _handle(desk, visit, "chat.resolve", "resolved")


async def transfer(desk: Desk, visit: Visit) -> Response:
    return await _handle(desk, visit, "chat.transfer", "transferred", agent=visit.form.get("agent"))


_DONE = {
    "released": "waits for another agent",
    "resolved": "is marked as answered",
    "transferred": "is with the other agent",
}


async def _handle(desk: Desk, visit: Visit, method: str, done: str | None = None, **more: str) -> Response:
    """done: what to say in the inbox; None: the conversation goes on."""
    number = _number(visit, "conversation")
    try:
        await desk.call(visit, method, {"conversation": number, **more})
    except Refusal as refusal:
        return await _conversation_page(desk, visit, Errors.of(refusal).placed("agent"))
    return redirect(f"/inbox/{number}" if done is None else f"/inbox?done={done}&conversation={number}")


async def _conversation_page(desk: Desk, visit: Visit, errors: Errors = NO_ERRORS, typed: str = "") -> Response:
    number = _number(visit, "conversation")
    before = chat.number(visit.request.query_params.get("before", ""))
    found = await _found(desk, visit, number)
    excerpt = await chat.read(desk, visit, number, before=before, last=None if found is None else found.last_sequence)
    mine = found is not None and found.status is ConversationStatus.ASSIGNED
    if mine and before is None and found is not None and found.unread:
        await desk.call(visit, "chat.mark_read", {"conversation": number, "up_to": excerpt.last})
    return desk.page(
        visit,
        "conversation",
        status=errors.status,
        number=number,
        conversation=found,
        customer=_customer(found, excerpt),
        mine=mine,
        excerpt=excerpt,
        before=before,
        message_key=chat.reply_key(),
        typed=typed,
        agent=visit.form.get("agent"),
        text_length=chat.TEXT_LENGTH,
        errors=errors,
    )


async def _found(desk: Desk, visit: Visit, number: int) -> Conversation | None:
    """The conversation as the queue has it: one's own, or one that waits. None: another agent's, answered, or far
    behind in the queue.
    """
    for status in (ConversationStatus.ASSIGNED, ConversationStatus.WAITING):
        after = None
        for _ in range(SEARCHED):
            page = await _queue(desk, visit, status, after, SEARCHED_AT_ONCE)
            found = next((one for one in page.items if one.conversation == number), None)
            if found is not None:
                return found
            after = page.next
            if after is None:
                break
    return None


def _customer(found: Conversation | None, excerpt: chat.Excerpt) -> str | None:
    if found is not None:
        return found.customer
    return next((message.sender for message in excerpt.items if message.role is Role.CUSTOMER), None)


def _number(visit: Visit, name: str) -> int:
    """Of the path. Raises Refusal for what is none."""
    found = chat.number(visit.request.path_params[name])
    if found is None:
        raise Refusal(Reason.NOT_FOUND, "there is no such page")
    return found


# Deliveries


class Stop(NamedTuple):
    """An order to deliver, and what its courier may do with it now."""

    order: Order
    ways: list[OrderStatus]


async def deliveries(desk: Desk, visit: Visit) -> Response:
    return await _deliveries_page(desk, visit)


async def move(desk: Desk, visit: Visit) -> Response:
    """On the way with it, or back after a delivery that failed."""
    number, form = _number(visit, "order"), visit.form
    params = {"order": number, "status": form.get("status"), "note": form.get("note") or None}
    try:
        order = await desk.call(visit, "order.advance", params, kind=Order)
    except Refusal as refusal:
        return await _deliveries_page(desk, visit, Errors.of(refusal).placed("note"), number)
    return redirect(f"/deliveries?done={order.status}&order={number}#order-{number}")


async def confirm(desk: Desk, visit: Visit) -> Response:
    number = _number(visit, "order")
    try:
        await desk.call(visit, "delivery.confirm", {"order": number, "code": visit.form.get("code")})
    except Refusal as refusal:
        return await _deliveries_page(desk, visit, _beside_code(refusal), number)
    return redirect(f"/deliveries?done={OrderStatus.DELIVERED}&order={number}")


def _beside_code(refusal: Refusal) -> Errors:
    errors = Errors.of(refusal)
    if refusal.reason is Reason.WRONG_CODE:
        return Errors.at("code", errors.general, errors.status)
    return errors.placed("code")


_ARRIVED = {
    OrderStatus.OUT_FOR_DELIVERY: "is on its way",
    OrderStatus.PACKED: "is back: packed, to be tried again",
    OrderStatus.DELIVERED: "is delivered",
}


async def _deliveries_page(
    desk: Desk, visit: Visit, errors: Errors = NO_ERRORS, refused: int | None = None
) -> Response:
    """refused: the order that errors are about."""
    query = visit.request.query_params
    after = query.get("after")
    page = await desk.call(visit, "delivery.list", {"after": after, "limit": PAGE}, kind=m.Page[Order])
    stops = [Stop(order, allowed(order.status, {Role.COURIER})) for order in page.items]
    stops.sort(key=lambda stop: stop.order.status is not OrderStatus.OUT_FOR_DELIVERY)
    done = query.get("done", "")
    return desk.page(
        visit,
        "deliveries",
        status=errors.status,
        stops=stops,
        following=page.next,
        later=after is not None,
        here="/deliveries" if after is None else f"/deliveries?{urlencode({'after': after})}",
        refused=refused,
        errors=errors,
        typed={"code": visit.form.get("code"), "note": visit.form.get("note")},
        done=_ARRIVED.get(OrderStatus(done)) if done in list(OrderStatus) else None,
        about=chat.number(query.get("order", "")),
    )


ROUTES = [
    Page("/inbox", inbox, login=True),
    Page("/inbox/{conversation}", conversation, login=True),
    Page("/inbox/{conversation}", reply, ("POST",), login=True),
    Page("/inbox/{conversation}/claim", claim, ("POST",), login=True),
    Page("/inbox/{conversation}/release", release, ("POST",), login=True),
    Page("/inbox/{conversation}/resolve", resolve, ("POST",), login=True),
    Page("/inbox/{conversation}/transfer", transfer, ("POST",), login=True),
    Page("/deliveries", deliveries, login=True),
    Page("/deliveries/{order}/status", move, ("POST",), login=True),
    Page("/deliveries/{order}/confirm", confirm, ("POST",), login=True),
]
