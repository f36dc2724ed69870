"""Packets around a stream of bytes: Ethernet, IP and TCP headers of our own making, as right as a kernel's.

What is forwarded by a relay needs no rights to record, but has no packets. These are made up: nothing is lost,
retransmitted or out of order in them.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from secrets import randbits
from struct import Struct

__all__ = ["Endpoint", "TcpFlow", "is_from_client", "payload_of"]

_FIN, _SYN, _RST, _PSH, _ACK = 1, 2, 4, 8, 16
_TCP = 6
_TTL = 64
_WINDOW = 65_535
_SCALE = 7  # so 8 MiB, far more than is ever unacknowledged here
_ACKNOWLEDGE = 32_768  # bytes without an acknowledgement: then the receiver sends one of its own
_MODULUS = 2**32
_ALL_ONES = 0xFFFF
_MSS = {4: 1_460, 6: 1_440}  # an Ethernet's 1,500 bytes less the headers
_ETHERTYPE = {4: b"\x08\x00", 6: b"\x86\xdd"}
_IPV4 = Struct(">BBHHHBBH4s4s")
_IPV6 = Struct(">IHBB16s16s")
_HEADER = Struct(">HHIIBBHHH")
_DONT_FRAGMENT = 0x4000
_CLIENT_MAC, _SERVER_MAC = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"  # locally administered


@dataclass(frozen=True)
class Endpoint:
    """address: of IPv4 or IPv6, as text."""

    address: str
    port: int


class _Side:
    """One end. sequence: the next of its own; acknowledged: how far it has said that it got the other's."""

    def __init__(self, endpoint: Endpoint, mac: bytes, sequence: int) -> None:
        self.port = endpoint.port
        self.ip: IPv4Address | IPv6Address = ip_address(endpoint.address)
        self.mac = mac
        self.sequence = sequence
        self.acknowledged = 0
        self.identification = 0
        self.finished = False


class TcpFlow:
    """One connection. Every call returns the Ethernet frames that belong to it, in order; open() is the first.

    A side that has said FIN sends nothing more, and after an RST nobody does: such calls return no frames.

    sequences: the initial sequence numbers of client and server, by default random ones. Raises ValueError where one
    end has an IPv4 address and the other one of IPv6, or where one has none.
    """

    def __init__(self, client: Endpoint, server: Endpoint, *, sequences: tuple[int, int] | None = None) -> None:
        first, second = sequences or (randbits(32), randbits(32))
        self._client = _Side(client, _CLIENT_MAC, first)
        self._server = _Side(server, _SERVER_MAC, second)
        if self._client.ip.version != self._server.ip.version:
            raise ValueError(f"{client.address} and {server.address} are of two kinds")
        self._version = self._client.ip.version
        self._mss = _MSS[self._version]
        self._over = False

    def open(self) -> list[bytes]:
        """SYN, SYN-ACK, ACK."""
        client, server = self._client, self._server
        options = b"\x02\x04" + self._mss.to_bytes(2) + b"\x01\x03\x03" + bytes([_SCALE])
        syn = self._packet(client, server, _SYN, options=options)
        _advance(client, 1)
        answer = self._packet(server, client, _SYN | _ACK, options=options)
        _advance(server, 1)
        return [syn, answer, self._packet(client, server, _ACK)]

    def send(self, from_client: bool, data: bytes) -> list[bytes]:
        """Data in segments, the last with PSH; the receiver acknowledges when much has come without an answer."""
        sender, receiver = self._sides(from_client)
        packets: list[bytes] = []
        if sender.finished or self._over:
            return packets
        for start in range(0, len(data), self._mss):
            piece = data[start : start + self._mss]
            last = start + self._mss >= len(data)
            packets.append(self._packet(sender, receiver, _ACK | (_PSH if last else 0), data=piece))
            _advance(sender, len(piece))
            if (sender.sequence - receiver.acknowledged) % _MODULUS >= _ACKNOWLEDGE:
                packets.append(self._packet(receiver, sender, _ACK))
        return packets

    def finish(self, from_client: bool) -> list[bytes]:
        """FIN and its acknowledgement. The other side may go on sending."""
        sender, receiver = self._sides(from_client)
        if sender.finished or self._over:
            return []
        sender.finished = True
        fin = self._packet(sender, receiver, _FIN | _ACK)
        _advance(sender, 1)
        return [fin, self._packet(receiver, sender, _ACK)]

    def reset(self, from_client: bool) -> list[bytes]:
        """RST; nothing follows it."""
        if self._over or (self._client.finished and self._server.finished):
            return []
        self._over = True
        return [self._packet(*self._sides(from_client), _RST | _ACK)]

    def _sides(self, from_client: bool) -> tuple[_Side, _Side]:
        return (self._client, self._server) if from_client else (self._server, self._client)

    def _packet(self, sender: _Side, receiver: _Side, flags: int, *, options: bytes = b"", data: bytes = b"") -> bytes:
        if flags & _ACK:
            sender.acknowledged = receiver.sequence
        words = (_HEADER.size + len(options)) // 4 << 4
        acknowledgement = sender.acknowledged if flags & _ACK else 0
        head = (sender.port, receiver.port, sender.sequence, acknowledgement, words, flags, _WINDOW)
        segment = _HEADER.pack(*head, 0, 0) + options + data
        pseudo = sender.ip.packed + receiver.ip.packed + len(segment).to_bytes(4) + _TCP.to_bytes(4)
        segment = segment[:16] + _checksum(pseudo + segment).to_bytes(2) + segment[18:]
        return (
            receiver.mac + sender.mac + _ETHERTYPE[self._version] + self._ip(sender, receiver, len(segment)) + segment
        )

    def _ip(self, sender: _Side, receiver: _Side, length: int) -> bytes:
        if self._version == 6:  # noqa: PLR2004 -- IPv6
            return _IPV6.pack(6 << 28, length, _TCP, _TTL, sender.ip.packed, receiver.ip.packed)
        sender.identification = (sender.identification + 1) % 65_536
        fields = (0x45, 0, 20 + length, sender.identification, _DONT_FRAGMENT, _TTL, _TCP)
        addresses = (sender.ip.packed, receiver.ip.packed)
        return _IPV4.pack(*fields, _checksum(_IPV4.pack(*fields, 0, *addresses)), *addresses)


def is_from_client(packet: bytes) -> bool:
    """Of a packet that a TcpFlow made."""
    return packet[6:12] == _CLIENT_MAC


def payload_of(packet: bytes) -> bytes:
    """The TCP payload of a packet that a TcpFlow made; often none."""
    tcp = 14 + (40 if packet[12:14] == _ETHERTYPE[6] else 20)
    return packet[tcp + (packet[tcp + 12] >> 4) * 4 :]


def _advance(side: _Side, count: int) -> None:
    side.sequence = (side.sequence + count) % _MODULUS


def _checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071) of data that are not all zero.

    The one's complement sum of the words is their sum modulo 65,535, and that is all of them as one number modulo it.
    """
    if len(data) % 2:
        data += b"\0"
    return _ALL_ONES - (int.from_bytes(data) % _ALL_ONES or _ALL_ONES)
