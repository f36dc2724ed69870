"""Saying and reading: sequences, keys, unread counts, histories, and who is told."""

# ruff: noqa: S608 -- the values are these tests' own

from collections.abc import Sequence

import pytest
from service.chat_room import ASSIGNED, RESOLVED, WAITING, Room, refusal, together
from service.shop import Shop

from securedelivery.errors import DamagedRow, Reason, Refusal
from securedelivery.model import Conversation, Message, Role
from securedelivery.service import chat
from securedelivery.service.chat import MarkReadCommand
from securedelivery.service.chat_events import ConversationChanged, MessageSent, Typing
from securedelivery.store import audit
from securedelivery.store.engine import Transaction

LONGEST = "\U0001f4a9" * 4_000
HOSTILE = [
    "'; DROP TABLE messages; --",
    "\x1b[2J\x07\r\n\t",
    '{"$": [null]} \\" \\u0000',
    "\u202etxet\u2066 \ufeff \ufffe",
    "e\u0301 \u00e9 \uff21",
    " ",
    LONGEST,
    '"' * 4_000,
    "%(text)s :text ?1",
]


@pytest.fixture
def room(shop: Shop) -> Room:
    return Room(shop)


def test_a_first_message_begins_a_conversation_that_waits(room: Room) -> None:
    agnes, adam = room.person("agnes", Role.AGENT), room.person("adam", Role.ADMIN)
    alice = room.person("alice")
    assert room.chat.history(alice, None) == ([], None, 0)
    message = room.say(alice, "Is it quiet?", key="k")
    assert message == Message(1, 1, "alice", Role.CUSTOMER, "Is it quiet?", room.now(), "k")
    assert room.chat.history(alice, None) == ([message], None, 1)
    assert room.chat.history(alice, 1) == ([message], None, 1)
    waits = Conversation(1, "alice", WAITING, None, 1, 1, room.now())
    assert room.all_queued(agnes) == [waits]
    assert room.events == [
        MessageSent(alice.account_id, None, message, alice.account_id),
        ConversationChanged(
            None,
            (agnes.account_id, adam.account_id),
            Conversation(1, "alice", WAITING, None, 0, 1, room.now()),
            waits,
        ),
    ]
    with room.shop.database.read() as tx:
        assert chat.waiting(tx) == 1


def test_an_agents_answer_takes_the_conversation(room: Room) -> None:
    agnes, alice = room.person("agnes", Role.AGENT), room.person("alice")
    room.say(alice, "Is it quiet?")
    room.shop.clock.forward(minutes=3)
    room.events.clear()
    message = room.say(agnes, "Very.", 1, key="k")
    assert message == Message(1, 2, "agnes", Role.AGENT, "Very.", room.now(), "k")
    for_customer = Conversation(1, "alice", ASSIGNED, "agnes", 1, 2, None)
    assert room.events == [
        MessageSent(alice.account_id, agnes.account_id, message, agnes.account_id),
        ConversationChanged(alice.account_id, (agnes.account_id,), for_customer, for_customer),
    ]
    # From now on a message is news for these two alone, and MessageSent says it all.
    room.events.clear()
    thanks = room.say(alice, "Thanks.")
    assert room.events == [MessageSent(alice.account_id, agnes.account_id, thanks, alice.account_id)]
    assert [message.text for message in room.everything(alice)] == ["Is it quiet?", "Very.", "Thanks."]
    assert room.all_queued(agnes) == []
    assert room.all_queued(agnes, ASSIGNED) == [Conversation(1, "alice", ASSIGNED, "agnes", 2, 3, None)]


def test_what_another_agent_has_is_taken(room: Room) -> None:
    agnes, anton, adam = (
        room.person(*who) for who in (("agnes", Role.AGENT), ("anton", Role.AGENT), ("adam", Role.ADMIN))
    )
    room.say(room.person("alice"), "Hello")
    room.say(agnes, "Hello", 1)
    for other in (anton, adam):
        assert refusal(room.say, other, "Me too", 1, "k") == (Reason.CONVERSATION_TAKEN, {"agent": "agnes"})
    # The refused call has not used its key up.
    room.release(agnes, 1)
    assert room.say(anton, "Now me", 1, "k").sequence == 3


