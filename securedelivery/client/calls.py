"""The Client: the typed calls, one for each method of docs/protocol.md, section 5, and its connection.

caller.py         the connection, and call() for any method
account_calls.py  account.* of one's own account: create, log in, change, export, delete
order_calls.py    catalog.*, order.*, delivery.*, rewards.*
chat_calls.py     chat.*
admin_calls.py    accounts of others, audit.*, report.*, catalog.put
"""

from typing import Any

from securedelivery.api import messages as m
from securedelivery.client.account_calls import AccountCalls
from securedelivery.client.admin_calls import AdminCalls
from securedelivery.client.chat_calls import ChatCalls
from securedelivery.client.order_calls import OrderCalls

__all__ = ["Client"]


class Client(AccountCalls, OrderCalls, ChatCalls, AdminCalls):
    """The service, as one account sees it. Connects at the first call, at connect(), or on entering `with`.

    timeout_seconds: for each call with all its repetitions; handshake_seconds: for TCP, TLS and inner handshake.
    on_notification: called on the reader thread for each Notification, and with a Gap before those of a new connection.
    It must return soon and must not call this client (that raises LocalProtocolError), but may close() it. Without it
    they queue for notifications(). key_logs: for teaching and debugging, where the keys of its connections are logged
    (securedelivery.transport.keylog); each one is warned of.

    Every call raises Refusal (the service said no), ConnectionFailure or PeerClosed (with a hint), ConfigurationError
    (a file of the profile), RemoteProtocolError (an answer that makes no sense). Any thread may call at any time.
    """

    def info(self) -> m.Info:
        """Name, version, currency, time and limits of the service. Needs no login."""
        return self.call("system.info", m.Nothing(), m.Info, repeat=True)

    def ping(self) -> None:
        """A round trip. Needs no login."""
        self.call("system.ping", m.Nothing(), m.Nothing, repeat=True)

    def discover(self, section: str | None = None) -> dict[str, Any]:
        """The OpenRPC document of the service. Needs no login."""
        return self.call("rpc.discover", m.Discover(section), dict[str, Any], repeat=True)
