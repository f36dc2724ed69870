"""The table: method -> role -> parameters -> handler -> service. TLS and web are doors to it; rules stand in the
services.
"""

import re
import secrets
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import msgspec
import structlog

from securedelivery import __version__
from securedelivery.api import handlers as h
from securedelivery.api import messages as m
from securedelivery.api import openrpc
from securedelivery.api.handlers import MAX_RESULT, NOTHING, Services
from securedelivery.errors import DamagedRow, Reason, Refusal, StoreError
from securedelivery.model import (
    Account,
    AuditRecord,
    Conversation,
    Figures,
    Message,
    Order,
    PointsEntry,
    Product,
    Rewards,
    Role,
)
from securedelivery.protocol.jsonrpc import Request
from securedelivery.service.session import Ends
from securedelivery.transport.dispatch import Caller, Ending, Lane, Outcome, SessionChange

__all__ = ["METHODS", "Access", "Api", "Method", "Services"]


class Access(Enum):
    """Who may call a method (docs/protocol.md, "Methods"). An admin may do all."""

    ANY = "any"
    CUSTOMER = "customer"
    AGENT = "agent"
    COURIER = "courier"
    CARRIER = "agent, courier"
    ADMIN = "admin"

    def __init__(self, roles: str) -> None:
        everybody = roles in ("any", "customer")  # every account is a customer too
        named = roles.split(", ")
        self._admitted = tuple(role for role in Role if everybody or role is Role.ADMIN or role.value in named)

    def admits(self, role: Role) -> bool:
        """role: of a logged-in account."""
        return role in self._admitted


_ANY = Access.ANY  # CPython 3.11 finds an enum's member in Python code: not once a request


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


def _discover(_services: Services, _caller: Caller, params: m.Discover) -> dict[str, Any]:
    return openrpc.document(METHODS, params.section, MAX_RESULT)


_ENTERING = (Reason.BAD_CREDENTIALS, Reason.FORBIDDEN, Reason.DISABLED, Reason.RATE_LIMITED)
_PLACING = (
    Reason.NOT_FOUND,
    Reason.DISABLED,
    Reason.IDEMPOTENCY_CONFLICT,
    Reason.OUT_OF_STOCK,
    Reason.NOT_ENOUGH_POINTS,
    Reason.UNAVAILABLE,
)
_CHANGING = (Reason.NOT_FOUND, Reason.DISABLED, Reason.ILLEGAL_TRANSITION, Reason.UNAVAILABLE)
_UPDATING = (*_CHANGING, Reason.VERSION_CONFLICT, Reason.OUT_OF_STOCK)
_TALKING = (
    Reason.NOT_FOUND,
    Reason.DISABLED,
    Reason.CONVERSATION_TAKEN,
    Reason.ILLEGAL_TRANSITION,
    Reason.UNAVAILABLE,
)

