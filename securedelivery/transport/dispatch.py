"""What the transport asks of the application: how a method is run, and its answer. The transport knows no method."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from securedelivery.errors import Refusal
from securedelivery.protocol.certificates import Identity
from securedelivery.protocol.jsonrpc import Request

__all__ = ["Application", "Caller", "Ending", "Lane", "Outcome", "SessionChange"]


class Lane(Enum):
    """How a request runs beside its neighbours on the connection, so that all take effect in the order sent."""

    INLINE = "inline"  # answered on the I/O thread: neither waits nor hashes
    READ = "read"  # on a worker, alone
    WRITE = "write"  # in the store's writer; neighbours share a commit, the writer's queue keeps their order
    SESSION = "session"  # on a worker, alone, and may change who is logged in
    HASHING = "hashing"  # the same, on threads of its own: Argon2 takes memory and time, and reads do not wait for it


@dataclass(slots=True)
class Caller:
    """Who asks. session belongs to the application (None: nobody is logged in); only the connection's owner sets it."""

    identity: Identity | None
    remote: str
    session: Any = None


@dataclass(frozen=True, slots=True)
class SessionChange:
    """The result of a SESSION method, and who is logged in from now on. account: the key notifications go by."""

    result: object
    session: Any
    account: int | None


@dataclass(frozen=True, slots=True)
class Ending:
    """The connection is to end: reason is the slug of its CLOSE."""

    reason: str
    message: str


Outcome = object | Refusal
"""An encodable result, a SessionChange, or the Refusal to answer with."""


class Application(Protocol):
    server_name: str
    """`name/version` for system.welcome."""

    def lane(self, method: str) -> Lane:
        """Also for methods that do not exist: they are answered INLINE."""
        ...

    def answer(self, caller: Caller, request: Request) -> Outcome:
        """INLINE on the I/O thread, READ and SESSION on a worker. What it raises becomes an incident."""
        ...

    def submit(self, caller: Caller, request: Request, done: Callable[[Outcome], None]) -> None:
        """WRITE: `done` is called once, from any thread, after the commit or at once for a refusal.

        What it raises, before `done`, becomes an incident.
        """
        ...

    def begin_writes(self) -> None:
        """What submit() was given may wait for this. From any thread; an I/O thread calls it when it has nothing else
        to do, or a few milliseconds after a submit().
        """
        ...

    def review(self, caller: Caller) -> SessionChange | Ending:
        """Look once more at who is logged in: the account may have changed. On a worker.

        What it raises becomes an incident and ends the connection: nobody acts for an account that cannot be looked at.
        """
        ...

    def incident(self, error: BaseException, doing: str) -> Refusal:
        """Log a bug; the Refusal tells the peer nothing but the incident's number. From any thread, never raises."""
        ...
