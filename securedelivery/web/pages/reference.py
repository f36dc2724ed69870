"""/api/docs: the OpenAPI document as a page to read, and the document itself. All that it says comes from there."""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec
from starlette.responses import Response

from securedelivery.api.messages import PATTERNS, STRICT_END
from securedelivery.web import openapi
from securedelivery.web.desk import Desk
from securedelivery.web.pages import Page
from securedelivery.web.visits import Visit

__all__ = ["ROUTES"]

Json = dict[str, Any]

_HUGE = 2**53 - 1  # what JSON numbers bear; it limits nobody
_SECONDS = 300
_LINE = 64  # characters of an example's body in one line


class Part(NamedTuple):
    """A piece of text; anchor: of what it names, or empty."""

    text: str
    anchor: str = ""


class Field(NamedTuple):
    """A parameter, or a member of a structure."""

    name: str
    kind: list[Part]
    required: bool
    words: str


class Answer(NamedTuple):
    status: str
    kind: list[Part]
    headers: list[str]


class Error(NamedTuple):
    status: str
    reasons: list[str]


class Group(NamedTuple):
    name: str
    fields: list[Field]


class Operation(NamedTuple):
    """errors: without those that are everywhere. curl: works in a shell that has been through the first steps."""

    id: str
    method: str
    verb: str
    path: str
    summary: str
    audience: str
    groups: list[Group]
    answers: list[Answer]
    errors: list[Error]
    curl: str


class Section(NamedTuple):
    """name: the first word of its methods."""

    name: str
    title: str
    words: str
    operations: list[Operation]


class Structure(NamedTuple):
    """asked: whether it is part of a body that is sent, not of an answer."""

    name: str
    words: str
    kind: list[Part]
    fields: list[Field]
    asked: bool


class Problem(NamedTuple):
    slug: str
    status: int
    meaning: str
    remedy: str
    data: dict[str, str]


class Rule(NamedTuple):
    name: str
    parts: list[Part]


class Event(NamedTuple):
    """What comes over the WebSocket."""

    name: str
    kind: list[Part]


class Reference(NamedTuple):
    """size: how many operations. everywhere: the reasons for which any request can be refused. join, login: how to
    begin, in curl.
    """

    size: int
    rules: list[Rule]
    everywhere: list[str]
    sections: list[Section]
    events: list[Event]
    structures: list[Structure]
    problems: list[Problem]
    join: str
    login: str


async def page(desk: Desk, visit: Visit) -> Response:
    here = desk.shop.public_url or str(visit.request.base_url).rstrip("/")
    return desk.page(visit, "api", reference=_reference(), shop_url=here)


async def document(_desk: Desk, visit: Visit) -> Response:
    headers = {"ETag": openapi.etag(), "Cache-Control": f"public, max-age={_SECONDS}"}
    if openapi.etag() in visit.request.headers.get("if-none-match", ""):
        return Response(None, 304, headers)
    return Response(openapi.encoded(), headers=headers, media_type="application/json")


ROUTES = [Page("/api/docs", page), Page("/api/openapi.json", document)]


@cache
def _reference() -> Reference:
    return read(msgspec.json.decode(openapi.encoded()))


def read(document: Json) -> Reference:
    """What the page shows of a document."""
    reader = _Reader(document)
    sections = [
        Section(tag["name"], _TITLES[tag["name"]], tag["description"], list(reader.operations(tag["name"])))
        for tag in document["tags"]
    ]
    examples = {operation.id: operation.curl for section in sections for operation in section.operations}
    return Reference(
        len(examples),
        list(_rules(document["info"]["description"], document["x-reasons"])),
        sorted(reader.everywhere),
        sections,
        [Event(name, list(_kind(schema))) for name, schema in document["x-live"]["notifications"].items()],
        list(reader.structures()),
        [Problem(slug, **one) for slug, one in document["x-reasons"].items()],
        examples["account.create"],
        examples["account.login"],
    )


_RULE = re.compile(r"\*\*(.+?)\*\*(.*)", re.DOTALL)


