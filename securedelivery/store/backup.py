"""Backups: a consistent copy beside a running server, and back again while nothing runs.

A backup is taken in three steps. First SQLite's online backup copies the pages of one moment: readers and writers go
on, only the write-ahead log grows, for as long as this step takes (0.4 s for 500 MB; `VACUUM INTO` would take 1 to 2 s,
and a copy in steps without holding on to the moment never ends beside a steady writer, for each write begins it anew).
Then that copy is written out anew without the remains of what was deleted, and checked, which holds up nobody. Only
then it gets its name. The key of what is sealed is never part of it.
"""

import errno
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from securedelivery.errors import StoreError
from securedelivery.model import timestamp
from securedelivery.store import inspection
from securedelivery.store.engine import BUSY_MILLISECONDS
from securedelivery.store.outbox import ANSWER
from securedelivery.store.schema import HEAD
from securedelivery.store.vault import KeySource

__all__ = ["Backup", "OpensWith", "Restored", "backup", "restore"]

STEP_PAGES = 4_096
"""16 MiB: between two steps a Ctrl-C is heard."""

# Where SQLite's unix VFS has its POSIX locks: PENDING, RESERVED and the 510 bytes of SHARED.
_LOCK_FROM, _LOCK_BYTES = 0x40000000, 512


class OpensWith(StrEnum):
    KEY_FILE = "key file"
    PASSPHRASE = "passphrase"  # noqa: S105 -- the word
    NOTHING = "nothing"
    """A database from before its names, addresses and messages were sealed: all of it can be read."""


class Backup(NamedTuple):
    """bytes: the size of the file. tampering: what was done to the audit, in the database as well, if anything."""

    bytes: int
    opens_with: OpensWith
    tampering: str | None


class Restored(NamedTuple):
    """kept: where the replaced database is now, if there was one. outdated: it will be migrated when it is opened.

    mail: how many mails waited in it, and are held, for they may have left since the backup was made.
    """

    kept: Path | None
    outdated: bool
    mail: int


def backup(path: Path, target: Path) -> Backup:
    """Copy the database at path to the new file target (mode 0600), beside whoever works with it.

    Raises StoreError; then there is no file target.
    """
    if not path.exists():
        raise StoreError(f"there is no database {path}; check --database")
    if os.path.lexists(target):
        raise _in_the_way(target)
    with _explaining(target), _workshop(target) as shop:
        rough, finished = shop / "rough", shop / "finished"
        _private(rough)
        _private(finished)
        _snapshot(path, rough)
        with closing(_connect(rough)) as connection:
            connection.execute("VACUUM INTO ?", (str(finished),))
        rough.unlink()
        opens_with, tampering = _checked(finished, path)
        _to_disk(finished)
        _name(finished, target)
        return Backup(target.stat().st_size, opens_with, tampering)


def restore(source: Path, target: Path, keys: KeySource, *, replace: bool, despite_audit: bool = False) -> Restored:
    """Put the backup `source` in the place of the database `target`, which stays beside it under another name.

    replace: whether there may be one. despite_audit: take it although its audit was tampered with, for want of a
    better one. Raises StoreError where the backup is not whole or not ours, where the key does
    not open it, or while anything has the database open; then nothing was changed.
    """
    target = Path(os.path.realpath(target))
    _check_places(source, target, replace=replace)
    with _explaining(target), _workshop(target) as shop:
        copy = shop / "restored"  # what is checked is what is put in place, whatever happens to the backup meanwhile
        _private(copy)
        shutil.copyfile(source, copy)
        outdated = _check(copy, source, keys, despite_audit=despite_audit)
        mail = _hold_mail(copy, keys)
        _end_web_sessions(copy)
        _to_disk(copy)
        return Restored(_put(copy, target, shop / "kept"), outdated, mail)


HELD = "held: it waited when the backup was made, and may have left since; admin mail retry sends it"


