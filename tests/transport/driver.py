"""A client driven by hand, one step at a time, so that a test can stop, stall or lie at any of them."""

import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

from certificate_authority import CertificateAuthority, Issued
from cryptography.hazmat.primitives.serialization import Encoding

from securedelivery.protocol.connection import ClientConnection, CloseReceived, Event, PeerAuthenticated, State
from securedelivery.protocol.jsonrpc import ErrorResponse, Id, Request, Response
from securedelivery.transport.channel import Channel, TlsFailure
from securedelivery.transport.tls import client_context

PATIENCE = 10.0  # seconds until a test that waits for something gives up


class Ended(Exception):  # noqa: N818 -- what a test waits for
    """The server has ended the connection. how: `close_notify`, `cut` (FIN alone), `reset` or `alert: ...`."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


def dial(port: int, source: str = "127.0.0.1", receive_buffer: int | None = None) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(PATIENCE)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        sock.bind((source, 0))
        sock.connect(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def read_to_end(sock: socket.socket) -> bytes:
    """All that comes until FIN or RST."""
    received = b""
    try:
        while part := sock.recv(65_536):
            received += part
    except ConnectionResetError:
        pass
    return received


def reset(sock: socket.socket) -> None:
    """Hang up with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def context_of(ca: CertificateAuthority, issued: Issued | None, directory: Path) -> ssl.SSLContext:
    """A client's TLS context; the files go to directory."""
    directory.mkdir(exist_ok=True)
    authority = directory / "ca.crt"
    authority.write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    if issued is None:
        return client_context(authority, None, None, None)
    certificate, key = directory / f"{id(issued)}.crt", directory / f"{id(issued)}.key"
    issued.write(certificate, key)
    return client_context(authority, certificate, key, None)


class Client:
    """Steps: tls(), hello(), then auth(); or open() for all. server_name: what the certificates are held against."""

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        ca: CertificateAuthority,
        issued: Issued | None,
        server_name: str = "localhost",
    ) -> None:
        self.sock = sock
        self.channel = Channel(context, server_hostname=server_name)
        self.core = ClientConnection(
            issued.credentials if issued else None, ca.trust(with_crl=False), server_name, lambda: datetime.now(UTC)
        )
        self.notifications: list[Request] = []
        self.received: list[Event] = []

    def open(self) -> "Client":
        self.tls()
        self.hello()
        self.transmit(self.core.send_auth())
        welcome = self.event()
        assert isinstance(welcome, Request), welcome
        assert welcome.method == "system.welcome"
        return self

    def tls(self) -> None:
        while not self.channel.handshake():
            self.sock.sendall(self.channel.take_raw())
            self.channel.feed(self.sock.recv(65_536))
        self.sock.sendall(self.channel.take_raw())

    def hello(self) -> None:
        self.transmit(self.core.send_handshake())
        assert isinstance(self.event(), PeerAuthenticated)

    def raw(self, *frames: bytes) -> bytes:
        """The frames as TLS records."""
        self.channel.write(b"".join(frames))
        return self.channel.take_raw()

    def transmit(self, *frames: bytes) -> None:
        """Send the frames in one TLS write."""
        self.sock.sendall(self.raw(*frames))

    def request(self, request_id: Id, method: str, **params: object) -> bytes:
        return self.core.send_request(request_id, method, params)

    def notification(self, method: str, params: str = "{}") -> bytes:
        """A request without id."""
        return self.core._send_message(f'{{"jsonrpc":"2.0","method":"{method}","params":{params}}}'.encode())

    def event(self) -> Event:
        """The next event. Raises Ended where there is none any more."""
        while True:
            event = self.core.next_event()
            if event is not None:
                self.received.append(event)
                return event
            try:
                plaintext = self.channel.read()
            except TlsFailure as error:
                raise Ended("cut" if self.channel.raw_ended else f"alert: {error}") from error
            if plaintext == b"":
                raise Ended("close_notify")
            if plaintext is not None:
                self.core.receive_data(plaintext)
                continue
            try:
                self.channel.feed(self.sock.recv(65_536))
            except ConnectionResetError:
                raise Ended("reset") from None

    def answer(self) -> Response | ErrorResponse:
        """The next answer; notifications on the way are kept."""
        while True:
            event = self.event()
            if isinstance(event, Response | ErrorResponse):
                return event
            assert isinstance(event, Request), event
            self.notifications.append(event)

    def answers(self, count: int) -> list[Id | None]:
        """The ids of the next answers."""
        return [self.answer().id for _ in range(count)]

    def notified(self) -> str:
        """The method of the next event, which has to be a notification."""
        event = self.event()
        assert isinstance(event, Request), event
        return event.method

    def call(self, method: str, **params: object) -> Response | ErrorResponse:
        self.transmit(self.request("call", method, **params))
        return self.answer()

    def error(self, method: str, **params: object) -> str:
        """The reason for which a call is refused."""
        answer = self.call(method, **params)
        assert isinstance(answer, ErrorResponse), answer
        return answer.error.data["reason"]

    def is_served(self) -> bool:
        return isinstance(self.call("inline.ping"), Response)

    def rest(self) -> tuple[list[Event], str]:
        """Everything that still comes, and how it ends."""
        events = []
        try:
            while True:
                events.append(self.event())
        except Ended as end:
            return events, end.how

    def listen(self) -> None:
        """Hear the server out although this side's AUTH is still due."""
        self.core._state = State.OPEN

    def close_reason(self) -> str:
        """The reason of the server's CLOSE, which has to come, with close_notify behind it."""
        events, end = self.rest()
        assert end == "close_notify", (events, end)
        close = events[-1]
        assert isinstance(close, CloseReceived), close
        return close.reason

    def say_bye(self) -> None:
        """CLOSE and close_notify in one segment."""
        self.channel.write(self.core.send_close("bye"))
        self.channel.close()
        self.sock.sendall(self.channel.take_raw())

    def hang_up(self) -> None:
        self.sock.close()
