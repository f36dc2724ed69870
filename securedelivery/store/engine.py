"""Opening, migrating and reading the database.

One file, one writer, any number of readers: SQLite in WAL mode, where readers see the last commit and neither wait
for the writer nor hold it up. Other processes (an operator's command beside the running server) may write between two
of our transactions, so nothing that was read in one is taken for granted in the next.
"""

import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.pool import NullPool

from securedelivery.errors import StoreError
from securedelivery.store.schema import HEAD
from securedelivery.store.statements import Insertion, Parameters, Statement
from securedelivery.store.vault import KeySource, Lock, Vault
from securedelivery.store.writer import Writer

BUSY_MILLISECONDS = 1_000
"""How long SQLite itself waits for another process's lock. The writer has a way of its own to wait."""

OPENING_SECONDS = 10.0
"""How long opening waits for another process, which may be making or migrating the database on a slow disk."""

OPENING_PAUSE = 0.05

# NORMAL would lose the last commits with the power; FULL has every commit on disk before it is acknowledged.
_PRAGMAS = (
    f"PRAGMA busy_timeout={BUSY_MILLISECONDS}",  # first: the next one may have to wait
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA secure_delete=FAST",  # what was deleted is overwritten where that costs no further page
    "PRAGMA cache_size=-8000",  # KiB a connection, taken as needed
    "PRAGMA temp_store=MEMORY",  # what a savepoint may have to put back would else go through a file
    # Pages: 16 MiB of log, four times the default, for a page that many commits have written goes into the file once.
    "PRAGMA wal_autocheckpoint=4000",
)


R = TypeVar("R")


class Transaction:
    """What one transaction may do: run statements, and publish events that go out if it commits.

    vault: opens and seals what is encrypted at rest.
    """

    def __init__(self, connection: Connection, vault: Vault) -> None:
        self.connection = connection
        self.vault = vault
        self.events: list[object] = []
        self._dialect = connection.dialect.name
        self._cursor = connection.connection.cursor()

    def rows(self, statement: Statement, parameters: Parameters | None = None) -> list[tuple[Any, ...]]:
        self._execute(statement, parameters)
        return self._cursor.fetchall()  # type: ignore[return-value]

    def row(self, statement: Statement, parameters: Parameters | None = None) -> tuple[Any, ...] | None:
        """The only row, or None."""
        self._execute(statement, parameters)
        return self._cursor.fetchone()

    def gathered(self, statement: Statement, decoder: msgspec.json.Decoder[R], parameters: Parameters) -> R:
        """All rows at once, of a statement that statements.gathered() made. decoder: of an array of arrays."""
        found = self.row(statement, parameters)
        assert found is not None
        return decoder.decode(found[0])

    def stream(self, statement: Statement, parameters: Parameters | None = None) -> Iterator[tuple[Any, ...]]:
        """Row by row, for what may be too long for a list. The next statement ends it."""
        self._execute(statement, parameters)
        return iter(self._cursor.fetchone, None)

    def write(self, statement: Statement, rows: Sequence[Parameters]) -> None:
        """Once for each of `rows`, in one call of the driver."""
        if rows:
            rendered = statement.render(self._dialect)
            self._cursor.executemany(rendered.sql, [rendered.positions(row) for row in rows])

    def insert(self, insertion: Insertion, rows: Sequence[tuple[Any, ...]]) -> None:
        for sql, positions in insertion.statements(self._dialect, rows):
            self._cursor.execute(sql, positions)

    def _execute(self, statement: Statement, parameters: Parameters | None) -> None:
        rendered = statement.render(self._dialect)
        self._cursor.execute(rendered.sql, rendered.positions(parameters or {}))

    def control(self, command: str) -> None:
        """BEGIN, SAVEPOINT and their ends; the driver is in autocommit mode and adds none of its own."""
        self._cursor.execute(command)

    def publish(self, happening: object) -> None:
        """Hand an event to Writer.on_commit, if this command's savepoint stays and the transaction commits."""
        self.events.append(happening)


