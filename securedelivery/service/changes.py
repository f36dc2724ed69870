"""One batch of changes to orders that were placed: everything is read at once, decided in memory, and written at once.

A later command of the batch sees what earlier ones did to orders, stock and points. A command that is refused leaves no
trace, but for a wrong delivery code, which counts.
"""

import hmac
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from securedelivery.errors import Reason, Refusal
from securedelivery.model import (
    AccountId,
    Cents,
    HistoryEntry,
    MailKind,
    Order,
    OrderStatus,
    ProductId,
    Role,
    timestamp,
)
from securedelivery.service.events import OrderChanged, RewardsChanged
from securedelivery.service.placement import Wanted, checked_address, priced, wanted_products
from securedelivery.service.points import Points, write_points
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session, acting
from securedelivery.service.transitions import UNDOING, Need, allowed, find
from securedelivery.store import audit, orders, outbox, products, rewards
from securedelivery.store.engine import Transaction
from securedelivery.store.orders import OPERATOR, Party, StoredOrder

if TYPE_CHECKING:
    from securedelivery.service.orders import AdvanceCommand, CancelCommand, ConfirmCommand, UpdateCommand

MAX_WRONG_CODES = 5
"""Of a million codes; then the order is locked until staff looks at it."""

RECEIPTS = {
    OrderStatus.CANCELLED: MailKind.ORDER_CANCELLED,
    OrderStatus.DELIVERED: MailKind.ORDER_DELIVERED,
    OrderStatus.RETURNED: MailKind.ORDER_RETURNED,
}
"""Of which changes mail tells the customer. Each comes once in the life of an order."""

COURIERS = frozenset({Role.COURIER, Role.ADMIN})
"""Who can be named as an order's courier."""


class Command(Protocol):
    """session: None for the operator at the machine, who may do what an admin may."""

    @property
    def session(self) -> Session | None: ...
    @property
    def order(self) -> int: ...


