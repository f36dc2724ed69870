"""Values as people read them, and text of others made harmless for a terminal."""

import re
import unicodedata
from datetime import datetime

from securedelivery import model
from securedelivery.model import Cents, Timestamp

__all__ = ["ascii_json", "clean", "columns_of", "escape_json", "moment", "money", "quantity"]

# What moves the cursor, colours, renames windows or turns the direction of writing: C0, DEL, C1, bidirectional controls
# (Unicode Standard Annex 9), line and paragraph separators, and half surrogate pairs.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_NOT_ASCII = re.compile("[^\x00-\x7f]")


def clean(text: str) -> str:
    """One line that does nothing to a terminal: line ends become commas, other controls U+FFFD."""
    if text.isascii() and text.isprintable():
        return text
    lines = [line.strip() for line in text.splitlines()] if "\n" in text else [text]
    return _UNSAFE.sub("\ufffd", ", ".join(line for line in lines if line))


def escape_json(document: str) -> str:
    """JSON with the characters that JSON allows and a terminal does not, as escapes: the values stay the same."""
    return _UNSAFE.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", document)


def ascii_json(document: str) -> str:
    """JSON in ASCII alone; characters beyond the BMP become two escapes (RFC 8259, section 7)."""

    def escape(found: re.Match[str]) -> str:
        units = found[0].encode("utf-16-be")
        return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))

    return _NOT_ASCII.sub(escape, document)


def columns_of(text: str) -> int:
    """How many columns of a terminal it takes; text: as clean() leaves it."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text
    )


def money(amount: Cents, currency: str) -> str:
    """`EUR 1,234.50`, `JPY 1,235`, `EUR -5.00`."""
    return model.money(amount, clean(currency))


def moment(at: Timestamp) -> str:
    """A time in this computer's zone, to the minute: `2026-11-30 18:45`. What is no time stays as it is."""
    try:
        return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError):
        return clean(at)


def quantity(number: int, singular: str, plural: str = "") -> str:
    """`1 order`, `2 orders`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
