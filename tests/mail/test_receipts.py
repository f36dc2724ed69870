"""What the mails about orders say, of orders that the real shop took and took back."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from service.shop import Clock, Shop, check_books, entry

from securedelivery.mail import receipts
from securedelivery.mail.rendering import Rendered, Templates
from securedelivery.model import MailKind, OrderId, Role
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session
from securedelivery.store import orders
from securedelivery.store.engine import Database


@contextmanager
def a_shop(folder: Path) -> Iterator[Shop]:
    names = folder / "names"
    names.write_text("")
    with Database.open(f"sqlite:///{folder / 'shop.db'}") as database:
        yield Shop(database, Clock(), RewardRules(), names)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with a_shop(tmp_path) as shop:
        shop.catalog.import_products(
            [
                entry("GPU-1", 61_900, 10, name="A graphics card"),
                entry("RAM-1", 11_990, 10, name="Memory, 32 GB"),
            ]
        )
        yield shop


@pytest.fixture
def grete(shop: Shop) -> Session:
    return shop.customer("grete", address="Grete Muster\n1 Side Road\n12345 Springfield")


@pytest.fixture
def staff(shop: Shop) -> Session:
    shop.customer("kurt", Role.COURIER)
    return shop.customer("sabine", Role.ADMIN)


def mail(shop: Shop, kind: MailKind, order: OrderId) -> Rendered:
    with shop.database.read() as tx:
        stored = orders.load(tx, [order])[order].order
    content = receipts.content(kind, stored, "Grete Muster", "Parts & Co")
    return Templates(None, ZoneInfo("UTC")).render(content.template, content.values)


class Words(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.words += data.replace("\u034f", " ").replace("\u200c", " ").split()


def said(rendered: Rendered) -> tuple[str, str]:
    """Plain text and HTML, as words."""
    return " ".join(rendered.text.split()), " ".join(Words(rendered.html).words)


def balance(shop: Shop) -> int:
    ((points,),) = shop.sql("SELECT points FROM accounts WHERE username = 'grete'")
    assert isinstance(points, int)
    return points


def test_a_placed_order(shop: Shop, grete: Session) -> None:
    order = shop.place(grete, ("GPU-1", 1), ("RAM-1", 2))
    rendered = mail(shop, MailKind.ORDER_PLACED, order.order)
    assert rendered.subject == "Your order 1 at Parts & Co"
    for text in said(rendered):
        for words in (
            "Hello Grete Muster", "A graphics card", "GPU-1", "EUR 619.00", "Memory, 32 GB", "EUR 119.90", "EUR 239.80",
            "Subtotal EUR 858.80", "Total EUR 858.80", "You earn 858 points",
            "Grete Muster 1 Side Road 12345 Springfield", "1 March 2026, 12:00 UTC", "securedelivery order show 1",
            "never in a mail", "change it until we confirm it", "securedelivery account update --no-receipts",
        ):  # fmt: skip
            assert words in text
        assert "Discount" not in text
    assert "\nTotal                                                         EUR 858.80\n" in rendered.text


def test_no_mail_has_the_delivery_code(shop: Shop, grete: Session, staff: Session) -> None:
    order = shop.place(grete, ("GPU-1", 1))
    code = str(order.delivery_code)
    assert len(code) == 6
    shop.bring_to("returned", order.order, staff, "kurt")
    with shop.database.read() as tx:
        stored = orders.load(tx, [order.order])[order.order].order
    assert stored.delivery_code == code
    values = receipts.content(MailKind.ORDER_PLACED, stored, "Grete", "Parts & Co").values
    assert values["order"].delivery_code is msgspec.UNSET  # nor can a template of the operator's put it out
    for kind in (MailKind.ORDER_PLACED, MailKind.ORDER_DELIVERED, MailKind.ORDER_RETURNED):
        rendered = mail(shop, kind, order.order)
        assert code not in rendered.subject + rendered.text + rendered.html


def test_a_discount_and_what_becomes_of_it_when_it_is_cancelled(shop: Shop, grete: Session, staff: Session) -> None:
    shop.place(grete, ("GPU-1", 2))
    before = balance(shop)
    assert before == 1_238
    order = shop.place(grete, ("RAM-1", 1), redeem=1_000)
    placed = mail(shop, MailKind.ORDER_PLACED, order.order)
    for text in said(placed):
        assert "Subtotal EUR 119.90" in text
        assert "Discount for 1,000 points EUR -50.00" in text
        assert "Total EUR 69.90" in text
        assert "You earn 69 points" in text
    shop.clock.forward(days=1)
    shop.cancel(staff, order.order, "The maker sends\nno more of it.")
    cancelled = mail(shop, MailKind.ORDER_CANCELLED, order.order)
    assert cancelled.subject == "Your order 2 at Parts & Co is cancelled"
    for text in said(cancelled):
        assert "of 1 March 2026 was cancelled on 2 March 2026, 12:00 UTC" in text
        assert "Refund EUR 69.90" in text
        assert "Points of the discount, given back +1,000" in text
        assert "Points of this order, taken back -69" in text
        assert "keep the day on which they expire" in text
        assert "The maker sends no more of it." in text
    assert balance(shop) == before  # which is what the mail says: 1,000 back, 69 taken
    check_books(shop)


def test_an_order_that_was_cancelled_before_its_first_mail_left(shop: Shop, grete: Session) -> None:
    order = shop.place(grete, ("GPU-1", 1))
    shop.cancel(grete, order.order, "My mistake")
    for text in said(mail(shop, MailKind.ORDER_PLACED, order.order)):
        assert "the order is cancelled by now" in text
        assert "You earn" not in text
        assert "courier" not in text
    for text in said(mail(shop, MailKind.ORDER_CANCELLED, order.order)):
        assert "My mistake" not in text  # the customer's own words are no news
        assert "given back" not in text


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("confirmed", "The order is confirmed by now"),
        ("out_for_delivery", "The order is out for delivery by now"),
        ("delivered", "the order is delivered by now"),
    ],
)
def test_an_order_that_was_faster_than_its_first_mail(
    shop: Shop, grete: Session, staff: Session, status: str, words: str
) -> None:
    order = shop.place(grete, ("GPU-1", 1))
    shop.bring_to(status, order.order, staff, "kurt")
    for text in said(mail(shop, MailKind.ORDER_PLACED, order.order)):
        assert words in text
        assert "change it until" not in text
        assert ("courier asks" in text) == (status != "delivered")


def test_a_delivered_order_and_its_return(shop: Shop, grete: Session, staff: Session) -> None:
    order = shop.place(grete, ("GPU-1", 1))
    shop.clock.forward(days=2)
    shop.bring_to("delivered", order.order, staff, "kurt", "handed to Grete")
    for text in said(mail(shop, MailKind.ORDER_DELIVERED, order.order)):
        for words in (
            "delivered on 3 March 2026, 12:00 UTC",
            "Thank you",
            "619 points for your next",
            "To send something",
        ):
            assert words in text
        assert "handed to Grete" not in text
    shop.clock.forward(days=5)
    shop.advance(staff, order.order, "returned", note="Unopened")
    for text in said(mail(shop, MailKind.ORDER_RETURNED, order.order)):
        for words in (
            "came back to us on 8 March 2026", "Refund EUR 619.00", "Points of this order, taken back -619", "Unopened",
        ):  # fmt: skip
            assert words in text
        assert "keep the day" not in text
    for text in said(mail(shop, MailKind.ORDER_DELIVERED, order.order)):  # one that waited for a week
        assert "delivered on 3 March 2026, 12:00 UTC" in text
        assert "has come back to us by now" in text
        assert "points" not in text


def test_an_order_for_nothing(shop: Shop, grete: Session, staff: Session) -> None:
    shop.catalog.import_products([entry("STICKER", 0, 10, name="A sticker")])
    order = shop.place(grete, ("STICKER", 1))
    shop.cancel(staff, order.order)
    for text in said(mail(shop, MailKind.ORDER_CANCELLED, order.order)):
        assert "There was nothing to pay." in text
        assert "Why" not in text
        assert "WHY" not in text
    for text in said(mail(shop, MailKind.ORDER_PLACED, order.order)):
        assert "points" not in text


def test_every_line_of_a_long_order(shop: Shop, grete: Session) -> None:
    names = [f"{'Long name of a part ' * 9}{number}" for number in range(100)]
    shop.catalog.import_products([entry("S" * 60 + f"{n:03}", 2**31, 5, name=name) for n, name in enumerate(names)])
    lines: Sequence[tuple[str, int]] = [("S" * 60 + f"{n:03}", 1) for n in range(100)]
    order = shop.place(grete, *lines)
    rendered = mail(shop, MailKind.ORDER_PLACED, order.order)
    assert max(map(len, rendered.text.split("\n"))) <= 72
    for text in said(rendered):
        assert all(name in text and sku in text for name, (sku, _) in zip(names, lines, strict=True))
