"""Records and frames cut into parts by layer. The parts of anything, joined, are its bytes."""

import contextlib
from collections.abc import Iterator

from msgspec import DecodeError, json
from msgspec.structs import replace

from securedelivery.protocol.frames import FrameKind
from securedelivery.protocol.noise import DHLEN, KEM_CIPHERTEXT_LENGTH, KEM_PUBLIC_KEY_LENGTH, TAG_LENGTH
from securedelivery.wireshark.opened import Frame, Piece, Record, Status
from securedelivery.wireshark.story.hello import hello_parts
from securedelivery.wireshark.story.model import Layer, Part, Strip
from securedelivery.wireshark.tls13 import HANDSHAKE

__all__ = [
    "alert_opened",
    "as_text",
    "frame_closed",
    "frame_opened",
    "handshake_parts",
    "in_pieces",
    "record_parts",
    "split",
]

_CONTENT_TYPES = {20: "change_cipher_spec", 21: "alert", 22: "handshake", 23: "application_data"}
_RECORD_TAG = "TLS tag"
_FRAME_TAG = "frame tag"
_ONE_LINE = 100  # characters of JSON that are not broken into lines
_ALERTS = {1: "warning", 2: "fatal"}


def record_parts(record: Record, bit: int | None = None) -> list[Part]:
    """As on the wire. bit: the index in the record of a flipped bit."""
    kind = _CONTENT_TYPES.get(record.content_type, "unknown")
    header = Part(
        Layer.TLS,
        "TLS record header",
        record.header,
        reads=f"type {record.content_type} ({kind}), length {int.from_bytes(record.header[3:])}",
    )
    if record.status is Status.CLEAR:
        body = (
            hello_parts(record.ciphertext)
            if record.content_type == HANDSHAKE
            else [Part(Layer.TLS, kind, record.ciphertext)]
        )
        return [header, *body]
    parts = [
        header,
        Part(Layer.TLS, "TLS ciphertext", record.ciphertext, sealed=True),
        Part(Layer.TLS, _RECORD_TAG, record.tag, sealed=True),
    ]
    return parts if bit is None else list(_marked(parts, bit))


def _marked(parts: list[Part], bit: int) -> Iterator[Part]:
    for part in parts:
        here = 0 <= bit < 8 * len(part.data)
        yield replace(part, bit=bit) if here else part
        bit -= 8 * len(part.data)


def in_pieces(parts: list[Part], pieces: tuple[Piece, ...]) -> Iterator[tuple[Piece, list[Part]]]:
    """The parts of a record as they lie in its packets."""
    left = list(parts)
    for piece in pieces:
        found: list[Part] = []
        room = piece.length
        while room and left:
            part, *left = left
            if len(part.data) > room:
                part, rest = split(part, room)
                left.insert(0, rest)
            found.append(part)
            room -= len(part.data)
        yield piece, found


def split(part: Part, at: int) -> tuple[Part, Part]:
    """at: how many bytes belong to the first one."""
    bit = part.bit
    before = bit if bit is not None and bit < 8 * at else None
    behind = bit - 8 * at if bit is not None and bit >= 8 * at else None
    return (
        replace(part, data=part.data[:at], bit=before),
        replace(part, what=f"{part.what}, continued", data=part.data[at:], bit=behind, reads=""),
    )


def frame_closed(frame: Frame, title: str = "TLS opened", bit: int | None = None) -> Strip:
    """What is seen with the keys of TLS alone. bit: the index in the frame of a flipped bit."""
    parts = [_header(frame)]
    if frame.kind == FrameKind.HANDSHAKE:
        parts += handshake_parts(frame)
    else:
        parts += [
            Part(Layer.FRAME, "body, AES-256-GCM", frame.body, sealed=True),
            Part(Layer.FRAME, _FRAME_TAG, frame.tag, sealed=True),
        ]
    return Strip(title, tuple(parts if bit is None else _marked(parts, bit)), wire=False)


