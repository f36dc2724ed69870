"""What customers do, in words that the tests share."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

import msgspec
from end_to_end.server_process import ServerProcess
from planted import planted
from wire_client import Address, Keyring, Refused, WireClient

from securedelivery.client import Profile
from securedelivery.model import Message

Result = TypeVar("Result")
Item = TypeVar("Item")

StartServer = Callable[..., ServerProcess]
RingOf = Callable[..., Keyring]
Enter = Callable[..., WireClient]
Record = Callable[[str, object], None]
ProfileOf = Callable[[Address, str], Profile]
"""What the fixtures of these names give: see conftest.py."""

ADDRESS = planted("1 Analytical Row, London")


def log_in(server: ServerProcess, name: str, ring: Keyring, **options: str) -> WireClient:
    """A connection of the customer with this certificate; the account is made where it is missing."""
    client = WireClient.connect(server.address, ring, **options)
    refused = refusal(lambda: client.call("account.login_certificate"))
    if refused is not None:
        assert refused.reason == "bad_credentials", refused
        client.call("account.create", username=name, address=ADDRESS)
    return client


def order(key: str, **lines: int) -> dict[str, Any]:
    """What order.place takes. GPU_1=2: two pieces of GPU-1."""
    wanted = [{"sku": sku.replace("_", "-"), "quantity": quantity} for sku, quantity in lines.items()]
    return {"idempotency_key": key, "lines": wanted}


def every(client: WireClient, method: str, **params: Any) -> list[dict[str, Any]]:
    """All items of all pages."""
    items: list[dict[str, Any]] = []
    after = None
    while True:
        page = client.call(method, limit=200, after=after, **params)
        items += page["items"]
        after = page["next"]
        if after is None:
            return items


def whole_history(client: WireClient, conversation: int | None = None) -> list[Message]:
    return msgspec.convert(every(client, "chat.history", conversation=conversation), list[Message])


def refusal(call: Callable[[], object]) -> Refused | None:
    """How a call was refused, or None where it was not."""
    try:
        call()
    except Refused as refused:
        return refused
    return None


def all_at_once(items: Sequence[Item], act: Callable[[Item], Result]) -> list[Result]:
    """Do it for each on a thread of its own, all let go in the same moment. Raises what one of them raises."""
    start = threading.Barrier(len(items))

    def run(item: Item) -> Result:
        start.wait(60)
        return act(item)

    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(run, items))


class Witness:
    """A good customer beside whatever a test does: pings and orders until the `with` ends, and must not be disturbed.

    patient: where the answer is `unavailable`, the same order is tried again, as the protocol says. longest: seconds
    that an order took, with its repetitions; put_off: how often one had to be repeated.
    """

    def __init__(self, client: WireClient, *, patient: bool = False) -> None:
        self._client = client
        self._patient = patient
        self.put_off = 0
        self._over = threading.Event()
        self._error: Exception | None = None
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.orders: list[int] = []
        self.longest = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._first.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._error is not None:
            raise AssertionError(f"the good customer was disturbed: {self._error}") from self._error

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                began = time.monotonic()
                self.orders.append(self._place(order(f"witness-{id(self)}-{len(self.orders)}", CPU_1=1)))
                self.longest = max(self.longest, time.monotonic() - began)
                self._client.call("system.ping")
                self._first.set()
        except Exception as error:  # noqa: BLE001 -- raised again on the test's thread
            self._error = error
            self._first.set()

    def _place(self, wanted: dict[str, Any]) -> int:
        while True:
            try:
                return self._client.call("order.place", **wanted)["order"]
            except Refused as refused:
                if not self._patient or refused.reason != "unavailable":
                    raise
                self.put_off += 1
