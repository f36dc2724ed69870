"""The composition root: builds a running service of its parts, and takes it down again in order.

main thread      signals only
acceptor, I/O    transport.server     sockets and TLS
workers          transport.workers    handshakes; database reads and password hashes
writer           store.writer         the one that commits
watcher          transport.reload     changed certificates and revocation lists
"""

import resource
import signal
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import msgspec
import structlog

from securedelivery.api.methods import Api, Services
from securedelivery.config import Settings, split_address
from securedelivery.errors import ConfigurationError
from securedelivery.protocol.certificates import TRUST_DOMAIN
from securedelivery.protocol.frames import MAX_PLAINTEXT
from securedelivery.service import catalog_file
from securedelivery.service.accounts import Accounts
from securedelivery.service.catalog import Catalog
from securedelivery.service.events import OrderChanged, RewardsChanged
from securedelivery.service.orders import Orders, without_code
from securedelivery.service.passwords import Passwords
from securedelivery.store.engine import Database
from securedelivery.transport.reload import SecurityWatcher
from securedelivery.transport.server import Server
from securedelivery.transport.tls import ServerFiles, ServerSecurity

__all__ = ["Running", "Shop", "serve"]

RESERVED_FILES = 128  # beside the connections: the database, its readers, logs, libraries
HEEDED = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGHUP))


def utc_now() -> datetime:
    return datetime.now(UTC)


class Shop:
    """The services over an open database, for the server and for the operator's commands. A context manager.

    create: whether a missing database is made.
    """

    def __init__(self, settings: Settings, *, create: bool = True) -> None:
        self.settings = settings
        self.database = Database.open(settings.database.url, create=create)
        accounts = settings.accounts
        if accounts.names_file is None:
            accounts = msgspec.structs.replace(accounts, names_file=str(settings.certs / "names.txt"))
        self.accounts = Accounts(
            self.database, utc_now, Passwords(at_once=settings.limits.password_workers), settings.rewards, accounts
        )
        self.catalog = Catalog(self.database, settings.shop.currency)
        self.orders = Orders(self.database, utc_now, settings.rewards, settings.shop.currency)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()


class Running:
    """A service that serves. address: where it listens."""

    def __init__(self, shop: Shop) -> None:
        settings = shop.settings
        self._shop = shop
        self._files = ServerFiles.in_directory(settings.certs)
        limits = settings.limits
        services = Services(
            shop.accounts,
            shop.catalog,
            shop.orders,
            shop.database.writer,
            utc_now,
            settings.shop.name,
            settings.shop.currency,
            {
                "connection_seconds": int(limits.connection_seconds),
                "frame_bytes": MAX_PLAINTEXT,
                "idle_seconds": int(limits.idle_seconds),
                "outstanding_requests": limits.outstanding_requests,
            },
        )
        security = self._load_security()
        self._server = Server(Api(services), security, limits)
        shop.database.writer.on_commit = self._notify
        self._watcher = SecurityWatcher(self._files, self._load_security, self._server.use)
        self.address = self._server.start(*split_address(settings.server.listen))
        try:
            self._watcher.watch(security)
        except BaseException:
            self._server.stop()
            raise

    def reload(self) -> None:
        self._watcher.reload()

    def stop(self) -> None:
        """Drain and end, within 10 seconds."""
        self._watcher.stop()
        self._server.stop()

    def _load_security(self) -> ServerSecurity:
        settings = self._shop.settings
        trust_domain = settings.trust_domain
        if not TRUST_DOMAIN.fullmatch(trust_domain):
            raise ConfigurationError("server.trust_domain", f"{trust_domain!r} is not one", "see certs/README.md")
        return ServerSecurity.load(
            self._files,
            trust_domain=trust_domain,
            certificates_required=settings.server.client_certificates == "required",
            trusted_proxies=frozenset(settings.server.trusted_proxies),
        )

    def _notify(self, events: Sequence[object]) -> None:
        """What a commit changed, to those concerned; on the writer's thread, behind the answers."""
        for event in events:
            match event:
                case OrderChanged(customer, courier, order):
                    self._server.notify([customer], "order.changed", order)
                    if courier is not None:
                        self._server.notify([courier], "order.changed", without_code(order))
                case RewardsChanged(account, rewards):
                    self._server.notify([account], "rewards.changed", rewards)


def serve(settings: Settings, catalog: Path | None, ready: Callable[[str, int], None]) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reloads the certificates. ready: called with host and port once it listens.

    catalog: a file to fill an empty catalog from. Raises ConfigurationError or StoreError where it cannot begin.
    """
    log = structlog.get_logger("securedelivery")
    # Blocked before the first thread begins, for all inherit it, and waited for here: handed to another thread, as the
    # kernel may, a signal would set a flag for the main one and not wake it.
    signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)
    with Shop(settings) as shop:
        _raise_file_limit(settings.limits.connections)
        if catalog is not None:
            shop.catalog.fill(catalog_file.read(catalog, settings.shop.currency))
        running = Running(shop)
        try:
            log.info("= serving", host=running.address[0], port=running.address[1], database=settings.database.url)
            ready(*running.address)
            while signal.sigwait(HEEDED) == signal.SIGHUP:
                running.reload()
            log.info("= stopping")
        finally:
            running.stop()
    log.info("= stopped")


def _raise_file_limit(connections: int) -> None:
    """Each connection takes a file descriptor, and the usual soft limit of 1,024 is for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + RESERVED_FILES
    if hard != resource.RLIM_INFINITY and hard < connections:
        structlog.get_logger("securedelivery").warning(
            "! too few open files are allowed for limits.connections",
            allowed=hard,
            hint=f"LimitNOFILE={wanted} in the systemd unit, or a smaller limits.connections",
        )
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
