"""One batch of orders being placed: everything is read at once, decided in memory, and written at once.

A later command of the batch sees what earlier ones took: stock, points, the tier, the idempotency key. A command that
is refused leaves no trace in what the later ones see.
"""

import hashlib
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from struct import iter_unpack
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from securedelivery.errors import Reason, Refusal
from securedelivery.model import (
    Cents,
    HistoryEntry,
    MailKind,
    Order,
    OrderId,
    OrderLine,
    OrderStatus,
    ProductId,
    timestamp,
)
from securedelivery.service.events import OrderChanged, RewardsChanged
from securedelivery.service.points import Points, write_points
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import acting
from securedelivery.store import accounts, audit, orders, outbox, products, rewards
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import MAX_INTEGER

if TYPE_CHECKING:
    from securedelivery.service.orders import PlaceCommand, WantedLine

Wanted = list[tuple[products.Offer, int]]
"""Products and how many of each."""

MAX_QUANTITY = (
    10_000  # of one SKU in one order; the protocol's limit for a line, which holds for the sum of lines as well
)

MAX_LINES_TEXT = 30_000
"""Bytes of JSON that the SKUs and names of an order's lines may take.

An Order has to fit a frame of 65,472 bytes at every time of its life. Of these the numbers of 100 lines take at most
12,000 and the address 3,000, which leaves 20,000 for the history (orders.MAX_HISTORY_TEXT) and the rest.
"""

_encode = msgspec.json.Encoder().encode


def fingerprint(command: "PlaceCommand") -> bytes:
    """SHA-256 of the parameters in one spelling: null is absent, and lines count in the order sent. 32 bytes."""
    lines = [(line.sku, line.quantity) for line in command.lines]
    return hashlib.sha256(_encode((lines, command.address, command.redeem_points))).digest()


class Placement:
    """Call place() for each command in turn, then write(). now: aware, UTC. receipts: whether mail is to tell of it."""

    def __init__(
        self,
        tx: Transaction,
        commands: "Sequence[PlaceCommand]",
        now: datetime,
        rules: RewardRules,
        currency: str,
        *,
        receipts: bool = False,
    ) -> None:
        self._tx = tx
        self._receipts = receipts
        self._rules = rules
        self._currency = currency
        self._now = timestamp(now)

        self._buyers = accounts.buyers(tx, {command.session.account_id for command in commands})
        self._used = orders.by_keys(tx, [(command.session.account_id, command.idempotency_key) for command in commands])
        self._placed: dict[OrderId, Order] = {}
        if self._used:
            known = orders.load(tx, [number for number, _ in self._used.values()])
            self._placed = {found.order.order: found.order for found in known.values()}
        at_home = {command.session.account_id for command in commands if command.address is None}
        self._addresses = accounts.addresses(tx, at_home) if at_home else {}
        self._products = products.offers(tx, {line.sku for command in commands for line in command.lines})
        redeeming = {command.session.account_id for command in commands if command.redeem_points}
        balances = {account: self._buyers[account].points for account in redeeming & self._buyers.keys()}
        lots = rewards.lots(tx, balances)
        expiry = rules.expiry(now)
        # After the orders so far.
        self._points = {
            buyer.id: Points(buyer, lots.get(buyer.id, ()), self._now, expiry) for buyer in self._buyers.values()
        }
        self._next_order = orders.next_id(tx)

        self._codes = delivery_codes(len(commands))

        # What write() writes.
        self._orders: list[orders.OrderRow] = []
        self._lines: list[orders.LineRow] = []
        self._taken: Counter[ProductId] = Counter()
        self._audit: list[audit.AuditEntry] = []

    def place(self, command: "PlaceCommand") -> Order:
        """The new order, or the one that this key has placed before. Raises Refusal."""
        buyer = acting(self._buyers.get(command.session.account_id))
        key = (buyer.id, command.idempotency_key)
        digest = orders.keyed(self._tx, fingerprint(command))
        if key in self._used:
            number, before = self._used[key]
            if digest != before:
                raise Refusal(Reason.IDEMPOTENCY_CONFLICT, "this key was used for another order; take a new one")
            return self._placed[number]

        # Parameters first, then the rest: the protocol's order of checks.
        address = checked_address(command.address if command.address is not None else self._addresses.get(buyer.id))
        wanted = wanted_products(command.lines, self._products)
        self._check_stock(wanted)
        lines = priced(wanted)
        subtotal = Cents(sum(line.total for line in lines))
        redeemed = self._redeemed(command, self._points[buyer.id], subtotal)

        # From here on nothing is refused.
        order = self._new_order(buyer, lines, subtotal, address, redeemed)
        self._used[key] = (order.order, digest)
        self._placed[order.order] = order
        self._record(order, buyer, command.idempotency_key, digest, wanted)
        self._book(order, buyer)
        return order

    def write(self) -> None:
        """Write what was placed."""
        if not self._orders:
            return
        tx = self._tx
        orders.add(tx, self._orders, self._lines)
        products.take(tx, self._taken.items())
        write_points(tx, self._points.values())
        audit.append(tx, self._audit)
        if self._receipts:
            placed = (outbox.Receipt(OrderId(row.id), row.account_id, MailKind.ORDER_PLACED) for row in self._orders)
            outbox.add_receipts(tx, list(placed), self._now)

    def _check_stock(self, wanted: Wanted) -> None:
        for product, quantity in wanted:
            available = product.stock - self._taken[product.id]
            if quantity > available:
                raise Refusal(
                    Reason.OUT_OF_STOCK, f"{product.sku}: {available} left", sku=product.sku, available=available
                )

    def _redeemed(self, command: "PlaceCommand", held: Points, subtotal: Cents) -> int:
        if not command.redeem_points:
            return 0
        points = min(command.redeem_points, self._rules.redeemable(subtotal))
        if points > held.spendable:
            raise Refusal(Reason.NOT_ENOUGH_POINTS, f"{held.spendable} points to redeem", points=held.spendable)
        return points

    def _new_order(
        self, buyer: accounts.Buyer, lines: list[OrderLine], subtotal: Cents, address: str, redeemed: int
    ) -> Order:
        number = OrderId(self._next_order)
        self._next_order += 1
        discount = self._rules.worth(redeemed)
        total = Cents(subtotal - discount)
        return Order(
            order=number,
            version=1,
            account=buyer.username,
            status=OrderStatus.PLACED,
            lines=lines,
            subtotal=subtotal,
            discount=discount,
            total=total,
            currency=self._currency,
            address=address,
            points_earned=self._rules.earned(total, self._points[buyer.id].order_count),
            points_redeemed=redeemed,
            courier=None,
            history=[HistoryEntry(OrderStatus.PLACED, self._now, buyer.username, None)],
            placed_at=self._now,
            changed_at=self._now,
            delivery_code=next(self._codes),
        )

    def _record(
        self,
        order: Order,
        buyer: accounts.Buyer,
        key: str,
        digest: bytes,
        wanted: Wanted,
    ) -> None:
        number = order.order
        assert order.delivery_code is not UNSET
        self._orders.append(
            orders.OrderRow(
                id=number,
                account_id=buyer.id,
                idempotency_key=key,
                fingerprint=digest,
                version=order.version,
                status=order.status.value,
                subtotal=order.subtotal,
                discount=order.discount,
                total=order.total,
                currency=order.currency,
                points_earned=order.points_earned,
                points_redeemed=order.points_redeemed,
                courier_id=None,
                delivery_code=order.delivery_code,
                placed_at=self._now,
                changed_at=self._now,
                address=order.address,
                orders_before=self._points[buyer.id].order_count,
            )
        )
        for position, (line, (product, quantity)) in enumerate(zip(order.lines, wanted, strict=True), start=1):
            self._taken[product.id] += quantity
            self._lines.append(
                orders.LineRow(number, position, product.id, line.sku, line.name, quantity, line.unit_price, line.total)
            )
        self._audit.append(audit.AuditEntry(self._now, buyer.id, "order.placed", f"order:{number}"))
        self._tx.publish(OrderChanged(customer=buyer.id, courier=None, order=order))

    def _book(self, order: Order, buyer: accounts.Buyer) -> None:
        """The order's points, and the account as the next command of the batch is to see it."""
        held = self._points[buyer.id]
        if order.points_redeemed:
            held.redeem(order.order, order.points_redeemed)
        if order.points_earned:
            held.earn(order.order, order.points_earned)
        held.order_count += 1
        self._tx.publish(RewardsChanged(buyer.id, self._rules.standing(held.balance, held.order_count)))


