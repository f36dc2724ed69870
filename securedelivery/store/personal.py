"""What is stored of one account, oldest first, for its export; the rest of it is found by orders.py and audit.py."""

from sqlalchemy import and_, bindparam, select, tuple_

from securedelivery.model import AccountId, Message, OrderId, PointsEntry, PointsReason, Role
from securedelivery.store import chat
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import accounts, conversations, messages, orders, points_ledger
from securedelivery.store.statements import Statement

_ORDERS = Statement(
    select(orders.c.id)
    .where(orders.c.account_id == bindparam("account"), orders.c.id > bindparam("after"))
    .order_by(orders.c.id)
    .limit(bindparam("count"))
)
_POINTS = Statement(
    select(
        points_ledger.c.entry,
        points_ledger.c.points,
        points_ledger.c.reason,
        points_ledger.c.order_id,
        points_ledger.c.at,
        points_ledger.c.expires_at,
    )
    .where(points_ledger.c.account_id == bindparam("account"), points_ledger.c.entry > bindparam("after"))
    .order_by(points_ledger.c.entry)
    .limit(bindparam("count"))
)
# Found by the sender's index, and sorted without the texts.
_place = (messages.c.conversation_id, messages.c.sequence)
_answered = (
    select(*_place)
    .join(conversations, conversations.c.id == messages.c.conversation_id)
    .where(
        messages.c.sender_id == bindparam("account"),
        conversations.c.customer_id != bindparam("account"),
        tuple_(*_place) > tuple_(bindparam("conversation"), bindparam("after")),
    )
    .order_by(*_place)
    .limit(bindparam("count"))
    .subquery()
)
_ANSWERS = Statement(
    select(*_place, accounts.c.username, messages.c.text, messages.c.at, messages.c.message_key)
    .select_from(
        _answered.join(
            messages,
            and_(
                messages.c.conversation_id == _answered.c.conversation_id,
                messages.c.sequence == _answered.c.sequence,
            ),
        ).join(accounts, accounts.c.id == messages.c.sender_id)
    )
    .order_by(*_place)
)


def order_numbers(tx: Transaction, account: AccountId, after: int, count: int) -> list[OrderId]:
    """Up to `count` numbers of the account's orders, above `after`."""
    return [number for (number,) in tx.rows(_ORDERS, {"account": account, "after": after, "count": count})]


def points(tx: Transaction, account: AccountId, after: int, count: int) -> list[PointsEntry]:
    """Up to `count` entries of the account's ledger, numbered above `after`."""
    rows = tx.rows(_POINTS, {"account": account, "after": after, "count": count})
    return [PointsEntry(entry, points, PointsReason(reason), *rest) for entry, points, reason, *rest in rows]


def answers(tx: Transaction, account: AccountId, after: tuple[int, int], count: int) -> list[Message]:
    """Up to `count` messages that the account has written into conversations of others, by (conversation, sequence),
    behind `after`.
    """
    conversation, sequence = after
    rows = tx.rows(_ANSWERS, {"account": account, "conversation": conversation, "after": sequence, "count": count})
    return [
        Message(number, place, sender, Role.AGENT, chat.text_of(tx, number, place, cell), at, key)
        for number, place, sender, cell, at, key in rows
    ]
