"""The hash chain of the audit, and what somebody did to it. No database: rows may come from an export as well.

Row `n` carries SHA-256(hash of row n - 1 || canonical JSON of [n, at, actor, action, subject, detail]); the first row
follows 32 zero bytes. The head remembers number and hash of the newest row.

What a check can show and what it cannot: there is no key in the chain, so whoever can write the file and knows this
page can write the chain anew from any row on, and the head with it. That shows only against a copy kept elsewhere: an
export, or the head's hash noted down. Short of it every change is found, and mostly named for what it is.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import chain
from typing import NamedTuple

import msgspec

from securedelivery.model import AccountId, Timestamp

BEGINNING = bytes(32)
"""What the first row's hash follows."""

REMEMBERED = 64
"""How many forged rows in a row, with hashes that fit, are recognized as inserted, and how many taken out with what
follows numbered anew as removed. More show as one altered row."""


class AuditEntry(NamedTuple):
    """actor: None for the operator at the machine, or for somebody unknown. subject: "account:5", "order:17".

    detail: a JSON object, as text.
    """

    at: Timestamp
    actor: AccountId | None
    action: str
    subject: str | None = None
    detail: str | None = None


class AuditRow(NamedTuple):
    """hash: 32 bytes, as stored."""

    number: int
    entry: AuditEntry
    hash: bytes

    def follows(self, previous: bytes, number: int | None = None) -> bool:
        """Whether its hash is that of its entry behind `previous`. number: which it would carry, instead of its own."""
        return self.hash == chained(previous, self.number if number is None else number, self.entry)


class Head(NamedTuple):
    """The newest row; 0 and BEGINNING where there is none."""

    number: int
    hash: bytes


class Tampering(StrEnum):
    ALTERED = "altered"
    REMOVED = "removed"
    INSERTED = "inserted"
    HEAD = "head"


class Damage(NamedTuple):
    """The first thing that is wrong, in the order of the rows: with the rows numbered `first` to `last`.

    ALTERED   the row does not follow from the one before it
    REMOVED   rows are missing, in the middle or from the end
    INSERTED  rows that the program did not write
    HEAD      the head is not the newest row, which is `last`
    """

    what: Tampering
    first: int
    last: int
    remark: str = ""

    def __str__(self) -> str:
        if self.what is Tampering.HEAD:
            return self.remark
        rows = f"row {self.first} was" if self.first == self.last else f"rows {self.first} to {self.last} were"
        return f"{rows} {self.what}" + (f" ({self.remark})" if self.remark else "")


_canonical = msgspec.json.Encoder().encode


def chained(previous: bytes, number: int, entry: AuditEntry) -> bytes:
    """The hash of a row, 32 bytes. previous: that of the row before it."""
    return hashlib.sha256(previous + _canonical((number, *entry))).digest()


def examine(rows: Iterable[AuditRow], head: Head | None) -> Damage | None:
    """The first damage, or None for a whole chain. rows: ascending; each is looked at once, few are kept in memory.

    head: None where it is not known, as for an export: then nothing is missed at the end.

    What cannot be told apart, and is named as the first: a row that was altered, or taken out and another put in its
    place; a row altered, or the one before it altered together with its hash; rows taken off the end, or the head set
    ahead; rows with hashes that fit added at the end, or the head set back; the newest row altered together with its
    hash, or the head altered.
    """
    return _Check(iter(rows), head).run()


