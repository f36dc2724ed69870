"""What happened, for the connections of those concerned. Published in the transaction, delivered after it."""

import msgspec

from securedelivery.model import AccountId, Order, Rewards


class OrderChanged(msgspec.Struct, frozen=True):
    """An order was placed or changed.

    order: as its customer sees it, with the delivery code; for anyone else, orders.without_code() of it.
    """

    customer: AccountId
    courier: AccountId | None
    order: Order


class RewardsChanged(msgspec.Struct, frozen=True):
    account: AccountId
    rewards: Rewards


Event = OrderChanged | RewardsChanged
