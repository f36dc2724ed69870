"""The pages, one module for each part of the shop. All they know they ask of a method of the table."""

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response

from securedelivery.model import Role

if TYPE_CHECKING:
    from securedelivery.web.desk import Desk
    from securedelivery.web.visits import Visit

__all__ = ["Page", "all_pages", "login_first", "redirect"]

Handler = Callable[["Desk", "Visit"], Awaitable[Response]]

_MODULES = ("catalog", "basket", "orders", "entry", "account", "rewards", "chat", "staff", "opt_out", "reference")


class Page(NamedTuple):
    """login: whether it is for somebody who is logged in. roles: for these alone; none: for all.

    capability: whether what it changes is allowed by a secret in its own address, and by nothing else: no CSRF token.
    """

    path: str
    handler: Handler
    verbs: tuple[str, ...] = ("GET",)
    login: bool = False
    roles: tuple[Role, ...] = ()
    capability: bool = False


def all_pages() -> list[Page]:
    return [page for name in _MODULES for page in import_module(f"{__name__}.{name}").ROUTES]


def redirect(path: str) -> Response:
    """To be fetched with GET, so that a reload repeats nothing (RFC 9110, section 15.4.4)."""
    return RedirectResponse(path, 303)


def login_first(visit: "Visit") -> Response:
    request = visit.request
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return redirect(f"/login?next={quote(path)}" if request.method == "GET" else "/login")
