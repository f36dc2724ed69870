"""The migrated schema is the one that the program describes."""

# ruff: noqa: S608 -- the values are these tests' own

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from securedelivery.store import migrations
from securedelivery.store.engine import Database
from securedelivery.store.schema import HEAD, metadata

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
        found = {name: {line.strip().rstrip(",") for line in sql.splitlines()} for name, sql in rows}
        connection.close()
        return {name: lines for name, lines in found.items() if not name.startswith(NOT_OURS)}

    assert texts(database.path) == texts(tmp_path / "other.db")


AT = "2026-01-01T00:00:00.000000Z"
ACCOUNT = f"(1, 'alice', 'customer', NULL, NULL, NULL, NULL, NULL, 0, 0, 1, 1, 1, 0, 0, 0, '{AT}')"
ORDER = f"(1, 1, 'k', zeroblob(32), 1, 'placed', 100, 0, 100, 'EUR', 'x', 0, 0, NULL, '000000', '{AT}', '{AT}')"


@pytest.fixture
def connection(database: Database) -> sqlite3.Connection:
    connection = sqlite3.connect(database.path, isolation_level=None)
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute(f"INSERT INTO accounts VALUES {ACCOUNT}")
    connection.execute("INSERT INTO products VALUES (1, 'A-1', 'Name', '', 100, 1, 1)")
    connection.execute(f"INSERT INTO orders VALUES {ORDER}")
    connection.execute("INSERT INTO order_lines VALUES (1, 1, 1, 'A-1', 'Name', 1, 100, 100)")
    connection.execute(f"INSERT INTO points_ledger VALUES (1, 1, 1, 'earned', 5, '{AT}', '{AT}')")
    connection.execute(f"INSERT INTO points_lots VALUES (1, 1, '{AT}', 5)")
    connection.execute("INSERT INTO points_uses VALUES (1, 1, 1, 5)")
    connection.execute(f"INSERT INTO order_history VALUES (1, 1, 'confirmed', '{AT}', 1, NULL)")
    connection.execute(f"INSERT INTO audit VALUES (1, '{AT}', 1, 'login', NULL, NULL, zeroblob(32))")
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
        "UPDATE points_lots SET remaining = 0",
        "UPDATE points_lots SET entry = 2",
        "UPDATE points_uses SET points = 0",
        f"INSERT INTO points_ledger VALUES (1, 2, 1, 'earned', 0, '{AT}', '{AT}')",
        f"INSERT INTO points_ledger VALUES (1, 2, 1, 'found', 1, '{AT}', '{AT}')",
        "UPDATE points_ledger SET points = 6",
        "DELETE FROM points_ledger",
        "UPDATE audit SET action = 'logout'",
        "DELETE FROM audit",
        "DELETE FROM accounts",
    ],
)
def test_what_must_never_be_is_refused_by_the_database(connection: sqlite3.Connection, statement: str) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