class Database:
    """An open database. Close it, or use it in a `with`; closing waits for what is queued."""

    def __init__(self, engine: Engine, path: Path, vault: Vault, *, busy_seconds: float) -> None:
        self.path = path
        self.created = False
        """Whether opening it has made it."""
        self.new_key: Path | None = None
        """The key file, if opening it has made that."""
        self.vault = vault
        self._engine = engine
        # Open as long as the database is, for it holds SQLite's shared lock: restore() sees that somebody is here.
        self._presence = engine.connect()
        self._idle: deque[Transaction] = deque()
        self.writer = Writer(self._transaction, sqlite3.Error, busy_seconds=busy_seconds)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        keys: KeySource | None = None,
        create: bool = True,
        aside: bool = False,
        busy_seconds: float = 4.0,
    ) -> Self:
        """Open `sqlite:///relative/path` or `sqlite:////absolute/path`; make it (mode 0600) and migrate it where
        needed.

        keys: to what is encrypted at rest; by default the file beside the database, see key_file().
        aside: whether a child process migrates, whose memory goes with it: Alembic takes 10 MiB. For a process that is
        going to run for long, before its first thread.
        busy_seconds: how long the writer waits for another process that holds the lock before it refuses as
        `unavailable`. Raises StoreError, which names the file and what to do. Starts no thread: the writer's starts
        with its first command.
        """
        path = path_of(url)
        created = _check(path, create=create)
        keys = keys or KeySource(key_file(path))
        had_key = keys.passphrase is not None or keys.file.exists()
        engine = create_engine(
            URL.create("sqlite", database=str(path)), isolation_level="AUTOCOMMIT", poolclass=NullPool
        )
        event.listen(engine, "connect", _prepare)
        try:
            if aside and not _patiently(lambda: _is_current(engine, path)):
                _in_child(lambda: cls.open(url, keys=keys, busy_seconds=busy_seconds).close())
            vault = _patiently(lambda: _ready(engine, path, keys))
            database = cls(engine, path, vault, busy_seconds=busy_seconds)
        except (DatabaseError, sqlite3.Error) as error:
            raise _explained(path, error) from error
        database.created = created
        database.new_key = None if had_key else keys.file
        return database

    def _transaction(self) -> Transaction:
        return Transaction(self._engine.connect(), self.vault)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A consistent view of the last commit, in any thread; what is written meanwhile does not show, and nothing
        waits.

        Keep it short: while it is open, the write-ahead log cannot be taken back into the file and grows.
        """
        try:
            tx = self._idle.pop()
        except IndexError:
            tx = self._transaction()
            tx.control("PRAGMA query_only=ON")
        try:
            tx.control("BEGIN")
            yield tx
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from error
        finally:
            try:
                tx.control("ROLLBACK")
            except sqlite3.Error:
                tx.connection.close()
            else:
                self._idle.append(tx)

    def checkpoint(self) -> None:
        """Bring everything into the file, and leave nothing in the log, unless somebody is reading just now."""
        with closing(self._engine.connect()) as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").close()

    def close(self) -> None:
        """Write what is queued, answer it, and close. Reads must have ended."""
        self.writer.close()
        while self._idle:
            self._idle.pop().connection.close()
        self._presence.close()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _prepare(connection: sqlite3.Connection, record: object) -> None:  # noqa: ARG001 -- SQLAlchemy's signature
    for pragma in _PRAGMAS:
        connection.execute(pragma).close()


def path_of(url: str) -> Path:
    """Where the database of this URL is, absolute. Raises StoreError for a URL that names none."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError(f"{url!r} is not a database URL; write sqlite:////absolute/path/to/shop.db") from error
    if parsed.get_backend_name() != "sqlite":
        raise StoreError(f"{parsed.get_backend_name()} is not supported; write sqlite:////absolute/path/to/shop.db")
    if not parsed.database or parsed.database == ":memory:":
        raise StoreError("a database in memory would lose every order; write sqlite:////absolute/path/to/shop.db")
    return Path(parsed.database).absolute()


def key_file(path: Path) -> Path:
    """Where the key of the database at `path` is, unless the operator names another place."""
    return path.with_name(f"{path.name}.key")


def _check(path: Path, *, create: bool) -> bool:
    """See that the file is there, ours to write and, if it is new, nobody else's to read. Returns whether it is new."""
    created = False
    folder = path.parent
    if not folder.is_dir():
        raise StoreError(f"the folder of {path} does not exist; make it: mkdir -p {folder}")
    if path.is_dir():
        raise StoreError(f"{path} is a folder; name a file in it, such as {path}/shop.db")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(
            f"{folder} cannot be written; SQLite keeps its log there: give this user the right to write it"
        )
    if not path.exists():
        if not create:
            raise StoreError(f"there is no database {path}; check --database, or let `securedelivery serve` make it")
        # Before SQLite does it with the umask's mode. Its -wal and -shm files take over the mode of this one.
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        created = True
    if not os.access(path, os.R_OK | os.W_OK):
        raise StoreError(f"{path} cannot be read and written by this user; change its owner or mode (0600)")
    return created


