"""Where months begin in the time zones of the world, and when they are due."""

# ruff: noqa: DTZ001 -- what clocks show

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securedelivery.errors import Reason, Refusal
from securedelivery.service import months
from securedelivery.service.months import Month

ZONES = sorted(available_timezones())
MINUTE = timedelta(minutes=1)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))


class Jump(tzinfo):
    """A zone whose clocks go from `before` to `after` of UTC at one instant."""

    def __init__(self, at: datetime, before: timedelta, after: timedelta) -> None:
        self.at, self.before, self.after = at.replace(tzinfo=None), before, after

    def utcoffset(self, dt: datetime | None) -> timedelta:
        assert dt is not None
        local = dt.replace(tzinfo=None)
        first, second = self.at + min(self.before, self.after), self.at + max(self.before, self.after)
        if first <= local < second:  # shown twice, or never
            return self.after if dt.fold else self.before
        return self.before if local < first else self.after

    def dst(self, dt: datetime | None) -> timedelta:  # noqa: ARG002 -- tzinfo's
        return timedelta(0)

    def fromutc(self, dt: datetime) -> datetime:
        utc = dt.replace(tzinfo=None)
        local = utc + (self.before if utc < self.at else self.after)
        again = self.before > self.after and self.at <= utc < self.at + (self.before - self.after)
        return local.replace(tzinfo=self, fold=int(again))


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


def year(first: str) -> list[str]:
    return [months.later(Month(first), number) for number in range(12)]


def shown_from(month: Month, zone: tzinfo) -> datetime:
    """The slow way: minute after minute, the first at which clocks show the month or a later one."""
    first = datetime(int(month[:4]), int(month[5:]), 1)
    moment = first.replace(tzinfo=UTC) - timedelta(hours=30)
    while moment.astimezone(zone).replace(tzinfo=None) < first:
        moment += MINUTE
    return moment


