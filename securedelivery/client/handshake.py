"""From nothing to the welcome: TCP, TLS, the inner handshake, all on the caller's thread and under one deadline."""

import contextlib
import socket
import sys
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from securedelivery.api.messages import Welcome
from securedelivery.client import diagnosis
from securedelivery.client.deadline import Deadline
from securedelivery.client.profile import Profile
from securedelivery.errors import ConfigurationError, RemoteProtocolError
from securedelivery.protocol.connection import ClientConnection, CloseReceived, Event, PeerAuthenticated, Truncated
from securedelivery.protocol.jsonrpc import Request
from securedelivery.transport.channel import Channel, TlsFailure
from securedelivery.transport.keylog import KeyLogs
from securedelivery.transport.tls import client_context, load_credentials, load_trust

__all__ = ["RECEIVE_BYTES", "OpenLine", "open_line"]

RECEIVE_BYTES = 65_536
VANISHED_MILLISECONDS = 45_000  # of sent bytes without an acknowledgement


@dataclass(frozen=True)
class OpenLine:
    """An authenticated connection that nobody reads yet. What came behind the welcome waits in channel and core."""

    server: str
    sock: socket.socket
    channel: Channel
    core: ClientConnection
    welcome: Welcome


def open_line(profile: Profile, deadline: Deadline, key_logs: KeyLogs | None = None) -> OpenLine:
    """Connect and prove both sides. The files are read anew each time, so a renewed certificate is taken.

    key_logs: where the connection's keys are logged, which is told each time.

    Raises ConfigurationError for the files, ConnectionFailure or PeerClosed, with a hint, for everything else.
    """
    host, port = profile.address
    if profile.ca is None:
        raise ConfigurationError(
            "ca",
            "it is not known which CA to trust",
            "get ca.crt from the operator: securedelivery profile set --ca FILE",
        )
    if (profile.certificate is None) != (profile.key is None):
        raise ConfigurationError("certificate", "certificate and key go together", "give both, or neither")
    trust = load_trust(profile.ca, profile.crl)
    credentials = None
    if profile.certificate is not None and profile.key is not None:
        credentials = load_credentials(profile.certificate, profile.key)
    # The list is the shop's authority's, and says nothing of a certificate of another one.
    outer = (profile.ca, profile.crl) if profile.tls_ca is None else (profile.tls_ca, None)
    context = client_context(outer[0], profile.certificate, profile.key, outer[1])
    key_log = None
    if key_logs is not None:
        key_logs.prepare(context)
        key_log = key_logs.frame_keys
    core = ClientConnection(credentials, trust, host, lambda: datetime.now(UTC), key_log=key_log)
    sock = _dial(profile.server, host, port, deadline)
    if key_logs is not None:
        files = " and ".join(map(str, key_logs.files))
        key_logs.warn(f"the keys of this connection to {profile.server} are logged in {files}")
    greeting = _Greeting(profile, sock, Channel(context, server_hostname=host), core, deadline)
    try:
        welcome = greeting.run(host)
        sock.setblocking(False)
    except BaseException:
        greeting.leave()
        raise
    return OpenLine(profile.server, sock, greeting.channel, core, welcome)


def _dial(server: str, host: str, port: int, deadline: Deadline) -> socket.socket:
    """The first of the host's addresses that takes a connection; each gets its share of the time."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise diagnosis.unreachable(server, error) from error
    failure: OSError = TimeoutError()
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)
            sock.settimeout(max(deadline.remaining() / (len(addresses) - index), 0.001))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if sys.platform == "linux":
                # A host that has vanished without a word is noticed while calls go on, which no ping is sent beside.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_MILLISECONDS)
        except OSError as error:
            failure = error
            if sock is not None:
                sock.close()
        else:
            return sock
    if isinstance(failure, TimeoutError):
        raise diagnosis.timed_out(server, deadline.seconds) from failure
    raise diagnosis.unreachable(server, failure) from failure


class _Greeting:
    def __init__(
        self, profile: Profile, sock: socket.socket, channel: Channel, core: ClientConnection, deadline: Deadline
    ) -> None:
        self._profile = profile
        self._server = profile.server
        self._sock = sock
        self.channel = channel
        self._core = core
        self._deadline = deadline

    def run(self, host: str) -> Welcome:
        core, channel = self._core, self.channel
        try:
            while not channel.handshake():
                self._exchange()
            channel.write(core.send_handshake())
            self._flush()
            self._expect(PeerAuthenticated)
            channel.write(core.send_auth())
            self._flush()
            return self._welcome(self._expect(Request))
        except TlsFailure as failure:
            has_crl, has_tls_ca = self._profile.crl is not None, self._profile.tls_ca is not None
            raise diagnosis.tls_failed(self._server, host, failure, has_crl=has_crl, has_tls_ca=has_tls_ca) from failure
        except RemoteProtocolError as error:
            with contextlib.suppress(TlsFailure):
                channel.write(core.send_close(error.reason))
            raise diagnosis.inner_refused(self._server, error) from error
        except TimeoutError as error:
            raise diagnosis.timed_out(self._server, self._deadline.seconds) from error

    def leave(self) -> None:
        """Say the last words (an alert, a CLOSE), so that the server's log knows why, and hang up."""
        with contextlib.suppress(OSError, TlsFailure):
            self.channel.close()
            self._sock.settimeout(1.0)
            self._sock.sendall(self.channel.take_raw())
        self._sock.close()

    def _expect(self, kind: type[Event]) -> Event:
        while True:
            event = self._core.next_event()
            if isinstance(event, kind):
                return event
            match event:
                case None:
                    plaintext = self.channel.read()
                    if plaintext is None:
                        self._exchange()
                    else:
                        self._core.receive_data(plaintext)
                case CloseReceived():
                    self.channel.write(self._core.send_close("bye"))
                    raise diagnosis.closed(self._server, event)
                case Truncated():
                    raise diagnosis.truncated(self._server)
                case _:
                    raise RemoteProtocolError(f"{type(event).__name__} came before the welcome")

    def _welcome(self, event: Event) -> Welcome:
        assert isinstance(event, Request)
        if event.method != "system.welcome":
            raise RemoteProtocolError(f"{event.method} came before the welcome")
        try:
            welcome = msgspec.json.decode(event.params, type=Welcome)
        except msgspec.DecodeError as error:
            raise RemoteProtocolError(f"the welcome is not what it should be: {error}") from error
        if welcome.session != self._core.session.hex():
            raise RemoteProtocolError("the server is in another session than this client")
        return welcome

    def _exchange(self) -> None:
        """Send what is due, then wait for the server's next bytes."""
        self._flush()
        self._sock.settimeout(self._left())
        try:
            raw = self._sock.recv(RECEIVE_BYTES)
        except TimeoutError:
            raise
        except OSError:  # reset: what had arrived before it has been read, so an alert is not lost
            raw = b""
        self.channel.feed(raw)

    def _flush(self) -> None:
        raw = self.channel.take_raw()
        if not raw:
            return
        self._sock.settimeout(self._left())
        try:
            self._sock.sendall(raw)
        except TimeoutError:
            raise
        except OSError:
            # The server has hung up on us. Why, it said before: the alert is still to be read.
            return

    def _left(self) -> float:
        remaining = self._deadline.remaining()
        if not remaining:
            raise TimeoutError
        return remaining
