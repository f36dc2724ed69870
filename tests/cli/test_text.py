import pytest

from securedelivery.api.messages import Page
from securedelivery.cli import paging
from securedelivery.cli.order import _line
from securedelivery.cli.text import clean, columns_of, escape_json, moment, money, quantity
from securedelivery.errors import ConfigurationError
from securedelivery.model import Cents, Timestamp


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (0, "EUR", "EUR 0.00"),
        (7, "EUR", "EUR 0.07"),
        (123450, "EUR", "EUR 1,234.50"),
        (-123450, "USD", "USD -1,234.50"),
        (1234567, "JPY", "JPY 1,234,567"),
        (1234567, "KWD", "KWD 1,234.567"),
        (5, "KWD", "KWD 0.005"),
        (2**53, "EUR", "EUR 90,071,992,547,409.92"),
        (1, "\x1b[", "\ufffd[ 0.01"),
    ],
)
def test_money(amount: int, currency: str, shown: str) -> None:
    assert money(Cents(amount), currency) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Bücher 部品 🛒", "Bücher 部品 🛒"),
        ("a\nb\r\n\n c", "a, b, c"),
        ("\x1b[31m", "\ufffd[31m"),
        ("\x9b31m\x7f\u202e\u2066\ud800", "\ufffd31m" + "\ufffd" * 4),
        ("", ""),
    ],
)
def test_clean(text: str, shown: str) -> None:
    assert clean(text) == shown
    assert clean(shown) == shown


def test_escape_json() -> None:
    assert escape_json('{\n "a": "\x9b\u202eü"\n}') == '{\n "a": "\\u009b\\u202eü"\n}'


def test_widths() -> None:
    assert [columns_of(text) for text in ("abc", "部品", "é", "e\u0301")] == [3, 4, 1, 1]


def test_quantities_and_moments() -> None:
    assert [quantity(number, "point") for number in (0, 1, 2, 1500)] == [
        "0 points",
        "1 point",
        "2 points",
        "1,500 points",
    ]
    assert moment(Timestamp("no time")) == "no time"
    assert len(moment(Timestamp("2026-11-22T09:00:00.000000Z"))) == 16
    assert moment(Timestamp("0001-01-01T00:00:00Z"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("GPU", ("GPU", 1)),
        ("GPU:2", ("GPU", 2)),
        ("GPU:RTX:2", ("GPU:RTX", 2)),
        ("GPU:RTX", ("GPU:RTX", 1)),
        ("GPU:", ("GPU:", 1)),
        (":2", (":2", 1)),
        ("1:2", ("1", 2)),
        ("GPU:10000", ("GPU", 10_000)),
        ("GPU:-1", ("GPU:-1", 1)),
        ("GPU:٣", ("GPU:٣", 1)),
    ],
)
def test_lines(text: str, line: tuple[str, int]) -> None:
    assert _line(text) == line


@pytest.mark.parametrize("text", ["", "GPU:0", "GPU:10001", "GPU:00000000000"])
def test_what_is_no_line(text: str) -> None:
    with pytest.raises(ConfigurationError):
        _line(text)


@pytest.mark.parametrize(
    ("limit", "asked", "following"),
    [
        (None, [200, 200, 200], None),
        (450, [200, 200, 50], "450"),
        (200, [200], "200"),
        (1, [1], "1"),
        (900, [200] * 3, None),
    ],
)
def test_pages_are_followed_as_far_as_the_limit(limit: int | None, asked: list[int], following: str | None) -> None:
    seen = []

    def page(after: str | None, most: int) -> Page[int]:
        seen.append(most)
        start = int(after or 0)
        end = min(start + most, 600)
        return Page(list(range(start, end)), str(end) if end < 600 else None)

    found = paging.collect(page, after=None, limit=limit)
    assert found.items == list(range(min(limit or 600, 600)))
    assert found.next == following
    assert seen == asked
