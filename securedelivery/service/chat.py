"""Support chat: docs/protocol.md, "Chat". One conversation a customer, with whichever agent takes it.

A conversation has two sides, its customer and the shop's. Who is on which is decided by the conversation, not by the
role: an agent's own conversation has the agent as its customer.

    waiting -> assigned     claim, transfer, or an agent's message
    assigned -> waiting     release, or the agent goes
    any -> resolved         resolve, or the customer's account is deleted
    resolved -> waiting     a customer's message
    resolved -> assigned    claim, an agent's message, or an admin's transfer
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple, TypeVar

import msgspec

from securedelivery.errors import Refusal
from securedelivery.model import AccountId, Conversation, ConversationStatus, Message, Timestamp, timestamp
from securedelivery.service import cursors
from securedelivery.service.chat_batch import ChatBatch, changed, entry, no_such, not_for, seen_by
from securedelivery.service.chat_events import ConversationChanged, Typing
from securedelivery.service.session import Session
from securedelivery.store import audit, chat
from securedelivery.store.engine import Database, Transaction

Command = TypeVar("Command")
Result = TypeVar("Result")

DEFAULT_LIMIT = 50
_BEGINNING = (Timestamp(""), 0)


class SendCommand(msgspec.Struct, frozen=True):
    """The sizes are those of the protocol's parameters, checked by whoever decoded them. conversation: None is the
    caller's own, which begins with its first message.
    """

    session: Session
    text: str
    message_key: str
    conversation: int | None = None


class MarkReadCommand(msgspec.Struct, frozen=True):
    """up_to: the sequence of the last message that was seen; beyond the end counts as the end."""

    session: Session
    conversation: int | None
    up_to: int


class ConversationCommand(msgspec.Struct, frozen=True):
    session: Session
    conversation: int


class TransferCommand(msgspec.Struct, frozen=True):
    """agent: a username."""

    session: Session
    conversation: int
    agent: str


class Queued(NamedTuple):
    """A conversation of a queue, and where the queue goes on behind it."""

    conversation: Conversation
    cursor: str


class _View(NamedTuple):
    """Staff reads a conversation of somebody else."""

    session: Session
    conversation: int
    after: int
    limit: int


History = tuple[list[Message], int | None, int]
"""Messages ascending, the sequence to go on after or None, and the conversation's last sequence."""


class Chat:
    def __init__(
        self, database: Database, clock: Callable[[], datetime], publish: Callable[[Sequence[object]], None]
    ) -> None:
        """clock: aware, UTC. publish: delivers events that no transaction carries."""
        self._database = database
        self._clock = clock
        self._publish = publish

    # Batches for the writer: one result or Refusal for each command. Later commands see what earlier ones did.

    def send(self, tx: Transaction, commands: Sequence[SendCommand]) -> list[Message | Refusal]:
        """Each command's message, the same one again for the same key.

        An agent's message takes the conversation, a customer's has a resolved one wait again. Publishes MessageSent
        for each message, then ConversationChanged.
        """
        numbers = {command.conversation for command in commands if command.conversation is not None}
        batch = self._batch(tx, commands, numbers)
        batch.know_keys([(command.session.account_id, command.message_key) for command in commands])
        return _run(batch, batch.say, commands)

    def mark_read(self, tx: Transaction, commands: Sequence[MarkReadCommand]) -> list[Refusal | None]:
        """Count as unread only what the other side has said behind `up_to`. Publishes ConversationChanged for the
        side that has read, where there was something unread.
        """
        numbers = {command.conversation for command in commands if command.conversation is not None}
        batch = self._batch(tx, commands, numbers)
        return _run(batch, batch.mark_read, commands)

    def claim(self, tx: Transaction, commands: Sequence[ConversationCommand]) -> list[Conversation | Refusal]:
        """Take a conversation that nobody has. This and the following publish ConversationChanged."""
        batch = self._batch(tx, commands, {command.conversation for command in commands})
        return _run(batch, lambda command: batch.claim(command.session, command.conversation), commands)

    def release(self, tx: Transaction, commands: Sequence[ConversationCommand]) -> list[Conversation | Refusal]:
        """Let a conversation wait for another agent: one's own, for an admin anyone's."""
        batch = self._batch(tx, commands, {command.conversation for command in commands})
        return _run(batch, lambda command: batch.release(command.session, command.conversation), commands)

    def resolve(self, tx: Transaction, commands: Sequence[ConversationCommand]) -> list[Conversation | Refusal]:
        """The question is answered: of one's own or a waiting conversation, for an admin of any."""
        batch = self._batch(tx, commands, {command.conversation for command in commands})
        return _run(batch, lambda command: batch.resolve(command.session, command.conversation), commands)

    def transfer(self, tx: Transaction, commands: Sequence[TransferCommand]) -> list[Conversation | Refusal]:
        """Hand one's own or a waiting conversation, for an admin any, to an agent."""
        batch = self._batch(tx, commands, {command.conversation for command in commands})
        batch.know_names(command.agent for command in commands)
        return _run(
            batch, lambda command: batch.transfer(command.session, command.conversation, command.agent), commands
        )

    # Reads

    def history(
        self, session: Session, conversation: int | None, after: int = 0, limit: int = DEFAULT_LIMIT
    ) -> History:
        """Up to `limit` messages with a sequence above `after`. Empty where nothing was ever said.

        Of another's conversation, for staff alone: with a row in the audit, in the same transaction.
        """
        with self._database.read() as tx:
            row = _reached(tx, session, conversation)
            if row is None:
                return [], None, 0
            if row.customer_id == session.account_id:
                return _page(tx, row, after, limit)
        return self._database.writer.call(self._view, _View(session, row.id, after, limit))

    def _view(self, tx: Transaction, commands: Sequence[_View]) -> list[History | Refusal]:
        now = timestamp(self._clock())
        batch = self._batch(tx, commands, {command.conversation for command in commands})
        viewed: list[audit.AuditEntry] = []

        def view(command: _View) -> History:
            person = batch.agent(command.session)
            row = batch.reached(person, command.conversation)
            assert row is not None, "a number was given"
            viewed.append(entry(now, person.id, "chat.viewed", row))
            return _page(tx, row, command.after, command.limit)

        outcomes = _run(batch, view, commands)
        audit.append(tx, viewed)
        return outcomes

    def queue(
        self,
        session: Session,
        status: ConversationStatus = ConversationStatus.WAITING,
        after: str | None = None,
        limit: int = DEFAULT_LIMIT,
    ) -> tuple[list[Queued], str | None]:
        """For staff: who has been in the status longest comes first. assigned: to the caller. With the cursor of what
        follows.
        """
        if not session.is_staff:
            raise not_for(session.role)
        behind = _BEGINNING if after is None else _place(after)
        with self._database.read() as tx:
            if status is ConversationStatus.ASSIGNED:
                rows = chat.queue_of_agent(tx, session.account_id, behind, limit + 1)
            else:
                rows = chat.queue(tx, status, behind, limit + 1)
        items = [Queued(seen_by(row, session.account_id), _cursor(row)) for row in rows[:limit]]
        return items, items[-1].cursor if len(rows) > limit else None

    def of_customer(
        self, tx: Transaction, account: AccountId, after: int = 0, limit: int = DEFAULT_LIMIT
    ) -> tuple[list[Message], int | None]:
        """The account's own conversation for its export, ascending: as history(), within a transaction."""
        rows = chat.find(tx, [], [account])
        if not rows:
            return [], None
        items, following, _ = _page(tx, rows[0], after, limit)
        return items, following

    def typing(self, session: Session, conversation: int | None) -> None:
        """Tell the other side, where there is one: the customer, or the agent who has the conversation."""
        with self._database.read() as tx:
            row = _reached(tx, session, conversation)
        if row is None:
            return
        other = row.agent_id if row.customer_id == session.account_id else row.customer_id
        if other is not None:
            self._publish([Typing(other, row.id, session.username)])

    def _batch(
        self,
        tx: Transaction,
        commands: Sequence[SendCommand | MarkReadCommand | ConversationCommand | TransferCommand | _View],
        numbers: set[int],
    ) -> ChatBatch:
        callers = {command.session.account_id for command in commands}
        return ChatBatch(tx, callers, numbers, timestamp(self._clock()))


