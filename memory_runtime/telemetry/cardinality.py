"""Labels whose values callers choose: the first so many, and one word for all that come after."""

from __future__ import annotations

from typing import Final

OTHER: Final = "other"


class FirstValues:
    """Keeps the first `most` values that it sees; every later new one is "other". A time series costs about 1 KB.

    Without it anyone who may store could fill the memory of this process, and of Prometheus, by sending ever new names.
    """

    def __init__(self, most: int = 100) -> None:
        self._most = most
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value, if it is among the first, else "other"."""
        if value in self._seen:
            return value
        if len(self._seen) >= self._most:
            return OTHER
        self._seen.add(value)
        return value