def _rules(text: str, reasons: Mapping[str, Any]) -> Iterable[Rule]:
    """The paragraphs that begin with **a name**. A reason in backticks is a link to what it means."""
    for paragraph in text.split("\n\n"):
        if found := _RULE.fullmatch(paragraph.strip()):
            name, text = found[1], found[2]
            said = text.strip() if name.endswith(".") else f"{name}{text}".replace("**", "")
            pieces = said.split("`")
            parts = [Part(piece, piece if piece in reasons else "") for piece in pieces]
            yield Rule(name.rstrip("."), parts)


class _Reader:
    def __init__(self, document: Json) -> None:
        self._document = document
        self._schemas: Json = document["components"]["schemas"]
        self.everywhere = self._refused_everywhere()

    def operations(self, tag: str) -> Iterable[Operation]:
        for path, verb, operation in self._all():
            if tag in operation["tags"]:
                yield self._operation(path, verb.upper(), operation)

    def structures(self) -> Iterable[Structure]:
        bodies = {name for *_, operation in self._all() for name in _named(_body(operation))}
        asked = {name for body in bodies for name in _named(self._schemas[body])}
        for name, schema in sorted(self._schemas.items()):
            if name not in bodies:  # else it stands with its operation
                fields = list(_members(schema))
                kind = [] if fields else list(_kind(schema))
                yield Structure(name, _sentence(schema.get("description", "")), kind, fields, name in asked)

    def _all(self) -> Iterable[tuple[str, str, Json]]:
        for path, item in self._document["paths"].items():
            for verb, operation in item.items():
                yield path, verb, operation

    def _refused_everywhere(self) -> set[str]:
        """For which all GETs, or all others, can be refused."""
        found: set[str] = set()
        for reads in (True, False):
            each = [
                {slug for response in operation["responses"].values() for slug in _reasons(self._resolved(response))}
                for _, verb, operation in self._all()
                if (verb == "get") == reads
            ]
            found |= set.intersection(*each)
        return found

    def _operation(self, path: str, verb: str, operation: Json) -> Operation:
        answers, errors = [], []
        for status, response in operation["responses"].items():
            found = self._resolved(response)
            slugs = list(_reasons(found))
            if not slugs:
                schema = found.get("content", {}).get("application/json", {}).get("schema", {})
                headers = [name for name in found["headers"] if name != "X-CSRF-Token"]
                answers.append(Answer(status, list(_kind(schema)), headers))
            elif own := [slug for slug in slugs if slug not in self.everywhere]:
                errors.append(Error(status, own))
        return Operation(
            operation["operationId"],
            operation["x-method"],
            verb,
            path,
            operation["summary"],
            _AUDIENCES[operation["x-role"]],
            list(self._groups(operation)),
            answers,
            errors,
            curl(path, verb, operation),
        )

    def _groups(self, operation: Json) -> Iterable[Group]:
        for place in ("path", "query", "header"):
            fields = [
                Field(one["name"], list(_kind(one["schema"])), one["required"], one.get("description", ""))
                for one in operation["parameters"]
                if one["in"] == place and one["name"] != "X-CSRF-Token"  # of all changes: it stands on top
            ]
            if fields:
                yield Group(_PLACES[place], fields)
        if body := _body(operation):
            yield Group(_PLACES["body"], list(_members(self._resolved(body["schema"]))))

    def _resolved(self, value: Json) -> Json:
        if "$ref" not in value:
            return value
        found: Any = self._document
        for step in value["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        resolved: Json = found
        return resolved


_PLACES = {"path": "In the path", "query": "Query", "header": "Headers", "body": "Body"}
_TITLES = {
    "system": "The shop",
    "rpc": "This interface",
    "account": "Accounts",
    "audit": "Audit",
    "report": "Reports",
    "catalog": "Catalog",
    "order": "Orders",
    "delivery": "Deliveries",
    "rewards": "Rewards",
    "chat": "Chat",
}
_AUDIENCES = {
    "any": "everybody",
    "customer": "every account",
    "agent": "agents and admins",
    "courier": "couriers and admins",
    "agent, courier": "agents, couriers and admins",
    "admin": "admins",
}


def _body(operation: Json) -> Json:
    """Empty where there is none."""
    body: Json = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return body


def _named(value: Any) -> Iterable[str]:
    """The structures to which it refers itself."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].rpartition("/")[2]
        for member in value.values():
            yield from _named(member)
    elif isinstance(value, list):
        for member in value:
            yield from _named(member)


def _members(struct: Json) -> Iterable[Field]:
    required = struct.get("required", [])
    for name, schema in struct.get("properties", {}).items():
        words = [one["description"] for one in (schema, *schema.get("anyOf", ())) if "description" in one]
        yield Field(name, list(_kind(schema)), name in required, words[0] if words else "")


def curl(path: str, verb: str, operation: Json) -> str:
    """The operation's example as a shell command; SHOP and TOKEN are set by the page's first steps."""
    address, query, options = path, [], []
    for one in operation["parameters"]:
        name, example = one["name"], one.get("example")
        if one["in"] == "path":
            address = address.replace(f"{{{name}}}", quote(str(example)))
        elif one["in"] == "query" and (one["required"] or example is not None):
            query.append((name, str(example)))
        elif one["in"] == "header" and name == "X-CSRF-Token":
            options.append('-H "X-CSRF-Token: $TOKEN"')
        elif one["in"] == "header" and one["required"]:
            options.append(f"-H {shlex.quote(f'{name}: {example}')}")
    body = _body(operation)
    if body:
        text = json.dumps(body["example"])
        if len(text) > _LINE:
            members = (f"\n    {json.dumps(name)}: {json.dumps(value)}" for name, value in body["example"].items())
            text = f"{{{','.join(members)}\n  }}"
        options += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(text)}"]
    asked = [] if verb == "GET" or (verb == "POST" and body) else [f"-X {verb}"]
    found = f'"$SHOP{address}{"?" + urlencode(query) if query else ""}"'
    first = " ".join(["curl --cacert ca.crt -b jar -c jar", *asked, found])
    return " \\\n  ".join([first, *options])


def _reasons(response: Json) -> Iterable[str]:
    """For which it refuses; none for a good answer."""
    schema = response.get("content", {}).get("application/problem+json", {}).get("schema", {})
    for part in schema.get("allOf", ()):
        yield from part.get("properties", {}).get("reason", {}).get("enum", ())


def _kind(schema: Mapping[str, Any]) -> Iterable[Part]:
    """What a value is, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield Part(name, f"schema-{name}")
    elif "anyOf" in schema:
        left_out = schema.get("default", 0) is None  # null is as good as leaving it out
        kinds = [one for one in schema["anyOf"] if not (left_out and one == {"type": "null"})]
        for number, one in enumerate(kinds):
            if number:
                yield Part(" or ")
            yield from _kind(one)
    elif "enum" in schema:
        yield Part(", ".join(map(str, schema["enum"])))
    elif "const" in schema:
        yield Part(str(schema["const"]))
    elif schema.get("type") == "array":
        yield Part("list of ")
        yield from _kind(schema["items"])
        yield Part(_bounds(schema, "minItems", "maxItems", ""))
    else:
        yield Part(_plain(schema))
        if isinstance(of := schema.get("additionalProperties"), dict) and of:
            yield Part(" of ")
            yield from _kind(of)


def _plain(schema: Mapping[str, Any]) -> str:
    match schema.get("type"):
        case "string":
            return f"text{_bounds(schema, 'minLength', 'maxLength', ' characters')}{_pattern(schema)}"
        case "integer":
            return f"integer{_bounds(schema, 'minimum', 'maximum', '')}"
        case "boolean":
            return "true or false"
        case None:
            return "anything"
    return str(schema["type"])


def _bounds(schema: Mapping[str, Any], least: str, most: str, unit: str) -> str:
    low, high = schema.get(least), schema.get(most)
    if high is None or high >= _HUGE:
        return "" if low is None else f", at least {low:,}{unit}"
    return f", at most {high:,}{unit}" if low is None else f", {low:,} to {high:,}{unit}"


def _pattern(schema: Mapping[str, Any]) -> str:
    words = PATTERNS.get(f"{schema.get('pattern', '')}{STRICT_END}")
    return "" if words in (None, _ANY_TEXT, schema.get("description")) else f", {words}"


_ANY_TEXT = "text without U+0000"


def _sentence(text: str) -> str:
    return text.replace("`", "") if not text or text[-1] in ".!?" else f"{text}."
