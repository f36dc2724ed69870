"""Rows of the outbox as mail, out of a real shop: to whom, what, and when no longer."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from service.shop import Clock, Shop, entry

from securedelivery.errors import ConfigurationError, DamagedRow, NotYet, Undeliverable, Unwanted
from securedelivery.mail import composer as module
from securedelivery.mail.composer import Composer
from securedelivery.mail.settings import MailSettings, ReceiptsServer, SummariesServer
from securedelivery.model import MailKind, MailRoute, Role
from securedelivery.service.chat import SendCommand
from securedelivery.service.missed_chat import MissedChat
from securedelivery.service.orders import Orders
from securedelivery.service.outbox import Outbox, Withdrawn
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session
from securedelivery.service.summaries import Summaries
from securedelivery.store import accounts
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.outbox import OutboxRow

MAIL = MailSettings(
    receipts=ReceiptsServer(host="mail.example", sender="Bits & Co <orders@bits.example>"),
    summaries=SummariesServer(host="mail.example", sender="news@bits.example", reply_to="desk@bits.example"),
    operator="Boss <boss@bits.example>",
)
UTC_ZONE = ZoneInfo("UTC")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Database.open(f"sqlite:///{tmp_path}/shop.db") as database:
        shop = Shop(database, Clock(), RewardRules(), tmp_path / "names.txt")
        shop.orders = Orders(database, shop.clock, shop.rules, "EUR", receipts=True)
        shop.catalog.import_products([entry("GPU-1", 61_900, 10, name="A graphics card")])
        yield shop


@pytest.fixture
def grete(shop: Shop) -> Session:
    grete = shop.customer("grete", address="1 Side Road")
    change(shop, grete, name='Grete "G", Müller', email="grete@home.example")
    return grete


def change(shop: Shop, session: Session, **values: Any) -> None:
    def run(tx: Transaction, commands: Sequence[dict[str, Any]]) -> list[None]:
        row = accounts.by_id(tx, session.account_id)
        assert row is not None
        return [accounts.change(tx, [row._replace(**each)]) for each in commands]

    shop.database.writer.call(run, values)


def composer(shop: Shop, mail: MailSettings = MAIL, name: str = "Bits & Co") -> Composer:
    summaries = Summaries(
        shop.database, shop.clock, shop.rules, zone=UTC_ZONE, hour=8, low_stock=5, operator=mail.operator is not None
    )
    return module.composer(shop.database, summaries, mail, name, "EUR")


def next_row(shop: Shop, route: MailRoute = MailRoute.RECEIPTS) -> OutboxRow:
    row = Outbox(shop.database, shop.clock).next(route, "here")
    assert row is not None
    return row


def ordered(shop: Shop, grete: Session) -> OutboxRow:
    shop.place(grete, ("GPU-1", 1))
    return next_row(shop)


def said(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    assert part is not None
    return " ".join(str(part.get_content()).split())


def test_a_receipt(shop: Shop, grete: Session) -> None:
    row = ordered(shop, grete)
    mail = composer(shop)(row)
    assert row.kind is MailKind.ORDER_PLACED
    assert mail["To"].addresses == (Address('Grete "G", Müller', "grete", "home.example"),)
    assert mail["From"].addresses == (Address("Bits & Co", "orders", "bits.example"),)
    assert mail["Subject"] == "Your order 1 at Bits & Co"
    assert mail["Date"] == "Sun, 01 Mar 2026 12:00:00 +0000"
    assert "List-Unsubscribe" not in mail
    assert "A graphics card" in said(mail)
    assert 'Hello Grete "G", Müller,' in said(mail)


def test_the_same_row_is_the_same_mail_whenever_it_is_sent(shop: Shop, grete: Session) -> None:
    row = ordered(shop, grete)
    first = composer(shop)(row)
    shop.clock.forward(minutes=5)
    assert composer(shop)(row._replace(attempts=2)).as_bytes() == first.as_bytes()
    shop.place(grete, ("GPU-1", 1))
    assert composer(shop)(next_row(shop))["Message-ID"] != first["Message-ID"]


def test_no_other_shop_has_the_same_message_id(shop: Shop, grete: Session, tmp_path: Path) -> None:
    first = composer(shop)(ordered(shop, grete))["Message-ID"]
    folder = tmp_path / "other"
    folder.mkdir()
    with Database.open(f"sqlite:///{folder}/shop.db") as database:
        other = Shop(database, Clock(), RewardRules(), tmp_path / "names.txt")
        other.orders = Orders(database, other.clock, other.rules, "EUR", receipts=True)
        other.catalog.import_products([entry("GPU-1", 61_900, 10, name="A graphics card")])
        session = other.customer("grete")
        change(other, session, email="grete@home.example")
        assert composer(other)(ordered(other, session))["Message-ID"] != first
    assert str(first).startswith("<order-placed.1.")


def test_all_that_becomes_of_orders(shop: Shop, grete: Session) -> None:
    shop.customer("kurt", Role.COURIER)
    staff = shop.customer("sabine", Role.ADMIN)
    returned, cancelled = (shop.place(grete, ("GPU-1", 1)).order for _ in range(2))
    shop.bring_to("returned", returned, staff, "kurt")
    shop.cancel(grete, cancelled)
    rows = [next_row(shop) for _ in range(5)]
    assert sorted(str(composer(shop)(row)["Subject"]) for row in rows) == [
        "Your order 1 at Bits & Co",
        "Your order 1 at Bits & Co has come back",
        "Your order 1 at Bits & Co is delivered",
        "Your order 2 at Bits & Co",
        "Your order 2 at Bits & Co is cancelled",
    ]


def test_a_customer_without_a_name(shop: Shop, grete: Session) -> None:
    change(shop, grete, name=None)
    mail = composer(shop)(ordered(shop, grete))
    assert mail["To"] == "grete@home.example"
    assert "Hello grete," in said(mail)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"deleted_at": "2026-03-02T00:00:00.000000Z"}, "deleted"),
        ({"email": None}, "no e-mail address"),
        ({"mail_receipts": False}, "wants no such mail"),
    ],
)
def test_nobody_to_write_to_any_more(shop: Shop, grete: Session, values: dict[str, Any], why: str) -> None:
    row = ordered(shop, grete)
    change(shop, grete, **values)
    with pytest.raises(Unwanted, match=why) as refusal:
        composer(shop)(row)
    assert "grete" not in str(refusal.value)


def test_what_becomes_of_orders_is_told_to_the_disabled_too(shop: Shop, grete: Session) -> None:
    row = ordered(shop, grete)
    change(shop, grete, disabled=True, mail_summaries=False, mail_missed_chat=False)
    assert composer(shop)(row)["To"].addresses[0].addr_spec == "grete@home.example"


def test_other_wishes_do_not_matter(shop: Shop, grete: Session) -> None:
    row = ordered(shop, grete)
    summary = row._replace(kind=MailKind.CUSTOMER_SUMMARY, order_id=None, period="2026-02")
    change(shop, grete, mail_receipts=False)
    assert composer(shop)(summary)["Subject"] == "Your February 2026 at Bits & Co"


def test_an_address_that_is_none(shop: Shop, grete: Session) -> None:
    row = ordered(shop, grete)
    change(shop, grete, email="grete@nowhere,else")
    with pytest.raises(Undeliverable, match="not an address"):
        composer(shop)(row)


def test_an_altered_row(shop: Shop, grete: Session) -> None:
    row = ordered(shop, grete)
    shop.sql("UPDATE orders SET address = x'00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff'")
    with pytest.raises(DamagedRow):
        composer(shop)(row)


def test_a_route_that_is_not_set_any_more(shop: Shop, grete: Session) -> None:
    row = ordered(shop, grete)
    with pytest.raises(Undeliverable, match=r"mail\.receipts is not set any more"):
        composer(shop, msgspec.structs.replace(MAIL, receipts=ReceiptsServer()))(row)


def test_months(shop: Shop, grete: Session) -> None:
    shop.place(grete, ("GPU-1", 1))
    Outbox(shop.database, shop.clock).use([MailRoute.SUMMARIES])
    shop.clock.now = datetime(2026, 4, 1, 9, 0, tzinfo=UTC)
    summaries = Summaries(shop.database, shop.clock, shop.rules, zone=UTC_ZONE, hour=8, low_stock=20, operator=True)
    assert summaries.queue_due() == 2
    mails = {row.kind: composer(shop)(row) for row in (next_row(shop, MailRoute.SUMMARIES) for _ in range(2))}
    customer, operator = mails[MailKind.CUSTOMER_SUMMARY], mails[MailKind.OPERATOR_SUMMARY]
    assert customer["To"].addresses[0].addr_spec == "grete@home.example"
    assert customer["List-Unsubscribe"] == "<mailto:desk@bits.example?subject=unsubscribe%20grete>"
    assert customer["Reply-To"] == "desk@bits.example"
    assert "EUR 619.00" in said(customer)
    assert operator["To"] == "Boss <boss@bits.example>"
    assert "List-Unsubscribe" not in operator
    assert "EUR 619.00" in said(operator)


@pytest.mark.parametrize("kind", [MailKind.CUSTOMER_SUMMARY, MailKind.OPERATOR_SUMMARY])
def test_a_month_that_was_queued_by_the_calendar_of_another_zone(shop: Shop, grete: Session, kind: MailKind) -> None:
    row = ordered(shop, grete)._replace(kind=kind, order_id=None, period="2026-03")
    shop.clock.now = datetime(2026, 4, 1, tzinfo=UTC) - timedelta(seconds=1)
    with pytest.raises(NotYet, match="2026-03 is not over in UTC"):
        composer(shop)(row)
    shop.clock.forward(seconds=1)
    composer(shop)(row)


@pytest.mark.parametrize("values", [{"mail_summaries": False}, {"disabled": True}])
def test_months_that_nobody_wants(shop: Shop, grete: Session, values: dict[str, Any]) -> None:
    row = ordered(shop, grete)._replace(kind=MailKind.CUSTOMER_SUMMARY, order_id=None, period="2026-02")
    change(shop, grete, **values)
    with pytest.raises(Unwanted):
        composer(shop)(row)


def test_no_operator_any_more(shop: Shop, grete: Session) -> None:
    row = ordered(shop, grete)._replace(
        kind=MailKind.OPERATOR_SUMMARY, account_id=None, order_id=None, period="2026-02"
    )
    with pytest.raises(Unwanted, match=r"mail\.operator"):
        composer(shop, msgspec.structs.replace(MAIL, operator=None))(row)


def test_missed_chat(shop: Shop, grete: Session) -> None:
    Outbox(shop.database, shop.clock).use([MailRoute.RECEIPTS])
    agent = shop.customer("sabine", Role.AGENT)
    send = lambda *values: shop.database.writer.call(shop.chat.send, SendCommand(*values))
    conversation = send(grete, "Does it fit?", "key 1", None).conversation
    send(agent, "It does.", "key 2", conversation)
    missed = MissedChat(shop.database, shop.clock, lambda _: None)
    shop.clock.forward(minutes=6)
    assert missed.queue_due() == 1
    row = next_row(shop)
    mail = composer(shop)(row)
    assert mail["Subject"] == "Bits & Co has written to you in the chat"
    assert "It does." in said(mail)
    nothing = composer(shop, msgspec.structs.replace(MAIL, chat_text="none"))(row)
    assert "It does." not in said(nothing)
    change(shop, grete, mail_missed_chat=False)
    with pytest.raises(Unwanted):
        composer(shop)(row)


@pytest.mark.parametrize("name", ["Two\r\nBcc: eve@evil.example", "\u202eRight\0", "<script>alert(1)</script>"])
def test_names_of_shops(shop: Shop, grete: Session, name: str) -> None:
    mail = composer(shop, name=name)(ordered(shop, grete))
    assert "Bcc" not in mail
    assert str(mail["Subject"]).isprintable()
    html = mail.get_body(("html",))
    assert html is not None
    assert "<script" not in html.get_content()
    assert "Hello Grete" in said(mail)


def test_templates_of_the_operators(shop: Shop, grete: Session, tmp_path: Path) -> None:
    row = ordered(shop, grete)
    own = tmp_path / "order_placed.txt.j2"
    own.write_text("{{ shop }}: {{ order.order }}, {{ at | moment }}\n\n{{ customer }}\n", "utf-8")
    there = msgspec.structs.replace(MAIL, templates=str(tmp_path), time_zone="Asia/Tokyo")
    mail = composer(shop, there)(row)
    assert (mail["Subject"], said(mail)) == ("Bits & Co: 1, 1 March 2026, 21:00 JST", 'Grete "G", Müller')
    own.write_text("{{ shopp }}\n\n", "utf-8")
    with pytest.raises(ConfigurationError, match=r"order_placed\.txt\.j2 in .*: line 1: 'shopp' is undefined"):
        composer(shop, there)


def test_a_test(shop: Shop) -> None:
    to = Address("", "somebody", "home.example")
    now = datetime(2026, 3, 1, 12, 0, 0, 5, UTC)
    one, other = (
        composer(shop).test(MailRoute.RECEIPTS, MAIL.receipts, to, now + timedelta(seconds=each)) for each in (0, 1)
    )
    assert (one["To"], one["Subject"]) == ("somebody@home.example", "Test mail of Bits & Co")
    assert "[mail.receipts]" in said(one)
    assert "1 March 2026, 12:00 UTC" in said(one)
    assert one["Message-ID"] != other["Message-ID"]


def test_nothing_is_written_by_writing_mail(shop: Shop, grete: Session) -> None:
    row = ordered(shop, grete)
    before = shop.sql("SELECT * FROM outbox"), shop.sql("SELECT count(*) FROM audit")
    composer(shop)(row)
    assert (shop.sql("SELECT * FROM outbox"), shop.sql("SELECT count(*) FROM audit")) == before
    Outbox(shop.database, shop.clock).next(MailRoute.RECEIPTS, "here", (row, Withdrawn("it was a test")))
