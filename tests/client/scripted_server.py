"""A server that does what a test tells it, one connection after the other, over real sockets and real TLS."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec
from certificate_authority import TRUST_DOMAIN
from cryptography import x509

from securedelivery.protocol.connection import CloseReceived, PeerAuthenticated, ServerConnection, State
from securedelivery.protocol.jsonrpc import Request
from securedelivery.transport.channel import Channel, TlsFailure
from securedelivery.transport.tls import ServerFiles, ServerSecurity

PATIENCE_SECONDS = 20.0

Script = Callable[["Customer"], None]
RawScript = Callable[[socket.socket], None]


def load_security(folder: Path, *, required: bool = True) -> ServerSecurity:
    return ServerSecurity.load(
        ServerFiles.in_directory(folder),
        trust_domain=TRUST_DOMAIN,
        certificates_required=required,
        trusted_proxies=frozenset(),
    )


class Listener:
    """Runs scripts[0] with the first socket, scripts[1] with the second; the last again and again."""

    def __init__(self, *scripts: RawScript) -> None:
        self._scripts = list(scripts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.server = f"localhost:{self.port}"
        self.accepted = 0
        self.errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        with contextlib.suppress(OSError):  # a test may have done so
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_SECONDS)
        self._listener.close()
        assert not self._thread.is_alive()
        if kind is None and self.errors:
            raise self.errors[0]

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts[min(self.accepted, len(self._scripts) - 1)]
            self.accepted += 1
            with sock:
                sock.settimeout(PATIENCE_SECONDS)
                try:
                    script(sock)
                except BaseException as error:  # noqa: BLE001 -- raised again in the test's thread
                    self.errors.append(error)


class Customer:
    """The server's side of one connection, step by step."""

    def __init__(self, sock: socket.socket, security: ServerSecurity, inner: ServerSecurity | None = None) -> None:
        self.sock = sock
        self.channel = Channel(security.context)
        self._inner = inner or security
        self.core: ServerConnection
        self.heard: list[str] = []

    def greet(self, **welcome: Any) -> None:
        """Everything up to the welcome."""
        self.shake_hands()
        self.welcome(**welcome)

    def shake_hands(self) -> None:
        """Everything up to the client's AUTH."""
        self.begin_tls()
        self.event()  # HandshakeReceived
        self.say(self.core.send_handshake())
        assert isinstance(self.event(), PeerAuthenticated)

    def begin_tls(self) -> None:
        while not self.channel.handshake():
            self.flush()
            self.channel.feed(self.sock.recv(65_536))
        self.flush()
        outer = self.channel.peer_certificate()
        leaf = x509.load_der_x509_certificate(outer) if outer else None
        self.core = ServerConnection(self._inner.credentials, self._inner.policy, leaf, lambda: datetime.now(UTC))

    def welcome(self, **changes: Any) -> None:
        words = {"session": self.core.session.hex(), "identity": None, "server": "scripted/1", **changes}
        self.notify("system.welcome", words)

    def event(self) -> Any:
        """The next event; TLS's end becomes Truncated."""
        while (event := self.core.next_event()) is None:
            plaintext = self.channel.read()
            if plaintext is None:
                self.channel.feed(self.sock.recv(65_536))
            else:
                self.core.receive_data(plaintext)
        return event

    def request(self, method: str | None = None) -> tuple[Any, dict[str, Any]]:
        """The id and params of the client's next request, which is for that method."""
        event = self.event()
        assert isinstance(event, Request), event
        assert method in (None, event.method)
        self.heard.append(event.method)
        return event.id, msgspec.json.decode(event.params)

    def answer(self, request_id: Any, result: object) -> None:
        self.say(self.core.send_result(request_id, result))

    def notify(self, method: str, params: object) -> None:
        self.say(self.core.send_notification(method, params))

    def say(self, plaintext: bytes) -> None:
        self.channel.write(plaintext)
        self.flush()

    def close(self, reason: str = "bye", message: str = "") -> None:
        """CLOSE and close_notify; the client's own CLOSE is awaited, unless it came first."""
        self.say(self.core.send_close(reason, message))
        self.hang_up()
        if self.core.state is State.OPEN:
            assert isinstance(self.event(), CloseReceived)

    def hang_up(self) -> None:
        """close_notify, without CLOSE."""
        self.channel.close()
        self.flush()

    def serve(self, **results: Any) -> None:
        """Answer requests (results: by method, with _ for the dot; {} else) until the client says goodbye."""
        while not isinstance(event := self.event(), CloseReceived):
            assert isinstance(event, Request), event
            self.heard.append(event.method)
            self.answer(event.id, results.get(event.method.replace(".", "_"), {}))
        self.close()

    def flush(self) -> None:
        self.sock.sendall(self.channel.take_raw())

    def wait_for_end(self) -> bytes:
        """Read on until the client's TCP end, whatever TLS says; returns the raw bytes."""
        raw = b""
        with contextlib.suppress(OSError):
            while more := self.sock.recv(65_536):
                raw += more
        return raw


def customer_script(security: ServerSecurity, script: Script, inner: ServerSecurity | None = None) -> RawScript:
    def run(sock: socket.socket) -> None:
        script(Customer(sock, security, inner))

    return run


__all__ = ["Customer", "Listener", "TlsFailure", "customer_script", "load_security", "ssl"]
