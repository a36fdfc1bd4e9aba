"""Times as callers write them: seconds since the epoch or ISO 8601, and how they are written back.

The one rule of every door (docs/api.md, Times). Pure; a leap second is the second after it, as the epoch counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from memory_runtime.model.errors import InvalidArgument

EARLIEST: Final = -62135596800.0
"""The beginning of the year 1; ISO 8601 has no word for what lies before."""
LATEST: Final = 253402300800.0
"""The year 10000; what lies beyond was meant in milliseconds."""
LATEST_OWN: Final = 1e11
"""The year 5138: a payload's own time beyond it stands for `never`, or is of another unit."""
_MOST_CHARACTERS: Final = 1000
_REMEDY: Final = "send seconds since the epoch, such as 1718000000, or ISO 8601, such as 2024-06-10T06:13:20Z"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = 86400
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_ISO: Final = re.compile(
    r"""(?P<year>\d{4})
    (?: -(?P<month>\d\d)(?:-(?P<day>\d\d))?
      | (?P<basic_month>\d\d)(?P<basic_day>\d\d)
      | -(?P<ordinal>\d{3})
      | (?P<basic_ordinal>\d{3})(?=[T ])
      | -W(?P<week>\d\d)(?:-(?P<weekday>[1-7]))?
      | W(?P<basic_week>\d\d)(?P<basic_weekday>[1-7])? )
    (?: (?:T|[ ]+)
        (?P<hour>\d\d) (?: :(?P<minute>\d\d)(?::(?P<second>\d\d))? | (?P<basic_minute>\d\d)(?P<basic_second>\d\d)? )?
        (?:[.,](?P<fraction>\d+))?
        (?: [ ]?(?: Z | (?P<sign>[+\-\u2212])(?P<zone_hours>\d\d)
            (?: :(?P<zone_minutes>\d\d)(?::(?P<zone_seconds>\d\d))? | (?P<basic_zone_minutes>\d\d) )? ) )?
    )?""",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)


def parse_timestamp(value: Any, *, field: str = "timestamp") -> float:
    """Seconds since the epoch, of the years 1 to 9999. Text without a zone is UTC.

    Raises InvalidArgument naming `field`.
    """
    if isinstance(value, str):
        seconds = _parse_text(value.strip(), field)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value
    else:
        raise _refusal(field, "not a time")
    # before it becomes a float: a whole number may be too large to be one. NaN is in no range either
    if not EARLIEST <= seconds < LATEST:
        milliseconds = EARLIEST * 1000 <= seconds < LATEST * 1000
        hint = "; this looks like milliseconds" if milliseconds else ""
        raise _refusal(field, f"no time of the years 1 to 9999{hint}")
    return float(seconds)


def own_time(payload: Mapping[str, Any]) -> float | None:
    """The time that a payload says it is of, in its field `timestamp`; None where it says none.

    It is the caller's own field: it need not be a time, and may say `never` by the year 9999.
    """
    try:
        seconds = parse_timestamp(payload.get("timestamp"))
    except InvalidArgument:
        return None
    return seconds if -LATEST_OWN < seconds < LATEST_OWN else None


def iso_time(seconds: float) -> str:
    """ISO 8601 in UTC with microseconds. Raises InvalidArgument for a time that it has no word for."""
    try:
        return (_EPOCH + timedelta(seconds=seconds)).isoformat()
    except (ValueError, OverflowError):
        raise _refusal("timestamp", f"{seconds!r} is no time of the years 1 to 9999") from None


def shown_time(seconds: float) -> str | None:
    """`iso_time`, or None: for reading what a ledger holds, whatever that is."""
    try:
        return iso_time(seconds)
    except InvalidArgument:
        return None


def _refusal(field: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"{field}: {why}", field=field, remedy=_REMEDY)


def _parse_text(text: str, field: str) -> float:
    if len(text) > _MOST_CHARACTERS:
        raise _refusal(field, "not a time")
    if text.isascii() and text.isdigit() and len(text) == 4:
        raise _refusal(field, f"{text!r} may be a year or seconds")
    number = _NUMBER.fullmatch(text)
    if number is not None and not (text.isdigit() and len(text) == 8):
        return float(text)
    found = _ISO.fullmatch(text)
    if found is None:
        raise _refusal(field, "not a time")
    said = {name.removeprefix("basic_"): part for name, part in found.groupdict().items() if part is not None}
    try:
        return _seconds(said)
    except (ValueError, OverflowError) as error:
        raise _refusal(field, f"not a time: {error}") from None


def _seconds(said: Mapping[str, str]) -> float:
    """Raises ValueError or OverflowError: no such day, or no such time of the day."""
    hour, minute, second = (int(said.get(name, "0")) for name in ("hour", "minute", "second"))
    # the fraction is of what was written last: 06:13.5 is half past the thirteenth minute
    unit = 1 if "second" in said else 60 if "minute" in said else 3600
    fraction = Decimal(f"0.{said.get('fraction', '0')}") * unit
    if hour > 24 or minute > 59 or second > 60 or (hour == 24 and (minute or second or fraction)):
        raise ValueError("there is no such time of the day")
    offset = _offset(said)
    whole = (_date(said).toordinal() - _EPOCH.toordinal()) * _DAY + hour * 3600 + minute * 60 + second - offset
    if second == 60 and whole % _DAY:
        raise ValueError("a leap second is 23:59:60 in UTC")
    return float(whole + fraction)


def _date(said: Mapping[str, str]) -> date:
    year = int(said["year"])
    if "week" in said:
        return date.fromisocalendar(year, int(said["week"]), int(said.get("weekday", "1")))
    if "ordinal" in said:
        day = date(year, 1, 1) + timedelta(days=int(said["ordinal"]) - 1)
        if day.year != year:
            raise ValueError("there is no such day in that year")
        return day
    return date(year, int(said["month"]), int(said.get("day", "1")))


def _offset(said: Mapping[str, str]) -> int:
    """Seconds east of UTC."""
    hours, minutes, seconds = (int(said.get(f"zone_{name}", "0")) for name in ("hours", "minutes", "seconds"))
    if hours > 23 or minutes > 59 or seconds > 59:
        raise ValueError("there is no such zone")
    east = hours * 3600 + minutes * 60 + seconds
    return east if said.get("sign", "+") == "+" else -east
