"""What the third capture says by itself: comments on its packets, and the opened messages as packets of their own."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

import msgspec

from securedelivery.protocol.authentication import Auth
from securedelivery.protocol.certificates import UNREADABLE, uri_names
from securedelivery.protocol.frames import HEADER, FrameKind
from securedelivery.wireshark import tls13
from securedelivery.wireshark.capture import Recorded
from securedelivery.wireshark.opened import Frame, OpenedLeg, Piece, Record, Status, cut
from securedelivery.wireshark.play import Leg, Play, Tampering, Verdict
from securedelivery.wireshark.tcp import Endpoint

__all__ = ["ExportedMessage", "Narration", "narrate"]

CLOSE_NOTIFY = 0
CLIENT_HANDSHAKE = "X25519 public key (32 bytes) and ML-KEM-768 public key (1,184 bytes)"
SERVER_HANDSHAKE = (
    "X25519 public key (32 bytes), ML-KEM-768 ciphertext (1,088 bytes, encrypted with the X25519 result) and its tag, "
    "tag of an empty payload (16 bytes each)"
)
QUANTUM = (
    "A large quantum computer would find the private key of this X25519 public key, and not that of the ML-KEM-768 "
    "public key behind it"
)


class ExportedMessage(msgspec.Struct, frozen=True):
    """An opened message as a packet of its own.

    number: that of its own packet in the third capture. packet: that in which its frame was complete; at: the time of
    it. payload: the plaintext with its padding. protocol, info: what the list of packets shows.
    """

    number: int
    packet: int
    at: int
    payload: bytes
    source: Endpoint
    destination: Endpoint
    protocol: str
    info: str


class Narration(msgspec.Struct, frozen=True):
    """comments: by packet number, in the order of reading. messages: in the order of their packets."""

    comments: dict[int, tuple[str, ...]]
    messages: tuple[ExportedMessage, ...]


def narrate(play: Play, legs: Sequence[OpenedLeg]) -> Narration:
    """legs: the connections of the play, opened with both sets of keys."""
    named = {leg.number: leg for leg in play.legs}
    tellers = [_Teller(play, named[leg.number], leg) for leg in legs if leg.number in named]
    frames = [(teller, frame) for teller in tellers for frame in teller.opened.frames if frame.message is not None]
    frames.sort(key=lambda pair: (pair[1].packets[-1], pair[1].index))
    messages = tuple(
        _export(teller, frame, number) for number, (teller, frame) in enumerate(frames, len(play.packets) + 1)
    )
    numbers = {
        (teller.leg.number, frame.index): one.number for (teller, frame), one in zip(frames, messages, strict=True)
    }
    comments: dict[int, list[str]] = defaultdict(list)
    for teller in tellers:
        for packet, text in teller.comments(numbers):
            if text not in comments[packet]:
                comments[packet].append(text)
    return Narration({packet: tuple(comments[packet]) for packet in sorted(comments)}, messages)


def _export(teller: "_Teller", frame: Frame, number: int) -> ExportedMessage:
    assert frame.message is not None
    packet = frame.packets[-1]
    carrier = teller.play.packets[packet - 1]
    source, destination = _endpoints(carrier)
    return ExportedMessage(
        number=number,
        packet=packet,
        at=carrier.at,
        payload=frame.plaintext or b"",
        source=source,
        destination=destination,
        protocol=frame.message.method or frame.message.says,
        info=f"{teller.way(frame)}  {frame.message.says}, from packet {packet}",
    )


def _endpoints(packet: Recorded) -> tuple[Endpoint, Endpoint]:
    """Source and destination in the headers of a recorded packet, which are of our own making (tcp.py)."""
    ip = packet.data[14:]
    if ip[0] >> 4 == 4:  # noqa: PLR2004 -- IPv4, RFC 791
        addresses, tcp = (ip[12:16], ip[16:20]), ip[20:]
    else:
        addresses, tcp = (ip[8:24], ip[24:40]), ip[40:]
    source, destination = (str(ip_address(one)) for one in addresses)
    return Endpoint(source, int.from_bytes(tcp[:2])), Endpoint(destination, int.from_bytes(tcp[2:4]))


class _Teller:
    """Tells of one connection."""

    def __init__(self, play: Play, leg: Leg, opened: OpenedLeg) -> None:
        self.play = play
        self.leg = leg
        self.opened = opened

    def way(self, what: Frame | Record) -> str:
        """Who speaks to whom."""
        return f"{self._speaker(what)} -> {self.leg.server if what.from_client else self.leg.client}"

    def _speaker(self, what: Frame | Record) -> str:
        return self.leg.client if what.from_client else self.leg.server

    def comments(self, numbers: dict[tuple[int, int], int]) -> Iterator[tuple[int, str]]:
        """Packet and text. numbers: where each message is opened, by leg and index of its frame."""
        yield self.opened.packets[0], self._opening()
        for tampering in self.play.tamperings:
            if tampering.leg == self.leg.number:
                yield self._tampering(tampering)
        for frame in self.opened.frames:
            text = f"{self.way(frame)}: {frame.kind_name}"
            for packet in frame.packets[:-1]:
                yield packet, f"{text}, a part; the rest is in packet {frame.packets[-1]}"
            yield frame.packets[-1], text + self._frame(frame, numbers.get((self.leg.number, frame.index)))
        for record in self.opened.records:
            if text := self._record(record):
                yield record.packets[-1], f"{self.way(record)}: {text}"
        yield from self._readings()
        yield from self._harvest()
        for verdict in self.play.verdicts:
            if verdict.leg == self.leg.number:
                yield self._signal(verdict), f"{verdict.who}, in its own words: {verdict.said}"

    def _opening(self) -> str:
        leg, e = self.leg, self.opened.initiator_e.hex()
        lines = [f"Act {leg.act}. {leg.client} -> {leg.server} (tcp.stream {leg.number}). {leg.says}"]
        keys = zip(("C2S", "S2C"), self.opened.frame_keys, strict=True)
        found = [f"SD_FRAME_KEY_{which} {e} {key.hex()}" for which, key in keys if key is not None]
        if found:
            lines += ["The frame keys of this throw-away connection, the first of each direction:", *found]
        return "\n".join(lines)

    # TLS

    def _record(self, record: Record) -> str:
        """What there is to say of a record; "" where its frames say it, and where there is nothing to say."""
        match record.status, record.inner_type:
            case Status.NO_KEY, _:
                return f"TLS record of {_count(len(record.raw))} that these keys do not open"
            case Status.REJECTED, _:
                return "TLS record, REJECTED: its tag does not fit, the receiver ends the connection"
            case Status.BEHIND, _:
                return "TLS record behind a rejected one: it is not decrypted any more"
            case Status.CLEAR, tls13.HANDSHAKE:
                return f"TLS, in clear: {record.says}{self._hello(record)}"
            case Status.OPENED, tls13.HANDSHAKE:
                return f"TLS, encrypted: {record.says}"
            case _, tls13.ALERT:
                proper = ": the proper end of TLS in this direction" if record.alert == CLOSE_NOTIFY else ""
                return f"TLS {record.says}{proper}"
            case _:
                return ""

    def _hello(self, record: Record) -> str:
        opened = self.opened
        if record.from_client:
            protocols = ", ".join(opened.offered_alpn) or "none"
            return f". Everybody on the way reads: server name {opened.server_name or 'none'}, protocol {protocols}"
        group = opened.tls_group or "unknown"
        return f". {opened.cipher_suite or 'no cipher suite'}, key agreement {group}; what follows is encrypted"

    # Frames

    def _frame(self, frame: Frame, number: int | None) -> str:
        """What there is to say of a frame behind its kind. number: where it is opened."""
        counter = "" if frame.counter is None else f", counter {frame.counter}"
        match frame.status:
            case Status.CLEAR:
                parts = CLIENT_HANDSHAKE if frame.from_client else SERVER_HANDSHAKE
                return f", {_count(len(frame.raw))}, Noise inside TLS: {parts}"
            case Status.OPENED:
                return f"{counter}: {_content(frame)}" + (f". Opened as packet {number}" if number else "")
            case Status.REJECTED:
                return f"{counter}, REJECTED: {_diagnosis(frame)}"
            case Status.BEHIND:
                return " behind a rejected frame: the receiver never decrypts again"
            case _:
                return ": these keys do not open it"

    # The attacker

    def _tampering(self, tampering: Tampering) -> tuple[int, str]:
        if tampering.bit is None:
            packet = tampering.packets[0] if tampering.packets else self._last_data()
            return packet, f"ATTACK: {tampering.what}"
        place, bit = divmod(tampering.bit, 8)
        change = f"0x{tampering.after[place] ^ 0x80 >> bit:02x} became 0x{tampering.after[place]:02x}"
        which = f"ATTACK: {tampering.what} The bit of value 0x{0x80 >> bit:02x} was flipped"
        record = self._place_in_record(tampering, place)
        if record is not None:
            packet, start = record
            return packet, f"{which} at offset {start} (0x{start:04x}) of this packet: {change}"
        frame = next((one for one in self.opened.frames if one.raw == tampering.after), None)
        if frame is None:
            return tampering.packets[0], f"{which} at offset {place}: {change}"
        packet, start = _at(self.opened.wire(frame), place)
        inside = f"{which} at offset {place - HEADER.size} of the frame's body, inside TLS: {change}"
        return packet, f"{inside}. TLS carries it, encrypted, at offset {start} (0x{start:04x}) of this packet"

    def _place_in_record(self, tampering: Tampering, place: int) -> tuple[int, int] | None:
        """Packet and index of the changed byte, where what was changed is a TLS record as recorded."""
        for record in self.opened.records:
            inside = tampering.after.find(record.raw)
            if 0 <= inside <= place < inside + len(record.raw):
                return _at(record.pieces, place - inside)
        return None

    def _last_data(self) -> int:
        data = (number for number in reversed(self.opened.packets) if self.play.packets[number - 1].payload)
        return next(data, self.opened.packets[-1])

    def _readings(self) -> Iterator[tuple[int, str]]:
        for reading in self.play.readings:
            if reading.leg == self.leg.number:
                told = (
                    one for one in self.opened.frames if one.plaintext and reading.plaintext.strip() in one.plaintext
                )
                frame = next(told, None)
                packet = frame.packets[-1] if frame else self._last_data()
                yield packet, f"ATTACK: {reading.who} reads this message in clear, all {_count(len(reading.plaintext))}"

    def _harvest(self) -> Iterator[tuple[int, str]]:
        harvest = self.play.harvest
        if harvest.leg != self.leg.number:
            return
        for frame in self.opened.frames:
            if frame.kind == FrameKind.HANDSHAKE and frame.from_client:
                yield frame.packets[-1], QUANTUM
            elif frame.kind == FrameKind.HANDSHAKE:
                yield (
                    frame.packets[-1],
                    f"With that key it would open the envelope around the ML-KEM ciphertext. {harvest.hybrid}",
                )

    # Receivers

    def _signal(self, verdict: Verdict) -> int:
        """The packet in which a receiver's verdict shows: its own alert, CLOSE or error, else one that it received."""
        signals = [
            (record.from_client, record.packets[-1])
            for record in self.opened.records
            if record.alert not in {None, CLOSE_NOTIFY}
        ]
        signals += [
            (frame.from_client, frame.packets[-1])
            for frame in self.opened.frames
            if frame.message is not None and frame.message.what in {"close", "error"} and frame.message.reason != "bye"
        ]
        signals.sort(key=lambda signal: signal[1])
        own = [packet for from_client, packet in signals if verdict.who == self._name(from_client=from_client)]
        return next(iter(own or [packet for _, packet in signals]), self._last_data())

    def _name(self, *, from_client: bool) -> str:
        return self.leg.client if from_client else self.leg.server


