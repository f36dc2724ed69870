"""Looking at a database without changing it: nothing is migrated, no key is made, no file appears beside it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from securedelivery.errors import StoreError
from securedelivery.store.chain import AuditEntry, AuditRow, Damage, Head, Tampering, examine
from securedelivery.store.engine import BUSY_MILLISECONDS
from securedelivery.store.schema import HEAD
from securedelivery.store.vault import Lock


@contextmanager
def looking(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that can only read. Raises StoreError, also for what goes wrong within."""
    try:
        with closing(_connect(path)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    # In WAL mode SQLite makes the log when a database is opened, even for reading only. Without a log nobody has it
    # open, and it can be taken as a file that does not change.
    immutable = "" if log_of(path).exists() else "&immutable=1"
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro{immutable}",
        uri=True,
        isolation_level=None,
        timeout=BUSY_MILLISECONDS / 1000,
    )


def log_of(path: Path) -> Path:
    """SQLite's write-ahead log of the database at path; there while somebody has it open, or after a crash."""
    return path.with_name(f"{path.name}-wal")


def revision(connection: sqlite3.Connection) -> str:
    """The schema's. Raises StoreError for a database that is not one of ours."""
    row = None
    if _has(connection, "alembic_version"):
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if row is None:
        raise StoreError("this is an empty database, or one of another program")
    return str(row[0])


def is_known(found: str) -> bool:
    """Whether this program works with that revision, or can bring it up to date."""
    if found == HEAD:
        return True
    from securedelivery.store import migrations  # noqa: PLC0415 -- Alembic takes 10 MiB, and is seldom needed

    return migrations.knows(found)


def lock(connection: sqlite3.Connection) -> Lock | None:
    """What the key of its vault has to fit; None for a database from before the vault."""
    if not _has(connection, "vault"):
        return None
    row = connection.execute("SELECT salt, proof FROM vault").fetchone()
    if row is None:
        raise StoreError("it has lost what tells its key from others")
    return Lock(*row)


def damage(connection: sqlite3.Connection, *, quick: bool = False) -> str | None:
    """The first fault in the file's structure, in SQLite's words, or None. quick: leaves out the indexes."""
    try:
        (found,) = connection.execute(f"PRAGMA {'quick' if quick else 'integrity'}_check(1)").fetchone()
    except sqlite3.OperationalError:  # locked, or an input/output error: not a fault of the file
        raise
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == "ok" else " ".join(str(found).split())


def tampering(connection: sqlite3.Connection) -> Damage | None:
    """The first damage to the audit's chain, or None for a whole one. Reads every row."""
    head = None
    if _has(connection, "audit_head"):
        row = connection.execute("SELECT entry, hash FROM audit_head").fetchone()
        if row is None:
            return Damage(Tampering.HEAD, 0, 0, "the head of the chain was removed")
        head = Head(*row)
    if not _has(connection, "audit"):
        return Damage(Tampering.REMOVED, 1, head.number if head else 1, "with their table")
    rows = connection.execute("SELECT id, at, actor_id, action, subject, detail, hash FROM audit ORDER BY id")
    return examine((AuditRow(number, AuditEntry(*entry), digest) for number, *entry, digest in rows), head)


def _has(connection: sqlite3.Connection, table: str) -> bool:
    (found,) = connection.execute(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
    ).fetchone()
    return bool(found)
