"""Rows of missed chat, below the rules. What is due when: tests/service/test_missed_chat.py."""

import re
import sqlite3
from collections.abc import Sequence
from typing import Any

import pytest

from securedelivery.model import AccountId, ConversationId, ConversationStatus, Message, Role, Timestamp
from securedelivery.store import accounts, chat, missed_chat, outbox
from securedelivery.store.chat import ConversationRow, MessageRow
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.missed_chat import Due, Place, Times

PEOPLE = [("carol", Role.CUSTOMER), ("dora", Role.CUSTOMER), ("agnes", Role.AGENT), ("adam", Role.ADMIN)]
CAROL, DORA, AGNES, ADAM = (AccountId(number) for number in range(1, 5))
FIRST, SECOND = ConversationId(11), ConversationId(12)


def at(hour: int, minute: int = 0) -> Timestamp:
    return Timestamp(f"2026-01-01T{hour:02}:{minute:02}:00.000000Z")


TIMES = Times(said_since=at(0), young_since=at(11, 55), young_until=at(12, 5), recent_since=at(11), recent_until=at(13))


def write(database: Database, run: Any) -> None:
    database.writer.call(lambda tx, commands: [run(tx) for _ in commands], None)


@pytest.fixture
def filled(database: Database) -> Database:
    """In each of two conversations: customer, agnes, adam, agnes, at 8, 9, 10 and 11 o'clock."""

    def fill(tx: Transaction) -> None:
        rows = [
            accounts.AccountRow(
                AccountId(number), name, role, None, f"{name}@post.example", None, None, None,
                False, False, True, True, True, 0, 0, 0, at(0),
            )
            for number, (name, role) in enumerate(PEOPLE, start=1)
        ]  # fmt: skip
        accounts.add(tx, rows)
        talks = [(FIRST, CAROL), (SECOND, DORA)]
        chat.add(
            tx,
            [
                ConversationRow(
                    number, customer, "", False, ConversationStatus.WAITING, None, None, at(0), 4, 3, 0, 0, 0
                )
                for number, customer in talks
            ],
        )
        chat.say(
            tx,
            [
                MessageRow(number, turn, sender, sender != customer, at(7 + turn), f"{number} {turn}", f"turn {turn}")
                for number, customer in talks
                for turn, sender in enumerate((customer, AGNES, ADAM, AGNES), start=1)
            ],
        )

    write(database, fill)
    return database


def due(database: Database, after: int = 0, count: int = 10) -> list[Due]:
    with database.read() as tx:
        return missed_chat.due(tx, TIMES, after, count)


def test_pages_of_what_is_due(filled: Database) -> None:
    carol, dora = Due(CAROL, 4), Due(DORA, 4)
    assert due(filled) == [carol, dora]
    assert due(filled, count=1) == [carol]
    assert due(filled, CAROL) == [dora]
    assert due(filled, DORA) == []
    with filled.read() as tx:
        assert missed_chat.still_due(tx, TIMES, [DORA, AGNES]) == [dora]
        assert missed_chat.still_due(tx, TIMES, []) == []


def test_a_row_waits_and_there_is_one_for_each_place(filled: Database) -> None:
    write(filled, lambda tx: missed_chat.add(tx, [Due(CAROL, 4), Due(DORA, 4)], at(12)))
    assert due(filled) == []
    with filled.read() as tx:
        rows = outbox.by_numbers(tx, [1, 2, 3])
    assert [(row.kind, row.account_id, row.up_to, row.state, row.created_at, row.due_at) for row in rows] == [
        ("missed_chat", CAROL, 4, "waiting", at(12), at(12)),
        ("missed_chat", DORA, 4, "waiting", at(12), at(12)),
    ]
    with pytest.raises(sqlite3.IntegrityError):
        write(filled, lambda tx: missed_chat.add(tx, [Due(DORA, 4)], at(12)))


def test_a_mail_begins_behind_the_former_one_and_what_was_read(filled: Database) -> None:
    write(filled, lambda tx: missed_chat.add(tx, [Due(CAROL, 2)], at(9)))
    write(filled, lambda tx: missed_chat.add(tx, [Due(CAROL, 4)], at(12)))

    def places() -> list[Place | None]:
        with filled.read() as tx:
            return [missed_chat.place(tx, CAROL, 2), missed_chat.place(tx, CAROL, 4), missed_chat.place(tx, DORA, 4)]

    first, second, other = (
        Place(FIRST, "carol", False, 0),
        Place(FIRST, "carol", False, 2),
        Place(SECOND, "dora", False, 0),
    )
    assert places() == [first, second, other]
    write(filled, lambda tx: tx.control("UPDATE conversations SET customer_read = 3"))
    assert places() == [place._replace(after=3) for place in (first, second, other)]
    write(filled, lambda tx: tx.control("UPDATE accounts SET disabled = 1"))
    assert places() == [place._replace(after=3, disabled=True) for place in (first, second, other)]
    with filled.read() as tx:
        assert missed_chat.place(tx, AGNES, 4) is None


def test_what_was_said_on_the_shops_side(filled: Database) -> None:
    where = Place(FIRST, "carol", False, 0)
    with filled.read() as tx:
        assert missed_chat.senders(tx, where, 4, at(0)) == [("agnes", 2), ("adam", 1)]
        assert missed_chat.senders(tx, where._replace(after=2), 4, at(0)) == [("adam", 1), ("agnes", 1)]
        assert missed_chat.senders(tx, where, 3, at(0)) == [("agnes", 1), ("adam", 1)]
        assert missed_chat.senders(tx, where, 4, at(10)) == [("adam", 1), ("agnes", 1)]
        assert missed_chat.senders(tx, where._replace(after=4), 4, at(0)) == []
        said = missed_chat.said(tx, where, 4, at(0), 2)
        assert said == [
            Message(FIRST, 2, "agnes", Role.AGENT, "turn 2", at(9), "11 2"),
            Message(FIRST, 3, "adam", Role.AGENT, "turn 3", at(10), "11 3"),
        ]
        assert said == chat.history(tx, FIRST, 1, 2)


def plan(database: Database, parameters: dict[str, Any], *, of: Any) -> list[str]:
    """How SQLite goes about it."""
    rendered = of.render("sqlite")
    with database.read() as tx:
        rows = tx.connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {rendered.sql}", tuple(rendered.positions({**TIMES._asdict(), **parameters}))
        )
        return [row[3] for row in rows]


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [(missed_chat._PAGE, {"after": 0, "count": 500}), (missed_chat._OF, {"customers": "[1, 2]"})],
    ids=["page", "of"],
)
def test_no_table_is_walked(filled: Database, statement: Any, parameters: dict[str, Any]) -> None:
    steps: Sequence[str] = plan(filled, parameters, of=statement)
    assert not [step for step in steps if re.search(r"SCAN (?!.*VIRTUAL TABLE)|TEMP B-TREE", step)], steps
    assert any("last USING INDEX uq_outbox_chat (account_id=? AND up_to=?)" in step for step in steps), steps


def test_a_page_takes_the_index_of_what_is_unread(filled: Database) -> None:
    steps = plan(filled, {"after": 0, "count": 500}, of=missed_chat._PAGE)
    assert "conversations USING INDEX ix_conversations_unread" in steps[0]
