"""Rows of accounts."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import bindparam, func, insert, literal_column, select, update

from securedelivery.model import AccountId, Role, Timestamp
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import accounts, retired_names
from securedelivery.store.statements import Parameters, Statement, gathered, listed, listed_rows, listing
from securedelivery.store.vault import Sealed

_SEALED = {name: Sealed("accounts", name) for name in ("name", "email", "address")}


class AccountRow(NamedTuple):
    """password: Argon2id in PHC form. points: the ledger's sum, below 0 for one who owes.

    ledger_entries: how many, and so the number of the newest. credentials: goes up with each change that ends sessions.
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
    credentials: int = 0
    deleted_at: Timestamp | None = None


class Buyer(NamedTuple):
    """What placing an order needs to know of an account."""

    id: AccountId
    username: str
    disabled: bool
    order_count: int
    points: int
    ledger_entries: int


class Credit(NamedTuple):
    """What is added to an account's sums. The ledger's rows are written by rewards.post()."""

    account: AccountId
    more_points: int
    more_orders: int
    more_entries: int


_columns = [accounts.c[name] for name in AccountRow._fields]
_BY_ID = Statement(select(*_columns).where(accounts.c.id == bindparam("account")))
_BY_USERNAME = Statement(select(*_columns).where(accounts.c.username == bindparam("name")))
_BY_CERTIFICATE = Statement(select(*_columns).where(accounts.c.certificate == bindparam("uri")))
_BUYERS = gathered(select(*(accounts.c[name] for name in Buyer._fields)).where(accounts.c.id.in_(listed("ids"))))
_buyers_decoder = msgspec.json.Decoder(list[Buyer], strict=False)  # SQLite has 0 and 1 for truth
_ADDRESSES = Statement(select(accounts.c.id, accounts.c.address).where(accounts.c.id.in_(listed("ids"))))
_TAKEN = Statement(select(accounts.c.username).where(accounts.c.username.in_(listed("names"))))
_LOCKS = Statement(
    select(accounts.c.username, accounts.c.disabled, accounts.c.certificate_required).where(
        accounts.c.username.in_(listed("names")), accounts.c.disabled + accounts.c.certificate_required > 0
    )
)
_BOUND = Statement(select(accounts.c.certificate).where(accounts.c.certificate.in_(listed("uris"))))
_LAST = Statement(select(func.max(accounts.c.id)))
_INSERT = Statement(insert(accounts))
_credits = listed_rows("credits", *Credit._fields)
_CREDIT = Statement(
    update(accounts)
    .where(accounts.c.id == _credits.c.account)
    .values(
        points=accounts.c.points + _credits.c.more_points,
        order_count=accounts.c.order_count + _credits.c.more_orders,
        ledger_entries=accounts.c.ledger_entries + _credits.c.more_entries,
    )
)
_REHASH = Statement(
    update(accounts)
    .where(accounts.c.id == bindparam("account"), accounts.c.password == bindparam("old"))
    .values(password=bindparam("new"))
)
_BY_IDS = Statement(select(*_columns).where(accounts.c.id.in_(listed("ids"))))
_USERNAMES = Statement(select(accounts.c.id, accounts.c.username).where(accounts.c.id.in_(listed("ids"))))
_PAGE = Statement(
    select(*_columns)
    .where(
        accounts.c.username > bindparam("after"),
        func.instr(accounts.c.username, bindparam("part")) > 0,
        accounts.c.deleted_at.is_(None),
    )
    .order_by(accounts.c.username)
    .limit(bindparam("count"))
)
# Literals, for the planner takes a partial index only where it sees the index's own condition.
_ADMINS = Statement(
    select(func.count()).where(
        accounts.c.role.in_([literal_column("'agent'"), literal_column("'admin'")]),
        accounts.c.role == literal_column("'admin'"),
        accounts.c.disabled == literal_column("0"),
    )
)
_CHANGING = (
    *("username", "role", *_SEALED, "certificate", "password", "certificate_required", "disabled"),
    *("mail_receipts", "mail_summaries", "mail_missed_chat", "credentials", "deleted_at"),
)
_CHANGE = Statement(
    update(accounts)
    .where(accounts.c.id == bindparam("account"))
    .values({name: bindparam(f"new_{name}") for name in _CHANGING})
)
_RETIRED = Statement(select(retired_names.c.digest).where(retired_names.c.digest == bindparam("of_name")))
_RETIRE = Statement(insert(retired_names))


def by_id(tx: Transaction, account: AccountId) -> AccountRow | None:
    return _row(tx, _BY_ID, {"account": account})


def by_username(tx: Transaction, username: str) -> AccountRow | None:
    return _row(tx, _BY_USERNAME, {"name": username})


def by_certificate(tx: Transaction, uri: str) -> AccountRow | None:
    return _row(tx, _BY_CERTIFICATE, {"uri": uri})


