"""The chain of the audit."""

# ruff: noqa: S608 -- the values are these tests' own

import hashlib
import sqlite3

import pytest

from securedelivery.model import Timestamp
from securedelivery.store import audit
from securedelivery.store.audit import AuditEntry
from securedelivery.store.engine import Database

AT = Timestamp("2026-01-01T00:00:00.000000Z")
ENTRIES = [AuditEntry(AT, None, action, f"account:{n}", '{"remote":"192.0.2.1"}') for n, action in enumerate("abcdef")]


@pytest.fixture
def audited(database: Database) -> Database:
    for part in (ENTRIES[:2], ENTRIES[2:], []):
        database.writer.call(lambda tx, commands: [audit.append(tx, command) for command in commands], part)
    return database


def test_what_is_appended_is_a_whole_chain(audited: Database) -> None:
    with audited.read() as tx:
        rows = list(audit.everything(tx))
        assert audit.broken(tx) is None
    assert [(number, entry) for number, entry, _ in rows] == list(enumerate(ENTRIES, start=1))
    # Written out, so that an auditor's own program can follow: SHA-256(hash before || canonical JSON).
    assert rows[0][2] == audit.chained(bytes(32), 1, ENTRIES[0])
    assert rows[1][2] == audit.chained(rows[0][2], 2, ENTRIES[1])
    text = b'[1,"2026-01-01T00:00:00.000000Z",null,"a","account:0","{\\"remote\\":\\"192.0.2.1\\"}"]'
    assert rows[0][2] == hashlib.sha256(bytes(32) + text).digest()


@pytest.mark.parametrize(
    ("tampering", "named"),
    [
        ("UPDATE audit SET action = 'z' WHERE id = 3", 3),
        ("UPDATE audit SET subject = NULL WHERE id = 1", 1),
        ("UPDATE audit SET actor_id = 1 WHERE id = 6", 6),
        ("UPDATE audit SET hash = zeroblob(32) WHERE id = 4", 4),
        ("DELETE FROM audit WHERE id = 3", 4),
        ("DELETE FROM audit WHERE id = 1", 2),
        ("UPDATE audit SET id = 60 WHERE id = 6", 60),
        (f"INSERT INTO audit VALUES (7, '{AT}', NULL, 'login', NULL, NULL, zeroblob(32))", 7),
    ],
)
def test_whoever_gets_past_the_triggers_is_found_out(audited: Database, tampering: str, named: int) -> None:
    connection = sqlite3.connect(audited.path)
    with connection:
        connection.execute("DROP TRIGGER audit_update")
        connection.execute("DROP TRIGGER audit_delete")
        connection.execute(tampering)
    connection.close()
    with audited.read() as tx:
        assert audit.broken(tx) == named
