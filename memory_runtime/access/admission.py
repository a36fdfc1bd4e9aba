"""How much work is let in at once: a bound on requests and a bound on buffered bytes, so that overload stays small."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from memory_runtime.model.errors import Unavailable

MOST_IN_FLIGHT = 256
MOST_OF_ONE_TENANT = 192
"""What is left is for all others, however much one tenant sends."""
MOST_BUFFERED_BYTES = 64 << 20
RETRY_AFTER = 1.0
_REMEDY = "try again a little later, with fewer requests at once"


class Admission:
    """Counts requests in flight, and those of each tenant; beyond a bound a request is refused at once rather than
    queued for ever.
    """

    def __init__(
        self,
        most: int = MOST_IN_FLIGHT,
        of_one: int = MOST_OF_ONE_TENANT,
        *,
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        """`refused` is called for each request that is not let in."""
        self._most, self._of_one = most, of_one
        self._refused = refused
        self._by_tenant: Counter[str] = Counter()
        self.in_flight = 0

    @contextmanager
    def enter(self, tenant: str = "") -> Iterator[None]:
        """Holds one place. Raises Unavailable when all are taken, or all that the tenant may have."""
        if self.in_flight >= self._most or self._by_tenant[tenant] >= self._of_one:
            self._refused()
            raise Unavailable("too many requests at once", remedy=_REMEDY, retry_after=RETRY_AFTER)
        self.in_flight += 1
        self._by_tenant[tenant] += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self._by_tenant[tenant] -= 1
            if not self._by_tenant[tenant]:
                del self._by_tenant[tenant]


class BodyBudget:
    """Counts the bytes of bodies that are held in memory; `room_for` a single largest body is always kept.

    Without it, a few hundred admitted requests of the largest size would fill the machine.
    """

    def __init__(
        self, most: int = MOST_BUFFERED_BYTES, *, room_for: int = 0, refused: Callable[[], None] = lambda: None
    ) -> None:
        """`refused` is called for each request whose bytes do not fit."""
        self._least = most
        self._most = max(most, room_for)
        self._refused = refused
        self.held = 0

    def keep_room_for(self, count: int) -> None:
        """Takes over the size of a single largest body."""
        self._most = max(self._least, count)

    def take(self, count: int) -> None:
        """Counts bytes in. Raises Unavailable when the budget is spent."""
        if self.held + count > self._most:
            self._refused()
            raise Unavailable("too many bytes in flight", remedy=_REMEDY, retry_after=RETRY_AFTER)
        self.held += count

    def give_back(self, count: int) -> None:
        """Counts bytes out."""
        self.held -= count
