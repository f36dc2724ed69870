"""Opening a database, and what is said when that does not work."""

import os
import re
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import bindparam, select

from securedelivery.errors import StoreError
from securedelivery.store import engine, products
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.products import ProductRow
from securedelivery.store.schema import products as table
from securedelivery.store.statements import Insertion, Statement
from securedelivery.store.vault import KeySource

STOCK = Statement(select(table.c.stock).where(table.c.id == bindparam("number")))


def put(database: Database, stock: int, number: int = 1) -> None:
    row = ProductRow(number, f"SKU-{number}", "A name", "", 100, stock, True)
    database.writer.call(lambda tx, commands: [products.add(tx, [row]) for _ in commands], None)


def stock(database: Database, number: int = 1) -> int | None:
    with database.read() as tx:
        found = tx.row(STOCK, {"number": number})
    return None if found is None else found[0]


def test_what_was_written_is_there_after_closing(url: str) -> None:
    with Database.open(url) as database:
        put(database, 7)
    with Database.open(url, create=False) as database:
        assert stock(database) == 7


def test_the_files_are_nobody_elses_to_read(database: Database) -> None:
    put(database, 1)
    files = list(database.path.parent.iterdir())
    assert {file.name for file in files} == {"shop.db", "shop.db-wal", "shop.db-shm", "shop.db.key"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_commits_reach_the_disk(database: Database) -> None:
    put(database, 1)
    tx = database.writer._tx
    assert tx is not None
    with database.read() as reader:
        for connection in (tx.connection, reader.connection):
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_database_at_head_is_opened_without_alembic(url: str) -> None:
    Database.open(url).close()
    program = (
        "import sys; from securedelivery.store.engine import Database;"
        f"Database.open({url!r}).close(); print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


_ASIDE = """
import os, sys
from securedelivery.errors import StoreError
from securedelivery.store.engine import Database
forks = []
os.register_at_fork(before=lambda: forks.append(1))
try:
    with Database.open({url!r}, aside=True) as database:
        print(database.created, database.new_key is not None, "alembic" in sys.modules, len(forks))
except StoreError as error:
    print(error, len(forks))
"""


def _open_aside(url: str) -> str:
    command = [sys.executable, "-c", _ASIDE.format(url=url)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_child_can_migrate_and_keep_what_that_takes_from_a_server(url: str) -> None:
    assert _open_aside(url) == "True True False 1"
    with Database.open(url, create=False) as database:
        put(database, 7)
    assert _open_aside(url) == "False False False 0"  # nothing was to be done


def test_what_a_child_could_not_migrate_is_told_by_its_parent(url: str) -> None:
    with Database.open(url) as database:
        path = database.path
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'").connection.commit()
    connection.close()
    said = _open_aside(url)
    assert "newer version of this program" in said
    assert said.endswith(" 1")


def test_two_at_once_make_one_database(url: str) -> None:
    failures: list[BaseException] = []
    ready = threading.Barrier(4)

    def make() -> None:
        ready.wait()
        try:
            Database.open(url).close()
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_reader_sees_one_moment_and_does_not_wait(database: Database) -> None:
    put(database, 1)
    inside, go_on = threading.Event(), threading.Event()

    def slow(tx: object, commands: object) -> list[None]:
        products.take(tx, [(1, 1)])  # type: ignore[arg-type]
        inside.set()
        assert go_on.wait(10)
        return [None]

    writing = threading.Thread(target=database.writer.call, args=(slow, None))
    with database.read() as tx:
        before = tx.row(STOCK, {"number": 1})
        writing.start()
        assert inside.wait(10)
        assert stock(database) == 1  # another reader, in the middle of the writer's transaction
        go_on.set()
        writing.join()
        assert tx.row(STOCK, {"number": 1}) == before == (1,)
    assert stock(database) == 0


def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(StoreError, match=r"shop\.db: attempt to write a readonly database"), database.read() as tx:
        products.take(tx, [(1, 1)])
    assert stock(database) is None


def test_a_reader_that_fails_leaves_the_next_one_alone(database: Database) -> None:
    with pytest.raises(KeyError), database.read():
        raise KeyError
    assert len(database._idle) == 1
    with database.read() as tx:
        tx.control("ROLLBACK")  # no transaction left to end: such a connection is not used again
    assert len(database._idle) == 0
    assert stock(database) is None


def test_rows_may_come_one_by_one(database: Database) -> None:
    for number in (1, 2, 3):
        put(database, number, number)
    with database.read() as tx:
        assert [row.stock for row in products.everything(tx)] == [1, 2, 3]


def test_a_statement_may_bring_literals(database: Database) -> None:
    from sqlalchemy import update

    put(database, 5)
    lower = Statement(update(table).where(table.c.id == bindparam("number")).values(stock=table.c.stock - 2))
    database.writer.call(lambda tx, commands: [tx.write(lower, [{"number": 1}]) for _ in commands], None)
    assert stock(database) == 3


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("no url at all", "'no url at all' is not a database URL; write sqlite:////absolute/path"),
        ("postgresql://localhost/shop", "postgresql is not supported; write sqlite:////absolute/path"),
        ("sqlite://", "a database in memory would lose every order"),
        ("sqlite:///:memory:", "a database in memory would lose every order"),
        (
            "sqlite:////no/such/folder/shop.db",
            "the folder of /no/such/folder/shop.db does not exist; make it: mkdir -p",
        ),
        ("sqlite:////tmp", "/tmp is a folder; name a file in it, such as /tmp/shop.db"),
    ],
)
def test_a_url_that_cannot_be_used(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=re.escape(message)):
        Database.open(url)


def test_without_create_a_missing_file_stays_missing(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no database .*shop\.db; check --database"):
        Database.open(url, create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database(url: str, tmp_path: Path) -> None:
    (tmp_path / "shop.db").write_text("sku,name\n" * 500)
    with pytest.raises(StoreError, match=r"shop\.db: file is not a database; .*name another file, or restore a backup"):
        Database.open(url)


def test_a_database_of_another_program(url: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE songs (id)")
    connection.close()
    with pytest.raises(StoreError, match=r"shop\.db is a database of another program; name another file"):
        Database.open(url)


def test_a_database_of_a_newer_program(url: str, tmp_path: Path) -> None:
    Database.open(url).close()
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(
        StoreError, match=r"shop\.db was written by a newer version .*revision 9999.*update the program"
    ):
        Database.open(url)


def test_a_database_that_another_process_keeps_locked(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "OPENING_SECONDS", 0.1)
    other = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(
        StoreError, match=r"shop\.db: database is locked; another process keeps it locked; end that one"
    ):
        Database.open(url)
    other.close()
    Database.open(url).close()


def test_opening_waits_for_a_process_that_makes_the_database(url: str, tmp_path: Path) -> None:
    """On a slow disk that takes longer than SQLite itself waits."""
    other = sqlite3.connect(tmp_path / "shop.db", isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("BEGIN IMMEDIATE")
    done = threading.Timer(engine.BUSY_MILLISECONDS / 1_000 * 1.5, other.close)
    done.start()
    Database.open(url).close()
    done.join()


def test_a_migration_that_fails_leaves_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from securedelivery.store import migrations

    upgrade = migrations.upgrade

    def torn(connection: object, vault: object, lock: object) -> None:
        connection.exec_driver_sql("CREATE TABLE half (done)")  # type: ignore[attr-defined]
        connection.exec_driver_sql("no SQL")  # type: ignore[attr-defined]

    monkeypatch.setattr(migrations, "upgrade", torn)
    with pytest.raises(StoreError, match=r"shop\.db: near \"no\": syntax error; check the disk"):
        Database.open(url)
    monkeypatch.setattr(migrations, "upgrade", upgrade)
    Database.open(url).close()


def test_whoever_has_made_the_key_is_told(url: str, tmp_path: Path) -> None:
    with Database.open(url) as database:
        assert database.new_key == tmp_path / "shop.db.key"
    with Database.open(url) as database:
        assert database.new_key is None
    keys = KeySource(tmp_path / "elsewhere")
    with Database.open(f"sqlite:///{tmp_path}/other.db", keys=keys) as database:
        assert database.new_key == tmp_path / "elsewhere"
    keys = KeySource(tmp_path / "unused", "a word that only the operator knows")
    with Database.open(f"sqlite:///{tmp_path}/third.db", keys=keys) as database:
        assert database.new_key is None
    assert not (tmp_path / "unused").exists()


def test_a_database_without_its_key_says_what_that_means(url: str, tmp_path: Path) -> None:
    Database.open(url).close()
    (tmp_path / "shop.db.key").unlink()
    with pytest.raises(
        StoreError, match=r"the key of this database, .*shop\.db\.key, is missing; .* ever be read again"
    ):
        Database.open(url)
    assert not (tmp_path / "shop.db.key").exists()


def test_a_database_that_has_lost_the_row_of_its_key(url: str, tmp_path: Path) -> None:
    Database.open(url).close()
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("DELETE FROM vault")
    connection.close()
    with pytest.raises(StoreError, match="the database has lost what tells its key from others; restore a backup"):
        Database.open(url)


def test_an_open_database_that_does_nothing_can_be_told_from_a_closed_one(url: str, tmp_path: Path) -> None:
    """By SQLite's lock: nobody can take the file out of WAL mode, which restore() asks for."""

    def leave_wal_mode() -> str:
        other = sqlite3.connect(tmp_path / "shop.db", timeout=0, isolation_level=None)
        try:
            return str(other.execute("PRAGMA journal_mode=DELETE").fetchone()[0])
        finally:
            other.close()

    with Database.open(url), pytest.raises(sqlite3.OperationalError, match="database is locked"):
        leave_wal_mode()
    assert leave_wal_mode() == "delete"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody with fewer rights")
@pytest.mark.parametrize(
    ("mode_of_folder", "mode_of_file", "message"),
    [
        (0o777, 0o444, "shop.db cannot be read and written by this user; change its owner or mode (0600)"),
        (0o755, 0o666, "cannot be written; SQLite keeps its log there: give this user the right to write it"),
    ],
)
def test_a_file_that_is_not_ours(mode_of_folder: int, mode_of_file: int, message: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        Database.open(f"sqlite:///{folder}/shop.db").close()
        (folder / "shop.db").chmod(mode_of_file)
        folder.chmod(mode_of_folder)
        program = (
            "import os; from securedelivery.store.engine import Database, StoreError\n"
            "os.setgid(65534); os.setuid(65534)\n"
            f"try: Database.open('sqlite:///{folder}/shop.db')\n"
            "except StoreError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert message in done.stdout


@pytest.mark.parametrize("name", ["we?ird", "per%cent", "ha#sh", "a b"])
def test_odd_names_of_folders_are_taken_as_they_stand(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = folder / "shop.db"
    with Database.open("sqlite:///shop.db") as database:
        assert database.path == path
        assert database.created
    assert {found.name for found in tmp_path.iterdir()} == {name}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_size > 0


@pytest.mark.parametrize("many", [0, 1, 2, 63, 64, 65, 130, 191])
def test_rows_are_inserted_all_of_them_in_order(database: Database, many: int) -> None:
    insertion = Insertion(table, ("id", "sku", "name", "description", "price", "stock", "active"))
    rows = [(number, f"SKU-{number}", "Name", "", number, 0, 1) for number in range(1, many + 1)]
    assert all(len(positions) % 7 == 0 for _, positions in insertion.statements("sqlite", rows))

    def insert(tx: Transaction, commands: Sequence[object]) -> list[object]:
        tx.insert(insertion, rows)
        return [None for _ in commands]

    database.writer.call(insert, None)
    with database.read() as tx:
        found = tx.connection.exec_driver_sql("SELECT id, sku, price FROM products ORDER BY id").all()
    assert [tuple(row) for row in found] == [(number, f"SKU-{number}", number) for number in range(1, many + 1)]
    assert len({sql for sql, _ in insertion.statements("sqlite", rows)}) <= 7


def test_columns_of_an_insertion_stand_in_the_tables_order() -> None:
    with pytest.raises(AssertionError, match="products"):
        Insertion(table, ("sku", "id"))
