"""The chain of the audit: what somebody with the file can do to it, and what the check says of it."""

# ruff: noqa: S608 -- the values are these tests' own

import hashlib
import json
import sqlite3
from collections.abc import Callable, Sequence

import pytest

from securedelivery.model import AccountId, Role, Timestamp
from securedelivery.store import accounts, audit
from securedelivery.store.audit import AuditEntry
from securedelivery.store.chain import BEGINNING, REMEMBERED, Damage, Tampering, chained, examine
from securedelivery.store.engine import Database, Transaction

AT = Timestamp("2026-01-01T00:00:00.000000Z")
LATER = "2026-01-02T00:00:00.000000Z"
COUNT = 9
ENTRIES = [
    AuditEntry(AT, AccountId(1), f"action.{n}", f"account:{n}", f'{{"remote":"192.0.2.{n}"}}')
    for n in range(1, COUNT + 1)
]
ALTERED, REMOVED, INSERTED, HEAD = Tampering.ALTERED, Tampering.REMOVED, Tampering.INSERTED, Tampering.HEAD

Thief = sqlite3.Connection


def append(database: Database, *batches: Sequence[AuditEntry]) -> None:
    database.writer.call(lambda tx, commands: [[audit.append(tx, b) for b in command] for command in commands], batches)


def add_account(tx: Transaction, commands: Sequence[str]) -> list[None]:
    row = accounts.AccountRow(
        AccountId(1), "alice", Role.CUSTOMER, None, None, None, None, None,
        False, False, True, True, True, 0, 0, 0, AT,
    )  # fmt: skip
    accounts.add(tx, [row])
    return [None for _ in commands]


@pytest.fixture
def audited(database: Database) -> Database:
    """Nine rows, of three batches in two transactions."""
    database.writer.call(add_account, "alice")
    append(database, ENTRIES[:2], [], ENTRIES[2:5])
    append(database, ENTRIES[5:])
    return database


def tamper(database: Database, *steps: str | Callable[[Thief], object]) -> None:
    """As a thief with the file could."""
    connection = sqlite3.connect(database.path)
    with connection:
        connection.execute("DROP TRIGGER IF EXISTS audit_update")
        connection.execute("DROP TRIGGER IF EXISTS audit_delete")
        for step in steps:
            if isinstance(step, str):
                connection.execute(step)
            else:
                step(connection)
    connection.close()


def found(database: Database) -> Damage | None:
    with database.read() as tx:
        return audit.verify(tx)


def named(database: Database) -> tuple[Tampering, int, int]:
    damage = found(database)
    assert damage is not None
    assert str(damage)
    return damage[:3]


def digest(connection: Thief, number: int) -> bytes:
    if number == 0:
        return BEGINNING
    ((stored,),) = connection.execute("SELECT hash FROM audit WHERE id = ?", (number,))
    assert isinstance(stored, bytes)
    return stored


def insert(connection: Thief, number: int, stored: bytes | None = None, action: str = "forged") -> None:
    """stored: the hash; None: the one that fits behind the row before."""
    entry = AuditEntry(AT, None, action)
    value = chained(digest(connection, number - 1), number, entry) if stored is None else stored
    connection.execute("INSERT INTO audit VALUES (?, ?, NULL, ?, NULL, NULL, ?)", (number, AT, action, value))


def move(connection: Thief, first: int, by: int) -> None:
    """Number the rows from `first` on anew."""
    connection.execute("UPDATE audit SET id = -id WHERE id >= ?", (first,))
    connection.execute("UPDATE audit SET id = -id + ? WHERE id < 0", (by,))


def swap(connection: Thief, one: int, other: int) -> None:
    for old, new in ((one, -1), (other, one), (-1, other)):
        connection.execute("UPDATE audit SET id = ? WHERE id = ?", (new, old))


def rewrite(connection: Thief, first: int, last: int) -> None:
    """Write the hashes from `first` to `last` anew, over what stands there."""
    previous = digest(connection, first - 1)
    rows = connection.execute(
        "SELECT id, at, actor_id, action, subject, detail FROM audit WHERE id BETWEEN ? AND ? ORDER BY id",
        (first, last),
    ).fetchall()
    for number, *entry in rows:
        previous = chained(previous, number, AuditEntry(*entry))
        connection.execute("UPDATE audit SET hash = ? WHERE id = ?", (previous, number))


def set_head(connection: Thief, number: int) -> None:
    connection.execute("UPDATE audit_head SET entry = ?, hash = ?", (number, digest(connection, number)))