def _row(tx: Transaction, statement: Statement, parameters: Parameters) -> AccountRow | None:
    found = tx.row(statement, parameters)
    return None if found is None else _opened(tx, AccountRow(*found))


def _opened(tx: Transaction, row: AccountRow) -> AccountRow:
    """row: as stored."""
    plain: dict[str, Any] = {
        name: tx.vault.open(column, row.id, getattr(row, name)) for name, column in _SEALED.items()
    }
    return row._replace(role=Role(row.role), **plain)


def _sealed(tx: Transaction, row: AccountRow) -> Parameters:
    """What is stored of the row."""
    cells = {name: tx.vault.seal(column, row.id, getattr(row, name)) for name, column in _SEALED.items()}
    return row._asdict() | cells


def buyers(tx: Transaction, ids: Iterable[AccountId]) -> dict[AccountId, Buyer]:
    """Those of the accounts that exist."""
    return {buyer.id: buyer for buyer in tx.gathered(_BUYERS, _buyers_decoder, {"ids": listing(ids)})}


def addresses(tx: Transaction, ids: Iterable[AccountId]) -> dict[AccountId, str]:
    """Where those of the accounts live that have said it."""
    opened = (
        (account, tx.vault.open(_SEALED["address"], account, cell))
        for account, cell in tx.rows(_ADDRESSES, {"ids": listing(ids)})
    )
    return {account: address for account, address in opened if address is not None}


def taken(tx: Transaction, usernames: Iterable[str], certificates: Iterable[str]) -> tuple[set[str], set[str]]:
    """Which of the names, and which of the URIs, belong to an account."""
    names = {name for (name,) in tx.rows(_TAKEN, {"names": listing(usernames)})}
    return names, {uri for (uri,) in tx.rows(_BOUND, {"uris": listing(certificates)})}


def by_ids(tx: Transaction, ids: Iterable[AccountId]) -> dict[AccountId, AccountRow]:
    """Those of the accounts that exist."""
    return {row[0]: _opened(tx, AccountRow(*row)) for row in tx.rows(_BY_IDS, {"ids": listing(ids)})}


def usernames(tx: Transaction, ids: Iterable[AccountId]) -> dict[AccountId, str]:
    """As they are now; of deleted accounts the pseudonym."""
    return dict(tx.rows(_USERNAMES, {"ids": listing(ids)}))


def page(tx: Transaction, part: str, after: str, count: int) -> list[AccountRow]:
    """Up to `count` accounts that are not deleted, by username, behind `after`; part: of the username."""
    rows = tx.rows(_PAGE, {"part": part, "after": after, "count": count})
    return [_opened(tx, AccountRow(*row)) for row in rows]


def admins(tx: Transaction) -> int:
    """How many can be used."""
    found = tx.row(_ADMINS)
    assert found is not None
    return int(found[0])


def retired(tx: Transaction, usernames: Iterable[str]) -> set[str]:
    """Which of the names belonged to an account that was deleted."""
    # One statement a name: digests do not go into a listing(), and a name is asked for where an account is made.
    return {name for name in set(usernames) if tx.row(_RETIRED, {"of_name": _digest(tx, name)}) is not None}


def retire(tx: Transaction, username: str) -> None:
    """Never give the name again. It is not kept itself: what stays is a digest under a key of the vault."""
    tx.write(_RETIRE, [{"digest": _digest(tx, username)}])


def _digest(tx: Transaction, username: str) -> bytes:
    return tx.vault.digest("retired name", username.encode())


class Lock(NamedTuple):
    """What keeps an account from logging in, or from doing so by password."""

    disabled: bool
    certificate_required: bool


def locks(tx: Transaction, usernames: Iterable[str]) -> dict[str, Lock]:
    """Of those of the accounts that have one."""
    rows = tx.rows(_LOCKS, {"names": listing(usernames)})
    return {name: Lock(bool(disabled), bool(required)) for name, disabled, required in rows}


def next_id(tx: Transaction) -> int:
    """The first free number. It stays free: this transaction holds the write lock, and rows are never deleted."""
    found = tx.row(_LAST)
    assert found is not None
    return (found[0] or 0) + 1


def add(tx: Transaction, rows: Sequence[AccountRow]) -> None:
    tx.write(_INSERT, [_sealed(tx, row) for row in rows])


def change(tx: Transaction, rows: Iterable[AccountRow]) -> None:
    """Everything but number, sums and the day of creation."""
    changed = []
    for row in rows:
        stored = _sealed(tx, row)
        changed.append({"account": row.id} | {f"new_{name}": stored[name] for name in _CHANGING})
    tx.write(_CHANGE, changed)


def credit(tx: Transaction, sums: Iterable[Credit]) -> None:
    """sums: one for each account."""
    tx.write(_CREDIT, [{"credits": listing(sums)}])


def rehash(tx: Transaction, account: AccountId, old: str, new: str) -> None:
    """Put `new` in the place of the hash `old`, unless the password was changed in the meantime."""
    tx.write(_REHASH, [{"account": account, "old": old, "new": new}])
