"""One connection of either side, from the first handshake byte to CLOSE: bytes in, events out, bytes to send.

    receive_data(data)   what TLS delivered; b"" where TLS has ended
    next_event()         the next event, or None where more data is needed
    send_*(...)          the bytes to hand to TLS

Theory of operation. A state says what may come next; the tables RECEIVING and SENDING hold every legal transition, and
docs/protocol.md draws its diagram from them. Parsing happens in next_event(), one frame a call, so a caller that is
busy leaves frames where they are. After RemoteProtocolError the connection is broken for good: it never decrypts
again, raises the same error, and the one thing left is send_close(). An instance belongs to one thread at a time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import Any

import msgspec
from cryptography import x509

from securedelivery.errors import LocalProtocolError, Reason, RemoteProtocolError
from securedelivery.protocol import jsonrpc
from securedelivery.protocol.authentication import (
    NO_CERTIFICATE,
    Auth,
    ClientPolicy,
    Credentials,
    Transcript,
    decode_auth,
    encode_auth,
    verify_signature,
)
from securedelivery.protocol.certificates import Identity, Trust
from securedelivery.protocol.frames import (
    CLIENT_HANDSHAKE_LENGTH,
    HEADER,
    HEADER_LENGTH,
    MESSAGE_LENGTHS,
    REKEY_INTERVAL,
    SERVER_HANDSHAKE_LENGTH,
    FrameKind,
    check_body_length,
    pad,
)
from securedelivery.protocol.jsonrpc import ErrorResponse, Id, MalformedRequest, Request, Response
from securedelivery.protocol.noise import NN_HFS, TAG_LENGTH, CipherState, HandshakeState

__all__ = [
    "ALPN",
    "ClientConnection",
    "CloseReceived",
    "Event",
    "HandshakeReceived",
    "KeyLog",
    "PeerAuthenticated",
    "RequestRefused",
    "ServerConnection",
    "State",
    "Truncated",
]

ALPN = "securedelivery/1"
PROLOGUE = ALPN.encode()
MAX_CLOSE_TEXT = 500  # characters; a sentence for people, and a CLOSE always fits its frame


class State(Enum):
    __hash__ = object.__hash__  # Enum's own is Python code, and the tables below are asked at every frame

    AWAIT_HANDSHAKE = "awaits HANDSHAKE"
    OWE_HANDSHAKE = "owes HANDSHAKE"
    AWAIT_AUTH = "awaits AUTH"
    OWE_AUTH = "owes AUTH"
    OPEN = "open"
    PEER_CLOSED = "peer closed"
    BROKEN = "broken"


_Transitions = dict[State, dict[FrameKind, State]]
_NOTHING: dict[FrameKind, State] = {}

# CPython 3.11 finds an enum's member in Python code: too slow for once a frame.
_HANDSHAKE, _AUTH, _MESSAGE = FrameKind.HANDSHAKE, FrameKind.AUTH, FrameKind.MESSAGE

SERVER_RECEIVING: _Transitions = {
    State.AWAIT_HANDSHAKE: {FrameKind.HANDSHAKE: State.OWE_HANDSHAKE},
    State.AWAIT_AUTH: {FrameKind.AUTH: State.OPEN, FrameKind.CLOSE: State.PEER_CLOSED},
    State.OPEN: {FrameKind.MESSAGE: State.OPEN, FrameKind.CLOSE: State.PEER_CLOSED},
}
SERVER_SENDING: _Transitions = {
    State.OWE_HANDSHAKE: {FrameKind.HANDSHAKE: State.AWAIT_AUTH},  # and AUTH, in the same flight
    State.OPEN: {FrameKind.MESSAGE: State.OPEN},
    State.PEER_CLOSED: {FrameKind.MESSAGE: State.PEER_CLOSED},  # answers to what came before the CLOSE
}
CLIENT_SENDING: _Transitions = {
    State.OWE_HANDSHAKE: {FrameKind.HANDSHAKE: State.AWAIT_HANDSHAKE},
    State.OWE_AUTH: {FrameKind.AUTH: State.OPEN},
    State.OPEN: {FrameKind.MESSAGE: State.OPEN},
}
CLIENT_RECEIVING: _Transitions = {
    State.AWAIT_HANDSHAKE: {FrameKind.HANDSHAKE: State.AWAIT_AUTH},
    State.AWAIT_AUTH: {FrameKind.AUTH: State.OWE_AUTH, FrameKind.CLOSE: State.PEER_CLOSED},
    State.OPEN: {FrameKind.MESSAGE: State.OPEN, FrameKind.CLOSE: State.PEER_CLOSED},
}


class HandshakeReceived(msgspec.Struct, frozen=True, gc=False):
    """The client's handshake message is there: send_handshake() is due. For servers."""


