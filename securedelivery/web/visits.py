"""Who asks, and whether a page of ours made the browser ask.

A browser sends cookies and certificates along with whatever another site makes it send. So what changes something must
come from a page of our origin, where the browser says from where it comes (all current ones do), and must bring a token
that only such a page can know, where cookie or certificate log somebody in.
"""

import hmac
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from securedelivery.errors import Reason, Refusal
from securedelivery.service.session import Session
from securedelivery.service.web_sessions import LIFE
from securedelivery.transport.dispatch import Caller
from securedelivery.web.connections import CONNECTION, Connected

if TYPE_CHECKING:
    from securedelivery.web.desk import Desk

__all__ = ["COOKIE", "CSRF_FIELD", "CSRF_HEADER", "SAFE", "Form", "Visit", "check_origin", "check_token", "look_up"]

COOKIE = "__Host-session"
"""The prefix has the browser refuse it unless it is Secure, for this host alone and for all of it (RFC 6265bis)."""

CSRF_HEADER = "x-csrf-token"
CSRF_FIELD = "csrf_token"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
LOGGED_OUT = "logged-out"
"""In the place of a token: the connection's certificate is not to log in."""

MAX_FIELDS = 500
_COOKIE_RULES = "Path=/; Secure; HttpOnly; SameSite=Lax"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


class Form:
    """What a page's form has sent. A field that is not there is empty."""

    def __init__(self, body: bytes = b"") -> None:
        """Raises Refusal for what no form sends."""
        try:
            pairs = parse_qsl(
                body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict", separator="&"
            )
        except ValueError as error:  # UnicodeDecodeError is one
            raise Refusal(Reason.PARSE_ERROR, f"the form cannot be read: {error}") from None
        self._fields: dict[str, list[str]] = {}
        for name, value in pairs:
            self._fields.setdefault(name, []).append(value)

    def raw(self, name: str) -> str:
        """As it was typed, for passwords."""
        return self._fields.get(name, [""])[-1]

    def get(self, name: str, default: str = "") -> str:
        """The last value of that name, with line ends of one character, without blanks around it."""
        return self.all(name)[-1] if name in self._fields else default

    def all(self, name: str) -> list[str]:
        return [value.replace("\r\n", "\n").strip() for value in self._fields.get(name, [])]

    def __contains__(self, name: str) -> bool:
        return name in self._fields


class Visit:
    """One request over HTTP, or the one that became a WebSocket, and who sent it.

    token: of the cookie's session, where there is one. entered: whether that has changed in this visit.
    """

    def __init__(self, request: HTTPConnection, caller: Caller) -> None:
        self._connection = request
        self.caller = caller
        self.form = Form()
        self.token: str | None = None
        self.entered = False
        self.refusal: Refusal | None = None
        """The last that the table has given, shown or not."""
        self.csrf_token = ""
        """Empty where nobody is logged in and no certificate is there: then none is asked for."""

    @property
    def request(self) -> Request:
        assert isinstance(self._connection, Request)
        return self._connection

    @property
    def session(self) -> Session | None:
        session: Session | None = self.caller.session
        return session

    def bind(self, desk: "Desk") -> None:
        """Work out the CSRF token of what logs in here: the cookie, else the certificate."""
        binding = self.token
        if binding is None and self.caller.identity is not None:
            binding = self.caller.identity.uri
        self.csrf_token = "" if binding is None else desk.csrf_token(binding)

    def finish(self, response: Response) -> None:
        """Have the browser keep what it has to. A cookie that is worth nothing stays: this answer may be late, and the
        browser have another one by now.
        """
        if self.entered and self.token is not None:
            cookie = f"{COOKIE}={self.token}; Max-Age={int(LIFE.total_seconds())}; {_COOKIE_RULES}"
        elif self.entered and self.caller.identity is not None:
            cookie = f"{COOKIE}={LOGGED_OUT}; {_COOKIE_RULES}"
        elif self.entered:
            cookie = f"{COOKIE}=; Max-Age=0; {_COOKIE_RULES}"
        else:
            return
        response.headers.append("set-cookie", cookie)


async def look_up(desk: "Desk", request: HTTPConnection) -> Visit:
    """Raises Refusal for a certificate that is not good any more, or a database that is not available."""
    connected: Connected = request.scope["state"][CONNECTION]
    certificate = connected.certificate
    if certificate is not None:
        desk.check_certificate(certificate)
    identity = None if certificate is None else certificate.identity
    remote = request.client.host if request.client is not None else ""
    visit = Visit(request, Caller(identity, remote))
    cookie = request.cookies.get(COOKIE)
    if cookie is not None and _TOKEN.fullmatch(cookie):
        visit.caller.session = await desk.find(cookie, None if identity is None else identity.uri)
        visit.token = None if visit.session is None else cookie
    if visit.session is None and identity is not None and cookie != LOGGED_OUT:
        visit.caller.session = await desk.by_certificate(visit.caller, connected)
    visit.bind(desk)
    return visit


def check_origin(headers: Mapping[str, str], public_url: str | None) -> None:
    """Raises Refusal where the browser says that a page of somebody else's makes it ask."""
    site = headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        raise _foreign()
    origin = headers.get("origin")
    if origin is not None and origin not in (f"https://{headers.get('host', '')}", public_url):
        raise _foreign()


def check_token(visit: Visit, given: str | None) -> None:
    """Raises Refusal where somebody is logged in and the CSRF token is not there or another's."""
    if visit.csrf_token and not hmac.compare_digest((given or "").encode(), visit.csrf_token.encode()):
        raise Refusal(
            Reason.FORBIDDEN,
            "the CSRF token is missing or not that of this session: send back what the header X-CSRF-Token of any"
            " earlier answer says, or load the page again",
        )


def _foreign() -> Refusal:
    return Refusal(Reason.FORBIDDEN, "this was asked for by a page of another site; open the shop's own page")
