"""The table: method -> role -> parameters -> service. TLS and web are doors to it; rules stand in the services."""

import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

import msgspec
import structlog
from msgspec import Raw

from securedelivery import __version__
from securedelivery.api import messages as m
from securedelivery.api import openrpc
from securedelivery.errors import Reason, Refusal, StoreError
from securedelivery.model import Account, Order, Product, Role, timestamp
from securedelivery.protocol.frames import MAX_PLAINTEXT
from securedelivery.protocol.jsonrpc import Request
from securedelivery.service import catalog, orders
from securedelivery.service.accounts import Accounts
from securedelivery.service.catalog import Catalog
from securedelivery.service.orders import Orders, PlaceCommand
from securedelivery.service.session import Session
from securedelivery.store.writer import Writer
from securedelivery.transport.dispatch import Caller, Lane, Outcome, SessionChange

__all__ = ["METHODS", "Access", "Api", "Method", "Services"]

Item = TypeVar("Item")

DEFAULT_LIMIT = 50
MAX_RESULT = MAX_PLAINTEXT - 512  # what is left for a result beside the envelope with the longest id


class Access(Enum):
    """Who may call a method (docs/protocol.md, "Methods"). An admin may do all."""

    ANY = "any"
    CUSTOMER = "customer"
    AGENT = "agent"
    COURIER = "courier"
    ADMIN = "admin"

    def admits(self, role: Role) -> bool:
        """role: of a logged-in account; every one of them is a customer too."""
        return self in (Access.ANY, Access.CUSTOMER) or role.value in (self.value, Role.ADMIN.value)


class Services(msgspec.Struct, frozen=True):
    """What the methods call."""

    accounts: Accounts
    catalog: Catalog
    orders: Orders
    writer: Writer
    clock: Callable[[], datetime]
    shop: str
    currency: str
    limits: dict[str, int]


class Method(msgspec.Struct, frozen=True):
    """A row of the table.

    run: what answers; for Lane.WRITE it gives the writer's batch function and the command instead.
    errors: the reasons beside those that every method can have.
    """

    name: str
    access: Access
    parameters: type[msgspec.Struct]
    result: Any
    lane: Lane
    run: Callable[[Services, Caller, Any], Any]
    summary: str
    errors: tuple[Reason, ...] = ()


def _session(caller: Caller) -> Session:
    session = caller.session
    assert isinstance(session, Session), "the table lets nobody else in"
    return session


def _uri(caller: Caller) -> str | None:
    return caller.identity.uri if caller.identity else None


def _fitting(items: Iterable[Item], following: str | None, cursor_of: Callable[[Item], str]) -> m.Page[Raw]:
    """A page of as many items as fit a frame; where some do not, it goes on behind the last that does."""
    encoded: list[Raw] = []
    room = MAX_RESULT
    last: Item | None = None
    for item in items:
        one = msgspec.json.encode(item)
        room -= len(one) + 1
        if room < 0 and last is not None:
            return m.Page(encoded, cursor_of(last))
        encoded.append(Raw(one))
        last = item
    return m.Page(encoded, following)


# system.*, rpc.discover


def _info(services: Services, _caller: Caller, _params: m.Nothing) -> m.Info:
    return m.Info(services.shop, __version__, services.currency, timestamp(services.clock()), services.limits)


def _ping(_services: Services, _caller: Caller, _params: m.Nothing) -> m.Nothing:
    return NOTHING


NOTHING = m.Nothing()


def _discover(_services: Services, _caller: Caller, params: m.Discover) -> dict[str, Any]:
    return openrpc.document(METHODS, params.section, MAX_RESULT)


# account.*


def _entered(services: Services, session: Session) -> SessionChange:
    return SessionChange(services.accounts.get(session), session, session.account_id)


def _create_account(services: Services, caller: Caller, params: m.CreateAccount) -> SessionChange:
    session = services.accounts.create(
        params.username,
        params.password,
        name=params.name,
        email=params.email,
        address=params.address,
        identity=_uri(caller),
        remote=caller.remote,
    )
    return _entered(services, session)


