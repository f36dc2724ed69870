"""/api: a request becomes a call of the table, and its outcome an answer."""

import asyncio
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeVar, get_args, get_origin
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Raw
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from securedelivery.api import messages as m
from securedelivery.api.methods import METHODS
from securedelivery.errors import Reason, Refusal
from securedelivery.model import Order
from securedelivery.web.desk import Desk
from securedelivery.web.problems import HttpRefusal
from securedelivery.web.routes import Route
from securedelivery.web.visits import Visit

__all__ = ["MAX_BODY", "answer", "chosen", "read_body"]

Way = TypeVar("Way")

MAX_BODY = 65_536
"""Bytes: as much as a frame of the socket door."""

BODY_SECONDS = 30.0
_NUMBER = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_VERSION = re.compile(r"[1-9][0-9]{0,14}", re.ASCII)
_TAG = re.compile(r'\s*(?:(W/)?"([^"]*)"|(\*))\s*(?:,|$)')
_WORDS = {"true": True, "false": False}


async def answer(desk: Desk, visit: Visit, route: Route) -> Response:
    """Raises Refusal, HttpRefusal."""
    request = visit.request
    params = await _parameters(request, route)
    if route.key is not None and visit.session is not None:  # else the table asks for a login first
        _take_key(request, params, route.key)
    await _heed_preconditions(desk, visit, route, params)
    try:
        result = await desk.call(visit, route.method, params)
    except Refusal as refusal:
        if refusal.reason is Reason.VERSION_CONFLICT:
            raise _Stale(refusal) from None
        raise
    return _response(request, route, result)


