"""The customer's library: typed calls over one connection, which is made anew where that is safe.

    from securedelivery.client import Client, Profile

    profile = Profile("shop.example.org:5555", Path("ca.crt"), Path("alice.crt"), Path("alice.key"))
    with Client(profile) as client:             # connects; client.welcome.identity says as whom
        client.login_certificate()              # or client.login("bob", "a password")
        order = client.place_order([("GPU-NV-4070S", 1)], address="1 Main Street")
        for order in client.all_orders():
            print(order.order, order.status)

Client      its calls return the structs of securedelivery.model and securedelivery.api.messages. Any thread may call;
            calls that are safe to repeat (reads, order.place and chat.send by their keys, changes that set what is to
            be) are repeated on a new connection.
Profile     where the service is, whom to trust, as whom to come; Profile.load() reads flags, environment and file.

Notifications come to `on_notification` on the reader thread, or are iterated: client.notifications(timeout_seconds).

Errors are those of securedelivery.errors: Refusal (the service said no), PeerClosed and ConnectionFailure (both with a
`hint`), ConfigurationError (a file of the profile cannot be used), RemoteProtocolError (the answer makes no sense).
No database and no web is imported, and nothing heavy before the first use of a name.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from securedelivery.client.calls import Client
    from securedelivery.client.notifications import Gap, Notification
    from securedelivery.client.profile import Profile

__all__ = ["Client", "Gap", "Notification", "Profile"]

_MODULES = {"Client": "calls", "Gap": "notifications", "Notification": "notifications", "Profile": "profile"}


def __getattr__(name: str) -> Any:
    # The command line asks for the profile alone, and cryptography takes 70 ms to import.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
