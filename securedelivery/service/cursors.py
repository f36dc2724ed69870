"""Cursors: where a list goes on, as an opaque string. base64url of the kind of list and the item's key, without
padding.
"""

import base64
import binascii

from securedelivery.errors import Refusal


def encode(kind: str, key: str) -> str:
    """kind: one letter, so that a cursor of one list does not fit another."""
    return base64.urlsafe_b64encode(f"{kind}:{key}".encode()).rstrip(b"=").decode()


def decode(kind: str, cursor: str) -> str:
    """The key. Raises Refusal `invalid_params` for what encode() did not make."""
    try:
        plain = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError):
        raise bad() from None
    found, _, key = plain.partition(":")
    # The decoder is generous with letters that are none, and with padding; a cursor has one spelling.
    if found != kind or encode(kind, key) != cursor:
        raise bad()
    return key


def decode_number(kind: str, cursor: str) -> int:
    """The key, where that is a number of at most 53 bits."""
    key = decode(kind, cursor)
    if not (key.isascii() and key.isdigit() and len(key) < 17):  # noqa: PLR2004 -- 2**53 has 16 digits
        raise bad()
    return int(key)


def bad() -> Refusal:
    return Refusal.invalid("/after", "not a cursor of this list; pass on `next` as it was given")
