"""Recorded connections opened again with the keys: TLS 1.3 records and the frames in them, as Wireshark does it.

Pure functions over what was recorded and the texts of key logs. Whatever the bytes are, what cannot be opened is in the
result and says why.
"""

from collections.abc import Sequence
from enum import Enum
from itertools import chain
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securedelivery.errors import RemoteProtocolError
from securedelivery.protocol.authentication import Auth, decode_auth
from securedelivery.protocol.frames import HEADER, HEADER_LENGTH, REKEY_INTERVAL, FrameKind
from securedelivery.protocol.noise import DHLEN, TAG_LENGTH, CipherState
from securedelivery.wireshark import tls13
from securedelivery.wireshark.capture import Recorded

__all__ = ["Frame", "Message", "OpenedLeg", "Piece", "Record", "Status", "cut", "open_play"]

KEY_LENGTH = 32
SEARCHED_BACK, SEARCHED_AHEAD = 4_096, 2_048  # counters that a rejected frame is tried under, as in securedelivery.lua
_KINDS = frozenset(FrameKind)
_C2S, _S2C = "SD_FRAME_KEY_C2S", "SD_FRAME_KEY_S2C"


class Status(Enum):
    """What became of a record or a frame. The values are those of the dissector's field securedelivery.status."""

    CLEAR = "clear"
    OPENED = "opened"
    NO_KEY = "no key"
    REJECTED = "rejected"
    BEHIND = "behind a rejected frame"


class Piece(msgspec.Struct, frozen=True):
    """A run of bytes in one packet. packet: its number. start: index in its bytes, Ethernet header included."""

    packet: int
    start: int
    length: int


class Record(msgspec.Struct, frozen=True):
    """A TLS record (RFC 8446, section 5).

    index: its place in OpenedLeg.records. pieces: where its bytes are, header first. content_type: the one outside (20
    change_cipher_spec, 21 alert, 22 handshake, 23 application_data). inner_type: the one inside; that outside for a
    record in clear, None for one that was not opened. header: 5 bytes. ciphertext: the encrypted part; the whole body
    of a record in clear. tag: 16 bytes, none for a record in clear. content: what is inside, without the inner type and
    zero padding; None where it was not opened. says: what is in it, in words, such as "Client Hello" or "Certificate,
    Certificate Verify, Finished", "alert 20 (bad_record_mac)", "application data". sequence: the number in its nonce.
    """

    index: int
    from_client: bool
    pieces: tuple[Piece, ...]
    content_type: int
    inner_type: int | None
    header: bytes
    ciphertext: bytes
    tag: bytes
    content: bytes | None
    status: Status
    says: str
    sequence: int | None = None
    alert: int | None = None
    """The description of an alert that could be read, such as 20 for bad_record_mac."""

    @property
    def packets(self) -> tuple[int, ...]:
        """The numbers of the packets that carry it."""
        return tuple(piece.packet for piece in self.pieces)

    @property
    def raw(self) -> bytes:
        """As on the wire."""
        return self.header + self.ciphertext + self.tag


class Message(msgspec.Struct, frozen=True):
    """The JSON-RPC message of a MESSAGE frame, or the body of a CLOSE frame.

    what: "request", "notification", "result", "error", "close" or "unreadable". method: its method; of a result or an
    error, that of the request which it answers ("" where that is not known). reason: the slug of an error or a CLOSE.
    """

    what: str
    method: str = ""
    id: int | str | None = None
    reason: str = ""

    @property
    def says(self) -> str:
        """Short, for a list: `order.place (id 3)`, `result of order.place (id 3)`, `CLOSE bye`."""
        match self.what:
            case "request":
                return f"{self.method} (id {self.id})"
            case "notification":
                return f"{self.method} (notification)"
            case "result":
                return f"result of {self.method or 'a request'} (id {self.id})"
            case "error":
                return f"error {self.reason} for {self.method or 'a request'} (id {self.id})"
            case "close":
                return f"CLOSE {self.reason}"
            case _:
                return "no JSON-RPC"


