"""Rows of conversations and their messages. Texts are sealed."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import and_, bindparam, case, func, insert, literal_column, or_, select, tuple_, update

from securedelivery.model import (
    AccountId,
    ConversationId,
    ConversationStatus,
    Message,
    Role,
    Timestamp,
)
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import accounts, conversations, messages
from securedelivery.store.statements import Parameters, Statement, listed, listed_rows, listing
from securedelivery.store.vault import Sealed

TEXT = Sealed("messages", "text")
ERASED = "[erased]"
"""What is left of each text once the customer has deleted the account."""


class Person(NamedTuple):
    """What chat needs to know of an account."""

    id: AccountId
    username: str
    role: Role
    disabled: bool
    deleted: bool

    @property
    def is_staff(self) -> bool:
        return self.role in (Role.AGENT, Role.ADMIN)


class ConversationRow(NamedTuple):
    """With the names of both sides. since: when the present status began; gone: the customer's account is deleted."""

    id: ConversationId
    customer_id: AccountId
    customer: str
    gone: bool
    status: ConversationStatus
    agent_id: AccountId | None
    agent: str | None
    since: Timestamp
    last_sequence: int
    customer_unread: int
    staff_unread: int
    customer_read: int
    staff_read: int


class MessageRow(NamedTuple):
    """text: plain. staff: said by the shop's side."""

    conversation_id: ConversationId
    sequence: int
    sender_id: AccountId
    staff: bool
    at: Timestamp
    message_key: str
    text: str


class Read(NamedTuple):
    """One side has seen a conversation from behind one sequence up to another. staff: the shop's side."""

    conversation: ConversationId
    staff: bool
    after: int
    up_to: int


_is_deleted = accounts.c.deleted_at.is_not(None)
# Literals, for the planner takes a partial index only where it sees the index's own condition.
_is_staff = accounts.c.role.in_([literal_column("'agent'"), literal_column("'admin'")])
_person = (accounts.c.id, accounts.c.username, accounts.c.role, accounts.c.disabled, _is_deleted)
_PEOPLE = Statement(select(*_person).where(accounts.c.id.in_(listed("ids"))))
_NAMED = Statement(select(*_person).where(accounts.c.username.in_(listed("names"))))
_STAFF = Statement(
    select(accounts.c.id).where(_is_staff, accounts.c.disabled == literal_column("0"), accounts.c.deleted_at.is_(None))
)

_agent = accounts.alias("agent")
_whole = select(
    conversations.c.id,
    conversations.c.customer_id,
    accounts.c.username,
    _is_deleted,
    conversations.c.status,
    conversations.c.agent_id,
    _agent.c.username.label("agent"),
    conversations.c.since,
    conversations.c.last_sequence,
    conversations.c.customer_unread,
    conversations.c.staff_unread,
    conversations.c.customer_read,
    conversations.c.staff_read,
).select_from(
    conversations.join(accounts, accounts.c.id == conversations.c.customer_id).outerjoin(
        _agent, _agent.c.id == conversations.c.agent_id
    )
)
_FIND = Statement(
    _whole.where(or_(conversations.c.id.in_(listed("numbers")), conversations.c.customer_id.in_(listed("customers"))))
)
_OF_AGENT = Statement(_whole.where(conversations.c.agent_id == bindparam("of_agent")))
_behind = tuple_(conversations.c.since, conversations.c.id) > tuple_(bindparam("after_since"), bindparam("after_id"))
_in_turn = (conversations.c.since, conversations.c.id)
_QUEUE = Statement(
    _whole.where(conversations.c.status == bindparam("of_status"), _behind)
    .order_by(*_in_turn)
    .limit(bindparam("count"))
)
_MINE = Statement(
    _whole.where(conversations.c.agent_id == bindparam("of_agent"), _behind)
    .order_by(*_in_turn)
    .limit(bindparam("count"))
)
_WAITING = Statement(
    select(func.count()).select_from(conversations).where(conversations.c.status == literal_column("'waiting'"))
)
_LAST = Statement(select(func.max(conversations.c.id)))
_INSERT = Statement(insert(conversations))
_CHANGED = (
    *("status", "agent_id", "since", "last_sequence"),
    *("customer_unread", "staff_unread", "customer_read", "staff_read"),
)
_UPDATE = Statement(
    update(conversations)
    .where(conversations.c.id == bindparam("conversation"))
    .values({name: bindparam(f"new_{name}") for name in _CHANGED})
)

