"""account.*: who is there, and what is kept of them."""

from collections.abc import Callable, Iterator

import msgspec
from msgspec import UNSET, UnsetType

from securedelivery.api import messages as m
from securedelivery.client.caller import Caller, every
from securedelivery.client.connection import Connection
from securedelivery.client.deadline import Deadline
from securedelivery.model import Account

__all__ = ["AccountCalls"]


class AccountCalls(Caller):
    """The caller's own account."""

    def create_account(
        self,
        username: str,
        password: str | None = None,
        *,
        name: str | None = None,
        email: str | None = None,
        address: str | None = None,
    ) -> Account:
        """Create and log in. password: not needed where a certificate identifies this client.

        Never repeated: after PeerClosed the account may be there; then log in. Refused: username_taken, forbidden,
        invalid_params (`path`).
        """
        params = m.CreateAccount(username, password, name, email, address)
        account = self.call("account.create", params, Account, repeat=False)
        if self.welcome.identity is not None:
            self._link.remember(_certificate_login)
        elif password is not None:
            self._link.remember(_PasswordLogin(username, password))
        return account

    def login(self, username: str, password: str | Callable[[], str]) -> Account:
        """Log in by password. It is remembered (a callable: asked again) for logins on new connections, until logout.

        Refused: bad_credentials, disabled, forbidden, rate_limited (`retry_after` seconds).
        """
        login = _PasswordLogin(username, password)
        account = self._answer("account.login", login, Account, repeat=True)
        self._link.remember(login)
        return account

    def login_certificate(self) -> Account:
        """Log in as the connection's identity, also on new connections. Refused: bad_credentials without an account."""
        account = self._answer("account.login_certificate", _certificate_login, Account, repeat=True)
        self._link.remember(_certificate_login)
        return account

    def logout(self) -> None:
        self._link.remember(None)
        self.call("account.logout", m.Nothing(), m.Nothing, repeat=True)

    def account(self) -> Account:
        """The account that is logged in."""
        return self.call("account.get", m.Nothing(), Account, repeat=True)

    def update_account(
        self,
        *,
        name: str | UnsetType | None = UNSET,
        email: str | UnsetType | None = UNSET,
        address: str | UnsetType | None = UNSET,
        receipts: bool | UnsetType | None = UNSET,
        summaries: bool | UnsetType | None = UNSET,
        missed_chat: bool | UnsetType | None = UNSET,
    ) -> Account:
        """What is not given stays; None clears. receipts, summaries, missed_chat: which mail to send.

        Refused: invalid_params (`path`).
        """
        mail = m.ChangeMail(receipts, summaries, missed_chat)
        params = m.UpdateAccount(name, email, address, mail if mail != m.ChangeMail() else UNSET)
        return self.call("account.update", params, Account, repeat=True)

    def change_password(self, new: str, old: str | None = None) -> None:
        """Set the password, which ends the account's other connections. old: where one is set.

        A login by password is remembered with the new one. Never repeated: after PeerClosed either password may hold.
        Refused: bad_credentials, invalid_params (`path`), rate_limited (`retry_after` seconds).
        """
        self.call("account.change_password", m.ChangePassword(new, old), m.Nothing, repeat=False)
        login = self._link.remembered
        if isinstance(login, _PasswordLogin):
            self._link.remember(_PasswordLogin(login.username, new))

    def bind_certificate(self) -> Account:
        """Have the connection's certificate log in to this account. Refused: forbidden without one."""
        return self.call("account.bind_certificate", m.Nothing(), Account, repeat=True)

    def export_account(self) -> Iterator[m.Exported]:
        """All that is stored of this account, page by page: the account, orders, points, messages, events."""
        return every(lambda after: self.call("account.export", m.ExportAccount(after), m.Page[m.Exported], repeat=True))

    def delete_account(self, password: str | None = None) -> None:
        """Delete the account for ever; nobody is logged in then. password: where one is set.

        Never repeated: after PeerClosed it may be gone, then no login works. Refused: bad_credentials, open_orders.
        """
        self.call("account.delete", m.DeleteAccount(password), m.Nothing, repeat=False)
        self._link.remember(None)
        self._link.drop()  # as the server does now, too


def _certificate_login(connection: Connection, deadline: Deadline) -> msgspec.Raw:
    return connection.call("account.login_certificate", m.Nothing(), deadline)


class _PasswordLogin:
    """password: a callable is asked at each login."""

    def __init__(self, username: str, password: str | Callable[[], str]) -> None:
        self.username = username
        self._password = password

    def __call__(self, connection: Connection, deadline: Deadline) -> msgspec.Raw:
        word = self._password if isinstance(self._password, str) else self._password()
        return connection.call("account.login", m.Login(self.username, word), deadline)
