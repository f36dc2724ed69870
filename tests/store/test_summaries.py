"""Statements about months: each finds its rows by an index, however many orders there are."""

import sqlite3
from typing import Any

import pytest

from securedelivery.store import summaries
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.statements import Statement

AT = "2026-11-01T08:00:00.000000Z"
STATEMENTS = {name: each for name, each in vars(summaries).items() if isinstance(each, Statement)}
READING = sorted(name for name, each in STATEMENTS.items() if each.render("sqlite").sql.startswith("SELECT"))


@pytest.mark.parametrize("name", READING)
def test_nothing_is_found_by_looking_at_everything(database: Database, name: str) -> None:
    rendered = STATEMENTS[name].render("sqlite")
    with database.read() as tx:
        found = tx.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {rendered.sql}", tuple("1" for _ in rendered.names))
        plan = [row[3] for row in found]
    tables = ("orders", "order_lines", "order_history", "points_ledger", "accounts", "outbox", "mail_months")
    assert any(step.startswith("SEARCH ") for step in plan)
    assert [step for step in plan if step.startswith(tuple(f"SCAN {table}" for table in tables))] == []
    if "OF_ACCOUNT" in name and "MAIL" not in name:
        assert "SEARCH orders USING INDEX ix_orders_account_id_id (account_id=?)" in plan


def test_the_plans_are_of_all_that_is_asked() -> None:
    assert len(READING) == 16


def write(database: Database, work: Any) -> None:
    database.writer.call(lambda tx, commands: [work(tx) for _ in commands], None)


def rows(database: Database) -> list[tuple[Any, ...]]:
    with database.read() as tx:
        text = "SELECT kind, route, account_id, period, state, due_at FROM outbox"
        return [tuple(row) for row in tx.connection.exec_driver_sql(text)]


def test_one_mail_a_month_for_the_operator(database: Database) -> None:
    def add(tx: Transaction) -> None:
        summaries.add(tx, "2026-10", [None], AT)

    write(database, add)
    assert rows(database) == [("operator_summary", "summaries", None, "2026-10", "waiting", AT)]
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        write(database, add)
    write(database, lambda tx: summaries.add(tx, "2026-11", [None], AT))
    assert len(rows(database)) == 2


def test_what_waits_is_not_revived(database: Database) -> None:
    write(database, lambda tx: summaries.add(tx, "2026-10", [None], AT))
    write(database, lambda tx: summaries.revive(tx, 1, "2026-12-01T00:00:00.000000Z"))
    assert rows(database)[0][-1] == AT


def test_a_month_is_told_of_once(database: Database) -> None:
    write(database, lambda tx: summaries.tell(tx, "2026-10", AT))
    with database.read() as tx:
        assert summaries.told(tx, ["2026-09", "2026-10"]) == {"2026-10"}
        assert summaries.told(tx, []) == set()
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        write(database, lambda tx: summaries.tell(tx, "2026-10", AT))
