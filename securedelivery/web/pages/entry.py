"""The way in and out: log in by password or certificate, join, log out."""

import re

from starlette.responses import Response

from securedelivery.errors import Reason, Refusal
from securedelivery.model import Role
from securedelivery.web.desk import Desk
from securedelivery.web.pages import Page, redirect
from securedelivery.web.pages.forms import NO_ERRORS, Errors
from securedelivery.web.visits import Visit

__all__ = ["ROUTES", "local_path"]

# A browser takes \ for /, and drops tabs and line ends: `//elsewhere` in any such disguise is another site.
_LOCAL = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*")
MAX_PATH = 2_000

_DESKS = {Role.AGENT: "/inbox", Role.ADMIN: "/inbox", Role.COURIER: "/deliveries"}
"""Where the day's work of a role is."""

_DETAILS = ("name", "email", "address")


def local_path(text: str) -> str | None:
    """The path, where it is one of this site."""
    return text if len(text) <= MAX_PATH and _LOCAL.fullmatch(text) else None


async def show_login(desk: Desk, visit: Visit) -> Response:
    if visit.session is not None:
        return _onwards(visit)
    return _login(desk, visit, left="out" in visit.request.query_params)


async def log_in(desk: Desk, visit: Visit) -> Response:
    name, password = visit.form.get("username"), visit.form.raw("password")
    try:
        await desk.call(visit, "account.login", {"username": name, "password": password})
    except Refusal as refusal:
        return _login(desk, visit, Errors.of(refusal), username=name)
    return _onwards(visit)


async def log_in_by_certificate(desk: Desk, visit: Visit) -> Response:
    try:
        await desk.call(visit, "account.login_certificate")
    except Refusal as refusal:
        unbound = refusal.reason is Reason.BAD_CREDENTIALS and visit.caller.identity is not None
        return _login(desk, visit, Errors.of(refusal), unbound=unbound)
    return _onwards(visit)


async def show_join(desk: Desk, visit: Visit) -> Response:
    return _onwards(visit) if visit.session is not None else _join(desk, visit)


async def join(desk: Desk, visit: Visit) -> Response:
    form = visit.form
    typed = {field: form.get(field) for field in ("username", *_DETAILS)}
    given = {field: text for field, text in typed.items() if text or field == "username"}
    if form.raw("password") or visit.caller.identity is None:
        given["password"] = form.raw("password")
    try:
        await desk.call(visit, "account.create", given)
    except Refusal as refusal:
        errors = Errors.of(refusal)
        if refusal.reason is Reason.USERNAME_TAKEN:
            errors = Errors.at("username", errors.general, errors.status)
        return _join(desk, visit, errors, typed)
    return _onwards(visit)


async def log_out(desk: Desk, visit: Visit) -> Response:
    if visit.session is not None:
        await desk.call(visit, "account.logout")
    return redirect("/login?out")


def _login(
    desk: Desk,
    visit: Visit,
    errors: Errors = NO_ERRORS,
    *,
    username: str = "",
    left: bool = False,
    unbound: bool = False,
) -> Response:
    """left: whether somebody has just logged out. unbound: whether no account has the connection's certificate."""
    return desk.page(
        visit,
        "login",
        status=errors.status,
        errors=errors,
        following=_following(visit),
        certificate=_certified(visit),
        username=username,
        left=left,
        unbound=unbound,
    )


def _join(desk: Desk, visit: Visit, errors: Errors = NO_ERRORS, typed: dict[str, str] | None = None) -> Response:
    return desk.page(
        visit,
        "join",
        status=errors.status,
        errors=errors,
        following=_following(visit),
        certificate=_certified(visit),
        typed=typed or dict.fromkeys(("username", *_DETAILS), ""),
    )


def _certified(visit: Visit) -> str | None:
    """The name in the connection's certificate."""
    return None if visit.caller.identity is None else visit.caller.identity.name


def _following(visit: Visit) -> str | None:
    """Where somebody was on the way to."""
    asked = visit.form.get("next") or visit.request.query_params.get("next", "")
    return local_path(asked)


def _onwards(visit: Visit) -> Response:
    assert visit.session is not None
    return redirect(_following(visit) or _DESKS.get(visit.session.role, "/"))


ROUTES = [
    Page("/login", show_login),
    Page("/login", log_in, ("POST",)),
    Page("/login/certificate", log_in_by_certificate, ("POST",)),
    Page("/join", show_join),
    Page("/join", join, ("POST",)),
    Page("/logout", log_out, ("POST",)),
]
