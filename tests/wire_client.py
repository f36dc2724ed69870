"""A small blocking client for tests. It repeats nothing and hides nothing: what arrives is kept, in order."""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec
from certificate_authority import CertificateAuthority, Issued
from cryptography.hazmat.primitives.serialization import Encoding

from securedelivery.errors import RemoteProtocolError
from securedelivery.protocol.authentication import Credentials
from securedelivery.protocol.certificates import Trust
from securedelivery.protocol.connection import (
    ClientConnection,
    CloseReceived,
    Event,
    PeerAuthenticated,
    Truncated,
)
from securedelivery.protocol.jsonrpc import ErrorResponse, Request, Response
from securedelivery.transport.channel import Channel, TlsFailure
from securedelivery.transport.tls import client_context

Address = tuple[str, int]
PATIENCE_SECONDS = 30.0  # for one thing to arrive; a server that needs longer has failed the test


class Refused(Exception):  # noqa: N818 -- an answer, not a fault
    """An error answer."""

    def __init__(self, code: int, message: str, data: dict[str, Any]) -> None:
        super().__init__(f"{code} {data.get('reason')}: {message}")
        self.code = code
        self.reason: str | None = data.get("reason")
        self.data = data


class ConnectionEnded(Exception):  # noqa: N818 -- what many tests wait for
    """The connection is over. reason: the slug of the server's CLOSE, or None where there was none."""

    def __init__(self, reason: str | None, why: str) -> None:
        super().__init__(f"{reason}: {why}")
        self.reason = reason
        self.why = why


@dataclass(frozen=True)
class Keyring:
    """What one client holds: whom it trusts and, unless it comes without, its certificate."""

    context: ssl.SSLContext
    credentials: Credentials | None
    trust: Trust

    @classmethod
    def of(cls, authority: CertificateAuthority, issued: Issued | None, folder: Path) -> Self:
        """authority: the trusted one. folder: for the files that OpenSSL wants."""
        ca, certificate, key = folder / "trusted.crt", None, None
        if not ca.exists():
            beside = folder / f"trusted.{time.monotonic_ns()}"
            beside.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
            beside.rename(ca)
        if issued is not None:
            stem = f"{issued.certificate.serial_number:x}"
            certificate, key = folder / f"{stem}.crt", folder / f"{stem}.key"
            issued.write(certificate, key)
        context = client_context(ca, certificate, key, None)
        return cls(context, issued.credentials if issued else None, authority.trust(with_crl=False))


