"""What may become of an order, and who may do it: docs/protocol.md, "Orders".

The table is the rule, and the documentation's diagram is drawn from it. Editing (order.update) is no transition: it
needs `placed` and stays there.
"""

from collections.abc import Collection
from enum import StrEnum
from typing import NamedTuple

from securedelivery.model import OrderStatus, Role


class Need(StrEnum):
    """What a transition takes beside the right to it."""

    NONE = "none"
    COURIER = "courier"
    CODE = "code"
    """The customer's delivery code: delivery.confirm, never order.advance."""
    NOTE = "note"


class Transition(NamedTuple):
    """who: in what part one has to act: as the order's customer, as its courier, or as staff."""

    before: OrderStatus
    after: OrderStatus
    who: frozenset[Role]
    need: Need = Need.NONE


_CUSTOMER, _COURIER, _ADMIN = (frozenset({role}) for role in (Role.CUSTOMER, Role.COURIER, Role.ADMIN))
STAFF = frozenset({Role.AGENT, Role.ADMIN})
"""An admin may do all that an agent may."""

TRANSITIONS = (
    Transition(OrderStatus.PLACED, OrderStatus.CONFIRMED, STAFF),
    Transition(OrderStatus.CONFIRMED, OrderStatus.PACKED, STAFF),
    Transition(OrderStatus.PACKED, OrderStatus.OUT_FOR_DELIVERY, STAFF | _COURIER, Need.COURIER),
    Transition(OrderStatus.OUT_FOR_DELIVERY, OrderStatus.PACKED, STAFF | _COURIER),  # a failed delivery
    Transition(OrderStatus.OUT_FOR_DELIVERY, OrderStatus.DELIVERED, _COURIER, Need.CODE),
    Transition(OrderStatus.OUT_FOR_DELIVERY, OrderStatus.DELIVERED, _ADMIN, Need.NOTE),
    Transition(OrderStatus.DELIVERED, OrderStatus.RETURNED, STAFF),
    Transition(OrderStatus.PLACED, OrderStatus.CANCELLED, STAFF | _CUSTOMER),
    Transition(OrderStatus.CONFIRMED, OrderStatus.CANCELLED, STAFF | _CUSTOMER),
    Transition(OrderStatus.PACKED, OrderStatus.CANCELLED, STAFF),
)

UNDOING = frozenset({OrderStatus.CANCELLED, OrderStatus.RETURNED})
"""An order that becomes one of these counts no more: stock and points go back."""


def allowed(status: OrderStatus, who: Collection[Role]) -> list[OrderStatus]:
    """What an order of this status may become at the hands of one who acts in the parts `who`; in the enum's order."""
    ways = {row.after for row in TRANSITIONS if row.before is status and not row.who.isdisjoint(who)}
    return [after for after in OrderStatus if after in ways]


def find(before: OrderStatus, after: OrderStatus, who: Collection[Role], *, by_code: bool = False) -> Transition | None:
    """The row for this, or None where it may not be. by_code: those that take the delivery code, or those that do
    not.
    """
    for row in TRANSITIONS:
        fits = (row.before, row.after) == (before, after) and (row.need is Need.CODE) is by_code
        if fits and not row.who.isdisjoint(who):
            return row
    return None
