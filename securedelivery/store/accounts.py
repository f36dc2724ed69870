"""Rows of accounts."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, func, insert, select, update

from securedelivery.model import AccountId, Role, Timestamp
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import accounts
from securedelivery.store.statements import Parameters, Statement, listed, listing


class AccountRow(NamedTuple):
    """As stored. password: Argon2id in PHC form. points: the ledger's sum, below 0 for one who owes.

    ledger_entries: how many, and so the number of the newest.
    """

    id: AccountId
    username: str
    role: Role
    name: str | None
    email: str | None
    address: str | None
    certificate: str | None
    password: str | None
    certificate_required: bool
    disabled: bool
    mail_receipts: bool
    mail_summaries: bool
    mail_missed_chat: bool
    order_count: int
    points: int
    ledger_entries: int
    created_at: Timestamp


class Buyer(NamedTuple):
    """What placing an order needs to know of an account."""

    id: AccountId
    username: str
    address: str | None
    disabled: bool
    order_count: int
    points: int
    ledger_entries: int


_columns = [accounts.c[name] for name in AccountRow._fields]
_BY_ID = Statement(select(*_columns).where(accounts.c.id == bindparam("account")))
_BY_USERNAME = Statement(select(*_columns).where(accounts.c.username == bindparam("name")))
_BY_CERTIFICATE = Statement(select(*_columns).where(accounts.c.certificate == bindparam("uri")))
_BUYERS = Statement(select(*(accounts.c[name] for name in Buyer._fields)).where(accounts.c.id.in_(listed("ids"))))
_TAKEN = Statement(select(accounts.c.username).where(accounts.c.username.in_(listed("names"))))
_BOUND = Statement(select(accounts.c.certificate).where(accounts.c.certificate.in_(listed("uris"))))
_LAST = Statement(select(func.max(accounts.c.id)))
_INSERT = Statement(insert(accounts))
_CREDIT = Statement(
    update(accounts)
    .where(accounts.c.id == bindparam("account"))
    .values(
        points=accounts.c.points + bindparam("more_points"),
        order_count=accounts.c.order_count + bindparam("more_orders"),
        ledger_entries=accounts.c.ledger_entries + bindparam("more_entries"),
    )
)
_REHASH = Statement(
    update(accounts)
    .where(accounts.c.id == bindparam("account"), accounts.c.password == bindparam("old"))
    .values(password=bindparam("new"))
)


def by_id(tx: Transaction, account: AccountId) -> AccountRow | None:
    return _row(tx, _BY_ID, {"account": account})


def by_username(tx: Transaction, username: str) -> AccountRow | None:
    return _row(tx, _BY_USERNAME, {"name": username})


def by_certificate(tx: Transaction, uri: str) -> AccountRow | None:
    return _row(tx, _BY_CERTIFICATE, {"uri": uri})


def _row(tx: Transaction, statement: Statement, parameters: Parameters) -> AccountRow | None:
    found = tx.row(statement, parameters)
    return None if found is None else AccountRow(*found)._replace(role=Role(found[2]))


def buyers(tx: Transaction, ids: Iterable[AccountId]) -> dict[AccountId, Buyer]:
    """Those of the accounts that exist."""
    return {row[0]: Buyer(*row) for row in tx.rows(_BUYERS, {"ids": listing(ids)})}


def taken(tx: Transaction, usernames: Iterable[str], certificates: Iterable[str]) -> tuple[set[str], set[str]]:
    """Which of the names, and which of the URIs, belong to an account."""
    names = {name for (name,) in tx.rows(_TAKEN, {"names": listing(usernames)})}
    return names, {uri for (uri,) in tx.rows(_BOUND, {"uris": listing(certificates)})}


def next_id(tx: Transaction) -> int:
    """The first free number. It stays free: this transaction holds the write lock, and rows are never deleted."""
    found = tx.row(_LAST)
    assert found is not None
    return (found[0] or 0) + 1


def add(tx: Transaction, rows: Sequence[AccountRow]) -> None:
    tx.write(_INSERT, [row._asdict() for row in rows])


class Credit(NamedTuple):
    """What is added to an account's sums. The ledger's rows are written by rewards.post()."""

    account: AccountId
    more_points: int
    more_orders: int
    more_entries: int


def credit(tx: Transaction, sums: Iterable[Credit]) -> None:
    tx.write(_CREDIT, [each._asdict() for each in sums])


def rehash(tx: Transaction, account: AccountId, old: str, new: str) -> None:
    """Put `new` in the place of the hash `old`, unless the password was changed in the meantime."""
    tx.write(_REHASH, [{"account": account, "old": old, "new": new}])
