"""Who is asking, and whether they still may."""

from dataclasses import dataclass

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
