"""The web's parts, wired: what application.py opens beside the socket door."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from securedelivery import __version__
from securedelivery.api.methods import Api
from securedelivery.config import Settings, split_address
from securedelivery.service.opt_out import OptOut
from securedelivery.service.web_sessions import WebSessions
from securedelivery.transport.server import Server
from securedelivery.transport.tls import ServerFiles, WebTls
from securedelivery.web.app import build
from securedelivery.web.connections import Certificate, Reader
from securedelivery.web.desk import Desk, Shopfront
from securedelivery.web.live import Live
from securedelivery.web.server import WebServer

__all__ = ["WebDoor"]


class WebDoor:
    """Raises ConfigurationError where files of the web cannot be used. is_bound: whether a spiffe URI has an account.

    socket_door: whose worker threads and revocation list it shares.
    """

    def __init__(
        self,
        settings: Settings,
        api: Api,
        socket_door: Server,
        sessions: WebSessions,
        opt_out: OptOut,
        *,
        is_bound: Callable[[str], bool],
    ) -> None:
        web = settings.web
        assert web.listen is not None
        self._listen = split_address(web.listen, "web.listen")
        self._socket_door = socket_door
        certificate, key = (None if name is None else Path(name) for name in (web.certificate, web.key))
        asks = web.client_certificates == "optional"
        tls = WebTls(ServerFiles.in_directory(settings.certs), certificate, key, asks=asks)
        self.paths = tls.paths
        """The files of its certificate, to be watched."""
        self.life = tls.life
        front = Shopfront(
            settings.shop.name,
            settings.shop.currency,
            settings.rewards,
            None if web.public_url is None else _origin(web.public_url),
            __version__,
        )
        submit_call = socket_door.submit_call
        desk = Desk(api, submit_call, sessions, opt_out, standing=self._standing, is_bound=is_bound, shop=front)
        self._live = Live(desk)
        reader = Reader(settings.trust_domain, self._standing)
        self._server = WebServer(build(desk, self._live), self._live.begin, tls, settings.limits, reader)

    def start(self) -> tuple[str, int]:
        """Listen; returns the address in use. Raises ConfigurationError."""
        return self._server.start(*self._listen)

    def renew(self) -> None:
        """The server's files, or its own, have changed, and the socket door has them already."""
        self._server.renew()

    def notify(self, accounts: Iterable[int], method: str, params: object) -> None:
        """As Server.notify()."""
        self._live.notify(accounts, method, params)

    def review(self, account: int) -> None:
        """As Server.review()."""
        self._live.review(account)

    def last_connected(self, account: int) -> datetime | None:
        """As Server.last_connected()."""
        return self._live.last_connected(account)

    def finish(self, within_seconds: float) -> None:
        """Accept no more, and give what is under way that long."""
        self._server.finish(within_seconds)

    def stop(self) -> None:
        self._server.stop()

    def _standing(self, certificate: Certificate) -> str | None:
        return self._socket_door.security.policy.trust.standing(certificate.leaf, datetime.now(UTC))


def _origin(url: str) -> str:
    """As browsers write it (RFC 6454, section 6.2)."""
    return url.rstrip("/").lower().removesuffix(":443")