def test_a_message_into_a_resolved_conversation_has_it_wait_again(room: Room) -> None:
    agnes, alice = room.person("agnes", Role.AGENT), room.person("alice")
    room.say(alice, "Hello")
    room.resolve(agnes, 1)
    room.shop.clock.forward(days=1)
    room.events.clear()
    message = room.say(alice, "Once more")
    sent, changed = room.events
    assert sent == MessageSent(alice.account_id, None, message, alice.account_id)
    assert isinstance(changed, ConversationChanged)
    assert (changed.customer, changed.agents) == (alice.account_id, (agnes.account_id,))
    assert changed.for_staff == Conversation(1, "alice", WAITING, None, 2, 2, room.now())
    room.resolve(agnes, 1)
    room.say(agnes, "Did it help?", 1)
    assert [each.agent for each in room.all_queued(agnes, ASSIGNED)] == ["agnes"]


def test_recipients_are_told_once(room: Room) -> None:
    agnes, alice = room.person("agnes", Role.AGENT), room.person("alice")
    room.say(alice, "Hello")
    room.say(agnes, "Hello", 1)
    first, _, second, _ = room.events
    assert isinstance(first, MessageSent)
    assert isinstance(second, MessageSent)
    assert first.recipients == [alice.account_id]
    assert second.recipients == [alice.account_id, agnes.account_id]


def test_an_agents_own_conversation_is_a_customers(room: Room) -> None:
    agnes, anton = room.person("agnes", Role.AGENT), room.person("anton", Role.AGENT)
    message = room.say(agnes, "My parcel is late")
    assert message.role is Role.CUSTOMER
    assert room.say(agnes, "Really", 1).role is Role.CUSTOMER
    # As its customer sees it, in the queue as well, and told once: as to a customer, by chat.message.
    assert [each.unread for each in room.all_queued(agnes)] == [0]
    assert [each.unread for each in room.all_queued(anton)] == [2]
    changes = [event for event in room.events if isinstance(event, ConversationChanged)]
    assert {event.agents for event in changes} == {(anton.account_id,)}
    room.events.clear()
    room.say(anton, "On its way", 1)
    room.read(agnes, 3)
    changes = [event for event in room.events if isinstance(event, ConversationChanged)]
    assert [(event.customer, event.agents) for event in changes] == [
        (agnes.account_id, (anton.account_id,)),
        (agnes.account_id, ()),
    ]
    room.chat.history(agnes, None)
    room.chat.history(agnes, 1)
    assert actions(room).count("chat.viewed") == 0


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_come_back_as_they_were_said(room: Room, text: str) -> None:
    agnes, alice = room.person("agnes", Role.AGENT), room.person("alice")
    said = room.say(alice, text, key=text[:128])
    assert said.text == text
    assert room.everything(alice) == room.everything(agnes, 1) == [said]
    assert room.say(alice, text, key=text[:128]) == said
    assert refusal(room.say, alice, text + ".", None, text[:128]) == (Reason.IDEMPOTENCY_CONFLICT, {})


# Keys


def test_the_same_key_again_gives_the_same_message(room: Room) -> None:
    agnes, alice = room.person("agnes", Role.AGENT), room.person("alice")
    message = room.say(alice, "Hello", key="k")
    answer = room.say(agnes, "Hello", 1, key="k")
    room.shop.clock.forward(hours=1)
    room.resolve(agnes, 1)
    room.events.clear()
    before = room.all_queued(agnes, RESOLVED)
    assert room.say(alice, "Hello", key="k") == message
    assert room.say(alice, "Hello", 1, key="k") == message
    assert room.say(agnes, "Hello", 1, key="k") == answer
    assert room.all_queued(agnes, RESOLVED) == before
    assert room.events == []


def test_the_same_key_for_another_message(room: Room) -> None:
    agnes, alice, bob = room.person("agnes", Role.AGENT), room.person("alice"), room.person("bob")
    room.say(alice, "Hello", key="k")
    room.say(bob, "Hello", key="k")
    room.say(agnes, "Hello", 1, key="k")
    conflict = (Reason.IDEMPOTENCY_CONFLICT, {})
    assert refusal(room.say, alice, "Hello!", None, "k") == conflict
    assert refusal(room.say, agnes, "Hello", 2, "k") == conflict
    assert refusal(room.say, agnes, "Hello", None, "k") == conflict
    assert refusal(room.say, agnes, "Hello", 3, "k") == conflict
    assert [len(room.everything(agnes, number)) for number in (1, 2)] == [2, 1]