def _content(frame: Frame) -> str:
    """What was in an opened frame."""
    sizes = f"{_count(len(frame.content))} and {frame.padding:,} of padding"
    if frame.message is not None:
        return f"{frame.message.reason if frame.message.what == 'close' else frame.message.says}, {sizes}"
    if frame.auth is None:
        return f"{sizes}, which are no AUTH"
    return f"{_holder(frame.auth)}, {sizes}"


def _holder(auth: Auth) -> str:
    if not auth.certificates:
        return "no certificate"
    try:
        names = ", ".join(uri_names(auth.certificates[0])) or auth.certificates[0].subject.rfc4514_string()
    except UNREADABLE:
        names = "somebody whose name cannot be read"
    return f"the certificate of {names} and a signature over this handshake"


def _diagnosis(frame: Frame) -> str:
    """Why a frame does not open, as far as the keys tell."""
    if frame.fits is None or frame.counter is None:
        return "its tag fits no counter, it was altered"
    if frame.fits < frame.counter:
        return f"its tag fits counter {frame.fits}, it is a replay"
    return f"its tag fits counter {frame.fits}, it came too early"


def _at(pieces: Sequence[Piece], place: int) -> tuple[int, int]:
    """Packet, and index in its bytes, of the byte `place` bytes in; there has to be one."""
    (piece,) = cut(pieces, place, 1)
    return piece.packet, piece.start


def _count(number: int) -> str:
    return f"{number:,} byte" + "s" * (number != 1)
