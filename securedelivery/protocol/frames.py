"""Frames: `kind u8 | flags u8 | length u16 | body[length]`, and their padding (docs/protocol.md, section 2)."""

from enum import IntEnum
from struct import Struct

from securedelivery.errors import LocalProtocolError, RemoteProtocolError
from securedelivery.protocol.noise import TAG_LENGTH

__all__ = [
    "AUTH_BLOCK",
    "HEADER",
    "MAX_PLAINTEXT",
    "PADDING_BLOCK",
    "REKEY_INTERVAL",
    "FrameKind",
    "check_body_length",
    "pad",
]

HEADER = Struct(">BBH")  # kind, flags, length of the body
HEADER_LENGTH = HEADER.size
PADDING_BLOCK = 64
MAX_PLAINTEXT = 65_472  # Noise's 65,535 less the tag, rounded down to a multiple of the padding
AUTH_BLOCK = 1_024
MAX_AUTH_PLAINTEXT = 64_512  # likewise for AUTH
REKEY_INTERVAL = 1_024  # frames; few enough that a leaked key opens little, so many that it costs nothing


class FrameKind(IntEnum):
    HANDSHAKE = 1
    AUTH = 2
    MESSAGE = 3
    CLOSE = 4


# What each kind's body can measure, the same for both sides but for HANDSHAKE (docs/protocol.md, section 3).
CLIENT_HANDSHAKE_LENGTH = 32 + 1_184
SERVER_HANDSHAKE_LENGTH = 32 + (1_088 + TAG_LENGTH) + TAG_LENGTH
MESSAGE_LENGTHS = range(PADDING_BLOCK + TAG_LENGTH, MAX_PLAINTEXT + TAG_LENGTH + 1, PADDING_BLOCK)
_LENGTHS: dict[int, range] = {
    FrameKind.AUTH: range(AUTH_BLOCK + TAG_LENGTH, MAX_AUTH_PLAINTEXT + TAG_LENGTH + 1, AUTH_BLOCK),
    FrameKind.MESSAGE: MESSAGE_LENGTHS,
    FrameKind.CLOSE: MESSAGE_LENGTHS,
}


def check_body_length(kind: int, length: int, handshake_length: int) -> None:
    """Refuse a length that no valid body of the kind can have, before a byte of the body was read.

    kind: of FrameKind. handshake_length: that of the peer's handshake message, bytes. Raises RemoteProtocolError.
    """
    lengths = _LENGTHS.get(kind)
    valid = length == handshake_length if lengths is None else length in lengths
    if not valid:
        raise RemoteProtocolError(f"a {FrameKind(kind).name} body cannot have {length} bytes")


def pad(plaintext: bytes) -> bytes:
    """Pad with spaces, which JSON ignores, to a multiple of 64 bytes. Raises LocalProtocolError beyond 65,472 bytes."""
    length = len(plaintext)
    if length > MAX_PLAINTEXT:
        raise LocalProtocolError(f"a message of {length} bytes does not fit a frame ({MAX_PLAINTEXT})")
    return plaintext + b" " * (-length % PADDING_BLOCK)
