"""Dates in a question (`in May 2023`, `on 7 May`, `yesterday`, `3 weeks ago`) as spans of time, in UTC.

English, and dates in figures, with month names and words such as `gestern` of some other languages. Rules, not a
library: dateparser 1.5 (`search_dates`, English alone) finds dates in `May I see`, `2000 steps`, `did we march` and `in
the sun`, and takes about 15 ms a question. What a word means is told by what stands around it: `_evidence` and
`_amounts` say how.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory_runtime.lexical import date_spans as spans
from memory_runtime.lexical import date_words as words
from memory_runtime.lexical.date_spans import Found, Span

# In a longer text, no date is looked for beyond: its cost would be the square of the length.
_LONGEST = 2000
# What happened in a span is often told after it: closeness fades over the span's length, at least this long.
_LEAST_FADE = 7 * 86_400.0

_MONTH = rf"(?P<month>{words.MONTH})\b\.?"
_DAY = r"(?P<day>[0-3]?\d)(?:(?P<ordinal>st|nd|rd|th)|\.)?"
_RANGE = r"(?:-|\u2013|to|and|until|through)"
_UPTO = rf"(?:\s*{_RANGE}\s*(?P<last>[0-3]?\d)(?:st|nd|rd|th)?(?!\d))?"
_YEAR = r"(?P<year>(?:19|20)\d\d)(?![\d]|[.,:/]\d|\s*[%°$€£¥])"
_OF = r"(?:of|de|del|di|do|d[eu])"
_PART_OF = r"(?:beginning|start|middle|end)\s+of"
_WEEKDAY = rf"(?P<weekday>{words.WEEKDAY})\b\.?"
_COUNT = rf"(?P<count>\d{{1,3}}|{words.COUNT})"
_PERIOD = r"(?P<unit>hour|day|week|weekend|month|quarter|year|decade)"
_UNIT = r"(?P<unit>minute|hour|day|week|weekend|month|quarter|year|decade)s?"
_TODAY = "today|tonight|yesterday|the\\s+day\\s+before\\s+yesterday|last\\s+night|this\\s+(?:morning|afternoon|evening)"


class TimeWindow(NamedTuple):
    """A span of time, in epoch seconds: from `start`, to just before `end`."""

    start: float
    end: float


def time_windows(question: str, at: float) -> tuple[TimeWindow, ...]:
    """The spans that the question's first date may mean, asked at the moment `at`; none where it names no date.

    A month or a day without a year may be that of any of the last ten years; `5/7/2023` may be May or July.
    """
    question, now = question[:_LONGEST], datetime.fromtimestamp(at, UTC)
    if not _HINT.search(question):
        return ()
    for pattern, is_meant, read in _RULES:
        for found in pattern.finditer(question):
            if not is_meant(found):
                continue
            try:
                meant = tuple(read(found, now))
            except (ValueError, OverflowError):
                continue  # the 31st of April may still be read as April
            if meant:
                return tuple(TimeWindow(start.timestamp(), end.timestamp()) for start, end in meant)
    return ()


def closeness(times: NDArray[np.float64], windows: Sequence[TimeWindow]) -> NDArray[np.float64]:
    """How well each time fits the best of the windows, float64 in [0, 1]: 1 inside, fading after its end, 0 before."""
    best = np.zeros(len(times))
    for start, end in windows:
        late = np.clip((times - end) / max(end - start, _LEAST_FADE), 0.0, 1.0)
        best = np.maximum(best, np.where(times < start, 0.0, 1.0 - late))
    return best


# What is meant by a match


def _before(found: Found, group: str | int = 0) -> str:
    return found.string[: found.start(group)].rstrip()


def _after(found: Found) -> str:
    return found.string[found.end() :].lstrip()


def _next_word(found: Found) -> str:
    match = re.match(r"[^\W\d_]+", _after(found))
    return match.group() if match else ""


def _amounts(found: Found) -> bool:
    """Whether the number that the match ends in counts something: `2000 steps`, `a total of 2000`, `5%`."""
    if not found.group()[-1].isdigit():
        return False
    after, word = _after(found), _next_word(found).lower()
    if re.match(r"[%°$€£¥]|-\w", after) or word in words.MEASURES or re.match(r"of\s+(?:us|them|you|the)\b", after):
        return True
    year = found.groupdict().get("year")
    if year and not year.endswith("00"):
        return False
    if word in words.COUNTED or (year and word.endswith("s") and word not in words.NO_PLURALS):
        return True
    before = re.search(r"([a-z]+)$", _before(found).lower()) if found.group().lower().startswith("of") else None
    return bool(before and before.group(1) in words.AMOUNTS)


def _evidence(found: Found) -> bool:
    """Whether a month that is also a word (`may`, `march`) is the month here."""
    name, groups = found.group("month"), found.groupdict()
    if name.lower() not in words.AMBIGUOUS or groups.get("ordinal"):
        return True
    before, follows = _before(found, "month"), _next_word(found).lower()
    if groups.get("year"):
        return not (name.islower() and re.search(rf"\b(?:{words.DETERMINERS})$", before, re.IGNORECASE))
    if not follows or follows in words.AFTER_A_DATE:
        return True
    if name[0].isupper() and before and before[-1] not in '.!?:"“(\n':
        return follows not in words.VERBS
    introduced = re.search(rf"\b(?:{words.BEFORE_A_DATE})$", _before(found), re.IGNORECASE)
    return bool(introduced) and follows not in words.VERBS | words.PRONOUNS


def _is_date(found: Found) -> bool:
    return _evidence(found) and not _amounts(found)


def _is_year(found: Found) -> bool:
    return not _amounts(found)


def _is_period(found: Found) -> bool:
    """`in May`, `this March`: a month alone, so the words around it tell."""
    name, how, follows = found.group("month"), found.group("how").lower(), _next_word(found).lower()
    if name.lower() not in words.AMBIGUOUS:
        return True
    if how.endswith("of"):
        return True
    if follows in words.VERBS or re.search(rf"\b(?:{words.DETERMINERS})$", _before(found), re.IGNORECASE):
        return False
    # `this may` and `last march` are a subject and a noun as often
    return name[0].isupper() or how not in {"this", "last"} or not follows or (how, follows) == ("last", "in")


def _is_weekday(found: Found) -> bool:
    if found.group("weekday").lower() in words.FULL_WEEKDAYS:
        return True
    follows = _next_word(found)
    return found.group("weekday")[0].isupper() and (not follows or follows.lower() in words.AFTER_A_DATE)


def _is_bare_weekday(found: Found) -> bool:
    return found.group("weekday")[0].isupper() and bool(_before(found))


def _always(_found: Found) -> bool:
    return True


_Rule = tuple[re.Pattern[str], Callable[[Found], bool], Callable[[Found, datetime], Iterator[Span]]]


def _rule(
    pattern: str,
    is_meant: Callable[[Found], bool],
    read: Callable[[Found, datetime], Iterator[Span]],
) -> _Rule:
    return re.compile(pattern, re.IGNORECASE), is_meant, read


_HINT = re.compile(
    rf"\d|\b(?:{words.MONTH}|{words.WEEKDAY}|{_TODAY}|{words.OTHER_DAYS}|{words.SEASON})\b"
    rf"|{_UNIT}\b|{words.UNSPACED_DAYS}",
    re.IGNORECASE,
)
"""What every date has some of: most questions end here."""
_NUMBER_BEFORE = r"(?<![\w$€£¥#+@.,/:\-\u2013])"
_NUMBER_AFTER = r"(?![\d/\-]|\.\d)"
_RULES: tuple[_Rule, ...] = (
    _rule(
        rf"{_NUMBER_BEFORE}(?P<year>(?:19|20)\d\d)-(?P<mm>[01]\d)-(?P<day>[0-3]\d)(?![\d-])", _always, spans.calendar
    ),
    _rule(
        rf"{_NUMBER_BEFORE}(?P<year>(?:19|20)\d\d)/(?P<mm>[01]?\d)/(?P<day>[0-3]?\d)(?![\d/])", _always, spans.calendar
    ),
    _rule(rf"{_NUMBER_BEFORE}(?P<year>(?:19|20)\d\d)-(?P<mm>[01]\d)(?![\d-])", _always, spans.calendar),
    _rule(
        r"(?P<year>(?:19|20)\d\d)\s*[年년]\s*(?P<mm>[01]?\d)\s*[月월](?:\s*(?P<day>[0-3]?\d)\s*[日号號일])?",
        _always,
        spans.calendar,
    ),
    _rule(r"(?<!\d)(?P<mm>[01]?\d)\s*[月월]\s*(?P<day>[0-3]?\d)\s*[日号號일]", _always, spans.calendar),
    _rule(r"(?P<year>(?:19|20)\d\d)\s*[年년]", _always, spans.year),
    _rule(
        rf"{_NUMBER_BEFORE}(?P<one>[0-3]?\d)(?P<sign>[/.\-])(?P<other>[0-3]?\d)(?P=sign)(?P<yy>(?:19|20)\d\d){_NUMBER_AFTER}",
        _always,
        spans.figures,
    ),
    _rule(
        r"\b(?:on|by|until|since|dated)\s+(?P<one>[0-3]?\d)(?P<sign>/)(?P<other>[0-3]?\d)(?:/(?P<yy>\d\d))?"
        r"(?![\d/%]|\.\d|\s+of\b)",
        _always,
        spans.figures,
    ),
    _rule(
        rf"\b{_MONTH}\s*{_RANGE}\s*(?P<until>{words.MONTH})\b\.?,?\s+(?:of\s+)?{_YEAR}",
        _is_year,
        spans.months_to_months,
    ),
    _rule(rf"{_NUMBER_BEFORE}{_DAY}{_UPTO}\s*(?:{_OF}\s+)?{_MONTH},?\s+(?:{_OF}\s+)?{_YEAR}", _is_date, spans.calendar),
    _rule(rf"\b{_MONTH}\s+(?:the\s+)?{_DAY}{_UPTO},?\s+{_YEAR}", _is_date, spans.calendar),
    _rule(rf"\b{_MONTH},?\s+(?:{_OF}\s+)?{_YEAR}", _is_date, spans.calendar),
    _rule(rf"{_NUMBER_BEFORE}{_DAY}{_UPTO}\s+(?:{_OF}\s+)?{_MONTH}(?!\s+\d)", _is_date, spans.calendar),
    _rule(rf"\b{_MONTH}\s+(?:the\s+)?{_DAY}{_UPTO}(?![\d:]|[.,/]\d)", _is_date, spans.calendar),
    _rule(rf"\b(?P<season>{words.SEASON})\s+(?:of\s+)?{_YEAR}", _is_year, spans.season),
    _rule(rf"\bQ(?P<quarter>[1-4])(?:\s+of)?,?\s+{_YEAR}", _is_year, spans.year),
    _rule(rf"\b(?P<quarter>first|second|third|fourth|last)\s+quarter\s+(?:of\s+)?{_YEAR}", _is_year, spans.year),
    _rule(
        rf"\b(?P<how>in|during|throughout|since|last|this|early|late|mid|{_PART_OF})[\s-]+{_MONTH}(?!\s+\d)",
        _is_period,
        spans.calendar,
    ),
    _rule(
        rf"\b(?:from|between|in)\s+{_YEAR}\s*{_RANGE}\s*(?P<to>(?:19|20)\d\d)(?!\d|[.,]\d)",
        _is_year,
        spans.year,
    ),
    _rule(rf"\b(?P<how>in|during|throughout|of|since|year|early|late|mid)[\s-]+{_YEAR}", _is_year, spans.year),
    _rule(
        r"\b(?:in|during|of|since|from)\s+the\s+(?:early\s+|late\s+|mid[\s-])?'?(?P<decade>(?:(?:19|20)\d|[3-9])0)'?s\b",
        _always,
        spans.decade,
    ),
    _rule(rf"\b(?P<relative>{_TODAY})\b", _always, spans.day_word),
    _rule(rf"\b(?P<relative>{words.OTHER_DAYS})\b", _always, spans.day_word),
    _rule(rf"(?P<relative>{words.UNSPACED_DAYS})", _always, spans.day_word),
    _rule(rf"\b(?P<how>last|this)\s+(?P<season>{words.SEASON})\b", _always, spans.season),
    _rule(rf"\b(?P<which>last|past|previous|this)\s+{_PERIOD}\b", _always, spans.which),
    _rule(rf"\b(?:last|past|previous)\s+{_COUNT}(?:\s+of)?\s+{_UNIT}\b", _always, spans.units_until_now),
    _rule(rf"\b{_COUNT}(?:\s+of)?\s+{_UNIT}\s+(?:ago|back|earlier)\b", _always, spans.units_ago),
    _rule(rf"\b(?:last|on|this|since)\s+{_WEEKDAY}", _is_weekday, spans.weekday),
    _rule(
        rf"\b(?P<weekday>{'|'.join(words.FULL_WEEKDAYS)})(?=\s*(?:[?.!,]|$)|\s+(?:morning|afternoon|evening|night)\b)",
        _is_bare_weekday,
        spans.weekday,
    ),
)
