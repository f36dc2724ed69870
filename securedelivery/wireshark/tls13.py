"""TLS 1.3 as a reader with the keys needs it (RFC 8446): record protection, hellos, names of what goes by."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

__all__ = [
    "ALERT",
    "APPLICATION_DATA",
    "CHANGE_CIPHER_SPEC",
    "HANDSHAKE",
    "MAX_FRAGMENT",
    "RECORD_HEADER",
    "ClientHello",
    "HandshakeMessages",
    "ReadingKeys",
    "ServerHello",
    "agreed_alpn",
    "alert_name",
    "handshake_name",
    "read_client_hello",
    "read_key_log",
    "read_server_hello",
]

RECORD_HEADER = Struct(">BHH")  # type, legacy version, length of what follows (section 5.1)
CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
MAX_FRAGMENT = 2**14 + 256  # bytes behind the header of an encrypted record (section 5.2)
TAG_LENGTH = 16
IV_LENGTH = 12

CLIENT_HELLO, SERVER_HELLO, ENCRYPTED_EXTENSIONS, FINISHED, KEY_UPDATE = 1, 2, 8, 20, 24
_HANDSHAKE_NAMES = {
    CLIENT_HELLO: "Client Hello",
    SERVER_HELLO: "Server Hello",
    4: "New Session Ticket",
    5: "End Of Early Data",
    ENCRYPTED_EXTENSIONS: "Encrypted Extensions",
    11: "Certificate",
    13: "Certificate Request",
    15: "Certificate Verify",
    FINISHED: "Finished",
    KEY_UPDATE: "Key Update",
}
_ALERT_NAMES = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}
_GROUP_NAMES = {
    0x0017: "secp256r1",
    0x0018: "secp384r1",
    0x0019: "secp521r1",
    0x001D: "x25519",
    0x001E: "x448",
    0x11EB: "SecP256r1MLKEM768",
    0x11EC: "X25519MLKEM768",
    0x11ED: "SecP384r1MLKEM1024",
}
_SERVER_NAME, _ALPN, _KEY_SHARE = 0, 16, 51  # extensions


@dataclass(frozen=True)
class _Suite:
    name: str
    aead: type[AESGCM | ChaCha20Poly1305]
    key_length: int
    hash: HashAlgorithm


_SUITES = {
    0x1301: _Suite("TLS_AES_128_GCM_SHA256", AESGCM, 16, SHA256()),
    0x1302: _Suite("TLS_AES_256_GCM_SHA384", AESGCM, 32, SHA384()),
    0x1303: _Suite("TLS_CHACHA20_POLY1305_SHA256", ChaCha20Poly1305, 32, SHA256()),
}


def alert_name(description: int) -> str:
    return _ALERT_NAMES.get(description, "unknown")


def handshake_name(kind: int) -> str:
    return _HANDSHAKE_NAMES.get(kind, f"handshake message {kind}")


def read_key_log(text: str) -> dict[tuple[str, bytes], bytes]:
    """Lines `LABEL <which connection, hex> <secret, hex>`, by label and connection; other lines are passed over.

    An NSS key log names the connection by the client random, a frame key log by the client's e.
    """
    secrets = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3:  # noqa: PLR2004 -- the format
            with contextlib.suppress(ValueError):
                secrets[words[0], bytes.fromhex(words[1])] = bytes.fromhex(words[2])
    return secrets


class ReadingKeys:
    """What one direction is protected with, made from a traffic secret (section 7.3).

    suite: the code point in the ServerHello. Raises ValueError for an unknown suite and a secret that does not fit it.
    """

    def __init__(self, suite: int, secret: bytes) -> None:
        if suite not in _SUITES:
            raise ValueError(f"cipher suite {suite:#06x} is not known")
        self._suite = _SUITES[suite]
        if len(secret) != self._suite.hash.digest_size:
            raise ValueError(f"a secret of {len(secret)} bytes does not fit {self._suite.name}")
        self._secret = secret
        self._derive()

    def _derive(self) -> None:
        self._aead = self._suite.aead(self._expand("key", self._suite.key_length))
        self._iv = int.from_bytes(self._expand("iv", IV_LENGTH))
        self.sequence = 0

    def update(self) -> None:
        """The next generation, behind a KeyUpdate (section 7.2)."""
        self._secret = self._expand("traffic upd", self._suite.hash.digest_size)
        self._derive()

    def open(self, header: bytes, protected: bytes) -> tuple[int, bytes] | None:
        """Content type and content of a record (section 5.2); None where it was altered. protected: tag included."""
        nonce = (self._iv ^ self.sequence).to_bytes(IV_LENGTH)
        try:
            inner = self._aead.decrypt(nonce, protected, header).rstrip(b"\0")
        except (InvalidTag, ValueError):  # ValueError: it is too short for a tag
            return None
        self.sequence += 1
        return (inner[-1], inner[:-1]) if inner else None

    def _expand(self, label: str, length: int) -> bytes:
        """HKDF-Expand-Label with an empty context (section 7.1)."""
        full = b"tls13 " + label.encode()
        info = length.to_bytes(2) + bytes([len(full)]) + full + b"\0"
        return HKDFExpand(self._suite.hash, length, info).derive(self._secret)


class HandshakeMessages:
    """Handshake messages put together from records (section 4): `type u8 | length u24 | body`."""

    def __init__(self) -> None:
        self._buffer = b""

    @property
    def unfinished(self) -> bool:
        return self._buffer != b""

    def add(self, data: bytes) -> list[tuple[int, bytes]]:
        """Type and body of each message that is now complete."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= 4 and len(self._buffer) >= (end := 4 + int.from_bytes(self._buffer[1:4])):  # noqa: PLR2004
            messages.append((self._buffer[0], self._buffer[4:end]))
            self._buffer = self._buffer[end:]
        return messages


