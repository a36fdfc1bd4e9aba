"""Labels whose values callers choose: the first so many, and one word for all that come after; or one word for all."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

OTHER: Final = "other"
ALL: Final = "all"
"""In place of a name that is not to be told: /metrics asks for no token."""

Value = TypeVar("Value", bound=Hashable)


class FirstValues(Generic[Value]):
    """Keeps the first `most` values that it sees; every later new one is `other`. A time series costs about 1 KB.

    Without it anyone who may store could fill the memory of this process, and of Prometheus, by sending ever new names.
    """

    def __init__(self, other: Value, most: int = 100) -> None:
        self._other = other
        self._most = most
        self._seen: set[Value] = set()

    def __call__(self, value: Value) -> Value:
        """The value, if it is among the first, else `other`."""
        if value in self._seen:
            return value
        if len(self._seen) >= self._most:
            return self._other
        self._seen.add(value)
        return value
