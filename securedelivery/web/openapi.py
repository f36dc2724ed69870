"""/api as an OpenAPI 3.1 document (https://spec.openapis.org), made from the routes and the table of methods.

What only the document says, in words, stands in reasons.py and below: what a parameter is for, and an example of it.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec

from securedelivery import __version__
from securedelivery.api.messages import Typing
from securedelivery.api.methods import METHODS, Access, Method
from securedelivery.api.schemas import REF, component_name, components_of
from securedelivery.errors import Reason
from securedelivery.model import Conversation, Message, Order, Rewards
from securedelivery.web.problems import MEDIA_TYPE
from securedelivery.web.reasons import EXPLAINED, status_of_slug
from securedelivery.web.routes import ROUTES, Route
from securedelivery.web.visits import COOKIE

__all__ = ["document", "encoded", "etag"]

Json = dict[str, Any]

_INTRODUCTION = """\
Orders, rewards and support chat of the shop, over HTTPS.

**Logging in.** POST /api/session sets a cookie, and every request that brings it is made by that account. A client
certificate that an account is bound to logs in by itself.

**Changing something.** Whoever is logged in sends back, in the header X-CSRF-Token, what the same header of the last
answer said. Without it: `forbidden`.

**Retries.** Idempotency-Key is a value of your own, a new one for each intent and the same one for each retry. The same
request again gives the same order or message and changes nothing.

**Versions.** An order's ETag is its version. An edit says in If-Match which version it is an edit of; when somebody
was quicker it is refused, and nothing is lost.

**Lists** come in pages. Where there is more, Link has the address of the next page (rel="next") and the answer's
`next` the cursor in it.

**Money** is an integer in minor units (cents); **times** are RFC 3339 in UTC.

**Errors** are problem details (RFC 9457) with a `reason` that stays the same between versions.

