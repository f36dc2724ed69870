"""Who did what: rows that nobody can change or take out unnoticed; chain.py has how.

Rows are written in the transaction of what they tell of, whose write lock makes the chain one line.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import LargeBinary, Select, bindparam, cast, func, literal_column, select, update

from securedelivery.model import AccountId
from securedelivery.store.chain import BEGINNING, AuditEntry, AuditRow, Damage, Head, Tampering, chained, examine
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import accounts, audit, audit_head
from securedelivery.store.statements import Insertion, Parameters, Statement

__all__ = [
    "AuditEntry",
    "AuditRow",
    "append",
    "everything",
    "everything_named",
    "head",
    "newest",
    "of_account",
    "verify",
]

# Texts as bytes: what somebody has put there need not be UTF-8, and the row has to be named all the same.
_at, _action, _subject, _detail = (
    cast(column, LargeBinary) for column in (audit.c.at, audit.c.action, audit.c.subject, audit.c.detail)
)
_columns = (audit.c.id, _at, audit.c.actor_id, _action, _subject, _detail, audit.c.hash)
_HEAD = Statement(select(audit_head.c.entry, audit_head.c.hash))
_END = Statement(select(audit_head.c.entry, audit_head.c.hash, select(func.max(audit.c.id)).scalar_subquery()))
_LAST = Statement(select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc()).limit(1))
_ALL = Statement(select(*_columns).order_by(audit.c.id))
_ALL_NAMED = Statement(
    select(*_columns, accounts.c.username)
    .select_from(audit.outerjoin(accounts, accounts.c.id == audit.c.actor_id))
    .order_by(audit.c.id)
)
_INSERT = Insertion(audit, ("id", "at", "actor_id", "action", "subject", "detail", "hash"))
_MOVE_HEAD = Statement(update(audit_head).values(entry=bindparam("newest"), hash=bindparam("newest_hash")))


def _listed(*, action: bool, by_actor: bool = False, by_subject: bool = False, ascending: bool = False) -> Statement:
    statement: Select[Any] = select(*_columns)
    if by_actor:
        statement = statement.where(audit.c.actor_id == bindparam("of_actor"), audit.c.actor_id.is_not(None))
    if by_subject:
        # The second condition is that of the partial index, which the planner has to see as it stands there.
        statement = statement.where(
            audit.c.subject == bindparam("of_subject"), audit.c.subject.like(literal_column("'account:%'"))
        )
    if action:
        statement = statement.where(audit.c.action == bindparam("of_action"))
    if ascending:
        statement = statement.where(audit.c.id > bindparam("beyond")).order_by(audit.c.id)
    else:
        statement = statement.where(audit.c.id < bindparam("beyond")).order_by(audit.c.id.desc())
    return Statement(statement.limit(bindparam("count")))


_YES_NO = (True, False)
_NEWEST = {action: _listed(action=action) for action in _YES_NO}
_NEWEST_BY_ACTOR = {action: _listed(action=action, by_actor=True) for action in _YES_NO}
_NEWEST_BY_SUBJECT = {action: _listed(action=action, by_subject=True) for action in _YES_NO}
_OLDEST_BY_ACTOR = _listed(action=False, by_actor=True, ascending=True)
_OLDEST_BY_SUBJECT = _listed(action=False, by_subject=True, ascending=True)


def append(tx: Transaction, entries: Sequence[AuditEntry]) -> None:
    """Add rows to the end and move the head, once for all of them.

    They follow the head, not whatever row stands last, so that a later row does not heal what was done to the end.
    """
    if not entries:
        return
    end = tx.row(_END)
    if end is None:  # no head: the check says so for ever after, but the shop goes on
        number, previous = tx.row(_LAST) or (0, BEGINNING)
    else:
        number, previous = max(end[0], end[2] or 0), end[1]
    rows = []
    for entry in entries:
        number += 1
        previous = chained(previous, number, entry)
        rows.append((number, *entry, previous))
    tx.insert(_INSERT, rows)
    tx.write(_MOVE_HEAD, [{"newest": number, "newest_hash": previous}])


def everything(tx: Transaction) -> Iterator[AuditRow]:
    """Every row, oldest first. Use it up before the next statement."""
    return (_row(*columns) for columns in tx.stream(_ALL))


def everything_named(tx: Transaction) -> Iterator[tuple[AuditRow, str | None]]:
    """The same, each with the name that its actor has now."""
    return ((_row(*columns), username) for *columns, username in tx.stream(_ALL_NAMED))


def newest(
    tx: Transaction, before: int, count: int, *, account: AccountId | None = None, action: str | None = None
) -> list[AuditRow]:
    """Up to `count` rows numbered below `before`, newest first.

    account: only those that it did or that are about it; action: only these.
    """
    parameters: Parameters = {"beyond": before, "count": count}
    if action is not None:
        parameters["of_action"] = action
    chosen = action is not None
    if account is None:
        return [_row(*columns) for columns in tx.rows(_NEWEST[chosen], parameters)]
    both = _of_account(tx, account, _NEWEST_BY_ACTOR[chosen], _NEWEST_BY_SUBJECT[chosen], parameters)
    return [both[number] for number in sorted(both, reverse=True)[:count]]


def of_account(tx: Transaction, account: AccountId, after: int, count: int) -> list[AuditRow]:
    """Up to `count` rows numbered above `after` that the account did or that are about it, oldest first."""
    both = _of_account(tx, account, _OLDEST_BY_ACTOR, _OLDEST_BY_SUBJECT, {"beyond": after, "count": count})
    return [both[number] for number in sorted(both)[:count]]


def _of_account(
    tx: Transaction, account: AccountId, by_actor: Statement, by_subject: Statement, parameters: Parameters
) -> dict[int, AuditRow]:
    # Two statements, for each has an index that gives its rows in order; with OR, SQLite sorts all of them.
    rows = tx.rows(by_actor, {**parameters, "of_actor": account})
    rows += tx.rows(by_subject, {**parameters, "of_subject": f"account:{account}"})
    return {columns[0]: _row(*columns) for columns in rows}


def _row(number: int, *cells: Any) -> AuditRow:
    at, actor, action, subject, detail, digest = cells
    return AuditRow(number, AuditEntry(_text(at), actor, _text(action), _text(subject), _text(detail)), digest)


def _text(cell: bytes | None) -> Any:
    return None if cell is None else cell.decode(errors="replace")


def head(tx: Transaction) -> Head | None:
    """None where somebody has taken it out."""
    found = tx.row(_HEAD)
    return None if found is None else Head(*found)


def verify(tx: Transaction) -> Damage | None:
    """The first damage of the chain, or None for a whole one: see chain.examine(). Reads every row."""
    remembered = head(tx)
    damage = examine(everything(tx), remembered)
    if damage is None and remembered is None:
        found = tx.row(_LAST)
        last = 0 if found is None else found[0]
        return Damage(Tampering.HEAD, last, last, "the head of the chain was removed, and perhaps rows from its end")
    return damage