class PeerAuthenticated(msgspec.Struct, frozen=True, gc=False):
    """The peer has proved who it is.

    identity: the client's; None for a client without certificate, and for servers. leaf: the certificate it proved.
    """

    identity: Identity | None = None
    leaf: x509.Certificate | None = None


class RequestRefused(msgspec.Struct, frozen=True, gc=False):
    """What came is no request: send_error() is due, and the connection goes on. For servers."""

    id: Id | None
    reason: Reason
    message: str


class CloseReceived(msgspec.Struct, frozen=True, gc=False):
    """The peer's last frame. What it asked before is still to be answered, then send_close() is due."""

    reason: str
    message: str


class Truncated(msgspec.Struct, frozen=True, gc=False):
    """TLS ended without a CLOSE: what was not answered may or may not have happened."""


Event = (
    HandshakeReceived
    | PeerAuthenticated
    | Request
    | RequestRefused
    | Response
    | ErrorResponse
    | CloseReceived
    | Truncated
)


class _Close(msgspec.Struct, frozen=True):
    reason: str
    message: str = ""


_close_decoder = msgspec.json.Decoder(_Close)


KeyLog = Callable[[bytes, bytes, bytes], None]
"""Called once, when the keys exist: the client's X25519 public key, then the first keys, the client's to send with and
the server's (32 bytes each). It must not raise.
"""


