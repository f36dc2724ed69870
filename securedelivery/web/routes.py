"""The routes of /api: nouns and verbs for the methods of the table. Nothing else is said here than where they are."""

from typing import NamedTuple

__all__ = ["ROUTES", "Route"]


class Route(NamedTuple):
    """path: with the parameters that stand in it, as Starlette writes them.

    key: which parameter the header Idempotency-Key is. version: which one If-Match is, of the order in the path.
    created: whether the answer is 201; located: where to, with {members} of the result.
    """

    verb: str
    path: str
    method: str
    key: str | None = None
    version: str | None = None
    created: bool = False
    located: str | None = None


_ORDER = "/api/orders/{order}"
_PRODUCT = "/api/catalog/{sku:path}"
_CONVERSATION = "/api/chat/conversations/{conversation}"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/api/system", "system.info"),
    Route("GET", "/api/system/ping", "system.ping"),
    Route("GET", "/api/system/methods", "rpc.discover"),
    Route("POST", "/api/accounts", "account.create", created=True, located="/api/account"),
    Route("GET", "/api/accounts", "account.list"),
    Route("PUT", "/api/accounts/{username}/role", "account.set_role"),
    Route("PUT", "/api/accounts/{username}/disabled", "account.disable"),
    Route("POST", "/api/session", "account.login"),
    Route("DELETE", "/api/session", "account.logout"),
    Route("POST", "/api/session/certificate", "account.login_certificate"),
    Route("GET", "/api/account", "account.get"),
    Route("PATCH", "/api/account", "account.update"),
    Route("DELETE", "/api/account", "account.delete"),
    Route("PUT", "/api/account/password", "account.change_password"),
    Route("PUT", "/api/account/certificate", "account.bind_certificate"),
    Route("GET", "/api/account/export", "account.export"),
    Route("GET", "/api/audit", "audit.list"),
    Route("GET", "/api/reports/figures", "report.figures"),
    Route("GET", "/api/catalog", "catalog.list"),
    Route("GET", _PRODUCT, "catalog.get"),
    Route("PUT", _PRODUCT, "catalog.put"),
    Route("POST", "/api/orders", "order.place", key="idempotency_key", created=True, located="/api/orders/{order}"),
    Route("GET", "/api/orders", "order.list"),
    Route("GET", _ORDER, "order.get"),
    Route("PUT", _ORDER, "order.update", version="version"),
    Route("PATCH", _ORDER, "order.update", version="version"),
    Route("DELETE", _ORDER, "order.cancel"),
    Route("POST", f"{_ORDER}/status", "order.advance"),
    Route("GET", "/api/deliveries", "delivery.list"),
    Route("POST", "/api/deliveries/{order}/confirmation", "delivery.confirm"),
    Route("GET", "/api/rewards", "rewards.get"),
    Route("GET", "/api/rewards/history", "rewards.history"),
    Route("POST", "/api/chat/messages", "chat.send", key="message_key", created=True),
    Route("GET", "/api/chat/messages", "chat.history"),
    Route("PUT", "/api/chat/read", "chat.mark_read"),
    Route("POST", "/api/chat/typing", "chat.typing"),
    Route("GET", "/api/chat/conversations", "chat.queue"),
    Route("POST", f"{_CONVERSATION}/claim", "chat.claim"),
    Route("POST", f"{_CONVERSATION}/release", "chat.release"),
    Route("POST", f"{_CONVERSATION}/resolve", "chat.resolve"),
    Route("POST", f"{_CONVERSATION}/transfer", "chat.transfer"),
)
