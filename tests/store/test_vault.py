"""What is sealed stays sealed, and opens where it was sealed, with the key of its database, and nowhere else."""

# ruff: noqa: S608 -- the values are these tests' own

import errno
import hmac
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import create_engine
from sqlalchemy.exc import DatabaseError

from securedelivery.errors import DamagedRow, StoreError
from securedelivery.model import AccountId, Role, Timestamp
from securedelivery.store import accounts, engine, migrations, vault
from securedelivery.store.accounts import AccountRow
from securedelivery.store.engine import Database
from securedelivery.store.vault import KeySource, Lock, Sealed, Vault

EMAIL = Sealed("accounts", "email")
ADDRESS = Sealed("accounts", "address")
ORDER_ADDRESS = Sealed("orders", "address")
TEXT = Sealed("messages", "text")

KEY = bytes(range(32))
PASSPHRASE = "a word that only the operator knows"
AT = Timestamp("2026-01-01T00:00:00.000000Z")


@pytest.fixture
def sealing() -> Vault:
    return Vault(KEY)


def account(number: int, **members: str | None) -> AccountRow:
    return AccountRow(
        AccountId(number), f"account{number}", Role.CUSTOMER,
        **{"name": None, "email": None, "address": None, **members},
        certificate=None, password=None, certificate_required=False, disabled=False, mail_receipts=True,
        mail_summaries=True, mail_missed_chat=True, order_count=0, points=0, ledger_entries=0, created_at=AT,
    )  # fmt: skip


def put(database: Database, *rows: AccountRow) -> None:
    database.writer.call(lambda tx, commands: [accounts.add(tx, rows) for _ in commands], None)