class _Connection(ABC):
    """What both sides have in common. now: the aware UTC time, for certificates; key_log: for teaching only."""

    _receiving_table: _Transitions
    _sending_table: _Transitions
    _peer_handshake_length: int

    def __init__(self, state: State, *, initiator: bool, now: Callable[[], datetime], key_log: KeyLog | None) -> None:
        self._state = state
        self._initiator = initiator
        self._key_log = key_log
        self._now = now
        self._handshake = HandshakeState(NN_HFS, initiator=initiator, prologue=PROLOGUE)
        self._transcript: Transcript
        self._sending: CipherState | None = None
        self._receiving: CipherState
        self._buffer = b""
        self._position = 0
        self._ended = False
        self._close_sent = False
        self._error: RemoteProtocolError | None = None
        self.session = b""

    @property
    def state(self) -> State:
        return self._state

    @property
    def mid_frame(self) -> bool:
        """Whether a frame has begun to arrive that next_event() has not returned."""
        return self._position < len(self._buffer)

    def receive_data(self, data: bytes) -> None:
        """Take what TLS delivered, cut anywhere; b"" says that TLS has ended."""
        if not data:
            self._ended = True
        elif self._position == len(self._buffer):
            self._buffer, self._position = data, 0
        else:
            self._buffer, self._position = self._buffer[self._position :] + data, 0

    def next_event(self) -> Event | None:
        """The next event, or None where more data (or this side's own turn) is needed.

        Raises RemoteProtocolError, again and again, once the peer has broken the protocol.
        """
        if self._error is not None:
            raise self._error
        try:
            return self._next_event()
        except RemoteProtocolError as error:
            self._state, self._error = State.BROKEN, error
            raise

    def send_close(self, reason: str, message: str = "") -> bytes:
        """The last frame of this side. b"" where it has no keys yet or has sent one already."""
        if self._sending is None or self._close_sent:
            return b""
        frame = self._seal(FrameKind.CLOSE, pad(msgspec.json.encode(_Close(reason, message[:MAX_CLOSE_TEXT]))))
        self._close_sent = True
        return frame

    def _next_event(self) -> Event | None:
        while True:
            expected = self._receiving_table.get(self._state)
            if expected is None:  # our turn, or nothing can come any more
                return None
            start = self._position
            buffer = self._buffer
            body = start + HEADER_LENGTH
            if len(buffer) < body:
                return self._truncation() if self._ended else None
            code, flags, length = HEADER.unpack_from(buffer, start)
            following = expected.get(code)
            if following is None or flags:
                raise RemoteProtocolError(
                    f"kind {code} with flags {flags} is out of turn (this side {self._state.value})"
                )
            end = body + length
            if code != _MESSAGE or length not in MESSAGE_LENGTHS:
                check_body_length(code, length, self._peer_handshake_length)
            if len(buffer) < end:
                return self._truncation() if self._ended else None
            self._position = end
            if code == _HANDSHAKE:
                event = self._take_handshake(buffer[body:end])
            else:
                receiving = self._receiving
                if not receiving.n % REKEY_INTERVAL and receiving.n:
                    receiving.rekey()
                plaintext = receiving.decrypt_with_ad(buffer[start:body], buffer[body:end])
                if code == _MESSAGE:
                    event = self._take_message(plaintext)
                elif code == _AUTH:
                    event = self._take_auth(decode_auth(plaintext))
                else:
                    event = _take_close(plaintext)
            self._state = following
            if event is not None:
                return event

    def _truncation(self) -> Event:
        self._state = State.BROKEN
        return Truncated()

    @abstractmethod
    def _take_handshake(self, body: bytes) -> Event | None: ...

    @abstractmethod
    def _take_auth(self, auth: Auth) -> Event: ...

    @abstractmethod
    def _take_message(self, plaintext: bytes) -> Event | None: ...

    def _split(self) -> None:
        result = self._handshake.finish()
        self._sending, self._receiving = result.sending, result.receiving
        if self._key_log is not None:
            own, peers = result.sending.key, result.receiving.key
            self._key_log(result.initiator_e, *((own, peers) if self._initiator else (peers, own)))
        self._transcript = Transcript(result.h)
        del self._handshake  # its keys take 9 KiB, and a quiet connection 40 altogether

    def _advance(self, kind: FrameKind) -> None:
        following = self._sending_table.get(self._state, _NOTHING).get(kind)
        if following is None or self._close_sent:
            raise LocalProtocolError(f"{kind.name} cannot be sent now (this side {self._state.value})")
        self._state = following

    def _seal(self, kind: FrameKind, plaintext: bytes) -> bytes:
        sending = self._sending
        assert sending is not None
        if not sending.n % REKEY_INTERVAL and sending.n:
            sending.rekey()
        header = HEADER.pack(kind, 0, len(plaintext) + TAG_LENGTH)
        return header + sending.encrypt_with_ad(header, plaintext)

    def _send_message(self, message: bytes) -> bytes:
        plaintext = pad(message)
        self._advance(_MESSAGE)
        return self._seal(_MESSAGE, plaintext)

    def _send_handshake(self) -> bytes:
        self._advance(FrameKind.HANDSHAKE)
        message = self._handshake.write_message()
        return HEADER.pack(FrameKind.HANDSHAKE, 0, len(message)) + message


def _take_close(plaintext: bytes) -> CloseReceived:
    try:
        close = _close_decoder.decode(plaintext)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"CLOSE is not what it should be: {error}") from error
    return CloseReceived(close.reason, close.message)


