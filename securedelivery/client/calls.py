"""The typed calls: one for each method of docs/protocol.md, section 5, that a customer uses."""

import uuid
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from securedelivery.api import messages as m
from securedelivery.client.connection import PING_SECONDS, Connection
from securedelivery.client.deadline import Deadline
from securedelivery.client.notifications import Gap, Notification
from securedelivery.client.profile import Profile
from securedelivery.client.reconnect import HANDSHAKE_SECONDS, Link, Login
from securedelivery.errors import LocalProtocolError, Refusal, RemoteProtocolError
from securedelivery.model import Account, Order, OrderStatus, Product

__all__ = ["Client"]

Result = TypeVar("Result")

CALL_SECONDS = 30.0  # for a call with all its repetitions: a restart of the server is sat out
PAGE = 200  # the most that a page holds


class Client:
    """The service, as one customer sees it. Connects at the first call, at connect(), or on entering `with`.

    timeout_seconds: for each call with all its repetitions; handshake_seconds: for TCP, TLS and inner handshake.
    on_notification: called on the reader thread for each Notification, and with a Gap before those of a new connection.
    It must return soon and must not call this client (that raises LocalProtocolError), but may close() it. Without it
    they queue for notifications().

    Every call raises Refusal (the service said no), ConnectionFailure or PeerClosed (with a hint), ConfigurationError
    (a file of the profile), RemoteProtocolError (an answer that makes no sense). Any thread may call at any time.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        timeout_seconds: float = CALL_SECONDS,
        handshake_seconds: float = HANDSHAKE_SECONDS,
        ping_seconds: float = PING_SECONDS,
        on_notification: Callable[[Notification | Gap], None] | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._link = Link(
            profile, handshake_seconds=handshake_seconds, ping_seconds=ping_seconds, on_notification=on_notification
        )

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # The connection

    def connect(self) -> m.Welcome:
        """Connect now, unless connected; tried once."""
        return self._link.ready(self._deadline()).welcome

    @property
    def welcome(self) -> m.Welcome:
        """What the server said first: session (64 hex digits), identity (the certificate's URI, or None), server."""
        return self._link.welcome or self.connect()

    def close(self) -> None:
        """Say goodbye and join the reader; calls that wait fail. A closed client stays closed."""
        self._link.close()

    def notifications(self, timeout_seconds: float | None = None) -> Iterator[Notification | Gap]:
        """What the server says on its own, in the order of arrival, for clients without on_notification.

        Ends when nothing has come for timeout_seconds (None: never), or when the client is closed. A lost connection is
        replaced, with the login, and a Gap says that something may have been missed. Raises as calls do.
        """
        link = self._link
        while not link.closed:
            item = link.inbox.get(timeout_seconds, lambda: link.closed or link.lost)
            if item is not None:
                yield item
            elif link.lost and not link.closed:
                deadline = self._deadline()
                link.run(lambda _connection: msgspec.Raw(), deadline, repeat=True)
            else:
                return

    def call(
        self, method: str, params: object, result: type[Result], *, repeat: bool, timeout_seconds: float | None = None
    ) -> Result:
        """Any method. params: what msgspec encodes as an object; result: the type to decode into (Any: plain JSON).

        repeat: whether it may be asked again on a new connection, although it may have taken effect already.
        """
        deadline = self._deadline(timeout_seconds)
        return _decoded(method, result, _fitting(lambda: self._link.call(method, params, deadline, repeat=repeat)))

    # system.*, rpc.discover

    def info(self) -> m.Info:
        """Name, version, currency, time and limits of the service. Needs no login."""
        return self.call("system.info", m.Nothing(), m.Info, repeat=True)

    def ping(self) -> None:
        """A round trip. Needs no login."""
        self.call("system.ping", m.Nothing(), m.Nothing, repeat=True)

    def discover(self, section: str | None = None) -> dict[str, Any]:
        """The OpenRPC document of the service. Needs no login."""
        return self.call("rpc.discover", m.Discover(section), dict[str, Any], repeat=True)

    # account.*

    def create_account(
        self,
        username: str,
        password: str | None = None,
        *,
        name: str | None = None,
        email: str | None = None,
        address: str | None = None,
    ) -> Account:
        """Create and log in. password: not needed where a certificate identifies this client.

        Never repeated: after PeerClosed the account may be there; then log in. Refused: username_taken, forbidden,
        invalid_params (`path`).
        """
        params = m.CreateAccount(username, password, name, email, address)
        account = self.call("account.create", params, Account, repeat=False)
        if self.welcome.identity is not None:
            self._link.remember(_certificate_login)
        elif password is not None:
            self._link.remember(_password_login(username, password))
        return account

    def login(self, username: str, password: str | Callable[[], str]) -> Account:
        """Log in by password. It is remembered (a callable: asked again) for logins on new connections, until logout.

        Refused: bad_credentials, disabled, forbidden, rate_limited (`retry_after` seconds).
        """
        return self._log_in("account.login", _password_login(username, password))

    def login_certificate(self) -> Account:
        """Log in as the connection's identity, also on new connections. Refused: bad_credentials without an account."""
        return self._log_in("account.login_certificate", _certificate_login)

    def logout(self) -> None:
        self._link.remember(None)
        self.call("account.logout", m.Nothing(), m.Nothing, repeat=True)

    def account(self) -> Account:
        """The account that is logged in."""
        return self.call("account.get", m.Nothing(), Account, repeat=True)

    # catalog.*

    def catalog(
        self, query: str | None = None, *, after: str | None = None, limit: int | None = None
    ) -> m.Page[Product]:
        """A page of products. query: words to look for; after: the `next` of the page before; limit: 1 to 200.

        Needs no login.
        """
        return self.call("catalog.list", m.ListCatalog(query, after, limit), m.Page[Product], repeat=True)

    def all_products(self, query: str | None = None) -> Iterator[Product]:
        """Every product, page by page."""
        return _all(lambda after: self.catalog(query, after=after, limit=PAGE))

    def product(self, sku: str) -> Product:
        """Refused: not_found. Needs no login."""
        return self.call("catalog.get", m.GetProduct(sku), Product, repeat=True)

    # order.*

    def place_order(
        self,
        lines: Iterable[tuple[str, int]],
        *,
        address: str | None = None,
        redeem_points: int | None = None,
        idempotency_key: str | None = None,
    ) -> Order:
        """Order. lines: (sku, quantity 1 to 10,000), up to 100; address: the account's where it is not given.

        The key makes the call repeatable: the same key and parameters give the same order, and this method repeats by
        itself while its time lasts. Give your own (1 to 128 characters) to be able to repeat it after an error, too.
        Refused: out_of_stock (`sku`, `available`), not_found (`sku`), not_enough_points (`points`),
        idempotency_conflict, invalid_params (`path`).
        """
        key = str(uuid.uuid4()) if idempotency_key is None else idempotency_key
        wanted = [m.LineRequest(sku, quantity) for sku, quantity in lines]
        return self.call("order.place", m.PlaceOrder(key, wanted, address, redeem_points), Order, repeat=True)

    def order(self, number: int) -> Order:
        """Refused: not_found, also for another's."""
        return self.call("order.get", m.GetOrder(number), Order, repeat=True)

    def orders(
        self,
        *,
        after: str | None = None,
        limit: int | None = None,
        status: OrderStatus | None = None,
        account: str | None = None,
        changed_since: str | None = None,
    ) -> m.Page[Order]:
        """A page of orders, newest first. account: for staff; changed_since: RFC 3339 with Z, inclusive."""
        params = m.ListOrders(after, limit, status, account, changed_since)
        return self.call("order.list", params, m.Page[Order], repeat=True)

    def all_orders(self, *, status: OrderStatus | None = None) -> Iterator[Order]:
        """Every order of this account, newest first, page by page."""
        return _all(lambda after: self.orders(after=after, limit=PAGE, status=status))

    # Inside

    def _deadline(self, seconds: float | None = None) -> Deadline:
        return Deadline(self._timeout_seconds if seconds is None else seconds)

    def _log_in(self, method: str, login: Login) -> Account:
        deadline = self._deadline()
        raw = _fitting(lambda: self._link.run(lambda connection: login(connection, deadline), deadline, repeat=True))
        self._link.remember(login)
        return _decoded(method, Account, raw)


def _certificate_login(connection: Connection, deadline: Deadline) -> msgspec.Raw:
    return connection.call("account.login_certificate", m.Nothing(), deadline)


def _password_login(username: str, password: str | Callable[[], str]) -> Login:
    def login(connection: Connection, deadline: Deadline) -> msgspec.Raw:
        word = password if isinstance(password, str) else password()
        return connection.call("account.login", m.Login(username, word), deadline)

    return login


def _fitting(ask: Callable[[], msgspec.Raw]) -> msgspec.Raw:
    try:
        return ask()
    except LocalProtocolError as error:
        if "does not fit" not in str(error):
            raise
        raise Refusal.invalid("", str(error)) from error
    except UnicodeEncodeError as error:  # half a surrogate pair: no UTF-8 can say that
        raise Refusal.invalid("", "there is text in the request that is not valid Unicode") from error


def _decoded(method: str, result: type[Result], raw: msgspec.Raw) -> Result:
    try:
        return msgspec.json.decode(raw, type=result)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"the answer to {method} is not what it should be: {error}") from error


def _all(page: Callable[[str | None], m.Page[Result]]) -> Iterator[Result]:
    after: str | None = None
    while True:
        part = page(after)
        yield from part.items
        if part.next is None:
            return
        after = part.next
