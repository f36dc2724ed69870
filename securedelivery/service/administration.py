"""Accounts in the hands of an admin, or of the operator at the machine, who may do the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from securedelivery.errors import Refusal
from securedelivery.model import Account, Role, Timestamp, timestamp
from securedelivery.service import chat, cursors
from securedelivery.service.batches import one_by_one
from securedelivery.service.credentials import Credentials, known
from securedelivery.service.profiles import by, check_admin, entry
from securedelivery.service.session import Session
from securedelivery.store import accounts, audit
from securedelivery.store.accounts import AccountRow, Lock
from securedelivery.store.engine import Transaction

_STAFF = (Role.AGENT, Role.ADMIN)


@dataclass(frozen=True, slots=True)
class _SetRole:
    actor: Session | None
    username: str
    role: Role


@dataclass(frozen=True, slots=True)
class _Disable:
    actor: Session | None
    username: str
    disabled: bool


@dataclass(frozen=True, slots=True)
class _List:
    actor: Session | None
    part: str
    after: str
    limit: int


_Page = tuple[list[Account], str | None]


class Administration(Credentials):
    # `actor` is the admin's session, or None for the operator.

    def set_role(self, actor: Session | None, username: str, role: Role) -> Account:
        """Who stops being an agent gives all conversations back. Open sessions go on in the new role.

        Raises Refusal not_found; invalid_params for the last admin, but not to the operator.
        """
        return self._database.writer.call(self._set_role, _SetRole(actor, username, role))

    def _set_role(self, tx: Transaction, commands: Sequence[_SetRole]) -> list[Account | Refusal]:
        now = timestamp(self._clock())

        def put(command: _SetRole) -> Account:
            actor, role = command.actor, command.role
            row = _reached(tx, actor, command.username)
            if row.role is role:
                return self._viewed(tx, row, actor, now)
            if _is_last_admin(tx, actor, row):
                raise Refusal.invalid("/role", "you are the last admin; make somebody else admin first")
            detail = {"old": row.role, "new": role, "by": by(actor)}
            row = row._replace(role=role)
            self._write(tx, row, entry(now, actor, "account.role_changed", row, **detail))
            self._release(tx, row, now)
            return self.shown(row)

        return one_by_one(put, commands)

    def disable(self, actor: Session | None, username: str, disabled: bool) -> Account:
        """Disable an account, which ends its sessions, or let it in again. Raises Refusal as set_role() does."""
        return self._database.writer.call(self._disable, _Disable(actor, username, disabled))

    def _disable(self, tx: Transaction, commands: Sequence[_Disable]) -> list[Account | Refusal]:
        now = timestamp(self._clock())

        def put(command: _Disable) -> Account:
            actor, disabled = command.actor, command.disabled
            row = _reached(tx, actor, command.username)
            if row.disabled == disabled:
                return self._viewed(tx, row, actor, now)
            if _is_last_admin(tx, actor, row):
                raise Refusal.invalid("/disabled", "you are the last admin; make somebody else admin first")
            # Another number, so that no session outlives a moment of it.
            row = row._replace(disabled=disabled, credentials=row.credentials + 1)
            action = "account.disabled" if disabled else "account.enabled"
            self._write(tx, row, entry(now, actor, action, row, by=by(actor)))
            self._release(tx, row, now)
            return self.shown(row)

        return one_by_one(put, commands)

    def set_mail(self, username: str, wanted: Mapping[str, bool]) -> Account:
        """For the operator: which mail the account gets. Raises Refusal not_found.

        wanted: of receipts, summaries and missed_chat those that are to change.
        """
        return self._database.writer.call(self._set_mail, (username, wanted))

    def _set_mail(self, tx: Transaction, commands: Sequence[tuple[str, Mapping[str, bool]]]) -> list[Account | Refusal]:
        now = timestamp(self._clock())

        def put(command: tuple[str, Mapping[str, bool]]) -> Account:
            username, wanted = command
            before = known(tx, username)
            changes: dict[str, Any] = {f"mail_{name}": value for name, value in wanted.items()}
            row = before._replace(**changes)
            if row == before:
                return self._viewed(tx, row, None, now)
            accounts.change(tx, [row])
            audit.append(tx, [entry(now, None, "account.mail_changed", row, by=by(None), **wanted)])
            return self.shown(row)

        return one_by_one(put, commands)

    def _release(self, tx: Transaction, row: AccountRow, now: Timestamp) -> None:
        if row.role not in _STAFF or row.disabled:
            chat.release_all(tx, row.id, now)

    def named(self, username: str) -> Account:
        """For the operator. Raises Refusal not_found."""
        return self._database.writer.call(self._view, username)

    def locks(self, usernames: Sequence[str]) -> dict[str, Lock]:
        """For the operator: which of the accounts are disabled, or have to bring their certificate."""
        with self._database.read() as tx:
            return accounts.locks(tx, usernames)

    def _view(self, tx: Transaction, usernames: Sequence[str]) -> Sequence[Account | Refusal]:
        now = timestamp(self._clock())

        def view(username: str) -> Account:
            return self._viewed(tx, known(tx, username), None, now)

        return one_by_one(view, usernames)

    def _list(self, tx: Transaction, commands: Sequence[_List]) -> list[_Page | Refusal]:
        now = timestamp(self._clock())

        def page(command: _List) -> _Page:
            actor = command.actor
            check_admin(tx, actor)
            rows = accounts.page(tx, command.part, command.after, command.limit + 1)
            shown = [self.shown(row) for row in rows[: command.limit]]
            audit.append(tx, [entry(now, actor, "accounts.listed", None, accounts=len(shown), by=by(actor))])
            return shown, cursor_of(shown[-1]) if len(rows) > command.limit else None

        return one_by_one(page, commands)

    def list(
        self, actor: Session | None, *, query: str | None = None, after: str | None = None, limit: int = 50
    ) -> _Page:
        """By username, with the cursor of what follows; deleted accounts are left out.

        query: a part of the username, whatever its case. Names and e-mail are sealed, and cannot be searched.
        """
        last = "" if after is None else cursors.decode("u", after)
        return self._database.writer.call(self._list, _List(actor, (query or "").lower(), last, limit))


def cursor_of(account: Account) -> str:
    """Where a list goes on behind this account."""
    return cursors.encode("u", account.username)


def _reached(tx: Transaction, actor: Session | None, username: str) -> AccountRow:
    check_admin(tx, actor)
    return known(tx, username)


def _is_last_admin(tx: Transaction, actor: Session | None, row: AccountRow) -> bool:
    """Whether the actor is about to leave the shop without an admin."""
    return actor is not None and actor.account_id == row.id and accounts.admins(tx) == 1