_message = (
    messages.c.conversation_id,
    messages.c.sequence,
    accounts.c.username,
    messages.c.staff,
    messages.c.text,
    messages.c.at,
    messages.c.message_key,
)
_keys = listed_rows("keys", "sender", "key")
_BY_KEYS = Statement(
    select(messages.c.sender_id, *_message).select_from(
        _keys.join(messages, and_(messages.c.sender_id == _keys.c.sender, messages.c.message_key == _keys.c.key)).join(
            accounts, accounts.c.id == messages.c.sender_id
        )
    )
)
_HISTORY = Statement(
    select(*_message)
    .join(accounts, accounts.c.id == messages.c.sender_id)
    .where(messages.c.conversation_id == bindparam("conversation"), messages.c.sequence > bindparam("after"))
    .order_by(messages.c.sequence)
    .limit(bindparam("count"))
)
_ADD = Statement(insert(messages))
# In one statement, whatever was said: no seal is needed where there is nothing to hide.
_random_key = func.lower(func.hex(func.randomblob(literal_column("16"))))
_ERASE = Statement(
    update(messages)
    .where(messages.c.conversation_id == bindparam("conversation"))
    .values(
        text=literal_column("x''"),
        message_key=case((messages.c.staff == literal_column("1"), messages.c.message_key), else_=_random_key),
    )
)
_read: Any = func.json_each(bindparam("reads")).table_valued("value").c.value
_reads = select(
    func.json_extract(_read, literal_column("'$[0]'")).label("conversation"),
    func.json_extract(_read, literal_column("'$[1]'")).label("staff"),
    func.json_extract(_read, literal_column("'$[2]'")).label("after"),
    func.json_extract(_read, literal_column("'$[3]'")).label("up_to"),
).subquery()
_SEEN = Statement(
    select(_reads.c.conversation, _reads.c.staff, func.count())
    .select_from(
        _reads.join(
            messages,
            and_(
                messages.c.conversation_id == _reads.c.conversation,
                messages.c.sequence > _reads.c.after,
                messages.c.sequence <= _reads.c.up_to,
                messages.c.staff != _reads.c.staff,
            ),
        )
    )
    .group_by(_reads.c.conversation, _reads.c.staff)
)


def people(tx: Transaction, ids: Iterable[AccountId]) -> dict[AccountId, Person]:
    """Those of the accounts that exist, deleted ones too."""
    return {row[0]: _as_person(row) for row in tx.rows(_PEOPLE, {"ids": listing(ids)})}


def named(tx: Transaction, usernames: Iterable[str]) -> dict[str, Person]:
    """The same by name."""
    return {row[1]: _as_person(row) for row in tx.rows(_NAMED, {"names": listing(usernames)})}


def staff(tx: Transaction) -> list[AccountId]:
    """Agents and admins whose account can be used."""
    return [account for (account,) in tx.rows(_STAFF)]


def _as_person(row: tuple[Any, ...]) -> Person:
    number, username, role, disabled, deleted = row
    return Person(number, username, Role(role), bool(disabled), bool(deleted))


def find(tx: Transaction, numbers: Iterable[int], customers: Iterable[AccountId]) -> list[ConversationRow]:
    """The conversations of these numbers, and those of these customers, each once, in any order."""
    return _conversations(tx, _FIND, {"numbers": listing(numbers), "customers": listing(customers)})


def of_agent(tx: Transaction, agent: AccountId) -> list[ConversationRow]:
    """All that are assigned to the account."""
    return _conversations(tx, _OF_AGENT, {"of_agent": agent})


