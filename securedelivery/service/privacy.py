"""What is stored of an account, for its owner to see, and its end."""

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from securedelivery.errors import Reason, Refusal
from securedelivery.model import Timestamp, timestamp
from securedelivery.service import chat, cursors, outbox
from securedelivery.service.accounts import Accounts
from securedelivery.service.audits import NAMING, detail_of
from securedelivery.service.batches import one_by_one
from securedelivery.service.chat import Chat
from securedelivery.service.events import AccountChanged
from securedelivery.service.profiles import entry, usable
from securedelivery.service.session import Session
from securedelivery.store import accounts, audit, orders, personal, web_sessions
from securedelivery.store.accounts import AccountRow
from securedelivery.store.engine import Database, Transaction

PAGE = 50
"""Things that an export reads at once. Not all of them may fit a frame; what does not is read once more."""

_KEY = re.compile(r"([a-z]+):(\d{1,16})/(\d{1,16})", re.ASCII)


class Exported(NamedTuple):
    """kind, and what it is:

    account   the Account                order    an Order, with its delivery code
    points    a PointsEntry              message  a Message, of the account's conversation or written by it elsewhere
    event     of the audit: {at, action, detail}, without who else was concerned

    cursor: where the export goes on behind it.
    """

    kind: str
    payload: Any
    cursor: str


_Found = Iterator[tuple[str, Any, tuple[int, int]]]
_Part = Callable[[Transaction, AccountRow, tuple[int, int], int], _Found]
"""Gives up to so many things behind a key, ascending, as kind, payload and key."""

_BEGINNING = (0, 0)


class Privacy:
    def __init__(self, database: Database, clock: Callable[[], datetime], accounts: Accounts, chat: Chat) -> None:
        """clock: aware, UTC."""
        self._database = database
        self._clock = clock
        self._accounts = accounts
        self._chat = chat
        # By the names that stand in cursors, in the order of the export.
        self._parts: dict[str, _Part] = {
            "account": self._profile,
            "order": _orders,
            "points": _points,
            "message": self._messages,
            "answer": _answers,
            "event": _events,
        }

    def export(self, session: Session, after: str | None = None) -> tuple[list[Exported], str | None]:
        """All that is stored of the account, part by part, each part ascending; and the cursor of what follows.

        That the account asked is part of it. What comes to it meanwhile is part of it or not, nothing comes twice.
        """
        if after is None:
            self._database.writer.call(self._note, session)
        parts = list(self._parts)
        part, key = (parts[0], _BEGINNING) if after is None else _place(after, parts)
        items: list[Exported] = []
        with self._database.read() as tx:
            row = usable(accounts.by_id(tx, session.account_id), session)
            for name in parts[parts.index(part) :]:
                behind = key if name == part else _BEGINNING
                for kind, payload, place in self._parts[name](tx, row, behind, PAGE + 1 - len(items)):
                    items.append(Exported(kind, payload, _cursor(name, place)))
                if len(items) > PAGE:
                    return items[:PAGE], items[PAGE - 1].cursor
        return items, None

    def _note(self, tx: Transaction, sessions: Sequence[Session]) -> list[bool | Refusal]:
        now = timestamp(self._clock())

        def note(session: Session) -> bool:
            row = usable(accounts.by_id(tx, session.account_id), session)
            audit.append(tx, [entry(now, session, "account.exported", row)])
            return True

        return one_by_one(note, sessions)

    def _profile(self, _tx: Transaction, row: AccountRow, after: tuple[int, int], _count: int) -> _Found:
        if after == _BEGINNING:
            yield "account", self._accounts.shown(row), (1, 0)

    def _messages(self, tx: Transaction, row: AccountRow, after: tuple[int, int], count: int) -> _Found:
        for each in self._chat.of_customer(tx, row.id, after[1], count)[0]:
            yield "message", each, (each.conversation, each.sequence)

    def delete(self, session: Session, password: str | None = None, *, remote: str) -> None:
        """End the account for ever. password: where one is set; remote: the peer's IP address, without the port.

        Its names, addresses and words are erased; orders, points and the audit stay under a pseudonym, for the books.
        The last admin may go as well: the operator at the machine makes another. Raises Refusal bad_credentials,
        rate_limited; open_orders while an order of the account's is on its way, or it is on the way with one.
        """
        self._accounts.prove(session, password, doing="delete", remote=remote)
        self._database.writer.call(self._delete, session)
        self._database.checkpoint()  # what was erased still stands in the file, and in the log, until then

    def _delete(self, tx: Transaction, sessions: Sequence[Session]) -> list[bool | Refusal]:
        now = timestamp(self._clock())
        return one_by_one(lambda session: _end(tx, session, now), sessions)


def _end(tx: Transaction, session: Session, now: Timestamp) -> bool:
    row = usable(accounts.by_id(tx, session.account_id), session)
    if orders.open_ones(tx, row.id):
        raise Refusal(Reason.OPEN_ORDERS, "an order is still on its way; cancel it, or wait for it, then delete")
    if orders.carried_by(tx, row.id):
        raise Refusal(Reason.OPEN_ORDERS, "you are still on the way with an order; deliver it first")
    after = row._replace(
        username=_pseudonym(tx),
        name=None,
        email=None,
        address=None,
        certificate=None,
        password=None,
        certificate_required=False,
        disabled=True,
        credentials=row.credentials + 1,
        deleted_at=now,
    )
    accounts.change(tx, [after])
    accounts.retire(tx, row.username)
    web_sessions.end_all(tx, row.id)
    orders.erase(tx, row.id)
    outbox.withdraw(tx, row.id, now)
    chat.erase(tx, row.id, now)
    chat.release_all(tx, row.id, now)
    audit.append(tx, [entry(now, session, "account.deleted", after)])
    tx.publish(AccountChanged(row.id))
    return True


def _pseudonym(tx: Transaction) -> str:
    """Not a name that anybody could choose."""
    while True:
        name = f"deleted~{secrets.token_hex(4)}"
        if accounts.by_username(tx, name) is None:
            return name


def _orders(tx: Transaction, row: AccountRow, after: tuple[int, int], count: int) -> _Found:
    numbers = personal.order_numbers(tx, row.id, after[0], count)
    found = orders.load(tx, numbers)
    for number in numbers:
        yield "order", found[number].order, (number, 0)


def _points(tx: Transaction, row: AccountRow, after: tuple[int, int], count: int) -> _Found:
    for each in personal.points(tx, row.id, after[0], count):
        yield "points", each, (each.entry, 0)


def _answers(tx: Transaction, row: AccountRow, after: tuple[int, int], count: int) -> _Found:
    for each in personal.answers(tx, row.id, after, count):
        yield "message", each, (each.conversation, each.sequence)


def _events(tx: Transaction, row: AccountRow, after: tuple[int, int], count: int) -> _Found:
    for number, stored, _ in audit.of_account(tx, row.id, after[0], count):
        detail = {key: value for key, value in detail_of(stored).items() if key not in NAMING}
        yield "event", {"at": stored.at, "action": stored.action, "detail": detail}, (number, 0)


def _cursor(part: str, key: tuple[int, int]) -> str:
    return cursors.encode("x", f"{part}:{key[0]}/{key[1]}")


def _place(cursor: str, parts: Sequence[str]) -> tuple[str, tuple[int, int]]:
    found = _KEY.fullmatch(cursors.decode("x", cursor))
    if found is None or found[1] not in parts:
        raise cursors.bad()
    return found[1], (int(found[2]), int(found[3]))
