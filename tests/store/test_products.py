"""The catalogue's index of words, and how it came into older databases."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from securedelivery.store import migrations, products
from securedelivery.store.engine import Database, key_file
from securedelivery.store.schema import HEAD
from securedelivery.store.vault import KeySource

LONG = "x" * 40  # longer than any beginning that has a list of its own


def older_database(path: Path, revision: str) -> None:
    """With three products, of which one is not sold."""
    path.touch(0o600)
    vault, lock = KeySource(key_file(path)).new()
    sqlalchemy = create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")
    with sqlalchemy.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        config = migrations._config()
        config.attributes.update(connection=connection, vault=vault, lock=lock)
        migrations.command.upgrade(config, revision)
        for number, name, active in ((1, "Samsung 990 PRO", 1), (2, f"Kühler {LONG}", 1), (3, "Samsung 850", 0)):
            connection.exec_driver_sql(
                "INSERT INTO products VALUES (?, ?, ?, 'for every computer', 100, 5, ?)",
                (number, f"A-{number}", name, active),
            )
        connection.exec_driver_sql("COMMIT")
    sqlalchemy.dispose()


def found(database: Database, query: str | None, after: int = 0) -> list[int]:
    with database.read() as tx:
        return [row.id for row in products.active(tx, query, after, 10)]


@pytest.mark.parametrize("revision", ["0002", "0003", HEAD])
def test_a_database_of_every_revision_is_searched_alike(tmp_path: Path, url: str, revision: str) -> None:
    older_database(tmp_path / "shop.db", revision)
    with Database.open(url) as database:
        assert found(database, None) == found(database, "comp") == found(database, "computer") == [1, 2]
        assert found(database, "samsung") == found(database, "samsung samsung s") == [1]
        assert found(database, LONG) == found(database, f"kuhler {LONG[:35]}") == [2]
        assert found(database, f"{LONG}x") == found(database, "850") == []
        assert found(database, "computer", after=1) == [2]
    changes(tmp_path / "shop.db")
    with Database.open(url) as database:
        assert found(database, None) == found(database, "computer") == [2, 3]
        assert found(database, "samsung") == [3]
        assert found(database, "lexar") == []


def changes(path: Path) -> None:
    """One product is sold no more, one is sold again, one comes and goes unsold; the index agrees with the table."""
    connection = sqlite3.connect(path)
    connection.execute("UPDATE products SET active = 0, name = 'Lexar' WHERE id = 1")
    connection.execute("UPDATE products SET active = 1 WHERE id = 3")
    connection.execute("INSERT INTO products VALUES (4, 'A-4', 'Lexar', '', 100, 5, 0)")
    connection.execute("UPDATE products SET name = 'Lexar NM790' WHERE id = 4")
    connection.execute("DELETE FROM products WHERE id = 4")
    connection.execute("INSERT INTO products_words (products_words) VALUES ('integrity-check')")
    connection.commit()
    connection.close()


def test_what_is_not_sold_is_passed_over(database: Database) -> None:
    """A list of the catalogue is read from an index of what is sold, however much is not."""
    rendered = products._ACTIVE.render("sqlite")
    given = tuple(rendered.positions({"after": 0, "count": 10}))
    with database.read() as tx:
        plan = tx.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {rendered.sql}", given).all()
    assert [step[3] for step in plan] == ["SEARCH products USING INDEX ix_products_active_id (active=? AND id>?)"]
