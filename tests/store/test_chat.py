"""Rows of conversations and messages, below the rules."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from securedelivery.errors import DamagedRow
from securedelivery.model import AccountId, ConversationId, ConversationStatus, Message, Role, Timestamp
from securedelivery.store import accounts, chat
from securedelivery.store.chat import ConversationRow, MessageRow, Read
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.statements import Statement

AT = Timestamp("2026-01-01T00:00:00.000000Z")
PEOPLE = [("alice", Role.CUSTOMER), ("bob", Role.CUSTOMER), ("agnes", Role.AGENT), ("adam", Role.ADMIN)]
ALICE, BOB, AGNES, ADAM = (AccountId(number) for number in range(1, 5))
FIRST, SECOND = ConversationId(1), ConversationId(2)
MARKER = "meet-me-behind-the-warehouse"


def conversation(number: ConversationId, customer: AccountId, **more: object) -> ConversationRow:
    row = ConversationRow(
        number, customer, PEOPLE[customer - 1][0], False, ConversationStatus.WAITING, None, None, AT, 0, 0, 0, 0, 0
    )
    return row._replace(**more)  # type: ignore[arg-type]


def message(number: ConversationId, sequence: int, sender: AccountId, text: str = MARKER) -> MessageRow:
    return MessageRow(number, sequence, sender, sender in (AGNES, ADAM), AT, f"{number} {sequence}", text)


@pytest.fixture
def filled(database: Database) -> Database:
    """Two conversations; the second one is agnes'. Said in the first: alice, agnes, alice, agnes, alice."""

    def fill(tx: Transaction, commands: Sequence[None]) -> Sequence[None]:
        rows = [
            accounts.AccountRow(
                AccountId(number), name, role, None, None, None, None, None,
                False, False, True, True, True, 0, 0, 0, AT,
            )
            for number, (name, role) in enumerate(PEOPLE, start=1)
        ]  # fmt: skip
        accounts.add(tx, rows)
        mine = {"status": ConversationStatus.ASSIGNED, "agent_id": AGNES, "agent": "agnes"}
        chat.add(tx, [conversation(FIRST, ALICE, last_sequence=5), conversation(SECOND, BOB, **mine)])
        chat.say(tx, [message(FIRST, n, AGNES if n % 2 == 0 else ALICE) for n in range(1, 6)])
        chat.say(tx, [message(SECOND, 1, BOB)])
        return commands

    database.writer.call(fill, None)
    return database


def write(database: Database, run: object) -> None:
    database.writer.call(lambda tx, commands: [run(tx) for _ in commands], None)  # type: ignore[operator]


def test_conversations_come_back_as_they_were_written(filled: Database) -> None:
    mine = {"status": ConversationStatus.ASSIGNED, "agent_id": AGNES, "agent": "agnes"}
    first, second = conversation(FIRST, ALICE, last_sequence=5), conversation(SECOND, BOB, **mine)
    with filled.read() as tx:
        assert chat.next_id(tx) == 3
        assert chat.waiting(tx) == 1
        assert chat.find(tx, [1], []) == chat.find(tx, [], [ALICE]) == chat.find(tx, [1], [ALICE]) == [first]
        assert sorted(chat.find(tx, [2, 7], [ALICE, AGNES])) == [first, second]
        assert chat.find(tx, [], []) == []
        assert chat.of_agent(tx, AGNES) == chat.queue_of_agent(tx, AGNES, (Timestamp(""), 0), 5) == [second]
        assert chat.queue(tx, ConversationStatus.WAITING, (Timestamp(""), 0), 5) == [first]
        assert chat.queue(tx, ConversationStatus.WAITING, (AT, 1), 5) == []
        assert chat.queue(tx, ConversationStatus.RESOLVED, (Timestamp(""), 0), 5) == []
    later = first._replace(
        status=ConversationStatus.ASSIGNED,
        agent_id=ADAM,
        agent="adam",
        last_sequence=6,
        customer_unread=3,
        staff_unread=4,
    )
    write(filled, lambda tx: chat.change(tx, [later]))
    with filled.read() as tx:
        assert chat.find(tx, [1], []) == [later]
        assert chat.waiting(tx) == 0


def test_an_empty_shop(database: Database) -> None:
    with database.read() as tx:
        assert chat.next_id(tx) == 1
        assert chat.waiting(tx) == 0
        assert chat.staff(tx) == []
        assert chat.people(tx, [ALICE]) == {}


def test_people(filled: Database) -> None:
    write(filled, lambda tx: tx.control("UPDATE accounts SET disabled = 1 WHERE username = 'adam'"))
    write(filled, lambda tx: tx.control(f"UPDATE accounts SET deleted_at = '{AT}' WHERE username = 'bob'"))  # noqa: S608
    with filled.read() as tx:
        assert chat.staff(tx) == [AGNES]
        people = chat.people(tx, [ALICE, ADAM, BOB, AccountId(9)])
        assert chat.named(tx, ["alice", "adam", "bob", "nobody"]) == {each.username: each for each in people.values()}
        assert people == {
            ALICE: chat.Person(ALICE, "alice", Role.CUSTOMER, disabled=False, deleted=False),
            BOB: chat.Person(BOB, "bob", Role.CUSTOMER, disabled=False, deleted=True),
            ADAM: chat.Person(ADAM, "adam", Role.ADMIN, disabled=True, deleted=False),
        }
        assert [people[account].is_staff for account in (ALICE, ADAM)] == [False, True]
        assert chat.find(tx, [], [BOB])[0].gone