def delivery_codes(count: int) -> Iterator[str]:
    """Six digits each. From one draw, as drawing lets go of the interpreter's lock; 64 bits make each as likely."""
    drawn = secrets.token_bytes(8 * count)
    return (f"{number % 1_000_000:06}" for (number,) in iter_unpack("<Q", drawn))


def checked_address(address: str | None) -> str:
    """Raises Refusal."""
    if address is None or not address.strip():
        raise Refusal.invalid("/address", "where to? neither this call nor the account has an address")
    return address


def wanted_products(lines: "Iterable[WantedLine]", found: Mapping[str, products.Offer]) -> Wanted:
    """One for each SKU, where it was first named. found: by SKU. Raises Refusal."""
    quantities: dict[str, int] = {}
    for line in lines:
        quantities[line.sku] = quantities.get(line.sku, 0) + line.quantity
    for sku, quantity in quantities.items():
        if quantity > MAX_QUANTITY:
            raise Refusal.invalid("/lines", f"{quantity} of {sku} in one order; at most {MAX_QUANTITY}")
    for sku in quantities:
        product = found.get(sku)
        if product is None or not product.active:
            raise Refusal(Reason.NOT_FOUND, f"there is no product {sku}", sku=sku)
    return [(found[sku], quantity) for sku, quantity in quantities.items()]


def priced(wanted: Wanted) -> list[OrderLine]:
    """The lines at the day's prices. Raises Refusal for more than an order can hold."""
    lines = [
        OrderLine(product.sku, product.name, quantity, product.price, Cents(product.price * quantity))
        for product, quantity in wanted
    ]
    if sum(line.total for line in lines) > MAX_INTEGER:
        raise Refusal.invalid("/lines", "the sum is too large; order less")
    if len(_encode([(line.sku, line.name) for line in lines])) > MAX_LINES_TEXT:
        raise Refusal.invalid("/lines", "the names of so many products do not fit one order; make two of it")
    return lines
