"""What a match of a date's pattern means: spans of the calendar, from the named groups of the match. UTC."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from memory_runtime.lexical import date_words as words

# Without a year, a month may be of any year: this many are tried, the newest first.
_YEARS_BACK = 10

Span = tuple[datetime, datetime]
Found = re.Match[str]


def calendar(found: Found, now: datetime) -> Iterator[Span]:
    """A day or a month, of a year or of any."""
    groups = found.groupdict()
    month = int(groups["mm"]) if groups.get("mm") else words.MONTHS[groups["month"].lower().rstrip(".")]
    years = [int(groups["year"])] if groups.get("year") else range(now.year, now.year - _YEARS_BACK, -1)
    for year in years:
        if groups.get("day"):
            first = datetime(year, month, int(groups["day"]), tzinfo=UTC)
            last = int(groups.get("last") or 0)
            yield _days(first, last - first.day + 1 if first.day < last <= 31 else 1)
        else:
            start = datetime(year, month, 1, tzinfo=UTC)
            yield start, _months_on(start, 1)


def figures(found: Found, now: datetime) -> Iterator[Span]:
    """`5/7/2023`, which may be of May or of July; with points, the day comes first."""
    one, other, sign = int(found["one"]), int(found["other"]), found["sign"]
    year = int(found["yy"]) + (2000 if len(found["yy"]) == 2 else 0) if found["yy"] else None
    orders = [(other, one)] if sign == "." else [(one, other), (other, one)]
    for month, day in dict.fromkeys(orders):
        if month > 12 or day > 31:
            continue
        for number in [year] if year else range(now.year, now.year - _YEARS_BACK, -1):
            yield _days(datetime(number, month, day, tzinfo=UTC), 1)


def year(found: Found, now: datetime) -> Iterator[Span]:
    start = datetime(int(found["year"]), 1, 1, tzinfo=UTC)
    groups = found.groupdict()
    if (groups.get("how") or "").lower() == "since":
        yield start, max(now, _months_on(start, 12))
    elif groups.get("to"):
        yield start, datetime(int(groups["to"]) + 1, 1, 1, tzinfo=UTC)
    elif groups.get("quarter"):
        start = _months_on(start, 3 * words.QUARTERS[groups["quarter"].lower()] - 3)
        yield start, _months_on(start, 3)
    else:
        yield start, _months_on(start, 12)


def months_to_months(found: Found, _now: datetime) -> Iterator[Span]:
    first, last = (words.MONTHS[found[name].lower().rstrip(".")] for name in ("month", "until"))
    start = datetime(int(found["year"]) - (first > last), first, 1, tzinfo=UTC)
    yield start, _months_on(start, (last - first) % 12 + 1)


def decade(found: Found, _now: datetime) -> Iterator[Span]:
    text = found["decade"]
    start = datetime(int(text) if len(text) == 4 else 1900 + int(text), 1, 1, tzinfo=UTC)
    yield start, _months_on(start, 120)


def season(found: Found, now: datetime) -> Iterator[Span]:
    """Of the northern hemisphere; a winter is of the year that it begins in, or ends in."""
    month = words.SEASONS[found["season"].lower()]
    year = found.groupdict().get("year")
    if year:
        years = [int(year), int(year) - 1] if month == 12 else [int(year)]
    elif found["how"].lower() == "last":
        years = [next(y for y in range(now.year, 0, -1) if _months_on(datetime(y, month, 1, tzinfo=UTC), 3) <= now)]
    else:
        years = [now.year - (now.month < month)]
    for one in years:
        start = datetime(one, month, 1, tzinfo=UTC)
        yield start, _months_on(start, 3)


def day_word(found: Found, now: datetime) -> Iterator[Span]:
    yield _days(now - timedelta(days=words.DAYS_BACK[" ".join(found["relative"].lower().split())]), 1)


def weekday(found: Found, now: datetime) -> Iterator[Span]:
    back = (now.weekday() - words.WEEKDAYS[found["weekday"].lower().rstrip(".")]) % 7 or 7
    yield _days(now - timedelta(days=back), 1)


def which(found: Found, now: datetime) -> Iterator[Span]:
    yield _ago(now, found["unit"].lower(), 0 if found["which"].lower() == "this" else 1)


def _count(found: Found) -> int:
    text = found["count"].lower()
    return int(text) if text.isdigit() else words.COUNTS[text]


def units_ago(found: Found, now: datetime) -> Iterator[Span]:
    yield _ago(now, found["unit"].lower(), _count(found))


def units_until_now(found: Found, now: datetime) -> Iterator[Span]:
    unit, count = found["unit"].lower(), _count(found)
    yield (
        _ago(now, unit, count)[0] if unit in {"month", "quarter", "year", "decade"} else now - count * _LENGTH[unit],
        now,
    )


_LENGTH = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "weekend": timedelta(days=7),
}
_MONTHS_IN = {"month": 1, "quarter": 3, "year": 12, "decade": 120}


def _ago(now: datetime, unit: str, count: int) -> Span:
    """The calendar unit that is `count` units back."""
    if unit in _MONTHS_IN:
        size = _MONTHS_IN[unit]
        months = now.year * 12 + now.month - 1
        start = (months // size - count) * size
        first = datetime(start // 12, start % 12 + 1, 1, tzinfo=UTC)
        return first, _months_on(first, size)
    moment = now - count * _LENGTH[unit]
    if unit in {"minute", "hour"}:
        return moment - _LENGTH[unit], moment + _LENGTH[unit]
    if unit == "day":
        return _days(moment, 1)
    monday = moment - timedelta(days=moment.weekday())
    return _days(monday + timedelta(days=5), 2) if unit == "weekend" else _days(monday, 7)


def _days(moment: datetime, count: int) -> Span:
    start = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return start, start + timedelta(days=count)


def _months_on(start: datetime, count: int) -> datetime:
    months = start.year * 12 + start.month - 1 + count
    return start.replace(year=months // 12, month=months % 12 + 1)
