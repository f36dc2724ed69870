"""Rows of the outbox as mail, out of a real shop: to whom, what, and when no longer."""

import re
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

from securedelivery.errors import ConfigurationError, DamagedRow, NotYet, Refusal, Undeliverable, Unwanted
from securedelivery.mail import composer as module
from securedelivery.mail.composer import Composer
from securedelivery.mail.settings import MailSettings, ReceiptsServer, SummariesServer
from securedelivery.model import MailKind, MailRoute, Role
from securedelivery.service.chat import SendCommand
from securedelivery.service.missed_chat import MissedChat
from securedelivery.service.months import Month
from securedelivery.service.opt_out import MailChoice, OptOut
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


def composer(shop: Shop, mail: MailSettings = MAIL, name: str = "Bits & Co", public_url: str | None = None) -> Composer:
    summaries = Summaries(
        shop.database, shop.clock, shop.rules, zone=UTC_ZONE, hour=8, low_stock=5, operator=mail.operator is not None
    )
    return module.composer(shop.database, summaries, mail, name, "EUR", public_url=public_url)


def next_row(shop: Shop, route: MailRoute = MailRoute.RECEIPTS) -> OutboxRow:
    row = Outbox(shop.database, shop.clock).next(route, "here")
    assert row is not None
    return row


def ordered(shop: Shop, grete: Session) -> OutboxRow:
    shop.place(grete, ("GPU-1", 1))
    return next_row(shop)


def months_rows(shop: Shop) -> dict[MailKind, OutboxRow]:
    """Of March 2026, when it is over."""
    Outbox(shop.database, shop.clock).use([MailRoute.SUMMARIES])
    shop.clock.now = datetime(2026, 4, 1, 9, 0, tzinfo=UTC)
    summaries = Summaries(shop.database, shop.clock, shop.rules, zone=UTC_ZONE, hour=8, low_stock=20, operator=True)
    assert summaries.queue_due() == 2
    return {row.kind: row for row in (next_row(shop, MailRoute.SUMMARIES) for _ in range(2))}


def missed_row(shop: Shop, customer: Session, *texts: str) -> OutboxRow:
    """Of an answer that has waited for the customer."""
    Outbox(shop.database, shop.clock).use([MailRoute.RECEIPTS])
    agent = shop.customer("sabine", Role.AGENT)
    send = lambda *values: shop.database.writer.call(shop.chat.send, SendCommand(*values))
    conversation = send(customer, "Does it fit?", "key 1", None).conversation
    for number, text in enumerate(texts):
        send(agent, text, f"key 2 {number}", conversation)
    missed = MissedChat(shop.database, shop.clock, lambda _: None)
    shop.clock.forward(minutes=6)
    assert missed.queue_due() == 1
    return next_row(shop)


def html(mail: EmailMessage) -> str:
    part = mail.get_body(("html",))
    assert part is not None
    return str(part.get_content())


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
    mails = {kind: composer(shop)(row) for kind, row in months_rows(shop).items()}
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
    row = missed_row(shop, grete, "It does.")
    mail = composer(shop)(row)
    assert mail["Subject"] == "Bits & Co has written to you in the chat"
    assert "List-Unsubscribe" not in mail
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
    assert "<script" not in html(mail)
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


# With a web page


HOME = "https://bits.example"
LINK = re.compile(rf"{HOME}/mail/off\?token=([A-Za-z0-9_-]{{32}})")


def opened(shop: Shop, mail: EmailMessage) -> MailChoice:
    """What the link of the mail ends; the same one in all of its places."""
    places = [str(mail["List-Unsubscribe"] or ""), said(mail), html(mail)]
    found = [LINK.findall(place) for place in places]
    assert [len(one) for one in found] == [int("List-Unsubscribe" in mail), 1, 1]
    (token,) = {each for one in found for each in one}
    return OptOut(shop.database, shop.clock).look(token).choice


@pytest.mark.parametrize("public_url", [HOME, f"{HOME}/"])
def test_a_receipt_with_links(shop: Shop, grete: Session, public_url: str) -> None:
    mail = composer(shop, public_url=public_url)(ordered(shop, grete))
    for part in (said(mail), html(mail)):
        assert f"{HOME}/orders/1" in part
        assert f"{HOME}/account" in part
    assert opened(shop, mail) is MailChoice.RECEIPTS
    assert not {"List-Unsubscribe", "List-Unsubscribe-Post"} & set(mail.keys())  # it belongs to an order


