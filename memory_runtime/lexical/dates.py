"""Dates in a question (`in May 2023`, `on 7 May`, `yesterday`, `3 weeks ago`) as spans of time. English; UTC."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Without a year, a month may be of any year: this many are tried, the newest first.
_YEARS_BACK = 10
# What happened in a span is often told after it: closeness fades over the span's length, at least this long.
_LEAST_FADE = 7 * 86_400.0

_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_COUNTS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {word: n for n, word in enumerate(_COUNTS)}
_NUMBERS |= {"a": 1, "an": 1, "couple": 2, "few": 3}
_MONTH = r"(?P<month>" + "|".join((*_MONTHS, "sept", *(name[:3] for name in _MONTHS))) + r")\b\.?"
_DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_UNIT = r"(?P<unit>day|week|month|year)s?"
_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?P<year>(?:19|20)\d\d)-(?P<mm>\d\d)(?:-(?P<day>\d\d))?\b",
        rf"\b{_DAY}\s+(?:of\s+)?{_MONTH},?\s+{_YEAR}\b",
        rf"\b{_MONTH}\s+{_DAY},?\s+{_YEAR}\b",
        rf"\b{_MONTH},?\s+(?:of\s+)?{_YEAR}\b",
        rf"\b{_DAY}\s+(?:of\s+)?{_MONTH}",
        rf"\b{_MONTH}\s+{_DAY}\b",
        rf"\b(?:in|during|since|last|this|early|late|mid)\s+{_MONTH}",
        rf"\b(?:in|during|of|since|year)\s+{_YEAR}\b",
        r"\b(?P<relative>today|yesterday)\b",
        rf"\b(?P<which>last|past|previous|this)\s+{_UNIT}\b",
        rf"\b(?P<count>\d{{1,3}}|{'|'.join(_NUMBERS)})(?:\s+of)?\s+{_UNIT}\s+ago\b",
        rf"\b(?:last|on)\s+(?P<weekday>{'|'.join(_DAYS)})\b",
    )
)


class TimeWindow(NamedTuple):
    """A span of time, in epoch seconds: from `start`, to just before `end`."""

    start: float
    end: float


def time_windows(question: str, at: float) -> tuple[TimeWindow, ...]:
    """The spans that the question's first date may mean, asked at the moment `at`; none where it names no date.

    A month or a day without a year may be that of any of the last ten years.
    """
    now = datetime.fromtimestamp(at, UTC)
    for pattern in _PATTERNS:
        found = pattern.search(question)
        if found is None:
            continue
        try:
            spans = tuple(_spans({k: v.lower() for k, v in found.groupdict().items() if v}, now))
        except (ValueError, OverflowError):
            continue  # the 31st of April may still be read as April
        if spans:
            return tuple(TimeWindow(start.timestamp(), end.timestamp()) for start, end in spans)
    return ()


def closeness(times: NDArray[np.float64], windows: Sequence[TimeWindow]) -> NDArray[np.float64]:
    """How well each time fits the best of the windows, float64 in [0, 1]: 1 inside, fading after its end, 0 before."""
    best = np.zeros(len(times))
    for start, end in windows:
        late = np.clip((times - end) / max(end - start, _LEAST_FADE), 0.0, 1.0)
        best = np.maximum(best, np.where(times < start, 0.0, 1.0 - late))
    return best


_Span = tuple[datetime, datetime]


def _spans(found: dict[str, str], now: datetime) -> Iterator[_Span]:
    if "relative" in found:
        yield _days(now - timedelta(days=found["relative"] == "yesterday"), 1)
    elif "weekday" in found:
        back = (now.weekday() - _DAYS.index(found["weekday"])) % 7 or 7
        yield _days(now - timedelta(days=back), 1)
    elif "count" in found:
        count = int(found["count"]) if found["count"].isdigit() else _NUMBERS[found["count"]]
        yield _ago(now, found["unit"], count)
    elif "which" in found:
        yield _ago(now, found["unit"], 0 if found["which"] == "this" else 1)
    else:
        yield from _calendar(found, now)


def _calendar(found: dict[str, str], now: datetime) -> Iterator[_Span]:
    month = int(found["mm"]) if "mm" in found else _month(found.get("month"))
    if month is None:
        yield datetime(int(found["year"]), 1, 1, tzinfo=UTC), datetime(int(found["year"]) + 1, 1, 1, tzinfo=UTC)
        return
    years = [int(found["year"])] if "year" in found else range(now.year, now.year - _YEARS_BACK, -1)
    for year in years:
        if "day" in found:
            yield _days(datetime(year, month, int(found["day"]), tzinfo=UTC), 1)
        else:
            start = datetime(year, month, 1, tzinfo=UTC)
            yield start, _next_month(start)


def _month(name: str | None) -> int | None:
    return None if name is None else next(n for n, full in enumerate(_MONTHS, 1) if full.startswith(name[:3]))


def _ago(now: datetime, unit: str, count: int) -> _Span:
    """The calendar unit that is `count` units back; `week` and `day` need no calendar."""
    if unit == "day":
        return _days(now - timedelta(days=count), 1)
    if unit == "week":
        return _days(now - timedelta(days=now.weekday() + 7 * count), 7)
    if unit == "year":
        return datetime(now.year - count, 1, 1, tzinfo=UTC), datetime(now.year - count + 1, 1, 1, tzinfo=UTC)
    months = now.year * 12 + now.month - 1 - count
    start = datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)
    return start, _next_month(start)


def _days(moment: datetime, count: int) -> _Span:
    start = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return start, start + timedelta(days=count)


def _next_month(start: datetime) -> datetime:
    return datetime(start.year + start.month // 12, start.month % 12 + 1, 1, tzinfo=UTC)
