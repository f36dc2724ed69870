"""What happened, for the connections of those concerned. Published in the transaction, delivered after it."""

import msgspec

from securedelivery.model import AccountId, Order, Rewards


class OrderChanged(msgspec.Struct, frozen=True):
    """An order was placed or changed.

    order: as its customer sees it, with the delivery code; for anyone else, orders.without_code() of it. former: who
    was its courier up to now, where it has got another one.
    """

    customer: AccountId
    courier: AccountId | None
    order: Order
    former: AccountId | None = None


class RewardsChanged(msgspec.Struct, frozen=True):
    account: AccountId
    rewards: Rewards


class AccountChanged(msgspec.Struct, frozen=True):
    """Role, password, certificate rule or existence: open connections of the account may have to change or to end."""

    account: AccountId


class MailRetried(msgspec.Struct, frozen=True):
    """The operator wants mail to be tried now, whatever was in its way."""


Event = OrderChanged | RewardsChanged | AccountChanged | MailRetried