def test_a_refused_call_does_not_use_the_key_up(room: Room) -> None:
    agnes, alice = room.person("agnes", Role.AGENT), room.person("alice")
    assert refusal(room.say, agnes, "Hello", 1, "k") == (Reason.NOT_FOUND, {})
    room.say(alice, "Hello")
    assert room.say(agnes, "Hello", 1, "k").sequence == 2


def test_within_a_batch_later_commands_see_earlier_ones(room: Room) -> None:
    agnes, anton = room.person("agnes", Role.AGENT), room.person("anton", Role.AGENT)
    alice, bob = room.person("alice"), room.person("bob")
    room.say(bob, "First")
    room.events.clear()
    saying = room.saying
    outcomes = room.batch(
        room.chat.send,
        saying(alice, "One", key="a"),
        saying(alice, "One", key="a"),
        saying(alice, "Other", key="a"),
        saying(agnes, "Two", 1, key="a"),
        saying(anton, "Mine", 1, key="a"),
        saying(anton, "Mine", 2, key="a"),
        saying(alice, "Two", 2, key="b"),
        saying(bob, "Two", 2, key="b"),
        saying(bob, "Three", key="c"),
        saying(agnes, "Own", key="d"),
        saying(agnes, "Own", key="d"),
    )
    one, again, other, two, mine, second, foreign, still, third, own, own_again = outcomes
    assert (one.conversation, one.sequence) == (2, 1)
    assert again is one
    assert other.reason is Reason.IDEMPOTENCY_CONFLICT
    assert (two.conversation, two.sequence) == (1, 2)
    assert (mine.reason, mine.data) == (Reason.CONVERSATION_TAKEN, {"agent": "agnes"})
    assert (second.conversation, second.sequence, second.role) == (2, 2, Role.AGENT)
    assert (foreign.conversation, foreign.sequence) == (2, 3)
    assert (still.reason, still.data) == (Reason.NOT_FOUND, {})
    assert third.sequence == 3
    assert (own.conversation, own.sequence) == (3, 1)
    assert own_again is own
    sent = [event for event in room.events if isinstance(event, MessageSent)]
    assert [event.message for event in sent] == [one, two, second, foreign, third, own]
    changes = room.events[len(sent) :]
    assert all(isinstance(event, ConversationChanged) for event in changes)
    assert [event.for_staff for event in changes if isinstance(event, ConversationChanged)] == [
        Conversation(2, "alice", ASSIGNED, "anton", 2, 3, None),
        Conversation(1, "bob", ASSIGNED, "agnes", 2, 3, None),
        Conversation(3, "agnes", WAITING, None, 1, 1, room.now()),
    ]


# Sequences


def test_batches_of_many_give_each_message_its_own_sequence(room: Room) -> None:
    people = [room.person(f"customer{n}") for n in range(7)]
    for size in (1, 256, 64):
        outcomes = room.batch(room.chat.send, *(room.saying(people[n % 7], f"{n}") for n in range(size)))
        assert all(isinstance(outcome, Message) for outcome in outcomes)
    for person in people:
        found = room.everything(person, limit=13)
        assert [message.sequence for message in found] == list(range(1, len(found) + 1))
    assert sum(len(room.everything(person)) for person in people) == 1 + 256 + 64


def test_eight_threads_leave_no_gap_and_no_repeat(room: Room) -> None:
    agnes = room.person("agnes", Role.AGENT)
    people = [room.person(f"customer{n}") for n in range(4)]
    for number, person in enumerate(people, start=1):
        room.say(person, "Hello")
        room.claim(agnes, number)

    def talk(thread: int) -> list[Message]:
        got = []
        for n in range(52):
            if thread < 4:
                command = room.saying(people[thread], f"{thread} {n}", key=f"{thread} {n}")
            else:
                command = room.saying(agnes, f"{thread} {n}", n % 4 + 1, key=f"{thread} {n}")
            got.append(room.call(room.chat.send, command))
            assert room.call(room.chat.send, command) == got[-1]
        return got

    got = [message for part in together(talk, 8) for message in part]
    assert len(got) == 8 * 52
    for number, person in enumerate(people, start=1):
        found = room.everything(person)
        assert [message.sequence for message in found] == list(range(1, 1 + 2 * 52 + 1))
        mine = [message for message in got if message.conversation == number]
        assert found[1:] == sorted(mine, key=lambda message: message.sequence)