def _hold_mail(copy: Path, keys: KeySource) -> int:
    """Nothing leaves a restored database by itself: what waited has probably left long ago, and months and chat of the
    time since have been told. Whoever restores it knows; what is held is there to be sent.
    """
    now = timestamp(datetime.now(UTC))
    with closing(_connect(copy)) as connection:
        if not connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'outbox'").fetchone()[0]:
            return 0
        lock = inspection.lock(connection)
        if lock is None:  # nobody can open it; the next start says so
            return 0
        vault = keys.open(lock)
        waiting = connection.execute("SELECT id FROM outbox WHERE state IN ('waiting', 'sending')").fetchall()
        connection.execute("BEGIN")
        connection.executemany(
            "UPDATE outbox SET state = 'failed', node = NULL, interrupted = interrupted + 1, due_at = ?, answer = ?"
            " WHERE id = ?",
            [(now, vault.seal(ANSWER, number, HELD), number) for (number,) in waiting],
        )
        connection.execute("UPDATE mail_routes SET since = ?", (now,))
        connection.execute("COMMIT")
        return len(waiting)


def _end_web_sessions(copy: Path) -> None:
    """Who has logged out since the backup was made must not be logged in again."""
    with closing(_connect(copy)) as connection:
        if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'web_sessions'").fetchone()[0]:
            connection.execute("DELETE FROM web_sessions")


def _snapshot(path: Path, rough: Path) -> None:
    """One moment of the database, page by page, in the file rough."""
    with closing(_connect(path)) as live, closing(_connect(rough)) as copy:
        copy.execute("PRAGMA journal_mode=OFF")  # nobody misses it if this is interrupted
        copy.execute("PRAGMA synchronous=OFF")
        live.execute("BEGIN")
        try:
            inspection.revision(live)  # the first read: from here on, this moment
        except StoreError as error:
            raise StoreError(f"{path}: {error}; name another file with --database") from None
        live.backup(copy, pages=STEP_PAGES, progress=lambda _status, _left, _all: None)
        live.execute("ROLLBACK")


def _checked(finished: Path, path: Path) -> tuple[OpensWith, str | None]:
    with inspection.looking(finished) as connection:
        fault = inspection.damage(connection)
        if fault is not None:
            raise StoreError(f"{path} is damaged ({fault}), so no backup was made of it; restore an older one")
        lock = inspection.lock(connection)
        tampering = inspection.tampering(connection)
    opens_with = OpensWith.NOTHING
    if lock is not None:
        opens_with = OpensWith.KEY_FILE if lock.salt is None else OpensWith.PASSPHRASE
    return opens_with, None if tampering is None else str(tampering)


def _check_places(source: Path, target: Path, *, replace: bool) -> None:
    if not source.is_file():
        raise StoreError(f"there is no backup {source}; name a file that `securedelivery admin backup` made")
    if not target.parent.is_dir():
        raise StoreError(f"the folder of {target} does not exist; make it: mkdir -p {target.parent}")
    if os.path.lexists(target):
        if not target.is_file():
            raise StoreError(f"{target} is not a file; name another one with --database")
        if target.samefile(source):
            raise StoreError(f"{source} is the database itself, not a backup of it")
        if not replace:
            raise StoreError(f"there is a database {target} already; --force replaces it, and keeps it beside")
    log = inspection.log_of(source)
    if log.exists() and log.stat().st_size:
        raise StoreError(
            f"{source} is a database in use, or of a program that crashed ({log.name} belongs to it), not a backup;"
            f" make one: securedelivery admin backup FILE --database sqlite:///{source.absolute()}"
        )


def _check(copy: Path, source: Path, keys: KeySource, *, despite_audit: bool) -> bool:
    """See that the copy of the backup is whole, ours, and opens with the key. Returns whether it is outdated."""
    try:
        with inspection.looking(copy) as connection:
            return _revision(connection, keys, despite_audit=despite_audit) != HEAD
    except StoreError as error:
        raise StoreError(f"{source} was not restored: {str(error).removeprefix(f'{copy}: ')}") from error


