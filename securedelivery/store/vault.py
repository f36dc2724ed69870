"""What is said of people is encrypted at rest: names, e-mail, addresses, notes, chat.

Each cell is AES-256-GCM (NIST SP 800-38D) under a key derived for its column (HKDF-SHA-256, RFC 5869) from the key of
the database, with a random 96-bit nonce in front and table, column and row as associated data: a cell that was
altered, or copied to another row, is an error that names the row. The key is in a file of its own beside the database,
or comes from a passphrase by Argon2id. A key for each column keeps random nonces below section 8.3's 2**32 messages a
key, which is then a limit for each column and not for all of them together.
"""

import hmac
import os
import secrets
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from securedelivery.errors import DamagedRow, StoreError

KEY_BYTES = 32
NONCE_BYTES = 12
SALT_BYTES = 16

Row = int | tuple[int, ...]
"""A primary key."""


class Sealed(NamedTuple):
    """A column whose values are sealed."""

    table: str
    column: str

    def named(self, row: Row) -> bytes:
        """The associated data: `accounts.email:17`, `messages.text:3/12`."""
        key = str(row) if isinstance(row, int) else "/".join(map(str, row))
        return f"{self.table}.{self.column}:{key}".encode()


_PROOF = Sealed("vault", "proof")
_PROVEN = "this is the key of this database"


class Lock(NamedTuple):
    """The row of the table vault. salt: of the passphrase; None where the key is in a file."""

    salt: bytes | None
    proof: bytes


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where the key comes from. passphrase: goes before the file."""

    file: Path
    passphrase: str | None = field(default=None, repr=False)

    def new(self) -> "tuple[Vault, Lock]":
        """For a database without a key: makes the file (0600), unless it is there, or takes the passphrase.

        Raises StoreError.
        """
        if self.passphrase is None:
            vault, salt = Vault(_found_or_made(self.file)), None
        else:
            if not self.passphrase:
                raise StoreError("the passphrase is empty; write one into the file of database.passphrase_file")
            salt = secrets.token_bytes(SALT_BYTES)
            vault = Vault(_stretched(self.passphrase, salt))
        proof = vault.seal(_PROOF, 1, _PROVEN)
        assert proof is not None
        return vault, Lock(salt, proof)

    def open(self, lock: Lock) -> "Vault":
        """For a database that has a key. Raises StoreError where it is not found here, or is another one."""
        vault = Vault(self._found(lock))
        try:
            vault.open(_PROOF, 1, lock.proof)
        except DamagedRow:
            if lock.salt is None:
                raise StoreError(f"the key in {self.file} is not the one of this database; {_ADVICE}") from None
            raise StoreError(f"the passphrase is not the one of this database; {_LOSS}") from None
        return vault

    def _found(self, lock: Lock) -> bytes:
        if lock.salt is not None:
            if self.passphrase is None:
                raise StoreError("this database opens with a passphrase; name its file as database.passphrase_file")
            return _stretched(self.passphrase, lock.salt)
        if self.passphrase is not None:
            raise StoreError("this database opens with a key file, not with a passphrase; unset passphrase_file")
        key = _read(self.file)
        if key is None:
            raise StoreError(f"the key of this database, {self.file}, is missing; {_ADVICE}")
        return key


_LOSS = "without the right one no name, address, note or message in it can ever be read again"
_ADVICE = f"{_LOSS}: put it back from where you keep your copy, or name it as database.key_file"


class Vault:
    """Seals and opens cells. key: 32 bytes. Safe for threads."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._ciphers: dict[Sealed, AESGCM] = {}
        self._digests: dict[str, hmac.HMAC] = {}  # with the key taken in, and nothing behind it

    def seal(self, column: Sealed, row: Row, text: str | None) -> bytes | None:
        """A nonce || ciphertext || tag, 28 bytes longer than the text in UTF-8; None for None."""
        return None if text is None else self.seal_all(column, [(row, text)])[0]

    def seal_all(self, column: Sealed, cells: Sequence[tuple[Row, str]]) -> list[bytes]:
        """The same for many rows: their nonces are one draw, which lets go of the interpreter's lock once."""
        cipher, drawn = self._cipher(column), os.urandom(NONCE_BYTES * len(cells))
        sealed = []
        for number, (row, text) in enumerate(cells):
            nonce = drawn[number * NONCE_BYTES : (number + 1) * NONCE_BYTES]
            sealed.append(nonce + cipher.encrypt(nonce, text.encode(), column.named(row)))
        return sealed

    def open(self, column: Sealed, row: Row, cell: bytes | None) -> str | None:
        """Raises DamagedRow where the cell was altered, or belongs elsewhere."""
        if cell is None:
            return None
        try:
            plain = self._cipher(column).decrypt(cell[:NONCE_BYTES], cell[NONCE_BYTES:], column.named(row))
        except (InvalidTag, ValueError):  # ValueError: shorter than a nonce
            raise DamagedRow(column.named(row).decode()) from None
        return plain.decode()

    def digest(self, purpose: str, value: bytes) -> bytes:
        """HMAC-SHA-256 of the value under a key for the purpose, 32 bytes: to know it again without keeping it."""
        keyed = self._digests.get(purpose)
        if keyed is None:
            keyed = self._digests[purpose] = hmac.new(self._derived(f"digest {purpose}"), digestmod="sha256")
        digest = keyed.copy()
        digest.update(value)
        return digest.digest()

    def _cipher(self, column: Sealed) -> AESGCM:
        cipher = self._ciphers.get(column)
        if cipher is None:
            cipher = self._ciphers[column] = AESGCM(self._derived(f"column {column.table}.{column.column}"))
        return cipher

    def _derived(self, purpose: str) -> bytes:
        return HKDFExpand(SHA256(), KEY_BYTES, f"securedelivery vault 1, {purpose}".encode()).derive(self._key)


