"""Which request goes where, and what becomes of one that fails."""

import asyncio
import contextlib
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, WebSocketRoute
from starlette.routing import Route as StarletteRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from securedelivery.errors import Reason, Refusal
from securedelivery.transport.dispatch import Caller
from securedelivery.web import rest
from securedelivery.web.connections import CONNECTION
from securedelivery.web.desk import Desk
from securedelivery.web.headers import secure
from securedelivery.web.live import Live
from securedelivery.web.pages import Page, all_pages, basket, login_first
from securedelivery.web.problems import HttpRefusal, headers_of, problem, status_of
from securedelivery.web.rendering import STATIC
from securedelivery.web.routes import ROUTES, Route
from securedelivery.web.visits import CSRF_FIELD, CSRF_HEADER, SAFE, Form, Visit, check_origin, check_token, look_up

__all__ = ["build"]

REQUEST_SECONDS = 60.0
_ABSOLUTE = re.compile(r"https?://[^/?#]*(/.*)?", re.ASCII | re.DOTALL | re.IGNORECASE)
"""The absolute form of a target (RFC 9112, section 3.2.2)."""

API = "/api/"
LIVE = "/api/chat/live"


def build(desk: Desk, live: Live) -> ASGIApp:
    """The ASGI application. Each request passes _Guard, then one of _Api, _Pages, the static files and live.serve."""
    pages = all_pages()
    desk.count_basket = lambda visit: sum(basket.read(visit).values())
    routes: list[BaseRoute] = [
        WebSocketRoute(LIVE, live.serve),
        Mount("/static", _Static(directory=STATIC)),
    ]
    by_path: defaultdict[str, dict[str, Route]] = defaultdict(dict)
    for route in ROUTES:
        by_path[route.path][route.verb] = route
    pages_by_path: defaultdict[str, dict[str, Page]] = defaultdict(dict)
    for page in pages:
        pages_by_path[page.path] |= dict.fromkeys(page.verbs, page)
    door = _Door(desk)
    routes += [StarletteRoute(path, _Endpoint(partial(door.api, ways))) for path, ways in by_path.items()]
    routes += [StarletteRoute(path, _Endpoint(partial(door.page, ways))) for path, ways in pages_by_path.items()]
    handlers = {HTTPException: door.nowhere}
    app = Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]
    app.router.redirect_slashes = False  # an address has one form
    return _Guard(app, desk)


class _Door:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def api(self, ways: dict[str, Route], request: Request) -> Response:
        """One of /api. ways: what the path has, by verb."""
        visit: Visit | None = None
        try:
            route = rest.chosen(request, ways)
            visit = await look_up(self._desk, request)
            if request.method not in SAFE:
                check_origin(request.headers, self._desk.shop.public_url)
                check_token(visit, request.headers.get(CSRF_HEADER))
            response = await rest.answer(self._desk, visit, route)
        except (Refusal, HttpRefusal) as refusal:
            response = problem(refusal)
        except Exception as error:  # noqa: BLE001 -- a bug costs one answer
            response = problem(self._desk.api.incident(error, f"{request.method} {request.url.path}"))
        if visit is not None:
            visit.bind(self._desk)  # a login has changed it
            if visit.csrf_token:
                response.headers[CSRF_HEADER] = visit.csrf_token
            visit.finish(response)
        return response

    async def page(self, ways: dict[str, Page], request: Request) -> Response:
        visit = _nobody(request)
        try:
            page = rest.chosen(request, ways)
            visit = await look_up(self._desk, request)
            response = await self._visited(page, visit)
        except Refusal as refusal:
            response = self._refused(visit, refusal)
        except HttpRefusal as refusal:
            response = self._error_page(visit, refusal.status, refusal.message)
            response.headers.update(refusal.headers)
        except Exception as error:  # noqa: BLE001 -- as above
            incident = self._desk.api.incident(error, f"{request.method} {request.url.path}")
            response = self._error_page(visit, 500, incident.message)
        if visit.refusal is not None and response.status_code == status_of(visit.refusal.reason):
            response.headers.update(headers_of(visit.refusal))
        visit.finish(response)
        return response

    async def _visited(self, page: Page, visit: Visit) -> Response:
        request = visit.request
        if request.method not in SAFE:
            visit.form = Form(await rest.read_body(request))
            if not page.capability:
                check_origin(request.headers, self._desk.shop.public_url)
                _check_form(visit)
        if page.login or page.roles:
            if visit.session is None:
                return login_first(visit)
            if page.roles and visit.session.role not in page.roles:
                whom = " and ".join(f"{role}s" for role in page.roles)
                raise Refusal(Reason.FORBIDDEN, f"this page is for the shop's {whom}")
        return await page.handler(self._desk, visit)

    def _refused(self, visit: Visit, refusal: Refusal) -> Response:
        if refusal.reason is Reason.NOT_LOGGED_IN and visit.request.method in SAFE:
            return login_first(visit)
        visit.refusal = refusal
        return self._error_page(visit, status_of(refusal.reason), refusal.message)

    def _error_page(self, visit: Visit, status: int, message: str) -> Response:
        return self._desk.page(visit, "error", status=status, message=message)

    async def nowhere(self, request: Request, error: HTTPException) -> Response:
        """What no route has, or no static file for this verb."""
        if request.url.path == LIVE:
            return problem(HttpRefusal("upgrade_required", "this is a WebSocket: wss", {"Upgrade": "websocket"}))
        if request.url.path.startswith(API):
            return problem(Refusal(Reason.METHOD_NOT_FOUND, "there is nothing at this path; see /api/docs"))
        try:
            visit = await look_up(self._desk, request)
        except Refusal:
            visit = _nobody(request)
        words = "There is no such page." if error.status_code == HTTPStatus.NOT_FOUND else error.detail
        response = self._error_page(visit, error.status_code, words)
        response.headers.update(error.headers or {})
        visit.finish(response)
        return response


