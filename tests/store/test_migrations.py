"""The migrated schema is the one that the program describes."""

# ruff: noqa: S608 -- the values are these tests' own

import re
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from securedelivery.store import migrations
from securedelivery.store.engine import Database, key_file
from securedelivery.store.schema import HEAD, metadata
from securedelivery.store.vault import KeySource

# The words' index, and what FTS5 and Alembic keep beside it.
NOT_OURS = ("products_words", "alembic_version", "sqlite_")


def test_head_is_the_last_revision() -> None:
    assert migrations.script().get_heads() == [HEAD]
    assert migrations.knows(HEAD)
    assert not migrations.knows("9999")


def test_the_tables_are_those_of_the_schema(database: Database) -> None:
    def ours(name: str | None, kind: str, _parents: object) -> bool:
        return not (kind == "table" and name is not None and name.startswith(NOT_OURS))

    with database.read() as tx:
        context = MigrationContext.configure(tx.connection, opts={"include_name": ours, "compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_so_are_their_constraints(database: Database, tmp_path: Path) -> None:
    """compare_metadata does not look at CHECK constraints; SQLite's own text of the tables holds everything."""
    engine = create_engine(f"sqlite:///{tmp_path}/other.db")
    metadata.create_all(engine)
    engine.dispose()

    def texts(path: Path) -> dict[str, set[str]]:
        connection = sqlite3.connect(path)
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'index') AND sql <> ''")
        found = {name: set(parts(sql)) for name, sql in rows if not name.startswith(NOT_OURS)}
        connection.close()
        return found

    assert texts(database.path) == texts(tmp_path / "other.db")


def parts(sql: str) -> list[str]:
    """What stands between the commas of the outermost brackets, and what stands before and behind them.

    ALTER TABLE adds a column to the line of the last one, so lines would not do.
    """
    found, depth = [""], 0
    for token in re.findall(r"'(?:[^']|'')*'|\s+|.", sql):
        depth += (token == "(") - (token == ")")
        if (depth, token) in ((0, ")"), (1, "("), (1, ",")):
            found.append("")
        else:
            found[-1] += " " if token.isspace() else token
    return [part.strip() for part in found if part.strip()]


def test_the_comparison_of_texts_sees_a_difference() -> None:
    one = "CREATE TABLE t (\n\ta INTEGER NOT NULL, b TEXT DEFAULT ')', \n\tCHECK (a IN (1, 2))\n) STRICT"
    assert parts(one) == ["CREATE TABLE t", "a INTEGER NOT NULL", "b TEXT DEFAULT ')'", "CHECK (a IN (1, 2))", "STRICT"]
    assert set(parts(one)) != set(parts(one.replace("2", "3")))
    assert set(parts(one)) != set(parts(one.replace("STRICT", "")))


AT = "2026-01-01T00:00:00.000000Z"
ACCOUNT = f"(1, 'alice', 'customer', NULL, NULL, 0, 0, 1, 1, 1, 0, 0, 0, '{AT}', NULL, NULL, NULL, 0, NULL)"
ORDER = (
    "(1, 1, 'k', zeroblob(32), 1, 'placed', 100, 0, 100, 'EUR', 0, 0, NULL, '000000',"
    f" '{AT}', '{AT}', zeroblob(29), 0, 0)"
)


@pytest.fixture
def connection(database: Database) -> sqlite3.Connection:
    connection = sqlite3.connect(database.path, isolation_level=None)
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute(f"INSERT INTO accounts VALUES {ACCOUNT}")
    connection.execute("INSERT INTO products VALUES (1, 'A-1', 'Name', '', 100, 1, 1)")
    connection.execute(f"INSERT INTO orders VALUES {ORDER}")
    connection.execute("INSERT INTO order_lines VALUES (1, 1, 1, 'A-1', 'Name', 1, 100, 100)")
    connection.execute(f"INSERT INTO points_ledger VALUES (1, 1, 1, 'earned', 5, '{AT}', '{AT}', 5)")
    connection.execute("INSERT INTO points_uses VALUES (1, 1, 1, 5)")
    connection.execute(f"INSERT INTO order_history VALUES (1, 1, 'confirmed', '{AT}', 1, NULL)")
    connection.execute(f"INSERT INTO audit VALUES (1, '{AT}', 1, 'login', NULL, NULL, zeroblob(32))")
    connection.execute(f"INSERT INTO conversations VALUES (1, 1, 'waiting', NULL, '{AT}', 1, 0, 1, 0, 0)")
    connection.execute(f"INSERT INTO messages VALUES (1, 1, 1, 0, '{AT}', 'k', zeroblob(29))")
    connection.execute("INSERT INTO retired_names VALUES (zeroblob(32))")
    connection.execute(f"INSERT INTO announcements VALUES (1, '{AT}', 'account', 1)")
    yield connection
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE products SET stock = -1",
        "UPDATE products SET price = -1",
        "UPDATE products SET price = 'cheap'",
        "UPDATE products SET active = 2",
        "INSERT INTO products VALUES (2, 'A-1', 'Other', '', 100, 1, 1)",
        "UPDATE accounts SET role = 'king'",
        "UPDATE accounts SET order_count = -1",
        "UPDATE accounts SET disabled = 2",
        "UPDATE accounts SET created_at = 'yesterday'",
        "UPDATE accounts SET email = 'alice@example.org'",  # plain text where sealed text belongs
        "UPDATE orders SET address = '1 Main Street'",
        "UPDATE messages SET text = 'hello'",
        "UPDATE order_history SET note = 'a note'",
        f"INSERT INTO accounts VALUES {ACCOUNT.replace('(1,', '(2,')}",
        "UPDATE orders SET status = 'lost'",
        "UPDATE orders SET total = 99",
        "UPDATE orders SET discount = 101, total = -1",
        "UPDATE orders SET subtotal = 9007199254740992, total = 9007199254740992",
        "UPDATE orders SET version = 0",
        "UPDATE orders SET fingerprint = zeroblob(31)",
        "UPDATE orders SET delivery_code = '12345'",
        "UPDATE orders SET account_id = 2",
        f"INSERT INTO orders VALUES {ORDER.replace('(1,', '(2,', 1)}",
        "UPDATE order_lines SET quantity = 0, total = 0",
        "UPDATE order_lines SET total = 101",
        "UPDATE order_lines SET product_id = 2",
        "UPDATE points_ledger SET remaining = -1",
        "UPDATE points_uses SET points = 0",
        f"INSERT INTO points_ledger VALUES (1, 2, 1, 'earned', 0, '{AT}', '{AT}', 0)",
        f"INSERT INTO points_ledger VALUES (1, 2, 1, 'found', 1, '{AT}', '{AT}', 0)",
        "UPDATE points_ledger SET points = 6",
        "UPDATE points_ledger SET entry = 2, remaining = 0",
        "DELETE FROM points_ledger",
        "UPDATE audit SET action = 'logout'",
        "DELETE FROM audit",
        "DELETE FROM accounts",
        "UPDATE conversations SET status = 'assigned'",
        "UPDATE conversations SET agent_id = 1",
        "UPDATE conversations SET status = 'lost'",
        "UPDATE conversations SET staff_unread = -1",
        f"INSERT INTO conversations VALUES (2, 1, 'waiting', NULL, '{AT}', 0, 0, 0, 0, 0)",
        f"INSERT INTO messages VALUES (1, 1, 1, 0, '{AT}', 'other', zeroblob(29))",
        f"INSERT INTO messages VALUES (1, 2, 1, 0, '{AT}', 'k', zeroblob(29))",
        f"INSERT INTO messages VALUES (1, 0, 1, 0, '{AT}', 'other', zeroblob(29))",
        f"INSERT INTO messages VALUES (2, 1, 1, 0, '{AT}', 'other', zeroblob(29))",
        "UPDATE messages SET staff = 2",
        "UPDATE messages SET text = NULL",
        "UPDATE retired_names SET digest = zeroblob(31)",
        "INSERT INTO retired_names VALUES (zeroblob(32))",
        "INSERT INTO vault VALUES (2, NULL, zeroblob(60))",
        "INSERT INTO audit_head VALUES (2, 0, zeroblob(32))",
        "UPDATE announcements SET at = 'now'",
    ],
)
def test_what_must_never_be_is_refused_by_the_database(connection: sqlite3.Connection, statement: str) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)