def _login(services: Services, caller: Caller, params: m.Login) -> SessionChange:
    return _entered(
        services,
        services.accounts.login(params.username, params.password, identity=_uri(caller), remote=caller.remote),
    )


def _login_certificate(services: Services, caller: Caller, _params: m.Nothing) -> SessionChange:
    return _entered(services, services.accounts.login_certificate(identity=_uri(caller), remote=caller.remote))


def _logout(_services: Services, _caller: Caller, _params: m.Nothing) -> SessionChange:
    return SessionChange(NOTHING, None, None)


def _get_account(services: Services, caller: Caller, _params: m.Nothing) -> Account:
    return services.accounts.get(_session(caller))


# catalog.*


def _list_catalog(services: Services, _caller: Caller, params: m.ListCatalog) -> m.Page[Raw]:
    items, following = services.catalog.list(
        query=params.query, after=params.after, limit=params.limit or DEFAULT_LIMIT
    )
    return _fitting(items, following, catalog.cursor_of)


def _get_product(services: Services, _caller: Caller, params: m.GetProduct) -> Product:
    return services.catalog.get(params.sku)


# order.*


def _place_order(services: Services, caller: Caller, params: m.PlaceOrder) -> Any:
    command = PlaceCommand(_session(caller), params.idempotency_key, params.lines, params.address, params.redeem_points)
    return services.orders.place, command


def _get_order(services: Services, caller: Caller, params: m.GetOrder) -> Order:
    return services.orders.get(_session(caller), params.order)


def _list_orders(services: Services, caller: Caller, params: m.ListOrders) -> m.Page[Raw]:
    items, following = services.orders.list(
        _session(caller),
        after=params.after,
        limit=params.limit or DEFAULT_LIMIT,
        status=params.status,
        account=params.account,
        changed_since=params.changed_since,
    )
    return _fitting(items, following, orders.cursor_of)


_PLACING = (
    Reason.NOT_FOUND,
    Reason.IDEMPOTENCY_CONFLICT,
    Reason.OUT_OF_STOCK,
    Reason.NOT_ENOUGH_POINTS,
    Reason.UNAVAILABLE,
)
_ENTERING = (Reason.BAD_CREDENTIALS, Reason.FORBIDDEN, Reason.DISABLED, Reason.RATE_LIMITED)

_ROWS: Sequence[Method] = (
    Method("system.info", Access.ANY, m.Nothing, m.Info, Lane.INLINE, _info, "The shop, its currency and its limits."),
    Method("system.ping", Access.ANY, m.Nothing, m.Nothing, Lane.INLINE, _ping, "Are you there?"),
    Method("rpc.discover", Access.ANY, m.Discover, dict[str, Any], Lane.READ, _discover, "This document."),
    Method(
        "account.create",
        Access.ANY,
        m.CreateAccount,
        Account,
        Lane.HASHING,
        _create_account,
        "Open an account and log in.",
        (Reason.USERNAME_TAKEN, Reason.FORBIDDEN, Reason.RATE_LIMITED),
    ),
    Method("account.login", Access.ANY, m.Login, Account, Lane.HASHING, _login, "Log in by password.", _ENTERING),
    Method(
        "account.login_certificate",
        Access.ANY,
        m.Nothing,
        Account,
        Lane.SESSION,
        _login_certificate,
        "Log in as the identity of the connection.",
        _ENTERING,
    ),
    Method("account.logout", Access.CUSTOMER, m.Nothing, m.Nothing, Lane.SESSION, _logout, "Log out."),
    Method("account.get", Access.CUSTOMER, m.Nothing, Account, Lane.READ, _get_account, "The account logged in."),
    Method("catalog.list", Access.ANY, m.ListCatalog, m.Page[Product], Lane.READ, _list_catalog, "Search the catalog."),
    Method(
        "catalog.get",
        Access.ANY,
        m.GetProduct,
        Product,
        Lane.READ,
        _get_product,
        "One product.",
        (Reason.NOT_FOUND,),
    ),
    Method(
        "order.place",
        Access.CUSTOMER,
        m.PlaceOrder,
        Order,
        Lane.WRITE,
        _place_order,
        "Place an order; the same key again gives the same order.",
        _PLACING,
    ),
    Method("order.get", Access.CUSTOMER, m.GetOrder, Order, Lane.READ, _get_order, "One order.", (Reason.NOT_FOUND,)),
    Method(
        "order.list", Access.CUSTOMER, m.ListOrders, m.Page[Order], Lane.READ, _list_orders, "Orders, newest first."
    ),
)