# For the other services, in transactions of theirs.


def release_all(tx: Transaction, account: AccountId, now: Timestamp) -> None:
    """The account is no agent any more: its conversations wait for another. Publishes ConversationChanged for each.

    Call it after the account was changed, or it is told itself.
    """
    rows = chat.of_agent(tx, account)
    if rows:
        batch = ChatBatch(tx, [], [], now)
        batch.left(account, rows)
        batch.write()


def erase(tx: Transaction, account: AccountId, now: Timestamp) -> None:
    """The account is being deleted: no text of its conversation stays, which is resolved. Publishes
    ConversationChanged.

    Call it after the account has its pseudonym, or its name is told once more.
    """
    batch = ChatBatch(tx, [account], [], now)
    batch.erase(account)
    batch.write()


def waiting(tx: Transaction) -> int:
    """How many conversations wait for an agent."""
    return chat.waiting(tx)


def changes(tx: Transaction, numbers: Sequence[int]) -> list[ConversationChanged]:
    """The conversations as they are now, for those to whom another process can tell nothing."""
    rows = chat.find(tx, numbers, [])
    staff = chat.staff(tx) if rows else []
    return [changed(row, staff) for row in rows]


def _run(batch: ChatBatch, run: Callable[[Command], Result], commands: Sequence[Command]) -> list[Result | Refusal]:
    outcomes: list[Result | Refusal] = []
    for command in commands:
        try:
            outcomes.append(run(command))
        except Refusal as refusal:
            outcomes.append(refusal)
    batch.write()
    return outcomes


def _reached(tx: Transaction, session: Session, conversation: int | None) -> chat.ConversationRow | None:
    """The conversation of this number, or the caller's own; None where that has not begun yet. Raises Refusal."""
    if conversation is None:
        own = chat.find(tx, [], [session.account_id])
        return own[0] if own else None
    found = chat.find(tx, [conversation], [])
    if not found or not (session.is_staff or found[0].customer_id == session.account_id):
        raise no_such(conversation)
    return found[0]


def _page(tx: Transaction, row: chat.ConversationRow, after: int, limit: int) -> History:
    items = chat.history(tx, row.id, after, limit + 1)
    following = items[limit - 1].sequence if len(items) > limit else None
    return items[:limit], following, row.last_sequence


def _cursor(row: chat.ConversationRow) -> str:
    return cursors.encode("q", f"{row.since}/{row.id}")


def _place(cursor: str) -> tuple[Timestamp, int]:
    since, _, number = cursors.decode("q", cursor).partition("/")
    if not (number.isascii() and number.isdigit() and len(number) < 17):  # noqa: PLR2004 -- 2**53 has 16 digits
        raise cursors.bad()
    return Timestamp(since), int(number)