class _Stale(HttpRefusal):
    """What the protocol calls a version conflict is a precondition here (RFC 9110, section 13.1.1)."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__("precondition_failed", refusal.message, **refusal.data)
        self.reason = Reason.VERSION_CONFLICT.slug


async def read_body(request: Request, most: int = MAX_BODY) -> bytes:
    """Raises HttpRefusal for one that is too large, or too slow."""
    body = bytearray()
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise _too_large(most)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise _too_large(most)
    except TimeoutError:
        raise HttpRefusal(
            "request_timeout", f"the body took more than {BODY_SECONDS:.0f} s", {"Connection": "close"}
        ) from None
    except ClientDisconnect:
        raise HttpRefusal("request_timeout", "the client has gone") from None
    return bytes(body)


def _too_large(most: int) -> HttpRefusal:
    return HttpRefusal("content_too_large", f"more than {most} bytes: send less at once", {"Connection": "close"})


# Parameters


async def _parameters(request: Request, route: Route) -> dict[str, Any]:
    """From the path, and from the query (GET, DELETE) and the body (not GET). The path comes first, then the body."""
    kinds = {field.encode_name: field.type for field in msgspec.structs.fields(METHODS[route.method].parameters)}
    params: dict[str, Any] = {}
    if request.method in ("GET", "HEAD", "DELETE"):
        for name, text in request.query_params.multi_items():
            if name in params:
                raise Refusal.invalid(f"/{name}", f"{name} stands more than once in the query")
            params[name] = _typed(text, kinds.get(name))
    if request.method not in ("GET", "HEAD"):
        params |= _members(request, await read_body(request))
    return params | {name: _typed(text, kinds.get(name)) for name, text in request.path_params.items()}


def _members(request: Request, body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HttpRefusal("unsupported_media_type", "send JSON, as Content-Type: application/json")
    try:
        body.decode()  # msgspec does not look into strings that it skips
        msgspec.json.decode(body, type=Raw)  # what is no JSON is that first, and no object after it
        return dict(msgspec.json.decode(body, type=dict[str, Raw]))
    except msgspec.ValidationError:
        raise Refusal(Reason.INVALID_REQUEST, "the body is not a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(Reason.PARSE_ERROR, f"not JSON: {error}") from None


def _typed(text: str, kind: Any) -> Any:
    """What a text of path or query is in JSON: a number or a truth where the parameter is one. Anything else stays a
    text, and the table says what is wrong with it.
    """
    kinds = _parts(kind)
    if int in kinds and _NUMBER.fullmatch(text):
        return int(text)
    if bool in kinds and text in _WORDS:
        return _WORDS[text]
    return text


def _parts(kind: Any) -> set[Any]:
    """The plain types in an annotation."""
    if get_origin(kind) is None:
        return {kind}
    return {part for one in get_args(kind) for part in _parts(one)}


def _take_key(request: Request, params: dict[str, Any], name: str) -> None:
    """The header Idempotency-Key, quoted or not (draft-ietf-httpapi-idempotency-key-header); a body may have it."""
    key = request.headers.get("idempotency-key")
    if key is None:
        if name not in params:
            raise Refusal.invalid(
                f"/{name}", "the header Idempotency-Key is missing: a value of your own, the same for each retry"
            )
        return
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if name in params and _plain(params[name]) != key:
        raise Refusal.invalid(f"/{name}", f"{name} in the body is another than the header Idempotency-Key")
    params[name] = key


def _plain(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, Raw) else value


# Preconditions (RFC 9110, section 13)


async def _heed_preconditions(desk: Desk, visit: Visit, route: Route, params: dict[str, Any]) -> None:
    """If-Match against the version of the order in the path. order.update does it itself, within its transaction."""
    given = visit.request.headers.get("if-match")
    if given is None:
        if route.version is not None and visit.session is not None:
            raise HttpRefusal(
                "precondition_required", "name the version that you saw: If-Match with the ETag of GET on this order"
            )
        return
    number = visit.request.path_params.get("order")
    if number is None or visit.request.method in ("GET", "HEAD"):
        return
    wanted = _tags(given)
    if wanted is not None and len(wanted) == 1 and wanted[0] and route.version is not None:
        params[route.version] = wanted[0]
        return
    order = await desk.call(
        visit, "order.get", {"order": params["order"]}, Order
    )  # a look: only order.update is atomic
    if wanted is not None and order.version not in wanted:
        raise HttpRefusal(
            "precondition_failed",
            f"the order has changed: it is at version {order.version}; look at it, then edit that",
            version=order.version,
        )
    if route.version is not None:
        params[route.version] = order.version


def _tags(header: str) -> list[int] | None:
    """The versions in an If-Match; None for any (`*`). Weak ones and those of others match nothing: version 0."""
    tags: list[int] = []
    rest = 0
    while rest < len(header):
        found = _TAG.match(header, rest)
        if found is None:
            raise Refusal(Reason.INVALID_REQUEST, f'If-Match {header[:100]!r} is no list of tags: write "3"')
        if found[3]:
            return None
        usable = found[1] is None and _VERSION.fullmatch(found[2])
        tags.append(int(found[2]) if usable else 0)
        rest = found.end()
    return tags or [0]


# Answers


def _response(request: Request, route: Route, result: Any) -> Response:
    headers: dict[str, str] = {}
    status = HTTPStatus.CREATED if route.created else HTTPStatus.OK
    if isinstance(result, Order):
        tag = headers["ETag"] = f'"{result.version}"'
        known = request.headers.get("if-none-match", "")
        if request.method in ("GET", "HEAD") and (tag in known or known.strip() == "*"):
            return Response(None, HTTPStatus.NOT_MODIFIED, headers)
        if route.located is not None:
            headers["Location"] = route.located.format(order=result.order)
    elif route.located is not None:
        headers["Location"] = route.located
    following = getattr(result, "next", None) if isinstance(result, m.Page | m.History) else None
    if following is not None:
        headers["Link"] = f'<{_behind(request, following)}>; rel="next"'
    return Response(msgspec.json.encode(result), status, headers, "application/json")


def _behind(request: Request, cursor: str | int) -> str:
    """The request's own address, further on."""
    query = [(name, text) for name, text in request.query_params.multi_items() if name != "after"]
    return f"{quote(request.url.path)}?{urlencode([*query, ('after', str(cursor))])}"


def chosen(request: Request, ways: Mapping[str, Way]) -> Way:
    """What a path has for the request's verb. Raises HttpRefusal where it has nothing."""
    way = ways.get("GET" if request.method == "HEAD" else request.method)
    if way is None:
        verbs = ", ".join(sorted({*ways, "HEAD"} if "GET" in ways else ways))
        raise HttpRefusal("method_not_allowed", f"{request.method} is not for this path: {verbs}", {"Allow": verbs})
    return way