def test_first_messages_from_eight_threads_begin_one_conversation(room: Room) -> None:
    alice = room.person("alice")
    said = together(lambda n: room.say(alice, str(n), key=str(n)), 8)
    assert room.everything(alice) == sorted(said, key=lambda message: message.sequence)
    assert room.shop.sql("SELECT id, last_sequence, staff_unread FROM conversations") == [(1, 8, 8)]


def test_one_key_from_eight_threads_is_one_message(room: Room) -> None:
    alice = room.person("alice")
    said = together(lambda _: room.say(alice, "Hello", key="k"), 8)
    assert room.everything(alice) * 8 == said


def test_a_history_is_resumed_by_sequence(room: Room) -> None:
    agnes, alice = room.person("agnes", Role.AGENT), room.person("alice")
    said = [room.say(alice, f"Message {n}") for n in range(10)]
    for reader, number in ((alice, None), (agnes, 1)):
        for limit in (1, 3, 9, 10, 11, 200):
            assert room.everything(reader, number, limit) == said
        assert room.chat.history(reader, number, 0, 4) == (said[:4], 4, 10)
        assert room.chat.history(reader, number, 4, 6) == (said[4:], None, 10)
        assert room.chat.history(reader, number, 9, 50) == (said[9:], None, 10)
        for beyond in (10, 11, 2**53 - 1):
            assert room.chat.history(reader, number, beyond, 50) == ([], None, 10)
    more = room.say(alice, "One more")
    assert room.chat.history(alice, None, 10, 50) == ([more], None, 11)


# Unread


def test_unread_are_messages_of_the_other_side_behind_what_was_read(room: Room) -> None:
    agnes, alice = room.person("agnes", Role.AGENT), room.person("alice")
    for sender in (alice, alice, agnes, alice, agnes, agnes):
        room.say(sender, "Hello", None if sender is alice else 1)
    unread = lambda: room.shop.sql("SELECT customer_unread, staff_unread FROM conversations")[0]
    assert unread() == (3, 3)
    room.read(alice, 0)
    assert unread() == (3, 3)
    room.read(alice, 3)
    assert unread() == (2, 3)
    room.read(alice, 2)
    assert unread() == (2, 3)
    room.read(agnes, 1, 1)
    assert unread() == (2, 2)
    room.read(agnes, 2**53 - 1, 1)
    assert unread() == (2, 0)
    room.read(agnes, 0, 1)
    assert unread() == (2, 0)
    room.read(alice, 6)
    assert unread() == (0, 0)
    for sender in (alice, agnes):
        room.say(sender, "Hello", 1)
    for up_to in (0, 1, 6):
        room.read(alice, up_to)
        room.read(agnes, up_to, 1)
        assert unread() == (1, 1)


def test_a_read_is_told_to_the_side_that_has_read(room: Room) -> None:
    agnes, adam, alice = room.person("agnes", Role.AGENT), room.person("adam", Role.ADMIN), room.person("alice")
    room.say(alice, "Hello")
    room.say(agnes, "Hello", 1)
    room.events.clear()
    room.read(alice, 1)
    assert room.events == []
    room.read(alice, 2)
    room.read(alice, 2)
    room.read(agnes, 2, 1)
    room.read(adam, 2, 1)
    seen = Conversation(1, "alice", ASSIGNED, "agnes", 0, 2, None)
    unseen = Conversation(1, "alice", ASSIGNED, "agnes", 1, 2, None)
    assert room.events == [
        ConversationChanged(alice.account_id, (), seen, unseen),
        ConversationChanged(None, (agnes.account_id, adam.account_id), seen, seen),
    ]


