"""One's own account: what is known, what is wanted, and the ways to take it along or to end it."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

from securedelivery import model
from securedelivery.api import messages as m
from securedelivery.errors import Reason, Refusal
from securedelivery.web.desk import Desk
from securedelivery.web.pages import Page, redirect
from securedelivery.web.pages.forms import NO_ERRORS, Errors
from securedelivery.web.visits import Visit

__all__ = ["ROUTES"]

_FIELDS = ("name", "email", "address")
_MAILS = ("receipts", "summaries", "missed_chat")

_DONE = {
    "profile": "Saved.",
    "password": "You have a new password. Everywhere else you are logged out.",
    "mail": "Saved.",
    "certificate": "From now on this certificate logs you in.",
}
"""What was done, by the part of the page that tells it."""

_Part = m.Page[msgspec.Raw]


async def show(desk: Desk, visit: Visit) -> Response:
    return await _page(desk, visit, done=visit.request.query_params.get("done", ""))


async def update(desk: Desk, visit: Visit) -> Response:
    form = visit.form
    changes = {field: form.get(field) or None for field in _FIELDS if field in form}
    return await _change(desk, visit, "profile", "account.update", changes)


async def choose_mail(desk: Desk, visit: Visit) -> Response:
    return await _change(desk, visit, "mail", "account.update", {"mail": {kind: kind in visit.form for kind in _MAILS}})


async def change_password(desk: Desk, visit: Visit) -> Response:
    old, new = visit.form.raw("old_password"), visit.form.raw("new_password")
    params = {"old_password": old or None, "new_password": new}
    return await _change(desk, visit, "password", "account.change_password", params)


async def bind_certificate(desk: Desk, visit: Visit) -> Response:
    return await _change(desk, visit, "certificate", "account.bind_certificate", {})


async def _change(desk: Desk, visit: Visit, part: str, method: str, params: dict[str, Any]) -> Response:
    """part: of the page, where a refusal is told."""
    try:
        await desk.call(visit, method, params)
    except Refusal as refusal:
        errors = Errors.of(refusal)
        if part == "password" and refusal.reason is Reason.BAD_CREDENTIALS:
            errors = Errors.at("old_password", errors.general, errors.status)
        return await _page(desk, visit, part, errors)
    return redirect(f"/account?done={part}#{part}")


async def _page(desk: Desk, visit: Visit, part: str = "", errors: Errors = NO_ERRORS, *, done: str = "") -> Response:
    account = await desk.call(visit, "account.get", kind=model.Account)
    typed = {field: getattr(account, field) or "" for field in _FIELDS}
    if part == "profile":
        typed |= {field: visit.form.get(field) for field in _FIELDS}
    identity = visit.caller.identity
    return desk.page(
        visit,
        "account",
        status=errors.status,
        account=account,
        typed=typed,
        part=part,
        errors=errors,
        certificate=None if identity is None else identity.uri,
        done={done: _DONE[done]} if done in _DONE else {},
    )


async def export(desk: Desk, visit: Visit) -> Response:
    """All that is stored, as one file. It goes out as it is read, however much it is."""
    first = await _exported(desk, visit, None)
    assert visit.session is not None
    name = f"{desk.shop.name}-{visit.session.username}.json".encode("ascii", "replace").decode()
    return StreamingResponse(
        _file(desk, visit, first),
        headers={"Content-Disposition": f'attachment; filename="{_safe(name)}"'},
        media_type="application/json",
    )


async def _exported(desk: Desk, visit: Visit, after: str | None) -> _Part:
    part: _Part = await desk.call(visit, "account.export", {"after": after}, kind=_Part)
    return part


async def _file(desk: Desk, visit: Visit, part: _Part) -> AsyncIterator[bytes]:
    """`{"shop", "items": [...], "complete": true}`; where it cannot go on: false, and `reason`."""
    yield b'{"shop": %s, "items": [' % msgspec.json.encode(desk.shop.name)
    comma = b"\n"
    ending = b'\n], "complete": true}\n'
    while True:
        for item in part.items:
            yield comma + bytes(item)
            comma = b",\n"
        if part.next is None:
            break
        try:
            part = await _exported(desk, visit, part.next)
        except Refusal as refusal:
            ending = b'\n], "complete": false, "reason": %s}\n' % msgspec.json.encode(refusal.message)
            break
    yield ending


def _safe(name: str) -> str:
    """For a file's name in a header."""
    return "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in name)


async def show_delete(desk: Desk, visit: Visit) -> Response:
    return await _delete_page(desk, visit)


async def delete(desk: Desk, visit: Visit) -> Response:
    try:
        await desk.call(visit, "account.delete", {"password": visit.form.raw("password") or None})
    except Refusal as refusal:
        errors = Errors.of(refusal)
        if refusal.reason is Reason.BAD_CREDENTIALS:
            errors = Errors.at("password", errors.general, errors.status)
        return await _delete_page(desk, visit, errors, refusal.reason is Reason.OPEN_ORDERS)
    await desk.call(visit, "account.logout")  # the browser is to forget, too
    return desk.page(visit, "deleted")


async def _delete_page(desk: Desk, visit: Visit, errors: Errors = NO_ERRORS, open_orders: bool = False) -> Response:
    account = await desk.call(visit, "account.get", kind=model.Account)
    return desk.page(
        visit, "account_delete", status=errors.status, account=account, errors=errors, open_orders=open_orders
    )


ROUTES = [
    Page("/account", show, login=True),
    Page("/account", update, ("POST",), login=True),
    Page("/account/password", change_password, ("POST",), login=True),
    Page("/account/mail", choose_mail, ("POST",), login=True),
    Page("/account/certificate", bind_certificate, ("POST",), login=True),
    Page("/account/export", export, login=True),
    Page("/account/delete", show_delete, login=True),
    Page("/account/delete", delete, ("POST",), login=True),
]
