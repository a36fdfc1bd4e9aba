"""The byte budget of the index: the heaviest rows stay, and of the others a bound is kept that certifies answers."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Final

import numpy as np

from memory_runtime.scoring import ExactIndex
from memory_runtime.scoring.budget import Bound, Place, joined, lightest, row_bytes
from memory_runtime.scoring.rows import Ids
from memory_runtime.settings import SMFSettings

OVERSHOOT: Final = 0.05
"""Rows are given up once the index is this far beyond its budget: a pass over its columns is not made for a few."""
OVERSHOOT_FILLING: Final = 0.25


class Residency:
    """Gives up the lightest rows of an index beyond `most`. One writer thread and the caller of `settle`."""

    def __init__(self, settings: SMFSettings, clock: Callable[[], float]) -> None:
        size = row_bytes(settings.vector_dim)
        self.budget = settings.index_budget_mb * 2**20
        self.row_bytes = size
        self.most = max(1, int(self.budget // size)) if self.budget else 0
        self.enforced = False
        self._clock = clock
        self._known: weakref.WeakKeyDictionary[ExactIndex, dict[Place, Bound]] = weakref.WeakKeyDictionary()
        self._touched: list[Ids] | None = None

    def enforce(self) -> None:
        """Holds indexes to the budget from now on: there is a store through which the other rows are found."""
        self.enforced = bool(self.most)

    def bounds(self, index: ExactIndex) -> Mapping[Place, Bound]:
        """What is known of the rows that this index gave up: read it after the search that it shall certify."""
        return self._known.get(index, {})

    def over(self, index: ExactIndex) -> int:
        """Rows beyond the budget; 0 where there is none."""
        return max(0, len(index) - self.most) if self.most else 0

    def touch(self, ids: Ids) -> None:
        """These rows were written while it is decided which go: they stay. Under the follower's lock."""
        if self._touched is not None:
            self._touched.append(ids)

    def settle_filling(self, index: ExactIndex) -> None:
        """Keeps an index that nobody else writes to within reach of its budget."""
        if self.enforced and len(index) > self.most * (1 + OVERSHOOT_FILLING):
            self._give_up(index, len(index) - self.most)

    def settle(self, index: ExactIndex, lock: Lock, current: Callable[[], ExactIndex]) -> int:
        """Gives up what is beyond the budget of the index in use, and says how many rows that were.

        Blocking, for a thread of its own. Writers wait only while the rows are marked dead: which ones go is decided
        aside, and a row that is written meanwhile stays.
        """
        if not self.enforced or len(index) <= self.most * (1 + OVERSHOOT):
            return 0
        with lock:
            self._touched = []
        try:
            leaving = lightest(index.view(), len(index) - self.most, self._clock())
            with lock:
                if index is not current():
                    return 0
                if self._touched:
                    leaving = leaving.without(np.concatenate(self._touched))
                # before they leave: a search that misses them must find the bound
                self._know(index, leaving.bounds())
                return index.delete(leaving.ids) if len(leaving.ids) else 0
        finally:
            with lock:
                self._touched = None

    def _give_up(self, index: ExactIndex, count: int) -> None:
        leaving = lightest(index.view(), count, self._clock())
        self._know(index, leaving.bounds())
        index.delete(leaving.ids)
        while index.maintain():
            pass

    def _know(self, index: ExactIndex, more: Mapping[Place, Bound]) -> None:
        # a new dictionary each time: readers hold the one that they took
        self._known[index] = joined(self.bounds(index), more)
