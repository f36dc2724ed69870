"""Mail that is to leave: rows that say what it tells of, and what has become of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, bindparam, delete, insert, literal_column, select

from securedelivery.model import AccountId, MailKind, MailRoute, OrderId, Timestamp
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import accounts, mail_routes, outbox
from securedelivery.store.statements import Statement, listed_rows, listing


class Receipt(NamedTuple):
    """A mail about an order, which its customer may want."""

    order: OrderId
    account: AccountId
    kind: MailKind


_RECEIPT_COLUMNS = (
    "kind",
    "route",
    "account_id",
    "order_id",
    "state",
    "attempts",
    "interrupted",
    "created_at",
    "due_at",
)
_receipts = listed_rows("receipts", *Receipt._fields)
_at: BindParameter[Any] = bindparam("at")
_ADD_RECEIPTS = Statement(
    insert(outbox).from_select(
        _RECEIPT_COLUMNS,
        select(
            _receipts.c.kind,
            literal_column("'receipts'"),
            accounts.c.id,
            _receipts.c.order,
            literal_column("'waiting'"),
            literal_column("0"),
            literal_column("0"),
            _at,
            _at,
        )
        .select_from(_receipts.join(accounts, accounts.c.id == _receipts.c.account))
        .where(accounts.c.email.is_not(None), accounts.c.mail_receipts == literal_column("1")),
    )
)
_ROUTES = Statement(select(mail_routes.c.route, mail_routes.c.since))
_USE = Statement(insert(mail_routes).values({name: bindparam(name) for name in ("route", "since")}))
_DISUSE = Statement(delete(mail_routes).where(mail_routes.c.route == bindparam("of_route")))


def add_receipts(tx: Transaction, receipts: Sequence[Receipt], at: Timestamp) -> None:
    """For those of the customers who have an address and want receipts."""
    if receipts:
        tx.write(_ADD_RECEIPTS, [{"receipts": listing(receipts), "at": at}])


def routes(tx: Transaction) -> dict[MailRoute, Timestamp]:
    """Those in use, and since when."""
    return {MailRoute(route): since for route, since in tx.rows(_ROUTES)}


def use(tx: Transaction, route: MailRoute, since: Timestamp) -> None:
    """Raises the database's error for a route that is in use already."""
    tx.write(_USE, [{"route": route.value, "since": since}])


def disuse(tx: Transaction, route: MailRoute) -> None:
    tx.write(_DISUSE, [{"of_route": route.value}])