def test_histories_and_keys(filled: Database) -> None:
    with filled.read() as tx:
        found = chat.history(tx, FIRST, 0, 10)
        assert found[:2] == [
            Message(FIRST, 1, "alice", Role.CUSTOMER, MARKER, AT, "1 1"),
            Message(FIRST, 2, "agnes", Role.AGENT, MARKER, AT, "1 2"),
        ]
        assert chat.history(tx, FIRST, 2, 2) == found[2:4]
        keys = [(ALICE, "1 1"), (AGNES, "1 1"), (AGNES, "1 2"), (BOB, "none")]
        assert chat.by_keys(tx, keys) == {keys[0]: found[0], keys[2]: found[1]}


def test_what_lies_in_a_read(filled: Database) -> None:
    with filled.read() as tx:
        spans = ((0, 0, 0, 0), (0, 1, 0, 1), (0, 5, 2, 3), (1, 3, 1, 1), (2, 4, 1, 1), (3, 9, 1, 1))
        for after, up_to, by_staff, by_customer in spans:
            reads = [Read(FIRST, False, after, up_to), Read(FIRST, True, after, up_to), Read(SECOND, True, 0, 1)]
            expected = {(FIRST, False): by_staff, (FIRST, True): by_customer, (SECOND, True): 1}
            assert chat.seen(tx, reads) == {side: count for side, count in expected.items() if count}


def test_texts_are_sealed(filled: Database) -> None:
    for path in filled.path.parent.iterdir():
        assert MARKER.encode() not in path.read_bytes()


def test_a_flipped_byte_is_an_error_that_names_the_row(filled: Database) -> None:
    connection = sqlite3.connect(filled.path)
    ((cell,),) = connection.execute("SELECT text FROM messages WHERE conversation_id = 1 AND sequence = 3")
    for position in (0, 12, len(cell) - 1):
        damaged = bytearray(cell)
        damaged[position] ^= 1
        with connection:
            connection.execute("UPDATE messages SET text = ? WHERE conversation_id = 1 AND sequence = 3", [damaged])
        with filled.read() as tx, pytest.raises(DamagedRow, match=r"messages\.text:1/3"):
            chat.history(tx, FIRST, 0, 10)
    connection.close()


def test_erased_texts(filled: Database, tmp_path: Path) -> None:
    def cells() -> list[bytes]:
        with sqlite3.connect(filled.path) as connection:
            return [cell for (cell,) in connection.execute("SELECT text FROM messages ORDER BY 1")]

    before = cells()
    write(filled, lambda tx: chat.erase(tx, FIRST))
    assert len(set(before) & set(cells())) == 1
    with filled.read() as tx:
        assert [each.text for each in chat.history(tx, FIRST, 0, 10)] == [chat.ERASED] * 5
        assert [each.text for each in chat.history(tx, SECOND, 0, 10)] == [MARKER]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda tx: chat.say(tx, [message(FIRST, 5, ALICE)._replace(message_key="new")]),
        lambda tx: chat.say(tx, [message(FIRST, 6, ALICE)._replace(message_key="1 1")]),
        lambda tx: chat.say(tx, [message(FIRST, 0, ALICE)]),
        lambda tx: chat.say(tx, [message(ConversationId(9), 1, ALICE)]),
        lambda tx: chat.add(tx, [conversation(ConversationId(3), ALICE)]),
        lambda tx: chat.change(tx, [conversation(FIRST, ALICE, agent_id=AGNES)]),
        lambda tx: chat.change(tx, [conversation(FIRST, ALICE, customer_unread=-1)]),
    ],
)
def test_the_database_forbids_what_must_never_be(filled: Database, wrong: object) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        write(filled, wrong)


def test_no_statement_reads_a_whole_table(filled: Database) -> None:
    """Each finds its rows by a key or an index; staff, by an index that holds nobody else."""
    statements = {name: each for name, each in vars(chat).items() if isinstance(each, Statement)}
    assert len(statements) > 10
    with filled.read() as tx:
        cursor = tx.connection.connection.cursor()
        for name, statement in statements.items():
            rendered = statement.render("sqlite")
            positions = rendered.positions(dict.fromkeys(rendered.names) | rendered.literals)
            cursor.execute(f"EXPLAIN QUERY PLAN {rendered.sql}", positions)
            scans = [
                detail for *_, detail in cursor.fetchall() if detail.startswith("SCAN") and "VIRTUAL" not in detail
            ]
            assert scans == (["SCAN accounts USING INDEX ix_accounts_staff"] if name == "_STAFF" else []), name