def test_months_with_links(shop: Shop, grete: Session) -> None:
    shop.place(grete, ("GPU-1", 1))
    mails = {kind: composer(shop, public_url=HOME)(row) for kind, row in months_rows(shop).items()}
    customer, operator = mails[MailKind.CUSTOMER_SUMMARY], mails[MailKind.OPERATOR_SUMMARY]
    assert opened(shop, customer) is MailChoice.SUMMARIES
    first, second = str(customer["List-Unsubscribe"]).split(", ")
    assert LINK.fullmatch(first[1:-1])
    assert second == "<mailto:desk@bits.example?subject=unsubscribe%20grete>"
    assert customer["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert f'href="{HOME}/orders/1"' in html(customer)
    assert not {"List-Unsubscribe", "List-Unsubscribe-Post"} & set(operator.keys())
    assert f"{HOME}/orders" in said(operator)
    assert "/mail/off" not in html(operator) + said(operator)
    assert "/account" not in html(operator) + said(operator)


def test_missed_chat_with_links(shop: Shop, grete: Session) -> None:
    mail = composer(shop, public_url=HOME)(missed_row(shop, grete, "It does."))
    assert opened(shop, mail) is MailChoice.MISSED_CHAT
    first, second = str(mail["List-Unsubscribe"]).split(", ")
    assert LINK.fullmatch(first[1:-1])
    assert second == "<mailto:orders@bits.example?subject=unsubscribe%20grete%20chat>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    for part in (said(mail), html(mail)):
        assert f"{HOME}/chat" in part


def test_the_link_of_each_is_for_its_own_account(shop: Shop, grete: Session) -> None:
    emil = shop.customer("emil")
    change(shop, emil, email="emil@home.example")
    mails = [composer(shop, public_url=HOME)(ordered(shop, one)) for one in (grete, emil)]
    tokens = [token for mail in mails for token in LINK.findall(said(mail))]
    assert len(tokens) == 2
    for one in (emil, grete):
        shop.place(one, ("GPU-1", 1))
    OptOut(shop.database, shop.clock).apply(tokens[1])
    assert [shop.accounts.get(one).mail.receipts for one in (grete, emil)] == [True, False]
    with pytest.raises(Unwanted):
        composer(shop, public_url=HOME)(next_row(shop))
    assert HOME in said(composer(shop, public_url=HOME)(next_row(shop)))


def test_the_same_row_is_the_same_mail_with_links_too(shop: Shop, grete: Session) -> None:
    row = ordered(shop, grete)
    first = composer(shop, public_url=HOME)(row).as_bytes()
    shop.clock.forward(days=4)
    assert composer(shop, public_url=HOME)(row).as_bytes() == first


def test_what_somebody_looks_at_ends_no_mail(shop: Shop, grete: Session) -> None:
    shop.place(grete, ("GPU-1", 1))
    months_rows(shop)
    summaries = Summaries(shop.database, shop.clock, shop.rules, zone=UTC_ZONE, hour=8, low_stock=5, operator=True)
    compose = composer(shop, public_url=HOME)
    page = compose.page(summaries.customer(grete.account_id, Month("2026-03")))
    (token,) = LINK.findall(page)
    with pytest.raises(Refusal):
        OptOut(shop.database, shop.clock).apply(token)
    assert "/mail/off" not in compose.page(summaries.operator(Month("2026-03")))
    assert HOME not in composer(shop).page(summaries.customer(grete.account_id, Month("2026-03")))


def test_a_test_with_links(shop: Shop) -> None:
    compose = composer(shop, public_url=HOME)
    mail = compose.test(MailRoute.RECEIPTS, MAIL.receipts, Address("", "a", "b.example"), shop.clock.now)
    assert f"Links in mail lead to {HOME}/" in said(mail)
    assert f'<a class="accent" href="{HOME}/"' in html(mail)


def test_an_address_of_the_page_that_cannot_be_used(shop: Shop) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        composer(shop, public_url="https://a<b>.example")
    assert refusal.value.key == "web.public_url"


EVIL = "</a><script>alert('x')</script><a href=\"javascript:alert(1)\" onclick='x'>&amp;"


def test_what_people_write_is_text_beside_links(shop: Shop, grete: Session) -> None:
    shop.catalog.import_products([entry("BAD-1", 500, 10, name=EVIL)])
    change(shop, grete, name=EVIL, address=EVIL)
    rows = []
    shop.place(grete, ("BAD-1", 1))
    rows.append(next_row(shop))
    rows.append(missed_row(shop, grete, EVIL))
    rows += months_rows(shop).values()
    for row in rows:
        mail = composer(shop, public_url=HOME, name=f"Bits {EVIL}")(row)
        page = html(mail)
        assert "alert(" in page
        assert "<script" not in page
        links = re.findall(r"<a [^>]*>", page)
        assert links
        assert all(re.search(rf' href="{HOME}/[a-z0-9/#?=A-Z_-]*"', link) for link in links)
        assert not [link for link in links if "alert" in link or "onclick" in link]


def test_templates_of_the_operators_may_have_links(shop: Shop, grete: Session, tmp_path: Path) -> None:
    row = ordered(shop, grete)
    own = tmp_path / "order_placed.txt.j2"
    own.write_text("Order\n\n{{ links.order if links else 'no page' }} {{ links.off if links }}\n", "utf-8")
    there = msgspec.structs.replace(MAIL, templates=str(tmp_path))
    assert said(composer(shop, there)(row)) == "no page"
    assert said(composer(shop, there, public_url=HOME)(row)).startswith(f"{HOME}/orders/1 {HOME}/mail/off?token=")
    own.write_text("Order\n\n{{ links.order }}\n", "utf-8")
    assert said(composer(shop, there, public_url=HOME)(row)) == f"{HOME}/orders/1"
    with pytest.raises(
        ConfigurationError, match=r"order_placed\.txt\.j2 in .*: line 3: .*'None' has no attribute 'order'"
    ):
        composer(shop, there)
