"""Ordering, and orders: what stands in them, where they are, and what one may still change."""

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlencode

from msgspec import UNSET
from starlette.responses import Response

from securedelivery.api import messages as m
from securedelivery.errors import Reason, Refusal
from securedelivery.model import Account, Cents, Order, OrderStatus, Role, Timestamp
from securedelivery.service.session import Session
from securedelivery.service.transitions import STAFF, allowed, find
from securedelivery.web.desk import Desk
from securedelivery.web.pages import Page, basket, redirect
from securedelivery.web.pages.forms import NO_ERRORS, UNPROCESSABLE, Errors, Fields, Way, number
from securedelivery.web.visits import Visit

__all__ = ["ROUTES", "Step", "steps"]

ORDERS_A_PAGE = 25
CARRIED = (OrderStatus.PACKED, OrderStatus.OUT_FOR_DELIVERY)
"""Those that have a courier, who may become another one."""

WAY = (
    OrderStatus.PLACED,
    OrderStatus.CONFIRMED,
    OrderStatus.PACKED,
    OrderStatus.OUT_FOR_DELIVERY,
    OrderStatus.DELIVERED,
)
"""What every order goes through that nobody undoes."""

_CONFLICT = 409
_BACK = "Came back undelivered"
_DOING = {
    OrderStatus.CONFIRMED: "Confirm",
    OrderStatus.PACKED: "Packed",
    OrderStatus.OUT_FOR_DELIVERY: "Out for delivery",
    OrderStatus.DELIVERED: "Delivered, without a code",
    OrderStatus.RETURNED: "Came back",
}
_NUMBER = re.compile(r"[1-9][0-9]{0,14}", re.ASCII)


class Step(NamedTuple):
    """A state on the line. at: since when, where that is known; state: done, now or next."""

    status: OrderStatus
    at: Timestamp | None
    state: str


class Preview(NamedTuple):
    """What an order will cost. points: that come off; usable: the most that could."""

    subtotal: Cents
    points: int
    discount: Cents
    usable: int

    @property
    def total(self) -> Cents:
        return Cents(self.subtotal - self.discount)


class EditLine(NamedTuple):
    """now: how many are in the order, where it has changed meanwhile; else None. typed: the field's text."""

    sku: str
    name: str
    typed: str
    error: str
    now: int | None


class Edited(NamedTuple):
    """What stands in the form. quantities: as typed, by SKU; adding: whether what is in the basket is to come in."""

    quantities: Mapping[str, str]
    address: str
    adding: bool = False


def steps(order: Order) -> list[Step]:
    """The line of an order's states: what it has been, what it is, and what is still to come."""
    since = {OrderStatus.PLACED: order.placed_at}
    before = OrderStatus.PLACED
    for entry in order.history:
        if entry.status is not before:
            since[entry.status] = entry.at
        before = entry.status
    undone = order.status is OrderStatus.CANCELLED
    line = [status for status in WAY if status in since or not undone]
    if order.status not in line:
        line.append(order.status)
    here = line.index(order.status)
    return [
        Step(
            status,
            since.get(status) if place <= here else None,
            "done" if place < here else "next" if place > here else "now",
        )
        for place, status in enumerate(line)
    ]


# Checkout


async def checkout(desk: Desk, visit: Visit) -> Response:
    wanted = basket.read(visit)
    if not wanted:
        return redirect("/basket")
    account = await desk.call(visit, "account.get", kind=Account)
    return await _checkout_page(desk, visit, wanted, account, {"address": account.address or ""})


