"""Bytes, numbers and moments as people read them; the same on the page and in the terminal."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from securedelivery.model import minor_digits
from securedelivery.wireshark.story.model import Part

__all__ = ["Flip", "Run", "count", "day", "flip", "money", "packets", "runs"]

_NANOSECONDS = 1_000_000_000
_AROUND = 7  # bytes shown on either side of a flipped one, where much is left out


class Run(msgspec.Struct, frozen=True):
    """hex: two digits a byte, a space between bytes; empty where bytes are left out. flipped: the byte with the flipped
    bit. left_out: how many bytes are not shown here.
    """

    hex: str = ""
    flipped: bool = False
    left_out: int = 0


class Flip(msgspec.Struct, frozen=True):
    """place: which byte, from 0, as Wireshark counts. now, before: as `a7 = 10100111`."""

    place: int
    now: str
    before: str


def runs(part: Part, most: int) -> Iterator[Run]:
    """The bytes of a part; of a long one its beginning, its end, and what is around a flipped bit. most: bytes."""
    length = len(part.data)
    marked = None if part.bit is None else part.bit // 8
    shown = (
        set(range(length))
        if length <= most + most // 4
        else {*range(most * 2 // 3), *range(length - most // 3, length)}
    )
    if marked is not None:
        shown.update(range(max(0, marked - _AROUND), min(length, marked + _AROUND + 1)))
    at = 0
    while at < length:
        end = at + 1
        if at == marked:
            yield Run(hex=part.data[at:end].hex(), flipped=True)
        else:
            while end < length and end != marked and (end in shown) == (at in shown):
                end += 1
            yield Run(hex=part.data[at:end].hex(" ")) if at in shown else Run(left_out=end - at)
        at = end


def flip(part: Part) -> Flip:
    """part: one with a flipped bit."""
    assert part.bit is not None
    place, bit = divmod(part.bit, 8)
    now = part.data[place]
    return Flip(place, _binary(now), _binary(now ^ 0x80 >> bit))


def _binary(byte: int) -> str:
    return f"{byte:02x} = {byte:08b}"


def count(number: int, singular: str) -> str:
    """`1 byte`, `1,184 bytes`."""
    return f"{number:,} {singular}{'' if number == 1 else 's'}"


def packets(numbers: Sequence[int]) -> str:
    """`packet 47`, `packets 47 and 48`, `packets 47 to 50`."""
    distinct = sorted(set(numbers))
    if len(distinct) == 1:
        return f"packet {distinct[0]}"
    if distinct[-1] - distinct[0] == len(distinct) - 1 > 1:
        return f"packets {distinct[0]} to {distinct[-1]}"
    *most, last = distinct
    return f"packets {', '.join(map(str, most))} and {last}"


def day(at: int) -> str:
    """at: nanoseconds since the epoch. `22 November 2026, 17:45:02 UTC`."""
    moment = datetime.fromtimestamp(at // _NANOSECONDS, UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M:%S} UTC"


def money(amount: int, currency: str) -> str:
    """amount: in minor units. `EUR 1,234.50`."""
    digits = minor_digits(currency)
    whole, rest = divmod(amount, 10**digits)
    return f"{currency} {whole:,}.{rest:0{digits}}" if digits else f"{currency} {whole:,}"
