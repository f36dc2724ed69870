"""Who is logged in on the web: rows by the digest of what the browser keeps."""

from typing import NamedTuple

from sqlalchemy import bindparam, delete, exists, insert, select, update

from securedelivery.model import AccountId, Timestamp
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import accounts, web_sessions
from securedelivery.store.statements import Statement


class WebSessionRow(NamedTuple):
    """digest: 32 bytes, SHA-256 of the token. credentials: the account's at the login. certified: whether it was opened
    on a connection with a certificate.
    """

    digest: bytes
    account_id: AccountId
    credentials: int
    certified: bool
    opened_at: Timestamp
    seen_at: Timestamp


_table = web_sessions.c
_BY_DIGEST = Statement(
    select(*(_table[name] for name in WebSessionRow._fields)).where(_table.digest == bindparam("of"))
)
_INSERT = Statement(insert(web_sessions))
_TOUCH = Statement(update(web_sessions).where(_table.digest == bindparam("of")).values(seen_at=bindparam("now")))
_END = Statement(delete(web_sessions).where(_table.digest == bindparam("of")))
_END_ALL = Statement(delete(web_sessions).where(_table.account_id == bindparam("account")))
_newest = (
    select(_table.digest)
    .where(_table.account_id == bindparam("account"))
    .order_by(_table.opened_at.desc())
    .limit(bindparam("count"))
)
_KEEP = Statement(delete(web_sessions).where(_table.account_id == bindparam("account"), _table.digest.not_in(_newest)))
_OVER = Statement(
    delete(web_sessions).where(
        (_table.seen_at < bindparam("idle"))
        | (_table.opened_at < bindparam("oldest"))
        | ~exists().where(accounts.c.id == _table.account_id, accounts.c.credentials == _table.credentials)
    )
)


def by_digest(tx: Transaction, digest: bytes) -> WebSessionRow | None:
    found = tx.row(_BY_DIGEST, {"of": digest})
    return None if found is None else WebSessionRow(*found)


def add(tx: Transaction, row: WebSessionRow, keep: int) -> None:
    """keep: of the account's sessions only so many, the newest, stay."""
    tx.write(_INSERT, [row._asdict()])
    tx.write(_KEEP, [{"account": row.account_id, "count": keep}])


def touch(tx: Transaction, digest: bytes, now: Timestamp) -> None:
    tx.write(_TOUCH, [{"of": digest, "now": now}])


def end(tx: Transaction, digest: bytes) -> None:
    tx.write(_END, [{"of": digest}])


def end_all(tx: Transaction, account: AccountId) -> None:
    tx.write(_END_ALL, [{"account": account}])


def forget(tx: Transaction, idle: Timestamp, oldest: Timestamp) -> None:
    """Take out those not seen since `idle`, those opened before `oldest`, and those of accounts that log in with
    something else now.
    """
    tx.write(_OVER, [{"idle": idle, "oldest": oldest}])