async def place(desk: Desk, visit: Visit) -> Response:
    """What is ordered are the lines that the form has shown, whatever another window has done to the basket since."""
    form = visit.form
    wanted = basket.decoded(form.get("lines"))
    if not wanted:
        return redirect("/basket")
    account = await desk.call(visit, "account.get", kind=Account)
    typed = {name: form.get(name) for name in ("address", "redeem_points", "idempotency_key")}
    points = number(typed["redeem_points"] or "0")
    if points is None or points < 0:
        errors = Errors.at("redeem_points", "Write a whole number of points, or leave it empty.")
        return await _checkout_page(desk, visit, wanted, account, typed, errors=errors)
    if form.get("action") == "preview":
        return await _checkout_page(desk, visit, wanted, account, typed, errors=_affordable(points, account))
    lines = await basket.lines_of(desk, visit, wanted)
    if form.get("subtotal") != str(basket.subtotal_of(lines)):
        errors = Errors(
            general="Prices have changed since you opened this page: see the sum, then order.", status=_CONFLICT
        )
        return await _checkout_page(desk, visit, wanted, account, typed, errors=errors)
    params = {
        "idempotency_key": typed["idempotency_key"],
        "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in wanted.items()],
        "address": typed["address"],
        "redeem_points": points or None,
    }
    try:
        order = await desk.call(visit, "order.place", params, Order)
    except Refusal as refusal:
        if refusal.reason in (Reason.IDEMPOTENCY_CONFLICT, Reason.INVALID_PARAMS):
            typed["idempotency_key"] = ""  # a new one, so that the next try can work
        return await _checkout_page(desk, visit, wanted, account, typed, errors=_of_checkout(refusal))
    response = redirect(f"/orders/{order.order}?placed=1")
    left = {sku: quantity for sku, quantity in basket.read(visit).items() if wanted.get(sku) != quantity}
    basket.write(response, left)
    return response


def _of_checkout(refusal: Refusal) -> Errors:
    errors = Errors.of(refusal)
    match refusal.reason:
        case Reason.NOT_ENOUGH_POINTS:
            return Errors.at("redeem_points", errors.general, errors.status)
        case Reason.OUT_OF_STOCK | Reason.NOT_FOUND:
            return errors._replace(way=Way("/basket", "Change the basket"))
        case Reason.IDEMPOTENCY_CONFLICT:
            return errors._replace(way=Way("/orders", "See your orders"))
    return errors.placed("address", "redeem_points")


def _affordable(points: int, account: Account) -> Errors:
    """Before the shop says so."""
    held = max(0, account.points)
    if points > held:
        return Errors.at("redeem_points", f"You have {held:,} points to use.", _CONFLICT)
    return NO_ERRORS


async def _checkout_page(
    desk: Desk,
    visit: Visit,
    wanted: Mapping[str, int],
    account: Account,
    typed: Mapping[str, str],
    *,
    errors: Errors = NO_ERRORS,
) -> Response:
    lines = await basket.lines_of(desk, visit, wanted)
    subtotal = basket.subtotal_of(lines)
    rules = desk.shop.rules
    usable = max(0, min(account.points, rules.redeemable(subtotal)))
    wished = 0 if errors.fields["redeem_points"] else number(typed.get("redeem_points", "")) or 0
    points = min(max(0, wished), usable)
    return desk.page(
        visit,
        "checkout",
        status=errors.status,
        lines=lines,
        encoded=basket.encoded(wanted),
        sum=Preview(subtotal, points, rules.worth(points), usable),
        most_off=rules.worth(usable),
        held=account.points,
        address=typed.get("address", ""),
        redeem_points=typed.get("redeem_points", ""),
        idempotency_key=typed.get("idempotency_key") or secrets.token_urlsafe(16),
        ready=not any(line.error for line in lines),
        errors=errors,
    )


# Orders


async def orders(desk: Desk, visit: Visit) -> Response:
    asked = visit.request.query_params
    after, customer = asked.get("after"), asked.get("account", "").strip()
    status = next((one for one in OrderStatus if one == asked.get("status")), None)
    errors = NO_ERRORS
    page: m.Page[Order] = m.Page([], None)
    try:
        params = {"after": after, "limit": ORDERS_A_PAGE, "status": status, "account": customer or None}
        page = await desk.call(visit, "order.list", params, m.Page[Order])
    except Refusal as refusal:
        if refusal.reason is Reason.NOT_FOUND:
            errors = Errors.at("account", f"There is no customer {customer}. Names are exact.", 404)
        else:
            errors = Errors.of(refusal).placed("account")._replace(way=Way("/orders", "To the newest orders"))
    kept = {name: value for name, value in (("status", status), ("account", customer)) if value}
    return desk.page(
        visit,
        "orders",
        status=errors.status,
        orders=page.items,
        shown_status=status,
        statuses=list(OrderStatus),
        account=customer,
        after=after,
        start=_with("/orders", kept),
        following=None if page.next is None else _with("/orders", {**kept, "after": page.next}),
        filter_path=lambda one: _with(
            "/orders", {**kept, "status": one} if one else {k: v for k, v in kept.items() if k != "status"}
        ),
        staff=_session(visit).is_staff,
        errors=errors,
    )


async def order(desk: Desk, visit: Visit) -> Response:
    found = await _found(desk, visit)
    return _order_page(desk, visit, found)


