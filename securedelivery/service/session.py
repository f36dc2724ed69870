"""Who is asking, and whether they still may."""

from dataclasses import dataclass
from typing import Protocol, TypeVar

from securedelivery.errors import Reason, Refusal
from securedelivery.model import AccountId, Role


@dataclass(frozen=True, slots=True)
class Session:
    """A logged-in account, for as long as its connection lives.

    credentials: those of the account at the login; once the account has others, the session is over.
    """

    account_id: AccountId
    username: str
    role: Role
    credentials: int = 0

    @property
    def is_staff(self) -> bool:
        return self.role in (Role.AGENT, Role.ADMIN)


@dataclass(frozen=True, slots=True)
class Stays:
    """The session goes on, as it is now."""

    session: Session


@dataclass(frozen=True, slots=True)
class Ends:
    """The session is over. reason: the slug of the connection's CLOSE."""

    reason: str
    message: str


Standing = Stays | Ends
"""What Accounts.review() finds."""


class _Account(Protocol):
    @property
    def disabled(self) -> bool: ...


Account = TypeVar("Account", bound=_Account)


def acting(account: Account | None) -> Account:
    """The account of whoever asks, as it is in this transaction. Raises Refusal where it is gone or disabled."""
    if account is None:
        raise gone()
    if account.disabled:
        raise locked_out()
    return account


def gone() -> Refusal:
    return Refusal(Reason.NOT_LOGGED_IN, "this account no longer exists")


def locked_out() -> Refusal:
    return Refusal(Reason.DISABLED, "this account is disabled; ask the shop")
