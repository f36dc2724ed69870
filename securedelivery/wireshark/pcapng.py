"""pcapng, the blocks that a recording needs (draft-ietf-opsawg-pcapng). Little-endian, times in nanoseconds."""

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from struct import Struct

from securedelivery.wireshark.tcp import Endpoint

__all__ = ["ETHERNET", "EXPORTED_PDU", "exported_pdu", "interface", "packet", "section_header", "tls_secrets"]

ETHERNET = 1  # link types
EXPORTED_PDU = 252

_BLOCK = Struct("<II")
_LENGTH = Struct("<I")
_SECTION = Struct("<IHHq")
_INTERFACE = Struct("<HHI")
_PACKET = Struct("<IIIII")
_OPTION = Struct("<HH")
_TAG = Struct(">HH")
_NUMBER = Struct(">I")

_BYTE_ORDER = 0x1A2B3C4D
_UNKNOWN_LENGTH = -1
_TLS_KEY_LOG = 0x544C534B
_NANOSECONDS = b"\x09"  # 10^-9
_SNAPLEN = 262_144  # what Wireshark takes at the most

_COMMENT, _NAME, _DESCRIPTION, _RESOLUTION, _APPLICATION = 1, 2, 3, 9, 4

# Wireshark's epan/exported_pdu.h
_DISSECTOR, _SOURCE4, _DESTINATION4, _SOURCE6, _DESTINATION6 = 12, 20, 21, 22, 23
_PORT_TYPE, _SOURCE_PORT, _DESTINATION_PORT, _ORIGINAL, _PROTOCOL, _INFO = 24, 25, 26, 30, 33, 36
_TCP = 2
_IPV4 = 4


def section_header(application: str) -> bytes:
    """The file's first block. application: which program wrote it."""
    head = _SECTION.pack(_BYTE_ORDER, 1, 0, _UNKNOWN_LENGTH)
    return _block(0x0A0D0D0A, head + _options((_APPLICATION, application.encode())))


def interface(link_type: int, name: str, description: str = "") -> bytes:
    """The next interface; they are numbered from 0."""
    options = [(_NAME, name.encode())]
    if description:
        options.append((_DESCRIPTION, description.encode()))
    options.append((_RESOLUTION, _NANOSECONDS))
    return _block(1, _INTERFACE.pack(link_type, 0, _SNAPLEN) + _options(*options))


def tls_secrets(key_log: str) -> bytes:
    """TLS keys for the packets behind it: a Decryption Secrets Block. key_log: an NSS key log."""
    secrets = key_log.encode()
    return _block(0x0A, _BLOCK.pack(_TLS_KEY_LOG, len(secrets)) + _padded(secrets))


def packet(data: bytes, *, at: int, interface: int = 0, comments: Sequence[str] = ()) -> bytes:
    """An Enhanced Packet Block. at: nanoseconds since the epoch."""
    head = _PACKET.pack(interface, at >> 32, at & 0xFFFFFFFF, len(data), len(data))
    options = _options(*((_COMMENT, comment.encode()) for comment in comments)) if comments else b""
    return _block(6, head + _padded(data) + options)


def exported_pdu(
    payload: bytes,
    *,
    dissector: str,
    packet: int,
    source: Endpoint,
    destination: Endpoint,
    protocol: str,
    info: str,
) -> bytes:
    """What a packet on an EXPORTED_PDU interface holds: tags that say what the payload is, then the payload.

    dissector: Wireshark's name for it. packet: the number of the packet that it came from. protocol, info: the columns.
    """
    tags = [(_DISSECTOR, dissector.encode()), *_addresses(source, destination)]
    tags += [(_PORT_TYPE, _NUMBER.pack(_TCP)), (_SOURCE_PORT, _NUMBER.pack(source.port))]
    tags += [(_DESTINATION_PORT, _NUMBER.pack(destination.port)), (_ORIGINAL, _NUMBER.pack(packet))]
    tags += [(_PROTOCOL, protocol.encode()), (_INFO, info.encode())]
    return b"".join(_TAG.pack(tag, len(_padded(value))) + _padded(value) for tag, value in tags) + bytes(4) + payload


def _addresses(source: Endpoint, destination: Endpoint) -> Iterable[tuple[int, bytes]]:
    four = ip_address(source.address).version == _IPV4
    yield (_SOURCE4 if four else _SOURCE6), ip_address(source.address).packed
    yield (_DESTINATION4 if four else _DESTINATION6), ip_address(destination.address).packed


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return _BLOCK.pack(kind, length) + body + _LENGTH.pack(length)


def _options(*options: tuple[int, bytes]) -> bytes:
    return b"".join(_OPTION.pack(code, len(value)) + _padded(value) for code, value in options) + bytes(4)


def _padded(data: bytes) -> bytes:
    """To 32 bits, as everything in this format."""
    return data + bytes(-len(data) % 4)