def _patiently(work: Callable[[], R]) -> R:
    """Again while another process keeps the database locked. Each try waits, too, but for some locks not at all."""
    ends = time.monotonic() + OPENING_SECONDS
    while True:
        try:
            return work()
        except (DatabaseError, sqlite3.Error) as error:
            if "locked" not in str(error) or time.monotonic() >= ends:
                raise
        time.sleep(OPENING_PAUSE)


def _is_current(engine: Engine, path: Path) -> bool:
    with engine.connect() as connection:
        return _revision(connection, path) == HEAD


def _in_child(work: Callable[[], None]) -> None:
    """In a process of its own. What goes wrong there, this one will find undone, try itself, and hear about.

    SQLite must have no connection open here: the child would take the locks of this process for its own.
    """
    child = os.fork()
    if not child:  # pragma: no cover -- it leaves without a word, also to whoever counts lines
        with suppress(BaseException):
            work()
        os._exit(0)
    os.waitpid(child, 0)


def _ready(engine: Engine, path: Path, keys: KeySource) -> Vault:
    """Bring the schema to HEAD, where it is not, and open the vault."""
    with engine.connect() as connection:
        found = _revision(connection, path)
        if found == HEAD:
            if _remains(connection):
                _scrub(connection)
            return keys.open(_lock(connection))
        from securedelivery.store import migrations  # noqa: PLC0415 -- Alembic takes 10 MiB, and is seldom needed

        if found is not None and not migrations.knows(found):
            raise StoreError(
                f"{path} was written by a newer version of this program (revision {found}, this one knows {HEAD});"
                " update the program, or restore a backup of the time before"
            )
        # Under the write lock, and with a second look: another process may be at the same thing.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            vault, lock = _key(connection, keys)
            if _revision(connection, path) != HEAD:
                migrations.upgrade(connection, vault, lock)
                if found is not None:
                    connection.exec_driver_sql(f"PRAGMA user_version={_REMAINS}")
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        if found is not None:
            _scrub(connection)
        return vault


_REMAINS = 1
"""SQLite's user_version from a migration until the file has been written anew."""


def _remains(connection: Connection) -> bool:
    return bool(connection.exec_driver_sql("PRAGMA user_version").scalar_one() == _REMAINS)


def _scrub(connection: Connection) -> None:
    """What was readable before it was sealed is still in pages that are free now, and in the log: write all anew.

    Where another process is in the way, or this one dies here, the next opening does it.
    """
    try:
        connection.exec_driver_sql("VACUUM")
    except DatabaseError as error:
        if "locked" not in str(error):
            raise
        return
    busy, _, _ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
    if not busy:
        connection.exec_driver_sql("PRAGMA user_version=0")


def _key(connection: Connection, keys: KeySource) -> tuple[Vault, Lock]:
    """That of the database, or a new one where it has none yet."""
    if connection.exec_driver_sql("SELECT count(*) FROM sqlite_master WHERE name = 'vault'").scalar_one():
        lock = _lock(connection)
        return keys.open(lock), lock
    return keys.new()


def _lock(connection: Connection) -> Lock:
    row = connection.exec_driver_sql("SELECT salt, proof FROM vault").one_or_none()
    if row is None:
        raise StoreError("the database has lost what tells its key from others; restore a backup")
    return Lock(row[0], row[1])


def _revision(connection: Connection, path: Path) -> str | None:
    """The schema's revision, or None for a database without tables."""
    tables = {row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None
    if "alembic_version" not in tables:
        raise StoreError(f"{path} is a database of another program; name another file with --database")
    return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())


def _explained(path: Path, error: Exception) -> StoreError:
    cause = str(error.orig) if isinstance(error, DatabaseError) else str(error)
    if "not a database" in cause or "malformed" in cause:
        remedy = "this is not an SQLite database, or a damaged one; name another file, or restore a backup"
    elif "locked" in cause:
        remedy = "another process keeps it locked; end that one, then try again"
    else:
        remedy = "check the disk (full? mounted read-only?) and the file's owner and mode"
    return StoreError(f"{path}: {cause}; {remedy}")
