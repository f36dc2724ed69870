"""To follow something through notifications, over as many connections as it takes.

What is followed is asked for first; then the notifications tell of each change. Where some may have been missed (a new
connection, a queue that ran over, a notification that does not fit what is known) it is asked for again. So nobody
misses anything, whatever breaks at whatever time.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

import msgspec

from securedelivery.client.caller import Caller
from securedelivery.client.notifications import Notification
from securedelivery.client.reconnect import PAUSES_SECONDS
from securedelivery.errors import ConnectionFailure, Reason, Refusal

__all__ = ["Following", "Live", "Lost"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Live(msgspec.Struct, frozen=True):
    """Everything until here has been told; what follows is told as it happens."""


class Lost(msgspec.Struct, frozen=True):
    """The connection has ended. It is being replaced; what was missed and then Live follow. Told once an outage."""


class Following(Generic[Item]):
    """catch_up(): asks for what is not known yet; called anew where it broke off, so it notes how far it has come.

    heard(notification): the news in it (none where it is about something else); None says that some were missed.
    lasting: methods whose notifications are news even if nobody follows yet; of those that came, the last one is told.
    Both run on the thread that iterates events(); their calls should not be repeated (`repeat=False`), so that a lost
    connection is told at once.
    """

    def __init__(
        self,
        client: Caller,
        catch_up: Callable[[], Iterator[Item]],
        heard: Callable[[Notification], Iterable[Item] | None],
        *,
        lasting: Sequence[str] = (),
    ) -> None:
        self._client = client
        self._link = client._link  # noqa: SLF001 -- the connection is shared within this package
        self._catch_up = catch_up
        self._heard = heard
        self._lasting = lasting
        self._stopped = threading.Event()

    def over(self) -> bool:
        """Whether it was stopped, or the client closed."""
        return self._stopped.is_set() or self._link.closed

    def stop(self) -> None:
        """Have events() end, from any thread; at once but for a connection that is just being made."""
        self._stopped.set()
        self._link.inbox.wake()

    def events(self) -> Iterator[Item | Live | Lost]:
        """For one thread, once. Ends after stop() or the client's close().

        A lost connection is replaced for as long as it takes. Raises what a new one would not mend: Refusal,
        ConnectionFailure that is not temporary, RemoteProtocolError.
        """
        link = self._link
        early = self._take_queued()
        behind, lost, failures = True, False, 0
        while not self.over():
            if behind:
                try:
                    yield from self._catch_up()
                except (ConnectionFailure, Refusal) as error:
                    if self.over():
                        return
                    self.wait_after(error, failures)
                    failures += 1
                else:
                    behind, lost, failures = False, False, 0
                    yield Live()
                    while early and not behind:
                        news = self._heard(early.pop(0))
                        behind = news is None
                        yield from news or ()
                    continue
            else:
                item = link.inbox.get(None, lambda: self.over() or link.lost)
                if item is not None:
                    news = self._heard(item) if isinstance(item, Notification) else None
                    behind = news is None
                    yield from news or ()
                    continue
            if not self.over():
                if not lost:
                    lost = True
                    yield Lost()
                self._reconnect()  # a Gap comes before anything else

    def wait_after(self, error: ConnectionFailure | Refusal, failures: int) -> None:
        """A pause before the next try; failures: how many there were before. Raises what will not pass by itself."""
        pause = PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)]
        if isinstance(error, Refusal):
            if error.reason is Reason.RATE_LIMITED:
                pause = max(pause, float(error.data.get("retry_after", 0)))
            elif error.reason is not Reason.UNAVAILABLE:
                raise error
        elif not error.temporary and (self._link.lost or self._link.closed):
            raise error  # else it was a call without an answer, on a connection that stands
        self._stopped.wait(pause)

    def _take_queued(self) -> list[Notification]:
        """What came before anybody followed: typing of an hour ago is no news, and the rest is asked for."""
        kept: list[Notification] = []
        while (item := self._link.inbox.get(0, lambda: True)) is not None:
            if isinstance(item, Notification) and item.method in self._lasting:
                kept.append(item)
        return kept

    def _reconnect(self) -> None:
        failures = 0
        while not self.over():
            try:
                self._client.connect()
            except (ConnectionFailure, Refusal) as error:
                if self.over():
                    return
                self.wait_after(error, failures)
                failures += 1
            else:
                return
