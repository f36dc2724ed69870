"""Mail about an order is in the outbox with the commit that caused it, or neither is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from service.shop import Clock, Shop

from securedelivery.errors import Refusal, StoreError
from securedelivery.model import MailKind, MailState, Role
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session
from securedelivery.store import audit
from securedelivery.store.engine import Database

PLACED, CANCELLED, DELIVERED, RETURNED = (
    MailKind.ORDER_PLACED,
    MailKind.ORDER_CANCELLED,
    MailKind.ORDER_DELIVERED,
    MailKind.ORDER_RETURNED,
)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Database.open(f"sqlite:///{tmp_path}/shop.db") as database:
        shop = Shop(database, Clock(), RewardRules(), tmp_path / "names.txt", receipts=True)
        shop.stock(("A", 1000, 100))
        yield shop


def customer(shop: Shop, name: str = "grete", email: str | None = "grete@home.example") -> Session:
    session = shop.customer(name)
    shop.alter(session, email=email)
    return session


def mail(shop: Shop) -> list[tuple[MailKind, int | None, int | None]]:
    rows, following = shop.outbox.page(MailState, limit=1000)
    assert following is None
    assert all(row.state is MailState.WAITING and not row.attempts for row in rows)
    return [(row.kind, row.order_id, row.account_id) for row in rows]


def test_a_placed_order(shop: Shop) -> None:
    grete = customer(shop)
    order = shop.place(grete, ("A", 1))
    (row,), _ = shop.outbox.page(MailState)
    assert (row.kind, row.order_id, row.account_id) == (PLACED, order.order, grete.account_id)
    assert row.created_at == row.due_at == order.placed_at
    assert row.answer is row.period is row.up_to is None


def test_each_kind_once(shop: Shop) -> None:
    grete, sam = customer(shop), shop.customer("sam", Role.ADMIN)
    shop.customer("kim", Role.COURIER)
    first, second = shop.place(grete, ("A", 1)).order, shop.place(grete, ("A", 1)).order
    shop.bring_to("returned", first, sam, "kim")
    shop.cancel(grete, second)
    shop.cancel(grete, second)
    assert [each[:2] for each in mail(shop)] == [
        (PLACED, first), (PLACED, second), (DELIVERED, first), (RETURNED, first), (CANCELLED, second),
    ]  # fmt: skip


def test_the_customers_code_delivers_too(shop: Shop) -> None:
    grete, sam, kim = customer(shop), shop.customer("sam", Role.AGENT), shop.customer("kim", Role.COURIER)
    order = shop.place(grete, ("A", 1))
    shop.bring_to("out_for_delivery", order.order, sam, "kim")
    with pytest.raises(Refusal):
        shop.confirm(kim, order.order, "1" if order.delivery_code != "1" else "2")
    assert len(mail(shop)) == 1
    shop.confirm(kim, order.order, str(order.delivery_code))
    shop.confirm(kim, order.order, str(order.delivery_code))
    assert [kind for kind, _, _ in mail(shop)] == [PLACED, DELIVERED]


def test_the_operator_cancels(shop: Shop) -> None:
    grete = customer(shop)
    shop.cancel(None, shop.place(grete, ("A", 1)).order)
    assert [(kind, account) for kind, _, account in mail(shop)] == [
        (PLACED, grete.account_id), (CANCELLED, grete.account_id),
    ]  # fmt: skip


def test_an_edit_and_other_changes_are_told_by_no_mail(shop: Shop) -> None:
    grete, sam = customer(shop), shop.customer("sam", Role.AGENT)
    order = shop.place(grete, ("A", 1))
    shop.edit(grete, order.order, 1, ("A", 2))
    shop.advance(sam, order.order, "confirmed")
    assert [kind for kind, _, _ in mail(shop)] == [PLACED]


@pytest.mark.parametrize(("email", "wanted"), [(None, True), ("grete@home.example", False)])
def test_no_address_or_no_wish(shop: Shop, email: str | None, wanted: bool) -> None:
    grete = customer(shop, email=email)
    shop.alter(grete, mail_receipts=wanted)
    shop.cancel(grete, shop.place(grete, ("A", 1)).order)
    assert mail(shop) == []


def test_what_counts_is_the_wish_at_that_time(shop: Shop) -> None:
    grete = customer(shop, email=None)
    order = shop.place(grete, ("A", 1)).order
    shop.alter(grete, email="grete@home.example")
    shop.cancel(grete, order)
    assert [kind for kind, _, _ in mail(shop)] == [CANCELLED]


def test_in_a_batch_each_order_of_those_who_want_it(shop: Shop) -> None:
    grete, ole, una = customer(shop), customer(shop, "ole", None), customer(shop, "una", "una@home.example")
    commands = [shop.command(who, ("A", 1)) for who in (grete, ole, una, grete)]
    again, too_many = commands[0], shop.command(grete, ("A", 500))
    shop.place_batch([*commands, again, too_many])
    assert mail(shop) == [(PLACED, 1, grete.account_id), (PLACED, 3, una.account_id), (PLACED, 4, grete.account_id)]


def test_the_same_key_again(shop: Shop) -> None:
    grete = customer(shop)
    command = shop.command(grete, ("A", 1))
    for _ in range(3):
        shop.database.writer.call(shop.orders.place, command)
    assert len(mail(shop)) == 1


def test_what_is_rolled_back_leaves_no_mail(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    grete = customer(shop)

    def full(*_: object) -> None:
        raise StoreError("no disk left")

    with monkeypatch.context() as patched:
        patched.setattr(audit, "append", full)
        with pytest.raises(StoreError):
            shop.place(grete, ("A", 1))
    assert mail(shop) == []
    assert shop.sql("SELECT count(*) FROM orders") == [(0,)]


def test_without_a_mail_server_nothing_is_queued(tmp_path: Path) -> None:
    with Database.open(f"sqlite:///{tmp_path}/shop.db") as database:
        shop = Shop(database, Clock(), RewardRules(), tmp_path / "names.txt")
        shop.stock(("A", 1000, 100))
        grete = customer(shop)
        shop.cancel(grete, shop.place(grete, ("A", 1)).order)
        assert mail(shop) == []


def test_nothing_of_the_customer_lies_in_it(shop: Shop) -> None:
    grete = customer(shop)
    shop.place(grete, ("A", 1))
    shop.database.checkpoint()
    assert b"grete@home.example" not in shop.database.path.read_bytes()
