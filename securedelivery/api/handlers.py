"""What answers each method: from parameters to a service, and from its result to a page that fits a frame.

A function for Lane.WRITE gives the writer's batch function and the command instead of a result.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from securedelivery import __version__, model
from securedelivery.api import messages as m
from securedelivery.model import Account, Cents, ConversationStatus, Order, Product, Role, timestamp
from securedelivery.protocol.frames import MAX_PLAINTEXT
from securedelivery.service import accounts, audits, catalog, chat, orders, rewards
from securedelivery.service.accounts import Accounts, UpdateCommand
from securedelivery.service.audits import Audits
from securedelivery.service.catalog import Catalog, ProductEntry
from securedelivery.service.chat import Chat
from securedelivery.service.figures import FiguresReport
from securedelivery.service.orders import Orders, PlaceCommand
from securedelivery.service.privacy import Privacy
from securedelivery.service.rewards import Rewards
from securedelivery.service.session import Session
from securedelivery.store.writer import Writer
from securedelivery.transport.dispatch import Caller, SessionChange

Item = TypeVar("Item")

DEFAULT_LIMIT = 50
MAX_RESULT = MAX_PLAINTEXT - 512  # what is left for a result beside the envelope with the longest id


class Services(msgspec.Struct, frozen=True):
    """What the methods call."""

    accounts: Accounts
    privacy: Privacy
    catalog: Catalog
    orders: Orders
    rewards: Rewards
    chat: Chat
    audits: Audits
    figures: FiguresReport
    writer: Writer
    clock: Callable[[], datetime]
    shop: str
    currency: str
    limits: dict[str, int]


def session_of(caller: Caller) -> Session:
    session = caller.session
    assert isinstance(session, Session), "the table lets nobody else in"
    return session


def uri_of(caller: Caller) -> str | None:
    return caller.identity.uri if caller.identity else None


def _itself(item: object) -> object:
    return item


def _encoded(items: Iterable[Item], shown: Callable[[Item], object] = _itself) -> list[Raw]:
    """As many items as fit a frame, at least one."""
    encoded: list[Raw] = []
    room = MAX_RESULT
    for item in items:
        one = msgspec.json.encode(shown(item))
        room -= len(one) + 1
        if room < 0 and encoded:
            break
        encoded.append(Raw(one))
    return encoded


def _fitting(
    items: Sequence[Item],
    following: str | None,
    cursor_of: Callable[[Item], str],
    shown: Callable[[Item], object] = _itself,
) -> m.Page[Raw]:
    """A page of as many items as fit a frame; where some do not, it goes on behind the last that does."""
    encoded = _encoded(items, shown)
    return m.Page(encoded, following if len(encoded) == len(items) else cursor_of(items[len(encoded) - 1]))


# system.*


def info(services: Services, _caller: Caller, _params: m.Nothing) -> m.Info:
    return m.Info(services.shop, __version__, services.currency, timestamp(services.clock()), services.limits)


def ping(_services: Services, _caller: Caller, _params: m.Nothing) -> m.Nothing:
    return NOTHING


NOTHING = m.Nothing()


# account.*


def _entered(services: Services, session: Session) -> SessionChange:
    return SessionChange(services.accounts.get(session), session, session.account_id)


def create_account(services: Services, caller: Caller, params: m.CreateAccount) -> SessionChange:
    session = services.accounts.create(
        params.username,
        params.password,
        name=params.name,
        email=params.email,
        address=params.address,
        identity=uri_of(caller),
        remote=caller.remote,
    )
    return _entered(services, session)


def login(services: Services, caller: Caller, params: m.Login) -> SessionChange:
    return _entered(
        services,
        services.accounts.login(params.username, params.password, identity=uri_of(caller), remote=caller.remote),
    )


def login_certificate(services: Services, caller: Caller, _params: m.Nothing) -> SessionChange:
    return _entered(services, services.accounts.login_certificate(identity=uri_of(caller), remote=caller.remote))


def logout(_services: Services, _caller: Caller, _params: m.Nothing) -> SessionChange:
    return SessionChange(NOTHING, None, None)


def get_account(services: Services, caller: Caller, _params: m.Nothing) -> Account:
    return services.accounts.get(session_of(caller))


def update_account(services: Services, caller: Caller, params: m.UpdateAccount) -> Any:
    return services.accounts.update, UpdateCommand(session_of(caller), params)


def bind_certificate(services: Services, caller: Caller, _params: m.Nothing) -> Account:
    return services.accounts.bind_certificate(session_of(caller), uri_of(caller))


def change_password(services: Services, caller: Caller, params: m.ChangePassword) -> SessionChange:
    session = services.accounts.change_password(
        session_of(caller), params.new_password, params.old_password, remote=caller.remote
    )
    return SessionChange(NOTHING, session, session.account_id)


def export_account(services: Services, caller: Caller, params: m.ExportAccount) -> m.Page[Raw]:
    items, following = services.privacy.export(session_of(caller), params.after)
    return _fitting(items, following, attrgetter("cursor"), lambda item: _EXPORTED[item.kind](item.payload))


def _exported_event(row: dict[str, Any]) -> m.ExportedEvent:
    return m.ExportedEvent(**row)


_EXPORTED: dict[str, Callable[[Any], m.Exported]] = {
    "account": m.ExportedProfile,
    "order": m.ExportedOrder,
    "points": m.ExportedPoints,
    "message": m.ExportedMessage,
    "event": _exported_event,
}


def delete_account(services: Services, caller: Caller, params: m.DeleteAccount) -> m.Nothing:
    services.privacy.delete(session_of(caller), params.password, remote=caller.remote)
    return NOTHING


def list_accounts(services: Services, caller: Caller, params: m.ListAccounts) -> m.Page[Raw]:
    items, following = services.accounts.list(
        session_of(caller), query=params.query, after=params.after, limit=params.limit or DEFAULT_LIMIT
    )
    return _fitting(items, following, accounts.cursor_of)


def set_role(services: Services, caller: Caller, params: m.SetRole) -> Account:
    return services.accounts.set_role(session_of(caller), params.username, params.role)


def disable_account(services: Services, caller: Caller, params: m.DisableAccount) -> Account:
    return services.accounts.disable(session_of(caller), params.username, params.disabled)


# audit.*, report.*


def list_audit(services: Services, caller: Caller, params: m.ListAudit) -> m.Page[Raw]:
    items, following = services.audits.list(
        session_of(caller),
        account=params.account,
        action=params.action,
        after=params.after,
        limit=params.limit or DEFAULT_LIMIT,
    )
    return _fitting(items, following, audits.cursor_of)


def get_figures(services: Services, caller: Caller, params: m.GetFigures) -> model.Figures:
    return services.figures.get(session_of(caller), params.since, params.until)


# catalog.*


def put_product(services: Services, caller: Caller, params: m.PutProduct) -> Product:
    entry = ProductEntry(params.sku, params.name, params.description, Cents(params.price), params.stock, params.active)
    return services.catalog.put(session_of(caller), entry)


def list_catalog(services: Services, _caller: Caller, params: m.ListCatalog) -> m.Page[Raw]:
    items, following = services.catalog.list(
        query=params.query, after=params.after, limit=params.limit or DEFAULT_LIMIT
    )
    return _fitting(items, following, catalog.cursor_of)


def get_product(services: Services, caller: Caller, params: m.GetProduct) -> Product:
    by_admin = isinstance(caller.session, Session) and caller.session.role is Role.ADMIN  # who puts them back
    return services.catalog.get(params.sku, inactive=by_admin)


# order.*


def place_order(services: Services, caller: Caller, params: m.PlaceOrder) -> Any:
    command = PlaceCommand(
        session_of(caller), params.idempotency_key, params.lines, params.address, params.redeem_points
    )
    return services.orders.place, command


def get_order(services: Services, caller: Caller, params: m.GetOrder) -> Order:
    return services.orders.get(session_of(caller), params.order)


def list_orders(services: Services, caller: Caller, params: m.ListOrders) -> m.Page[Raw]:
    items, following = services.orders.list(
        session_of(caller),
        after=params.after,
        limit=params.limit or DEFAULT_LIMIT,
        status=params.status,
        account=params.account,
        changed_since=params.changed_since,
    )
    return _fitting(items, following, orders.cursor_of)


def update_order(services: Services, caller: Caller, params: m.UpdateOrder) -> Any:
    command = orders.UpdateCommand(session_of(caller), params.order, params.version, params.lines, params.address)
    return services.orders.update, command


def cancel_order(services: Services, caller: Caller, params: m.CancelOrder) -> Any:
    return services.orders.cancel, orders.CancelCommand(session_of(caller), params.order, params.reason)


def advance_order(services: Services, caller: Caller, params: m.AdvanceOrder) -> Any:
    command = orders.AdvanceCommand(session_of(caller), params.order, params.status, params.courier, params.note)
    return services.orders.advance, command


# delivery.*


def list_deliveries(services: Services, caller: Caller, params: m.ListDeliveries) -> m.Page[Raw]:
    items, following = services.orders.deliveries(
        session_of(caller), after=params.after, limit=params.limit or DEFAULT_LIMIT
    )
    return _fitting(items, following, orders.cursor_of)


def confirm_delivery(services: Services, caller: Caller, params: m.ConfirmDelivery) -> Any:
    return services.orders.confirm, orders.ConfirmCommand(session_of(caller), params.order, params.code)


# rewards.*


def get_rewards(services: Services, caller: Caller, _params: m.Nothing) -> model.Rewards:
    return services.rewards.get(session_of(caller))


def list_rewards(services: Services, caller: Caller, params: m.ListRewards) -> m.Page[Raw]:
    items, following = services.rewards.history(
        session_of(caller), after=params.after, limit=params.limit or DEFAULT_LIMIT
    )
    return _fitting(items, following, rewards.cursor_of)


# chat.*


def send_message(services: Services, caller: Caller, params: m.SendMessage) -> Any:
    command = chat.SendCommand(session_of(caller), params.text, params.message_key, params.conversation)
    return services.chat.send, command


def chat_history(services: Services, caller: Caller, params: m.GetHistory) -> m.History[Raw]:
    items, following, last = services.chat.history(
        session_of(caller), params.conversation, after=params.after or 0, limit=params.limit or DEFAULT_LIMIT
    )
    encoded = _encoded(items)
    return m.History(encoded, following if len(encoded) == len(items) else items[len(encoded) - 1].sequence, last)


def mark_read(services: Services, caller: Caller, params: m.MarkRead) -> Any:
    return services.chat.mark_read, chat.MarkReadCommand(session_of(caller), params.conversation, params.up_to)


def list_conversations(services: Services, caller: Caller, params: m.ListConversations) -> m.Page[Raw]:
    items, following = services.chat.queue(
        session_of(caller),
        params.status or ConversationStatus.WAITING,
        after=params.after,
        limit=params.limit or DEFAULT_LIMIT,
    )
    return _fitting(items, following, attrgetter("cursor"), attrgetter("conversation"))


def typing(services: Services, caller: Caller, params: m.Type) -> m.Nothing:
    services.chat.typing(session_of(caller), params.conversation)
    return NOTHING


def claim(services: Services, caller: Caller, params: m.NameConversation) -> Any:
    return services.chat.claim, chat.ConversationCommand(session_of(caller), params.conversation)


def release(services: Services, caller: Caller, params: m.NameConversation) -> Any:
    return services.chat.release, chat.ConversationCommand(session_of(caller), params.conversation)


def resolve(services: Services, caller: Caller, params: m.NameConversation) -> Any:
    return services.chat.resolve, chat.ConversationCommand(session_of(caller), params.conversation)


def transfer(services: Services, caller: Caller, params: m.TransferConversation) -> Any:
    return services.chat.transfer, chat.TransferCommand(session_of(caller), params.conversation, params.agent)
