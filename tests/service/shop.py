"""A shop on disk with a clock that stands still until it is moved."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from argon2 import Parameters
from argon2.low_level import Type

from securedelivery.model import AccountId, Order, Role, timestamp
from securedelivery.service.accounts import Accounts, AccountSettings
from securedelivery.service.catalog import Catalog, ProductEntry
from securedelivery.service.orders import Orders, PlaceCommand
from securedelivery.service.passwords import Passwords
from securedelivery.service.rewards import RewardRules, Rewards
from securedelivery.service.session import Session
from securedelivery.store import accounts
from securedelivery.store.engine import Database, Transaction

# Argon2 as cheap as it gets: what is tested here is who may log in, not how long it takes.
CHEAP = Parameters(type=Type.ID, version=19, salt_len=16, hash_len=32, time_cost=1, memory_cost=8, parallelism=1)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **amount: float) -> None:
        self.now += timedelta(**amount)


class Line(msgspec.Struct, frozen=True):
    sku: str
    quantity: int


@dataclass
class Shop:
    database: Database
    clock: Clock
    rules: RewardRules
    names_file: Path
    events: list[object] = field(default_factory=list)
    keys: int = 0

    def __post_init__(self) -> None:
        self.database.writer.on_commit = self.events.extend
        self.passwords = Passwords(profile=CHEAP)
        settings = AccountSettings(names_file=str(self.names_file))
        self.accounts = Accounts(self.database, self.clock, self.passwords, self.rules, settings)
        self.catalog = Catalog(self.database, "EUR")
        self.orders = Orders(self.database, self.clock, self.rules, "EUR")
        self.rewards = Rewards(self.database, self.rules)

    def stock(self, *products: tuple[str, int, int]) -> None:
        """products: (sku, price in cents, stock)"""
        self.catalog.import_products([entry(sku, price, stock) for sku, price, stock in products])

    def customer(self, username: str, role: Role = Role.CUSTOMER, address: str | None = "1 Road") -> Session:
        """Without the way through accounts.create: no password, no certificate, no audit."""

        def add(tx: Transaction, commands: Sequence[str]) -> list[Session]:
            row = accounts.AccountRow(
                AccountId(accounts.next_id(tx)), username, role, None, None, address, None, None,
                False, False, True, True, True, 0, 0, 0, timestamp(self.clock()),
            )  # fmt: skip
            accounts.add(tx, [row])
            return [Session(row.id, username, role) for _ in commands]

        return self.database.writer.call(add, username)

    def command(
        self,
        session: Session,
        *lines: tuple[str, int],
        key: str | None = None,
        address: str | None = None,
        redeem: int | None = None,
    ) -> PlaceCommand:
        if key is None:
            self.keys += 1
            key = f"key {self.keys}"
        return PlaceCommand(session, key, [Line(*line) for line in lines], address, redeem)

    def place(self, session: Session, *lines: tuple[str, int], **more: object) -> Order:
        return self.database.writer.call(self.orders.place, self.command(session, *lines, **more))  # type: ignore[arg-type]

    def place_batch(self, commands: Sequence[PlaceCommand]) -> Sequence[object]:
        """All in one batch, whatever the writer's timing."""
        whole = lambda tx, batches: [self.orders.place(tx, batch) for batch in batches]
        return self.database.writer.call(whole, commands)

    def sql(self, text: str) -> list[tuple[object, ...]]:
        """Reads what no service shows, or changes what none can."""

        def run(tx: Transaction, commands: Sequence[str]) -> list[list[tuple[object, ...]]]:
            results = [tx.connection.exec_driver_sql(command) for command in commands]
            return [[tuple(row) for row in result] if result.returns_rows else [] for result in results]

        return self.database.writer.call(run, text)


def entry(
    sku: str, price: int = 1000, stock: int | None = 10, *, name: str = "", description: str = "", active: bool = True
) -> ProductEntry:
    return ProductEntry(sku, name or f"Product {sku}", description, price, stock, active)
