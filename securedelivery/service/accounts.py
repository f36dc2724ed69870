"""Accounts: docs/protocol.md, "Accounts". Everything here blocks, for Argon2 and the database: call it on a worker
thread.

    Profiles             get, update, bind_certificate, review
     +-- Credentials     change_password, and for the operator reset_password, require_certificate
          +-- Administration   list, set_role, disable
               +-- Accounts    create, login
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from securedelivery.errors import Reason, Refusal
from securedelivery.model import USERNAME, AccountId, Role, timestamp
from securedelivery.service.administration import Administration, cursor_of
from securedelivery.service.attempts import LoginLimits
from securedelivery.service.identity import IssuedNames, name_of
from securedelivery.service.passwords import Passwords, check_acceptable
from securedelivery.service.profiles import UpdateCommand, check_own
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session, locked_out
from securedelivery.store import accounts, audit
from securedelivery.store.accounts import AccountRow
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.orders import OPERATOR

__all__ = ["AccountSettings", "Accounts", "UpdateCommand", "cursor_of"]


RESERVED = frozenset({OPERATOR})
"""Names that the audit and the orders' histories use for somebody without an account."""


class AccountSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    names_file: str | None = None
    """names.txt beside the CA: names that only their certificate can use. None, or a missing file: no such names."""

    logins: LoginLimits = LoginLimits()


@dataclass(frozen=True, slots=True)
class _NewAccount:
    row: AccountRow
    """Its number is still to be given."""
    by: str
    """`customer` or `operator`"""


@dataclass(frozen=True, slots=True)
class _Login:
    """A login that is right as far as the caller could see, or a failure, with row None where there is no such name.

    row: as it was when the password was verified, or the certificate found.
    """

    row: AccountRow | None
    succeeded: bool
    method: str
    remote: str
    rehash: tuple[str, str] | None = None
    """(the hash that was verified, a new one)"""


