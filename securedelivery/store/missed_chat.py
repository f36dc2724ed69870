"""Messages of the shop that their customer has not read, and the mail about them: rows of the outbox."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, ColumnElement, Select, and_, bindparam, case, func, literal_column, or_, select

from securedelivery.model import AccountId, ConversationId, MailKind, MailRoute, MailState, Message, Role, Timestamp
from securedelivery.store.chat import text_of
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import accounts, conversations, messages, outbox
from securedelivery.store.statements import Insertion, Parameters, Statement, listed, listing


class Times(NamedTuple):
    """What is due: something said at or after `said_since`, and not between the `young` ones; a last mail that did not
    leave between the `recent` ones.
    """

    said_since: Timestamp
    young_since: Timestamp
    young_until: Timestamp
    recent_since: Timestamp
    recent_until: Timestamp


class Due(NamedTuple):
    """up_to: the last sequence of the customer's conversation."""

    customer: AccountId
    up_to: int


class Place(NamedTuple):
    """Of a mail in its conversation: it tells of what was said behind `after`."""

    conversation: ConversationId
    customer: str
    disabled: bool
    after: int


# Literals, for the planner takes a partial index only where it sees the index's own condition.
_ZERO: ColumnElement[int] = literal_column("0")
_ONE: ColumnElement[int] = literal_column("1")
_earlier = outbox.alias("earlier")
_of_chat = _earlier.c.up_to.is_not(None)
_newest = (
    select(func.max(_earlier.c.up_to)).where(_earlier.c.account_id == conversations.c.customer_id, _of_chat)
).scalar_subquery()
# As long as one waits there is none behind it, so the newest says what the customer was told, and when.
_last = outbox.alias("last")
_told = case((_last.c.up_to > conversations.c.customer_read, _last.c.up_to), else_=conversations.c.customer_read)
_may_follow = or_(
    _last.c.id.is_(None),
    _last.c.state == literal_column(f"'{MailState.WITHDRAWN}'"),
    and_(
        _last.c.state.in_([literal_column(f"'{MailState.SENT}'"), literal_column(f"'{MailState.FAILED}'")]),
        ~_last.c.due_at.between(bindparam("recent_since"), bindparam("recent_until")),
    ),
)
_oldest_is_due = (
    select(~messages.c.at.between(bindparam("young_since"), bindparam("young_until")))
    .where(
        messages.c.conversation_id == conversations.c.id,
        messages.c.sequence > _told,
        messages.c.staff == _ONE,
        messages.c.at >= bindparam("said_since"),
    )
    .order_by(messages.c.sequence)
    .limit(_ONE)
    .correlate(conversations, _last)
    .scalar_subquery()
)
_due: Select[Any] = (
    select(conversations.c.customer_id, conversations.c.last_sequence)
    .select_from(
        conversations.join(accounts, accounts.c.id == conversations.c.customer_id).outerjoin(
            _last, and_(_last.c.account_id == conversations.c.customer_id, _last.c.up_to == _newest)
        )
    )
    .where(
        conversations.c.customer_unread > _ZERO,
        accounts.c.email.is_not(None),
        accounts.c.mail_missed_chat == _ONE,
        accounts.c.disabled == _ZERO,
        accounts.c.deleted_at.is_(None),
        _may_follow,
        _oldest_is_due,
    )
    .order_by(conversations.c.customer_id)
)
_PAGE = Statement(_due.where(conversations.c.customer_id > bindparam("after")).limit(bindparam("count")))
_OF = Statement(_due.where(conversations.c.customer_id.in_(listed("customers"))))
_INSERT = Insertion(
    outbox,
    ("kind", "route", "account_id", "up_to", "state", "attempts", "interrupted", "created_at", "due_at"),
)

_up_to: BindParameter[int] = bindparam("up_to")
_former = (
    select(func.max(_earlier.c.up_to)).where(
        _earlier.c.account_id == conversations.c.customer_id, _of_chat, _earlier.c.up_to < _up_to
    )
).scalar_subquery()
_PLACE = Statement(
    select(
        conversations.c.id,
        accounts.c.username,
        accounts.c.disabled,
        case((_former > conversations.c.customer_read, _former), else_=conversations.c.customer_read),
    )
    .join(accounts, accounts.c.id == conversations.c.customer_id)
    .where(conversations.c.customer_id == bindparam("customer"))
)
_said = and_(
    messages.c.conversation_id == bindparam("conversation"),
    messages.c.sequence > bindparam("after"),
    messages.c.sequence <= _up_to,
    messages.c.staff == _ONE,
    messages.c.at >= bindparam("said_since"),
)
_with_senders = messages.join(accounts, accounts.c.id == messages.c.sender_id)
_SENDERS = Statement(
    select(accounts.c.username, func.count())
    .select_from(_with_senders)
    .where(_said)
    .group_by(accounts.c.username)
    .order_by(func.min(messages.c.sequence))
)
_MESSAGES = Statement(
    select(messages.c.sequence, accounts.c.username, messages.c.text, messages.c.at, messages.c.message_key)
    .select_from(_with_senders)
    .where(_said)
    .order_by(messages.c.sequence)
    .limit(bindparam("count"))
)


def due(tx: Transaction, times: Times, after: int, count: int) -> list[Due]:
    """Up to `count` customers, numbered above `after`, ascending, to whom a mail is due unless they are here.

    They can be written to and want it, no mail about chat waits for them, and of what they have neither read nor been
    told by mail the oldest is due.
    """
    return [Due(*row) for row in tx.rows(_PAGE, {**times._asdict(), "after": after, "count": count})]


def still_due(tx: Transaction, times: Times, customers: Iterable[AccountId]) -> list[Due]:
    """Those of the customers of whom that is so."""
    return [Due(*row) for row in tx.rows(_OF, {**times._asdict(), "customers": listing(customers)})]


def add(tx: Transaction, rows: Sequence[Due], at: Timestamp) -> None:
    """Mail that waits. Raises the database's error for one that there is."""
    kind, route, waits = MailKind.MISSED_CHAT.value, MailRoute.RECEIPTS.value, (MailState.WAITING.value, 0, 0, at, at)
    tx.insert(_INSERT, [(kind, route, *row, *waits) for row in rows])


def place(tx: Transaction, customer: AccountId, up_to: int) -> Place | None:
    """Of the mail that tells the customer what was said up to there; None where nothing was ever said."""
    found = tx.row(_PLACE, {"customer": customer, "up_to": up_to})
    if found is None:
        return None
    conversation, name, disabled, after = found
    return Place(conversation, name, bool(disabled), after)


def senders(tx: Transaction, where: Place, up_to: int, since: Timestamp) -> list[tuple[str, int]]:
    """Who said how much on the shop's side, behind `where.after`, up to there, since then; in their turn."""
    return [(name, count) for name, count in tx.rows(_SENDERS, _within(where, up_to, since))]


def said(tx: Transaction, where: Place, up_to: int, since: Timestamp, count: int) -> list[Message]:
    """The first `count` of these messages."""
    rows = tx.rows(_MESSAGES, _within(where, up_to, since) | {"count": count})
    number = where.conversation
    return [
        Message(number, sequence, sender, Role.AGENT, text_of(tx, number, sequence, cell), at, key)
        for sequence, sender, cell, at, key in rows
    ]


def _within(where: Place, up_to: int, since: Timestamp) -> Parameters:
    return {"conversation": where.conversation, "after": where.after, "up_to": up_to, "said_since": since}