class Frame(msgspec.Struct, frozen=True):
    """A frame (docs/protocol.md, section 2).

    index: its place in OpenedLeg.frames. kind: 1 HANDSHAKE, 2 AUTH, 3 MESSAGE, 4 CLOSE, or what else stands there.
    counter: the receiver's counter when it came; None for HANDSHAKE, without keys and behind a rejected frame. rekeys:
    how often the key had been changed by then. header: 4 bytes. body: without the tag, as inside TLS. tag: 16 bytes,
    none for HANDSHAKE. plaintext: with its padding, None where it was not opened. padding: how many bytes of it, at the
    end, are padding. records: the records in which it travelled (indexes into OpenedLeg.records). start: where it
    begins in the content of the first of them. packets: the numbers of the packets that carry those records' part of
    it; the last is the one in which it was complete. fits: of a rejected frame, the counter with which it would have
    opened (less than `counter`: a replay; more: it came too early); None where none near it does: it was altered.
    """

    index: int
    from_client: bool
    kind: int
    flags: int
    counter: int | None
    rekeys: int
    header: bytes
    body: bytes
    tag: bytes
    plaintext: bytes | None
    padding: int
    status: Status
    records: tuple[int, ...]
    start: int
    packets: tuple[int, ...]
    message: Message | None = None
    """Of MESSAGE and CLOSE frames that were opened."""
    auth: Auth | None = None
    """Of AUTH frames that were opened and can be read."""
    fits: int | None = None

    @property
    def kind_name(self) -> str:
        """HANDSHAKE, AUTH, MESSAGE, CLOSE, or `kind 9`."""
        return FrameKind(self.kind).name if self.kind in _KINDS else f"kind {self.kind}"

    @property
    def raw(self) -> bytes:
        """As inside TLS."""
        return self.header + self.body + self.tag

    @property
    def content(self) -> bytes:
        """The plaintext without its padding; b"" where it was not opened."""
        plaintext = self.plaintext or b""
        return plaintext[: len(plaintext) - self.padding]


class OpenedLeg(msgspec.Struct, frozen=True):
    """A recorded connection. records and frames: of both directions, in the order in which they were complete.

    number: `tcp.stream`. packets: the numbers of all its packets, the first is the SYN. client_random: 32 bytes, b""
    without a ClientHello. server_name, offered_alpn: what the ClientHello says to everybody. alpn: what was agreed on;
    encrypted, "" where it was not opened. tls_group: the key agreement in the ServerHello, such as "x25519" or
    "X25519MLKEM768". cipher_suite: such as "TLS_AES_256_GCM_SHA384". initiator_e: the X25519 public key in the client's
    HANDSHAKE (32 bytes, b"" where it was not seen). frame_keys: the first keys, client to server and server to client
    (32 bytes each), None where they are not known.
    """

    number: int
    packets: tuple[int, ...]
    client_random: bytes
    server_name: str
    offered_alpn: tuple[str, ...]
    alpn: str
    tls_group: str
    cipher_suite: str
    initiator_e: bytes
    frame_keys: tuple[bytes | None, bytes | None]
    records: tuple[Record, ...]
    frames: tuple[Frame, ...]

    def wire(self, frame: Frame) -> tuple[Piece, ...]:
        """Where the bytes of a frame are in the packets, encrypted by TLS byte by byte in the same order."""
        pieces: list[Piece] = []
        start, rest = frame.start, len(frame.raw)
        for index in frame.records:
            record = self.records[index]
            length = min(rest, len(record.content or b"") - start)
            pieces += cut(record.pieces, tls13.RECORD_HEADER.size + start, length)
            start, rest = 0, rest - length
        return tuple(pieces)


def open_play(packets: Sequence[Recorded], tls_keys: str, frame_keys: str) -> list[OpenedLeg]:
    """Every connection of the recording, in the order of their numbers.

    packets: packets[n - 1] is packet n. tls_keys: an NSS key log; frame_keys: lines of docs/protocol.md, section 6;
    either may be empty.
    """
    keys = _Keys(tls13.read_key_log(tls_keys), tls13.read_key_log(frame_keys))
    legs: dict[int, _Leg] = {}
    for number, packet in enumerate(packets, 1):
        leg = legs.get(packet.flow)
        if leg is None:
            leg = legs[packet.flow] = _Leg(packet.flow, keys)
        leg.add(number, packet)
    return [legs[number].opened() for number in sorted(legs)]


def cut(pieces: Sequence[Piece], start: int, length: int) -> list[Piece]:
    """The part of them that begins `start` bytes in."""
    part = []
    for piece in pieces:
        inside = min(length, piece.length - start)
        if inside > 0:
            part.append(Piece(piece.packet, piece.start + start, inside))
            length -= inside
        start = max(0, start - piece.length)
    return part


class _Keys(msgspec.Struct, frozen=True):
    """What the key logs say, by label and connection."""

    tls: dict[tuple[str, bytes], bytes]
    frames: dict[tuple[str, bytes], bytes]

    def frame_key(self, label: str, initiator_e: bytes) -> bytes | None:
        key = self.frames.get((label, initiator_e), b"")
        return key if len(key) == KEY_LENGTH else None


