"""The composition root: builds a running service of its parts, and takes it down again in order.

main thread      signals only
acceptor, I/O    transport.server     sockets and TLS
workers          transport.workers    handshakes; database reads and password hashes
writer           store.writer         the one that commits
watcher          transport.reload     changed certificates and revocation lists
senders          mail.sender          one for each mail server
web              web.server           asyncio: HTTP and WebSockets, where they are asked for
housekeeper      service.housekeeping what is due: announcements of other processes, points that expire, mail
"""

import fcntl
import gc
import os
import resource
import signal
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self
from zoneinfo import ZoneInfo

import msgspec
import structlog

from securedelivery.api import messages as m
from securedelivery.api.methods import Api, Services
from securedelivery.config import Settings, split_address
from securedelivery.errors import ConfigurationError, StoreError
from securedelivery.model import MailRoute
from securedelivery.protocol.certificates import TRUST_DOMAIN
from securedelivery.protocol.frames import MAX_PLAINTEXT
from securedelivery.service import catalog_file
from securedelivery.service.accounts import Accounts
from securedelivery.service.announcements import Announcements
from securedelivery.service.audits import Audits
from securedelivery.service.catalog import Catalog
from securedelivery.service.chat import Chat
from securedelivery.service.chat_events import ConversationChanged, MessageSent, Typing
from securedelivery.service.events import AccountChanged, OrderChanged, RewardsChanged
from securedelivery.service.figures import FiguresReport
from securedelivery.service.housekeeping import Chore, Housekeeper
from securedelivery.service.missed_chat import MissedChat
from securedelivery.service.opt_out import OptOut
from securedelivery.service.orders import Orders, without_code
from securedelivery.service.outbox import Outbox
from securedelivery.service.passwords import Passwords
from securedelivery.service.privacy import Privacy
from securedelivery.service.rewards import ACCOUNTS_AT_ONCE, Rewards
from securedelivery.service.summaries import Summaries
from securedelivery.service.web_sessions import WebSessions
from securedelivery.store.engine import Database, key_file, path_of
from securedelivery.store.vault import KeySource
from securedelivery.transport.keylog import KeyLogs
from securedelivery.transport.reload import Beside, SecurityWatcher
from securedelivery.transport.server import Server
from securedelivery.transport.tls import ServerFiles, ServerSecurity

if TYPE_CHECKING:
    from securedelivery.mail.composer import Composer
    from securedelivery.mail.delivery import Delivery
    from securedelivery.web.door import WebDoor

__all__ = ["Running", "Shop", "serve"]

RESERVED_FILES = 128  # beside the connections: the database, its readers, logs, libraries
MIN_PASSPHRASE = 12
ANNOUNCED_SECONDS = 1.0  # an operator's command is to reach open connections within 5
DUE_SECONDS = 60.0
MISSED_SECONDS = 30.0
FORGET_SECONDS = 600.0
WEB_SECONDS = 2.0  # of the 10 that a stop may take
GC_OBJECTS = 20_000
HEEDED = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGHUP))


KEY_ADVICE = (
    "copy it to a safe place apart from the backups: without it nobody can read names, addresses and chat again"
)
LOG_ADVICE = (
    "for teaching and debugging only: whoever has these files and a recording reads everything in it;"
    " start without --key-log and delete them afterwards"
)


def utc_now() -> datetime:
    return datetime.now(UTC)


def key_source(settings: Settings) -> KeySource:
    """Where the key to what is encrypted at rest comes from. Raises ConfigurationError, StoreError."""
    database = settings.database
    file = key_file(path_of(database.url)) if database.key_file is None else Path(database.key_file)
    if database.passphrase_file is None:
        return KeySource(file)
    try:
        if stat.S_IMODE(Path(database.passphrase_file).stat().st_mode) & 0o077:
            raise ConfigurationError(
                "database.passphrase_file",
                f"{database.passphrase_file} can be read by others",
                f"chmod 600 {database.passphrase_file}",
            )
        passphrase = Path(database.passphrase_file).read_text("utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            "database.passphrase_file",
            f"{database.passphrase_file} cannot be read: {getattr(error, 'strerror', None) or error}",
            "name a text file of this user",
        ) from error
    if len(passphrase) < MIN_PASSPHRASE:
        raise ConfigurationError(
            "database.passphrase_file",
            f"the passphrase has fewer than {MIN_PASSPHRASE} characters",
            "take several words: whoever steals the database can try as many as he likes",
        )
    return KeySource(file, passphrase)


