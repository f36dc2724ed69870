"""A client, made of the core's parts, that does what the real one never does.

It can leave out the check of the server's signature, prove a certificate with a key that is not its own, come with
another certificate outside than inside, and it remembers its ephemeral X25519 key.
"""

import contextlib
import itertools
import socket
import ssl
from datetime import UTC, datetime
from typing import Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from securedelivery.errors import LocalProtocolError
from securedelivery.protocol.authentication import Auth, Credentials
from securedelivery.protocol.certificates import Trust
from securedelivery.protocol.connection import (
    PROLOGUE,
    ClientConnection,
    CloseReceived,
    Event,
    PeerAuthenticated,
)
from securedelivery.protocol.frames import HEADER_LENGTH, FrameKind
from securedelivery.protocol.jsonrpc import Request, Response
from securedelivery.protocol.noise import NN_HFS, HandshakeState
from securedelivery.transport.channel import Channel, TlsFailure

__all__ = ["RawClient", "RawCore"]

Awaited = TypeVar("Awaited", bound=Event)

HOST = "localhost"
PATIENCE_SECONDS = 10.0
RECEIVE_BYTES = 65_536


class RawCore(ClientConnection):
    """credentials: also of a certificate and a key that do not belong together.

    credulous: look at the server's certificate only, and not at its signature over the handshake.
    private_key: the ephemeral one of `e`. sent, received: the two handshake messages. sealed: the frames of this side
    that are encrypted, each at the place that its counter says.
    """

    def __init__(self, credentials: Credentials, trust: Trust, *, credulous: bool = False) -> None:
        super().__init__(credentials, trust, HOST, lambda: datetime.now(UTC))
        self._credulous = credulous
        self.private_key = X25519PrivateKey.generate()
        self._handshake = HandshakeState(NN_HFS, initiator=True, prologue=PROLOGUE, generate_e=lambda: self.private_key)
        self.sent = self.received = b""
        self.sealed: list[bytes] = []

    def _send_handshake(self) -> bytes:
        frame = super()._send_handshake()
        self.sent = frame[HEADER_LENGTH:]
        return frame

    def _seal(self, kind: FrameKind, plaintext: bytes) -> bytes:
        frame = super()._seal(kind, plaintext)
        self.sealed.append(frame)
        return frame

    def _take_handshake(self, body: bytes) -> None:
        self.received = body
        super()._take_handshake(body)

    def _take_auth(self, auth: Auth) -> Event:
        if not self._credulous:
            return super()._take_auth(auth)
        self._transcript.add_server_chain(auth.chain)
        self._trust.verify_server(auth.certificates, self._server_name, self._now())
        self._transcript.add_server_signature(auth)
        return PeerAuthenticated(None, auth.certificates[0])


class RawClient:
    """One connection to localhost, on the caller's thread. A context manager, which ends it properly.

    context: what TLS shows, with its own certificate.
    """

    def __init__(self, port: int, context: ssl.SSLContext, core: RawCore) -> None:
        self._sock = socket.create_connection((HOST, port), PATIENCE_SECONDS)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._channel = Channel(context, server_hostname=HOST)
        self._core = core
        self._ids = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.closing(self._sock), contextlib.suppress(OSError, TlsFailure):
            self._channel.write(self._core.send_close("bye"))
            self._channel.close()
            self._flush()
            self._sock.shutdown(socket.SHUT_WR)
            while self._sock.recv(RECEIVE_BYTES):
                pass

    def greet(self) -> None:
        """Both handshakes, up to and with the server's AUTH. Raises RemoteProtocolError, TlsFailure."""
        while not self._channel.handshake():
            self._exchange()
        self._send(self._core.send_handshake())
        self._expect(PeerAuthenticated)

    def authenticate(self) -> None:
        """Send AUTH, and wait for nothing."""
        self._send(self._core.send_auth())

    def request(self, method: str, params: object) -> None:
        """Send a request, and wait for nothing."""
        self._send(self._core.send_request(next(self._ids), method, params))

    def ask(self, method: str, params: object) -> Response:
        """Send a request and wait for its result."""
        self.request(method, params)
        return self._expect(Response)

    def wait_closed(self) -> CloseReceived:
        return self._expect(CloseReceived)

    def _expect(self, kind: type[Awaited]) -> Awaited:
        """The next event, which has to be of this kind; notifications are passed over."""
        while True:
            event = self._core.next_event()
            if event is None:
                self._read()
            elif isinstance(event, kind):
                return event
            elif not isinstance(event, Request):
                raise LocalProtocolError(f"the play went wrong: {event} came, and no {kind.__name__}")

    def _read(self) -> None:
        plaintext = self._channel.read()
        if plaintext is None:
            self._exchange()
        else:
            self._core.receive_data(plaintext)

    def _exchange(self) -> None:
        self._flush()
        self._channel.feed(self._sock.recv(RECEIVE_BYTES))

    def _send(self, frame: bytes) -> None:
        self._channel.write(frame)
        self._flush()

    def _flush(self) -> None:
        self._sock.sendall(self._channel.take_raw())
