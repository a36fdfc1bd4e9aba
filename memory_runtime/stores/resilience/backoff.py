"""How long to wait before a repeat, and how many repeats a back end in trouble can be asked to bear."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with full jitter: before repeat n, anything from 0 to min(cap, base·2^(n-1)) seconds.

    Full jitter spreads a crowd of callers evenly, which equal steps would send back all at once.
    """

    base: float = 0.05
    cap: float = 2.0

    def wait(self, repeat: int, dice: float) -> float:
        """Seconds before repeat number `repeat` (from 1); `dice` is uniform in [0, 1)."""
        return dice * min(self.cap, self.base * 2.0 ** min(repeat - 1, 60))


class RetryBudget:
    """At most `ratio` repeats per first call in the long run, `burst` of them at once.

    When everything fails, each caller's three attempts would be three times the load on what is already down; with the
    budget it is 1 + `ratio` times.
    """

    def __init__(self, ratio: float = 0.1, burst: float = 10.0) -> None:
        self._ratio, self._burst = ratio, burst
        self._left = burst

    def deposit(self) -> None:
        """A first call was made."""
        self._left = min(self._burst, self._left + self._ratio)

    def withdraw(self) -> bool:
        """Whether a repeat may be made; if so it is paid for."""
        if self._left < 1.0 - 1e-9:
            return False
        self._left -= 1.0
        return True
