"""The next view while a write makes it: nothing of it shows until it is published, in one assignment."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring import codes, merge
from memory_runtime.scoring.basis import Basis
from memory_runtime.scoring.fresh import CAPACITY, Fresh
from memory_runtime.scoring.rows import Ids, Ints, RowBatch, hash_ids
from memory_runtime.scoring.search import View
from memory_runtime.scoring.segment import Segment, build
from memory_runtime.scoring.source import Table


class Draft:
    """Changes to a view by one writer, who holds the index's lock. `name` names new segments."""

    def __init__(self, view: View, basis: Basis, norm: float, name: Callable[[], str]) -> None:
        self._view = view
        self._basis, self._norm, self._name = basis, norm, name
        self.params = view.params
        self.segments = list(view.segments)
        self.fresh = view.fresh
        self.epoch = view.epoch + 1

    def bury(self, ids: Ids, hashed: npt.NDArray[np.uint64] | None = None) -> int:
        """Marks the living rows of these ids dead from this write on; returns how many. Older readers see them."""
        gone = 0
        hashed = hash_ids(ids) if hashed is None else hashed
        for segment in self.segments:
            gone += self._mark(segment, segment.find(ids, self.epoch, hashed))
        return gone + (self._mark(self.fresh, self.fresh.find(ids, self.epoch)) if self.fresh.count else 0)

    def _mark(self, part: Segment | Fresh, found: Ints) -> int:
        found = found[found >= 0]
        if len(found) > 1:
            found = np.unique(found)  # an id that was named twice dies once
        if len(found):
            codes.deaths(part.records)[found] = self.epoch
            part.dead += len(found)
        return len(found)

    def add(self, rows: RowBatch) -> None:
        """Adds rows whose ids do not live here: large batches as a segment, small ones to the fresh rows."""
        if len(rows) >= CAPACITY:
            self.segments.append(build(self._name(), rows, self.params, self._basis, self._norm))
            return
        start = 0
        while start < len(rows):
            if not self.fresh.room:
                self.seal()
            end = min(len(rows), start + self.fresh.room)
            self.fresh.append(rows if end - start == len(rows) else rows.take(np.arange(start, end)))
            start = end

    def seal(self) -> None:
        """Makes a segment of the fresh rows and starts anew."""
        sealed = merge.merge(self._name(), [self.fresh], self.epoch, self.params, self.fresh.basis, self._norm)
        if len(sealed):
            self.segments.append(sealed)
        self.fresh = Fresh(self._basis, len(self.params.feature_names), self._norm, self.fresh.kind)

    def replace(self, parts: Collection[Segment], merged: Segment, since: int) -> None:
        """Puts `merged`, the rows of `parts` alive at `since`, in their place; later deaths are carried over."""
        ids, deaths = merge.late_deaths(list(parts), since)
        position = merged.find(ids, since)
        found = position >= 0
        codes.deaths(merged.records)[position[found]] = deaths[found]
        merged.dead = int(np.count_nonzero(found))
        gone = {id(part) for part in parts}
        self.segments = [segment for segment in self.segments if id(segment) not in gone]
        if len(merged):
            self.segments.append(merged)

    def view(self) -> View:
        """What readers see once this is published."""
        known = {id(segment): table for segment, table in zip(self._view.segments, self._view.tables, strict=True)}
        tables = tuple(known.get(id(segment)) or table_of(segment) for segment in self.segments)
        fresh = self.fresh
        return View(tuple(self.segments), tables, fresh, fresh.table(), fresh.count, self.epoch, self.params)


def table_of(segment: Segment) -> Table:
    """The columns of a segment that scanning needs."""
    return Table(
        segment.name, segment.basis, segment.error, segment.norm, segment.ids, segment.importance, segment.features,
        segment.vectors, segment.records, segment.prefix, segment.head, segment.check,
    )  # fmt: skip
