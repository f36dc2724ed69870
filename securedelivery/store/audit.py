"""Who did what: rows that nobody can change or take out unnoticed.

Each row carries SHA-256(hash of the row before it || the row as canonical JSON); the first follows 32 zero bytes.
Rows are written in the transaction of what they tell of, whose write lock makes the chain one line.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import insert, select

from securedelivery.model import AccountId, Timestamp
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import audit
from securedelivery.store.statements import Statement

BEGINNING = bytes(32)
"""What the first row's hash follows."""


class AuditEntry(NamedTuple):
    """actor: None for the operator at the machine, or for somebody unknown. subject: "account:5", "order:17".

    detail: a JSON object, as text.
    """

    at: Timestamp
    actor: AccountId | None
    action: str
    subject: str | None = None
    detail: str | None = None


_LAST = Statement(select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc()).limit(1))
_ALL = Statement(
    select(
        audit.c.id, audit.c.at, audit.c.actor_id, audit.c.action, audit.c.subject, audit.c.detail, audit.c.hash
    ).order_by(audit.c.id)
)
_INSERT = Statement(insert(audit))
_canonical = msgspec.json.Encoder().encode


def chained(previous: bytes, number: int, entry: AuditEntry) -> bytes:
    """The hash of a row, 32 bytes. previous: that of the row before it."""
    return hashlib.sha256(previous + _canonical((number, *entry))).digest()


def append(tx: Transaction, entries: Sequence[AuditEntry]) -> None:
    number, previous = tx.row(_LAST) or (0, BEGINNING)
    rows = []
    for entry in entries:
        number += 1
        previous = chained(previous, number, entry)
        rows.append(
            {
                "id": number,
                "at": entry.at,
                "actor_id": entry.actor,
                "action": entry.action,
                "subject": entry.subject,
                "detail": entry.detail,
                "hash": previous,
            }
        )
    tx.write(_INSERT, rows)


def everything(tx: Transaction) -> Iterator[tuple[int, AuditEntry, bytes]]:
    """Number, entry and hash of every row, oldest first. Use it up before the next statement."""
    for number, at, actor, action, subject, detail, digest in tx.stream(_ALL):
        yield number, AuditEntry(at, actor, action, subject, detail), digest


def broken(tx: Transaction) -> int | None:
    """The number of the first row that does not follow from the one before it, or None for a whole chain."""
    previous = BEGINNING
    for expected, (number, entry, digest) in enumerate(everything(tx), start=1):
        if number != expected or digest != chained(previous, number, entry):
            return number
        previous = digest
    return None