**Live chat** is a WebSocket at /api/chat/live?after=N, which OpenAPI has no words for (see x-live): first come all
messages behind sequence N, then what happens, as JSON-RPC notifications; the methods chat.* and system.ping can be
called on it.
"""

_TAGS = {
    "system": "The shop itself.",
    "rpc": "What describes this interface.",
    "account": "Accounts, logging in and out, and what is kept of a customer.",
    "audit": "Who did what.",
    "report": "The shop in numbers.",
    "catalog": "What is sold.",
    "order": "Orders, from the basket to the end.",
    "delivery": "For couriers.",
    "rewards": "Points and tiers.",
    "chat": "Customers and support.",
}

_WORDS = {
    "after": "where to go on: `next` of the page before",
    "limit": "how many at most; 50 where it is left out",
    "query": "words to look for",
    "section": "one section of the document",
    "status": "only those with this status",
    "account": "only those of this account, by its username",
    "action": "only this action",
    "changed_since": "only those changed at this time or later",
    "from": "the first day, in UTC",
    "to": "the last day, which counts, in UTC",
    "order": "the number of an order",
    "conversation": "the number of a conversation, for agents; left out: one's own",
    "username": "the username of an account",
    "sku": "the product's number in the catalog",
    "password": "the account's password, where it has one",
    "reason": "why, for the customer and the shop",
}

_EXAMPLES: Json = {
    "Idempotency-Key": "5f2c8e1a-4b0d-4c57-9f43-6d0b6a1c7e92",
    "username": "ada",
    "password": "seven quiet harbours",
    "old_password": "seven quiet harbours",
    "new_password": "eleven loud markets",
    "name": "Ada Lovelace",
    "email": "ada@example.org",
    "address": "12 Mill Lane, Oxford",
    "mail": {"summaries": False},
    "role": "agent",
    "disabled": True,
    "from": "2026-11-01",
    "to": "2026-11-30",
    "sku": "CPU-1",
    "description": "Six cores, twelve threads",
    "price": 19900,
    "stock": 25,
    "active": True,
    "order": 1,
    "lines": [{"sku": "CPU-1", "quantity": 2}],
    "status": "confirmed",
    "code": "271828",
    "text": "Does the CPU-1 fit the board in my order?",
    "conversation": 1,
    "up_to": 1,
    "agent": "grace",
}
_EXAMPLES_OF: Json = {
    "account.set_role": {"username": "grace"},
    "account.disable": {"username": "grace"},
    "catalog.put": {"name": "A small processor"},
}
_FOR_SOME = frozenset({"conversation"})  # an agent's; whoever leaves it out means his own

_MINOR = "in minor units (cents)"
_MEMBERS = {
    "active": "whether it is sold now",
    "agent": "who has taken it",
    "available": "how many there are",
    "by_status": "how many orders of each status",
    "certificate": "the identity (spiffe) that logs in to it",
    "code": "the 6 digits that the customer has",
    "MarkRead.conversation": _WORDS["conversation"],
    "SendMessage.conversation": _WORDS["conversation"],
    "Type.conversation": _WORDS["conversation"],
    "courier": "who brings it; needed on the way to out_for_delivery",
    "delivery_code": "6 digits, for its customer alone",
    "discount": f"for points, {_MINOR}",
    "entry": "its number",
    "expires_at": "of points that were earned or came back",
    "hash": "of this entry and the one before it",
    "has_password": "whether it can log in by password",
    "last": "the conversation's last sequence",
    "last_sequence": "that of its last message",
    "limits": "of the socket door",
    "next": "where the next page begins; null at the end",
    "note": "for whoever looks at the history",
    "old_password": "where one is set",
    "orders_needed": "how many are still missing",
    "points_earned": "with this order",
    "points_redeemed": "for the discount",
    "price": _MINOR,
    "redeem_points": "at most so many, and at most half the subtotal's worth",
    "stock": "how many there are",
    "subtotal": f"of the lines, {_MINOR}",
    "tier": "bronze, silver, gold or platinum, unless the shop has others",
    "total": _MINOR,
    "turnover": _MINOR,
    "unit_price": f"as it was when the order was placed, {_MINOR}",
    "unread": "messages that the other side has not read",
    "up_to": "the sequence of the last message that was read",
    "Order.version": "1, 2, 3 ... with each change; also the ETag",
    "waiting": "conversations without an agent, now",
    "waiting_since": "null where nobody waits",
}
"""What members are, wherever they stand, if their types do not say so."""
_NOTIFICATIONS: dict[str, Any] = {
    "chat.message": Message,
    "chat.typing": Typing,
    "chat.conversation": Conversation,
    "order.changed": Order,
    "rewards.changed": Rewards,
}
"""What comes over the WebSocket."""

_IN_BODY = frozenset({"password"})  # an address is logged and remembered
_SAFE = frozenset({"GET"})
_BOTH: Json = {"session": [], "certificate": []}


@cache
def encoded() -> bytes:
    """The document of this server, as JSON."""
    return msgspec.json.encode(document(ROUTES, METHODS))


@cache
def etag() -> str:
    return f'"{hashlib.sha256(encoded()).hexdigest()[:32]}"'


def document(routes: Sequence[Route], methods: Mapping[str, Method]) -> Json:
    """Every route is an operation; its method has to be in the table."""
    used = [methods[route.method] for route in routes]
    kinds = [kind for one in used for kind in (one.parameters, one.result)]
    schemas, components = components_of([*kinds, *_NOTIFICATIONS.values()])
    live = dict(zip(_NOTIFICATIONS, schemas[len(kinds) :], strict=True))
    schemas = schemas[: len(kinds)]
    components = {name: _explained(schema) for name, schema in components.items()}
    book = _Book(components)
    paths: dict[str, Json] = {}
    for route, method, parameters, result in zip(routes, used, schemas[::2], schemas[1::2], strict=True):
        operation = _Operation(book, route, method, components[component_name(parameters)], result)
        again = any(route.method == one["x-method"] for item in paths.values() for one in item.values())
        item = paths.setdefault(re.sub(r":\w+(?=\})", "", route.path), {})
        item[route.verb.lower()] = operation.described(
            f"{route.method}.{route.verb.lower()}" if again else route.method
        )
    shared = {
        "schemas": {"Problem": _PROBLEM, **components, **book.schemas},
        "responses": dict(sorted(book.responses.items())),
        "headers": _HEADERS,
    }
    sections = dict.fromkeys(one.name.partition(".")[0] for one in used)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "securedelivery",
            "version": __version__,
            "summary": "A shop's orders, rewards and support chat",
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "the server that this document comes from"}],
        "tags": [{"name": section, "description": _TAGS[section]} for section in sections],
        "paths": paths,
        "components": {**_only_used([paths, live], shared), "securitySchemes": _SECURITY_SCHEMES},
        "x-live": {"path": "/api/chat/live", "notifications": live},
        "x-reasons": {
            slug: {"status": status_of_slug(slug), **one._asdict()} for slug, one in sorted(EXPLAINED.items())
        },
    }


_SECURITY_SCHEMES: Json = {
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "Set by POST /api/session and POST /api/accounts; ends with DELETE /api/session.",
    },
    "certificate": {
        "type": "mutualTLS",
        "description": "A client certificate of the shop's authority, bound to an account.",
    },
}

_HEADERS: Json = {
    "CsrfToken": {
        "description": "Where somebody is logged in: what the next request that changes something sends back.",
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "The order's version, for If-Match.",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[1-9][0-9]*"$'},
    },
    "Link": {
        "description": "Where there is more: the address of the next page.",
        "schema": {"type": "string", "pattern": '^<[^>]+>; rel="next"$'},
    },
    "Location": {
        "description": "Where to find it from now on.",
        "required": True,
        "schema": {"type": "string", "pattern": "^/api/"},
    },
    "WWW-Authenticate": {
        "description": "A session is wanted (RFC 9110, section 11.6.1, asks for some challenge).",
        "required": True,
        "schema": {"type": "string", "const": "Session"},
    },
    "Retry-After": {
        "description": "The seconds until it is worth trying again.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
}

_PROBLEM: Json = {
    "title": "Problem",
    "description": "Why not (RFC 9457). The members beside these are those of the reason.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "where the reason is explained", "pattern": "^/api/docs#[a-z_]+$"},
        "title": {"type": "string", "description": "the status in words"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "what is wrong with this very request, for people"},
        "reason": {"type": "string", "description": "for programs: the same between versions"},
    },
    "required": ["type", "title", "status", "detail", "reason"],
}


class _Book:
    """What several operations share, by name."""

    def __init__(self, components: dict[str, Json]) -> None:
        self.components = components
        self.schemas: dict[str, Json] = {}
        self.responses: dict[str, Json] = {}

    def body(self, struct: Json, left: Json) -> Json:
        """A schema of the members of a struct that are left for the body."""
        name = struct["title"]
        required = [one for one in struct["required"] if one in left]
        self.schemas[name] = {**struct, "properties": left, "required": required}
        return {"$ref": f"{REF}{name}"}

    def refusal(self, status: int, slugs: Sequence[str]) -> Json:
        name = ".".join(slugs)
        headers = {"X-CSRF-Token": _header("CsrfToken")}
        if status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = _header("WWW-Authenticate")
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            headers["Retry-After"] = _header("Retry-After")
        said: Json = {"status": {"const": status}, "reason": {"enum": list(slugs)}}
        of_some = {name: {"description": words} for slug in slugs for name, words in EXPLAINED[slug].data.items()}
        self.responses[name] = {
            "description": " ".join(EXPLAINED[slug].meaning for slug in slugs),
            "headers": headers,
            "content": {
                MEDIA_TYPE: {"schema": {"allOf": [{"$ref": f"{REF}Problem"}, {"properties": {**said, **of_some}}]}}
            },
        }
        return {"$ref": f"#/components/responses/{name}"}


class _Operation:
    """One route. struct: the schema of the method's parameters; result: of its result."""

    def __init__(self, book: _Book, route: Route, method: Method, struct: Json, result: Json) -> None:
        self._book = book
        self._route = route
        self._method = method
        self._struct = struct
        self._result = result
        self._safe = route.verb in _SAFE
        in_path = re.findall(r"\{(\w+)", route.path)
        elsewhere = {*in_path, route.key, route.version}
        left = {name: schema for name, schema in struct["properties"].items() if name not in elsewhere}
        by_address = route.verb in ("GET", "DELETE")
        self._in_path = in_path
        self._query = {name: schema for name, schema in left.items() if by_address and name not in _IN_BODY}
        self._body = {name: schema for name, schema in left.items() if name not in self._query}

    def described(self, operation_id: str) -> Json:
        method = self._method
        described: Json = {
            "operationId": operation_id,
            "tags": [method.name.partition(".")[0]],
            "summary": method.summary,
            "x-method": method.name,
            "x-role": method.access.value,
            "security": self._security(),
            "parameters": [*self._parameters()],
        }
        if self._body:
            shown = {**_EXAMPLES, **_EXAMPLES_OF.get(method.name, {})}
            wanted = [name for name in self._body if name in self._struct["required"] or name not in _FOR_SOME]
            example = {name: shown[name] for name in wanted if name in shown}
            content = {"schema": self._book.body(self._struct, self._body), "example": example}
            described["requestBody"] = {
                "required": any(name in self._body for name in self._struct["required"]),
                "content": {"application/json": content},
            }
        described["responses"] = {**self._answers(), **self._refusals()}
        return described

    def _security(self) -> list[Json]:
        if self._method.name == "account.login_certificate":
            return [{"certificate": []}]
        if self._method.name == "account.bind_certificate":
            return [_BOTH]
        either: list[Json] = [{"session": []}, {"certificate": []}]
        return either if self._method.access is not Access.ANY else [{}, *either]

    def _parameters(self) -> Iterable[Json]:
        required = self._struct["required"]
        own = _EXAMPLES_OF.get(self._method.name, {})
        for name in self._in_path:
            parameter = _parameter(name, "path", self._struct["properties"][name], required=True)
            yield {**parameter, "example": own.get(name, _EXAMPLES[name])}
        for name, schema in self._query.items():
            yield _parameter(name, "query", schema, required=name in required)
        if self._route.key is not None:
            schema = self._struct["properties"][self._route.key]
            yield {
                **_parameter("Idempotency-Key", "header", {**schema, "pattern": _HEADER_TEXT}, required=True),
                "description": "A value of your own: a new one for each intent, the same one for each retry.",
            }
        if self._route.version is not None:
            yield _if_match("The ETag of the version that this is an edit of.", required=True)
        elif "order" in self._in_path and not self._safe:
            yield _if_match("An ETag: refuse this unless the order is still at that version.", required=False)
        if self._method.result is Order and self._safe:
            yield {
                **_parameter("If-None-Match", "header", {"type": "string", "pattern": _TAGS_PATTERN}, required=False),
                "description": "An ETag: the order is sent only if it has another one by now.",
            }
        if not self._safe:
            yield {
                **_parameter("X-CSRF-Token", "header", {"type": "string"}, required=False),
                "description": "What the same header of the last answer said. Wanted of whoever is logged in.",
            }

    def _answers(self) -> Json:
        route, headers = self._route, {"X-CSRF-Token": _header("CsrfToken")}
        if self._method.result is Order:
            headers["ETag"] = _header("ETag")
        if route.located is not None:
            headers["Location"] = _header("Location")
        if "after" in self._query:
            headers["Link"] = _header("Link")
        answers: Json = {
            "201" if route.created else "200": {
                "description": self._method.summary,
                "headers": headers,
                "content": {"application/json": {"schema": self._result}},
            }
        }
        if self._method.result is Order and self._safe:
            answers["304"] = {
                "description": "The order is still at the version that If-None-Match names.",
                "headers": {"ETag": _header("ETag")},
            }
        return answers

    def _refusals(self) -> Json:
        by_status: dict[int, list[str]] = {}
        for slug in dict.fromkeys(self._slugs()):
            by_status.setdefault(status_of_slug(slug), []).append(slug)
        return {str(status): self._book.refusal(status, slugs) for status, slugs in sorted(by_status.items())}

    def _slugs(self) -> Iterable[str]:
        """Every reason that this can be refused for: the method's own, those of the table, and those of HTTP."""
        yield Reason.INVALID_PARAMS.slug
        if self._method.access is not Access.ANY:
            yield Reason.NOT_LOGGED_IN.slug
        yield Reason.FORBIDDEN.slug  # a certificate that is not good any more, whatever is asked for
        yield from (reason.slug for reason in self._method.errors)
        if not self._safe:
            yield from (Reason.INVALID_REQUEST.slug, Reason.PARSE_ERROR.slug)
            yield from ("request_timeout", "content_too_large", "unsupported_media_type")
        if self._route.version is not None:
            yield from ("precondition_failed", "precondition_required")
        elif "order" in self._in_path and not self._safe:
            yield "precondition_failed"
            yield Reason.NOT_FOUND.slug
        yield from (Reason.INTERNAL.slug, Reason.UNAVAILABLE.slug)