class WireClient:
    """One connection, used by one thread. source: the loopback address to come from.

    notifications: (method, params) in the order of arrival; arrivals: the ids of answers and the methods of
    notifications, as they came. opened: the sockets of all clients, for whoever cleans up behind a test.
    """

    opened: ClassVar[set[socket.socket]] = set()

    def __init__(
        self, address: Address, keyring: Keyring, *, source: str = "127.0.0.1", server_name: str = "localhost"
    ) -> None:
        self.patience_seconds = PATIENCE_SECONDS
        self.notifications: list[tuple[str, dict[str, Any]]] = []
        self.arrivals: list[int | str | None] = []
        self._answers: dict[int | str | None, Response | ErrorResponse] = {}
        self._next_id = 0
        self._ended: ConnectionEnded | None = None
        self.socket = socket.create_connection(address, PATIENCE_SECONDS, (source, 0))
        self.opened.add(self.socket)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.channel = Channel(keyring.context, server_hostname=server_name)
        self.core = ClientConnection(keyring.credentials, keyring.trust, server_name, lambda: datetime.now(UTC))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The handshake, step by step for tests that stop half-way

    @classmethod
    def connect(cls, address: Address, keyring: Keyring, **options: str) -> Self:
        """A connection on which the server has said system.welcome. Raises ConnectionEnded."""
        client = cls(address, keyring, **options)
        client.start_tls()
        client.start_noise()
        client.authenticate()
        client.wait_for("system.welcome")
        return client

    def hello(self) -> None:
        """Send TLS's ClientHello, and no more."""
        self.channel.handshake()
        self._send_raw()

    def start_tls(self) -> None:
        with self._translated():
            while not self.channel.handshake():
                self._send_raw()
                self._receive_raw()
            self._send_raw()

    def start_noise(self) -> None:
        """The inner handshake, until the server has proved who it is."""
        with self._translated():
            self.channel.write(self.core.send_handshake())
            self._send_raw()
            while not isinstance(event := self._event(), PeerAuthenticated):
                self._keep(event)

    def authenticate(self, *requests: tuple[str, dict[str, Any]]) -> list[int]:
        """Send AUTH and the requests behind it in one segment; returns the requests' ids."""
        with self._translated():
            frames, ids = [self.core.send_auth()], []
            for method, params in requests:
                ids.append(self._new_id())
                frames.append(self.core.send_request(ids[-1], method, params))
            self.channel.write(b"".join(frames))
            self._send_raw()
        return ids

    # Calls

    def call(self, method: str, **params: Any) -> Any:
        """The result. Raises Refused or ConnectionEnded."""
        return self.answer(self.send(method, **params))

    def send(self, method: str, **params: Any) -> int:
        """Send a request, and do not wait; returns its id."""
        return self.send_all((method, params))[0]

    def send_all(self, *requests: tuple[str, dict[str, Any]]) -> list[int]:
        """Send requests in one segment; returns their ids."""
        if self._ended is not None:
            raise self._ended
        ids = [self._new_id() for _ in requests]
        with self._translated():
            frames = [self.core.send_request(number, *request) for number, request in zip(ids, requests, strict=True)]
            self.channel.write(b"".join(frames))
            self._send_raw()
        return ids

    def answer(self, number: int) -> Any:
        """The answer to a request that was sent before. Raises Refused or ConnectionEnded."""
        self._wait_until(lambda: number in self._answers)
        answer = self._answers.pop(number)
        if isinstance(answer, ErrorResponse):
            raise Refused(answer.error.code, answer.error.message, answer.error.data)
        return msgspec.json.decode(answer.result)

    def wait_for(self, method: str, matches: Callable[[dict[str, Any]], bool] = lambda _params: True) -> dict[str, Any]:
        """The params of the first notification that matches, now or to come."""
        found: list[dict[str, Any]] = []

        def arrived() -> bool:
            found.extend(params for name, params in self.notifications if name == method and matches(params))
            return bool(found)

        self._wait_until(arrived)
        return found[0]

    def wait_for_end(self) -> ConnectionEnded:
        """How the server ended the connection; until then, everything that comes is kept. Then hang up, politely."""
        try:
            self._wait_until(lambda: False)
        except ConnectionEnded as ended:
            self.close()
            return ended
        raise AssertionError

    def close(self) -> None:
        """The normal end; also for a connection that is over."""
        try:
            if frame := self.core.send_close("bye"):
                self.channel.write(frame)
                self.channel.close()
                self.socket.sendall(self.channel.take_raw())
        except (TlsFailure, OSError):
            pass  # the server was quicker
        finally:
            self.cut()

    def cut(self) -> None:
        """Hang up, without a word."""
        self.socket.close()
        self.opened.discard(self.socket)

    # Inside

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _wait_until(self, arrived: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.patience_seconds
        while not arrived():
            if self._ended is not None:
                raise self._ended
            with self._translated():
                self.socket.settimeout(max(0.001, deadline - time.monotonic()))
                self._keep(self._event())

    @contextlib.contextmanager
    def _translated(self) -> Any:
        try:
            yield
        except TimeoutError:
            raise
        except (TlsFailure, RemoteProtocolError, OSError) as error:
            self._ended = ConnectionEnded(None, str(error))
            raise self._ended from error

    def _event(self) -> Event:
        while (event := self.core.next_event()) is None:
            plaintext = self.channel.read()
            if plaintext is not None:
                self.core.receive_data(plaintext)
            else:
                self._receive_raw()
        return event

    def _keep(self, event: Event) -> None:
        match event:
            case Response(id=number) | ErrorResponse(id=number):
                self._answers[number] = event
                self.arrivals.append(number)
            case Request(method=method, params=params):
                self.notifications.append((method, msgspec.json.decode(params)))
                self.arrivals.append(method)
            case CloseReceived(reason, message):
                self._ended = ConnectionEnded(reason, message)
                raise self._ended
            case Truncated():
                self._ended = ConnectionEnded(None, "ended without CLOSE")
                raise self._ended

    def _send_raw(self) -> None:
        self.socket.sendall(self.channel.take_raw())

    def _receive_raw(self) -> None:
        if self.channel.raw_ended:
            raise TlsFailure("the server hung up")
        self.channel.feed(self.socket.recv(65_536))
