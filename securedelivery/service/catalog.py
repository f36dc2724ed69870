"""The catalogue: shown to customers, imported and exported by operators."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import msgspec

from securedelivery.errors import Reason, Refusal
from securedelivery.model import Cents, Product, ProductId, timestamp
from securedelivery.service import cursors
from securedelivery.service.batches import one_by_one
from securedelivery.service.profiles import by, check_admin
from securedelivery.service.session import Session
from securedelivery.store import audit, products
from securedelivery.store.audit import AuditEntry
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.products import ProductRow

CHUNK = 200
"""Products that an import writes in one transaction: some 20 ms, for which an order beside it may have to wait."""

PAUSE_SECONDS = 0.005  # between two chunks, more than twice store.writer.POLL_MILLISECONDS


class ProductEntry(msgspec.Struct, frozen=True):
    """A product as an operator describes it. stock: None leaves it as it is (0 for a new product)."""

    sku: str
    name: str
    description: str
    price: Cents
    stock: int | None
    active: bool


class _Put(msgspec.Struct, frozen=True):
    actor: Session | None
    entry: ProductEntry


class ImportSummary(msgspec.Struct, frozen=True):
    """How many products an import made, changed, and found to be the same already."""

    added: int
    changed: int
    unchanged: int


class Catalog:
    def __init__(self, database: Database, clock: Callable[[], datetime], currency: str) -> None:
        """clock: aware, UTC. currency: ISO 4217, of all prices."""
        self._database = database
        self._clock = clock
        self._currency = currency

    def list(
        self, *, query: str | None = None, after: str | None = None, limit: int = 50
    ) -> tuple[list[Product], str | None]:
        """Active products in the catalogue's order, that in which they first came in, and the cursor of what follows.

        query: words; each is to begin a word in sku, name or description, whatever the case and accents.
        """
        with self._database.read() as tx:
            number = 0
            if after is not None:
                last = products.by_sku(tx, cursors.decode("p", after))
                if last is None:
                    raise cursors.bad()
                number = last.id
            rows = products.active(tx, query, number, limit + 1)
        items = [self._shown(row) for row in rows[:limit]]
        return items, cursor_of(items[-1]) if len(rows) > limit else None

    def get(self, sku: str, *, inactive: bool = False) -> Product:
        """inactive: whether one that is not sold is shown, too; for customers it does not exist."""
        with self._database.read() as tx:
            row = products.by_sku(tx, sku)
        if row is None or not (row.active or inactive):
            raise Refusal(Reason.NOT_FOUND, f"there is no product {sku}", sku=sku)
        return self._shown(row)

    def put(self, actor: Session | None, entry: ProductEntry) -> Product:
        """Add a product, or put this in the place of what there is under its sku. actor: None for the operator."""
        return self._database.writer.call(self._put, _Put(actor, entry))

    def _put(self, tx: Transaction, commands: Sequence[_Put]) -> Sequence[Product | Refusal]:
        now = timestamp(self._clock())

        def put(command: _Put) -> Product:
            actor, entry = command.actor, command.entry
            check_admin(tx, actor)
            before = products.by_sku(tx, entry.sku)
            _put_chunk(tx, [entry])
            after = products.by_sku(tx, entry.sku)
            assert after is not None
            if after != before:
                who = None if actor is None else actor.account_id
                detail = msgspec.json.encode(_changes(before, after) | {"by": by(actor)}).decode()
                audit.append(tx, [AuditEntry(now, who, "product.put", f"product:{entry.sku}", detail)])
            return self._shown(after)

        return one_by_one(put, commands)

    def import_products(
        self, entries: Sequence[ProductEntry], progress: Callable[[int], None] = lambda _done: None
    ) -> ImportSummary:
        """Add new products and change those whose sku is known; none goes. progress: called with how many are done.

        In chunks with pauses, so that a running server's customers hardly wait: the database's lock goes to whoever
        asks first, not to who has waited longest. Interrupted, it can be repeated from the start.
        """
        added = changed = 0
        for start in range(0, len(entries), CHUNK):
            chunk = entries[start : start + CHUNK]
            summary = self._database.writer.call(_import, chunk)
            added += summary.added
            changed += summary.changed
            progress(start + len(chunk))
            time.sleep(PAUSE_SECONDS)
        return ImportSummary(added, changed, len(entries) - added - changed)

    def fill(self, entries: Sequence[ProductEntry]) -> int:
        """Add all products, or none where there are some already: a restart must not put sold parts back.

        Returns how many were added. In one transaction, so that an interrupted one leaves nothing half filled.
        """
        return self._database.writer.call(_fill, entries)

    def export(self) -> Iterator[Product]:
        """Every product, active or not, in the catalogue's order, as of one moment. Use it up soon: see
        Database.read.
        """
        with self._database.read() as tx:
            for row in products.everything(tx):
                yield self._shown(row)

    def _shown(self, row: ProductRow) -> Product:
        return Product(
            sku=row.sku,
            name=row.name,
            description=row.description,
            price=row.price,
            currency=self._currency,
            stock=row.stock,
            active=bool(row.active),
        )


def cursor_of(product: Product) -> str:
    """Where a list goes on behind this product."""
    return cursors.encode("p", product.sku)


def _fill(tx: Transaction, commands: Sequence[Sequence[ProductEntry]]) -> list[int]:
    return [_put_chunk(tx, entries).added if products.next_id(tx) == 1 else 0 for entries in commands]


def _import(tx: Transaction, chunks: Sequence[Sequence[ProductEntry]]) -> Sequence[ImportSummary | Refusal]:
    return [_put_chunk(tx, chunk) for chunk in chunks]


def _changes(before: ProductRow | None, after: ProductRow) -> dict[str, object]:
    """For the audit: what has changed; of the numbers also from what to what (from null: it is new)."""
    fields = [name for name in ProductRow._fields if before is None or getattr(before, name) != getattr(after, name)]
    detail: dict[str, object] = {"fields": [name for name in fields if name != "id"]}
    for name in ("price", "stock", "active"):
        if name in fields:
            detail[name] = [None if before is None else getattr(before, name), getattr(after, name)]
    return detail


def _put_chunk(tx: Transaction, entries: Sequence[ProductEntry]) -> ImportSummary:
    known = products.by_skus(tx, [entry.sku for entry in entries])
    number = products.next_id(tx)
    added: list[ProductRow] = []
    changed: list[ProductRow] = []
    for entry in entries:
        before = known.get(entry.sku)
        stock = entry.stock if entry.stock is not None else 0 if before is None else before.stock
        identifier = ProductId(number) if before is None else before.id
        row = ProductRow(identifier, entry.sku, entry.name, entry.description, entry.price, stock, entry.active)
        if before is None:
            number += 1
            added.append(row)
        elif row != before:
            changed.append(row)
    products.add(tx, added)
    products.change(tx, changed)
    return ImportSummary(len(added), len(changed), len(entries) - len(added) - len(changed))
