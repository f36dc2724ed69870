"""The two doors of a shop, as somebody who calls methods sees them: the socket, and HTTP."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import httpx
from certificate_authority import TRUST_DOMAIN, CertificateAuthority
from web.stage import PASSWORD, Browser, WebStage
from wire_client import Keyring, Refused, WireClient

from securedelivery.api.methods import METHODS
from securedelivery.config import ServerSettings
from securedelivery.errors import Reason
from securedelivery.model import Order, Role
from securedelivery.web.problems import HTTP_REASONS, MEDIA_TYPE, status_of
from securedelivery.web.routes import ROUTES, Route

PROBLEM = frozenset({"type", "title", "status", "detail", "reason"})
RENAMED = {"current_status": "status"}  # `status` of a problem is the number
BY_QUERY = ("GET", "DELETE")


class Clock:
    """Stands still until it is moved: what happens in both shops happens at the same time."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **amount: float) -> None:
        self.now += timedelta(**amount)


@dataclass(frozen=True)
class Outcome:
    """What a call came to. reason: of the refusal, or None; value: the result, or the refusal's data."""

    reason: str | None
    value: Any
    message: str = ""


class Door(Protocol):
    def call(self, route: Route, params: Mapping[str, Any]) -> Outcome: ...

    def hang_up(self) -> None: ...


class SocketDoor:
    """One connection, with a certificate if there is a name for one."""

    def __init__(self, stage: WebStage, name: str | None) -> None:
        issued = None if name is None else stage.authority.client(name)
        self._client = WireClient.connect(stage.address, Keyring.of(stage.authority, issued, stage.folder))

    def call(self, route: Route, params: Mapping[str, Any]) -> Outcome:
        try:
            return Outcome(None, self._client.call(route.method, **params))
        except Refused as refused:
            said = refused
        (reason,) = (one for one in Reason if one.slug == said.reason)
        assert said.code == reason.code
        data = {name: value for name, value in said.data.items() if name != "reason"}
        return Outcome(said.reason, data, str(said).partition(": ")[2])

    def hang_up(self) -> None:
        self._client.close()


class HttpDoor:
    """One browser, or what somebody has written in its place."""

    def __init__(self, stage: WebStage, name: str | None) -> None:
        self._browser: Browser = stage.client(None if name is None else stage.authority.client(name))
        self._browser.get("/api/system")  # who comes with a certificate has to send back a token from the start

    def call(self, route: Route, params: Mapping[str, Any]) -> Outcome:
        answer = self._browser.send(self._request(route, params))
        assert answer.status_code < 500, answer.text
        body = answer.json()
        if answer.headers["content-type"] == MEDIA_TYPE:
            return self._refused(answer, body)
        assert answer.status_code == (201 if route.created else 200)
        assert answer.headers["content-type"] == "application/json"
        if METHODS[route.method].result is Order:
            assert answer.headers["etag"] == f'"{body["version"]}"'
        if isinstance(body.get("next"), str | int):
            assert f"after={quote(str(body['next']))}" in answer.headers["link"]
        else:
            assert "link" not in answer.headers
        return Outcome(None, body)

    def hang_up(self) -> None:
        self._browser.close()

    def _request(self, route: Route, params: Mapping[str, Any]) -> httpx.Request:
        left = dict(params)
        path, headers = route.path.replace(":path", ""), {}
        for name in [name for name in left if f"{{{name}}}" in path]:
            path = path.replace(f"{{{name}}}", quote(str(left.pop(name)), safe=""))
        if route.key in left:
            headers["Idempotency-Key"] = left.pop(route.key)
        if route.version in left:
            headers["If-Match"] = f'"{left.pop(route.version)}"'
        query = {}
        if route.verb in BY_QUERY:
            query = {name: left.pop(name) for name in list(left) if name != "password"}
        body = {"json": left} if left else {}
        return self._browser.build_request(route.verb, path, params=query or None, headers=headers, **body)

    @staticmethod
    def _refused(answer: httpx.Response, body: dict[str, Any]) -> Outcome:
        slug = body["reason"]
        known = {one.slug: one for one in Reason}
        expected = HTTP_REASONS[slug] if slug in HTTP_REASONS else status_of(known[slug])
        assert answer.status_code == body["status"] == (412 if slug == "version_conflict" else expected)
        assert body["type"] == f"/api/docs#{slug}"
        data = {RENAMED.get(name, name): value for name, value in body.items() if name not in PROBLEM}
        return Outcome(slug, data, body["detail"])


@dataclass(frozen=True)
class Actor:
    """Somebody with a connection. certificate: the name in it; login: False for one who is not logged in at first."""

    name: str
    role: Role = Role.CUSTOMER
    certificate: str | None = None
    account: bool = True
    login: bool = True
    address: str | None = "1 Quay"


NOBODY = Actor("nobody", account=False, login=False)


@dataclass
class SideOfAShop:
    """One shop, one of its doors, and what its steps have brought so far, by the name that they gave it."""

    stage: WebStage
    open_door: Callable[[WebStage, str | None], Door]
    doors: dict[str, Door] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)

    def admit(self, actor: Actor) -> None:
        accounts = self.stage.shop.accounts
        if actor.account:
            accounts.create(
                actor.name, PASSWORD, actor.name.title(), None, actor.address, identity=None, remote="127.0.0.1"
            )
            if actor.role is not Role.CUSTOMER:
                accounts.set_role(None, actor.name, actor.role)
        door = self.doors[actor.name] = self.open_door(self.stage, actor.certificate)
        if actor.login:
            entered = door.call(LOGIN, {"username": actor.name, "password": PASSWORD})
            assert entered.reason is None, entered

    def close(self) -> None:
        for door in self.doors.values():
            door.hang_up()
        self.stage.close()


LOGIN = next(route for route in ROUTES if route.method == "account.login")


def two_shops(
    folder: Path, authority: CertificateAuthority, settings: Mapping[str, Any]
) -> tuple[SideOfAShop, SideOfAShop]:
    """Two shops that are alike: one to be reached by the socket, one over HTTP."""
    sides = []
    for name, door in (("socket", SocketDoor), ("http", HttpDoor)):
        (folder / name).mkdir()
        server = ServerSettings(
            listen="127.0.0.1:0",
            certs=str(folder / name / "certs"),
            client_certificates="optional",
            trust_domain=TRUST_DOMAIN,
        )
        sides.append(SideOfAShop(WebStage(folder / name, authority, {"server": server, **settings}), door))
    return sides[0], sides[1]