async def cancel(desk: Desk, visit: Visit) -> Response:
    reason = visit.form.get("reason")
    try:
        found = await desk.call(visit, "order.cancel", {"order": _number(visit), "reason": reason or None}, Order)
    except Refusal as refusal:
        if refusal.reason is Reason.NOT_FOUND:
            raise
        return _order_page(
            desk, visit, await _found(desk, visit), Errors.of(refusal).placed("reason"), {"reason": reason}
        )
    return redirect(f"/orders/{found.order}")


async def advance(desk: Desk, visit: Visit) -> Response:
    form = visit.form
    typed = {name: form.get(name) for name in ("courier", "note")}
    params = {
        "order": _number(visit),
        "status": form.get("status"),
        "courier": typed["courier"] or None,
        "note": typed["note"] or None,
    }
    try:
        found = await desk.call(visit, "order.advance", params, Order)
    except Refusal as refusal:
        if refusal.reason is Reason.NOT_FOUND:
            raise
        return _order_page(desk, visit, await _found(desk, visit), Errors.of(refusal).placed("courier", "note"), typed)
    return redirect(f"/orders/{found.order}")


def _order_page(
    desk: Desk, visit: Visit, found: Order, errors: Errors = NO_ERRORS, typed: Mapping[str, str] | None = None
) -> Response:
    session = _session(visit)
    who = _parts(found, session)
    own = found.account == session.username
    ways = allowed(found.status, who)
    doing = _doings(found, ways, who) if session.is_staff else []
    return desk.page(
        visit,
        "order",
        status=errors.status,
        order=found,
        steps=steps(found),
        own=own,
        code=None if found.delivery_code is UNSET or not _is_on_its_way(found) else found.delivery_code,
        editable=own and found.status is OrderStatus.PLACED,
        cancellable=OrderStatus.CANCELLED in ways,
        doing=doing,
        asks_courier=any(one.status in CARRIED for one in doing),
        placed="placed" in visit.request.query_params and own and found.status is OrderStatus.PLACED,
        typed={"reason": "", "courier": found.courier or "", "note": "", **(typed or {})},
        errors=errors,
    )


class Doing(NamedTuple):
    """A button. forward: whether it is what comes next."""

    status: OrderStatus
    label: str
    forward: bool


def _doings(found: Order, ways: Sequence[OrderStatus], who: Collection[Role]) -> list[Doing]:
    """What staff may make of the order, beside cancelling it; what comes next first."""
    doings = []
    for way in ways:
        if way in _DOING and find(found.status, way, who) is not None:
            back = found.status is OrderStatus.OUT_FOR_DELIVERY and way is OrderStatus.PACKED
            doings.append(Doing(way, _BACK if back else _DOING[way], way in WAY and not back))
    if found.status in CARRIED:
        doings.append(Doing(found.status, "Change the courier", False))
    return sorted(doings, key=lambda one: not one.forward)


def _parts(found: Order, session: Session) -> set[Role]:
    """In what parts the caller acts on the order, for the table of transitions."""
    who = {session.role} & STAFF
    if found.account == session.username:
        who.add(Role.CUSTOMER)
    if session.role is Role.COURIER and found.courier == session.username:
        who.add(Role.COURIER)
    return who


def _is_on_its_way(found: Order) -> bool:
    return found.status in WAY and found.status is not OrderStatus.DELIVERED


# Editing


async def edit(desk: Desk, visit: Visit) -> Response:
    found = await _found(desk, visit)
    if (refused := _not_editable(desk, visit, found)) is not None:
        return refused
    quantities = {line.sku: str(line.quantity) for line in found.lines}
    return _edit_page(desk, visit, found, Edited(quantities, found.address))


async def save(desk: Desk, visit: Visit) -> Response:
    form = visit.form
    found = await _found(desk, visit)
    if (refused := _not_editable(desk, visit, found)) is not None:
        return refused
    quantities = dict(zip(form.all("sku"), form.all("quantity"), strict=False))
    typed = Edited(quantities, form.get("address"), bool(form.get("add_basket")))
    wanted, bad = _quantities(quantities)
    if bad:
        return _edit_page(desk, visit, found, typed, Errors(fields=bad, status=UNPROCESSABLE))
    if typed.adding:
        for sku, quantity in basket.read(visit).items():
            wanted[sku] = wanted.get(sku, 0) + quantity
    params = {
        "order": found.order,
        "version": number(form.get("version")),
        "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in wanted.items()],
        "address": typed.address,
    }
    try:
        saved = await desk.call(visit, "order.update", params, Order)
    except Refusal as refusal:
        errors = _of_edit(refusal, list(wanted), found)
        stale = refusal.reason is Reason.VERSION_CONFLICT
        return _edit_page(desk, visit, found, typed, errors, stale=stale)
    response = redirect(f"/orders/{saved.order}")
    if typed.adding:
        basket.write(response, {})
    return response