def frame_opened(frame: Frame, *, in_lines: bool, sealer: str = "") -> Strip:
    """What is seen with all keys.

    frame: one that was opened. in_lines: whether JSON is broken into lines. sealer: who sealed it, where that is not
    the one whose words are in it.
    """
    assert frame.plaintext is not None
    right = f"right: it is as {sealer} sealed it" if sealer else "right: nobody changed the frame"
    tag = Part(Layer.FRAME, _FRAME_TAG, frame.tag, reads=right)
    parts = (_header(frame), *_plaintext_parts(frame, in_lines=in_lines), tag)
    return Strip("Frame opened", parts, wire=False)


def _header(frame: Frame) -> Part:
    reads = f"kind {frame.kind} ({frame.kind_name}), flags {frame.flags}, length {len(frame.body) + len(frame.tag):,}"
    return Part(Layer.FRAME, "frame header", frame.header, reads=reads)


def handshake_parts(frame: Frame) -> list[Part]:
    """The body of a HANDSHAKE frame (docs/protocol.md, section 3)."""
    body = frame.body
    if frame.from_client:
        assert len(body) == DHLEN + KEM_PUBLIC_KEY_LENGTH
        return [
            Part(Layer.X25519, "e: the client's X25519 public key", body[:DHLEN]),
            Part(Layer.KEM, "e1: the client's ML-KEM-768 public key", body[DHLEN:]),
        ]
    sealed_end = DHLEN + KEM_CIPHERTEXT_LENGTH
    return [
        Part(Layer.X25519, "e: the server's X25519 public key", body[:DHLEN]),
        Part(
            Layer.KEM,
            "ekem1: the ML-KEM ciphertext, sealed once more under the key from X25519",
            body[DHLEN:sealed_end],
            sealed=True,
        ),
        Part(Layer.FRAME, "tag of ekem1", body[sealed_end : sealed_end + TAG_LENGTH], sealed=True),
        Part(Layer.FRAME, "tag of the empty payload", body[sealed_end + TAG_LENGTH :], sealed=True),
    ]


def _plaintext_parts(frame: Frame, *, in_lines: bool) -> list[Part]:
    plaintext = frame.plaintext or b""
    if frame.auth is not None:
        return _auth_parts(plaintext, len(frame.auth.chain), len(frame.auth.signature))
    end = len(plaintext) - frame.padding
    parts = (
        Part(Layer.MESSAGE, "JSON text", plaintext[:end], reads=as_text(plaintext[:end], in_lines=in_lines)),
        Part(Layer.PADDING, "padding: spaces", plaintext[end:]),
    )
    return [part for part in parts if part.data]


def _auth_parts(plaintext: bytes, chain: int, signature: int) -> list[Part]:
    """chain, signature: their lengths, bytes."""
    scheme = 3 + chain
    start = scheme + 4
    parts = (
        Part(Layer.FRAME, "length of the chain", plaintext[:3], reads=f"{chain:,}"),
        Part(Layer.IDENTITY, "certificate chain", plaintext[3:scheme]),
        Part(Layer.FRAME, "signature scheme, length", plaintext[scheme:start], reads=_scheme(plaintext[scheme:start])),
        Part(Layer.IDENTITY, "signature over the handshake", plaintext[start : start + signature]),
        Part(Layer.PADDING, "padding: zeros", plaintext[start + signature :]),
    )
    return [part for part in parts if part.data]


def _scheme(data: bytes) -> str:
    number = int.from_bytes(data[:2])
    name = {0x0403: "ECDSA P-256 with SHA-256", 0x0804: "RSA-PSS with SHA-256", 0: "none"}.get(number, f"{number:#06x}")
    return f"{name}, {int.from_bytes(data[2:])} bytes"


def alert_opened(record: Record) -> Strip:
    """record: one whose content is an alert that was opened."""
    content = record.content or b""
    level = _ALERTS.get(content[0], str(content[0]))
    parts = (
        Part(Layer.TLS, "alert", content, reads=f"level {content[0]} ({level}), {record.says}"),
        Part(Layer.TLS, "content type", b"\x15", reads="21 (alert)"),
    )
    return Strip("TLS opened", parts, wire=False)


def as_text(message: bytes, *, in_lines: bool = False) -> str:
    """in_lines: whether JSON is broken into lines if it is long; whatever is no JSON stays as it stands."""
    if in_lines and len(message) > _ONE_LINE:
        with contextlib.suppress(DecodeError):
            message = json.format(message, indent=2)
    return message.decode("utf-8", "replace")
