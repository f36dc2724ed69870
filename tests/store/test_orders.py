"""Rows of orders: what is sealed, what is forgotten, and who is still waited for."""

import pytest
from service.shop import Clock, Shop

from securedelivery.errors import DamagedRow
from securedelivery.model import AccountId, Order, Role
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session
from securedelivery.store import orders
from securedelivery.store.engine import Database, Transaction

ADDRESS, NOTE, NEW_ADDRESS = "7 Planted Marker Road", "planted marker: the dog bites", "8 Planted Marker Lane"


@pytest.fixture
def shop(database: Database) -> Shop:
    shop = Shop(database, Clock(), RewardRules(), database.path.with_name("names.txt"))
    shop.stock(("GPU-1", 60_000, 1000))
    return shop


def placed(shop: Shop) -> tuple[Session, Session, Order]:
    """An order of alice's with an address and a note; and an agent."""
    alice, agnes = shop.customer("alice"), shop.customer("agnes", Role.AGENT)
    shop.customer("carl", Role.COURIER)
    order = shop.place(alice, ("GPU-1", 1), address=ADDRESS)
    shop.edit(alice, order.order, 1, address=NEW_ADDRESS)
    shop.advance(agnes, order.order, "confirmed", note=NOTE)
    return alice, agnes, shop.orders.get(alice, order.order)


def test_addresses_and_notes_cannot_be_read_in_the_files(shop: Shop) -> None:
    _, _, order = placed(shop)
    assert (order.address, order.history[-1].note) == (NEW_ADDRESS, NOTE)
    stored = b"".join(file.read_bytes() for file in shop.database.path.parent.glob("shop.db*"))
    assert b"order.confirmed" in stored  # so that it is these files
    assert b"lanted" not in stored
    cells = [bytes(cell) for (cell,) in shop.sql("SELECT address FROM orders UNION SELECT note FROM order_history")]  # type: ignore[call-overload]
    assert len(cells) == 3
    assert all(len(cell) > 28 for cell in cells)


@pytest.mark.parametrize(
    ("damage", "cell"),
    [
        ("UPDATE orders SET address = CAST(address || x'00' AS BLOB) WHERE id = 1", "orders.address:1"),
        ("UPDATE orders SET address = (SELECT address FROM orders WHERE id = 2) WHERE id = 1", "orders.address:1"),
        ("UPDATE order_history SET note = (SELECT note FROM order_history LIMIT 1)", "order_history.note:1/2"),
    ],
)
def test_a_cell_that_was_altered_or_moved_names_its_row(shop: Shop, damage: str, cell: str) -> None:
    alice, _, _ = placed(shop)
    shop.place(alice, ("GPU-1", 1), address=ADDRESS)
    shop.orders.get(alice, 1)
    shop.sql(damage)
    with pytest.raises(DamagedRow) as caught:
        shop.orders.get(alice, 1)
    assert caught.value.cell == cell
    assert shop.orders.get(alice, 2).address == ADDRESS


def erase(shop: Shop, account: Session) -> None:
    def run(tx: Transaction, commands: list[AccountId]) -> list[None]:
        return [orders.erase(tx, command) for command in commands]

    shop.database.writer.call(run, account.account_id)  # type: ignore[arg-type]


def test_what_is_erased(shop: Shop) -> None:
    alice, agnes, before = placed(shop)
    bob = shop.customer("bob")
    shop.place(bob, ("GPU-1", 1), address=ADDRESS)
    shop.edit(bob, 2, 1, address=NEW_ADDRESS)
    other = shop.orders.get(bob, 2)
    ((key,),) = shop.sql("SELECT idempotency_key FROM orders WHERE id = 1")
    erase(shop, alice)
    ((erased,), (kept,)) = shop.sql("SELECT idempotency_key FROM orders ORDER BY id")
    assert erased != key
    assert kept == shop.sql("SELECT idempotency_key FROM orders WHERE id = 2")[0][0]
    after = shop.orders.get(alice, 1)
    assert after.address == ""
    assert [entry.note for entry in after.history] == [None, None, None]
    assert [(entry.status, entry.by) for entry in after.history] == [(e.status, e.by) for e in before.history]
    assert shop.sql("SELECT count(*) FROM orders WHERE address IS NULL") == [(1,)]
    assert shop.orders.get(bob, 2) == other
    # It can still come to its end, and that brings no address back.
    shop.cancel(agnes, 1, "unreachable")
    assert shop.sql("SELECT count(*) FROM orders WHERE address IS NULL") == [(1,)]
    assert shop.orders.get(alice, 1).history[-1].note == "unreachable"


