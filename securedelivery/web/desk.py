"""One call of the table, from asyncio: the lanes of the socket door, awaited."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Raw
from starlette.responses import HTMLResponse, Response

from securedelivery.api.methods import Api
from securedelivery.errors import Reason, Refusal, StoreError
from securedelivery.protocol.jsonrpc import Request
from securedelivery.service.opt_out import OptOut
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session
from securedelivery.service.web_sessions import WebSessions
from securedelivery.transport.dispatch import Caller, Ending, Lane, Outcome, SessionChange
from securedelivery.web.connections import Certificate, Connected
from securedelivery.web.rendering import Templates
from securedelivery.web.visits import Visit

__all__ = ["Desk", "Shopfront"]

T = TypeVar("T")

SubmitCall = Callable[[Lane, Callable[[], None], Callable[[Refusal], None]], None]
"""Server.submit_call: both doors share its threads, and so the bounds on hashing and on what waits."""

_LOGINS = ("account.login", "account.login_certificate")
"""What is done by being logged in afterwards; an account that is made is made without that."""

_LOGIN_CERTIFICATE = Request(0, "account.login_certificate", Raw(b"{}"))


class Shopfront(NamedTuple):
    """What pages say of the shop. rules: of the rewards, for previews; public_url: without a slash at its end."""

    name: str
    currency: str
    rules: RewardRules
    public_url: str | None
    version: str


class Desk:
    """standing: the slug for which a certificate has to go now, or None. is_bound: whether a spiffe URI has an
    account.
    """

    def __init__(
        self,
        api: Api,
        submit_call: SubmitCall,
        sessions: WebSessions,
        opt_out: OptOut,
        *,
        standing: Callable[[Certificate], str | None],
        is_bound: Callable[[str], bool],
        shop: Shopfront,
    ) -> None:
        self.api = api
        self.shop = shop
        self.opt_out = opt_out
        """No method of the table: whoever holds a mail's link need not be anybody."""
        self._templates = Templates(shop.currency)
        self._submit_call = submit_call
        self._sessions = sessions
        self._standing = standing
        self._is_bound = is_bound
        self.count_basket: Callable[[Visit], int] = lambda _visit: 0
        """How many pieces; pages know where."""
        self.on_change: Callable[[Visit, Session | None, str | None], None] = lambda *_: None
        """Who is logged in has changed: the visit as it is now, the session and the token that were. For WebSockets."""

    def page(self, visit: Visit, template: str, *, status: int = 200, **context: object) -> Response:
        """A page of a template, which knows the visit, who is logged in, the shop and how much is in the basket."""
        known = {
            "visit": visit,
            "session": visit.session,
            "shop": self.shop,
            "basket_count": self.count_basket(visit),
            "status": status,
        }
        return HTMLResponse(self._templates.render(template, {**known, **context}), status)

    async def call(
        self, visit: Visit, method: str, params: Mapping[str, object] | None = None, kind: type[T] | Any = None
    ) -> T | Any:
        """Run a method of the table as whoever visits. Raises Refusal.

        kind: what the result is decoded into; None: it comes as the table gives it. Who is logged in afterwards, if
        that changes, the visit knows.
        """
        outcome = await self.ask(visit.caller, Request(0, method, Raw(msgspec.json.encode(params or {}))))
        if isinstance(outcome, Refusal):
            visit.refusal = outcome
            raise outcome
        if isinstance(outcome, SessionChange):
            await self._enter(visit, outcome, needed=method in _LOGINS)
            outcome = outcome.result
        return outcome if kind is None else msgspec.json.decode(msgspec.json.encode(outcome), type=kind)

    async def ask(self, caller: Caller, request: Request) -> Outcome:
        lane = self.api.lane(request.method)
        if lane is Lane.INLINE:
            return self.api.answer(caller, request)
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Outcome] = loop.create_future()
        self.begin(caller, request, lambda outcome: _tell(loop, answered, outcome))
        return await answered

    def begin(self, caller: Caller, request: Request, done: Callable[[Outcome], None]) -> None:
        """As ask(), and done is called with the outcome, from any thread."""
        api, lane = self.api, self.api.lane(request.method)
        if lane is Lane.INLINE:
            done(api.answer(caller, request))
        elif lane is Lane.WRITE:
            api.submit(caller, request, done)
            api.begin_writes()
        else:
            self._submit_call(lane, lambda: done(api.answer(caller, request)), done)

    async def run(self, work: Callable[[], T]) -> T:
        """Something that waits for the database, on a worker. Raises what it raises, Refusal for a StoreError."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T | Refusal] = loop.create_future()

        def job() -> None:
            try:
                found = work()
            except StoreError as error:
                _fail(loop, result, self.api.failed(error, "a session of the web"))
            except BaseException as error:  # noqa: BLE001 -- it goes on where it is awaited
                _fail(loop, result, error)
            else:
                _tell(loop, result, found)

        self._submit_call(Lane.READ, job, lambda refusal: _fail(loop, result, refusal))
        return await result  # type: ignore[return-value]

    # Who asks

    async def find(self, token: str, identity: str | None) -> Session | None:
        """Whose session the token of a cookie is."""
        return await self.run(lambda: self._sessions.find(token, identity))

    async def by_certificate(self, caller: Caller, connected: Connected) -> Session | None:
        """Whom the connection's certificate logs in. Once a connection that is a login, which stands in the audit; then
        it is looked at again with each request.
        """
        identity = caller.identity
        assert identity is not None
        async with connected.looked_up:
            if connected.session is None:
                if not await self.run(lambda: self._is_bound(identity.uri)):
                    return None
                outcome = await self.ask(caller, _LOGIN_CERTIFICATE)
            else:
                outcome = await self.review(Caller(identity, caller.remote, connected.session))
            connected.session = outcome.session if isinstance(outcome, SessionChange) else None
            return connected.session

    async def review(self, caller: Caller) -> SessionChange | Ending:
        """What has become of who is logged in. Raises Refusal `unavailable`."""
        return await self.run(lambda: self.api.review(caller))

    def check_certificate(self, certificate: Certificate) -> None:
        """Raises Refusal for one that was good when the connection began, and is not any more."""
        slug = self._standing(certificate)
        if slug is not None:
            raise Refusal(Reason.FORBIDDEN, f"{slug.replace('_', ' ')}: ask the shop for another certificate")

    def csrf_token(self, binding: str) -> str:
        return self._sessions.csrf_token(binding)

    async def _enter(self, visit: Visit, change: SessionChange, *, needed: bool) -> None:
        """Every login has a new token, whatever was there before: one that somebody else has planted gets him
        nothing. First the database, then the visit: what has failed can be tried again.

        needed: whether it has failed where there is no token. Raises Refusal then, and for a logout that has failed.
        """
        former, was = visit.token, visit.session
        session: Session | None = change.session
        uri = None if visit.caller.identity is None else visit.caller.identity.uri
        token = None
        with contextlib.suppress(*() if needed else (Refusal,)):
            token = None if session is None else await self.run(lambda: self._sessions.open(session, uri))
        if former is not None:
            with contextlib.suppress(*() if session is None else (Refusal,)):
                await self.run(lambda: self._sessions.end(former))
        visit.caller.session = None if token is None else session
        visit.token = token
        visit.entered = True
        if was is not None:
            self.on_change(visit, was, former)


def _tell(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any]", result: object) -> None:
    _post(loop, future, lambda: future.set_result(result))


def _fail(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any]", error: BaseException) -> None:
    _post(loop, future, lambda: future.set_exception(error))


def _post(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any]", settle: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
        loop.call_soon_threadsafe(lambda: None if future.done() else settle())