class _Cursor:
    """Reads vectors. Raises ValueError where the bytes are too few."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def take(self, length: int) -> bytes:
        if len(self._rest) < length:
            raise ValueError("too short")
        part, self._rest = self._rest[:length], self._rest[length:]
        return part

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length))

    def vector(self, length_of_length: int) -> bytes:
        return self.take(self.number(length_of_length))

    def vectors(self, length_of_length: int) -> Iterator[bytes]:
        while self._rest:
            yield self.vector(length_of_length)

    def extensions(self) -> dict[int, bytes]:
        inside, found = _Cursor(self.vector(2)), {}
        while inside._rest:
            kind = inside.number(2)
            found[kind] = inside.vector(2)
        return found


@dataclass(frozen=True)
class ClientHello:
    """What it says to everybody. random: 32 bytes; server_name: "" where there is none."""

    random: bytes
    server_name: str = ""
    alpn: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServerHello:
    """suite: its code point, cipher_suite: its name. group: the name of the key agreement, "" where none is named."""

    suite: int
    cipher_suite: str
    group: str


def read_client_hello(body: bytes) -> ClientHello | None:
    """Section 4.1.2; None where it cannot be read."""
    try:
        hello = _Cursor(body)
        hello.take(2)
        random = hello.take(32)
        hello.vector(1)
        hello.vector(2)
        hello.vector(1)
        extensions = hello.extensions()
        return ClientHello(random, _server_name(extensions), _alpn(extensions))
    except ValueError:
        return None


def read_server_hello(body: bytes) -> ServerHello | None:
    """Section 4.1.3, also a HelloRetryRequest, which the real one follows; None where it cannot be read."""
    try:
        hello = _Cursor(body)
        hello.take(2 + 32)
        hello.vector(1)
        suite = hello.number(2)
        hello.take(1)
        share = hello.extensions().get(_KEY_SHARE)
        code = int.from_bytes(share[:2]) if share else None
    except ValueError:
        return None
    name = _SUITES[suite].name if suite in _SUITES else f"suite {suite:#06x}"
    return ServerHello(suite, name, "" if code is None else _GROUP_NAMES.get(code, f"group {code:#06x}"))


def agreed_alpn(body: bytes) -> str:
    """The protocol in EncryptedExtensions (section 4.3.1); "" where there is none."""
    try:
        return next(iter(_alpn(_Cursor(body).extensions())), "")
    except ValueError:
        return ""


def _server_name(extensions: dict[int, bytes]) -> str:
    if _SERVER_NAME not in extensions:
        return ""
    names = _Cursor(_Cursor(extensions[_SERVER_NAME]).vector(2))
    names.take(1)
    return names.vector(2).decode()


def _alpn(extensions: dict[int, bytes]) -> tuple[str, ...]:
    if _ALPN not in extensions:
        return ()
    return tuple(one.decode() for one in _Cursor(_Cursor(extensions[_ALPN]).vector(2)).vectors(1))
