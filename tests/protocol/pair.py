"""Two cores joined in memory, and copies of a core that has come half way."""

import copy
import copyreg
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from certificate_authority import TRUST_DOMAIN, CertificateAuthority, Issued
from cryptography import x509
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securedelivery.errors import RemoteProtocolError
from securedelivery.protocol.authentication import ClientPolicy, Credentials
from securedelivery.protocol.certificates import Trust
from securedelivery.protocol.connection import (
    ClientConnection,
    Event,
    HandshakeReceived,
    KeyLog,
    PeerAuthenticated,
    ServerConnection,
)

Connection = ClientConnection | ServerConnection
AnyConnection = TypeVar("AnyConnection", ClientConnection, ServerConnection)


@dataclass(frozen=True)
class Shop:
    """One authority, its server and its customer; what a test does not name is sound."""

    authority: CertificateAuthority
    host: Issued
    alice: Issued

    def policy(self, **changes: object) -> ClientPolicy:
        return replace(ClientPolicy(self.authority.trust(), TRUST_DOMAIN), **changes)

    def server(
        self,
        *,
        credentials: Credentials | None = None,
        outer: x509.Certificate | None = None,
        anonymous: bool = False,
        key_log: KeyLog | None = None,
        **changes: object,
    ) -> ServerConnection:
        """outer: alice's unless given; anonymous: TLS saw no certificate; changes: of the policy."""
        leaf = None if anonymous else outer or self.alice.certificate
        own = credentials or self.host.credentials
        return ServerConnection(own, self.policy(**changes), leaf, self._now, key_log=key_log)

    def client(
        self,
        *,
        credentials: Credentials | None = None,
        anonymous: bool = False,
        trust: Trust | None = None,
        server_name: str = "localhost",
        key_log: KeyLog | None = None,
    ) -> ClientConnection:
        credentials = None if anonymous else credentials or self.alice.credentials
        trust = trust or self.authority.trust()
        return ClientConnection(credentials, trust, server_name, self._now, key_log=key_log)

    def open_pair(self) -> tuple[ClientConnection, ServerConnection]:
        client, server = self.client(), self.server()
        join(client, server)
        return client, server

    def _now(self) -> datetime:
        return self.authority.now


def drain(connection: Connection) -> list[Event]:
    events = []
    while (event := connection.next_event()) is not None:
        events.append(event)
    return events


def greet(client: ClientConnection, server: ServerConnection) -> bytes:
    """The client's HANDSHAKE; returns the server's flight."""
    server.receive_data(client.send_handshake())
    assert drain(server) == [HandshakeReceived()]
    return server.send_handshake()


def join(client: ClientConnection, server: ServerConnection) -> PeerAuthenticated:
    """The whole handshake; returns what the server learnt."""
    client.receive_data(greet(client, server))
    assert [type(event) for event in drain(client)] == [PeerAuthenticated]
    server.receive_data(client.send_auth())
    (authenticated,) = drain(server)
    return authenticated


copyreg.pickle(AESGCM, lambda shared: (lambda: shared, ()))  # it has no state: copies may share it


def fork(connection: AnyConnection) -> AnyConnection:
    """An independent copy, so that many continuations of one handshake can be tried."""
    shared = ("_credentials", "_policy", "_trust", "_outer_leaf", "_now")
    memo = {id(part): part for name in shared if (part := getattr(connection, name, None)) is not None}
    return copy.deepcopy(connection, memo)


def outcome(connection: Connection, *pieces: bytes) -> list[Event | str]:
    """All events of the pieces; where the peer is refused, the reason ends the list."""
    events: list[Event | str] = []
    try:
        for piece in pieces:
            connection.receive_data(piece)
            while (event := connection.next_event()) is not None:
                events.append(event)
    except RemoteProtocolError as error:
        events.append(error.reason)
    return events
