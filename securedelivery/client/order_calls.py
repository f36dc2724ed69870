"""catalog.*, order.*, delivery.*, rewards.*: what customers buy, and what couriers bring."""

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator

from msgspec import Raw

from securedelivery.api import messages as m
from securedelivery.client.caller import PAGE, Caller, decoded, every
from securedelivery.client.connection import Connection
from securedelivery.client.deadline import Deadline
from securedelivery.errors import Reason, Refusal
from securedelivery.model import Order, OrderStatus, PointsEntry, Product, Rewards

__all__ = ["OrderCalls"]


class OrderCalls(Caller):
    """The catalog, orders and their delivery, and the points that they earn."""

    def catalog(
        self, query: str | None = None, *, after: str | None = None, limit: int | None = None
    ) -> m.Page[Product]:
        """A page of products. query: words to look for; after: the `next` of the page before; limit: 1 to 200.

        Needs no login.
        """
        return self.call("catalog.list", m.ListCatalog(query, after, limit), m.Page[Product], repeat=True)

    def all_products(self, query: str | None = None) -> Iterator[Product]:
        """Every product, page by page."""
        return every(lambda after: self.catalog(query, after=after, limit=PAGE))

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
        return self.call("order.place", m.PlaceOrder(key, _lines(lines), address, redeem_points), Order, repeat=True)

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

    def all_orders(
        self, *, status: OrderStatus | None = None, account: str | None = None, changed_since: str | None = None
    ) -> Iterator[Order]:
        """Every order of this account (for staff: of all, or of one), newest first, page by page."""
        return every(
            lambda after: self.orders(
                after=after, limit=PAGE, status=status, account=account, changed_since=changed_since
            )
        )

    def update_order(
        self,
        number: int,
        version: int,
        *,
        lines: Iterable[tuple[str, int]] | None = None,
        address: str | None = None,
    ) -> Order:
        """Change an order that is still placed. version: the one that was seen; lines: all of them, as in place_order.

        Repeated where the connection breaks: an order that has become what was asked for is the answer.
        Refused: version_conflict (`version`), illegal_transition (`status`, `allowed`), not_found (`sku`),
        out_of_stock (`sku`, `available`), invalid_params (`path`).
        """
        wanted = None if lines is None else _lines(lines)
        params = m.UpdateOrder(number, version, wanted, address)
        asked = False

        def ask(connection: Connection, deadline: Deadline) -> Raw:
            nonlocal asked
            repeated, asked = asked, True
            try:
                return connection.call("order.update", params, deadline)
            except Refusal as refusal:
                if not repeated or refusal.reason not in (Reason.VERSION_CONFLICT, Reason.ILLEGAL_TRANSITION):
                    raise
                # The call before, whose answer got lost, may be what changed the order.
                raw = connection.call("order.get", m.GetOrder(number), deadline)
                if not _is(decoded("order.get", Order, raw), params):
                    raise
                return raw

        return self._answer("order.update", ask, Order, repeat=True)

    def cancel_order(self, number: int, reason: str | None = None) -> Order:
        """Of a cancelled order: the order. Refused: illegal_transition (`status`, `allowed`), not_found."""
        return self.call("order.cancel", m.CancelOrder(number, reason), Order, repeat=True)

    def advance_order(
        self, number: int, status: OrderStatus, *, courier: str | None = None, note: str | None = None
    ) -> Order:
        """For staff and the order's courier. To the status that it has: the order.

        courier: a username, needed before out_for_delivery; note: for the history, needed by an admin who delivers.
        Refused: illegal_transition (`status`, `allowed`), not_found, forbidden, invalid_params (`path`).
        """
        return self.call("order.advance", m.AdvanceOrder(number, status, courier, note), Order, repeat=True)

    # delivery.*

    def deliveries(self, *, after: str | None = None, limit: int | None = None) -> m.Page[Order]:
        """For couriers: a page of the orders to deliver, newest first."""
        return self.call("delivery.list", m.ListDeliveries(after, limit), m.Page[Order], repeat=True)

    def confirm_delivery(self, number: int, code: str) -> Order:
        """For the order's courier. code: the 6 digits that the customer has.

        Refused: wrong_code (`tries_left`; at 0 it is locked until staff looks), illegal_transition, not_found.
        """
        return self.call("delivery.confirm", m.ConfirmDelivery(number, code), Order, repeat=True)

    # rewards.*

    def rewards(self) -> Rewards:
        """Points, tier, and what is missing to the next."""
        return self.call("rewards.get", m.Nothing(), Rewards, repeat=True)

    def rewards_history(self, *, after: str | None = None, limit: int | None = None) -> m.Page[PointsEntry]:
        """A page of the ledger of points, newest first."""
        return self.call("rewards.history", m.ListRewards(after, limit), m.Page[PointsEntry], repeat=True)

    def all_rewards_history(self) -> Iterator[PointsEntry]:
        """Every entry of the ledger of points, newest first, page by page."""
        return every(lambda after: self.rewards_history(after=after, limit=PAGE))


def _lines(lines: Iterable[tuple[str, int]]) -> list[m.LineRequest]:
    return [m.LineRequest(sku, quantity) for sku, quantity in lines]


def _is(order: Order, wanted: m.UpdateOrder) -> bool:
    """Whether the order has become what was wanted, since the version that was named."""
    if order.version <= wanted.version or wanted.address not in (None, order.address):
        return False
    if wanted.lines is None:
        return True
    quantities: Counter[str] = Counter()  # the service sums the same sku in two lines
    for line in wanted.lines:
        quantities[line.sku] += line.quantity
    return quantities == {line.sku: line.quantity for line in order.lines}