def test_what_is_appended_is_a_whole_chain(audited: Database) -> None:
    assert found(audited) is None
    with audited.read() as tx:
        rows = list(audit.everything(tx))
        assert audit.head(tx) == (COUNT, rows[-1].hash)
    assert [(row.number, row.entry) for row in rows] == list(enumerate(ENTRIES, start=1))
    # Written out, so that an auditor's own program can follow: SHA-256(hash before || canonical JSON).
    text = b'[1,"2026-01-01T00:00:00.000000Z",1,"action.1","account:1","{\\"remote\\":\\"192.0.2.1\\"}"]'
    assert rows[0].hash == hashlib.sha256(bytes(32) + text).digest()
    previous = rows[0].hash
    for number, entry, stored in rows[1:]:
        text = json.dumps([number, *entry], separators=(",", ":"), ensure_ascii=False).encode()
        assert stored == hashlib.sha256(previous + text).digest()
        previous = stored


def test_an_empty_one(database: Database) -> None:
    assert found(database) is None
    append(database, [], [])
    assert found(database) is None
    with database.read() as tx:
        assert audit.head(tx) == (0, BEGINNING)


def test_nobody_changes_it_by_mistake(audited: Database) -> None:
    connection = sqlite3.connect(audited.path)
    for statement in ("UPDATE audit SET action = 'z'", "DELETE FROM audit WHERE id = 9", "DELETE FROM audit"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("number", [1, 2, 5, 8, 9])
@pytest.mark.parametrize(
    "change",
    [
        f"at = '{LATER}'",
        "actor_id = NULL",
        "action = 'other'",
        "action = ''",
        "subject = NULL",
        "subject = 'account:77'",
        "detail = NULL",
        "detail = detail || ' '",
        "action = CAST(x'ff' AS TEXT)",  # not UTF-8
        "detail = '\\ud800'",
        "hash = zeroblob(32)",
        "id = 60",
        "id = -3",
    ],
)
def test_each_column_of_a_row(audited: Database, number: int, change: str) -> None:
    tamper(audited, f"UPDATE audit SET {change} WHERE id = {number}")
    expected = (INSERTED, -3, -3) if change == "id = -3" else (ALTERED, number, number)
    assert named(audited) == expected


@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 3), (2, 2), (5, 5), (4, 7), (8, 8), (9, 9), (6, 9), (1, 9)])
def test_rows_removed(audited: Database, first: int, last: int) -> None:
    delete = f"DELETE FROM audit WHERE id BETWEEN {first} AND {last}"
    tamper(audited, delete)
    assert named(audited) == (REMOVED, first, last)
    # What is written later does not heal it.
    append(audited, ENTRIES[:1], ENTRIES[1:3])
    assert named(audited) == (REMOVED, first, last)


@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 3), (5, 5), (4, 7), (7, 8), (8, 8)])
def test_rows_removed_and_those_behind_numbered_anew(audited: Database, first: int, last: int) -> None:
    gap = last - first + 1
    tamper(audited, f"DELETE FROM audit WHERE id BETWEEN {first} AND {last}", lambda c: move(c, last + 1, -gap))
    assert named(audited) == (REMOVED, first, last)


@pytest.mark.parametrize("fits", [False, True])
@pytest.mark.parametrize("many", [1, 2, 3])
@pytest.mark.parametrize("number", [1, 2, 5, 9])
def test_rows_inserted_and_those_behind_moved_up(audited: Database, number: int, many: int, *, fits: bool) -> None:
    def put_in(connection: Thief) -> None:
        move(connection, number, many)
        for place in range(number, number + many):
            insert(connection, place, None if fits else bytes(32))

    tamper(audited, put_in)
    assert named(audited) == (INSERTED, number, number + many - 1)


@pytest.mark.parametrize("fits", [False, True])
@pytest.mark.parametrize("many", [1, 3])
def test_rows_inserted_at_the_end(audited: Database, many: int, *, fits: bool) -> None:
    def put_in(connection: Thief) -> None:
        for number in range(COUNT + 1, COUNT + 1 + many):
            insert(connection, number, None if fits else bytes(32))

    tamper(audited, put_in)
    forged = (INSERTED, COUNT + 1, COUNT + many)
    assert named(audited) == forged
    # The shop goes on, behind them; what is written goes on from the head, and so does not make them its own.
    append(audited, ENTRIES[:1], ENTRIES[1:])
    assert named(audited) == forged
    # Nor does taking them out again.
    tamper(audited, f"DELETE FROM audit WHERE id BETWEEN {COUNT + 1} AND {COUNT + many}")
    assert named(audited) == (REMOVED, *forged[1:])