_ROWS: Sequence[Method] = (
    Method("system.info", Access.ANY, m.Nothing, m.Info, Lane.INLINE, h.info, "The shop, its currency and its limits."),
    Method("system.ping", Access.ANY, m.Nothing, m.Nothing, Lane.INLINE, h.ping, "Are you there?"),
    Method("rpc.discover", Access.ANY, m.Discover, dict[str, Any], Lane.READ, _discover, "This document."),
    Method(
        "account.create",
        Access.ANY,
        m.CreateAccount,
        Account,
        Lane.HASHING,
        h.create_account,
        "Open an account and log in.",
        (Reason.USERNAME_TAKEN, Reason.FORBIDDEN, Reason.RATE_LIMITED),
    ),
    Method("account.login", Access.ANY, m.Login, Account, Lane.HASHING, h.login, "Log in by password.", _ENTERING),
    Method(
        "account.login_certificate",
        Access.ANY,
        m.Nothing,
        Account,
        Lane.SESSION,
        h.login_certificate,
        "Log in as the identity of the connection.",
        _ENTERING,
    ),
    Method(
        "account.bind_certificate",
        Access.CUSTOMER,
        m.Nothing,
        Account,
        Lane.SESSION,
        h.bind_certificate,
        "Bind the account to the identity of the connection.",
        (Reason.FORBIDDEN,),
    ),
    Method("account.logout", Access.CUSTOMER, m.Nothing, m.Nothing, Lane.SESSION, h.logout, "Log out."),
    Method("account.get", Access.CUSTOMER, m.Nothing, Account, Lane.READ, h.get_account, "The account logged in."),
    Method(
        "account.update",
        Access.CUSTOMER,
        m.UpdateAccount,
        Account,
        Lane.WRITE,
        h.update_account,
        "Change the account; null clears.",
        (Reason.DISABLED,),
    ),
    Method(
        "account.change_password",
        Access.CUSTOMER,
        m.ChangePassword,
        m.Nothing,
        Lane.HASHING,
        h.change_password,
        "Set a new password; the account's other connections end.",
        (Reason.BAD_CREDENTIALS, Reason.DISABLED, Reason.RATE_LIMITED),
    ),
    Method(
        "account.export",
        Access.CUSTOMER,
        m.ExportAccount,
        m.Page[m.Exported],
        Lane.READ,
        h.export_account,
        "All that is stored of the account.",
    ),
    Method(
        "account.delete",
        Access.CUSTOMER,
        m.DeleteAccount,
        m.Nothing,
        Lane.HASHING,
        h.delete_account,
        "Erase what is personal; the accounting is kept.",
        (Reason.BAD_CREDENTIALS, Reason.OPEN_ORDERS, Reason.RATE_LIMITED),
    ),
    Method(
        "account.list", Access.ADMIN, m.ListAccounts, m.Page[Account], Lane.READ, h.list_accounts, "Accounts by name."
    ),
    Method(
        "account.set_role",
        Access.ADMIN,
        m.SetRole,
        Account,
        Lane.SESSION,
        h.set_role,
        "Give an account another role.",
        (Reason.NOT_FOUND,),
    ),
    Method(
        "account.disable",
        Access.ADMIN,
        m.DisableAccount,
        Account,
        Lane.SESSION,
        h.disable_account,
        "Lock an account out, or let it in again.",
        (Reason.NOT_FOUND,),
    ),
    Method(
        "audit.list",
        Access.ADMIN,
        m.ListAudit,
        m.Page[AuditRecord],
        Lane.READ,
        h.list_audit,
        "Who did what, newest first.",
        (Reason.NOT_FOUND,),
    ),
    Method(
        "report.figures",
        Access.ADMIN,
        m.GetFigures,
        Figures,
        Lane.READ,
        h.get_figures,
        "The shop in numbers, for orders placed from one day to another.",
    ),
    Method(
        "catalog.list", Access.ANY, m.ListCatalog, m.Page[Product], Lane.READ, h.list_catalog, "Search the catalog."
    ),
    Method(
        "catalog.get", Access.ANY, m.GetProduct, Product, Lane.READ, h.get_product, "One product.", (Reason.NOT_FOUND,)
    ),
    Method(
        "catalog.put",
        Access.ADMIN,
        m.PutProduct,
        Product,
        Lane.SESSION,
        h.put_product,
        "Add a product, or change the one with this sku.",
    ),
    Method(
        "order.place",
        Access.CUSTOMER,
        m.PlaceOrder,
        Order,
        Lane.WRITE,
        h.place_order,
        "Place an order; the same key again gives the same order.",
        _PLACING,
    ),
    Method("order.get", Access.CUSTOMER, m.GetOrder, Order, Lane.READ, h.get_order, "One order.", (Reason.NOT_FOUND,)),
    Method(
        "order.list",
        Access.CUSTOMER,
        m.ListOrders,
        m.Page[Order],
        Lane.READ,
        h.list_orders,
        "Orders, newest first.",
        (Reason.NOT_FOUND,),
    ),
    Method(
        "order.update",
        Access.CUSTOMER,
        m.UpdateOrder,
        Order,
        Lane.WRITE,
        h.update_order,
        "Change the lines or the address of an order that is still placed.",
        _UPDATING,
    ),
    Method(
        "order.cancel", Access.CUSTOMER, m.CancelOrder, Order, Lane.WRITE, h.cancel_order, "Cancel an order.", _CHANGING
    ),
    Method(
        "order.advance",
        Access.CARRIER,
        m.AdvanceOrder,
        Order,
        Lane.WRITE,
        h.advance_order,
        "Take an order to its next status.",
        _CHANGING,
    ),
    Method(
        "delivery.list",
        Access.COURIER,
        m.ListDeliveries,
        m.Page[Order],
        Lane.READ,
        h.list_deliveries,
        "The caller's orders to deliver, newest first.",
    ),
    Method(
        "delivery.confirm",
        Access.COURIER,
        m.ConfirmDelivery,
        Order,
        Lane.WRITE,
        h.confirm_delivery,
        "Deliver against the customer's code.",
        (*_CHANGING, Reason.WRONG_CODE),
    ),
    Method("rewards.get", Access.CUSTOMER, m.Nothing, Rewards, Lane.READ, h.get_rewards, "Points and tier."),
    Method(
        "rewards.history",
        Access.CUSTOMER,
        m.ListRewards,
        m.Page[PointsEntry],
        Lane.READ,
        h.list_rewards,
        "The ledger of points, newest first.",
    ),
    Method(
        "chat.send",
        Access.CUSTOMER,
        m.SendMessage,
        Message,
        Lane.WRITE,
        h.send_message,
        "Say something; the same key again gives the same message.",
        (*_TALKING, Reason.IDEMPOTENCY_CONFLICT),
    ),
    Method(
        "chat.history",
        Access.CUSTOMER,
        m.GetHistory,
        m.History[Message],
        Lane.READ,
        h.chat_history,
        "Messages after a sequence, ascending.",
        (Reason.NOT_FOUND,),
    ),
    Method(
        "chat.mark_read",
        Access.CUSTOMER,
        m.MarkRead,
        m.Nothing,
        Lane.WRITE,
        h.mark_read,
        "Everything up to a sequence has been read.",
        (Reason.NOT_FOUND, Reason.DISABLED, Reason.UNAVAILABLE),
    ),
    Method(
        "chat.typing",
        Access.CUSTOMER,
        m.Type,
        m.Nothing,
        Lane.READ,
        h.typing,
        "Tell the other side that something is being written.",
        (Reason.NOT_FOUND,),
    ),
    Method(
        "chat.queue",
        Access.AGENT,
        m.ListConversations,
        m.Page[Conversation],
        Lane.READ,
        h.list_conversations,
        "Conversations, longest waiting first.",
    ),
    Method(
        "chat.claim",
        Access.AGENT,
        m.NameConversation,
        Conversation,
        Lane.WRITE,
        h.claim,
        "Take a conversation.",
        _TALKING,
    ),
    Method(
        "chat.release",
        Access.AGENT,
        m.NameConversation,
        Conversation,
        Lane.WRITE,
        h.release,
        "Put a conversation back into the queue.",
        _TALKING,
    ),
    Method(
        "chat.resolve",
        Access.AGENT,
        m.NameConversation,
        Conversation,
        Lane.WRITE,
        h.resolve,
        "The question has been answered.",
        _TALKING,
    ),
    Method(
        "chat.transfer",
        Access.AGENT,
        m.TransferConversation,
        Conversation,
        Lane.WRITE,
        h.transfer,
        "Give a conversation to another agent.",
        _TALKING,
    ),
)

