"""What the server says on its own, queued for whoever iterates."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from securedelivery.api.messages import Draining, Typing
from securedelivery.errors import RemoteProtocolError
from securedelivery.model import Conversation, Message, Order, Rewards

__all__ = ["Gap", "Inbox", "Notification", "decode"]

MAX_QUEUED = 1_024  # a program that does not iterate keeps the newest, and not all of them for ever

_TYPES: dict[str, Any] = {
    "order.changed": Order,
    "rewards.changed": Rewards,
    "chat.message": Message,
    "chat.conversation": Conversation,
    "chat.typing": Typing,
    "system.draining": Draining,
}


class Notification(msgspec.Struct, frozen=True):
    """params: Order for order.changed, Rewards, Message, Conversation, Typing, Draining; else what JSON makes of it.

    None where the server sent what does not fit.
    """

    method: str
    params: Any


class Gap(msgspec.Struct, frozen=True):
    """Notifications may have been missed here: there is a new connection, or nobody iterated for too long.

    What may have been said meanwhile is asked with order.list (changed_since) and chat.history (after).
    """


def decode(method: str, params: Raw) -> Notification:
    """Raises RemoteProtocolError where params are not what docs/protocol.md says."""
    try:
        return Notification(method, msgspec.json.decode(params, type=_TYPES.get(method, Any)))
    except (msgspec.DecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"the notification {method} is not what it should be: {error}") from error


class Inbox:
    """A bounded queue from reader threads to iterating threads, with a condition for what else they wait for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._items: deque[Notification | Gap] = deque()

    def put(self, item: Notification | Gap) -> None:
        """From any thread; never blocks. When full, the oldest give way to a Gap."""
        with self._changed:
            self._items.append(item)
            if len(self._items) > MAX_QUEUED:
                self._items.popleft()
                self._items[0] = Gap()
            self._changed.notify_all()

    def wake(self) -> None:
        """Have get() look at its condition again."""
        with self._changed:
            self._changed.notify_all()

    def get(self, seconds: float | None, interrupted: Callable[[], bool]) -> Notification | Gap | None:
        """The next; None after that many seconds (None: no limit), or where the queue is empty and interrupted()."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or interrupted(), seconds)
            return self._items.popleft() if self._items else None