def _revision(connection: sqlite3.Connection, keys: KeySource, *, despite_audit: bool) -> str:
    fault = inspection.damage(connection)
    if fault is not None:
        raise StoreError(f"it is damaged ({fault}); take another backup")
    revision = inspection.revision(connection)
    if not inspection.is_known(revision):
        raise StoreError(
            f"a newer version of this program made it (revision {revision}, this one knows {HEAD}); update the program"
        )
    lock = inspection.lock(connection)
    if lock is not None:
        keys.open(lock)
    tampering = None if despite_audit else inspection.tampering(connection)
    if tampering is not None:
        raise StoreError(
            f"its audit was tampered with: {tampering}; take another backup, and find out who did that;"
            " --despite-audit takes it all the same"
        )
    return revision


def _put(copy: Path, target: Path, workpiece: Path) -> Path | None:
    """Returns where the replaced database is now, None where there was none."""
    if not target.exists():
        _put_aside_remains(target, _free_name(target))
        _name(copy, target)
        return None
    try:
        return _overwrite(copy, target, workpiece)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:  # too damaged for SQLite to open it
        return _swap(copy, target)


def _overwrite(copy: Path, target: Path, workpiece: Path) -> Path:
    """Let SQLite itself replace the contents, in one transaction: whoever opens the file meanwhile waits for its end,
    and a power cut leaves the old database or the new one.
    """
    with closing(_connect(target)) as live:
        live.execute("PRAGMA locking_mode=EXCLUSIVE")
        try:
            # Works for one connection alone: each other one holds SQLite's shared lock as long as it is open.
            live.execute("PRAGMA journal_mode=DELETE")
            live.execute("BEGIN EXCLUSIVE")
            live.execute("COMMIT")  # the lock stays until the connection is closed
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise _in_use(target) from error
            raise
        _private(workpiece)
        with closing(_connect(workpiece)) as old:
            live.backup(old)
        _to_disk(workpiece)
        kept = _free_name(target)
        _name(workpiece, kept)
        with closing(_connect(copy)) as new:
            new.backup(live)
    return kept


def _swap(copy: Path, target: Path) -> Path:
    """Replace a file that is no database any more."""
    kept = _free_name(target)
    with target.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCK_BYTES, _LOCK_FROM)
        except (BlockingIOError, PermissionError) as error:
            raise _in_use(target) from error
        _put_aside_remains(target, kept)
        os.link(target, kept)
        copy.replace(target)
        _sync_folder(target)
    return kept


def _put_aside_remains(target: Path, kept: Path) -> None:
    """A log that a lost or damaged database left behind would be taken for one of the new database."""
    for suffix in ("-wal", "-journal"):
        with suppress(FileNotFoundError):
            Path(f"{target}{suffix}").rename(f"{kept}{suffix}")
    Path(f"{target}-shm").unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    """To a file that is there."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=BUSY_MILLISECONDS / 1000
    )


@contextmanager
def _workshop(target: Path) -> Iterator[Path]:
    """A folder (0700) on the disk of target, which is gone afterwards with all that is in it."""
    with TemporaryDirectory(dir=target.absolute().parent, prefix=f".{target.name}.") as name:
        yield Path(name)


def _private(path: Path) -> None:
    """Before SQLite makes the file, with the umask's mode."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _name(path: Path, name: Path) -> None:
    """Give the file its name, unless there is one of that name."""
    try:
        os.link(path, name)
    except FileExistsError:
        raise _in_the_way(name) from None
    except OSError as error:  # a file system without hard links, as on a USB stick
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        if os.path.lexists(name):
            raise _in_the_way(name) from None
        path.rename(name)
    _sync_folder(name)


def _in_the_way(path: Path) -> StoreError:
    return StoreError(f"there is a file {path} already; name another one, or move it away")


def _in_use(path: Path) -> StoreError:
    return StoreError(f"{path} is in use; stop the server, and other commands that work on it, then try again")


def _free_name(target: Path) -> Path:
    return target.with_name(f"{target.name}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explaining(target: Path) -> Iterator[None]:
    """Every error of the disk and of SQLite as a StoreError."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise StoreError(
            f"{target}: {cause}; check that the disk has room, and that this user may write in {target.parent}"
        ) from error
