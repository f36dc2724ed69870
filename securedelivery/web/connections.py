"""One TLS connection of the web: the certificate it came with, and how long it may take.

uvicorn tells an application nothing of the certificate and waits for a request for ever; both are mended here.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cryptography import x509
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from securedelivery.errors import RemoteProtocolError
from securedelivery.protocol.certificates import UNREADABLE, Identity, account_identity, load_certificate
from securedelivery.service.session import Session

__all__ = ["CONNECTION", "PLACE", "READER", "Certificate", "Connected", "Connection", "Place", "Reader", "WebSocket"]

CONNECTION = "connection"
"""Where a Connected is in the scope's state."""

PLACE = "place"
"""Where its Place is."""

READER = "reader"
"""Where a Reader is."""

REQUEST_SECONDS = 10.0  # for the head of a request, once the connection is there or the request has begun


@dataclass(frozen=True, slots=True)
class Certificate:
    """A client certificate that OpenSSL has verified. identity: None where it names no account (a proxy's, say)."""

    leaf: x509.Certificate
    identity: Identity | None

    @classmethod
    def read(cls, der: bytes, trust_domain: str) -> "Certificate":
        """Raises one of UNREADABLE."""
        leaf = load_certificate(der)
        try:
            return cls(leaf, account_identity(leaf, trust_domain))
        except RemoteProtocolError:
            return cls(leaf, None)


class Reader(NamedTuple):
    """What certificates mean. standing: the slug for which one has to go now, or None."""

    trust_domain: str
    standing: Callable[[Certificate], str | None]

    def read(self, der: bytes) -> Certificate | None:
        """None for one that cannot be read, or has to go: it may have been revoked during the handshake."""
        try:
            certificate = Certificate.read(der, self.trust_domain)
        except UNREADABLE:
            return None
        return certificate if self.standing(certificate) is None else None


@dataclass(slots=True)
class Connected:
    """What is known of a connection, for all its requests. session: of the certificate's account, once looked up.

    abort: ends it at once, whatever is still unsent.
    """

    certificate: Certificate | None
    abort: Callable[[], None]
    session: Session | None = None
    looked_up: asyncio.Lock = field(default_factory=asyncio.Lock)


class Place:
    """One of the connections that an address may have, until release(), which may be called again."""

    def __init__(self, taken: Counter[str], slot: str) -> None:
        self._taken = taken
        self._slot: str | None = slot
        taken[slot] += 1

    def release(self) -> None:
        if self._slot is not None:
            self._taken[self._slot] -= 1
            if not self._taken[self._slot]:
                del self._taken[self._slot]
            self._slot = None


class Connection(H11Protocol):
    """Its app_state goes into each request's scope, and on to a WebSocket that the connection becomes."""

    _request_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        der = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        certificate = self.app_state[READER].read(der) if der else None
        if der and certificate is None:
            transport.abort()
        self.app_state = {**self.app_state, CONNECTION: Connected(certificate, transport.abort)}
        self._await_request()

    def data_received(self, data: bytes) -> None:
        self._await_request()
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._request_came()

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._request_came()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_came()
        self.app_state[PLACE].release()
        super().connection_lost(exc)

    def _await_request(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self._request_timer is None:
            self._request_timer = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _request_came(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None


class WebSocket(WebSocketsSansIOProtocol):
    """What a Connection may become."""

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True  # it was refused, which uvicorn would call an error of ours

    def connection_lost(self, exc: Exception | None) -> None:
        self.app_state[PLACE].release()
        super().connection_lost(exc)