@pytest.mark.parametrize(
    ("zone", "month", "begin", "end"),
    [
        ("UTC", "2026-10", "2026-10-01T00:00", "2026-11-01T00:00"),
        ("UTC", "2026-12", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("Europe/Berlin", "2026-02", "2026-01-31T23:00", "2026-02-28T23:00"),
        ("Europe/Berlin", "2026-03", "2026-02-28T23:00", "2026-03-31T22:00"),
        ("Europe/Berlin", "2026-10", "2026-09-30T22:00", "2026-10-31T23:00"),
        # Summer time that ends on the first itself, and begins on it.
        ("America/New_York", "2026-11", "2026-11-01T04:00", "2026-12-01T05:00"),
        ("Australia/Sydney", "2017-10", "2017-09-30T14:00", "2017-10-31T13:00"),
        # Midnight of the first was skipped: it began at 01:00.
        ("America/Asuncion", "2017-10", "2017-10-01T04:00", "2017-11-01T03:00"),
        ("Asia/Amman", "2016-04", "2016-03-31T22:00", "2016-04-30T21:00"),
        # Clocks went back at one minute past midnight: it began twice, and the first counts.
        ("America/St_Johns", "2009-11", "2009-11-01T02:30", "2009-12-01T03:30"),
        # As far ahead and as far behind as it goes, and beside the hour.
        ("Pacific/Kiritimati", "2026-10", "2026-09-30T10:00", "2026-10-31T10:00"),
        ("Etc/GMT+12", "2026-10", "2026-10-01T12:00", "2026-11-01T12:00"),
        ("Asia/Kathmandu", "2028-02", "2028-01-31T18:15", "2028-02-29T18:15"),
        # The 30th of December was no day there.
        ("Pacific/Apia", "2011-12", "2011-12-01T10:00", "2011-12-31T10:00"),
    ],
)
def test_where_a_month_begins_and_ends(zone: str, month: str, begin: str, end: str) -> None:
    assert months.bounds(Month(month), ZoneInfo(zone)) == (f"{begin}:00.000000Z", f"{end}:00.000000Z")


@pytest.mark.parametrize(
    ("at", "before", "after"),
    [
        ("2026-09-30T23:30:00", 0.0, 1.0),  # 23:30 to 00:30, over midnight
        ("2026-10-01T10:00:00", -11.0, 14.0),  # 23:00 on the 30th to 00:00 on the second, over the whole first
        ("2026-09-30T23:59:59", 0.0, 1 / 3600),  # one second, to midnight
        ("2026-10-01T00:30:00", 0.0, -1.0),  # 00:30 back to 23:30
        ("2026-10-01T00:00:00", 0.0, -1.0),  # what would have been midnight back to 23:00
        ("2026-10-01T00:00:00", 0.0, 1.0),  # midnight itself to 01:00
    ],
)
def test_clocks_that_change_about_midnight(at: str, before: float, after: float) -> None:
    instant = datetime.fromisoformat(at)
    zone = Jump(instant, hours(before), hours(after))
    begin = months.begin(Month("2026-10"), zone)
    just_before = begin - timedelta(microseconds=1)
    assert begin.astimezone(zone).replace(tzinfo=None) >= datetime(2026, 10, 1)
    assert just_before.astimezone(zone).replace(tzinfo=None) < datetime(2026, 10, 1)
    assert (months.month_of(just_before, zone), months.month_of(begin, zone)) == ("2026-09", "2026-10")
    # Also where clocks go back behind it, everything later is in the month.
    for later in (0.25, 0.75, 1.25):
        assert months.month_of(begin + hours(later), zone) == "2026-10"
    assert all(months.due(Month("2026-09"), zone, hour) >= begin for hour in range(24))


@settings(deadline=None)
@given(st.sampled_from(ZONES), st.integers(1970 * 12 + 1, 2099 * 12 + 11))
def test_a_month_begins_when_clocks_first_show_it(name: str, number: int) -> None:
    zone, month = ZoneInfo(name), Month(f"{number // 12}-{number % 12 + 1:02}")
    begin = months.begin(month, zone)
    slow = shown_from(month, zone)
    assert slow - MINUTE < begin <= slow  # offsets of long ago have seconds
    assert begin.astimezone(zone).replace(tzinfo=None) >= datetime(number // 12, number % 12 + 1, 1)


@settings(deadline=None)
@given(st.sampled_from(ZONES), moments)
def test_every_instant_is_in_one_month(name: str, moment: datetime) -> None:
    zone = ZoneInfo(name)
    month = months.month_of(moment, zone)
    assert months.begin(month, zone) <= moment < months.begin(months.later(month, 1), zone)
    assert months.last_whole(moment, zone) == months.later(month, -1)


def test_what_clocks_show_twice_of_the_last_day_is_the_new_months() -> None:
    zone = ZoneInfo("America/St_Johns")
    moment = datetime(2009, 11, 1, 2, 31, tzinfo=UTC)  # back from 00:01 to 23:01
    assert moment.astimezone(zone).isoformat() == "2009-10-31T23:01:00-03:30"
    assert months.month_of(moment, zone) == months.month_of(moment - MINUTE, zone) == "2009-11"
    assert months.month_of(moment - 2 * MINUTE, zone) == "2009-10"


@pytest.mark.parametrize(
    ("zone", "month", "hour", "due"),
    [
        ("UTC", "2026-10", 8, "2026-11-01T08:00"),
        ("UTC", "2026-12", 0, "2027-01-01T00:00"),
        ("Europe/Berlin", "2026-10", 8, "2026-11-01T07:00"),
        ("Europe/Berlin", "2026-06", 8, "2026-07-01T06:00"),
        ("Pacific/Kiritimati", "2026-10", 8, "2026-10-31T18:00"),
        ("Pacific/Pago_Pago", "2026-10", 23, "2026-11-02T10:00"),
        # 01:00 on the first is shown twice; 02:00 on the first, and midnight, are skipped.
        ("America/New_York", "2026-10", 1, "2026-11-01T05:00"),
        ("Australia/Sydney", "2017-09", 2, "2017-09-30T16:00"),
        ("America/Asuncion", "2017-09", 0, "2017-10-01T04:00"),
    ],
)
def test_when_a_month_is_due(zone: str, month: str, hour: int, due: str) -> None:
    assert months.due(Month(month), ZoneInfo(zone), hour) == datetime.fromisoformat(due).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "now", "found"),
    [
        # The month in which it began is the first, whenever in it that was; nothing before.
        ("2026-10-31T23:59:59", "2026-11-01T07:59:59.999999", []),
        ("2026-10-31T23:59:59", "2026-11-01T08:00", ["2026-10"]),
        ("2026-11-01T00:00", "2026-11-01T08:00", []),
        ("2026-11-01T00:00", "2026-12-01T08:00", ["2026-11"]),
        ("2026-08-15T00:00", "2026-11-22T00:00", ["2026-08", "2026-09", "2026-10"]),
        ("2020-01-01T00:00", "2026-11-01T07:00", year("2025-10")),
        ("2020-01-01T00:00", "2026-11-01T08:00", year("2025-11")),
        ("2026-11-22T00:00", "2026-01-01T08:00", []),  # a clock that was set back
    ],
)
def test_which_months_are_to_be_told_of(since: str, now: str, found: list[str]) -> None:
    start, end = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (since, now))
    assert months.to_tell(start, end, ZoneInfo("UTC"), 8) == found


@settings(deadline=None)
@given(st.sampled_from(ZONES), moments, moments, st.integers(0, 23))
def test_all_that_are_due_and_none_that_is_not(name: str, since: datetime, now: datetime, hour: int) -> None:
    zone = ZoneInfo(name)
    found = months.to_tell(since, now, zone, hour)
    every = [months.month_of(since, zone)]
    while months.due(every[-1], zone, hour) <= now:
        every.append(months.later(every[-1], 1))
    assert found == every[:-1][-months.MAX_BACK :]


@pytest.mark.parametrize(
    "text",
    ["", "2026", "2026-13", "2026-00", "2026-1", "26-10", "2026-10-01", "1969-12", "9999-12", "٢٠٢٦-10", "2026-10\n"],
)
def test_what_is_no_month(text: str) -> None:
    with pytest.raises(Refusal, match="not a month like 2026-10") as refused:
        months.parsed(text)
    assert (refused.value.reason, refused.value.data) == (Reason.INVALID_PARAMS, {"path": "/month"})


@pytest.mark.parametrize("text", ["1970-01", "2026-10", "2026-12", "9999-11"])
def test_what_is_a_month(text: str) -> None:
    month = months.parsed(text)
    assert months.later(months.later(month, -7), 7) == text
    for zone in ("UTC", "Pacific/Kiritimati", "Etc/GMT+12"):
        assert months.begin(month, ZoneInfo(zone)) < months.begin(months.later(month, 1), ZoneInfo(zone))


def test_in_words() -> None:
    assert (months.title(Month("2026-10")), months.title(Month("2027-01"))) == ("October 2026", "January 2027")
    assert (months.short_title(Month("2026-09")), months.short_title(Month("2026-05"))) == ("Sep 2026", "May 2026")
