"""/api/chat/live: what happens, as it happens, over a WebSocket.

JSON-RPC, as on the socket door: notifications to the browser, requests for chat.* from it. A browser that was away says
the last message that it has (`after=N`) and gets all behind it, then what comes, of that conversation without gap or
repeat: a message out of turn is not passed on, but has the history read up to it.
"""

import asyncio
import contextlib
import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Raw
from starlette.websockets import WebSocket, WebSocketDisconnect

from securedelivery.api import messages as m
from securedelivery.errors import Reason, Refusal
from securedelivery.model import Message
from securedelivery.protocol.certificates import Identity
from securedelivery.protocol.jsonrpc import (
    MalformedRequest,
    Request,
    decode_request,
    encode_error,
    encode_notification,
    encode_result,
)
from securedelivery.service.session import Session
from securedelivery.transport.departures import Departures
from securedelivery.transport.dispatch import Ending, Outcome
from securedelivery.web.connections import CONNECTION
from securedelivery.web.desk import Desk
from securedelivery.web.headers import secure
from securedelivery.web.problems import problem
from securedelivery.web.visits import Visit, check_origin, look_up

__all__ = ["Live"]

UNSENT_BYTES = 1_048_576  # waiting for a browser that does not read; beyond it the browser is dropped
SEND_SECONDS = 30.0  # for one message, once the buffers between are full
LIFE_SECONDS = 43_200.0  # then it has to come again, and to be let in
SOCKETS = 32  # of one account

NOT_LOGGED_IN = 4401
REFUSED = 1008
COME_AGAIN = 1012
NOT_TEXT = 1003

_NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)


