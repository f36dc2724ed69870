"""Calendar months of a time zone, and the instants at which they begin.

A month begins when the clocks of the zone first show its first day, or a later one where that day or its midnight is
skipped. It ends when the next one begins, so that every instant is in one month: where clocks go back over midnight
on the first, what they show twice of the last day is counted with the new month.
"""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import takewhile
from typing import NamedTuple, NewType

from securedelivery.errors import Refusal
from securedelivery.model import Timestamp, timestamp

Month = NewType("Month", str)
"""`2026-10`. Text order is the order of time."""

MAX_BACK = 12
"""Months whose summaries are still sent after a downtime; what is older is no news to anybody."""

_FORM = re.compile("(19[7-9][0-9]|[2-9][0-9]{3})-(0[1-9]|1[0-2])", re.ASCII)
_SECOND = timedelta(seconds=1)


class Bounds(NamedTuple):
    """Half open: since is the first instant of a month, until that of the next one."""

    since: Timestamp
    until: Timestamp


def parsed(text: str) -> Month:
    """From 1970 on. Raises Refusal at /month."""
    if not _FORM.fullmatch(text) or text == "9999-12":
        raise Refusal.invalid("/month", "not a month like 2026-10")
    return Month(text)


def later(month: Month, months: int) -> Month:
    """months: below 0 for earlier."""
    year, number = divmod(int(month[:4]) * 12 + int(month[5:]) - 1 + months, 12)
    return Month(f"{year:04}-{number + 1:02}")


def month_of(moment: datetime, zone: tzinfo) -> Month:
    """In which an instant is. moment: aware."""
    month = Month(moment.astimezone(zone).strftime("%Y-%m"))
    following = later(month, 1)
    # Clocks that went back over midnight show the last day of a month once more.
    return following if begin(following, zone) <= moment else month


def begin(month: Month, zone: tzinfo) -> datetime:
    """The month's first instant, in UTC."""
    midnight = datetime(int(month[:4]), int(month[5:]), 1)  # noqa: DTZ001 -- as the zone's clocks show it
    first, second = (midnight.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first <= second:
        return first
    # No clock has shown this midnight. It was skipped within these two, at the first second that shows a later time.
    early, late = second, first
    while late - early > _SECOND:
        middle = early + (late - early) // 2
        middle = middle.replace(microsecond=0)
        if middle.astimezone(zone).replace(tzinfo=None) < midnight:
            early = middle
        else:
            late = middle
    return late


def bounds(month: Month, zone: tzinfo) -> Bounds:
    return Bounds(timestamp(begin(month, zone)), timestamp(begin(later(month, 1), zone)))


def due(month: Month, zone: tzinfo, hour: int) -> datetime:
    """When the month is to be told of: on the first of the next one at this hour of the zone, in UTC.

    Where clocks skip that hour, an hour later; where they show it twice, the first time.
    """
    following = later(month, 1)
    return datetime(int(following[:4]), int(following[5:]), 1, hour, tzinfo=zone).astimezone(UTC)


def last_whole(now: datetime, zone: tzinfo) -> Month:
    """The last month that is over. now: aware."""
    return later(month_of(now, zone), -1)


def to_tell(since: datetime, now: datetime, zone: tzinfo, hour: int) -> list[Month]:
    """Months that are due, oldest first, from the one in which `since` is, and at most the last MAX_BACK."""
    last = last_whole(now, zone)
    if due(last, zone, hour) > now:
        last = later(last, -1)
    first = max(month_of(since, zone), later(last, 1 - MAX_BACK))
    return list(takewhile(lambda month: month <= last, (later(first, number) for number in range(MAX_BACK))))


def title(month: Month) -> str:
    """`October 2026`."""
    return datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC).strftime("%B %Y")


def short_title(month: Month) -> str:
    """`Oct 2026`."""
    name, _, year = title(month).partition(" ")
    return f"{name[:3]} {year}"