def tamper(database: Database, *statements: str) -> None:
    connection = sqlite3.connect(database.path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


# Cells


@pytest.mark.parametrize("text", ["a", "1 Main Street, Springfield", "Grüße aus Köln 🚚\n", "x" * 4_000, ""])
def test_what_is_sealed_opens_again(sealing: Vault, text: str) -> None:
    cell = sealing.seal(TEXT, (3, 12), text)
    assert cell is not None
    assert len(cell) == len(text.encode()) + 28
    assert Vault(KEY).open(TEXT, (3, 12), cell) == text
    assert len(text) < 4 or text.encode() not in cell  # a single byte may be there by chance


def test_nothing_stays_nothing(sealing: Vault) -> None:
    assert sealing.seal(EMAIL, 17, None) is None
    assert sealing.open(EMAIL, 17, None) is None


def test_the_same_text_never_looks_the_same(sealing: Vault) -> None:
    cells = [sealing.seal(EMAIL, 17, "alice@example.org") for _ in range(1_000)]
    assert len({cell[:12] for cell in cells}) == len({cell[12:] for cell in cells}) == 1_000


def test_every_flipped_bit_is_noticed_and_the_row_named(sealing: Vault) -> None:
    cell = sealing.seal(EMAIL, 17, "alice@example.org")
    for position in range(len(cell)):
        for bit in range(8):
            altered = bytearray(cell)
            altered[position] ^= 1 << bit
            with pytest.raises(DamagedRow, match=r"^accounts\.email:17 is damaged") as damaged:
                sealing.open(EMAIL, 17, bytes(altered))
            assert damaged.value.cell == "accounts.email:17"
    assert sealing.open(EMAIL, 17, cell) == "alice@example.org"


def test_so_is_every_cut_and_every_addition(sealing: Vault) -> None:
    cell = sealing.seal(TEXT, (3, 12), "hello")
    for altered in (*(cell[:length] for length in range(len(cell))), cell + b"\0", b"\0" + cell, cell + cell):
        with pytest.raises(DamagedRow, match=r"^messages\.text:3/12 is damaged"):
            sealing.open(TEXT, (3, 12), altered)


@pytest.mark.parametrize(
    ("column", "row"),
    [(EMAIL, 18), (EMAIL, 1), (EMAIL, (17, 1)), (ADDRESS, 17), (ORDER_ADDRESS, 17), (Sealed("accounts_", "email"), 17)],
)
def test_a_cell_belongs_to_its_row_column_and_table(sealing: Vault, column: Sealed, row: int) -> None:
    cell = sealing.seal(EMAIL, 17, "alice@example.org")
    with pytest.raises(DamagedRow):
        sealing.open(column, row, cell)


def test_composed_keys_are_not_run_together(sealing: Vault) -> None:
    cell = sealing.seal(TEXT, (1, 12), "hello")
    for row in ((11, 2), (112,), (12, 1), 112):
        with pytest.raises(DamagedRow):
            sealing.open(TEXT, row, cell)


def test_another_key_opens_nothing(sealing: Vault) -> None:
    cell = sealing.seal(EMAIL, 17, "alice@example.org")
    for position in range(32):
        other = bytearray(KEY)
        other[position] ^= 1
        with pytest.raises(DamagedRow):
            Vault(bytes(other)).open(EMAIL, 17, cell)


def test_cells_of_earlier_programs_open_for_ever(sealing: Vault) -> None:
    """Written out: neither a change of this program nor of a library may make stored cells unreadable."""
    email = "000102030405060708090a0b0fa37135945d003d1157704e0f3a0e6cc38b26649ca0b7b8c506e2d11a81f805f1"
    assert sealing.open(EMAIL, 17, bytes.fromhex(email)) == "alice@example.org"
    text = "000102030405060708090a0b46c6af5def9136285b6fe5ff52c654e6851880dadf40c7"
    assert sealing.open(TEXT, (3, 12), bytes.fromhex(text)) == "Grüße"
    name = "4065f9c622fefc8ccec34852fa8184f76c917162184d7c968c669f0e147a02ce"
    assert sealing.digest("names", b"alice").hex() == name
    proof = (
        "000102030405060708090a0bb7e6c8262067561121dc65251ec3dd7a037afabbde59553cd70f6ad7b19f5d5f7ca6b82edc9f0da8aa"
        "2985d6179def73"
    )
    KeySource(Path("/nowhere"), PASSPHRASE).open(Lock(bytes(range(16)), bytes.fromhex(proof)))


def test_a_cell_is_what_its_docstring_says(sealing: Vault) -> None:
    """By another way: HKDF-Expand by hand, and AES-256-GCM with nonce and associated data in their places."""
    info = b"securedelivery vault 1, column accounts.email"
    key = hmac.digest(KEY, info + b"\x01", "sha256")
    cell = sealing.seal(EMAIL, 17, "alice@example.org")
    assert AESGCM(key).decrypt(cell[:12], cell[12:], b"accounts.email:17") == b"alice@example.org"


def test_a_digest_has_a_key_and_a_purpose(sealing: Vault) -> None:
    found = sealing.digest("names", b"alice")
    assert len(found) == 32
    assert found == Vault(KEY).digest("names", b"alice")
    others = [
        sealing.digest("names", b"alicf"),
        sealing.digest("other", b"alice"),
        Vault(bytes(32)).digest("names", b"alice"),
    ]
    assert found not in others
    assert len(set(others)) == 3


def test_a_vault_works_in_many_threads(sealing: Vault) -> None:
    failures: list[BaseException] = []
    ready = threading.Barrier(8)

    def work(number: int) -> None:
        ready.wait()
        try:
            for row in range(200):
                column = Sealed("table", f"column{row % 20}")
                assert sealing.open(column, row, sealing.seal(column, row, f"{number}/{row}")) == f"{number}/{row}"
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# Cells in a database


def test_a_cell_moved_to_another_row_is_named(database: Database) -> None:
    put(database, account(1, address="1 Main Street"), account(2, address="2 Side Street"))
    tamper(
        database,
        "CREATE TEMP TABLE kept AS SELECT address FROM accounts WHERE id = 1",
        "UPDATE accounts SET address = (SELECT address FROM accounts WHERE id = 2) WHERE id = 1",
        "UPDATE accounts SET address = (SELECT address FROM kept) WHERE id = 2",
    )
    for number in (1, 2):
        with pytest.raises(DamagedRow, match=rf"^accounts\.address:{number} is damaged"), database.read() as tx:
            accounts.by_id(tx, AccountId(number))


def test_a_cell_moved_to_another_column_is_named(database: Database) -> None:
    put(database, account(1, name="Alice Archer", address="1 Main Street"))
    tamper(database, "UPDATE accounts SET name = address")
    with pytest.raises(DamagedRow, match=r"^accounts\.name:1 is damaged"), database.read() as tx:
        accounts.by_username(tx, "account1")


def test_a_damaged_row_leaves_the_others_alone(database: Database) -> None:
    put(database, account(1, email="alice@example.org"), account(2, email="bob@example.org"))
    tamper(database, "UPDATE accounts SET email = zeroblob(45) WHERE id = 1")
    with database.read() as tx:
        bob = accounts.by_id(tx, AccountId(2))
    assert bob is not None
    assert bob.email == "bob@example.org"


def test_a_cell_of_another_database_does_not_open(database: Database, tmp_path: Path) -> None:
    put(database, account(1, email="alice@example.org"))
    with Database.open(f"sqlite:///{tmp_path}/other.db") as other:
        put(other, account(1, email="mallory@example.org"))
        tamper(
            database,
            f"ATTACH '{other.path}' AS other",
            "UPDATE accounts SET email = (SELECT email FROM other.accounts)",
        )
    with pytest.raises(DamagedRow), database.read() as tx:
        accounts.by_id(tx, AccountId(1))


def test_the_files_hold_none_of_it(database: Database, tmp_path: Path) -> None:
    words = {"name": "Alice Archer", "email": "alice@example.org", "address": "1 Main Street"}
    put(database, account(1, **words))
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"account1" in stored  # a look that would find something
    assert [word for word in words.values() if word.encode() in stored] == []


# The key file


def opened(source: KeySource, lock: Lock) -> bool:
    return source.open(lock).digest("same", b"") == source.open(lock).digest("same", b"")


def test_the_key_file_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made, lock = KeySource(tmp_path / "shop.key").new()
    finally:
        os.umask(before)
    path = tmp_path / "shop.key"
    assert [file.name for file in tmp_path.iterdir()] == ["shop.key"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    comment, second, key = path.read_text().splitlines()
    assert comment.startswith(
        "# The key of a securedelivery database. Keep a copy of this file, apart from the backups"
    )
    assert "can ever be read again" in second
    assert len(bytes.fromhex(key)) == 32
    assert lock.salt is None
    assert KeySource(path).open(lock).digest("x", b"y") == made.digest("x", b"y")


def test_a_key_file_that_is_there_is_used(tmp_path: Path) -> None:
    """As after a first start that was killed in its migration."""
    source = KeySource(tmp_path / "shop.key")
    first, _ = source.new()
    text = (tmp_path / "shop.key").read_text()
    second, lock = source.new()
    assert (tmp_path / "shop.key").read_text() == text
    assert first.digest("x", b"y") == second.digest("x", b"y") == source.open(lock).digest("x", b"y")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "shop.key"
    _, lock = KeySource(path).new()
    path.chmod(mode)
    for attempt in (lambda: KeySource(path).open(lock), KeySource(path).new):
        with pytest.raises(StoreError, match=rf"the key file {path} can be read by others; chmod 600 {path}"):
            attempt()
    path.chmod(0o400)
    KeySource(path).open(lock)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"# only words\n",
        b"00" * 31 + b"\n",
        b"00" * 33,
        b"zz" * 32,
        b"00" * 32 + b"\n" + b"11" * 32,
        b"\xff",
    ],
)
def test_a_file_that_holds_no_key_is_refused_and_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "shop.key"
    _, lock = KeySource(path).new()
    path.write_bytes(content)
    for attempt in (lambda: KeySource(path).open(lock), KeySource(path).new):
        with pytest.raises(StoreError, match=r"does not hold a key, which is one line of 64 hex digits"):
            attempt()
    assert path.read_bytes() == content


