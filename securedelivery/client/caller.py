"""What every typed call stands on: one connection, made anew where that is safe, and one way to ask on it."""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self, TypeVar

import msgspec
from msgspec import Raw

from securedelivery.api.messages import Page, Welcome
from securedelivery.client.connection import PING_SECONDS, Connection
from securedelivery.client.deadline import Deadline
from securedelivery.client.notifications import Gap, Notification
from securedelivery.client.profile import Profile
from securedelivery.client.reconnect import HANDSHAKE_SECONDS, Ask, Link
from securedelivery.errors import LocalProtocolError, Refusal, RemoteProtocolError
from securedelivery.transport.keylog import KeyLogs

__all__ = ["PAGE", "Caller", "decoded", "every"]

Item = TypeVar("Item")
Result = TypeVar("Result")

CALL_SECONDS = 30.0  # for a call with all its repetitions: a restart of the server is sat out
PAGE = 200  # the most that a page holds


class Caller:
    """The connection of a Client, and call(), for the methods that have no call of their own here."""

    def __init__(
        self,
        profile: Profile,
        *,
        timeout_seconds: float = CALL_SECONDS,
        handshake_seconds: float = HANDSHAKE_SECONDS,
        ping_seconds: float = PING_SECONDS,
        on_notification: Callable[[Notification | Gap], None] | None = None,
        key_logs: KeyLogs | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._link = Link(
            profile,
            handshake_seconds=handshake_seconds,
            ping_seconds=ping_seconds,
            on_notification=on_notification,
            key_logs=key_logs,
        )

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> Welcome:
        """Connect now, unless connected; tried once."""
        return self._link.ready(self._deadline()).welcome

    @property
    def welcome(self) -> Welcome:
        """What the server said first: session (64 hex digits), identity (the certificate's URI, or None), server."""
        return self._link.welcome or self.connect()

    def close(self) -> None:
        """Say goodbye and join the reader; calls that wait fail. A closed client stays closed."""
        self._link.close()

    def notifications(self, timeout_seconds: float | None = None) -> Iterator[Notification | Gap]:
        """What the server says on its own, in the order of arrival, for clients without on_notification.

        Ends when nothing has come for timeout_seconds (None: never), or when the client is closed. A lost connection is
        replaced, with the login, and a Gap says that something may have been missed. Raises as calls do.
        """
        link = self._link
        while not link.closed:
            item = link.inbox.get(timeout_seconds, lambda: link.closed or link.lost)
            if item is not None:
                yield item
            elif link.lost and not link.closed:
                link.run(lambda _connection, _deadline: Raw(), self._deadline(), repeat=True)
            else:
                return

    def call(
        self, method: str, params: object, result: type[Result], *, repeat: bool, timeout_seconds: float | None = None
    ) -> Result:
        """Any method. params: what msgspec encodes as an object; result: the type to decode into (Any: plain JSON).

        repeat: whether it may be asked again on a new connection, although it may have taken effect already.
        """

        def ask(connection: Connection, deadline: Deadline) -> Raw:
            return connection.call(method, params, deadline)

        return self._answer(method, ask, result, repeat=repeat, timeout_seconds=timeout_seconds)

    def _answer(
        self, method: str, ask: Ask, result: type[Result], *, repeat: bool, timeout_seconds: float | None = None
    ) -> Result:
        """ask: gets the answer on one connection; what it does there is repeated as a whole."""
        deadline = self._deadline(timeout_seconds)
        try:
            raw = self._link.run(ask, deadline, repeat=repeat)
        except LocalProtocolError as error:
            if "does not fit" not in str(error):
                raise
            raise Refusal.invalid("", str(error)) from error
        except UnicodeEncodeError as error:  # half a surrogate pair: no UTF-8 can say that
            raise Refusal.invalid("", "there is text in the request that is not valid Unicode") from error
        return decoded(method, result, raw)

    def _deadline(self, seconds: float | None = None) -> Deadline:
        return Deadline(self._timeout_seconds if seconds is None else seconds)


def decoded(method: str, result: type[Result], raw: Raw) -> Result:
    """The answer to a method. Raises RemoteProtocolError where it is of another shape."""
    try:
        return msgspec.json.decode(raw, type=result)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"the answer to {method} is not what it should be: {error}") from error


def every(page: Callable[[str | None], Page[Item]]) -> Iterator[Item]:
    """All items of all pages. page: of what follows a cursor, None for the first."""
    after: str | None = None
    while True:
        part = page(after)
        yield from part.items
        if part.next is None:
            return
        after = part.next