def _not_editable(desk: Desk, visit: Visit, found: Order) -> Response | None:
    """The order's page with the reason, where it cannot be edited."""
    if found.account != _session(visit).username:
        words = f"Only {found.account} can edit this order."
    elif found.status is not OrderStatus.PLACED:
        words = (
            f"This order is {found.status.replace('_', ' ')} by now, and cannot be edited any more. Ask us in the chat."
        )
    else:
        return None
    return _order_page(desk, visit, found, Errors(general=words, status=_CONFLICT))


def _quantities(typed: Mapping[str, str]) -> tuple[dict[str, int], Fields]:
    """What is wanted, without what goes out; and what is wrong, by SKU."""
    wanted, bad = {}, Fields()
    for sku, text in typed.items():
        quantity = number(text)
        if quantity is None or not 0 <= quantity <= basket.MAX_QUANTITY:
            bad[sku] = f"Write a whole number from 0 to {basket.MAX_QUANTITY:,}; 0 takes it out."
        elif quantity:
            wanted[sku] = quantity
    return wanted, bad


def _of_edit(refusal: Refusal, sent: Sequence[str], found: Order) -> Errors:
    errors = Errors.of(refusal)
    back = Way(f"/orders/{found.order}", "See the order")
    match refusal.reason:
        case Reason.VERSION_CONFLICT:
            words = "The order has changed since you opened this page. Compare what you typed with it, then save again."
            return errors._replace(general=words)
        case Reason.OUT_OF_STOCK if refusal.data["sku"] in {line.sku for line in found.lines}:
            words = f"Only {refusal.data['available']:,} are left for this order."
            return Errors.at(refusal.data["sku"], words, errors.status)
        case Reason.NOT_FOUND if refusal.data.get("sku") in {line.sku for line in found.lines}:
            return Errors.at(refusal.data["sku"], "This is not sold any more: write 0 to take it out.", errors.status)
        case Reason.INVALID_PARAMS if not sent:
            words = "Something has to stay in an order. If you want none of it, cancel it."
            return Errors(general=words, way=back._replace(label="Cancel it there"), status=errors.status)
    return errors.placed("address")


def _edit_page(
    desk: Desk, visit: Visit, found: Order, typed: Edited, errors: Errors = NO_ERRORS, *, stale: bool = False
) -> Response:
    """stale: the order has changed since the form was first shown, so both are."""
    lines = [
        EditLine(
            line.sku,
            line.name,
            typed.quantities.get(line.sku, "0"),
            errors.fields[line.sku],
            line.quantity if stale else None,
        )
        for line in found.lines
    ]
    return desk.page(
        visit,
        "order_edit",
        status=errors.status,
        order=found,
        lines=lines,
        typed=typed,
        stale=stale,
        errors=errors,
    )


# What is asked for


async def _found(desk: Desk, visit: Visit) -> Order:
    found: Order = await desk.call(visit, "order.get", {"order": _number(visit)}, Order)
    return found


def _number(visit: Visit) -> int:
    text = visit.request.path_params["order"]
    if not _NUMBER.fullmatch(text):
        raise Refusal(Reason.NOT_FOUND, "there is no such order")
    return int(text)


def _session(visit: Visit) -> Session:
    assert visit.session is not None, "the pages here are for those who are logged in"
    return visit.session


def _with(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


_STAFF = (Role.AGENT, Role.ADMIN)
ROUTES = [
    Page("/checkout", checkout, login=True),
    Page("/checkout", place, ("POST",), login=True),
    Page("/orders", orders, login=True),
    Page("/orders/{order}", order, login=True),
    Page("/orders/{order}/edit", edit, login=True),
    Page("/orders/{order}/edit", save, ("POST",), login=True),
    Page("/orders/{order}/cancel", cancel, ("POST",), login=True),
    Page("/orders/{order}/status", advance, ("POST",), login=True, roles=_STAFF),
]
