"""One batch of chat commands: everything is read at once, decided in memory, and written at once.

A later command of the batch sees what earlier ones did: sequences, keys, who has the conversation. A command that is
refused leaves no trace in what the later ones see. Roles are those that the accounts have now, not those with which
their connections logged in: an agent who is one no more takes no conversation.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from securedelivery.errors import Reason, Refusal
from securedelivery.model import (
    AccountId,
    Conversation,
    ConversationId,
    ConversationStatus,
    Message,
    Role,
    Timestamp,
)
from securedelivery.service.chat_events import ConversationChanged, MessageSent
from securedelivery.service.session import Session, acting
from securedelivery.store import audit, chat
from securedelivery.store.chat import ConversationRow, Person
from securedelivery.store.engine import Transaction

if TYPE_CHECKING:
    from securedelivery.service.chat import MarkReadCommand, SendCommand


def seen_by_customer(row: ConversationRow) -> Conversation:
    return _seen(row, row.customer_unread)


def seen_by_staff(row: ConversationRow) -> Conversation:
    return _seen(row, row.staff_unread)


def seen_by(row: ConversationRow, account: AccountId) -> Conversation:
    """An agent's own conversation is a customer's like any other."""
    return seen_by_customer(row) if account == row.customer_id else seen_by_staff(row)


def _seen(row: ConversationRow, unread: int) -> Conversation:
    return Conversation(
        conversation=row.id,
        customer=row.customer,
        status=row.status,
        agent=row.agent,
        unread=unread,
        last_sequence=row.last_sequence,
        waiting_since=row.since if row.status is ConversationStatus.WAITING else None,
    )


def no_such(conversation: int) -> Refusal:
    """Also for a conversation of somebody else."""
    return Refusal(Reason.NOT_FOUND, f"there is no conversation {conversation}")


def not_for(person_role: Role) -> Refusal:
    return Refusal(Reason.FORBIDDEN, f"this is for agents; your account is now of the role {person_role}")


class ChatBatch:
    """Call a method for each command in turn, then write().

    numbers: of the conversations that are named; callers: the accounts that ask, whose own conversations are found too.
    """

    def __init__(self, tx: Transaction, callers: Iterable[AccountId], numbers: Iterable[int], now: Timestamp) -> None:
        self._tx = tx
        self._now = now
        callers = set(callers)
        self._people = chat.people(tx, callers)
        # In the state after the commands so far.
        self._rows = {row.id: row for row in chat.find(tx, set(numbers), callers)}
        self._own = {row.customer_id: row.id for row in self._rows.values()}
        self._before = dict(self._rows)
        self._said: dict[tuple[AccountId, str], Message] = {}
        self._seen: dict[tuple[ConversationId, bool], int] = {}  # (conversation, staff): up to where
        self._named: dict[str, Person] = {}
        self._next: int | None = None

        # What write() writes and publishes; for whom a conversation has changed: (customer, staff).
        self._messages: list[chat.MessageRow] = []
        self._audit: list[audit.AuditEntry] = []
        self._told: defaultdict[ConversationId, set[bool]] = defaultdict(set)

    # Before the commands, where they need it

    def know_keys(self, keys: Iterable[tuple[AccountId, str]]) -> None:
        """For say(): what was said under these keys of these senders."""
        self._said = chat.by_keys(self._tx, keys)

    def know_names(self, usernames: Iterable[str]) -> None:
        """For transfer(): the accounts of these names."""
        self._named = chat.named(self._tx, set(usernames))

    # Who asks, and for what

    def person(self, session: Session) -> Person:
        """Whoever asks, as the account is now. Raises Refusal."""
        person = self._people.get(session.account_id)
        return acting(None if person is None or person.deleted else person)

    def agent(self, session: Session) -> Person:
        """The same, where it has to be an agent or admin."""
        person = self.person(session)
        if not person.is_staff:
            raise not_for(person.role)
        return person

    def reached(self, person: Person, number: int | None) -> ConversationRow | None:
        """The conversation of this number, or the person's own; None where that has not begun yet.

        Raises Refusal: what is another's exists for staff alone.
        """
        if number is None:
            own = self._own.get(person.id)
            return None if own is None else self._rows[own]
        row = self._rows.get(ConversationId(number))
        if row is None or not (person.is_staff or row.customer_id == person.id):
            raise no_such(number)
        return row

    # The commands

    def say(self, command: "SendCommand") -> Message:
        """The new message, or the one that this key has said before. Raises Refusal."""
        person = self.person(command.session)
        key = (person.id, command.message_key)
        before = self._said.get(key)
        if before is not None:
            meant = self._own.get(person.id) if command.conversation is None else command.conversation
            if (before.conversation, before.text) != (meant, command.text):
                raise Refusal(Reason.IDEMPOTENCY_CONFLICT, "this key was used for another message; take a new one")
            return before
        row = self.reached(person, command.conversation)
        by_staff = row is not None and row.customer_id != person.id
        if row is None:
            row = self._begun(person)
        elif by_staff:
            row = self._taken(row, person)
        elif row.status is ConversationStatus.RESOLVED:
            row = self._moved(row, ConversationStatus.WAITING, None)

        # From here on nothing is refused.
        row = row._replace(
            last_sequence=row.last_sequence + 1,
            customer_unread=row.customer_unread + by_staff,
            staff_unread=row.staff_unread + (not by_staff),
        )
        if row.status is ConversationStatus.WAITING:
            self._told[row.id].add(True)  # no agent has it, so none gets the message
        self._rows[row.id] = row
        role = Role.AGENT if by_staff else Role.CUSTOMER
        message = Message(
            row.id, row.last_sequence, person.username, role, command.text, self._now, command.message_key
        )
        self._said[key] = message
        self._messages.append(
            chat.MessageRow(row.id, message.sequence, person.id, by_staff, self._now, command.message_key, command.text)
        )
        self._tx.publish(MessageSent(row.customer_id, row.agent_id, message, person.id))
        return message

    def mark_read(self, command: "MarkReadCommand") -> None:
        """The counting is left to write(): the read that goes furthest decides. Raises Refusal."""
        person = self.person(command.session)
        row = self.reached(person, command.conversation)
        if row is None:
            return
        side = (row.id, row.customer_id != person.id)
        self._seen[side] = max(self._seen.get(side, 0), command.up_to)

    def claim(self, session: Session, number: int) -> Conversation:
        """Raises Refusal."""
        agent, row = self._handled(session, number)
        return seen_by(self._taken(row, agent), agent.id)

    def release(self, session: Session, number: int) -> Conversation:
        """Raises Refusal."""
        agent, row = self._handled(session, number)
        if row.status is ConversationStatus.RESOLVED:
            raise _illegal(row, "it is resolved; nobody has it")
        if row.status is ConversationStatus.ASSIGNED:
            self._check_mine(row, agent)
            row = self._moved(row, ConversationStatus.WAITING, None)
            self._record(agent.id, "chat.released", row)
        return seen_by(row, agent.id)

    def resolve(self, session: Session, number: int) -> Conversation:
        """Raises Refusal."""
        agent, row = self._handled(session, number)
        if row.status is not ConversationStatus.RESOLVED:
            self._check_mine(row, agent)
            row = self._moved(row, ConversationStatus.RESOLVED, None)
            self._record(agent.id, "chat.resolved", row)
        return seen_by(row, agent.id)

    def transfer(self, session: Session, number: int, to: str) -> Conversation:
        """Raises Refusal. Parameters first, then the rest: the protocol's order of checks."""
        agent = self.agent(session)
        target = self._named.get(to)
        if target is None or not target.is_staff or target.disabled or target.deleted:
            raise Refusal.invalid("/agent", f"there is no agent {to}; name an agent or admin whose account is enabled")
        agent, row = self._handled(session, number)
        if row.status is ConversationStatus.RESOLVED and agent.role is not Role.ADMIN:
            raise _illegal(row, "it is resolved; claim it first")
        self._check_mine(row, agent)
        if row.agent_id != target.id:
            self._check_customer(row)
            row = self._moved(row, ConversationStatus.ASSIGNED, target)
            self._record(agent.id, "chat.transferred", row, agent=target.id)
        return seen_by(row, agent.id)

    def left(self, agent: AccountId, rows: Sequence[ConversationRow]) -> None:
        """The agent of these conversations is one no more: they wait for another."""
        for row in rows:
            self._before[row.id] = row
            self._moved(row, ConversationStatus.WAITING, None)
            self._record(agent, "chat.released", row)

    def erase(self, customer: AccountId) -> None:
        """The customer is about to be deleted: no text stays, and nobody has to answer any more."""
        number = self._own.get(customer)
        if number is None:
            return
        row = self._rows[number]
        chat.erase(self._tx, row.id)
        if row.status is not ConversationStatus.RESOLVED:
            row = self._moved(row, ConversationStatus.RESOLVED, None)
        last = row.last_sequence
        self._rows[number] = row._replace(customer_unread=0, staff_unread=0, customer_read=last, staff_read=last)
        self._told[number].update((False, True))

    def write(self) -> None:
        """Write what the commands did, and publish it."""
        tx = self._tx
        if self._seen:
            self._count()
        new, changed = [], []
        for number, row in self._rows.items():
            before = self._before.get(number)
            if before is None:
                new.append(row)
            elif row is not before:
                changed.append(row)
        chat.add(tx, new)
        chat.change(tx, changed)
        chat.say(tx, self._messages)
        audit.append(tx, self._audit)
        self._publish()

    # What they share

    def _handled(self, session: Session, number: int) -> tuple[Person, ConversationRow]:
        agent = self.agent(session)
        row = self.reached(agent, number)
        assert row is not None, "a number was given"
        return agent, row

    def _begun(self, customer: Person) -> ConversationRow:
        if self._next is None:
            self._next = chat.next_id(self._tx)
        number = ConversationId(self._next)
        self._next += 1
        self._own[customer.id] = number
        return ConversationRow(
            id=number,
            customer_id=customer.id,
            customer=customer.username,
            gone=False,
            status=ConversationStatus.WAITING,
            agent_id=None,
            agent=None,
            since=self._now,
            last_sequence=0,
            customer_unread=0,
            staff_unread=0,
            customer_read=0,
            staff_read=0,
        )

    def _taken(self, row: ConversationRow, agent: Person) -> ConversationRow:
        """The conversation, which is the agent's now."""
        if row.agent_id == agent.id:
            return row
        if row.status is ConversationStatus.ASSIGNED:
            raise _of_another(row)
        self._check_customer(row)
        row = self._moved(row, ConversationStatus.ASSIGNED, agent)
        self._record(agent.id, "chat.claimed", row)
        return row

    def _moved(self, row: ConversationRow, status: ConversationStatus, agent: Person | None) -> ConversationRow:
        row = row._replace(
            status=status,
            agent_id=None if agent is None else agent.id,
            agent=None if agent is None else agent.username,
            since=self._now,
        )
        self._rows[row.id] = row
        self._told[row.id].update((False, True))
        return row

    def _record(self, actor: AccountId, action: str, row: ConversationRow, **more: int) -> None:
        self._audit.append(entry(self._now, actor, action, row, **more))

    @staticmethod
    def _check_mine(row: ConversationRow, agent: Person) -> None:
        """Whether the agent may decide about it: what waits is everyone's, and an admin may do all."""
        if row.agent_id not in (None, agent.id) and agent.role is not Role.ADMIN:
            raise _of_another(row)

    @staticmethod
    def _check_customer(row: ConversationRow) -> None:
        if row.gone:
            raise _illegal(row, "its customer has deleted the account; nobody would read an answer")

    def _count(self) -> None:
        """Lower what is unread by what each read has seen, and move the marks. Nobody reads the same twice."""
        reads = []
        for (number, by_staff), up_to in self._seen.items():
            row = self._rows[number]
            mark = row.staff_read if by_staff else row.customer_read
            if up_to > mark:
                reads.append(chat.Read(number, by_staff, mark, min(up_to, row.last_sequence)))
        counted = chat.seen(self._tx, reads) if reads else {}
        for number, by_staff, _, up_to in reads:
            row, count = self._rows[number], counted.get((number, by_staff), 0)
            if by_staff:
                self._rows[number] = row._replace(staff_unread=row.staff_unread - count, staff_read=up_to)
            else:
                self._rows[number] = row._replace(customer_unread=row.customer_unread - count, customer_read=up_to)
            if count:
                self._told[number].add(by_staff)

    def _publish(self) -> None:
        staff = tuple(chat.staff(self._tx)) if any(True in sides for sides in self._told.values()) else ()
        for number, sides in self._told.items():
            self._tx.publish(changed(self._rows[number], staff, for_customer=False in sides, for_staff=True in sides))


def changed(
    row: ConversationRow, staff: Iterable[AccountId], *, for_customer: bool = True, for_staff: bool = True
) -> ConversationChanged:
    """The event. staff: the accounts of all agents and admins."""
    return ConversationChanged(
        row.customer_id if for_customer else None,
        tuple(account for account in staff if account != row.customer_id) if for_staff else (),
        seen_by_customer(row),
        seen_by_staff(row),
    )


def entry(at: Timestamp, actor: AccountId, action: str, row: ConversationRow, **more: int) -> audit.AuditEntry:
    """A row of the audit about the customer whose conversation it is."""
    detail = msgspec.json.encode({"conversation": row.id, **more}).decode()
    return audit.AuditEntry(at, actor, action, f"account:{row.customer_id}", detail)


def _of_another(row: ConversationRow) -> Refusal:
    return Refusal(
        Reason.CONVERSATION_TAKEN,
        f"conversation {row.id} is {row.agent}'s; ask for it to be released or transferred",
        agent=row.agent,
    )


def _illegal(row: ConversationRow, why: str) -> Refusal:
    return Refusal(Reason.ILLEGAL_TRANSITION, f"conversation {row.id}: {why}", status=row.status.value, allowed=[])
