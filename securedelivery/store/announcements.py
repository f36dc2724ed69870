"""What a process without connections of its own has changed, for the server to tell."""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import bindparam, delete, func, insert, select

from securedelivery.model import Timestamp
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import announcements
from securedelivery.store.statements import Statement


class Announcement(NamedTuple):
    """Something with the number `subject` is not what it was.

    kind: account, order, rewards, conversation; mail, whose subject is 0.
    """

    kind: str
    subject: int


_SINCE = Statement(
    select(announcements.c.id, announcements.c.kind, announcements.c.subject)
    .where(announcements.c.id > bindparam("after"))
    .order_by(announcements.c.id)
    .limit(bindparam("count"))
)
_LATEST = Statement(select(func.max(announcements.c.id)))
_INSERT = Statement(insert(announcements).values({name: bindparam(name) for name in ("at", "kind", "subject")}))
_FORGET = Statement(delete(announcements).where(announcements.c.at < bindparam("before")))


def add(tx: Transaction, rows: Iterable[Announcement], at: Timestamp) -> None:
    tx.write(_INSERT, [{"at": at, "kind": kind, "subject": subject} for kind, subject in rows])


def since(tx: Transaction, after: int, count: int) -> list[tuple[int, Announcement]]:
    """Up to `count` numbered above `after`, ascending, with their numbers.

    No number comes up behind a higher one: they are given under the write lock, and never twice.
    """
    rows = tx.rows(_SINCE, {"after": after, "count": count})
    return [(number, Announcement(kind, subject)) for number, kind, subject in rows]


def latest(tx: Transaction) -> int:
    """The highest number that is still there; 0 for none."""
    found = tx.row(_LATEST)
    assert found is not None
    return found[0] or 0


def forget(tx: Transaction, before: Timestamp) -> None:
    """Take out what is older."""
    tx.write(_FORGET, [{"before": before}])
