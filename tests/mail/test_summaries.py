"""What the mails about months say, from templates as they are sent."""

import re
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securedelivery.mail import summaries
from securedelivery.mail.rendering import Rendered, Templates
from securedelivery.model import Cents, MailKind, OrderId, OrderStatus, SoldProduct, Timestamp
from securedelivery.service.months import Month
from securedelivery.service.summaries import Bar, CustomerSummary, OperatorSummary, Order, PointsOfMonth

CUSTOMER, OPERATOR = summaries._CUSTOMER_SAMPLE, summaries._OPERATOR_SAMPLE


def rendered(
    summary: CustomerSummary | OperatorSummary, *, shop: str = "Parts & Co", currency: str = "EUR"
) -> Rendered:
    content = summaries.content(summary, shop_name=shop, currency=currency)
    return Templates(None, ZoneInfo("Europe/Berlin")).render(content.template, content.values)


class Page(HTMLParser):
    """The text of a page, and its elements; every one that is opened is closed."""

    VOID = ("meta", "br", "link", "hr", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.said += data.split()

    @property
    def words(self) -> str:
        return " ".join(self.said)


def test_samples_for_both() -> None:
    assert set(summaries.samples(None)) == {MailKind.CUSTOMER_SUMMARY, MailKind.OPERATOR_SUMMARY}


def test_a_customers_mail() -> None:
    mail = rendered(CUSTOMER)
    assert mail.subject == "Your October 2026 at Parts & Co"
    assert mail.text == (Path(__file__).with_name("customer_summary.txt")).read_text("utf-8")
    page = Page(mail.html)
    for words in (
        "Hello Ada Example", "October 2026", "Parts & Co", "EUR 509.70", "3 orders", "EUR 1,234.50", "Earned +458",
        "Spent -100", "Taken back -1,234", "Expired -20", "At the end of the month 758", "silver", "#17",
        "3 October 2026", "EUR 399.90",
        "delivered", "out for delivery", "and 1 before them", "#11", "returned", "May 2026", "EUR 49.90",
    ):  # fmt: skip
        assert words in page.words


def test_the_operators_mail() -> None:
    mail = rendered(OPERATOR)
    assert mail.subject == "Parts & Co in October 2026: EUR 509.70"
    assert mail.text == (Path(__file__).with_name("operator_summary.txt")).read_text("utf-8")
    page = Page(mail.html)
    for words in (
        "October 2026", "Europe/Berlin", "EUR 509.70", "EUR 1,304.50", "EUR 1,234.50", "Out for delivery 1", "PASTE-4",
        "Thermal paste, 4 g", "11 sold", "EUR 109.80", "GPU-1", "1 November 2026, 08:00 CET", "Jul 2026", "EUR 214.50",
    ):  # fmt: skip
        assert words in page.words


@pytest.mark.parametrize("summary", [CUSTOMER, OPERATOR])
def test_text_fits_the_width_of_mail(summary: CustomerSummary | OperatorSummary) -> None:
    lines = rendered(summary).text.splitlines()
    assert max(map(len, lines)) <= 72
    assert [line for line in lines if line != line.rstrip()] == []
    assert "\n\n\n" not in rendered(summary).text


@pytest.mark.parametrize("summary", [CUSTOMER, OPERATOR])
def test_bars_are_cells_of_a_table_and_no_pictures(summary: CustomerSummary | OperatorSummary) -> None:
    html = rendered(summary).html
    page = Page(html)
    assert {tag for tag, _ in page.elements} & {"img", "svg", "script", "link", "iframe", "object", "form"} == set()
    assert re.findall(r"url\(|src=|background=", html) == []
    widths = [attributes.get("width") for tag, attributes in page.elements if tag == "td"]
    # Of 0, 4,990, 21,450, 12,000, 123,450 and 50,970; what is left of the row is a cell too.
    shown = [width for width in widths if width in ("4%", "17%", "9%", "100%", "41%", "96%", "83%", "91%", "59%")]
    assert [width for width in shown if width in ("4%", "17%", "9%", "41%")] == ["4%", "17%", "9%", "41%"]
    assert "#####" not in page.words


def test_a_month_without_anything() -> None:
    bars = [Bar(Month(f"2026-{number:02}"), 0, Cents(0)) for number in range(5, 11)]
    empty = CustomerSummary(
        "ada", "ada", Month("2026-10"), "UTC", CUSTOMER.since, CUSTOMER.until,
        0, Cents(0), [], 0, Cents(0), [], PointsOfMonth(0, 0, 0, 0, 0, -5), "bronze", bars,
    )  # fmt: skip
    text, page = rendered(empty).text, Page(rendered(empty).html)
    assert "Ordered   0\nRefunds   0\nPoints    -5\nTier      bronze\n\nWhat you ordered" in text
    assert "#" not in text.replace("# ", "")
    assert "bronze" in page.words
    nothing = msgspec.structs.replace(
        OPERATOR, orders=1, turnover=Cents(0), refunds=0, refunded=Cents(0), earlier_refunds=0,
        earlier_refunded=Cents(0), by_status=dict.fromkeys(OrderStatus, 0), best_sellers=[], low_stock=[], bars=bars,
    )  # fmt: skip
    text, page = rendered(nothing).text, Page(rendered(nothing).html)
    assert "Turnover  EUR 0.00, of 1 order\nRefunds   0\n\nNothing runs out" in text
    for mail in (text, page.words):
        assert "Nothing runs out" in mail
        assert "Sold best" not in mail
        assert "placed before" not in mail


def test_a_shop_without_cents() -> None:
    assert "JPY 50,970" in rendered(CUSTOMER, currency="JPY").text
    assert "JPY 50,970" in Page(rendered(OPERATOR, currency="JPY").html).words


NASTY = "<script>alert(1)</script> & \"'{{ 7 * 7 }}"


def test_names_are_text_and_nothing_else() -> None:
    mail = rendered(msgspec.structs.replace(CUSTOMER, customer=NASTY), shop=NASTY)
    assert "script" not in {tag for tag, _ in Page(mail.html).elements}
    assert NASTY in Page(mail.html).words
    assert NASTY in mail.text
    goods = [SoldProduct(NASTY[:30], NASTY, 1, Cents(1))]
    mail = rendered(msgspec.structs.replace(OPERATOR, best_sellers=goods), shop="Two\r\nBcc: lines")
    assert "script" not in {tag for tag, _ in Page(mail.html).elements}
    assert (mail.subject.splitlines(), NASTY in Page(mail.html).words) == ([mail.subject], True)


amounts = st.integers(0, 2**53 - 1).map(Cents)


@settings(deadline=None)
@given(st.lists(amounts, min_size=6, max_size=6))
def test_bars(amounts: list[Cents]) -> None:
    bars = [Bar(Month("2026-10"), 0, amount) for amount in amounts]
    shown = summaries._bars(bars)
    for one, other in zip(shown, amounts, strict=True):
        assert 0 <= one["percent"] <= 100
        assert (one["percent"] > 0) == (len(one["marks"]) > 0) == (other > 0)
        assert len(one["marks"]) <= summaries.MARKS
    largest = max(amounts)
    if largest:
        assert shown[amounts.index(largest)]["percent"] == 100
    ordered = sorted(zip(amounts, (one["percent"] for one in shown), strict=True))
    assert [percent for _, percent in ordered] == sorted(percent for _, percent in ordered)


def test_a_long_list_says_how_many_are_missing() -> None:
    placed = [Order(OrderId(1), Timestamp("2026-10-03T09:14:15.000000Z"), OrderStatus.PLACED, Cents(1))] * 50
    many = msgspec.structs.replace(CUSTOMER, orders=1_050, placed=placed, refunds=60, undone=placed)
    for text in (rendered(many).text, Page(rendered(many).html).words):
        assert "and 1,000 before them" in text
        assert "and 10 before them" in text
