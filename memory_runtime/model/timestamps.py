"""Times as callers write them: seconds since the epoch or ISO 8601, and how they are written back."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from memory_runtime.model.errors import InvalidArgument

EARLIEST = -62135596800.0
"""The beginning of the year 1; ISO 8601 has no word for what lies before."""
LATEST = 253402300800.0
"""The year 10000; what lies beyond was meant in milliseconds."""
_REMEDY = "send seconds since the epoch, such as 1718000000, or ISO 8601, such as 2024-06-10T06:13:20Z"


def parse_timestamp(value: Any, *, field: str = "timestamp") -> float:
    """Seconds since the epoch. Text without a zone is UTC. Raises InvalidArgument naming `field`."""
    if isinstance(value, str):
        seconds = _parse_text(value.strip(), field)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if abs(value) < 1e300 else math.inf
    else:
        raise InvalidArgument(f"{field}: not a time", field=field, remedy=_REMEDY)
    if not EARLIEST <= seconds < LATEST:
        hint = "; this looks like milliseconds" if math.isfinite(seconds) and abs(seconds) < LATEST * 1000 else ""
        raise InvalidArgument(f"{field}: no time of the years 1 to 9999{hint}", field=field, remedy=_REMEDY)
    return seconds


def _parse_text(text: str, field: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        pass
    try:
        return float(text)
    except ValueError:
        raise InvalidArgument(f"{field}: not a time", field=field, remedy=_REMEDY) from None


def iso_time(seconds: float) -> str:
    """ISO 8601 in UTC with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()
