"""The answer to a call: where its caller waits for it, and what an error answer is in this program."""

import threading

from msgspec import Raw

from securedelivery.errors import Reason, Refusal, UnknownRefusal
from securedelivery.protocol.jsonrpc import ErrorObject

__all__ = ["Reply", "refusal"]

_REASONS = {reason.slug: reason for reason in Reason}


class Reply:
    """The answer to one call, once it is there. outcome: the result as JSON, or what the call raises."""

    __slots__ = ("_arrived", "outcome")

    def __init__(self) -> None:
        self._arrived = threading.Event()
        self.outcome: Raw | Exception

    def set(self, outcome: Raw | Exception) -> None:
        """From any thread, once."""
        self.outcome = outcome
        self._arrived.set()

    def wait(self, seconds: float) -> bool:
        """Whether it has arrived within that time."""
        return self._arrived.wait(seconds)


def refusal(error: ErrorObject) -> Refusal:
    """With the reason of the protocol's table, or UnknownRefusal for one that came later."""
    data = dict(error.data)
    slug = str(data.pop("reason", ""))
    reason = _REASONS.get(slug)
    if reason is None:
        return UnknownRefusal(slug, error.code, error.message, **_keywords(data))
    return Refusal(reason, error.message, **_keywords(data))


def _keywords(data: dict[str, object]) -> dict[str, object]:
    """Without the names that the constructors have themselves: a server can send anything."""
    return {name: value for name, value in data.items() if name not in ("self", "reason", "message", "slug", "code")}