class _Endpoint:
    """Gets every verb, also those that nobody has heard of: the path itself says which it has."""

    def __init__(self, answer: Callable[[Request], Awaitable[Response]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive, send))
        await response(scope, receive, send)


class _Static(StaticFiles):
    """Addresses that have a version (rendering.static()) may be kept for ever."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        lasting = b"v=" in scope["query_string"]
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if lasting else "no-cache"
        return response


class _Guard:
    """Around everything: the headers, and a bound for the time that a request may take."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app = app
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        started = False

        async def secured(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                secure(MutableHeaders(scope=message))
            await send(message)

        if absolute := _ABSOLUTE.fullmatch(scope["path"]):
            scope["path"] = absolute[1] or "/"
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await (_TWO_LENGTHS if _has_two_lengths(scope) else self._app)(scope, receive, secured)
        except asyncio.CancelledError:  # the server stops, and has waited for it
            scope["state"][CONNECTION].abort()
        except Exception as error:  # noqa: BLE001 -- uvicorn would tell of it in its own way
            late = isinstance(error, TimeoutError)
            refusal = _TOO_LATE if late else self._desk.api.incident(error, f"{scope['method']} {scope['path']}")
            if started:  # a browser that does not read: what is left for it goes with its connection
                scope["state"][CONNECTION].abort()
                with contextlib.suppress(TimeoutError):  # until uvicorn has heard of it, too
                    async with asyncio.timeout(1):
                        while (await receive())["type"] != "http.disconnect":
                            pass
            else:
                await problem(refusal)(scope, receive, secured)


_TOO_LATE = Refusal(Reason.UNAVAILABLE, "this took too long: try again in a moment")


def _has_two_lengths(scope: Scope) -> bool:
    """What a proxy in front may read as one request, and we as two (RFC 9112, section 6.1)."""
    return {b"transfer-encoding", b"content-length"} <= {name for name, _ in scope["headers"]}


_TWO_LENGTHS = problem(Refusal(Reason.INVALID_REQUEST, "a request has one length: Content-Length or Transfer-Encoding"))
_TWO_LENGTHS.headers["Connection"] = "close"


def _check_form(visit: Visit) -> None:
    """As check_token(), for people."""
    try:
        check_token(visit, visit.form.raw(CSRF_FIELD))
    except Refusal:
        words = "this page is from before you last logged in: go back, load it again, and send it once more"
        raise Refusal(Reason.FORBIDDEN, words) from None


def _nobody(request: Request) -> Visit:
    return Visit(request, Caller(None, ""))
