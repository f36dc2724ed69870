"""Rows of web sessions, below the rules: tests/service/test_web_sessions.py has those."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError
from store.test_vault import account, put

from securedelivery.model import AccountId, Timestamp
from securedelivery.store import backup, web_sessions
from securedelivery.store.engine import Database, Transaction, key_file
from securedelivery.store.vault import KeySource
from securedelivery.store.web_sessions import WebSessionRow

ONE, TWO = AccountId(1), AccountId(2)


def at(day: int) -> Timestamp:
    return Timestamp(f"2026-03-{day:02}T00:00:00.000000Z")


def row(number: int, of: AccountId = ONE, *, credentials: int = 0, opened: int = 1, seen: int = 0) -> WebSessionRow:
    return WebSessionRow(bytes([number]) * 32, of, credentials, False, at(opened), at(seen or opened))


def write(database: Database, run: Callable[[Transaction], Any]) -> None:
    database.writer.call(lambda tx, commands: [run(tx) for _ in commands], None)


def numbers(database: Database) -> set[int]:
    """Of the rows that are there."""
    with database.read() as tx:
        return {digest[0] for (digest,) in tx.connection.exec_driver_sql("SELECT digest FROM web_sessions")}


@pytest.fixture
def filled(database: Database) -> Database:
    put(database, account(1), account(2))
    return database


def test_what_is_written_is_found(filled: Database) -> None:
    rows = [row(1, seen=2), row(2, TWO, credentials=7)]
    write(filled, lambda tx: [web_sessions.add(tx, one, 9) for one in rows])
    with filled.read() as tx:
        assert [web_sessions.by_digest(tx, one.digest) for one in rows] == rows
        assert web_sessions.by_digest(tx, b"x" * 32) is None


def test_only_the_newest_of_the_account_stay(filled: Database) -> None:
    write(filled, lambda tx: web_sessions.add(tx, row(9, TWO, opened=1), 2))
    rows = [row(1, opened=3), row(2, opened=1), row(3, opened=2), row(4, opened=4)]
    write(filled, lambda tx: [web_sessions.add(tx, one, 2) for one in rows])
    assert numbers(filled) == {1, 4, 9}


def test_a_look(filled: Database) -> None:
    write(filled, lambda tx: [web_sessions.add(tx, row(one), 9) for one in (1, 2)])
    write(filled, lambda tx: web_sessions.touch(tx, b"\1" * 32, at(5)))
    write(filled, lambda tx: web_sessions.touch(tx, b"\7" * 32, at(5)))
    with filled.read() as tx:
        assert web_sessions.by_digest(tx, b"\1" * 32) == row(1, seen=5)
        assert web_sessions.by_digest(tx, b"\2" * 32) == row(2)
    assert numbers(filled) == {1, 2}


def test_ends(filled: Database) -> None:
    write(filled, lambda tx: [web_sessions.add(tx, one, 9) for one in (row(1), row(2), row(3, TWO), row(4, TWO))])
    write(filled, lambda tx: web_sessions.end(tx, b"\1" * 32))
    assert numbers(filled) == {2, 3, 4}
    write(filled, lambda tx: web_sessions.end_all(tx, TWO))
    assert numbers(filled) == {2}


def test_what_is_over_is_forgotten(filled: Database) -> None:
    rows = (
        row(1, opened=10, seen=20),
        row(2, opened=9, seen=20),
        row(3, opened=15, seen=19),
        row(4, credentials=1, opened=20),  # the account has 0
        row(5, TWO, opened=20),
        row(6, opened=20),
    )
    write(filled, lambda tx: [web_sessions.add(tx, one, 9) for one in rows])
    write(filled, lambda tx: web_sessions.forget(tx, idle=at(20), oldest=at(10)))
    assert numbers(filled) == {1, 5, 6}


@pytest.mark.parametrize(
    "bad",
    [
        row(1)._replace(digest=b"short"),
        row(1)._replace(account_id=AccountId(99)),
        row(1)._replace(opened_at=Timestamp("yesterday")),
        row(1)._replace(seen_at=Timestamp("2026-03-01")),
    ],
)
def test_the_schema_takes_nothing_else(filled: Database, bad: WebSessionRow) -> None:
    with pytest.raises((IntegrityError, sqlite3.IntegrityError)):
        write(filled, lambda tx: web_sessions.add(tx, bad, 9))
    assert numbers(filled) == set()


def test_nobody_is_logged_in_after_a_backup_was_put_back(tmp_path: Path) -> None:
    """Who has logged out since then must not be logged in again."""
    with Database.open(f"sqlite:///{tmp_path}/shop.db") as database:
        put(database, account(1))
        write(database, lambda tx: web_sessions.add(tx, row(1), 9))
    backup.backup(tmp_path / "shop.db", tmp_path / "monday.db")
    keys = KeySource(key_file(tmp_path / "shop.db"))
    backup.restore(tmp_path / "monday.db", tmp_path / "shop.db", keys, replace=True)
    with Database.open(f"sqlite:///{tmp_path}/shop.db", create=False) as database:
        assert numbers(database) == set()
        with database.read() as tx:
            assert tx.connection.exec_driver_sql("SELECT count(*) FROM accounts").fetchone()[0] == 1


def test_looks_use_an_index(filled: Database) -> None:
    """However many sessions there are."""
    plans = {}
    with filled.read() as tx:
        for name in ("_BY_DIGEST", "_TOUCH", "_END", "_END_ALL", "_KEEP"):
            rendered = getattr(web_sessions, name).render("sqlite")
            found = tx.connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN {rendered.sql}", tuple("1" for _ in rendered.names)
            )
            plans[name] = [str(line[3]) for line in found]
    assert {name: plan for name, plan in plans.items() if not plan or any("SCAN" in step for step in plan)} == {}