def test_a_missing_key_is_said_loudly_and_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "shop.key"
    _, lock = KeySource(path).new()
    path.unlink()
    with pytest.raises(StoreError) as missing:
        KeySource(path).open(lock)
    assert str(missing.value) == (
        f"the key of this database, {path}, is missing; without the right one no name, address, note or message in it"
        " can ever be read again: put it back from where you keep your copy, or name it as database.key_file"
    )
    assert not path.exists()


def test_the_key_of_another_database_is_said_loudly(tmp_path: Path) -> None:
    _, lock = KeySource(tmp_path / "shop.key").new()
    KeySource(tmp_path / "other.key").new()
    with pytest.raises(StoreError, match=r"the key in .*other\.key is not the one of this database; without the right"):
        KeySource(tmp_path / "other.key").open(lock)


def test_every_flipped_byte_of_the_proof_is_noticed(tmp_path: Path) -> None:
    source = KeySource(tmp_path / "shop.key")
    _, lock = source.new()
    for position in range(len(lock.proof)):
        proof = bytearray(lock.proof)
        proof[position] ^= 0xFF
        with pytest.raises(StoreError, match="is not the one of this database"):
            source.open(Lock(None, bytes(proof)))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("none/shop.key", "cannot be made: No such file or directory; check its folder"),
        ("folder", "cannot be read: Is a directory; check its owner and mode"),
        ("a file/shop.key", "cannot be read: Not a directory; check its owner and mode"),
    ],
)
def test_a_place_that_cannot_hold_a_key(tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "folder").mkdir(0o700)
    (tmp_path / "a file").touch()
    with pytest.raises(StoreError, match=message):
        KeySource(tmp_path / place).new()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody with fewer rights")