METHODS: dict[str, Method] = {method.name: method for method in _ROWS}


class Api:
    """The table at work: an Application for the transport, whichever door a request came through."""

    def __init__(self, services: Services) -> None:
        self.server_name = f"securedelivery/{__version__}"
        self._services = services
        self._decode = {name: msgspec.json.Decoder(method.parameters).decode for name, method in METHODS.items()}
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
            return self.failed(error, request.method)
        return result

    def submit(self, caller: Caller, request: Request, done: Callable[[Outcome], None]) -> None:
        def committed(outcome: object) -> None:
            failed = isinstance(outcome, BaseException) and not isinstance(outcome, Refusal)
            done(self.failed(outcome, request.method) if failed else NOTHING if outcome is None else outcome)

        try:
            method, params = self._admit(caller, request)
            batch, command = method.run(self._services, caller, params)
        except Refusal as refusal:
            done(refusal)
        except Exception as error:  # noqa: BLE001 -- as in answer()
            done(self.failed(error, request.method))
        else:
            self._services.writer.submit(batch, command, committed, at_once=False)

    def begin_writes(self) -> None:
        self._services.writer.begin()

    def review(self, caller: Caller) -> SessionChange | Ending:
        session = h.session_of(caller)
        standing = self._services.accounts.review(session, h.uri_of(caller))
        if isinstance(standing, Ends):
            return Ending(standing.reason, standing.message)
        return SessionChange(None, standing.session, standing.session.account_id)

    def incident(self, error: BaseException, doing: str) -> Refusal:
        incident = secrets.token_hex(8)
        self._log.error("! incident", incident=incident, doing=doing, exc_info=error)
        return Refusal(Reason.INTERNAL, f"an internal error; tell the shop: incident {incident}", incident=incident)

    def failed(self, error: Any, doing: str) -> Refusal:
        """What to say of something that no method refuses: a database that is not there, or a bug."""
        if isinstance(error, StoreError) and not isinstance(error, DamagedRow):
            self._log.error("! store", method=doing, error=str(error))
            return Refusal(Reason.UNAVAILABLE, "the database is not available: try again in a moment")
        return self.incident(error, doing)

    def _admit(self, caller: Caller, request: Request) -> tuple[Method, Any]:
        """The checks in the protocol's order: method, login, role, parameters."""
        method = METHODS.get(request.method)
        if method is None:
            raise Refusal(Reason.METHOD_NOT_FOUND, f"there is no method {request.method[:100]}")
        if method.access is not _ANY:
            if caller.session is None:
                raise Refusal(Reason.NOT_LOGGED_IN, "log in first: account.login or account.login_certificate")
            if not method.access.admits(caller.session.role):
                raise Refusal(Reason.FORBIDDEN, f"{request.method} is for the role {method.access.value}")
        try:
            return method, self._decode[request.method](request.params)
        except msgspec.ValidationError as error:
            raise _invalid(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refusal.invalid("", f"params cannot be read: {error}") from None


def _invalid(text: str) -> Refusal:
    """Turn msgspec's message, `... - at `$.lines[0].sku`` into a Refusal with a JSON Pointer."""
    found = re.fullmatch(r"(.*) - at `\$([^`]*)`", text, re.DOTALL)  # the last: a value in front may look like one
    message, place = (found[1], found[2]) if found else (text, "")
    pointer = "".join(f"/{name or index}" for name, index in re.findall(r"\.([a-z_]+)|\[(\d+)\]", place))
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", message):
        return Refusal.invalid(f"{pointer}/{missing[1]}", f"{missing[1]} is missing")
    if size := re.fullmatch(r"Expected `(str|array)` of length (<=|>=) (\d+)", message):
        unit = "characters" if size[1] == "str" else "entries"
        message = f"expected {'at least' if size[2] == '>=' else 'at most'} {size[3]} {unit}"
    if pattern := re.fullmatch(r"Expected `str` matching regex '(.*)'", message):
        message = f"expected {m.PATTERNS[pattern[1].encode().decode('unicode_escape')]}"
    return Refusal.invalid(pointer, f"{pointer.rpartition('/')[2] or 'params'}: {message[:1].lower()}{message[1:]}")