METHODS: dict[str, Method] = {method.name: method for method in _ROWS}


class Api:
    """The table at work: an Application for the transport, whichever door a request came through."""

    def __init__(self, services: Services) -> None:
        self.server_name = f"securedelivery/{__version__}"
        self._services = services
        self._decoders = {name: msgspec.json.Decoder(method.parameters) for name, method in METHODS.items()}
        self._log = structlog.get_logger("securedelivery.api")

    def lane(self, method: str) -> Lane:
        row = METHODS.get(method)
        return row.lane if row is not None else Lane.INLINE

    def answer(self, caller: Caller, request: Request) -> Outcome:
        try:
            method, params = self._admit(caller, request)
            result: Outcome = method.run(self._services, caller, params)
        except Refusal as refusal:
            return refusal
        except Exception as error:  # noqa: BLE001 -- a bug becomes an incident here, for every method at once
            return self._failed(error, request)
        return result

    def submit(self, caller: Caller, request: Request, done: Callable[[Outcome], None]) -> None:
        def committed(outcome: object) -> None:
            failed = isinstance(outcome, BaseException) and not isinstance(outcome, Refusal)
            done(self._failed(outcome, request) if failed else outcome)

        try:
            method, params = self._admit(caller, request)
            batch, command = method.run(self._services, caller, params)
        except Refusal as refusal:
            done(refusal)
        except Exception as error:  # noqa: BLE001 -- as in answer()
            done(self._failed(error, request))
        else:
            self._services.writer.submit(batch, command, committed)

    def incident(self, error: BaseException, doing: str) -> Refusal:
        incident = secrets.token_hex(8)
        self._log.error("! incident", incident=incident, doing=doing, exc_info=error)
        return Refusal(Reason.INTERNAL, f"an internal error; tell the shop: incident {incident}", incident=incident)

    def _failed(self, error: Any, request: Request) -> Refusal:
        if isinstance(error, StoreError):
            self._log.error("! store", method=request.method, error=str(error))
            return Refusal(Reason.UNAVAILABLE, "the database is not available: try again in a moment")
        return self.incident(error, request.method)

    def _admit(self, caller: Caller, request: Request) -> tuple[Method, Any]:
        """The checks in the protocol's order: method, login, role, parameters."""
        method = METHODS.get(request.method)
        if method is None:
            raise Refusal(Reason.METHOD_NOT_FOUND, f"there is no method {request.method[:100]}")
        if method.access is not Access.ANY:
            if caller.session is None:
                raise Refusal(Reason.NOT_LOGGED_IN, "log in first: account.login or account.login_certificate")
            if not method.access.admits(caller.session.role):
                raise Refusal(Reason.FORBIDDEN, f"{request.method} is for the role {method.access.value}")
        try:
            return method, self._decoders[request.method].decode(request.params)
        except msgspec.ValidationError as error:
            raise _invalid(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refusal.invalid("", f"params cannot be read: {error}") from None


def _invalid(text: str) -> Refusal:
    """Turn msgspec's message, `... - at `$.lines[0].sku`` into a Refusal with a JSON Pointer."""
    message, _, place = text.partition(" - at `$")
    pointer = "".join(f"/{name or index}" for name, index in re.findall(r"\.([a-z_]+)|\[(\d+)\]", place))
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", message):
        return Refusal.invalid(f"{pointer}/{missing[1]}", f"{missing[1]} is missing")
    if pattern := re.fullmatch(r"Expected `str` matching regex '(.*)'", message):
        message = f"expected {m.PATTERNS[pattern[1].encode().decode('unicode_escape')]}"
    return Refusal.invalid(pointer, f"{pointer.rpartition('/')[2] or 'params'}: {message[:1].lower()}{message[1:]}")