def test_a_key_of_somebody_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "shop.key"
    KeySource(path).new()
    program = (
        "import os, pathlib\nfrom securedelivery.store.vault import KeySource, StoreError\n"
        f"os.chdir({str(tmp_path)!r}); os.setgid(65534); os.setuid(65534)\n"
        "try: KeySource(pathlib.Path('shop.key')).new()\n"
        "except StoreError as error: print(error)"
    )
    tmp_path.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "the key file shop.key cannot be read: Permission denied; check its owner and mode\n"


def test_a_key_file_is_whole_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="cannot be made: No space left on device"):
            KeySource(tmp_path / "shop.key").new()
    assert list(tmp_path.iterdir()) == []
    KeySource(tmp_path / "shop.key").new()


def test_whoever_is_second_takes_the_key_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process makes the file between our look and our own."""
    path, link = tmp_path / "shop.key", os.link
    others: list[Vault] = []

    def overtaken(source: Path, name: Path) -> None:
        if not others:
            others.append(Vault(b"\x07" * 32))
            path.touch(0o600)
            path.write_text("07" * 32 + "\n")
        link(source, name)

    monkeypatch.setattr(os, "link", overtaken)
    mine, _ = KeySource(path).new()
    assert mine.digest("x", b"y") == others[0].digest("x", b"y")
    assert [file.name for file in tmp_path.iterdir()] == ["shop.key"]


def test_a_key_that_vanishes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", lambda _source, _name: None)
    with pytest.raises(StoreError, match="has just been made and is gone"):
        KeySource(tmp_path / "shop.key").new()


_MAKER = """
import pathlib, sys
from securedelivery.store.vault import KeySource
print("ready", flush=True)
for line in sys.stdin:
    print(KeySource(pathlib.Path(line.strip())).new()[0].digest("x", b"y").hex(), flush=True)