class Changes:
    """Call a method for each command in turn, then write(). Each gives the order with its delivery code, or raises
    Refusal.
    """

    def __init__(
        self,
        tx: Transaction,
        commands: Sequence[Command],
        now: datetime,
        rules: RewardRules,
        *,
        skus: Iterable[str] = (),
        couriers: Iterable[str] = (),
        settling: Iterable[int] = (),
        receipts: bool = False,
    ) -> None:
        """now: aware, UTC. skus, couriers: all that the commands name. settling: orders whose points may change.

        receipts: whether mail is to tell of what RECEIPTS lists.
        """
        self._tx = tx
        self._receipts = receipts
        self._rules = rules
        self._now = timestamp(now)

        # As after the commands so far.
        self._orders = orders.load(tx, list({command.order for command in commands}))
        self._before = dict(self._orders)
        ids = {command.session.account_id for command in commands if command.session is not None}
        ids |= {stored.courier for stored in self._orders.values() if stored.courier is not None}
        parties = orders.parties(tx, ids, couriers)
        self._parties = {party.id: party for party in parties}
        self._named = {party.username: party for party in parties}
        wanted = list(skus)
        self._products = products.offers(tx, wanted) if wanted else {}
        self._taken: Counter[ProductId] = Counter()
        """From the stock; below 0 for what went back."""
        self._load_points(sorted(self._orders.keys() & set(settling)), now)

        # What write() writes.
        self._history: list[orders.HistoryRow] = []
        self._audit: list[audit.AuditEntry] = []
        self._mail: list[outbox.Receipt] = []

    def _load_points(self, numbers: list[int], now: datetime) -> None:
        self._points: dict[AccountId, Points] = {}
        if not numbers:
            return
        settling = [self._orders[number] for number in numbers]
        customers = {stored.customer for stored in settling}
        holders = rewards.holders(self._tx, customers)
        lots = rewards.lots(self._tx, {holder.id: holder.points for holder in holders})
        self._traces = rewards.traces(self._tx, customers, [stored.order.order for stored in settling])
        expiry = self._rules.expiry(now)
        for holder in holders:
            self._points[holder.id] = Points(holder, lots[holder.id], self._now, expiry)

    def update(self, command: "UpdateCommand") -> StoredOrder:
        """New lines at the day's prices, or another address, while nobody has begun with the order."""
        actor = self._actor(command)
        stored = self._orders.get(command.order)
        if stored is None or stored.customer != command.session.account_id:
            raise not_found(command.order)
        order = stored.order
        address = order.address if command.address is None else checked_address(command.address)
        if order.status is not OrderStatus.PLACED:
            raise self._illegal(stored, actor)
        if command.version != order.version:
            raise Refusal(
                Reason.VERSION_CONFLICT,
                f"the order has changed: it is at version {order.version}; look at it, then edit that",
                version=order.version,
            )
        changes: dict[str, Any] = {} if address == order.address else {"address": address}
        goods = stored.products
        if command.lines is not None:
            wanted = wanted_products(command.lines, self._products)
            self._check_stock(wanted, stored)
            lines = priced(wanted)
            if lines != order.lines:
                self._restock(stored, wanted)
                goods = [product.id for product, _ in wanted]
                subtotal = Cents(sum(line.total for line in lines))
                changes |= {"lines": lines, "subtotal": subtotal, **self._resettled(stored, subtotal)}
        if not changes:
            return stored
        return self._change(stored._replace(products=goods), actor, "order.edited", note="edited", **changes)

    def cancel(self, command: "CancelCommand") -> StoredOrder:
        """For the customer and staff; an order that is cancelled already stays as it is."""
        actor = self._actor(command)
        stored = self._orders.get(command.order)
        if stored is None:
            raise not_found(command.order)
        who = _who(stored, actor)
        if who.isdisjoint((Role.CUSTOMER, Role.AGENT)):
            raise not_found(command.order)
        if stored.order.status is OrderStatus.CANCELLED:
            return self._shown(stored, actor)
        if find(stored.order.status, OrderStatus.CANCELLED, who) is None:
            raise self._illegal(stored, actor)
        return self._enter(stored, actor, OrderStatus.CANCELLED, command.reason)

    def advance(self, command: "AdvanceCommand") -> StoredOrder:
        """For staff and the order's courier. To the status that it has: nothing, or another courier."""
        actor = self._actor(command)
        stored = self._orders.get(command.order)
        who = set() if stored is None else _who(stored, actor) - {Role.CUSTOMER}
        if stored is None or not who:
            raise not_found(command.order)
        status = stored.order.status
        by_staff = Role.AGENT in who
        if command.status is status:
            courier = self._courier(command.courier, actor, by_staff) if status in orders.CARRIED else None
            if by_staff:
                stored = self._looked_at(stored, actor)
            if courier is None or courier.id == stored.courier:
                return self._shown(stored, actor)
            return self._change(stored, actor, "order.courier", note=command.note or "another courier", courier=courier)
        row = find(status, command.status, who)
        if row is None:
            raise self._illegal(stored, actor)
        courier = self._courier(command.courier, actor, by_staff)
        if row.need is Need.COURIER and courier is None:
            self._check_courier(stored)
        if row.need is Need.NOTE and not (command.note and command.note.strip()):
            raise Refusal.invalid("/note", "without the customer's code a note has to say how it was delivered")
        if by_staff:
            stored = self._looked_at(stored, actor)
        return self._enter(stored, actor, command.status, command.note, courier)

    def confirm(self, command: "ConfirmCommand") -> StoredOrder:
        """Delivered, which the customer's code proves."""
        actor = self._actor(command)
        stored = self._orders.get(command.order)
        who = set() if stored is None else _who(stored, actor)
        if stored is None or who.isdisjoint(COURIERS):
            raise not_found(command.order)
        right = hmac.compare_digest(command.code.encode(), str(stored.order.delivery_code).encode())
        if stored.order.status is OrderStatus.DELIVERED and right:
            return self._shown(stored, actor)
        if find(stored.order.status, OrderStatus.DELIVERED, {Role.COURIER}, by_code=True) is None:
            raise self._illegal(stored, actor)
        if stored.wrong_codes >= MAX_WRONG_CODES:
            raise Refusal(
                Reason.WRONG_CODE, "locked after too many wrong codes; ask the shop to look at it", tries_left=0
            )
        if not right:
            raise self._wrong_code(stored, actor)
        return self._enter(stored, actor, OrderStatus.DELIVERED, None)

    def look_at(self, command: Command) -> StoredOrder:
        """For staff, who may see every order: which unlocks the delivery code, and is written down."""
        actor = self._actor(command)
        stored = self._orders.get(command.order)
        if stored is None or Role.AGENT not in _who(stored, actor):
            raise not_found(command.order)
        stored = self._shown(stored, actor)
        return self._looked_at(stored, actor) if stored.wrong_codes >= MAX_WRONG_CODES else stored

    def write(self) -> None:
        """Write what has changed."""
        tx = self._tx
        pairs = [(self._before[number], after) for number, after in self._orders.items()]
        changed = [after for before, after in pairs if after is not before]
        orders.change(tx, changed)
        orders.replace_lines(tx, [after for before, after in pairs if after.order.lines is not before.order.lines])
        orders.readdress(tx, [after.order for before, after in pairs if after.order.address != before.order.address])
        orders.add_history(tx, self._history)
        products.take(tx, [(product, quantity) for product, quantity in self._taken.items() if quantity])
        write_points(tx, self._points.values())
        audit.append(tx, self._audit)
        outbox.add_receipts(tx, self._mail, self._now)

    def _actor(self, command: Command) -> Party | None:
        """Who is acting, as the account is now; None for the operator."""
        if command.session is None:
            return None
        return acting(self._parties.get(command.session.account_id))

    def _shown(self, stored: StoredOrder, actor: Party | None) -> StoredOrder:
        """The order as it is; that staff sees what is not its own is written down."""
        who = _who(stored, actor)
        if Role.AGENT in who and Role.CUSTOMER not in who:
            self._note(stored, actor, "order.viewed", {"account": stored.customer})
        return stored

    def _illegal(self, stored: StoredOrder, actor: Party | None) -> Refusal:
        status = stored.order.status
        ways = allowed(status, _who(stored, actor))
        remedy = f"you can make it {', '.join(ways)}" if ways else "there is nothing that you can make of it now"
        return Refusal(
            Reason.ILLEGAL_TRANSITION, f"order {stored.order.order} is {status}: {remedy}", status=status, allowed=ways
        )

    def _check_stock(self, wanted: Wanted, stored: StoredOrder) -> None:
        """What the order has taken counts as its own."""
        held = _quantities(stored)
        for product, quantity in wanted:
            available = product.stock - self._taken[product.id] + held[product.id]
            if quantity > available:
                raise Refusal(
                    Reason.OUT_OF_STOCK,
                    f"{product.sku}: {available} left for this order",
                    sku=product.sku,
                    available=available,
                )

    def _restock(self, stored: StoredOrder, wanted: Wanted) -> None:
        """Take what the order wants now, and give back what it had."""
        self._taken.update({product.id: quantity for product, quantity in wanted})
        self._taken.subtract(_quantities(stored))

    def _resettled(self, stored: StoredOrder, subtotal: Cents) -> dict[str, Any]:
        """Book an edit's difference in points. What becomes of the sums that hang on the subtotal."""
        order = stored.order
        redeemed = min(order.points_redeemed, self._rules.redeemable(subtotal))
        discount = self._rules.worth(redeemed)
        total = Cents(subtotal - discount)
        earned = self._rules.earned(total, stored.orders_before)
        self._settle(stored, earned=earned, redeemed=redeemed)
        return {"discount": discount, "total": total, "points_earned": earned, "points_redeemed": redeemed}

    def _settle(self, stored: StoredOrder, *, earned: int, redeemed: int, more_orders: int = 0) -> None:
        points = self._points[stored.customer]
        newest = points.newest
        points.settle(stored.order, self._traces[stored.order.order], earned=earned, redeemed=redeemed)
        points.order_count += more_orders
        if more_orders or points.newest > newest:
            standing = self._rules.standing(points.balance, points.order_count)
            self._tx.publish(RewardsChanged(stored.customer, standing))

    def _enter(
        self,
        stored: StoredOrder,
        actor: Party | None,
        status: OrderStatus,
        note: str | None,
        courier: Party | None = None,
    ) -> StoredOrder:
        """Bring the order into the status. Its points stay in it as a record, when they are taken back."""
        if status in UNDOING:
            self._taken.subtract(_quantities(stored))
            self._settle(stored, earned=0, redeemed=0, more_orders=-1)
        if self._receipts and status in RECEIPTS:
            self._mail.append(outbox.Receipt(stored.order.order, stored.customer, RECEIPTS[status]))
        return self._change(stored, actor, f"order.{status}", note=note, courier=courier, status=status)

    def _change(
        self,
        stored: StoredOrder,
        actor: Party | None,
        action: str,
        *,
        note: str | None,
        courier: Party | None = None,
        **changes: Any,
    ) -> StoredOrder:
        """The next version of the order, with its entry in the history. courier: who gets it now, if that changes."""
        before = stored.order
        former = None
        detail: dict[str, Any] = {"version": before.version + 1}
        if courier is not None and courier.id != stored.courier:
            former = stored.courier
            changes["courier"] = courier.username
            stored = stored._replace(courier=courier.id)
            detail["courier"] = courier.id
        entry = HistoryEntry(
            changes.get("status", before.status), self._now, OPERATOR if actor is None else actor.username, note
        )
        order: Order = msgspec.structs.replace(
            before,
            version=before.version + 1,
            changed_at=self._now,
            history=orders.shown([*before.history, entry]),
            **changes,
        )
        stored = stored._replace(order=order, entries=stored.entries + 1)
        self._orders[order.order] = stored
        by = None if actor is None else actor.id
        self._history.append(orders.HistoryRow(order.order, stored.entries, entry.status, entry.at, by, note))
        self._note(stored, actor, action, detail)
        self._tx.publish(OrderChanged(stored.customer, stored.courier, order, former))
        return stored

    def _note(self, stored: StoredOrder, actor: Party | None, action: str, detail: dict[str, Any]) -> None:
        """For the audit."""
        if actor is None:
            detail["by"] = OPERATOR
        text = msgspec.json.encode(detail).decode()
        by = None if actor is None else actor.id
        self._audit.append(audit.AuditEntry(self._now, by, action, f"order:{stored.order.order}", text))

    def _courier(self, name: str | None, actor: Party | None, by_staff: bool) -> Party | None:
        """The courier that a call names, if it does."""
        if name is None:
            return None
        if not by_staff and (actor is None or name != actor.username):
            raise Refusal.invalid("/courier", "only the shop gives an order to another courier; ask it, or name nobody")
        party = self._named.get(name)
        if party is None or not _delivers(party):
            raise Refusal.invalid("/courier", f"{name} is no courier; name an account that has the role and is enabled")
        return party

    def _check_courier(self, stored: StoredOrder) -> None:
        """See that the order has one who can go."""
        if stored.courier is None:
            raise Refusal.invalid("/courier", "who delivers it? name a courier")
        if not _delivers(self._parties[stored.courier]):
            raise Refusal.invalid("/courier", f"{stored.order.courier} delivers no more; name another courier")

    def _looked_at(self, stored: StoredOrder, actor: Party | None) -> StoredOrder:
        """Staff has seen to the order, so its code can be tried again."""
        if not stored.wrong_codes:
            return stored
        self._note(stored, actor, "order.unlocked", {"wrong_codes": stored.wrong_codes})
        stored = self._orders[stored.order.order] = stored._replace(wrong_codes=0)
        return stored

    def _wrong_code(self, stored: StoredOrder, actor: Party | None) -> Refusal:
        wrong = stored.wrong_codes + 1
        self._orders[stored.order.order] = stored._replace(wrong_codes=wrong)
        left = MAX_WRONG_CODES - wrong
        self._note(stored, actor, "delivery.wrong_code", {"tries_left": left})
        return Refusal(
            Reason.WRONG_CODE,
            f"not the code of this order; {left} of {MAX_WRONG_CODES} tries are left",
            tries_left=left,
        )


def not_found(order: int) -> Refusal:
    return Refusal(Reason.NOT_FOUND, f"there is no order {order}")


def _who(stored: StoredOrder, actor: Party | None) -> set[Role]:
    """The parts in which one acts on this order."""
    if actor is None:
        return {Role.AGENT, Role.ADMIN}
    who = set()
    if actor.id == stored.customer:
        who.add(Role.CUSTOMER)
    if actor.id == stored.courier and actor.role in COURIERS:
        who.add(Role.COURIER)
    if actor.role is Role.ADMIN:
        who |= {Role.AGENT, Role.ADMIN}
    elif actor.role is Role.AGENT:
        who.add(Role.AGENT)
    return who


def _delivers(party: Party) -> bool:
    return party.role in COURIERS and not party.disabled


def _quantities(stored: StoredOrder) -> Counter[ProductId]:
    """What the order has taken of each product."""
    quantities: Counter[ProductId] = Counter()
    for product, line in zip(stored.products, stored.order.lines, strict=True):
        quantities[product] += line.quantity
    return quantities