class ServerConnection(_Connection):
    """The server's side. outer_leaf: the client certificate that TLS saw, if any."""

    _receiving_table = SERVER_RECEIVING
    _sending_table = SERVER_SENDING
    _peer_handshake_length = CLIENT_HANDSHAKE_LENGTH

    def __init__(
        self,
        credentials: Credentials,
        policy: ClientPolicy,
        outer_leaf: x509.Certificate | None,
        now: Callable[[], datetime],
        *,
        key_log: KeyLog | None = None,
    ) -> None:
        super().__init__(State.AWAIT_HANDSHAKE, initiator=False, now=now, key_log=key_log)
        self._credentials = credentials
        self._policy = policy
        self._outer_leaf = outer_leaf

    def send_handshake(self) -> bytes:
        """The answering handshake message and this server's AUTH.

        Raises RemoteProtocolError where the client's X25519 key is a point of low order, which shows only here.
        """
        try:
            handshake = self._send_handshake()
        except RemoteProtocolError as error:
            self._state, self._error = State.BROKEN, error
            raise
        self._split()
        return handshake + self._seal(FrameKind.AUTH, encode_auth(self._authenticate()))

    def send_result(self, request_id: Id, result: object) -> bytes:
        """An answer. result: what msgspec encodes. Raises LocalProtocolError where it does not fit a frame."""
        return self._send_message(jsonrpc.encode_result(request_id, result))

    def send_error(self, request_id: Id | None, reason: Reason, message: str, data: dict[str, Any]) -> bytes:
        return self._send_message(jsonrpc.encode_error(request_id, reason, message, data))

    def send_notification(self, method: str, params: object) -> bytes:
        return self._send_message(jsonrpc.encode_notification(method, params))

    def _authenticate(self) -> Auth:
        credentials = self._credentials
        content = self._transcript.add_server_chain(credentials.chain)
        auth = Auth(credentials.chain, credentials.certificates, credentials.scheme, credentials.sign(content))
        self._transcript.add_server_signature(auth)
        return auth

    def _take_handshake(self, body: bytes) -> Event:
        self._handshake.read_message(body)  # its length leaves no room for a payload
        return HandshakeReceived()

    def _take_auth(self, auth: Auth) -> Event:
        content = self._transcript.add_client_chain(auth.chain)
        if auth.certificates:
            verify_signature(auth, content)
        identity = self._policy.identify(auth, self._outer_leaf, self._now())
        self._outer_leaf = None  # TLS has it
        self.session = self._transcript.add_client_signature(auth)
        del self._transcript
        return PeerAuthenticated(identity, auth.certificates[0] if auth.certificates else None)

    def _take_message(self, plaintext: bytes) -> Event | None:
        if self._close_sent:  # it could not be answered any more, so it must not be executed
            return None
        try:
            return jsonrpc.decode_request(plaintext)
        except MalformedRequest as malformed:
            return RequestRefused(malformed.id, malformed.reason, str(malformed))


class ClientConnection(_Connection):
    """The client's side. credentials: None without a certificate; server_name: the DNS name or IP address dialled."""

    _receiving_table = CLIENT_RECEIVING
    _sending_table = CLIENT_SENDING
    _peer_handshake_length = SERVER_HANDSHAKE_LENGTH

    def __init__(
        self,
        credentials: Credentials | None,
        trust: Trust,
        server_name: str,
        now: Callable[[], datetime],
        *,
        key_log: KeyLog | None = None,
    ) -> None:
        super().__init__(State.OWE_HANDSHAKE, initiator=True, now=now, key_log=key_log)
        self._credentials = credentials
        self._trust = trust
        self._server_name = server_name

    def send_handshake(self) -> bytes:
        return self._send_handshake()

    def send_auth(self) -> bytes:
        """AUTH, after the server has been authenticated; requests may follow at once."""
        self._advance(FrameKind.AUTH)
        credentials, auth = self._credentials, NO_CERTIFICATE
        content = self._transcript.add_client_chain(credentials.chain if credentials else b"")
        if credentials:
            auth = Auth(credentials.chain, credentials.certificates, credentials.scheme, credentials.sign(content))
        self.session = self._transcript.add_client_signature(auth)
        return self._seal(FrameKind.AUTH, encode_auth(auth))

    def send_request(self, request_id: Id, method: str, params: object) -> bytes:
        """A request. params: what msgspec encodes as an object. Raises LocalProtocolError where it does not fit."""
        return self._send_message(jsonrpc.encode_request(request_id, method, params))

    def _take_handshake(self, body: bytes) -> None:
        self._handshake.read_message(body)  # its length leaves no room for a payload
        self._split()

    def _take_auth(self, auth: Auth) -> Event:
        content = self._transcript.add_server_chain(auth.chain)
        if not auth.certificates:
            raise RemoteProtocolError("the server's AUTH has no certificate")
        verify_signature(auth, content)
        self._trust.verify_server(auth.certificates, self._server_name, self._now())
        self._transcript.add_server_signature(auth)
        return PeerAuthenticated(None, auth.certificates[0])

    def _take_message(self, plaintext: bytes) -> Event:
        return jsonrpc.decode_for_client(plaintext)