def _found_or_made(path: Path) -> bytes:
    key = _read(path)
    if key is None:
        _make(path)
        key = _read(path)  # not the one just made: another process may have been first
    if key is None:
        raise StoreError(f"the key file {path} has just been made and is gone; what removes files there?")
    return key


def _make(path: Path) -> None:
    """A new key, unless another process makes one meanwhile. The file is whole before it gets its name."""
    text = (
        "# The key of a securedelivery database. Keep a copy of this file, apart from the backups of the database:\n"
        "# without it no name, address, note or message in them can ever be read again, by nobody.\n"
        f"{secrets.token_bytes(KEY_BYTES).hex()}\n"
    )
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(beside, path)  # unlike a rename, never in the place of a file that is there
        finally:
            beside.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the name has to outlive a power cut, as the rows sealed with the key do
        finally:
            os.close(folder)
    except OSError as error:
        raise StoreError(f"the key file {path} cannot be made: {error.strerror}; check its folder") from error


def _read(path: Path) -> bytes | None:
    """The key in the file, or None where there is no file. Raises StoreError."""
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise StoreError(f"the key file {path} can be read by others; chmod 600 {path}")
        lines = [line for line in path.read_text("ascii").split("\n") if line and not line.startswith("#")]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"the key file {path} cannot be read: {error.strerror}; check its owner and mode") from error
    except UnicodeDecodeError:
        lines = []
    try:
        (line,) = lines
        key = bytes.fromhex(line)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise StoreError(f"the key file {path} does not hold a key, which is one line of 64 hex digits")
    return key


@cache
def _stretched(passphrase: str, salt: bytes) -> bytes:
    """Argon2id with RFC 9106's second recommendation, which databases depend on: never change a number here.

    Cached, for it takes 64 MiB and 0.1 s.
    """
    from argon2.low_level import Type, hash_secret_raw  # noqa: PLC0415 -- seldom needed

    return hash_secret_raw(
        passphrase.encode(),
        salt,
        time_cost=3,
        memory_cost=64 * 1024,  # KiB
        parallelism=4,
        hash_len=KEY_BYTES,
        type=Type.ID,
    )
