"""Slots for rollouts that nobody asked for: an upgrade of the operator must not restart the whole fleet at once."""

from __future__ import annotations

from collections.abc import Callable

from soma_operator.catalog.kinds import Ref

_FORGOTTEN_AFTER = 900.0


class RolloutSlots:
    """So many rollouts at once, and a pause after each. A slot is held until its rollout is complete or has failed."""

    def __init__(self, count: int, delay: float, clock: Callable[[], float]) -> None:
        self._count = count
        self._delay = delay
        self._clock = clock
        self._held: dict[Ref, float] = {}
        self._free_at: list[float] = []

    def take(self, key: Ref) -> bool:
        """Whether `key` may roll out now."""
        now = self._clock()
        self._held = {held: since for held, since in self._held.items() if now - since < _FORGOTTEN_AFTER}
        self._free_at = [time for time in self._free_at if time > now]
        if key in self._held:
            return True
        if len(self._held) + len(self._free_at) >= self._count:
            return False
        self._held[key] = now
        return True

    def release(self, key: Ref) -> None:
        """The rollout of `key` has ended, or the resource is gone; the slot rests for the delay."""
        if self._held.pop(key, None) is not None and self._delay > 0:
            self._free_at.append(self._clock() + self._delay)
