"""ClientHello and ServerHello (RFC 8446, section 4.1) cut into what everybody can read in them."""

from collections.abc import Iterator

from securedelivery.wireshark.story.model import Layer, Part

__all__ = ["hello_parts"]

_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_SERVER_NAME, _ALPN, _KEY_SHARE = 0, 16, 51
_X25519, _HYBRID = 0x001D, 0x11EC  # named groups; the hybrid one is X25519MLKEM768
_POINT = 32  # bytes of an X25519 public key
_RANDOM_END = 38  # type, length, version, random

Found = tuple[int, int, Layer, str, str]


def hello_parts(hello: bytes) -> list[Part]:
    """Joined they are `hello` again, whatever it is. hello: the handshake message, without the record's header."""
    kind = {_CLIENT_HELLO: "ClientHello", _SERVER_HELLO: "ServerHello"}.get(hello[0] if hello else 0, "handshake")
    parts = []
    at = 0
    for start, end, layer, what, reads in sorted(_found(hello)):
        if not at <= start < end <= len(hello):  # lengths that contradict each other
            continue
        if start > at:
            parts.append(Part(Layer.TLS, kind if not at else f"{kind}, continued", hello[at:start]))
        parts.append(Part(layer, what, hello[start:end], reads=reads))
        at = end
    if at < len(hello):
        parts.append(Part(Layer.TLS, kind if not at else f"{kind}, continued", hello[at:]))
    return parts


def _found(hello: bytes) -> Iterator[Found]:
    client = hello[:1] == bytes((_CLIENT_HELLO,))
    at = _RANDOM_END + 1 + _number(hello, _RANDOM_END, 1)
    at += 2 + _number(hello, at, 2) + 1 + _number(hello, at + 2 + _number(hello, at, 2), 1) if client else 3
    end = at + 2 + _number(hello, at, 2)
    at += 2
    while at + 4 <= end <= len(hello):
        kind, length = _number(hello, at, 2), _number(hello, at + 2, 2)
        at += 4
        if kind == _SERVER_NAME and client:
            yield _name(hello, at + 5, at + length, "the name of the server that is wanted (SNI)")
        elif kind == _ALPN and client:
            yield _name(hello, at + 3, at + length, "the protocol that is wanted (ALPN)")
        elif kind == _KEY_SHARE:
            yield from _shares(hello, at + 2 if client else at, at + length, "client" if client else "server")
        at += length


def _name(hello: bytes, start: int, end: int, what: str) -> Found:
    return start, end, Layer.TLS, what, hello[start:end].decode("ascii", "replace")


def _shares(hello: bytes, at: int, end: int, whose: str) -> Iterator[Found]:
    while at + 4 <= end:
        group, length = _number(hello, at, 2), _number(hello, at + 2, 2)
        at += 4
        point = at + length - _POINT
        if group == _HYBRID:
            yield at, point, Layer.KEM, f"TLS key share of the {whose}: ML-KEM-768", ""
        if group in {_X25519, _HYBRID}:
            yield point, at + length, Layer.X25519, f"TLS key share of the {whose}: X25519", ""
        at += length


def _number(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at : at + length])
