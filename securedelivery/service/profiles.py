"""An account as its owner sees it, and what of it the owner may change."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import msgspec
from msgspec import UNSET, UnsetType

from securedelivery.errors import Reason, Refusal
from securedelivery.model import Account, MailPreferences, Role, Timestamp, timestamp
from securedelivery.service.batches import one_by_one
from securedelivery.service.identity import name_of
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Ends, Session, Standing, Stays, acting, gone
from securedelivery.store import accounts, audit
from securedelivery.store.accounts import AccountRow
from securedelivery.store.audit import AuditEntry
from securedelivery.store.engine import Database, Transaction


class MailChanges(Protocol):
    """UNSET stays, None puts the default back."""

    @property
    def receipts(self) -> bool | UnsetType | None: ...
    @property
    def summaries(self) -> bool | UnsetType | None: ...
    @property
    def missed_chat(self) -> bool | UnsetType | None: ...


class Changes(Protocol):
    """UNSET stays, None clears; of mail it puts all defaults back. The sizes are checked by whoever decoded them."""

    @property
    def name(self) -> str | UnsetType | None: ...
    @property
    def email(self) -> str | UnsetType | None: ...
    @property
    def address(self) -> str | UnsetType | None: ...
    @property
    def mail(self) -> MailChanges | UnsetType | None: ...


class UpdateCommand(msgspec.Struct, frozen=True):
    session: Session
    changes: Changes


class Profiles:
    """clock: aware, UTC."""

    def __init__(self, database: Database, clock: Callable[[], datetime], rules: RewardRules) -> None:
        self._database = database
        self._clock = clock
        self._rules = rules

    def get(self, session: Session) -> Account:
        with self._database.read() as tx:
            row = accounts.by_id(tx, session.account_id)
        if row is None or row.deleted_at is not None:
            raise gone()
        return self.shown(row)

    def shown(self, row: AccountRow) -> Account:
        return Account(
            username=row.username,
            role=row.role,
            name=row.name,
            email=row.email,
            address=row.address,
            certificate=row.certificate,
            has_password=row.password is not None,
            mail=MailPreferences(bool(row.mail_receipts), bool(row.mail_summaries), bool(row.mail_missed_chat)),
            order_count=row.order_count,
            points=row.points,
            tier=self._rules.tier(row.order_count).name,
            created_at=row.created_at,
        )

    def review(self, session: Session, identity: str | None) -> Standing:
        """What has become of a session whose account has changed. identity: the connection's."""
        with self._database.read() as tx:
            row = accounts.by_id(tx, session.account_id)
        if row is None or row.deleted_at is not None:
            return Ends("account_deleted", "this account was deleted")
        if row.disabled:
            return Ends("credentials_changed", "this account was disabled; ask the shop")
        if row.credentials != session.credentials:
            return Ends("credentials_changed", "the way to log in was changed; log in again")
        if row.certificate_required and identity is None:
            return Ends("credentials_changed", "this account needs a connection with its certificate now")
        return Stays(Session(row.id, row.username, row.role, row.credentials))

    def update(self, tx: Transaction, commands: Sequence[UpdateCommand]) -> list[Account | Refusal]:
        """A batch for the writer: each command's Account as it is afterwards. The audit names the fields alone."""
        rows = accounts.by_ids(tx, {command.session.account_id for command in commands})
        now = timestamp(self._clock())
        changed: dict[int, AccountRow] = {}
        entries: list[AuditEntry] = []
        outcomes: list[Account | Refusal] = []
        for command in commands:
            session = command.session
            try:
                before = usable(rows.get(session.account_id), session)
            except Refusal as refusal:
                outcomes.append(refusal)
                continue
            after = _updated(before, command.changes)
            if after != before:
                rows[after.id] = changed[after.id] = after
                fields = [name for name in AccountRow._fields if getattr(before, name) != getattr(after, name)]
                entries.append(entry(now, session, "account.updated", after, fields=fields))
            outcomes.append(self.shown(after))
        accounts.change(tx, changed.values())
        audit.append(tx, entries)
        return outcomes

    def is_bound(self, identity: str) -> bool:
        """Whether an account is bound to the identity."""
        with self._database.read() as tx:
            return accounts.by_certificate(tx, identity) is not None

    def bind_certificate(self, session: Session, identity: str | None) -> Account:
        """Have the identity of the connection log in to this account; in the place of another one, if there was."""
        if identity is None:
            raise Refusal(Reason.FORBIDDEN, "this connection has no certificate to bind; connect with one")
        check_own(session.username, identity)
        return self._database.writer.call(self._bind, (session, identity))

    def _bind(self, tx: Transaction, commands: Sequence[tuple[Session, str]]) -> list[Account | Refusal]:
        now = timestamp(self._clock())

        def bind(command: tuple[Session, str]) -> Account:
            session, identity = command
            row = usable(accounts.by_id(tx, session.account_id), session)
            if row.certificate != identity:
                row = row._replace(certificate=identity)
                accounts.change(tx, [row])
                audit.append(tx, [entry(now, session, "account.certificate_bound", row)])
            return self.shown(row)

        return one_by_one(bind, commands)


def _updated(row: AccountRow, changes: Changes) -> AccountRow:
    given = {name: getattr(changes, name) for name in ("name", "email", "address")}
    if changes.mail is not UNSET:
        for name in ("receipts", "summaries", "missed_chat"):
            wanted = None if changes.mail is None else getattr(changes.mail, name)
            given[f"mail_{name}"] = True if wanted is None else wanted
    return row._replace(**{name: value for name, value in given.items() if value is not UNSET})


def usable(row: AccountRow | None, session: Session) -> AccountRow:
    """The session's account, where the session still is one. Raises Refusal."""
    row = acting(None if row is None or row.deleted_at is not None else row)
    if row.credentials != session.credentials:
        raise Refusal(Reason.NOT_LOGGED_IN, "the way to log in was changed; log in again")
    return row


def check_admin(tx: Transaction, actor: Session | None) -> None:
    """The actor's role may have gone since the connection was last looked at."""
    if actor is not None and usable(accounts.by_id(tx, actor.account_id), actor).role is not Role.ADMIN:
        raise Refusal(Reason.FORBIDDEN, "this is for the role admin")


def by(actor: Session | None) -> str:
    """For the audit's details: as what somebody acted."""
    return "operator" if actor is None else "admin"


def check_own(username: str, identity: str | None) -> None:
    if identity is not None and name_of(identity) != username:
        raise Refusal(Reason.FORBIDDEN, f"this connection's certificate is for {name_of(identity)} alone")


def entry(now: Timestamp, actor: Session | None, action: str, about: AccountRow | None, **detail: object) -> AuditEntry:
    """A row of the audit, about an account or about none.

    detail: nothing that a person has written, for a row can never be taken back.
    """
    who = None if actor is None else actor.account_id
    subject = None if about is None else f"account:{about.id}"
    return AuditEntry(now, who, action, subject, msgspec.json.encode(detail).decode() if detail else None)
