"""Backups beside people at work, and back again while nobody is."""

import errno
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from store.test_vault import PASSPHRASE, account, plain_database, put, words_in

from securedelivery.errors import StoreError
from securedelivery.model import AccountId
from securedelivery.store import accounts, audit, backup, inspection
from securedelivery.store.audit import AuditEntry
from securedelivery.store.backup import OpensWith
from securedelivery.store.engine import Database, key_file
from securedelivery.store.vault import KeySource

AT = "2026-01-01T00:00:00.000000Z"


def record(database: Database, *actions: str) -> None:
    entries = [AuditEntry(AT, None, action) for action in actions]
    database.writer.call(lambda tx, commands: [audit.append(tx, entries) for _ in commands], None)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a database of two accounts and three rows of audit, which nobody has open."""
    with Database.open(f"sqlite:///{tmp_path}/shop.db") as database:
        put(database, account(1, email="alice@example.org"), account(2, address="2 Side Street"))
        record(database, "a", "b", "c")
    return tmp_path


def keys_of(path: Path) -> KeySource:
    return KeySource(key_file(path))


def emails(path: Path, keys: KeySource | None = None) -> list[str | None]:
    """Of the accounts, in order."""
    with Database.open(f"sqlite:///{path}", keys=keys, create=False) as database, database.read() as tx:
        numbers = [number for (number,) in tx.connection.exec_driver_sql("SELECT id FROM accounts ORDER BY id")]
        return [accounts.by_id(tx, AccountId(number)).email for number in numbers]


def change(path: Path) -> None:
    """What happens after the backup."""
    with Database.open(f"sqlite:///{path}") as database:
        put(database, account(3, email="carol@example.org"))
        record(database, "d")


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


# Making one


def test_a_backup_is_the_database_in_one_file(place: Path) -> None:
    target = place / "monday.db"
    before = os.umask(0)
    try:
        made = backup.backup(place / "shop.db", target)
    finally:
        os.umask(before)
    assert made == (target.stat().st_size, OpensWith.KEY_FILE, None)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert names(place) == {"shop.db", "shop.db.key", "monday.db"}
    assert target.read_bytes()[18:20] == b"\x01\x01"  # no write-ahead log: one file is all of it
    assert emails(target, keys_of(place / "shop.db")) == ["alice@example.org", None]


def test_the_key_is_not_in_it(place: Path) -> None:
    backup.backup(place / "shop.db", place / "monday.db")
    key = (place / "shop.db.key").read_text().splitlines()[-1]
    stored = (place / "monday.db").read_bytes()
    assert bytes.fromhex(key) not in stored
    assert key.encode() not in stored
    assert b"alice@example.org" not in stored
    with pytest.raises(StoreError, match=r"the key of this database, .*monday\.db\.key, is missing"):
        emails(place / "monday.db")


def test_nor_is_what_was_deleted(place: Path) -> None:
    connection = sqlite3.connect(place / "shop.db", isolation_level=None)
    connection.execute("PRAGMA secure_delete=OFF")
    sku = "SKU-THAT-WAS-DELETED"
    connection.execute(f"INSERT INTO products VALUES (1, '{sku}', 'Name', '', 100, 1, 1)")  # noqa: S608
    connection.execute("INSERT INTO products_words (products_words) VALUES ('delete-all')")
    connection.execute("DROP TRIGGER products_delete")
    connection.execute("DELETE FROM products")
    connection.close()
    assert sku.encode() in (place / "shop.db").read_bytes()
    backup.backup(place / "shop.db", place / "monday.db")
    assert sku.encode() not in (place / "monday.db").read_bytes()


def test_what_is_still_in_the_log_is_in_the_backup(place: Path) -> None:
    with Database.open(f"sqlite:///{place}/shop.db") as database:
        put(database, account(3, email="carol@example.org"))
        assert (place / "shop.db-wal").stat().st_size > 0
        backup.backup(place / "shop.db", place / "monday.db")
        put(database, account(4, email="dave@example.org"))
    assert emails(place / "monday.db", keys_of(place / "shop.db")) == ["alice@example.org", None, "carol@example.org"]


def test_writers_do_not_wait_for_a_backup_and_it_shows_one_moment(place: Path) -> None:
    """A writer adds pairs of accounts all the time: a backup never holds half a pair."""
    stop, failures, written = threading.Event(), [], [2]

    def write(database: Database) -> None:
        try:
            while not stop.is_set():
                number = written[0]
                put(database, account(number + 1), account(number + 2))
                written[0] += 2
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    with Database.open(f"sqlite:///{place}/shop.db", busy_seconds=0.5) as database:
        thread = threading.Thread(target=write, args=(database,))
        thread.start()
        for number in range(10):
            before = written[0]
            backup.backup(place / "shop.db", place / f"{number}.db")
            with inspection.looking(place / f"{number}.db") as connection:
                (count,) = connection.execute("SELECT count(*) FROM accounts").fetchone()
            assert before <= count <= written[0] + 2
            assert count % 2 == 0
        stop.set()
        thread.join()
    assert failures == []
    assert written[0] > 20


def test_a_backup_needs_neither_key_nor_migration(tmp_path: Path) -> None:
    plain_database(tmp_path / "old.db")
    made = backup.backup(tmp_path / "old.db", tmp_path / "monday.db")
    assert made.opens_with is OpensWith.NOTHING
    assert names(tmp_path) == {"old.db", "monday.db"}
    with inspection.looking(tmp_path / "monday.db") as connection:
        assert inspection.revision(connection) == "0001"


def test_a_backup_that_opens_with_a_passphrase(tmp_path: Path) -> None:
    keys = KeySource(tmp_path / "unused", PASSPHRASE)
    Database.open(f"sqlite:///{tmp_path}/shop.db", keys=keys).close()
    assert backup.backup(tmp_path / "shop.db", tmp_path / "monday.db").opens_with is OpensWith.PASSPHRASE
    assert emails(tmp_path / "monday.db", keys) == []


def test_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "100% of it? #1"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Database.open("sqlite:///shop.db").close()
    backup.backup(Path("shop.db"), Path("a b?.db"))
    backup.restore(Path("a b?.db"), Path("shop.db"), keys_of(Path("shop.db")), replace=True)
    assert len([name for name in names(folder) if name.startswith("shop.db.replaced-")]) == 1
    assert {"shop.db", "shop.db.key", "a b?.db"} < names(folder)
    assert names(tmp_path) == {folder.name}


@pytest.mark.parametrize(
    ("path", "target", "message"),
    [
        ("none.db", "monday.db", "there is no database .*none.db; check --database"),
        ("shop.db", "shop.db", "there is a file .*shop.db already; name another one"),
        ("shop.db", "dangling", "there is a file .*dangling already; name another one"),
        ("shop.db", "none/monday.db", "none/monday.db: No such file or directory; check"),
        ("shop.db", "shop.db.key/monday.db", "monday.db: Not a directory; check"),
        ("shop.db.key", "monday.db", "monday.db: file is not a database; check"),
        ("songs.db", "monday.db", "songs.db: this is an empty database, or one of another program; name another"),
        ("empty.db", "monday.db", "empty.db: this is an empty database, or one of another program; name another"),
    ],
)
def test_what_cannot_be_backed_up_leaves_no_file(place: Path, path: str, target: str, message: str) -> None:
    with closing(sqlite3.connect(place / "songs.db")) as connection:
        connection.execute("CREATE TABLE songs (id)")
    (place / "empty.db").touch()
    (place / "dangling").symlink_to("nowhere")
    before = names(place)
    with pytest.raises(StoreError, match=message):
        backup.backup(place / path, place / target)
    assert names(place) == before


def test_a_damaged_database_makes_no_backup(place: Path) -> None:
    content = bytearray((place / "shop.db").read_bytes())
    content[4096 * 3 : 4096 * 4] = os.urandom(4096)
    (place / "shop.db").write_bytes(content)
    with pytest.raises(StoreError, match=r"malformed|damaged"):
        backup.backup(place / "shop.db", place / "monday.db")
    assert names(place) == {"shop.db", "shop.db.key"}


def test_a_copy_that_is_not_whole_gets_no_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "damage", lambda _connection: "row 1 missing from index")
    with pytest.raises(
        StoreError, match=r"shop\.db is damaged \(row 1 missing from index\), so no backup was made of it"
    ):
        backup.backup(place / "shop.db", place / "monday.db")
    assert names(place) == {"shop.db", "shop.db.key"}


def test_an_interrupt_leaves_no_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(backup, "_to_disk", interrupt)
    with pytest.raises(KeyboardInterrupt):
        backup.backup(place / "shop.db", place / "monday.db")
    assert names(place) == {"shop.db", "shop.db.key"}


def test_a_full_disk_leaves_no_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(backup, "_to_disk", full)
    with pytest.raises(StoreError, match=r"monday\.db: No space left on device; check that the disk has room"):
        backup.backup(place / "shop.db", place / "monday.db")
    assert names(place) == {"shop.db", "shop.db.key"}


def test_a_file_that_appears_meanwhile_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def appear(_path: Path) -> None:
        (place / "monday.db").write_text("mine")

    monkeypatch.setattr(backup, "_to_disk", appear)
    with pytest.raises(StoreError, match=r"there is a file .*monday\.db already"):
        backup.backup(place / "shop.db", place / "monday.db")
    assert (place / "monday.db").read_text() == "mine"


@pytest.mark.parametrize("appears", [False, True])
def test_a_file_system_without_hard_links(place: Path, monkeypatch: pytest.MonkeyPatch, appears: bool) -> None:
    def refuse(_source: Path, name: Path) -> None:
        if appears:
            name.write_text("mine")
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    if appears:
        with pytest.raises(StoreError, match="there is a file"):
            backup.backup(place / "shop.db", place / "monday.db")
        assert (place / "monday.db").read_text() == "mine"
    else:
        backup.backup(place / "shop.db", place / "monday.db")
        assert emails(place / "monday.db", keys_of(place / "shop.db")) == ["alice@example.org", None]


def test_another_fault_of_the_file_system_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_source: Path, _name: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreError, match="Input/output error"):
        backup.backup(place / "shop.db", place / "monday.db")


def test_a_backup_that_is_killed_leaves_no_file_of_its_name(place: Path) -> None:
    program = (
        "import os, pathlib; from securedelivery.store import backup\n"
        "backup._to_disk = lambda _: os._exit(9)\n"
        f"backup.backup(pathlib.Path({str(place / 'shop.db')!r}), pathlib.Path({str(place / 'monday.db')!r}))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert not (place / "monday.db").exists()
    (left,) = names(place) - {"shop.db", "shop.db.key"}
    assert left.startswith(".monday.db.")
    assert stat.S_IMODE((place / left).stat().st_mode) == 0o700
    backup.backup(place / "shop.db", place / "monday.db")


# Putting one back


@pytest.fixture
def monday(place: Path) -> Path:
    """A backup, behind which the database has gone on."""
    backup.backup(place / "shop.db", place / "monday.db")
    change(place / "shop.db")
    return place / "monday.db"


def restore(place: Path, source: Path, *, replace: bool = True, **options: KeySource) -> backup.Restored:
    keys = options.get("keys", keys_of(place / "shop.db"))
    return backup.restore(source, place / "shop.db", keys, replace=replace)


def test_a_backup_takes_the_place_of_the_database_which_is_kept(place: Path, monday: Path) -> None:
    restored = restore(place, monday)
    assert restored.outdated is False
    kept = restored.kept
    assert kept is not None
    assert names(place) == {"shop.db", "shop.db.key", "monday.db", kept.name}
    assert kept.name.startswith("shop.db.replaced-2")
    assert {stat.S_IMODE(file.stat().st_mode) for file in place.iterdir()} == {0o600}
    assert emails(place / "shop.db") == ["alice@example.org", None]
    assert emails(kept, keys_of(place / "shop.db")) == ["alice@example.org", None, "carol@example.org"]
    with Database.open(f"sqlite:///{place}/shop.db") as database, database.read() as tx:
        assert audit.verify(tx) is None
    assert restore(place, monday).kept != kept


def test_a_database_that_is_lost_comes_back(place: Path, monday: Path) -> None:
    (place / "shop.db").unlink()
    (place / "shop.db-wal").write_bytes(b"of the lost one")
    (place / "shop.db-shm").write_bytes(b"of the lost one")
    assert restore(place, monday, replace=False) == (None, False, 0)
    (aside,) = names(place) - {"shop.db", "shop.db.key", "monday.db"}
    assert aside.startswith("shop.db.replaced-")
    assert aside.endswith("-wal")
    assert emails(place / "shop.db") == ["alice@example.org", None]


def test_a_database_is_not_replaced_unasked(place: Path, monday: Path) -> None:
    with pytest.raises(StoreError, match=r"there is a database .*shop\.db already; --force replaces it, and keeps it"):
        restore(place, monday, replace=False)
    assert len(emails(place / "shop.db")) == 3


def test_what_a_crash_left_in_the_log_is_kept_too(place: Path, monday: Path) -> None:
    program = (
        "import os; from store.test_vault import account, put\n"
        "from securedelivery.store.engine import Database\n"
        f"database = Database.open('sqlite:///{place}/shop.db')\n"
        "put(database, account(4, email='dave@example.org')); os._exit(9)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", program], check=False, env=environment).returncode == 9
    assert (place / "shop.db-wal").stat().st_size > 0
    kept = restore(place, monday).kept
    assert kept is not None
    assert emails(kept, keys_of(place / "shop.db"))[2:] == ["carol@example.org", "dave@example.org"]
    assert emails(place / "shop.db") == ["alice@example.org", None]


_HOLDER = """
import sys
from securedelivery.store.engine import Database
database = Database.open(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
database.close()
"""


@contextmanager
def somebody_with(path: Path) -> Iterator[None]:
    """Another process that has the database open and does nothing."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, f"sqlite:///{path}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "open\n"
        yield
        process.stdin.close()
        assert process.wait(20) == 0


def test_nothing_is_restored_while_somebody_has_the_database_open(place: Path, monday: Path) -> None:
    with somebody_with(place / "shop.db"):
        before = names(place)
        with pytest.raises(
            StoreError, match=r"shop\.db is in use; stop the server, and other commands that work on it"
        ):
            restore(place, monday)
        assert names(place) == before
        assert len(emails(place / "shop.db")) == 3
    restore(place, monday)


def test_somebody_in_this_process_counts_too(place: Path, monday: Path) -> None:
    with Database.open(f"sqlite:///{place}/shop.db"), pytest.raises(StoreError, match="is in use"):
        restore(place, monday)


@pytest.mark.parametrize("damage", ["header", "truncated", "text", "schema"])
def test_a_database_that_is_damaged_beyond_opening_is_replaced(place: Path, monday: Path, damage: str) -> None:
    path = place / "shop.db"
    content = path.read_bytes()
    damaged = {
        "header": b"\0" * 100 + content[100:],
        "truncated": content[: 4096 * 2 + 100],
        "text": b"sku,name\n" * 500,
        "schema": content[:100] + os.urandom(3_996) + content[4_096:],
    }[damage]
    path.write_bytes(damaged)
    kept = restore(place, monday).kept
    assert kept is not None
    assert emails(path) == ["alice@example.org", None]
    if damage in ("header", "text"):
        assert kept.read_bytes() == damaged


def test_a_damaged_database_in_use_is_not_replaced(place: Path, monday: Path) -> None:
    with somebody_with(place / "shop.db"):
        with (place / "shop.db").open("r+b") as file:
            file.write(b"\0" * 100)
        Path(f"{place / 'shop.db'}-wal").unlink()  # whose first page would still be whole
        with pytest.raises(StoreError, match="is in use"):
            restore(place, monday)


def test_an_older_backup_is_migrated_when_it_is_opened(place: Path) -> None:
    plain_database(place / "old.db")
    backup.backup(place / "old.db", place / "monday.db")
    assert restore(place, place / "monday.db").outdated is True
    (place / "old.db").unlink()
    (place / "monday.db").unlink()
    assert words_in(place) != set()
    assert emails(place / "shop.db")[0] == "planted-mail@example.org"
    assert words_in(place) == set()


def test_a_link_to_the_database_stays_a_link(place: Path, monday: Path, tmp_path: Path) -> None:
    real = tmp_path / "disk"
    real.mkdir()
    (place / "shop.db").rename(real / "shop.db")
    (place / "shop.db").symlink_to(real / "shop.db")
    kept = restore(place, monday).kept
    assert kept is not None
    assert kept.parent == real
    assert (place / "shop.db").is_symlink()
    assert emails(real / "shop.db", keys_of(place / "shop.db")) == ["alice@example.org", None]


def tamper(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def unchanged(place: Path, message: str, source: Path, **options: KeySource) -> None:
    """It is refused with that message, and nothing has happened."""
    before = {file.name: file.read_bytes() for file in place.iterdir() if file.is_file()}
    with pytest.raises(StoreError, match=message):
        restore(place, source, **options)
    assert {file.name: file.read_bytes() for file in place.iterdir() if file.is_file()} == before


def test_a_missing_backup(place: Path) -> None:
    unchanged(
        place, r"there is no backup .*none\.db; name a file that `securedelivery admin backup` made", place / "none.db"
    )
    unchanged(place, "there is no backup", place)


def test_a_backup_of_another_program(place: Path, monday: Path) -> None:
    tamper(place / "songs.db", "CREATE TABLE songs (id)")
    unchanged(place, r"songs\.db was not restored: this is an empty database, or one of another", place / "songs.db")
    (place / "empty.db").touch()
    unchanged(place, r"empty\.db was not restored: this is an empty database, or one of", place / "empty.db")
    (place / "words.db").write_text("sku,name\n" * 500)
    unchanged(place, r"words\.db was not restored: it is damaged \(file is not a database\)", place / "words.db")


def test_a_backup_of_a_newer_program(place: Path, monday: Path) -> None:
    tamper(monday, "UPDATE alembic_version SET version_num = '9999'")
    unchanged(
        place, r"was not restored: a newer version of this program made it \(revision 9999, this one knows", monday
    )


def test_a_backup_under_another_key(place: Path, monday: Path) -> None:
    keys = KeySource(place / "other.key")
    keys.new()
    unchanged(
        place,
        r"monday\.db was not restored: the key in .*other\.key is not the one of this database",
        monday,
        keys=keys,
    )
    unchanged(place, "opens with a key file, not with a passphrase", monday, keys=KeySource(place / "x", PASSPHRASE))
    keys = KeySource(place / "none.key")
    unchanged(place, r"was not restored: the key of this database, .*none\.key, is missing; without", monday, keys=keys)
    assert not (place / "none.key").exists()


@pytest.mark.parametrize(
    ("tampering", "named"),
    [
        ("UPDATE audit SET action = 'z' WHERE id = 2", "row 2 was altered"),
        ("DELETE FROM audit WHERE id = 3", "row 3 was removed"),
        ("DELETE FROM audit_head", "the head of the chain was removed"),
    ],
)
def test_a_backup_whose_audit_was_tampered_with(place: Path, monday: Path, tampering: str, named: str) -> None:
    tamper(monday, "DROP TRIGGER audit_update", "DROP TRIGGER audit_delete", tampering)
    unchanged(place, f"was not restored: its audit was tampered with: {named}", monday)


def test_so_of_a_backup_from_before_the_audit_had_a_head(place: Path) -> None:
    plain_database(place / "old.db")
    row = f"(1, '{AT}', NULL, 'login', NULL, NULL, zeroblob(32))"
    tamper(place / "old.db", f"INSERT INTO audit VALUES {row}")  # noqa: S608
    backup.backup(place / "old.db", place / "monday.db")
    unchanged(place, "its audit was tampered with: row 1 was altered", place / "monday.db")


def test_a_backup_that_lost_the_row_of_its_key(place: Path, monday: Path) -> None:
    tamper(monday, "DELETE FROM vault")
    unchanged(place, "was not restored: it has lost what tells its key from others", monday)


def test_every_damaged_page_of_a_backup_is_noticed(place: Path, monday: Path) -> None:
    content = monday.read_bytes()
    damaged = place / "damaged.db"
    noticed = 0
    for page in range(len(content) // 4_096):
        changed = bytearray(content)
        changed[page * 4_096 : page * 4_096 + 100] = b"\xa5" * 100
        damaged.write_bytes(changed)
        with pytest.raises(StoreError, match=r"damaged\.db was not restored: "):
            restore(place, damaged)
        noticed += 1
    assert noticed > 20
    assert len(emails(place / "shop.db")) == 3


def test_a_database_in_use_is_no_backup(place: Path, monday: Path) -> None:
    with Database.open(f"sqlite:///{place}/live.db") as live:
        record(live, "a")
        message = (
            r"live\.db is a database in use, or of a program that crashed \(live\.db-wal belongs to it\), not a backup"
        )
        with pytest.raises(StoreError, match=message):
            restore(place, place / "live.db")


def test_the_database_itself_is_no_backup(place: Path) -> None:
    (place / "link.db").symlink_to("shop.db")
    for name in ("shop.db", "link.db"):
        unchanged(place, "is the database itself, not a backup of it", place / name)


def test_places_that_cannot_hold_a_database(place: Path, monday: Path) -> None:
    keys = keys_of(place / "shop.db")
    with pytest.raises(StoreError, match=r"the folder of .* does not exist; make it: mkdir -p"):
        backup.restore(monday, place / "none" / "shop.db", keys, replace=True)
    with pytest.raises(StoreError, match="is not a file; name another one with --database"):
        backup.restore(monday, place, keys, replace=True)


def test_a_restore_that_is_killed_in_the_middle_leaves_the_old_database(place: Path, monday: Path) -> None:
    """In the middle of the transaction that overwrites it: SQLite takes it back at the next opening."""
    program = (
        "import os, pathlib, sqlite3; from securedelivery.store import backup\n"
        "from securedelivery.store.vault import KeySource\n"
        "class Killed(sqlite3.Connection):\n"
        "    def backup(self, target, **options):\n"
        "        if target.execute('PRAGMA locking_mode').fetchone() == ('exclusive',):\n"
        "            super().backup(target, pages=3, progress=lambda *_: os._exit(9))\n"
        "        super().backup(target, **options)\n"
        "backup.sqlite3.connect = lambda *a, connect=sqlite3.connect, **o: connect(*a, factory=Killed, **o)\n"
        f"folder = pathlib.Path({str(place)!r})\n"
        "backup.restore(folder / 'monday.db', folder / 'shop.db', KeySource(folder / 'shop.db.key'), replace=True)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert emails(place / "shop.db") == ["alice@example.org", None, "carol@example.org"]
    restore(place, monday)
    assert emails(place / "shop.db") == ["alice@example.org", None]


def test_a_disk_that_fills_up_in_the_middle_leaves_the_old_database(
    place: Path, monday: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(backup, "_sync_folder", full)
    with pytest.raises(StoreError, match="No space left on device"):
        restore(place, monday)
    assert len(emails(place / "shop.db")) == 3


@pytest.mark.parametrize(
    ("fault", "words"), [("leaving", "disk I/O error"), ("overwriting", "database or disk is full")]
)
def test_another_fault_of_sqlite_leaves_the_old_database(
    place: Path, monday: Path, monkeypatch: pytest.MonkeyPatch, fault: str, words: str
) -> None:
    class Faulty(sqlite3.Connection):
        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
            if fault == "leaving" and sql == "PRAGMA journal_mode=DELETE":
                raise sqlite3.OperationalError(words)
            return super().execute(sql, *parameters)

        def backup(self, target: sqlite3.Connection, **options: object) -> None:
            if target.execute("PRAGMA locking_mode").fetchone() == ("exclusive",):
                raise sqlite3.OperationalError(words)
            super().backup(target, **options)  # type: ignore[arg-type]

    connect = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(backup.sqlite3, "connect", lambda *given, **named: connect(*given, **named, factory=Faulty))
        with pytest.raises(StoreError, match=rf"shop\.db: {words}; check that the disk has room"):
            restore(place, monday)
    assert len(emails(place / "shop.db")) == 3


def test_looking_changes_nothing(place: Path) -> None:
    before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in place.iterdir()}
    with inspection.looking(place / "shop.db") as connection:
        assert inspection.damage(connection, quick=True) is None
        assert inspection.tampering(connection) is None
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM vault")
    assert {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in place.iterdir()} == before


def test_looking_sees_what_is_in_the_log(place: Path) -> None:
    with Database.open(f"sqlite:///{place}/shop.db") as database:
        put(database, account(3))
        with inspection.looking(place / "shop.db") as connection:
            assert connection.execute("SELECT count(*) FROM accounts").fetchone() == (3,)


def test_looking_at_what_is_not_there(place: Path) -> None:
    with (
        pytest.raises(StoreError, match=r"none\.db: unable to open database file"),
        inspection.looking(place / "none.db"),
    ):
        pass
    assert not (place / "none.db").exists()


def test_a_fault_of_the_disk_is_no_damage(place: Path) -> None:
    with inspection.looking(place / "shop.db") as connection:
        connection.set_progress_handler(lambda: 1, 1)
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            inspection.damage(connection)
