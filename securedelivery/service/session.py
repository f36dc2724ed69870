"""Who is asking."""

from dataclasses import dataclass

from securedelivery.model import AccountId, Role


@dataclass(frozen=True, slots=True)
class Session:
    """A logged-in account, for as long as its connection lives."""

    account_id: AccountId
    username: str
    role: Role

    @property
    def is_staff(self) -> bool:
        return self.role in (Role.AGENT, Role.ADMIN)