def test_a_row_inserted_far_behind_the_end(audited: Database) -> None:
    tamper(audited, lambda c: insert(c, 1000, bytes(32)))
    assert named(audited) == (INSERTED, 1000, 1000)


@pytest.mark.parametrize("number", [0, -5])
def test_a_row_inserted_in_front_of_the_first(audited: Database, number: int) -> None:
    tamper(audited, lambda c: insert(c, number, bytes(32)))
    assert named(audited) == (INSERTED, number, number)


def test_a_row_in_the_place_of_another(audited: Database) -> None:
    """Which cannot be told from one that was altered."""
    tamper(audited, "DELETE FROM audit WHERE id = 4", lambda c: insert(c, 4, bytes(32)))
    assert named(audited) == (ALTERED, 4, 4)


@pytest.mark.parametrize(("one", "other"), [(1, 2), (1, 9), (3, 6), (4, 5), (8, 9), (3, 9)])
def test_two_rows_that_changed_places(audited: Database, one: int, other: int) -> None:
    tamper(audited, lambda c: swap(c, one, other))
    damage = found(audited)
    assert damage is not None
    assert damage[:3] == (ALTERED, one, one)
    assert f"row {other} now" in str(damage)


def test_two_rows_that_changed_contents(audited: Database) -> None:
    tamper(
        audited,
        "UPDATE audit SET action = CASE id WHEN 3 THEN 'action.6' ELSE 'action.3' END WHERE id IN (3, 6)",
    )
    assert named(audited) == (ALTERED, 3, 3)


@pytest.mark.parametrize("number", [1, 4, 8])
def test_a_row_altered_together_with_its_hash(audited: Database, number: int) -> None:
    """Looks like the next one altered, and the words say so."""
    tamper(audited, f"UPDATE audit SET action = 'other' WHERE id = {number}", lambda c: rewrite(c, number, number))
    damage = found(audited)
    assert damage is not None
    assert damage[:3] == (ALTERED, number + 1, number + 1)
    assert f"or row {number} together with its hash" in str(damage)


@pytest.mark.parametrize("number", [1, 4, 9])
def test_every_hash_from_an_altered_row_on_written_anew(audited: Database, number: int) -> None:
    with audited.read() as tx:
        before = audit.head(tx)
    tamper(audited, f"UPDATE audit SET action = 'other' WHERE id = {number}", lambda c: rewrite(c, number, COUNT))
    damage = found(audited)
    assert damage is not None
    assert damage[:3] == (HEAD, COUNT, COUNT)
    assert "row 9 was altered together with its hash, or the head" in str(damage)
    # And with the head: only a hash that was noted down elsewhere tells.
    tamper(audited, lambda c: set_head(c, COUNT))
    assert found(audited) is None
    with audited.read() as tx:
        assert audit.head(tx) != before


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("hash = zeroblob(32)", (HEAD, 9, 9)),
        ("entry = 0", (HEAD, 0, 9)),
        ("entry = 4", (HEAD, 4, 9)),
        ("entry = 12", (REMOVED, 10, 12)),
        ("entry = 0, hash = zeroblob(32)", (INSERTED, 1, 9)),
        ("entry = 4, hash = (SELECT hash FROM audit WHERE id = 4)", (INSERTED, 5, 9)),
    ],
)
def test_the_head_changed(audited: Database, change: str, expected: tuple[Tampering, int, int]) -> None:
    tamper(audited, f"UPDATE audit_head SET {change}")
    assert named(audited) == expected


def test_the_head_set_back_over_a_removed_end(audited: Database) -> None:
    """Nothing in the file tells of it: a copy elsewhere has to."""
    tamper(audited, "DELETE FROM audit WHERE id > 6", lambda c: set_head(c, 6))
    assert found(audited) is None


def test_the_head_removed(audited: Database) -> None:
    tamper(audited, "DELETE FROM audit_head")
    assert named(audited) == (HEAD, 9, 9)
    # The shop goes on, and the check says so for ever.
    append(audited, ENTRIES[:2])
    assert named(audited) == (HEAD, 11, 11)
    tamper(audited, "UPDATE audit SET action = 'other' WHERE id = 11")
    assert named(audited) == (ALTERED, 11, 11)
    tamper(audited, "DELETE FROM audit")
    assert named(audited) == (HEAD, 0, 0)
    append(audited, ENTRIES[:1])
    assert named(audited) == (HEAD, 1, 1)


def test_the_first_of_several_is_named(audited: Database) -> None:
    tamper(audited, "DELETE FROM audit WHERE id = 7", "UPDATE audit SET action = 'other' WHERE id = 3")
    assert named(audited) == (ALTERED, 3, 3)