def test_who_waits_and_who_is_on_the_way(shop: Shop) -> None:
    alice, adam = shop.customer("alice"), shop.customer("adam", Role.ADMIN)
    carl = shop.customer("carl", Role.COURIER)

    def state() -> tuple[bool, bool]:
        with shop.database.read() as tx:
            assert not orders.open_ones(tx, carl.account_id)
            assert not orders.carried_by(tx, alice.account_id)
            return orders.open_ones(tx, alice.account_id), orders.carried_by(tx, carl.account_id)

    assert state() == (False, False)
    expected = {"out_for_delivery": (True, True), "delivered": (False, False), "returned": (False, False)}
    shop.place(alice, ("GPU-1", 1))
    shop.advance(adam, 1, "placed")
    for status in ("placed", "confirmed", "packed", "out_for_delivery", "delivered", "returned"):
        shop.advance(adam, 1, status, "carl", "note")
        assert state() == expected.get(status, (True, False))
    shop.place(alice, ("GPU-1", 1))
    assert state() == (True, False)
    shop.cancel(alice, 2)
    assert state() == (False, False)


def plan(shop: Shop, statement: object, parameters: dict[str, object]) -> str:
    rendered = statement.render("sqlite")  # type: ignore[attr-defined]
    with shop.database.read() as tx:
        cursor = tx.connection.connection.cursor()
        cursor.execute(f"EXPLAIN QUERY PLAN {rendered.sql}", rendered.positions(parameters))
        return "\n".join(str(row[3]) for row in cursor.fetchall())


def test_no_statement_reads_whole_tables(shop: Shop) -> None:
    from securedelivery.store import rewards

    alice, agnes, _ = placed(shop)
    for number in range(2, 60):
        shop.place(alice, ("GPU-1", 1), redeem=number)
        shop.advance(agnes, number, "confirmed", "carl")
    listed = {
        "ids": "[1]",
        "since": "[[1, 0]]",
        "orders": "[1]",
        "reasons": '["earned"]',
        "names": '["carl"]',
        "statuses": '["packed"]',
    }
    values = listed | {"account": 1, "number": 1, "new_key": "k", "courier": 3, "before": 99, "count": 9, "now": "2027"}
    statements = [
        getattr(orders, name) for name in ("_LOAD", "_LINES", "_HISTORY", "_PARTIES", "_CARRIED", "_ANY_OPEN")
    ]
    statements += [getattr(orders, name) for name in ("_OWN", "_FORGET", "_FORGET_NOTES")]
    statements += [getattr(rewards, name) for name in ("_HOLDERS", "_LOTS", "_TRACES", "_DUE_ACCOUNTS", "_HISTORY")]
    shop.sql("ANALYZE")
    for statement in statements:
        steps = plan(shop, statement, values)
        scans = [step for step in steps.splitlines() if step.startswith("SCAN") and "json_each" not in step]
        assert [step for step in scans if "VIRTUAL TABLE" not in step and "CONSTANT ROW" not in step] == [], steps


def test_lots_are_read_back_to_where_the_balance_is_found(shop: Shop) -> None:
    """What was used up long ago is not read again, and one who owes has none."""
    from securedelivery.store import rewards

    alice, *_ = placed(shop)
    for number in range(4):
        shop.place(alice, ("GPU-1", 1), redeem=1 if number == 3 else None)
    account = alice.account_id
    with shop.database.read() as tx:
        (holder,) = rewards.holders(tx, [account])
        whole = rewards.lots(tx, {account: holder.points})[account]
        assert sum(lot.remaining for lot in whole) == holder.points
        assert rewards.lots(tx, {account: whole[-1].remaining}) == {account: whole[-1:]}
        assert rewards.lots(tx, {account: -1}) == {account: []}
