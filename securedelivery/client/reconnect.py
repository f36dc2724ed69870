"""A connection that is made anew where that is safe, with the login on it.

The first connection is tried once: a wrong address should be told at once. Later a lost connection is replaced when the
next call needs one, and a call that may be repeated is asked again, with growing pauses, until its deadline. What is
never repeated is a call that could take effect twice: it fails with the reason, and the next call connects again.
"""

import threading
from collections.abc import Callable

from msgspec import Raw

from securedelivery.api.messages import Welcome
from securedelivery.client.connection import PING_SECONDS, Connection
from securedelivery.client.deadline import Deadline
from securedelivery.client.handshake import open_line
from securedelivery.client.notifications import Gap, Inbox, Notification, decode
from securedelivery.client.profile import Profile
from securedelivery.errors import ConnectionFailure, RemoteProtocolError
from securedelivery.transport.keylog import KeyLogs

__all__ = ["HANDSHAKE_SECONDS", "Ask", "Link"]

HANDSHAKE_SECONDS = 10.0  # the server gives no more (docs/protocol.md, section 4)
PAUSES_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)  # then 4 s again and again: a restart takes a few seconds

Ask = Callable[[Connection, Deadline], Raw]
"""One or more calls on a connection; returns the answer, and raises what the calls do."""


class Link:
    """on_notification: called on the reader thread, or None: then they queue in `inbox`."""

    def __init__(
        self,
        profile: Profile,
        *,
        handshake_seconds: float = HANDSHAKE_SECONDS,
        ping_seconds: float = PING_SECONDS,
        on_notification: Callable[[Notification | Gap], None] | None = None,
        key_logs: KeyLogs | None = None,
    ) -> None:
        self._profile = profile
        self._key_logs = key_logs
        self._handshake_seconds = handshake_seconds
        self._ping_seconds = ping_seconds
        self._on_notification = on_notification
        self.inbox = Inbox()
        self._opening = threading.Lock()  # one thread at a time makes the new connection
        self._connection: Connection | None = None
        self._login: Ask | None = None
        self._closed = threading.Event()

    @property
    def welcome(self) -> Welcome | None:
        """The latest connection's; None before the first."""
        return self._connection.welcome if self._connection is not None else None

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    @property
    def lost(self) -> bool:
        """Whether there was a connection, and it has ended."""
        return self._connection is not None and self._connection.failure is not None

    @property
    def remembered(self) -> Ask | None:
        """How the next connection will be logged in."""
        return self._login

    def remember(self, login: Ask | None) -> None:
        """How to log in on the next connection; None for not at all."""
        self._login = login

    def ready(self, deadline: Deadline) -> Connection:
        """A connection that is up and logged in: the present one, or a new one, tried once."""
        with self._opening:
            if self._closed.is_set():
                raise ConnectionFailure("this client has been closed")
            former = self._connection
            if former is not None and former.failure is None:
                return former
            line = open_line(self._profile, deadline.at_most(self._handshake_seconds), self._key_logs)
            if former is not None:
                self._deliver(Gap())  # before anything that comes on the new connection
            connection = Connection(
                line, on_notification=self._notified, on_end=self.inbox.wake, ping_seconds=self._ping_seconds
            )
            try:
                if self._login is not None:
                    self._login(connection, deadline)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        if former is not None:
            former.close()  # joins its reader, which is at its end
        return connection

    def run(self, ask: Ask, deadline: Deadline, *, repeat: bool) -> Raw:
        """Ask, on a new connection where the present one has ended. repeat: it may be asked more than once."""
        attempt = 0
        while True:
            was_up = self._connection is not None
            sent = False
            try:
                connection = self.ready(deadline)
                sent = True
                return ask(connection, deadline)
            except ConnectionFailure as failure:
                # A first connection is not waited for. One that is needed again is, as nothing has been sent yet.
                again = (repeat if sent else was_up) and failure.temporary
                pause = PAUSES_SECONDS[min(attempt, len(PAUSES_SECONDS) - 1)]
                if not again or deadline.remaining() <= pause:
                    raise
            attempt += 1
            self._closed.wait(pause)

    def drop(self) -> None:
        """End the connection properly; the next call makes a new one."""
        with self._opening:
            connection = self._connection
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """End the connection properly and join its thread. From any thread, more than once."""
        self._closed.set()
        self.drop()
        self.inbox.wake()

    def _notified(self, method: str, params: Raw) -> None:
        try:
            notification = decode(method, params)
        except RemoteProtocolError:
            notification = Notification(method, None)
        self._deliver(notification)

    def _deliver(self, item: Notification | Gap) -> None:
        if self._on_notification is None:
            self.inbox.put(item)
        else:
            self._on_notification(item)
