"""The catalogue's index of words, and how it came into older databases."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from securedelivery.errors import StoreError
from securedelivery.store import migrations, products
from securedelivery.store.engine import Database, Transaction, key_file
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


def test_a_letter_that_sqlite_does_not_know_finds_nothing(database: Database) -> None:
    """Its words end there, Python's do not."""
    with database.read() as tx:
        assert products.active(tx, "a\u19b0b", 0, 10) == []
    connection = sqlite3.connect(database.path)
    connection.execute("DROP TABLE products_words")
    connection.close()
    with pytest.raises(StoreError, match="no such table"), database.read() as tx:
        products.active(tx, "a", 0, 10)


ODD = 'quote " slash \\ tab \t line \u2028 bell \x07 \U0001f4a9 \u00e9 e\u0301 \uffff'


def test_what_an_order_reads_of_products_comes_as_it_is(database: Database) -> None:
    rows = [
        products.ProductRow(1, "A", ODD, ODD, 2**53 - 1, 2**53 - 1, True),  # type: ignore[arg-type]
        products.ProductRow(2, "B'][{", "", "", 0, 0, False),  # type: ignore[arg-type]
    ]

    def add(tx: Transaction, commands: Sequence[object]) -> list[object]:
        products.add(tx, rows)
        return list(commands)

    database.writer.call(add, None)
    with database.read() as tx:
        found = products.offers(tx, ["A", "B'][{", "C"])
        assert products.offers(tx, []) == {}
    assert found == {
        row.sku: products.Offer(row.id, row.sku, row.name, row.price, row.stock, row.active) for row in rows
    }
    assert [type(offer.active) for offer in found.values()] == [bool, bool]