def test_what_was_left_of_points_moves_into_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    path.touch(0o600)
    keys = KeySource(key_file(path))
    vault, lock = keys.new()
    engine = create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        config = migrations._config()
        config.attributes.update(connection=connection, vault=vault, lock=lock)
        migrations.command.upgrade(config, "0002")
        connection.exec_driver_sql(f"INSERT INTO accounts VALUES {ACCOUNT}")
        rows = ((1, "earned", 5, f"'{AT}'"), (2, "redeemed", -4, "NULL"), (3, "earned", 7, f"'{AT}'"))
        for entry, reason, points, expires_at in rows:
            values = f"(1, {entry}, NULL, '{reason}', {points}, '{AT}', {expires_at})"
            connection.exec_driver_sql(f"INSERT INTO points_ledger VALUES {values}")
        connection.exec_driver_sql(f"INSERT INTO points_lots VALUES (1, 1, '{AT}', 1), (1, 3, '{AT}', 7)")
    engine.dispose()
    with Database.open(f"sqlite:///{path}", keys=keys) as database, database.read() as tx:
        tables = tx.connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE name = 'points_lots'").all()
        left = tx.connection.exec_driver_sql("SELECT entry, remaining FROM points_ledger ORDER BY entry").all()
    assert (tables, left) == ([], [(1, 1), (2, 0), (3, 7)])
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute("UPDATE points_ledger SET reason = 'expired'")
    connection.close()