_HEADER_TEXT = "^[!-~]([ -~]*[!-~])?$"
_TAGS_PATTERN = r'^(\*|"[0-9]{1,15}"(, ?"[0-9]{1,15}")*)$'


def _parameter(name: str, place: str, schema: Json, *, required: bool) -> Json:
    """schema: null is a matter of JSON alone; here what is left out is left out."""
    plain = next((one for one in schema.get("anyOf", ()) if one != {"type": "null"}), schema)
    plain = {key: value for key, value in plain.items() if key != "default"}
    words = plain.pop("description", None) or _WORDS.get(name)
    parameter: Json = {"name": name, "in": place, "required": required, "schema": plain}
    if words is not None:
        parameter["description"] = words
    if required and name in _EXAMPLES:
        parameter["example"] = _EXAMPLES[name]
    return parameter


def _explained(struct: Json) -> Json:
    """A structure with words for its members, where they have none."""
    members = struct.get("properties")
    if not members:
        return struct
    return {**struct, "properties": {name: _told(struct["title"], name, one) for name, one in members.items()}}


def _told(struct: str, name: str, schema: Json) -> Json:
    told = "description" in schema or any("description" in one for one in schema.get("anyOf", ()))
    words = _MEMBERS.get(f"{struct}.{name}") or _MEMBERS.get(name)
    return schema if told or words is None else {**schema, "description": words}


def _if_match(words: str, *, required: bool) -> Json:
    schema = {"type": "string", "pattern": _TAGS_PATTERN}
    return {**_parameter("If-Match", "header", schema, required=required), "description": words, "example": '"1"'}


def _header(name: str) -> Json:
    return {"$ref": f"#/components/headers/{name}"}


def _only_used(document: list[Json], shared: dict[str, Json]) -> dict[str, Json]:
    """The components that something refers to, directly or not."""
    wanted: set[str] = set()
    waiting = list(_references(document))
    while waiting:
        reference = waiting.pop()
        if reference not in wanted:
            wanted.add(reference)
            kind, name = reference.split("/")[2:]
            waiting += _references(shared[kind][name])
    return {
        kind: {name: one for name, one in components.items() if f"#/components/{kind}/{name}" in wanted}
        for kind, components in shared.items()
    }


def _references(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for name, member in value.items():
            if name == "$ref":
                yield member
            else:
                yield from _references(member)
    elif isinstance(value, list):
        for member in value:
            yield from _references(member)