def queue(
    tx: Transaction, status: ConversationStatus, after: tuple[Timestamp, int], count: int
) -> list[ConversationRow]:
    """Up to `count` of a status, by (since, number), behind `after`."""
    since, number = after
    parameters: Parameters = {"of_status": status.value, "after_since": since, "after_id": number, "count": count}
    return _conversations(tx, _QUEUE, parameters)


def queue_of_agent(
    tx: Transaction, agent: AccountId, after: tuple[Timestamp, int], count: int
) -> list[ConversationRow]:
    """The same of those that are assigned to the account."""
    since, number = after
    parameters: Parameters = {"of_agent": agent, "after_since": since, "after_id": number, "count": count}
    return _conversations(tx, _MINE, parameters)


def _conversations(tx: Transaction, statement: Statement, parameters: Parameters) -> list[ConversationRow]:
    found = (ConversationRow(*row) for row in tx.rows(statement, parameters))
    return [row._replace(gone=bool(row.gone), status=ConversationStatus(row.status)) for row in found]


def waiting(tx: Transaction) -> int:
    """How many conversations wait for an agent."""
    found = tx.row(_WAITING)
    assert found is not None
    return int(found[0])


def next_id(tx: Transaction) -> int:
    """The first free number. It stays free: this transaction holds the write lock, and rows are never deleted."""
    found = tx.row(_LAST)
    assert found is not None
    return (found[0] or 0) + 1


def add(tx: Transaction, rows: Sequence[ConversationRow]) -> None:
    tx.write(_INSERT, [{"id": row.id, "customer_id": row.customer_id} | _state(row, "") for row in rows])


def change(tx: Transaction, rows: Sequence[ConversationRow]) -> None:
    tx.write(_UPDATE, [{"conversation": row.id} | _state(row, "new_") for row in rows])


def _state(row: ConversationRow, prefix: str) -> Parameters:
    return {f"{prefix}{name}": getattr(row, name) for name in _CHANGED}


def by_keys(tx: Transaction, keys: Iterable[tuple[AccountId, str]]) -> dict[tuple[AccountId, str], Message]:
    """(sender, message_key) -> what was said under it, for those that were used."""
    rows = tx.rows(_BY_KEYS, {"keys": listing(keys)})
    return {(sender, row[-1]): _as_message(tx, row) for sender, *row in rows}


def history(tx: Transaction, conversation: int, after: int, count: int) -> list[Message]:
    """Up to `count` messages with a sequence above `after`, ascending."""
    rows = tx.rows(_HISTORY, {"conversation": conversation, "after": after, "count": count})
    return [_as_message(tx, row) for row in rows]


def _as_message(tx: Transaction, row: Sequence[Any]) -> Message:
    conversation, sequence, sender, by_staff, sealed, at, key = row
    text = text_of(tx, conversation, sequence, sealed)
    role = Role.AGENT if by_staff else Role.CUSTOMER
    return Message(conversation, sequence, sender, role, text, at, key)


def text_of(tx: Transaction, conversation: int, sequence: int, cell: bytes) -> str:
    """What was said; cell: as stored. Raises DamagedRow."""
    text = tx.vault.open(TEXT, (conversation, sequence), cell) if cell else ERASED
    assert text is not None, "the column is NOT NULL"
    return text


def say(tx: Transaction, rows: Sequence[MessageRow]) -> None:
    """Add messages; their sequences are the caller's to give."""
    seal = tx.vault.seal
    tx.write(
        _ADD, [row._asdict() | {"text": seal(TEXT, (row.conversation_id, row.sequence), row.text)} for row in rows]
    )


def seen(tx: Transaction, reads: Sequence[Read]) -> dict[tuple[ConversationId, bool], int]:
    """How many messages of the other side lie in each read, by (conversation, staff); 0 is left out.

    reads: one a conversation and side.
    """
    rows = tx.rows(_SEEN, {"reads": listing((one.conversation, int(one.staff), *one[2:]) for one in reads)})
    return {(conversation, bool(by_staff)): count for conversation, by_staff, count in rows}


def erase(tx: Transaction, conversation: ConversationId) -> None:
    """Let nothing stay of what was said, nor the customer's keys."""
    tx.write(_ERASE, [{"conversation": conversation}])