class _Stream:
    """Bytes in order, and where each of them came from. `packet` of its pieces may be the number of a record."""

    def __init__(self) -> None:
        self._data = b""
        self._pieces: list[Piece] = []

    def add(self, data: bytes, origin: int, start: int) -> None:
        if data:
            self._data += data
            self._pieces.append(Piece(origin, start, len(data)))

    def peek(self, length: int) -> bytes | None:
        """The next bytes; None while there are fewer."""
        return self._data[:length] if len(self._data) >= length else None

    def take(self, length: int) -> tuple[bytes, tuple[Piece, ...]]:
        data, self._data = self._data[:length], self._data[length:]
        taken = cut(self._pieces, 0, length)
        self._pieces = cut(self._pieces, length, len(self._data))
        return data, tuple(taken)


class _Direction:
    """What is known of one direction. reading: keys of the records, None where they are not known (yet)."""

    def __init__(self, *, from_client: bool) -> None:
        self.from_client = from_client
        self.wire = _Stream()
        self.is_tls = True
        self.reading: tls13.ReadingKeys | None = None
        self.rejected_record = False
        self.handshake = tls13.HandshakeMessages()
        self.inside = _Stream()  # contents of the application data records
        self.greeted = False
        self.cipher: CipherState | None = None
        self.first_key = b""  # the cipher's, before its first rekey
        self.rejected_frame = False
        self.rekeys = 0