"""


def test_processes_that_start_at_once_make_one_key(tmp_path: Path) -> None:
    makers = [
        subprocess.Popen([sys.executable, "-c", _MAKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    try:
        assert [maker.stdout.readline() for maker in makers] == ["ready\n"] * 4
        for number in range(50):
            for maker in makers:
                maker.stdin.write(f"{tmp_path}/{number}.key\n")
                maker.stdin.flush()
            assert len({maker.stdout.readline() for maker in makers} - {""}) == 1
    finally:
        for maker in makers:
            maker.communicate()
    assert len(list(tmp_path.iterdir())) == 50


# A passphrase


def test_a_passphrase_opens_what_it_has_sealed(tmp_path: Path) -> None:
    source = KeySource(tmp_path / "unused.key", PASSPHRASE)
    made, lock = source.new()
    assert lock.salt is not None
    assert len(lock.salt) == 16
    assert source.open(lock).digest("x", b"y") == made.digest("x", b"y")
    assert list(tmp_path.iterdir()) == []


def test_the_same_passphrase_makes_another_key_for_another_database(tmp_path: Path) -> None:
    source = KeySource(tmp_path / "unused.key", PASSPHRASE)
    (first, one), (second, other) = source.new(), source.new()
    assert one.salt != other.salt
    assert first.digest("x", b"y") != second.digest("x", b"y")


@pytest.mark.parametrize(
    ("passphrase", "message"),
    [
        ("a word that only the operator know", "the passphrase is not the one of this database; without the right one"),
        ("", "the passphrase is not the one of this database; without the right one"),
        (None, "this database opens with a passphrase; name its file as database.passphrase_file"),
    ],
)
def test_a_wrong_passphrase_and_none(tmp_path: Path, passphrase: str | None, message: str) -> None:
    _, lock = KeySource(tmp_path / "unused.key", PASSPHRASE).new()
    with pytest.raises(StoreError, match=message) as refused:
        KeySource(tmp_path / "unused.key", passphrase).open(lock)
    assert "key_file" not in str(refused.value)


def test_an_empty_passphrase_seals_nothing(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"the passphrase is empty; write one into the file of database\.passphrase_file"
    ):
        KeySource(tmp_path / "unused.key", "").new()


def test_a_passphrase_does_not_open_what_a_key_file_does(tmp_path: Path) -> None:
    _, lock = KeySource(tmp_path / "shop.key").new()
    with pytest.raises(StoreError, match="this database opens with a key file, not with a passphrase; unset"):
        KeySource(tmp_path / "shop.key", PASSPHRASE).open(lock)


def test_a_passphrase_does_not_show_where_its_source_is_printed(tmp_path: Path) -> None:
    assert PASSPHRASE not in repr(KeySource(tmp_path / "shop.key", PASSPHRASE))


def test_a_database_with_a_passphrase(url: str, tmp_path: Path) -> None:
    source = KeySource(tmp_path / "unused.key", PASSPHRASE)
    with Database.open(url, keys=source) as database:
        put(database, account(1, email="alice@example.org"))
    with Database.open(url, keys=source) as database, database.read() as tx:
        found = accounts.by_id(tx, AccountId(1))
    assert found is not None
    assert found.email == "alice@example.org"
    with pytest.raises(StoreError, match="name its file as"):
        Database.open(url)
    assert {file.name for file in tmp_path.iterdir()} == {"shop.db"}


# From before the vault

PLANTED = {
    "name": "Planted Name Archer",
    "email": "planted-mail@example.org",
    "address": "7 Planted Account Street",
    "order": "8 Planted Order Street",
}
# Debian's SQLite overwrites what is deleted, others do not.
FORGETFUL = "PRAGMA secure_delete=OFF"
REMAINS = ["9 Deleted Address Street", "10 Overwritten Address Street"]


def plain_database(path: Path) -> None:
    """As the first release left it: revision 0001, with words in rows, in free pages and in the log."""
    path.touch(0o600)
    sqlalchemy = create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")
    with sqlalchemy.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        config = migrations._config()
        config.attributes.update(connection=connection)
        migrations.command.upgrade(config, "0001")
        connection.exec_driver_sql("COMMIT")
    sqlalchemy.dispose()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(FORGETFUL)
    row = "0, 0, 1, 1, 1, 0, 0, 0, '2026-01-01T00:00:00.000000Z')"
    for number in range(1, 301):
        address = REMAINS[0] if number > 200 else REMAINS[1]
        connection.execute(
            f"INSERT INTO accounts VALUES ({number}, 'account{number}', 'customer', 'Some Name', 'some@example.org',"
            f" '{number} {address}', NULL, NULL, {row}"
        )
    connection.execute("DELETE FROM accounts WHERE id > 200")
    connection.execute(
        "UPDATE accounts SET name = ?, email = ?, address = ?", [PLANTED[name] for name in ("name", "email", "address")]
    )
    connection.execute("UPDATE accounts SET name = NULL, email = NULL WHERE id = 2")
    for number, of in ((1, 1), (2, 2), (3, 1), (4, 1)):
        connection.execute(
            f"INSERT INTO orders VALUES ({number}, {of}, 'key {number}', zeroblob(32), 1, 'placed', 100, 0, 100, 'EUR',"
            f" '{PLANTED['order']}', 1, 0, NULL, '123456', '{AT}', '{AT}')"
        )
    connection.close()


def words_in(folder: Path) -> set[str]:
    stored = b"".join(file.read_bytes() for file in folder.iterdir())
    return {word for word in (*PLANTED.values(), *REMAINS) if word.encode() in stored}


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(engine, "_PRAGMAS", (*engine._PRAGMAS, FORGETFUL))
    plain_database(tmp_path / "shop.db")
    assert words_in(tmp_path) == {*PLANTED.values(), *REMAINS}
    return tmp_path


def test_a_database_from_before_the_vault_is_sealed(plain: Path, url: str) -> None:
    with Database.open(url) as database:
        assert words_in(plain) == set()  # at once, not only when it is closed
        with database.read() as tx:
            first, second = accounts.by_id(tx, AccountId(1)), accounts.by_id(tx, AccountId(2))
            rows = tx.connection.exec_driver_sql("SELECT id, address, orders_before, wrong_codes FROM orders").all()
            opened = [tx.vault.open(ORDER_ADDRESS, row[0], row[1]) for row in rows]
        assert first is not None
        assert second is not None
        assert (first.name, first.email, first.address) == (PLANTED["name"], PLANTED["email"], PLANTED["address"])
        assert (second.name, second.email, second.address) == (None, None, PLANTED["address"])
        assert (first.credentials, first.deleted_at) == (0, None)
        assert opened == [PLANTED["order"]] * 4
        assert [tuple(row[2:]) for row in rows] == [(0, 0), (0, 0), (1, 0), (2, 0)]
    assert words_in(plain) == set()
    assert {file.name for file in plain.iterdir()} == {"shop.db", "shop.db.key"}


def test_a_migration_that_fails_leaves_the_old_database(plain: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (plain / "shop.db").read_bytes()

    def torn(*given: object) -> None:
        upgrade(*given)
        raise sqlite3.OperationalError("database or disk is full")

    upgrade = migrations.upgrade
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "upgrade", torn)
        with pytest.raises(StoreError, match="disk is full"):
            Database.open(url)
    assert (plain / "shop.db").read_bytes() == before
    Database.open(url).close()
    assert words_in(plain) == set()


def blocked_by_a_reader(path: Path) -> Callable[[], None]:
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM accounts").fetchone()
    return reader.close


def blocked_by_a_writer(path: Path) -> Callable[[], None]:
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    return writer.close


@pytest.mark.parametrize("block", [blocked_by_a_reader, blocked_by_a_writer])
def test_what_is_in_the_way_of_the_cleaning_only_puts_it_off(
    plain: Path, url: str, monkeypatch: pytest.MonkeyPatch, block: Callable[[Path], Callable[[], None]]
) -> None:
    scrub = engine._scrub
    with monkeypatch.context() as patch:

        def hampered(connection: object) -> None:
            unblock = block(plain / "shop.db")
            try:
                scrub(connection)
            finally:
                unblock()

        patch.setattr(engine, "_scrub", hampered)
        Database.open(url).close()
    Database.open(url).close()
    assert words_in(plain) == set()
    connection = sqlite3.connect(plain / "shop.db")
    assert connection.execute("PRAGMA user_version").fetchone() == (0,)
    connection.close()


def test_a_process_that_dies_before_the_cleaning(plain: Path, url: str) -> None:
    program = (
        "import os; from securedelivery.store import engine\n"
        f"engine._PRAGMAS = (*engine._PRAGMAS, {FORGETFUL!r})\n"
        "engine._scrub = lambda _: os._exit(9)\n"
        f"engine.Database.open({url!r})"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert words_in(plain) != set()
    Database.open(url).close()
    assert words_in(plain) == set()


def test_a_disk_that_is_too_full_for_the_cleaning_is_named(
    plain: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VACUUM needs as much room again. Nothing is lost: the next start does it."""
    scrub = engine._scrub

    class Full:
        def exec_driver_sql(self, statement: str) -> None:
            raise DatabaseError(statement, None, sqlite3.OperationalError("database or disk is full"))

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_scrub", lambda _: scrub(Full()))
        for _ in range(2):
            with pytest.raises(StoreError, match=r"database or disk is full; check the disk \(full\?"):
                Database.open(url)
    assert words_in(plain) != set()
    Database.open(url).close()
    assert words_in(plain) == set()


def test_a_new_database_is_not_cleaned(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_scrub", lambda _: pytest.fail("there is nothing to clean"))
    Database.open(url).close()
    Database.open(url).close()


def test_the_key_that_a_database_has_stays_its_key(url: str, tmp_path: Path) -> None:
    """A later migration must not make another."""
    Database.open(url).close()
    source = KeySource(tmp_path / "shop.db.key")
    sqlalchemy = create_engine(url)
    with sqlalchemy.connect() as connection:
        found, lock = engine._key(connection, source)
        assert lock == engine._lock(connection)
    sqlalchemy.dispose()
    assert found.digest("x", b"y") == source.open(lock).digest("x", b"y")
    assert found.open(vault._PROOF, 1, lock.proof) == vault._PROVEN
