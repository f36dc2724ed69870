"""What an account is logged in with: changed by its owner, who proves to be that, or by the operator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from securedelivery.errors import Reason, Refusal
from securedelivery.model import Account, Timestamp, timestamp
from securedelivery.service.attempts import LoginAttempts, LoginLimits
from securedelivery.service.batches import one_by_one
from securedelivery.service.events import AccountChanged
from securedelivery.service.passwords import Passwords, check_acceptable
from securedelivery.service.profiles import Profiles, by, entry, usable
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session
from securedelivery.store import accounts, audit
from securedelivery.store.accounts import AccountRow
from securedelivery.store.audit import AuditEntry
from securedelivery.store.engine import Database, Transaction


@dataclass(frozen=True, slots=True)
class _NewPassword:
    """hashed: PHC form."""

    session: Session
    hashed: str


@dataclass(frozen=True, slots=True)
class _Failure:
    """A wrong password of somebody who is logged in. doing: what it was asked for."""

    row: AccountRow
    doing: str
    remote: str


class Credentials(Profiles):
    # `remote` is the peer's IP address, without the port.

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        passwords: Passwords,
        rules: RewardRules,
        limits: LoginLimits,
    ) -> None:
        super().__init__(database, clock, rules)
        self._passwords = passwords
        self._attempts = LoginAttempts(limits, clock)

    def prove(self, session: Session, password: str | None, *, doing: str, remote: str) -> None:
        """See that it is the owner who asks, where the account has a password. Counts like a login.

        doing: a word for the audit. Raises Refusal bad_credentials, rate_limited.
        """
        with self._database.read() as tx:
            row = usable(accounts.by_id(tx, session.account_id), session)
        if row.password is None:
            return
        self._attempts.attempt(row.username, remote)
        if password is None or not self._passwords.verify(row.password, password):
            self._database.writer.call(self._note_failures, _Failure(row, doing, remote))
            raise Refusal(Reason.BAD_CREDENTIALS, "that is not the account's password")
        self._attempts.succeeded(row.username, remote)

    def _note_failures(self, tx: Transaction, failures: Sequence[_Failure]) -> list[None]:
        now = timestamp(self._clock())
        entries: list[AuditEntry] = []
        for failure in failures:
            detail = {"method": failure.doing, "remote": failure.remote}
            entries.append(entry(now, None, "login.failed", failure.row, **detail))
        audit.append(tx, entries)
        return [None for _ in failures]

    def change_password(self, session: Session, new: str, old: str | None = None, *, remote: str) -> Session:
        """Set the password; old: where one is set. Ends every other session of the account; gives the one that goes
        on.
        """
        check_acceptable(new, session.username, "/new_password")
        self.prove(session, old, doing="change_password", remote=remote)
        return self._database.writer.call(self._put_password, _NewPassword(session, self._passwords.hash(new)))

    def _put_password(self, tx: Transaction, commands: Sequence[_NewPassword]) -> list[Session | Refusal]:
        now = timestamp(self._clock())

        def put(command: _NewPassword) -> Session:
            session = command.session
            # Whoever changed it since the proof has changed the credentials, too.
            row = usable(accounts.by_id(tx, session.account_id), session)
            row = row._replace(password=command.hashed, credentials=row.credentials + 1)
            self._write(tx, row, entry(now, session, "account.password_changed", row))
            return Session(row.id, row.username, row.role, row.credentials)

        return one_by_one(put, commands)

    def reset_password(self, username: str, password: str) -> Account:
        """For the operator at the machine. Ends every session of the account."""
        check_acceptable(password, username)
        with self._database.read() as tx:
            known(tx, username)  # before the hash, which is dear
        return self._database.writer.call(self._reset_password, (username, self._passwords.hash(password)))

    def _reset_password(self, tx: Transaction, commands: Sequence[tuple[str, str]]) -> list[Account | Refusal]:
        now = timestamp(self._clock())

        def reset(command: tuple[str, str]) -> Account:
            username, hashed = command
            row = known(tx, username)
            row = row._replace(password=hashed, credentials=row.credentials + 1)
            self._write(tx, row, entry(now, None, "account.password_reset", row, by="operator"))
            return self.shown(row)

        return one_by_one(reset, commands)

    def require_certificate(self, username: str, required: bool) -> Account:
        """For the operator at the machine: whether the account takes no login by password.

        Ends its sessions on connections without a certificate. An account that is not bound to one cannot log in at all
        then.
        """
        return self._database.writer.call(self._require_certificate, (username, required))

    def _require_certificate(self, tx: Transaction, commands: Sequence[tuple[str, bool]]) -> list[Account | Refusal]:
        now = timestamp(self._clock())

        def require(command: tuple[str, bool]) -> Account:
            username, required = command
            row = known(tx, username)
            if row.certificate_required == required:
                return self._viewed(tx, row, None, now)
            row = row._replace(certificate_required=required)
            detail = {"required": required, "by": by(None)}
            self._write(tx, row, entry(now, None, "account.certificate_required", row, **detail))
            return self.shown(row)

        return one_by_one(require, commands)

    def _viewed(self, tx: Transaction, row: AccountRow, actor: Session | None, now: Timestamp) -> Account:
        """The account as it is, for an admin or the operator, whose look is written down."""
        audit.append(tx, [entry(now, actor, "account.viewed", row, by=by(actor))])
        return self.shown(row)

    def _write(self, tx: Transaction, row: AccountRow, noted: AuditEntry) -> None:
        """A change that open connections of the account are concerned by."""
        accounts.change(tx, [row])
        audit.append(tx, [noted])
        tx.publish(AccountChanged(row.id))


def known(tx: Transaction, username: str) -> AccountRow:
    """The account of this name. Raises Refusal not_found, for a deleted one too."""
    row = accounts.by_username(tx, username)
    if row is None or row.deleted_at is not None:
        raise Refusal(Reason.NOT_FOUND, f"there is no account {username}")
    return row