class _Leg:
    """One connection while its packets go by."""

    def __init__(self, number: int, keys: _Keys) -> None:
        self._number = number
        self._keys = keys
        self._packets: list[int] = []
        self._client_hello = tls13.ClientHello(b"")
        self._server_hello: tls13.ServerHello | None = None
        self._alpn = ""
        self._initiator_e = b""
        self._frame_keys: tuple[bytes | None, bytes | None] = (None, None)
        self._requests: dict[int | str | None, str] = {}
        self._records: list[Record] = []
        self._frames: list[Frame] = []
        self._client, self._server = _Direction(from_client=True), _Direction(from_client=False)

    def opened(self) -> OpenedLeg:
        server = self._server_hello
        return OpenedLeg(
            number=self._number,
            packets=tuple(self._packets),
            client_random=self._client_hello.random,
            server_name=self._client_hello.server_name,
            offered_alpn=self._client_hello.alpn,
            alpn=self._alpn,
            tls_group=server.group if server else "",
            cipher_suite=server.cipher_suite if server else "",
            initiator_e=self._initiator_e,
            frame_keys=self._frame_keys,
            records=tuple(self._records),
            frames=tuple(self._frames),
        )

    def add(self, number: int, packet: Recorded) -> None:
        self._packets.append(number)
        direction = self._client if packet.from_client else self._server
        direction.wire.add(packet.payload, number, len(packet.data) - len(packet.payload))
        while direction.is_tls and (header := direction.wire.peek(tls13.RECORD_HEADER.size)) is not None:
            kind, _, length = tls13.RECORD_HEADER.unpack(header)
            if not tls13.CHANGE_CIPHER_SPEC <= kind <= tls13.APPLICATION_DATA or length > tls13.MAX_FRAGMENT:
                direction.is_tls = False
            elif direction.wire.peek(len(header) + length) is None:
                return
            else:
                self._take_record(direction, *direction.wire.take(len(header) + length))

    # Records

    def _take_record(self, direction: _Direction, data: bytes, pieces: tuple[Piece, ...]) -> None:
        header, body = data[: tls13.RECORD_HEADER.size], data[tls13.RECORD_HEADER.size :]
        outer = inner = header[0]
        tag, sequence, status = b"", None, Status.CLEAR
        content: bytes | None = body
        if outer == tls13.APPLICATION_DATA:
            body, tag = body[:-TAG_LENGTH], body[-TAG_LENGTH:]
            status, inner, content, sequence = self._open_record(direction, header, body + tag)
        self._records.append(
            Record(
                index=len(self._records),
                from_client=direction.from_client,
                pieces=pieces,
                content_type=outer,
                inner_type=inner if content is not None else None,
                header=header,
                ciphertext=body,
                tag=tag,
                content=content,
                status=status,
                says=self._read_content(direction, inner, content) if content is not None else "encrypted",
                sequence=sequence,
                alert=content[1]
                if inner == tls13.ALERT and content is not None and len(content) == ALERT_LENGTH
                else None,
            )
        )
        if inner == tls13.APPLICATION_DATA and content is not None:
            self._take_content(direction, content)

    def _open_record(
        self, direction: _Direction, header: bytes, protected: bytes
    ) -> tuple[Status, int, bytes | None, int | None]:
        """Status, inner type, content and the number in the nonce."""
        if direction.rejected_record:
            return Status.BEHIND, 0, None, None
        reading = direction.reading
        if reading is None:
            return Status.NO_KEY, 0, None, None
        sequence = reading.sequence
        opened = reading.open(header, protected)
        if opened is None:
            direction.rejected_record = True
            return Status.REJECTED, 0, None, sequence
        return Status.OPENED, *opened, sequence

    def _read_content(self, direction: _Direction, inner: int, content: bytes) -> str:
        """Note what a record says, and put it in words."""
        match inner:
            case tls13.HANDSHAKE:
                names = [self._take_handshake(direction, *message) for message in direction.handshake.add(content)]
                return ", ".join(names + ["part of a handshake message"] * direction.handshake.unfinished)
            case tls13.ALERT if len(content) == ALERT_LENGTH:
                return f"alert {content[1]} ({tls13.alert_name(content[1])})"
            case tls13.APPLICATION_DATA:
                return "application data"
            case tls13.CHANGE_CIPHER_SPEC:
                return "Change Cipher Spec"
            case _:
                return f"content of type {inner}"

    def _take_handshake(self, direction: _Direction, kind: int, body: bytes) -> str:
        """Note what a handshake message changes; returns its name."""
        match kind:
            case tls13.CLIENT_HELLO:
                self._client_hello = tls13.read_client_hello(body) or self._client_hello
            case tls13.SERVER_HELLO:
                self._server_hello = tls13.read_server_hello(body) or self._server_hello
                for one in (self._client, self._server):
                    one.reading = self._reading_keys(one, "HANDSHAKE_TRAFFIC_SECRET", "")
            case tls13.ENCRYPTED_EXTENSIONS:
                self._alpn = tls13.agreed_alpn(body)
            case tls13.FINISHED:
                direction.reading = self._reading_keys(direction, "TRAFFIC_SECRET", "_0")
            case tls13.KEY_UPDATE if direction.reading is not None:
                direction.reading.update()
        return tls13.handshake_name(kind)

    def _reading_keys(self, direction: _Direction, middle: str, end: str) -> tls13.ReadingKeys | None:
        label = f"{'CLIENT' if direction.from_client else 'SERVER'}_{middle}{end}"
        secret = self._keys.tls.get((label, self._client_hello.random))
        if secret is None or self._server_hello is None:
            return None
        try:
            return tls13.ReadingKeys(self._server_hello.suite, secret)
        except ValueError:  # another suite, or a key log that is not this connection's
            return None

    # Frames

    def _take_content(self, direction: _Direction, content: bytes) -> None:
        direction.inside.add(content, len(self._records) - 1, 0)
        while (header := direction.inside.peek(HEADER_LENGTH)) is not None:
            _, _, length = HEADER.unpack(header)
            if direction.inside.peek(HEADER_LENGTH + length) is None:
                return
            self._take_frame(direction, *direction.inside.take(HEADER_LENGTH + length))

    def _take_frame(self, direction: _Direction, data: bytes, pieces: tuple[Piece, ...]) -> None:
        header, body, tag = data[:HEADER_LENGTH], data[HEADER_LENGTH:], b""
        kind, flags, _ = HEADER.unpack(header)
        status, counter, plaintext, fits = Status.CLEAR, None, None, None
        if kind == FrameKind.HANDSHAKE:
            self._take_greeting(direction, body)
        else:
            body, tag = body[:-TAG_LENGTH], body[-TAG_LENGTH:]
            status, counter, plaintext, fits = _open_frame(direction, header, body + tag)
        auth = _read_auth(plaintext) if kind == FrameKind.AUTH and plaintext is not None else None
        message = None
        if kind in {FrameKind.MESSAGE, FrameKind.CLOSE} and plaintext is not None:
            message = self._read_message(direction, kind, plaintext)
        self._frames.append(
            Frame(
                index=len(self._frames),
                from_client=direction.from_client,
                kind=kind,
                flags=flags,
                counter=counter,
                rekeys=direction.rekeys,
                header=header,
                body=body,
                tag=tag,
                plaintext=plaintext,
                padding=_padding(kind, plaintext, auth),
                status=status,
                records=tuple(piece.packet for piece in pieces),
                start=pieces[0].start,
                packets=self._packets_of(pieces),
                message=message,
                auth=auth,
                fits=fits,
            )
        )

    def _packets_of(self, pieces: tuple[Piece, ...]) -> tuple[int, ...]:
        numbers: dict[int, None] = {}
        for piece in pieces:
            record = self._records[piece.packet]
            carriers = cut(record.pieces, tls13.RECORD_HEADER.size + piece.start, piece.length)
            numbers |= dict.fromkeys(carrier.packet for carrier in carriers)
        complete = self._records[pieces[-1].packet].pieces[-1].packet  # where the last record's tag is
        return tuple(numbers | {complete: None})

    def _take_greeting(self, direction: _Direction, body: bytes) -> None:
        """The client's e says which keys open the rest."""
        if direction.from_client and not self._initiator_e and len(body) >= DHLEN:
            self._initiator_e = body[:DHLEN]
            self._frame_keys = (
                self._keys.frame_key(_C2S, self._initiator_e),
                self._keys.frame_key(_S2C, self._initiator_e),
            )
            for one, key in zip((self._client, self._server), self._frame_keys, strict=True):
                if key is not None:
                    one.cipher, one.first_key = CipherState(key), key

    def _read_message(self, direction: _Direction, kind: int, plaintext: bytes) -> Message:
        try:
            envelope = _envelope_decoder.decode(plaintext)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Message("unreadable")
        if kind == FrameKind.CLOSE:
            return Message("close", reason=envelope.reason)
        if envelope.method:
            if direction.from_client:
                self._requests[envelope.id] = envelope.method
            return Message("notification" if envelope.id is None else "request", envelope.method, envelope.id)
        method = self._requests.get(envelope.id, "")
        if envelope.error is not None:
            reason = envelope.error.data.get("reason", "")
            return Message("error", method, envelope.id, reason if isinstance(reason, str) else "")
        return Message("result", method, envelope.id)