def test_more_rows_than_are_kept_in_memory(database: Database) -> None:
    many = REMEMBERED + 40
    append(database, [AuditEntry(AT, None, f"action.{n}") for n in range(1, 3 * many)])
    assert found(database) is None
    delete = f"DELETE FROM audit WHERE id BETWEEN 2 AND {many + 1}"
    # By as many as are missing at the end, so however many there were.
    tamper(database, delete, lambda c: move(c, many + 2, -many))
    assert named(database) == (REMOVED, 2, many + 1)


def test_without_a_head_as_an_export_is(audited: Database) -> None:
    with audited.read() as tx:
        rows = list(audit.everything(tx))
    assert examine(rows, None) is None
    assert examine(rows[:5], None) is None  # what is missing at the end is not missed
    assert examine([], None) is None
    changed = rows[-1]._replace(entry=rows[-1].entry._replace(action="other"))
    for damage in (
        examine([*rows[:-1], changed], None),
        examine([*rows[:-1], rows[-1]._replace(hash=bytes(32))], None),
    ):
        assert damage is not None
        assert damage[:3] == (ALTERED, 9, 9)
    assert examine([*rows[:3], *rows[5:]], None) == Damage(REMOVED, 4, 5)


def test_in_words() -> None:
    assert str(Damage(REMOVED, 4, 5)) == "rows 4 to 5 were removed"
    assert str(Damage(ALTERED, 4, 4, "its hash")) == "row 4 was altered (its hash)"
    assert str(Damage(HEAD, 4, 4, "the head is gone")) == "the head is gone"


def test_lists_by_account_and_action(database: Database) -> None:
    for number in (1, 2):
        row = accounts.AccountRow(
            AccountId(number), f"user{number}", Role.CUSTOMER, None, None, None, None, None,
            False, False, True, True, True, 0, 0, 0, AT,
        )  # fmt: skip
        database.writer.call(lambda tx, rows: [accounts.add(tx, [row]) for row in rows], row)
    one, two = AccountId(1), AccountId(2)
    append(
        database,
        [
            AuditEntry(AT, one, "login", "account:1"),
            AuditEntry(AT, two, "login", "account:2"),
            AuditEntry(AT, two, "account.disabled", "account:1"),
            AuditEntry(AT, one, "order.placed", "order:1"),
            AuditEntry(AT, None, "login.failed", "account:11"),
            AuditEntry(AT, None, "login.failed"),
        ],
    )
    with database.read() as tx:

        def numbers(before: int = 100, count: int = 10, **wanted: object) -> list[int]:
            return [row.number for row in audit.newest(tx, before, count, **wanted)]  # type: ignore[arg-type]

        assert numbers() == [6, 5, 4, 3, 2, 1]
        assert numbers(5, 2) == [4, 3]
        assert numbers(account=one) == [4, 3, 1]
        assert numbers(account=two) == [3, 2]
        assert numbers(3, account=two) == [2]
        assert numbers(count=2, account=one) == [4, 3]
        assert numbers(action="login") == [2, 1]
        assert numbers(action="login", account=one) == [1]
        assert numbers(action="nothing") == []
        assert [row.number for row in audit.of_account(tx, one, 0, 10)] == [1, 3, 4]
        assert [row.number for row in audit.of_account(tx, one, 1, 1)] == [3]
        assert [(row.number, name) for row, name in audit.everything_named(tx)] == [
            (1, "user1"), (2, "user2"), (3, "user2"), (4, "user1"), (5, None), (6, None),
        ]  # fmt: skip


def test_lists_are_found_by_their_indexes(database: Database) -> None:
    """None of them reads the whole table, or sorts."""
    with database.read() as tx:
        for statement in (
            *audit._NEWEST.values(),
            *audit._NEWEST_BY_ACTOR.values(),
            *audit._NEWEST_BY_SUBJECT.values(),
            audit._OLDEST_BY_ACTOR,
            audit._OLDEST_BY_SUBJECT,
        ):
            rendered = statement.render("sqlite")
            sql = rendered.sql
            given = {"beyond": 5, "count": 1, "of_actor": 1, "of_subject": "account:1", "of_action": "login"}
            plan = " ".join(
                row[3] for row in tx._cursor.execute(f"EXPLAIN QUERY PLAN {sql}", rendered.positions(given))
            )
            assert "SEARCH" in plan
            assert "TEMP" not in plan
            if "of_actor" in sql:
                assert "ix_audit_actor_id" in plan
            if "of_subject" in sql:
                assert "ix_audit_subject" in plan