class _Check:
    """One walk along the chain."""

    def __init__(self, rows: Iterator[AuditRow], head: Head | None) -> None:
        self._rows = rows
        self._head = head
        self._number = 0
        # Of the rows so far, the newest last.
        self._hashes = deque([BEGINNING], maxlen=REMEMBERED + 1)
        self._found_head = head is not None and head == Head(0, BEGINNING)

    def run(self) -> Damage | None:
        for row in self._rows:
            if row.number != self._number + 1 or not row.follows(self._hashes[-1]):
                return self._broken(row)
            self._number = row.number
            self._hashes.append(row.hash)
            if self._head is not None and row.number == self._head.number:
                self._found_head = row.hash == self._head.hash
        return None if self._head is None else self._ended(self._head)

    def _ended(self, head: Head) -> Damage | None:
        """All rows follow one from the other."""
        last = self._number
        if head.number > last:
            return Damage(Tampering.REMOVED, last + 1, head.number, "from the end")
        if not self._found_head:
            remark = f"row {head.number} was altered together with its hash, or the head of the chain was altered"
            return Damage(Tampering.HEAD, head.number, last, remark)
        if head.number < last:
            return Damage(Tampering.INSERTED, head.number + 1, last, "at the end, or the head was set back")
        return None

    def _broken(self, row: AuditRow) -> Damage:
        """The chain breaks at this row, which does not follow from those before it."""
        expected = self._number + 1
        if row.number < expected:  # ascending numbers: only the first row can, for there is no row 0
            return Damage(Tampering.INSERTED, row.number, row.number)
        rest = _Rest(expected, self._hashes[-1], chain((row,), self._rows), self._head)
        if self._head is not None and self._found_head:  # and the break is behind it
            first = self._head.number + 1 if self._number > self._head.number else row.number
            return Damage(Tampering.INSERTED, first, rest.last, "at the end")
        return self._gap(row, rest) if row.number > expected else self._mismatch(row, rest)

    def _left_behind(self, row: AuditRow, rest: "_Rest") -> int | None:
        """Where forged rows begin whose hashes fit: this row, and what comes behind it, follows from the one before
        them. With the number it had before they were put in, or with its own where they stood at the end when it was
        written.
        """
        hashes = self._hashes
        for back in range(1, len(hashes)):
            for number in (row.number - back, row.number):
                if row.follows(hashes[-1 - back], number) and rest.goes_on(number):
                    return row.number - back
        return None

    def _gap(self, row: AuditRow, rest: "_Rest") -> Damage:
        expected = self._number + 1
        if rest.original is not None:
            return Damage(Tampering.ALTERED, expected, expected, f"it carries the number {rest.original} now")
        last = row.number - 1
        if self._head is not None and self._head.number >= expected:
            last = min(last, self._head.number)
        return Damage(Tampering.REMOVED, expected, last)

    def _mismatch(self, row: AuditRow, rest: "_Rest") -> Damage:
        number = row.number
        if (first := self._left_behind(row, rest)) is not None:
            return Damage(Tampering.INSERTED, first, number - 1)
        if rest.resumed is not None:
            return Damage(Tampering.INSERTED, number, rest.resumed - 1)
        if missing := rest.missing():
            return Damage(Tampering.REMOVED, number, number + missing - 1, "what follows was numbered anew")
        if rest.hash_altered():
            return Damage(Tampering.ALTERED, number, number, "its hash")
        if rest.original is not None:
            return Damage(Tampering.ALTERED, number, number, f"what stood there is row {rest.original} now")
        remark = f"or row {number - 1} together with its hash" if number > 1 else ""
        return Damage(Tampering.ALTERED, number, number, remark)


class _Rest:
    """What the rows from the break on tell of it; reads them all.

    expected: the number that is next, previous: the hash that its row would follow, rows: from the break on.

    original: the number that the row now carries which was `expected` (None: it is gone, or was altered)
    resumed:  the number of the row with which the chain goes on behind rows that were put in
    last:     the number of the newest row
    """

    def __init__(self, expected: int, previous: bytes, rows: Iterator[AuditRow], head: Head | None) -> None:
        self._previous = previous
        self._head = head
        self._first = next(rows)
        self._second: AuditRow | None = None
        self.original: int | None = None
        self.resumed: int | None = None
        last = self._first
        # A row that follows from the last good one, and the number as which the chain goes on behind it, if it does.
        anchor: tuple[AuditRow, int] | None = None
        for row in chain((self._first,), rows):
            if self._second is None and row is not self._first:
                self._second = row
            if self.resumed is None and anchor is not None and row.follows(anchor[0].hash, anchor[1] + 1):
                self.resumed = anchor[0].number
            anchor = None
            if self.original is None and row.follows(previous, expected):
                self.original = row.number  # and perhaps moved up with all behind it
                anchor = row, expected
            elif row.number > expected and row.follows(previous):
                anchor = row, row.number  # written when forged rows stood at the end
            last = row
        if self.resumed is None and anchor is not None and self._is_newest(anchor[0]):
            self.resumed = anchor[0].number
        self.last = last.number

    def goes_on(self, number: int) -> bool:
        """Whether the chain does, behind the first row, as if that carried `number`."""
        if self._second is None:
            return self._is_newest(self._first)
        return self._second.follows(self._first.hash, number + 1)

    def _is_newest(self, row: AuditRow) -> bool:
        return self._head is None or self._head.hash == row.hash

    def missing(self) -> int:
        """How many rows were taken out in front of the first one, where those behind were moved down; 0: not so."""
        first, second = self._first, self._second
        ahead = 0 if self._head is None else self._head.number - self.last
        if second is None:
            return max(0, ahead) if self._is_newest(first) else 0
        candidates = (*range(1, REMEMBERED + 1), ahead) if ahead > REMEMBERED else range(1, REMEMBERED + 1)
        return next((many for many in candidates if second.follows(first.hash, second.number + many)), 0)

    def hash_altered(self) -> bool:
        """Whether only the first row's hash is wrong: what follows goes on from what it should be."""
        own = chained(self._previous, self._first.number, self._first.entry)
        if self._second is None:
            return self._head is not None and self._head == Head(self._first.number, own)
        return self._second.follows(own)
