"""Texts that nobody may ever find at rest or in a log, and the search for them.

What tests give to the shop as a name, an e-mail address, an address, a note, a chat text or a password holds MARK where
that is easily done: planted("1 Analytical Row"). When the suite has run, test_secrets.py looks into every database and
every log of the run, for MARK and for other words that tests use as such texts.

Left out is what holds plain text on purpose: databases of a revision from before the vault, which this program has not
opened yet (once it has, they are migrated, and looked at), and whatever is in a folder named PLAIN_FOLDER.
"""

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from securedelivery.errors import DamagedRow, StoreError
from securedelivery.store.schema import HEAD
from securedelivery.store.vault import KeySource, Lock, Sealed, Vault

MARK = "xq7planted7qx"
SECRETS = (
    MARK,
    # end_to_end, api
    "Analytical Row",
    "Unlogged Lane",
    "correct horse battery",
    "not for the log, ever",
    # cli
    "Main Street",
    "Side Street",
    "Shown Street",
    "Order Street",  # store, too: Planted Order Street
    "ulla@example.org",
    # service
    "1 Road",
    "Is it quiet?",
    # store
    "Planted Name Archer",
    "planted-mail@example.org",
    "Planted Account Street",
    "Deleted Address Street",
    "Overwritten Address Street",
)
PLAIN_FOLDER = "plain-on-purpose"
BEFORE_THE_VAULT = "0001"

SEALED = {
    Sealed("accounts", "name"): ("id",),
    Sealed("accounts", "email"): ("id",),
    Sealed("accounts", "address"): ("id",),
    Sealed("orders", "address"): ("id",),
    Sealed("order_history", "note"): ("order_id", "entry"),
    Sealed("messages", "text"): ("conversation_id", "sequence"),
}
"""What is encrypted at rest, with the columns that make the row's name."""

_LOOKED_AT = 200  # cells of a column that are opened, to see that something was planted in them
_SQLITE = b"SQLite format 3\0"
_WAL = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_FEW = 200  # orders: with more of them, six digits in a log may be chance
_SIX_DIGITS = re.compile(r"(?<![\w.])[0-9]{6}(?![\w.])")


def planted(text: str) -> str:
    """The text, so that it will be found if it lies open anywhere."""
    return f"{text} {MARK}"


def email(name: str) -> str:
    return f"{name}.{MARK}@example.org"


@dataclass
class Findings:
    """What a search has seen. open: where a secret lay, in words; sealed: cells with MARK in them, by column."""

    databases: int = 0
    not_migrated: int = 0
    logs: int = 0
    wals: int = 0
    bytes: int = 0
    open: list[str] = field(default_factory=list)
    sealed: Counter[str] = field(default_factory=Counter)


def search(folder: Path) -> Findings:
    """Look into all databases, their write-ahead logs, their backups, and all logs in the folder and below."""
    found = Findings()
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or PLAIN_FOLDER in path.relative_to(folder).parts:
            continue
        with path.open("rb") as file:
            start = file.read(len(_SQLITE))
        if start == _SQLITE:
            if _revision(path) == BEFORE_THE_VAULT:
                found.not_migrated += 1
                continue
            found.databases += 1
            _look(path, found)
            _open_cells(path, found)
        elif start[:4] in _WAL or path.name.endswith(("-wal", "-journal")):
            if _revision(path.with_name(path.name.rpartition("-")[0])) == BEFORE_THE_VAULT:
                continue
            found.wals += 1
            _look(path, found)
        elif path.suffix == ".log":
            found.logs += 1
            _look(path, found)
            _look_for_codes(path, found)
    return found


def _look(path: Path, found: Findings) -> None:
    content = path.read_bytes()
    found.bytes += len(content)
    found.open += [f"{path}: {secret!r}" for secret in SECRETS if secret.encode() in content]
    for key in _keys(path.parent):
        if key.hex().encode() in content or key in content:
            found.open.append(f"{path}: the key of a database")


def _keys(folder: Path) -> Iterator[bytes]:
    """Those of the databases in a folder."""
    for path in folder.glob("*.key"):
        text = path.read_text(errors="replace").strip()
        if re.fullmatch("[0-9a-f]{64}", text):
            yield bytes.fromhex(text)


def _look_for_codes(log: Path, found: Findings) -> None:
    """Delivery codes stand in the database as they are; no log may tell one."""
    for path in log.parent.glob("*.db"):
        codes = {code for (code,) in _rows(path, f"SELECT delivery_code FROM orders LIMIT {_FEW + 1}")}  # noqa: S608
        if len(codes) <= _FEW:
            told = codes & set(_SIX_DIGITS.findall(log.read_text(errors="replace")))
            found.open += [f"{log}: the delivery code {code}" for code in told]


def _open_cells(path: Path, found: Findings) -> None:
    """Count the sealed cells that hold MARK, where the key lies beside the database."""
    vault = _vault(path)
    if vault is None:
        return
    for column, key in SEALED.items():
        rows = _rows(
            path,
            f"SELECT {', '.join(key)}, {column.column} FROM {column.table}"  # noqa: S608 -- our own words
            f" WHERE {column.column} IS NOT NULL LIMIT {_LOOKED_AT}",
        )
        for *row, cell in rows:
            with suppress(DamagedRow):  # as a test has left it
                text = vault.open(column, row[0] if len(row) == 1 else tuple(row), cell)
                found.sealed[f"{column.table}.{column.column}"] += text is not None and MARK in text


def _vault(path: Path) -> Vault | None:
    """None without the right key beside the database, and for a database of another time."""
    file = path.with_name(f"{path.name}.key")
    if not file.is_file() or _revision(path) != HEAD:
        return None
    for salt, proof in _rows(path, "SELECT salt, proof FROM vault"):
        with suppress(StoreError):
            return KeySource(file).open(Lock(salt, proof))
    return None


def _revision(path: Path) -> str | None:
    rows = _rows(path, "SELECT version_num FROM alembic_version")
    return rows[0][0] if rows else None


def _rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """None from what is no database, or a damaged one."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()
    except sqlite3.Error:
        return []
