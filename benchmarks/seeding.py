"""A database of a shop that has been at work: so many orders, as many messages, 100,000 products.

    python -m benchmarks.seeding FILE [--orders N] [--products N]

The services themselves have placed and advanced what stands in it, and said it, in large batches; so sealed cells,
points and the audit's chain are what they would be. Customers come in random turn over most of a year, so what belongs
to one of them lies all over the file. bench0 to bench63 are customers with a certificate, and with 10 orders and 10
messages each, in a small shop as in a large one.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TypeVar

import msgspec
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from benchmarks import order
from securedelivery.errors import Refusal
from securedelivery.model import AccountId, Cents, ConversationId, OrderStatus, Role, timestamp
from securedelivery.service.catalog import Catalog, ProductEntry
from securedelivery.service.chat import Chat, ConversationCommand, SendCommand
from securedelivery.service.orders import AdvanceCommand, Orders, PlaceCommand
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session
from securedelivery.store import accounts
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.vault import Vault

__all__ = ["EVERYWHERE", "OF_A_CLIENT", "SMALLEST", "catalogue", "populate", "stock"]

OF_A_CLIENT = 10
"""Orders, and messages, of each of bench0 to bench63."""

SMALLEST = order.CUSTOMERS * OF_A_CLIENT + 100

EVERYWHERE = "computer"
"""A word in the description of each product."""

_OF_A_CUSTOMER = 20  # orders, and messages, on average
_OF_A_REGULAR = 1_000  # of one customer in a thousand
_AT_ONCE = 2_000
_DAYS = 300  # fewer than points live: none expire while something is measured
_DELIVERED = 10  # one order of so many
_ANSWERS = 4  # one message of so many is the shop's
_WORDS = 4_000
_AGENTS = 4
_SEED = 20_261_122
_STEPS = (OrderStatus.CONFIRMED, OrderStatus.PACKED, OrderStatus.OUT_FOR_DELIVERY, OrderStatus.DELIVERED)

Result = TypeVar("Result")


class _Line(msgspec.Struct, frozen=True):
    sku: str
    quantity: int


class _Clock:
    """Goes from the shop's beginning to now, as far as the seeding is done."""

    def __init__(self) -> None:
        self._end = datetime.now(UTC)
        self.done = 0.0  # of 1

    def __call__(self) -> datetime:
        return self._end - timedelta(days=_DAYS) * (1 - self.done)


def stock(path: Path, products: int) -> None:
    """Make a database with a catalogue and nothing else, and its key beside it."""
    with Database.open(f"sqlite:///{path}") as database:
        Catalog(database, _Clock(), order.CURRENCY).fill(list(catalogue(products)))