class Shop:
    """The services over an open database, for the server and for the operator's commands. A context manager.

    create: whether a missing database is made. serving: whether this process has the connections; another one leaves
    word in the database of what it changes.
    """

    def __init__(self, settings: Settings, *, create: bool = True, serving: bool = False) -> None:
        self.settings = settings
        self.publish: Callable[[Sequence[object]], None] = lambda _events: None
        """Where events go that belong to no transaction; for a server."""
        self.database = Database.open(settings.database.url, keys=key_source(settings), create=create, aside=serving)
        accounts = settings.accounts
        if accounts.names_file is None:
            accounts = msgspec.structs.replace(accounts, names_file=str(settings.certs / "names.txt"))
        self.accounts = Accounts(
            self.database, utc_now, Passwords(at_once=settings.limits.password_workers), settings.rewards, accounts
        )
        self.catalog = Catalog(self.database, utc_now, settings.shop.currency)
        self.outbox = Outbox(self.database, utc_now)
        # An operator's command may have been given no settings: the server has left word of its own.
        routes = settings.mail.servers.keys() if serving else self.outbox.uses().keys()
        self.orders = Orders(
            self.database,
            utc_now,
            settings.rewards,
            settings.shop.currency,
            receipts=MailRoute.RECEIPTS in routes,
        )
        self.rewards = Rewards(self.database, utc_now, settings.rewards)
        self.chat = Chat(self.database, utc_now, self._publish)
        self.audits = Audits(self.database, utc_now)
        self.figures = FiguresReport(self.database, utc_now, settings.rewards, low_stock=settings.shop.low_stock)
        self.summaries = Summaries(
            self.database,
            utc_now,
            settings.rewards,
            zone=ZoneInfo(settings.mail.time_zone),
            hour=settings.mail.hour,
            low_stock=settings.shop.low_stock,
            operator=settings.mail.operator is not None,
        )
        self.web_sessions = WebSessions(self.database, utc_now)
        self.privacy = Privacy(self.database, utc_now, self.accounts, self.chat)
        self.opt_out = OptOut(self.database, utc_now)
        self.announcements = Announcements(self.database, utc_now, settings.rewards)
        if not serving:
            self.database.writer.before_commit = self.announcements.write

    def composer(self) -> "Composer":
        """What writes the mail. Raises ConfigurationError for a template that cannot be used."""
        from securedelivery.mail.composer import composer  # noqa: PLC0415 -- brings Jinja2

        named = self.settings.shop
        return composer(
            self.database,
            self.summaries,
            self.settings.mail,
            named.name,
            named.currency,
            public_url=self.settings.web.public_url,
        )

    def _publish(self, events: Sequence[object]) -> None:
        self.publish(events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()


class Running:
    """A service that serves. address: where it listens; web_address: the same of the web, None without.

    key_logs: where the keys of all connections are logged.
    """

    def __init__(self, shop: Shop, key_logs: KeyLogs | None = None) -> None:
        settings = shop.settings
        self._shop = shop
        self._key_logs = key_logs
        self._files = ServerFiles.in_directory(settings.certs)
        limits = settings.limits
        services = Services(
            shop.accounts,
            shop.privacy,
            shop.catalog,
            shop.orders,
            shop.rewards,
            shop.chat,
            shop.audits,
            shop.figures,
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
        if key_logs is not None:
            structlog.get_logger("securedelivery").warning(
                "! the keys of all connections are logged", files=[str(one) for one in key_logs.files], hint=LOG_ADVICE
            )
        api = Api(services)
        self._server = Server(api, security, limits)
        shop.database.writer.on_commit = shop.publish = self._notify
        shop.database.writer.delivering = self._server.together
        self._stopping = threading.Event()
        self._announced = shop.announcements.latest()
        self._delivery = self._mail()
        self._web = self._web_door(api)
        self.web_address: tuple[str, int] | None = None
        self._housekeeper = Housekeeper(
            Chore("announcements", ANNOUNCED_SECONDS, self._hear),
            Chore("expiry", DUE_SECONDS, self._expire),
            Chore("forget", FORGET_SECONDS, shop.announcements.forget),
            Chore("web sessions", FORGET_SECONDS, shop.web_sessions.tidy),
            *self._mail_chores(),
        )
        beside = None if self._web is None else Beside(self._web.paths, self._web.renew, self._web.life)
        self._watcher = SecurityWatcher(self._files, self._load_security, self._server.use, beside)
        self.address = self._server.start(*split_address(settings.server.listen))
        try:
            if self._web is not None:
                self.web_address = self._web.start()
            self._watcher.watch(security)
            shop.outbox.use(settings.mail.servers.keys())
            if self._delivery is not None:
                self._delivery.start()
            self._housekeeper.start()
        except BaseException:
            if self._web is not None and self.web_address is not None:
                self._web.stop()
            self._server.stop()
            if self._delivery is not None:
                self._delivery.stop()
            raise

    def reload(self) -> None:
        self._watcher.reload()

    def stop(self) -> None:
        """Drain and end, within 10 seconds."""
        self._stopping.set()
        if self._delivery is not None:
            self._delivery.finish()
        self._housekeeper.stop()
        self._watcher.stop()
        if self._web is not None:
            self._web.finish(WEB_SECONDS)  # while there are workers for what is under way
        self._server.stop()
        if self._web is not None:
            self._web.stop()
        if self._delivery is not None:
            self._delivery.stop()

    def _web_door(self, api: Api) -> "WebDoor | None":
        """None where the web is not asked for. Raises ConfigurationError."""
        shop = self._shop
        if shop.settings.web.listen is None:
            return None
        from securedelivery.web.door import WebDoor  # noqa: PLC0415 -- brings asyncio, Starlette and uvicorn

        return WebDoor(
            shop.settings, api, self._server, shop.web_sessions, shop.opt_out, is_bound=shop.accounts.is_bound
        )

    def _tell(self, accounts: Collection[int], method: str, params: object) -> None:
        """A notification to every connection of the accounts, through whichever door."""
        self._server.notify(accounts, method, params)
        if self._web is not None:
            self._web.notify(accounts, method, params)

    def _last_connected(self, account: int) -> datetime | None:
        doors = (self._server, self._web)
        times = [door.last_connected(account) for door in doors if door is not None]
        return max((time for time in times if time is not None), default=None)

    def _mail(self) -> "Delivery | None":
        """None where no mail server is set. Raises ConfigurationError."""
        shop, mail = self._shop, self._shop.settings.mail
        if not mail.servers:
            return None
        from securedelivery.mail.delivery import Delivery  # noqa: PLC0415 -- brings smtplib

        return Delivery(shop.outbox, shop.composer(), mail)

    def _mail_chores(self) -> Iterator[Chore]:
        shop, servers = self._shop, self._shop.settings.mail.servers
        if MailRoute.RECEIPTS in servers:
            missed = MissedChat(shop.database, utc_now, self._last_connected)
            yield Chore("missed chat", MISSED_SECONDS, missed.queue_due)
        if MailRoute.SUMMARIES in servers:
            yield Chore("summaries", DUE_SECONDS, self._queue_summaries)
        yield Chore("old mail", FORGET_SECONDS, self._tidy_mail)

    def _queue_summaries(self) -> None:
        """Some accounts at a time, so that what other processes have changed is told in time."""
        self._shop.summaries.queue_due(self._interrupted)

    def _tidy_mail(self) -> None:
        self._shop.outbox.tidy(self._interrupted)

    def _interrupted(self) -> bool:
        """Between two portions of a long chore: whether to leave the rest."""
        self._hear()
        return self._stopping.is_set()

    def _hear(self) -> None:
        """Tell what other processes have changed."""
        self._announced = self._shop.announcements.hear(self._announced)

    def _expire(self) -> None:
        """Book the points whose time is up, some accounts at a time, so that orders need not wait for all of them."""
        writer, expire = self._shop.database.writer, self._shop.rewards.expire
        while writer.call(expire, None) == ACCOUNTS_AT_ONCE and not self._stopping.is_set():
            self._hear()  # which has to be done in time, however many accounts are due

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
            key_logs=self._key_logs,
        )

    def _notify(self, events: Sequence[object]) -> None:
        """What a commit changed, to those concerned; on the writer's thread, behind the answers."""
        if self._delivery is not None:
            self._delivery.heed(events)
        for event in events:
            match event:
                case OrderChanged(customer, courier, order, former):
                    self._tell([customer], "order.changed", order)
                    carriers = {one for one in (courier, former) if one not in (None, customer)}
                    if carriers:
                        self._tell(carriers, "order.changed", without_code(order))
                case RewardsChanged(account, rewards):
                    self._tell([account], "rewards.changed", rewards)
                case AccountChanged(account):
                    self._server.review(account)
                    if self._web is not None:
                        self._web.review(account)
                case MessageSent():
                    self._tell(event.recipients, "chat.message", event.message)
                case ConversationChanged(customer, agents, for_customer, for_staff):
                    if customer is not None:
                        self._tell([customer], "chat.conversation", for_customer)
                    self._tell(agents, "chat.conversation", for_staff)
                case Typing(account, conversation, sender):
                    self._tell([account], "chat.typing", m.Typing(conversation, sender))


def serve(
    settings: Settings, catalog: Path | None, ready: Callable[[Running], None], key_logs: KeyLogs | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reloads the certificates. ready: called once it listens.

    catalog: a file to fill an empty catalog from. key_logs: where keys are logged, for teaching and debugging. Raises
    ConfigurationError or StoreError where it cannot begin.
    """
    log = structlog.get_logger("securedelivery")
    # Blocked before the first thread begins, for all inherit it, and waited for here: handed to another thread, as the
    # kernel may, a signal would set a flag for the main one and not wake it.
    signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)
    with _only_server(path_of(settings.database.url)), Shop(settings, serving=True) as shop:
        if shop.database.new_key is not None:
            log.warning("! made the key of the database", file=str(shop.database.new_key), hint=KEY_ADVICE)
        _raise_file_limit(settings.limits.connections, doors=1 if settings.web.listen is None else 2)
        if catalog is not None:
            shop.catalog.fill(catalog_file.read(catalog, settings.shop.currency))
        running = Running(shop, key_logs)
        _spare_collections()
        try:
            log.info("= serving", host=running.address[0], port=running.address[1], database=settings.database.url)
            if running.web_address is not None:
                log.info("= serving the web", host=running.web_address[0], port=running.web_address[1])
            ready(running)
            while signal.sigwait(HEEDED) == signal.SIGHUP:
                running.reload()
            log.info("= stopping")
        finally:
            running.stop()
    log.info("= stopped")


def _spare_collections() -> None:
    """What has been built so far stays, and a request's objects go by their reference counts: look for cycles seldom.

    With the default of 700 objects every batch of orders pays for several looks, and some of them at everything.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS, 10, 10)


@contextmanager
def _only_server(database: Path) -> Iterator[None]:
    """Two servers on one database file would not tell their customers of each other's changes. Raises StoreError."""
    path = database.with_name(f"{database.name}.lock")
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:  # the database's own error says what is wrong with this folder
        yield
        return
    with os.fdopen(descriptor, "r+"):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"another server is serving {database}; stop that one, or name another --database"
            ) from None
        yield


def _raise_file_limit(connections: int, *, doors: int) -> None:
    """Each connection takes a file descriptor, and the usual soft limit of 1,024 is for programs that use select().

    connections: that each of the doors may have.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections * doors + RESERVED_FILES
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
