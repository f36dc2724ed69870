"""The database and the key to what is sealed in it, looked at without changing either."""

import shutil
import sqlite3
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from securedelivery.application import key_source
from securedelivery.config import Settings
from securedelivery.doctor.findings import Found, note, ok, wrong
from securedelivery.errors import StoreError
from securedelivery.store import inspection
from securedelivery.store.engine import path_of
from securedelivery.store.schema import HEAD

MIB = 2**20
LEAST_FREE = 64 * MIB
"""Below this the next import of a catalog, or a busy hour, may fill the disk: then nothing can be ordered."""


def database(settings: Settings, _now: datetime) -> Iterator[Found]:
    """There, whole, its owner's alone, of this program's revision or an older one, with room to grow."""
    path = path_of(settings.database.url)
    if not path.exists():
        yield note(f"there is no database {path} yet", "the first start makes it; or check --database")
        return
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield wrong(f"database {path} can be read by others", f"chmod 600 {path}")
    with inspection.looking(path) as connection:
        yield _revision(path, connection)
        fault = inspection.damage(connection, quick=True)
        tampering = inspection.tampering(connection) if fault is None else None
    if tampering is not None:
        yield wrong(f"audit of {path}: {tampering}", "find out who did that: securedelivery admin audit list")
    if fault is None:
        yield ok(f"database {path}: whole")
    else:
        yield wrong(f"database {path} is damaged: {fault}", "restore a backup: securedelivery admin restore FILE")
    yield _room(path)


def _revision(path: Path, connection: sqlite3.Connection) -> Found:
    found = inspection.revision(connection)
    if found == HEAD:
        return ok(f"schema: revision {HEAD}, that of this program")
    if inspection.is_known(found):
        return note(
            f"schema: revision {found}; the next start brings it to {HEAD}",
            f"make a backup before: securedelivery admin backup FILE --database sqlite:///{path}",
        )
    return wrong(
        f"schema: revision {found}, of a newer program; this one knows {HEAD}",
        "update the program, or restore a backup of the time before",
    )


def _room(path: Path) -> Found:
    free, size = shutil.disk_usage(path.parent).free, path.stat().st_size
    what = f"disk of {path.parent}: {free // MIB:,} MiB free, the database takes {_mib(size)}"
    if free < LEAST_FREE:
        return wrong(what, "make room: on a full disk nothing can be ordered")
    if free < 2 * size + LEAST_FREE:
        return note(what, "a migration or a backup beside it needs twice its size for a moment")
    return ok(what)


def key(settings: Settings, _now: datetime) -> Iterator[Found]:
    """That it is there, its owner's alone, and opens the vault."""
    path = path_of(settings.database.url)
    if not path.exists():
        return
    with inspection.looking(path) as connection:
        inspection.revision(connection)
        lock = inspection.lock(connection)
    keys = key_source(settings)
    if lock is None:
        yield note(
            "names, addresses and messages are not encrypted yet", "the next start does it, with a key of its own"
        )
        return
    keys.open(lock)
    if lock.salt is None:
        yield ok(f"key {keys.file}: opens the database; keep a copy of it, apart from the backups")
    else:
        yield ok("the passphrase opens the database; keep it in a safe place, apart from the backups")


def newest_entry(settings: Settings) -> datetime | None:
    """When the newest row of the audit was written; None where there is none to read."""
    path = path_of(settings.database.url)
    if not path.exists():
        return None
    try:
        with inspection.looking(path) as connection:
            row = connection.execute("SELECT at FROM audit ORDER BY id DESC LIMIT 1").fetchone()
        return None if row is None else datetime.fromisoformat(row[0])
    except (StoreError, ValueError):  # which the database's own check tells of
        return None


def _mib(size: int) -> str:
    return f"{size / MIB:,.1f} MiB"
