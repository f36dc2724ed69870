"""Who did what: shown to admins, checked and exported by the operator."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from securedelivery.errors import Reason, Refusal
from securedelivery.model import AccountId, AuditRecord, Timestamp, timestamp
from securedelivery.service import cursors
from securedelivery.service.batches import one_by_one
from securedelivery.service.profiles import check_admin
from securedelivery.service.session import Session
from securedelivery.store import accounts, audit
from securedelivery.store.audit import AuditEntry, AuditRow
from securedelivery.store.chain import Damage
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.orders import OPERATOR
from securedelivery.store.schema import MAX_INTEGER

NAMING = ("account", "agent", "courier")
"""Members of a row's detail that hold the number of an account."""

_ABOUT = "account:"


class ExportedRow(msgspec.Struct, frozen=True):
    r"""A row as a file holds it, from which the chain can be checked without the database.

    hash is, in hex, SHA-256(hash of the row before it || canonical JSON), where the first row follows 32 zero bytes and
    the canonical JSON is the array [id, at, actor_id, action, subject, detail]: UTF-8, no blanks, nothing escaped but
    `"`, `\` and control characters; detail is a string there, or null, as it is here. actor is not part of it: the
    name that actor_id has at the time of the export.
    """

    id: int
    at: Timestamp
    actor_id: AccountId | None
    actor: str | None
    action: str
    subject: str | None
    detail: str | None
    hash: str


@dataclass(frozen=True, slots=True)
class _List:
    """account: a username; before: below which number."""

    actor: Session | None
    account: str | None
    action: str | None
    before: int
    limit: int


_Page = tuple[list[AuditRecord], str | None]


class Audits:
    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        """clock: aware, UTC."""
        self._database = database
        self._clock = clock

    def verify(self) -> Damage | None:
        """What somebody has done to the audit, or None. Reads all of it."""
        with self._database.read() as tx:
            return audit.verify(tx)

    def newest(self) -> tuple[int, str] | None:
        """Number and hash of the newest row as the head has them; (0, 64 zeros) for none, None without a head.

        Noted down elsewhere, it shows later whether the whole chain was written anew.
        """
        with self._database.read() as tx:
            head = audit.head(tx)
        return None if head is None else (head.number, head.hash.hex())

    def export(self) -> Iterator[ExportedRow]:
        """Every row, oldest first, as of one moment. Use it up soon: see Database.read."""
        with self._database.read() as tx:
            for (number, stored, digest), username in audit.everything_named(tx):
                yield ExportedRow(
                    id=number,
                    at=stored.at,
                    actor_id=stored.actor,
                    actor=_actor(stored, username),
                    action=stored.action,
                    subject=stored.subject,
                    detail=stored.detail,
                    hash=digest.hex(),
                )

    def _list_noted(self, tx: Transaction, commands: Sequence[_List]) -> list[_Page | Refusal]:
        now = timestamp(self._clock())

        def listed(command: _List) -> _Page:
            actor = command.actor
            assert actor is not None
            check_admin(tx, actor)
            account = _account(tx, command)
            page = _page(tx, command, account)
            detail = msgspec.json.encode({"account": account, "rows": len(page[0])}).decode()
            audit.append(tx, [AuditEntry(now, actor.account_id, "audit.listed", None, detail)])
            return page

        return one_by_one(listed, commands)

    def list(
        self,
        actor: Session | None,
        *,
        account: str | None = None,
        action: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> _Page:
        """Newest first, with the cursor of what follows. Leaves a row itself where an admin asks.

        account: a username, or what a deleted account is called now; only what it did and what is about it. action:
        only this. actor: None for the operator. Raises Refusal not_found.
        """
        before = MAX_INTEGER if after is None else cursors.decode_number("a", after)
        command = _List(actor, account, action, before, limit)
        if actor is not None:
            return self._database.writer.call(self._list_noted, command)
        with self._database.read() as tx:
            return _page(tx, command, _account(tx, command))


def cursor_of(record: AuditRecord) -> str:
    """Where a list goes on behind this record."""
    return cursors.encode("a", str(record.entry))


def detail_of(entry: AuditEntry) -> dict[str, Any]:
    """Empty for none, and for what somebody has put in its place."""
    try:
        return msgspec.json.decode(entry.detail or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError):
        return {}


def _account(tx: Transaction, command: _List) -> AccountId | None:
    if command.account is None:
        return None
    row = accounts.by_username(tx, command.account)
    if row is None:
        raise Refusal(Reason.NOT_FOUND, f"there is no account {command.account}")
    return row.id


def _page(tx: Transaction, command: _List, account: AccountId | None) -> _Page:
    rows = audit.newest(tx, command.before, command.limit + 1, account=account, action=command.action)
    records = _shown(tx, rows[: command.limit])
    return records, cursor_of(records[-1]) if len(rows) > command.limit else None


def _shown(tx: Transaction, rows: Sequence[AuditRow]) -> list[AuditRecord]:
    """With names in the place of the accounts' numbers, as they are now."""
    details = [detail_of(row.entry) for row in rows]
    numbers = {row.entry.actor for row in rows if row.entry.actor is not None}
    numbers |= {number for row in rows if (number := _subject(row.entry)) is not None}
    numbers |= {AccountId(value) for each in details for key in NAMING if isinstance(value := each.get(key), int)}
    names = accounts.usernames(tx, numbers)
    records = []
    for row, detail in zip(rows, details, strict=True):
        stored = row.entry
        named = {key: names.get(detail[key], detail[key]) for key in NAMING if isinstance(detail.get(key), int)}
        about = _subject(stored)
        records.append(
            AuditRecord(
                entry=row.number,
                at=stored.at,
                actor=_actor(stored, None if stored.actor is None else names.get(stored.actor)),
                action=stored.action,
                subject=stored.subject if about is None or about not in names else _ABOUT + names[about],
                detail=detail | named,
                hash=row.hash.hex(),
            )
        )
    return records


def _actor(stored: AuditEntry, username: str | None) -> str | None:
    """Nobody is logged in where a login fails, and else nobody but the operator acts without an account."""
    if stored.actor is None:
        return None if stored.action == "login.failed" else OPERATOR
    return username


def _subject(stored: AuditEntry) -> AccountId | None:
    """The account that the row is about, if it is about one."""
    kind, _, number = (stored.subject or "").partition(":")
    return AccountId(int(number)) if kind == "account" and number.isascii() and number.isdigit() else None