class Accounts(Administration):
    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        passwords: Passwords,
        rules: RewardRules,
        settings: AccountSettings,
    ) -> None:
        """clock: aware, UTC."""
        super().__init__(database, clock, passwords, rules, settings.logins)
        self._issued = IssuedNames(None if settings.names_file is None else Path(settings.names_file))

    # `identity` is the connection's spiffe URI, or None. `remote` is the peer's IP address, without the port.

    def create(
        self,
        username: str,
        password: str | None = None,
        name: str | None = None,
        email: str | None = None,
        address: str | None = None,
        *,
        identity: str | None,
        remote: str,
    ) -> Session:
        """A customer's account, bound to the identity if there is one. The caller is logged in with it."""
        check_own(username, identity)
        _check_username(username)
        if password is not None:
            check_acceptable(password, username)
        elif identity is None:
            raise Refusal.invalid("/password", "without a certificate an account needs a password")
        if identity is None:
            self._attempts.creation(remote)
            if username in self._issued:
                raise _taken(username)
        wanted = self._row(username, Role.CUSTOMER, identity, name=name, email=email, address=address)
        return self._create(wanted, password, by="customer")

    def create_by_operator(self, username: str, role: Role, *, identity: str, password: str | None = None) -> Session:
        """An account of any role, bound to the identity of its name. For the command line on the server's machine."""
        _check_username(username)
        check_own(username, identity)
        if password is not None:
            check_acceptable(password, username)
        return self._create(self._row(username, role, identity), password, by="operator")

    def login(self, username: str, password: str, *, identity: str | None, remote: str) -> Session:
        """By password. A wrong name and a wrong password cannot be told apart, not by the time they take either."""
        if identity is not None and name_of(identity) != username:
            self._note_failure("password", remote)
        check_own(username, identity)
        self._attempts.attempt(username, remote)
        with self._database.read() as tx:
            row = accounts.by_username(tx, username)
        usable = None if row is None or row.certificate_required else row.password
        succeeded = self._passwords.verify(usable, password)
        rehash = None
        if succeeded and usable is not None and self._passwords.outdated(usable):
            rehash = (usable, self._passwords.hash(password))
        login = _Login(row, succeeded, "password", remote, rehash)
        session = self._database.writer.call(self._log_in, login)
        self._attempts.succeeded(username, remote)
        return session

    def _note_failure(self, method: str, remote: str) -> None:
        """Of somebody with a certificate, who cannot hide; without one, what is not even looked at leaves no row."""
        with suppress(Refusal):
            self._database.writer.call(self._log_in, _Login(None, succeeded=False, method=method, remote=remote))

    def login_certificate(self, *, identity: str | None, remote: str) -> Session:
        """By the identity of the connection, which the handshake has proved."""
        if identity is not None:
            with self._database.read() as tx:
                row = accounts.by_certificate(tx, identity)
            if row is not None:
                login = _Login(row, succeeded=True, method="certificate", remote=remote)
                return self._database.writer.call(self._log_in, login)
            self._note_failure("certificate", remote)
        raise Refusal(Reason.BAD_CREDENTIALS, "no account is bound to this certificate; create one, or use a password")

    def _row(
        self,
        username: str,
        role: Role,
        identity: str | None,
        *,
        name: str | None = None,
        email: str | None = None,
        address: str | None = None,
    ) -> AccountRow:
        return AccountRow(
            id=AccountId(0),
            username=username,
            role=role,
            name=name,
            email=email,
            address=address,
            certificate=identity,
            password=None,
            certificate_required=False,
            disabled=False,
            mail_receipts=True,
            mail_summaries=True,
            mail_missed_chat=True,
            order_count=0,
            points=0,
            ledger_entries=0,
            created_at=timestamp(self._clock()),
        )

    def _create(self, row: AccountRow, password: str | None, *, by: str) -> Session:
        with self._database.read() as tx:
            # Before the hash, which is dear.
            known = accounts.by_username(tx, row.username) is not None
            if known or row.username in RESERVED or accounts.retired(tx, [row.username]):
                raise _taken(row.username)
        if password is not None:
            row = row._replace(password=self._passwords.hash(password))
        return self._database.writer.call(self._add, _NewAccount(row, by))

    def _add(self, tx: Transaction, commands: Sequence[_NewAccount]) -> list[Session | Refusal]:
        names, uris = accounts.taken(
            tx,
            [command.row.username for command in commands],
            [command.row.certificate for command in commands if command.row.certificate is not None],
        )
        names |= accounts.retired(tx, [command.row.username for command in commands])
        number = accounts.next_id(tx)
        now = timestamp(self._clock())
        rows: list[AccountRow] = []
        entries: list[audit.AuditEntry] = []
        outcomes: list[Session | Refusal] = []
        for command in commands:
            row = command.row
            if row.username in names or row.certificate in uris:
                outcomes.append(_taken(row.username))
                continue
            row = row._replace(id=AccountId(number), created_at=now)
            number += 1
            rows.append(row)
            names.add(row.username)
            actor = None if command.by == "operator" else row.id
            # Not the certificate's name: a row cannot be taken back, and a deleted account's name must be able to go.
            detail = _detail(role=row.role, certificate=row.certificate is not None, by=command.by)
            entries.append(audit.AuditEntry(now, actor, "account.created", f"account:{row.id}", detail))
            outcomes.append(Session(row.id, row.username, row.role))
        accounts.add(tx, rows)
        audit.append(tx, entries)
        return outcomes

    def _log_in(self, tx: Transaction, commands: Sequence[_Login]) -> list[Session | Refusal]:
        now = timestamp(self._clock())
        entries: list[audit.AuditEntry] = []
        outcomes: list[Session | Refusal] = []
        for login in commands:
            # Read here once more: it may have been disabled, or got another role or password, while Argon2 was at work.
            row = None if login.row is None else accounts.by_id(tx, login.row.id)
            outcome = _judged(login, row)
            outcomes.append(outcome)
            actor, action = None, "login.failed"
            if isinstance(outcome, Session):
                actor, action = outcome.account_id, "login"
                if login.rehash is not None:
                    accounts.rehash(tx, outcome.account_id, *login.rehash)
            # An unknown name is not kept: it may be a password, typed into the wrong field.
            subject = None if row is None else f"account:{row.id}"
            detail = _detail(method=login.method, remote=login.remote)
            entries.append(audit.AuditEntry(now, actor, action, subject, detail))
        audit.append(tx, entries)
        return outcomes


def _judged(login: _Login, row: AccountRow | None) -> Session | Refusal:
    """row: as it is now."""
    if row is None or login.row is None or not login.succeeded or row.deleted_at is not None:
        return _bad()
    if row.disabled:
        return locked_out()
    if row.credentials != login.row.credentials or (row.certificate_required and login.method == "password"):
        return _bad()
    return Session(row.id, row.username, row.role, row.credentials)


def _bad() -> Refusal:
    return Refusal(Reason.BAD_CREDENTIALS, "wrong name or password")


def _check_username(username: str) -> None:
    if USERNAME.fullmatch(username) is None:
        raise Refusal.invalid("/username", "a username has 3 to 32 of a-z 0-9 . _ -, starting with a letter")


def _taken(username: str) -> Refusal:
    return Refusal(Reason.USERNAME_TAKEN, f"the name {username} is taken")


def _detail(**members: object) -> str:
    return msgspec.json.encode(members).decode()
