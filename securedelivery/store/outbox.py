"""Mail that is to leave: rows that say what it tells of, and what has become of it."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, bindparam, delete, func, insert, literal_column, null, select, update

from securedelivery.model import AccountId, MailKind, MailRoute, MailState, OrderId, Timestamp
from securedelivery.store.engine import Transaction
from securedelivery.store.schema import accounts, mail_routes, orders, outbox
from securedelivery.store.statements import Parameters, Statement, listed, listed_rows, listing
from securedelivery.store.vault import Sealed

ANSWER = Sealed("outbox", "answer")


class OutboxRow(NamedTuple):
    """account_id: to whom; None for the operator. due_at: of one that waits, the next try; of one that is being sent,
    the end of the claim; else since when it is so. interrupted: attempts of which nobody knows how they ended.
    tried_since: when the tries began that count. answer: what came of the last one, plain.
    """

    id: int
    kind: MailKind
    account_id: AccountId | None
    order_id: OrderId | None
    period: str | None
    up_to: int | None
    state: MailState
    attempts: int
    interrupted: int
    created_at: Timestamp
    due_at: Timestamp
    tried_since: Timestamp | None
    answer: str | None


class Settlement(NamedTuple):
    """What has become of a row. due_at: as in OutboxRow; interrupted: whether it may have gone out all the same."""

    number: int
    state: MailState
    due_at: Timestamp
    answer: str
    interrupted: bool = False


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
_columns = [outbox.c[name] for name in OutboxRow._fields]
_is_state = outbox.c.state.in_(listed("states"))
# Literals, for the planner takes a partial index only where it sees the index's own condition.
_open = outbox.c.state.in_([literal_column("'waiting'"), literal_column("'sending'")])
_of_route = outbox.c.route == bindparam("of_route")
_NEXT = Statement(
    select(*_columns)
    .where(_open, _of_route, outbox.c.due_at <= bindparam("now"))
    .order_by(outbox.c.due_at, outbox.c.id)
    .limit(literal_column("1"))
)
_NEXT_DUE = Statement(select(func.min(outbox.c.due_at)).where(_open, _of_route))
_by_number = outbox.c.id == bindparam("number")
_CLAIM = Statement(
    update(outbox)
    .where(_by_number)
    .values(
        state=literal_column("'sending'"),
        node=bindparam("by_node"),
        due_at=bindparam("until"),
        attempts=outbox.c.attempts + literal_column("1"),
        interrupted=outbox.c.interrupted + bindparam("more_interrupted"),
        tried_since=func.coalesce(outbox.c.tried_since, bindparam("now")),
    )
)
_SETTLE = Statement(
    update(outbox)
    .where(_by_number)
    .values(
        state=bindparam("new_state"),
        node=null(),
        due_at=bindparam("new_due_at"),
        interrupted=outbox.c.interrupted + bindparam("more_interrupted"),
        answer=bindparam("cell"),
    )
)
_CLAIMED = Statement(
    select(literal_column("1")).where(
        _by_number, outbox.c.state == literal_column("'sending'"), outbox.c.node == bindparam("by_node")
    )
)
_RELEASE = Statement(
    update(outbox)
    .where(_open, outbox.c.state == literal_column("'sending'"))
    .values(
        state=literal_column("'waiting'"),
        node=null(),
        due_at=bindparam("now"),
        interrupted=outbox.c.interrupted + literal_column("1"),
    )
)
_SENDING = Statement(select(func.count()).where(_open, outbox.c.state == literal_column("'sending'")))
_PAGE = Statement(
    select(*_columns).where(_is_state, outbox.c.id > bindparam("after")).order_by(outbox.c.id).limit(bindparam("count"))
)
_BY_NUMBERS = Statement(select(*_columns).where(outbox.c.id.in_(listed("numbers"))).order_by(outbox.c.id))
_COUNTS = Statement(select(outbox.c.route, outbox.c.state, func.count()).group_by(outbox.c.route, outbox.c.state))
_in_state = select(outbox.c.id).where(_is_state).order_by(outbox.c.id)
_IN_STATE = Statement(_in_state)
_RETRY = Statement(
    update(outbox)
    .where(
        outbox.c.id.in_(listed("numbers")),
        outbox.c.state.not_in([literal_column("'sending'"), literal_column("'sent'")]),
    )
    .values(state=literal_column("'waiting'"), due_at=bindparam("now"), tried_since=null())
)
_BEHIND = Statement(
    select(outbox.c.id, outbox.c.state, outbox.c.created_at, outbox.c.due_at)
    .where(outbox.c.id > bindparam("after"))
    .order_by(outbox.c.id)
    .limit(bindparam("count"))
)
_FORGET = Statement(delete(outbox).where(outbox.c.id.in_(listed("numbers")), ~_open))
_PULL = Statement(
    update(outbox)
    .where(_open, outbox.c.state == literal_column("'waiting'"), outbox.c.due_at > bindparam("beyond"))
    .values(due_at=bindparam("now"))
)
_FAR = Statement(
    select(func.count()).where(
        _open, outbox.c.state == literal_column("'waiting'"), outbox.c.due_at > bindparam("beyond")
    )
)
_LEFT = Statement(
    select(outbox.c.id).where(
        _open, _of_route, outbox.c.state == literal_column("'waiting'"), outbox.c.created_at < bindparam("before")
    )
)
_HOLD = Statement(
    update(outbox)
    .where(_by_number)
    .values(state=literal_column("'failed'"), due_at=bindparam("now"), answer=bindparam("cell"))
)
_of_account = outbox.c.account_id == bindparam("account")
_WITHDRAW = Statement(
    update(outbox)
    .where(_open, _of_account)
    .values(state=literal_column("'withdrawn'"), node=null(), due_at=bindparam("now"))
)
# Answers may quote the address. By the order's indexes, for the outbox has none of the account.
_ERASE = Statement(
    update(outbox)
    .where(
        outbox.c.order_id.in_(select(orders.c.id).where(orders.c.account_id == bindparam("account"))),
        outbox.c.answer.is_not(None),
    )
    .values(answer=null())
)
_ERASE_OTHERS = Statement(
    update(outbox).where(outbox.c.order_id.is_(None), _of_account, outbox.c.answer.is_not(None)).values(answer=null())
)
_ROUTES = Statement(select(mail_routes.c.route, mail_routes.c.since))
_USE = Statement(insert(mail_routes).values({name: bindparam(name) for name in ("route", "since")}))
_DISUSE = Statement(delete(mail_routes).where(mail_routes.c.route == bindparam("of_route")))


def add_receipts(tx: Transaction, receipts: Sequence[Receipt], at: Timestamp) -> None:
    """For those of the customers who have an address and want receipts."""
    if receipts:
        tx.write(_ADD_RECEIPTS, [{"receipts": listing(receipts), "at": at}])


def claim(tx: Transaction, route: MailRoute, node: str, now: Timestamp, until: Timestamp) -> OutboxRow | None:
    """The row that has been due for longest, which is this node's until then; None where none is due.

    One that another sender had, and did not settle in its time, counts as interrupted.
    """
    found = tx.row(_NEXT, {"of_route": route.value, "now": now})
    if found is None:
        return None
    row = _row(tx, found)
    interrupted = int(row.state is MailState.SENDING)
    tx.write(_CLAIM, [{"number": row.id, "by_node": node, "until": until, "more_interrupted": interrupted, "now": now}])
    return row._replace(
        state=MailState.SENDING,
        due_at=until,
        attempts=row.attempts + 1,
        interrupted=row.interrupted + interrupted,
        tried_since=row.tried_since or now,
    )


def settle(tx: Transaction, node: str, ended: Settlement) -> bool:
    """For a row that this node has claimed. False where it has it no more: somebody else sees to it."""
    if tx.row(_CLAIMED, {"number": ended.number, "by_node": node}) is None:
        return False
    row: Parameters = {
        "number": ended.number,
        "new_state": ended.state.value,
        "new_due_at": ended.due_at,
        "more_interrupted": int(ended.interrupted),
        "cell": tx.vault.seal(ANSWER, ended.number, ended.answer),
    }
    tx.write(_SETTLE, [row])
    return True


def next_due(tx: Transaction, route: MailRoute) -> Timestamp | None:
    """When the first row is due, or its claim ends."""
    found = tx.row(_NEXT_DUE, {"of_route": route.value})
    assert found is not None
    due: Timestamp | None = found[0]
    return due


def release(tx: Transaction, now: Timestamp) -> int:
    """Have all rows wait that somebody was sending; how many there were."""
    found = tx.row(_SENDING)
    assert found is not None
    tx.write(_RELEASE, [{"now": now}])
    return int(found[0])


def page(tx: Transaction, states: Iterable[MailState], after: int, count: int) -> list[OutboxRow]:
    """Up to `count` rows in these states, numbered above `after`, ascending."""
    rows = tx.rows(_PAGE, {"states": listing(states), "after": after, "count": count})
    return [_row(tx, row) for row in rows]


def by_numbers(tx: Transaction, numbers: Iterable[int]) -> list[OutboxRow]:
    """Those that exist, ascending."""
    return [_row(tx, row) for row in tx.rows(_BY_NUMBERS, {"numbers": listing(numbers)})]


def counts(tx: Transaction) -> dict[tuple[MailRoute, MailState], int]:
    return {(MailRoute(route), MailState(state)): count for route, state, count in tx.rows(_COUNTS)}


def in_state(tx: Transaction, state: MailState) -> list[int]:
    """The numbers of all rows in this state."""
    return [number for (number,) in tx.rows(_IN_STATE, {"states": listing([state])})]


def retry(tx: Transaction, numbers: Iterable[int], now: Timestamp) -> None:
    """Those that are neither sent nor being sent are due now."""
    tx.write(_RETRY, [{"numbers": listing(numbers), "now": now}])


class Age(NamedTuple):
    number: int
    state: MailState
    created_at: Timestamp
    due_at: Timestamp


def ages(tx: Transaction, after: int, count: int) -> list[Age]:
    """Up to `count` rows numbered above `after`, ascending; which is about the order of time."""
    rows = tx.rows(_BEHIND, {"after": after, "count": count})
    return [Age(number, MailState(state), *times) for number, state, *times in rows]


def forget(tx: Transaction, numbers: Iterable[int]) -> None:
    """Take out those that are settled."""
    tx.write(_FORGET, [{"numbers": listing(numbers)}])


def pull(tx: Transaction, beyond: Timestamp, now: Timestamp) -> int:
    """Have those tried now that wait for a time behind `beyond`; how many there were."""
    found = tx.row(_FAR, {"beyond": beyond})
    assert found is not None
    if found[0]:
        tx.write(_PULL, [{"beyond": beyond, "now": now}])
    return int(found[0])


def hold(tx: Transaction, route: MailRoute, before: Timestamp, now: Timestamp, answer: str) -> int:
    """Have those of the route fail that have been waiting for longer; how many there were."""
    numbers = [number for (number,) in tx.rows(_LEFT, {"of_route": route.value, "before": before})]
    seal = tx.vault.seal
    tx.write(_HOLD, [{"number": number, "now": now, "cell": seal(ANSWER, number, answer)} for number in numbers])
    return len(numbers)


def withdraw(tx: Transaction, account: AccountId, now: Timestamp) -> None:
    """The account is being deleted: nothing goes there any more, and no answer about its address stays."""
    tx.write(_WITHDRAW, [{"account": account, "now": now}])
    tx.write(_ERASE, [{"account": account}])
    tx.write(_ERASE_OTHERS, [{"account": account}])


def _row(tx: Transaction, stored: Sequence[Any]) -> OutboxRow:
    row = OutboxRow(*stored)
    answer: Any = row.answer
    return row._replace(
        kind=MailKind(row.kind), state=MailState(row.state), answer=tx.vault.open(ANSWER, row.id, answer)
    )


def routes(tx: Transaction) -> dict[MailRoute, Timestamp]:
    """Those in use, and since when."""
    return {MailRoute(route): since for route, since in tx.rows(_ROUTES)}


def use(tx: Transaction, route: MailRoute, since: Timestamp) -> None:
    """Raises the database's error for a route that is in use already."""
    tx.write(_USE, [{"route": route.value, "since": since}])


def disuse(tx: Transaction, route: MailRoute) -> None:
    tx.write(_DISUSE, [{"of_route": route.value}])
