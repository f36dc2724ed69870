"""Both handshakes of one connection, as the server: portion by portion, on a worker, for they take a millisecond."""

from datetime import UTC, datetime

from cryptography import x509

from securedelivery.errors import RemoteProtocolError
from securedelivery.protocol.connection import CloseReceived, HandshakeReceived, PeerAuthenticated, ServerConnection
from securedelivery.transport.channel import Channel, TlsFailure
from securedelivery.transport.tls import ServerSecurity

__all__ = ["Handshake"]


def _now() -> datetime:
    return datetime.now(UTC)


class Handshake:
    """TLS, then the inner handshake, up to system.welcome.

    core: the protocol core, from the moment that TLS is up; outer_leaf: the client certificate that TLS saw.
    """

    def __init__(self, security: ServerSecurity, server_name: str) -> None:
        self.channel = Channel(security.context)
        self.core: ServerConnection | None = None
        self.outer_leaf: x509.Certificate | None = None
        self._security = security
        self._server_name = server_name

    def advance(self, raw: bytes) -> PeerAuthenticated | None:
        """Take what the socket delivered; None where more is needed. What is to go out is in the channel.

        Raises TlsFailure, RemoteProtocolError for what the peer is refused for, anything else for a bug.
        """
        channel = self.channel
        channel.feed(raw)
        if self.core is None:
            if not channel.handshake():
                return None
            outer = channel.peer_certificate()
            self.outer_leaf = x509.load_der_x509_certificate(outer) if outer else None
            security = self._security
            key_log = None if security.key_logs is None else security.key_logs.frame_keys
            self.core = ServerConnection(security.credentials, security.policy, self.outer_leaf, _now, key_log=key_log)
        core = self.core
        while True:
            match core.next_event():
                case None:
                    plaintext = channel.read()
                    if plaintext is None:
                        return None
                    core.receive_data(plaintext)
                case HandshakeReceived():
                    channel.write(core.send_handshake())
                case PeerAuthenticated() as authenticated:
                    self._welcome(core, authenticated)
                    return authenticated
                case CloseReceived(reason, message):
                    said = f"{reason}: {message}" if message else reason
                    raise RemoteProtocolError(f"the client sent CLOSE {said}", "bye")
                case _:
                    raise TlsFailure("the peer hung up during the handshake")

    def _welcome(self, core: ServerConnection, authenticated: PeerAuthenticated) -> None:
        identity = authenticated.identity
        params = {
            "session": core.session.hex(),
            "identity": identity.uri if identity else None,
            "server": self._server_name,
        }
        self.channel.write(core.send_notification("system.welcome", params))
