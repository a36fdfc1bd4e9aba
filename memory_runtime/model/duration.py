"""Durations as people write them: `500ms`, `30s`, `15m`, `12h`, `30d`, `2w`, `1y` (a year is 365.25 days)."""

from __future__ import annotations

import re

from memory_runtime.model.errors import InvalidArgument

DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d|w|y)$"
_DURATION = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)(ms|s|m|h|d|w|y)", re.ASCII)
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31557600.0}
_REMEDY = "write a number and a unit of ms, s, m, h, d, w or y, such as 30d"


def parse_duration(text: str, *, field: str = "duration") -> float:
    """Seconds of a written duration.

    Raises InvalidArgument, naming `field`, when the text is not a duration.
    """
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InvalidArgument(f"{field}: {text!r} is not a duration", field=field, remedy=_REMEDY)
    return float(match[1]) * _SECONDS[match[2]]


def parse_half_life(text: str | None, *, field: str = "half_life") -> float | None:
    """Seconds of a written half-life; None, or the word `none`, switches decay off.

    Raises InvalidArgument when it is not a duration, or is zero (nothing would ever be recalled).
    """
    if text is None or (isinstance(text, str) and text.lower() in {"none", ""}):
        return None
    seconds = parse_duration(text, field=field)
    if seconds <= 0.0:
        raise InvalidArgument(f"{field}: a half-life of zero would hide every memory", field=field, remedy=_REMEDY)
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest way to write `seconds`, exact where a unit divides it: 2592000 → `30d`."""
    for unit in ("y", "w", "d", "h", "m", "s"):
        count = seconds / _SECONDS[unit]
        if count >= 1.0 and count == int(count) and (unit not in {"y", "w"} or count < 1000):
            return f"{int(count)}{unit}"
    text = f"{seconds:.9f}".rstrip("0").rstrip(".")
    return f"{text or '0'}s"