class Live:
    """All open WebSockets, by account. Its parts run on the loop; notify(), review() and last_connected() are for any
    thread.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sockets: defaultdict[int, set[_Socket]] = defaultdict(set)
        self._departures = Departures()
        desk.on_change = self._changed

    def begin(self) -> None:
        """On the loop, before its first WebSocket."""
        self._loop = asyncio.get_running_loop()

    def notify(self, accounts: Iterable[int], method: str, params: object) -> None:
        """Send a notification to every WebSocket of the accounts."""
        concerned = [account for account in accounts if account in self._sockets]
        if concerned:
            self._post(self._tell, concerned, method, params)

    def review(self, account: int) -> None:
        """The account has changed: see what that means for its WebSockets."""
        if account in self._sockets:
            self._post(self._review, account)

    def last_connected(self, account: int) -> datetime | None:
        """As Server.last_connected()."""
        return datetime.now(UTC) if account in self._sockets else self._departures.last(account)

    async def serve(self, websocket: WebSocket) -> None:
        """One WebSocket, from its request to its end."""
        try:
            check_origin(websocket.headers, self._desk.shop.public_url)
            visit = await look_up(self._desk, websocket)
            after, conversation = (_number(websocket, name) for name in ("after", "conversation"))
        except Refusal as refusal:
            await _deny(websocket, refusal)
            return
        except Exception as error:  # noqa: BLE001 -- a bug costs one answer
            await _deny(websocket, self._desk.api.incident(error, "letting a WebSocket in"))
            return
        await websocket.accept()
        session = visit.session
        if session is None:
            await websocket.close(NOT_LOGGED_IN, Reason.NOT_LOGGED_IN.slug)
            return
        if len(self._sockets.get(session.account_id, ())) >= SOCKETS:
            await websocket.close(REFUSED, "too_many")
            return
        socket = _Socket(self._desk, websocket, visit, after, conversation)
        self._sockets[session.account_id].add(socket)
        try:
            await socket.run()
        finally:
            self._forget(session.account_id, socket)

    def _forget(self, account: int, socket: "_Socket") -> None:
        here = self._sockets[account]
        here.discard(socket)
        if not here:
            self._departures.note(account)
            del self._sockets[account]

    def _post(self, call: Any, *args: Any) -> None:
        assert self._loop is not None, "there is a WebSocket"
        with contextlib.suppress(RuntimeError):  # the loop has ended, and every WebSocket with it
            self._loop.call_soon_threadsafe(call, *args)

    def _tell(self, accounts: Iterable[int], method: str, params: object) -> None:
        text = encode_notification(method, params).decode()
        for account in accounts:
            for socket in list(self._sockets.get(account, ())):
                socket.tell(text, params)

    def _review(self, account: int) -> None:
        for socket in list(self._sockets.get(account, ())):
            socket.look_again()

    def _changed(self, visit: Visit, was: Session | None, token: str | None) -> None:
        """Whoever was logged in has logged out, or in again, perhaps as somebody else."""
        assert was is not None
        same = visit.session is not None and visit.session.account_id == was.account_id
        for socket in list(self._sockets.get(was.account_id, ())):
            if not socket.is_of(token, visit.caller.identity):
                continue
            if same:
                socket.token = visit.token
            else:
                socket.end(NOT_LOGGED_IN, Reason.NOT_LOGGED_IN.slug)


class _Ended(Exception):  # noqa: N818 -- no error
    """The end that our side makes. code, reason: of the closing frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Socket:
    """after: the last message that the browser has; None: it wants what comes, and nothing of what was."""

    def __init__(
        self, desk: Desk, websocket: WebSocket, visit: Visit, after: int | None, conversation: int | None
    ) -> None:
        self._desk = desk
        self._websocket = websocket
        self._caller = visit.caller
        self._uri = None if visit.caller.identity is None else visit.caller.identity.uri
        self.token = visit.token
        self._asked_for = conversation
        self._follows = after is not None
        self._conversation = conversation  # that is followed; None: the visitor's own, whose number is not known yet
        self._seen = after or 0
        self._wanted = 0  # the sequence up to which the history has to be read, at least
        self._reading = False
        self._out: asyncio.Queue[str] = asyncio.Queue()
        self._unsent = 0
        self._room = asyncio.Event()
        self._room.set()
        self._ending: asyncio.Future[_Ended] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        self._begin(self._send())
        self.look_again()  # what changed while it was let in has reached nobody
        if self._follows:
            self._catch_up()
        receiving = self._begin(self._receive())
        try:
            async with asyncio.timeout(LIFE_SECONDS):
                waited: tuple[asyncio.Future[Any], ...] = (receiving, self._ending)
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                ended = self._ending.result() if self._ending.done() else None
        except TimeoutError:
            ended = _Ended(COME_AGAIN, "session_expired")
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if ended is not None:
            await self._say_goodbye(ended)

    def is_of(self, token: str | None, identity: Identity | None) -> bool:
        """Whether it was let in by this cookie, or without one by this certificate."""
        return self.token == token if self.token is not None else self._caller.identity == identity

    def end(self, code: int, reason: str) -> None:
        if not self._ending.done():
            self._ending.set_result(_Ended(code, reason))

    def look_again(self) -> None:
        self._begin(self._look())

    def tell(self, text: str, params: object) -> None:
        """A notification. Messages of the conversation that is followed go in turn."""
        if isinstance(params, Message) and self._is_followed(params):
            if self._reading or params.sequence > self._seen + 1:
                self._wanted = max(self._wanted, params.sequence)
                self._catch_up()
                return
            if params.sequence <= self._seen:
                return
            self._seen = params.sequence
        self._put(text)

    def _is_followed(self, message: Message) -> bool:
        if not self._follows:
            return False
        if self._conversation is None and not self._caller.session.is_staff:
            self._conversation = message.conversation  # they hear of no other than their own
        # Staff hear of others: without a message of their own there is none of theirs that could be meant.
        return self._conversation == message.conversation

    # Out

    def _put(self, text: str) -> None:
        self._unsent += len(text)
        if self._unsent > UNSENT_BYTES:
            self.end(REFUSED, "too_slow")
        else:
            self._out.put_nowait(text)
            if self._unsent > UNSENT_BYTES // 2:
                self._room.clear()

    async def _send(self) -> None:
        while True:
            text = await self._out.get()
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await self._websocket.send_text(text)
            except TimeoutError:
                self.end(REFUSED, "too_slow")
                return
            except (WebSocketDisconnect, OSError):
                return  # _receive() hears of it, too
            self._unsent -= len(text)
            if self._unsent <= UNSENT_BYTES // 2:
                self._room.set()

    async def _say_goodbye(self, ended: _Ended) -> None:
        if ended.reason == "too_slow":  # a closing frame would wait behind what is not read
            self._websocket.scope["state"][CONNECTION].abort()
            return
        with contextlib.suppress(WebSocketDisconnect, OSError, RuntimeError):
            await self._websocket.close(ended.code, ended.reason)

    # History

    def _catch_up(self) -> None:
        if not self._reading:
            self._reading = True
            self._begin(self._read_history())

    async def _read_history(self) -> None:
        """Pass on what follows what the browser has, until nothing follows."""
        vain = 0
        try:
            while True:
                params = m.GetHistory(self._asked_for, self._seen)
                outcome = await self._desk.ask(
                    self._caller, Request(0, "chat.history", Raw(msgspec.json.encode(params)))
                )
                if isinstance(outcome, Refusal):
                    self._refused(outcome)
                    return
                page = msgspec.json.decode(msgspec.json.encode(outcome), type=m.History[Message])
                for message in page.items:
                    self._conversation = message.conversation
                    self._seen = message.sequence
                    self._put(encode_notification("chat.message", message).decode())
                await self._room.wait()  # a long history goes as fast as it is read
                self._seen = min(self._seen, page.last)  # what the browser said may be nonsense
                vain = 0 if page.items else vain + 1  # what is announced while it is read may have come too late for it
                if vain > 1 or (page.next is None and self._seen >= self._wanted):
                    return
        finally:
            self._reading = False

    def _refused(self, refusal: Refusal) -> None:
        if refusal.reason in (Reason.NOT_LOGGED_IN, Reason.DISABLED):
            self.end(REFUSED, "credentials_changed")
        elif refusal.reason in (Reason.NOT_FOUND, Reason.FORBIDDEN, Reason.INVALID_PARAMS):
            self.end(REFUSED, refusal.reason.slug)
        else:
            self.end(COME_AGAIN, refusal.reason.slug)

    # In

    async def _receive(self) -> None:
        while True:
            try:
                received = await self._websocket.receive_text()
            except (WebSocketDisconnect, RuntimeError):  # RuntimeError: _send() has found out before
                return
            except KeyError:
                self.end(NOT_TEXT, "send text")
                return
            await self._answer(received.encode())

    async def _answer(self, text: bytes) -> None:
        """One after the other, so that they take effect in the order sent."""
        try:
            request = decode_request(text)
        except MalformedRequest as error:
            self._put(encode_error(error.id, error.reason, str(error), {}).decode())
            return
        answered = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()

        def done(outcome: Outcome) -> None:
            # Posted as the notifications are, behind which it would come if it took another way.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._put_answer, request, outcome, answered)

        if not request.method.startswith("chat.") and request.method != "system.ping":
            done(Refusal(Reason.METHOD_NOT_FOUND, "there are chat.* and system.ping here; the rest is at /api"))
        else:
            self._desk.begin(self._caller, request, done)
        await answered

    def _put_answer(self, request: Request, outcome: Outcome, answered: "asyncio.Future[None]") -> None:
        if request.id is not None:
            if isinstance(outcome, Refusal):
                text = encode_error(request.id, outcome.reason, outcome.message, outcome.data)
            else:
                text = encode_result(request.id, outcome)
            self._put(text.decode())
        if not answered.done():
            answered.set_result(None)

    async def _look(self) -> None:
        """Whether whoever is here may still be."""
        try:
            standing = await self._desk.review(self._caller)
            is_over = self.token is not None and await self._desk.find(self.token, self._uri) is None
        except Refusal as refusal:  # too much is waiting
            self.end(COME_AGAIN, refusal.reason.slug)
            return
        if isinstance(standing, Ending):
            self.end(REFUSED, standing.reason)
        elif is_over:
            self.end(NOT_LOGGED_IN, Reason.NOT_LOGGED_IN.slug)
        else:
            self._caller.session = standing.session

    def _begin(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._desk.api.incident(task.exception(), "serving a WebSocket")  # type: ignore[arg-type]
            self.end(1011, "internal")


async def _deny(websocket: WebSocket, refusal: Refusal) -> None:
    denial = problem(refusal)
    secure(denial.headers)
    await websocket.send_denial_response(denial)


def _number(websocket: WebSocket, name: str) -> int | None:
    text = websocket.query_params.get(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise Refusal.invalid(f"/{name}", f"{name} is not a number")
    return int(text)