def populate(path: Path, count: int, trust_domain: str = "securedelivery.local") -> None:
    """Into a database that stock() has made: so many orders and as many messages, at least SMALLEST."""
    clock = _Clock()
    with Database.open(f"sqlite:///{path}") as database:
        vault = database.vault
        orders = Orders(database, clock, RewardRules(), order.CURRENCY)
        chat = Chat(database, clock, lambda _events: None)
    at_once = min(_AT_ONCE, count // 20)
    with _alone(path, vault) as tx:
        crowd = _Crowd(tx, orders, chat, count, f"spiffe://{trust_domain}/account/")
        buyers, talkers = crowd.turns(), crowd.turns()
        for start in range(0, count, at_once):
            clock.done = start / count
            crowd.place(buyers[start : start + at_once])
            crowd.talk(talkers[start : start + at_once])
            tx.events.clear()


@contextmanager
def _alone(path: Path, vault: Vault) -> Iterator[Transaction]:
    """One transaction without a journal: a database that was not finished is worth nothing."""
    engine = create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=OFF", "synchronous=OFF", "cache_size=-4000000"):
            connection.exec_driver_sql(f"PRAGMA {pragma}").close()
        tx = Transaction(connection, vault)
        tx.control("BEGIN EXCLUSIVE")
        yield tx
        tx.control("COMMIT")
        connection.exec_driver_sql("PRAGMA journal_mode=WAL").close()
    engine.dispose()


class _Crowd:
    """Those who order, talk and answer."""

    def __init__(self, tx: Transaction, orders: Orders, chat: Chat, count: int, identities: str) -> None:
        """identities: what goes before the name of a client in its certificate."""
        self._tx = tx
        self._random = Random(_SEED)
        self._orders = orders
        self._chat = chat
        self._count = count
        self._words = [_word(self._random) for _ in range(_WORDS)]
        (self._admin,) = self._accounts(["admin"], Role.ADMIN)
        (self._courier,) = self._accounts(["courier"], Role.COURIER)
        self._agents = self._accounts([f"agent{n}" for n in range(_AGENTS)], Role.AGENT)
        # Between the others, at equal distances: what follows from an account's number is not side by side either.
        between = (count - order.CUSTOMERS * OF_A_CLIENT) // _OF_A_CUSTOMER // order.CUSTOMERS
        self._clients: list[Session] = []
        self._others: list[Session] = []
        for number in range(order.CUSTOMERS):
            self._clients += self._accounts([order.customer(number)], Role.CUSTOMER, identities)
            names = [f"customer{number}-{n}" for n in range(max(between, 1))]
            self._others += self._accounts(names, Role.CUSTOMER)
        self._said: Counter[AccountId] = Counter()
        self._conversations: dict[AccountId, ConversationId] = {}

    def _accounts(self, names: Sequence[str], role: Role, identities: str | None = None) -> list[Session]:
        """Without passwords; without identities, also without certificates."""
        now = timestamp(_Clock()())
        rows = [
            accounts.AccountRow(
                AccountId(number), name, role, None, None, f"{number} {order.ADDRESS}"[:60],
                None if identities is None else identities + name, None,
                certificate_required=False, disabled=False,
                mail_receipts=True, mail_summaries=True, mail_missed_chat=True,
                order_count=0, points=0, ledger_entries=0, created_at=now,
            )
            for number, name in enumerate(names, start=accounts.next_id(self._tx))
        ]  # fmt: skip
        accounts.add(self._tx, rows)
        return [Session(row.id, row.username, role) for row in rows]

    def turns(self) -> list[Session]:
        """Who has it when; as many as there will be orders."""
        regulars = self._others[: len(self._others) // 1_000]
        turns = self._clients * OF_A_CLIENT + regulars * _OF_A_REGULAR
        turns += self._random.choices(self._others, k=self._count - len(turns))
        self._random.shuffle(turns)
        return turns

    def place(self, turns: Sequence[Session]) -> None:
        """An order for each turn; some of them go all the way."""
        random = self._random
        commands = [PlaceCommand(session, self._key(), self._lines()) for session in turns]
        placed = _all(self._orders.place(self._tx, commands))
        numbers = [one.order for one in placed if not random.randrange(_DELIVERED)]
        for step in _STEPS:
            courier = self._courier.username if step is OrderStatus.OUT_FOR_DELIVERY else None
            note = "handed over at the door" if step is OrderStatus.DELIVERED else None
            steps = [AdvanceCommand(self._admin, number, step, courier, note) for number in numbers]
            _all(self._orders.advance(self._tx, steps))

    def talk(self, turns: Sequence[Session]) -> None:
        """A message for each turn; each fourth of a conversation is an answer, with which it is resolved."""
        commands = [self._message(session) for session in turns]
        messages = _all(self._chat.send(self._tx, commands))
        for command, message in zip(commands, messages, strict=True):
            self._conversations.setdefault(command.session.account_id, message.conversation)
        answered = {command.conversation for command in commands if command.conversation is not None}
        resolved = [ConversationCommand(self._admin, conversation) for conversation in sorted(answered)]
        _all(self._chat.resolve(self._tx, resolved))

    def _message(self, customer: Session) -> SendCommand:
        self._said[customer.account_id] += 1
        text = " ".join(self._random.choices(self._words, k=self._random.randint(3, 20)))
        if self._said[customer.account_id] % _ANSWERS == 0:
            conversation = self._conversations.get(customer.account_id)
            if conversation is not None:
                return SendCommand(self._agents[conversation % _AGENTS], text, self._key(), conversation)
        return SendCommand(customer, text, self._key())

    def _key(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def _lines(self) -> list[_Line]:
        wanted = self._random.sample(order.PRODUCTS, 2)
        return [_Line(product.sku, self._random.randint(1, 3)) for product in wanted]


def _all(outcomes: Sequence[Result | Refusal]) -> list[Result]:
    """None may have been refused."""
    results = []
    for outcome in outcomes:
        if isinstance(outcome, Refusal):
            raise outcome
        results.append(outcome)
    return results


def catalogue(count: int) -> Iterator[ProductEntry]:
    """First the products that are ordered, then others, of made-up words, with something of all in common."""
    random = Random(_SEED)
    words = [_word(random) for _ in range(_WORDS)]
    for product in order.PRODUCTS:
        about = f"A {EVERYWHERE} part."
        yield ProductEntry(product.sku, product.name, about, Cents(product.price), order.STOCK, active=True)
    for number in range(len(order.PRODUCTS), count):
        some = random.choices(words, k=14)
        yield ProductEntry(
            sku=f"PART-{number:06d}",
            name=" ".join(some[:3]).title(),
            description=f"{' '.join(some[3:])}, for every {EVERYWHERE}",
            price=Cents(random.randint(5, 2_000) * 100 - 1),
            stock=random.randint(0, 100),
            active=True,
        )


def _word(random: Random) -> str:
    """Of 4 to 8 letters."""
    return "".join(random.choice("bdfgklmnprstvz") + random.choice("aeiou") for _ in range(random.randint(2, 4)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--orders", type=int, default=1_000_000)
    parser.add_argument("--products", type=int, default=100_000)
    options = parser.parse_args()
    began = time.monotonic()
    stock(options.file, options.products)
    populate(options.file, options.orders)
    print(f"{options.orders:,} orders and as many messages in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