def test_reads_of_one_batch(room: Room) -> None:
    agnes, alice, bob = room.person("agnes", Role.AGENT), room.person("alice"), room.person("bob")
    for number, person in enumerate((alice, bob), start=1):
        for _ in range(5):
            room.say(person, "Hello")
            room.say(agnes, "Hello", number)
    outcomes = room.batch(
        room.chat.mark_read,
        MarkReadCommand(alice, None, 6),
        MarkReadCommand(alice, 1, 2),
        MarkReadCommand(agnes, 1, 9),
        MarkReadCommand(bob, 1, 10),
        MarkReadCommand(bob, 2, 10),
        MarkReadCommand(agnes, None, 3),
        MarkReadCommand(agnes, 2, 0),
        MarkReadCommand(agnes, 3, 0),
    )
    reasons = [outcome and outcome.reason for outcome in outcomes]
    assert reasons == [None, None, None, Reason.NOT_FOUND, None, None, None, Reason.NOT_FOUND]
    assert room.shop.sql("SELECT id, customer_unread, staff_unread FROM conversations") == [(1, 2, 0), (2, 0, 5)]


# Who may


def test_others_conversations_do_not_exist_for_customers_and_couriers(room: Room) -> None:
    alice = room.person("alice")
    room.say(alice, "Hello")
    nothing = (Reason.NOT_FOUND, {})
    for other in (room.person("bob"), room.person("carl", Role.COURIER)):
        for number in (1, 2):
            assert refusal(room.say, other, "Hello", number) == nothing
            assert refusal(room.read, other, 1, number) == nothing
            assert refusal(room.chat.history, other, number) == nothing
            assert refusal(room.chat.typing, other, number) == nothing
        assert room.chat.history(other, None) == ([], None, 0)
        room.read(other, 1)
        room.chat.typing(other, None)
        assert refusal(room.chat.queue, other)[0] is Reason.FORBIDDEN
        own = room.say(other, "Hello")
        assert room.everything(other) == room.everything(other, own.conversation) == [own]
    assert room.published == []
    assert len(room.everything(alice)) == 1


def test_staff_reach_all_that_there_are(room: Room) -> None:
    room.say(room.person("alice"), "Hello")
    for agent in (room.person("agnes", Role.AGENT), room.person("adam", Role.ADMIN)):
        assert len(room.everything(agent, 1)) == 1
        room.read(agent, 1, 1)
        for call in (
            lambda who=agent: room.say(who, "Hello", 2),
            lambda who=agent: room.read(who, 1, 2),
            lambda who=agent: room.chat.history(who, 2),
            lambda who=agent: room.chat.typing(who, 2),
        ):
            assert refusal(call) == (Reason.NOT_FOUND, {})


def test_staff_access_is_in_the_audit(room: Room) -> None:
    agnes, alice = room.person("agnes", Role.AGENT), room.person("alice")
    room.say(alice, "Hello")
    room.chat.history(alice, None)
    room.chat.history(alice, 1)
    assert actions(room) == []
    room.chat.history(agnes, 1, 5)
    assert refusal(room.chat.history, agnes, 2) == (Reason.NOT_FOUND, {})
    rows = [row.entry for row in audited(room)]
    assert rows == [
        audit.AuditEntry(
            room.now(), agnes.account_id, "chat.viewed", f"account:{alice.account_id}", '{"conversation":1}'
        )
    ]


def test_views_of_one_batch(room: Room) -> None:
    agnes, alice = room.person("agnes", Role.AGENT), room.person("alice")
    message = room.say(alice, "Hello")
    views = [chat._View(session, number, 0, 10) for session, number in ((agnes, 1), (agnes, 2), (alice, 1), (agnes, 1))]
    first, missing, customer, second = room.batch(room.chat._view, *views)
    assert first == second == ([message], None, 1)
    assert (missing.reason, customer.reason) == (Reason.NOT_FOUND, Reason.FORBIDDEN)
    assert actions(room) == ["chat.viewed"] * 2


def audited(room: Room) -> Sequence[audit.AuditRow]:
    with room.shop.database.read() as tx:
        return list(audit.everything(tx))


def actions(room: Room) -> list[str]:
    return [row.entry.action for row in audited(room)]