ALERT_LENGTH = 2  # level, description


class _Error(msgspec.Struct):
    data: dict[str, Any] = {}


class _Envelope(msgspec.Struct):
    """What a request, an answer and a CLOSE have, so much of it as is told."""

    method: str = ""
    id: int | str | None = None
    error: _Error | None = None
    reason: str = ""


_envelope_decoder = msgspec.json.Decoder(_Envelope)


def _open_frame(
    direction: _Direction, header: bytes, body: bytes
) -> tuple[Status, int | None, bytes | None, int | None]:
    """Status, counter, plaintext, and for a rejected frame the counter that fits. body: tag included."""
    if direction.rejected_frame:
        return Status.BEHIND, None, None, None
    cipher = direction.cipher
    if cipher is None:
        return Status.NO_KEY, None, None, None
    counter = cipher.n
    if counter and not counter % REKEY_INTERVAL:
        cipher.rekey()
        direction.rekeys += 1
    try:
        return Status.OPENED, counter, cipher.decrypt_with_ad(header, body), None
    except RemoteProtocolError:
        direction.rejected_frame = True
        return Status.REJECTED, counter, None, _fitting_counter(direction, counter, header, body)


def _fitting_counter(direction: _Direction, due: int, header: bytes, body: bytes) -> int | None:
    """The counter near the one that is due with which the frame opens; None where it was altered.

    As far and in the order in which the dissector looks: back first, over a rekey, too.
    """
    keys = _KeysInTurn(direction.first_key)
    before = range(due - 1, max(0, due - SEARCHED_BACK) - 1, -1)
    after = range(due + 1, due + SEARCHED_AHEAD + 1)
    return next((one for one in chain(before, after) if keys.opens(one, header, body)), None)


class _KeysInTurn:
    """The keys of a direction, of which each is made from the one before."""

    def __init__(self, first: bytes) -> None:
        self._newest = CipherState(first)
        self._known = [AESGCM(first)]

    def opens(self, counter: int, header: bytes, body: bytes) -> bool:
        """Whether the frame was sealed under this counter. body: tag included."""
        generation = counter // REKEY_INTERVAL
        while len(self._known) <= generation:
            self._newest.rekey()
            self._known.append(AESGCM(self._newest.key))
        try:
            self._known[generation].decrypt(bytes(4) + counter.to_bytes(8), body, header)
        except InvalidTag:
            return False
        return True


def _read_auth(plaintext: bytes) -> Auth | None:
    try:
        return decode_auth(plaintext)
    except RemoteProtocolError:
        return None


def _padding(kind: int, plaintext: bytes | None, auth: Auth | None) -> int:
    if plaintext is None:
        return 0
    if auth is not None:
        return len(plaintext) - (3 + len(auth.chain) + 2 + 2 + len(auth.signature))
    return 0 if kind == FrameKind.AUTH else len(plaintext) - len(plaintext.rstrip(b" "))