@pytest.mark.parametrize("role", list(Role))
def test_disabled_and_vanished_accounts(room: Room, role: Role) -> None:
    alice, gone = room.person("alice"), room.person("gone", role)
    room.say(alice, "Hello")
    room.say(gone, "Hello")
    commands = [
        lambda: room.say(gone, "Hello"),
        lambda: room.say(gone, "Hello", 1),
        lambda: room.say(gone, "Hello", None, "key 2"),
        lambda: room.read(gone, 1),
        lambda: room.claim(gone, 1),
        lambda: room.release(gone, 1),
        lambda: room.resolve(gone, 1),
        lambda: room.transfer(gone, 1, "gone"),
    ]
    if gone.is_staff:
        commands.append(lambda: room.chat.history(gone, 1))
    before = room.shop.sql("SELECT * FROM conversations")
    for change, reason in (
        ("disabled = 1", Reason.DISABLED),
        (f"deleted_at = '{room.now()}'", Reason.NOT_LOGGED_IN),
    ):
        room.shop.sql(f"UPDATE accounts SET {change} WHERE username = 'gone'")
        assert [refusal(command)[0] for command in commands] == [reason] * len(commands)
    nobody = type(gone)(gone.account_id + 100, "nobody", role)  # type: ignore[arg-type]
    assert refusal(room.say, nobody, "Hello")[0] is Reason.NOT_LOGGED_IN
    assert room.shop.sql("SELECT * FROM conversations") == before
    assert actions(room) == []


# Typing


def test_typing_is_told_to_the_other_side(room: Room) -> None:
    agnes, alice = room.person("agnes", Role.AGENT), room.person("alice")
    room.chat.typing(alice, None)
    room.say(alice, "Hello")
    room.chat.typing(alice, None)
    assert room.published == []
    room.chat.typing(agnes, 1)
    assert room.published == [Typing(alice.account_id, 1, "agnes")]
    room.claim(agnes, 1)
    room.published.clear()
    room.events.clear()
    room.chat.typing(alice, None)
    room.chat.typing(alice, 1)
    assert room.published == [Typing(agnes.account_id, 1, "alice")] * 2
    assert room.events == []
    room.release(agnes, 1)
    room.published.clear()
    room.chat.typing(alice, 1)
    assert room.published == []


# For the other services


def test_an_accounts_own_conversation_in_pages(room: Room) -> None:
    alice, bob = room.person("alice"), room.person("bob")
    said = [room.say(alice, str(n)) for n in range(5)]
    with room.shop.database.read() as tx:
        assert room.chat.of_customer(tx, bob.account_id) == ([], None)
        assert room.chat.of_customer(tx, alice.account_id) == (said, None)
        assert room.chat.of_customer(tx, alice.account_id, 1, 2) == (said[1:3], 3)


def test_changes_of_another_process(room: Room) -> None:
    agnes, alice = room.person("agnes", Role.AGENT), room.person("alice")
    room.say(alice, "Hello")
    room.events.clear()
    room.claim(agnes, 1)
    with room.shop.database.read() as tx:
        assert chat.changes(tx, [1, 2]) == room.events
        assert chat.changes(tx, [2]) == []


def test_a_damaged_message_is_an_error_that_names_it(room: Room) -> None:
    alice = room.person("alice")
    room.say(alice, "Hello")
    room.say(alice, "Hello")
    room.shop.sql("UPDATE messages SET text = (SELECT text FROM messages WHERE sequence = 2) WHERE sequence = 1")
    with pytest.raises(DamagedRow) as caught:
        room.chat.history(alice, None)
    assert caught.value.cell == "messages.text:1/1"


def test_a_batch_takes_a_handful_of_statements(room: Room) -> None:
    agnes = room.person("agnes", Role.AGENT)
    people = [room.person(f"customer{n}") for n in range(32)]
    counts: list[int] = []

    def counted(tx: Transaction, commands: Sequence[int]) -> list[None]:
        for size in commands:
            batch = [room.saying(people[n % 32], f"{n}") for n in range(size)]
            seen: set[str] = set()
            tx._cursor.connection.set_trace_callback(lambda sql, seen=seen: seen.add(sql.split("(")[0].split("SET")[0]))
            outcomes = room.chat.send(tx, batch)
            tx._cursor.connection.set_trace_callback(None)
            assert not any(isinstance(outcome, Refusal) for outcome in outcomes)
            counts.append(len(seen))
        return [None for _ in commands]

    for size in (1, 64, 256):
        room.call(counted, size)
    assert max(counts) <= 9
    assert room.all_queued(agnes)
