"""A recall at a past moment: versions that counted then, searched as the index searches what counts now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from memory_runtime.engine.following import Follower
from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.coordinates import Coordinate
from memory_runtime.model.records import MemoryRecord, Scope
from memory_runtime.scoring import ExactIndex
from memory_runtime.stores.contracts import Rows
from memory_runtime.stores.history import NOTHING, Past
from memory_runtime.stores.resilience.deadline import check_time
from memory_runtime.stores.sessions import LedgerView
from memory_runtime.stores.values import CLIENT_REVISION, Facts

_PART: Final = 20_000
"""Versions put into the index between two looks at the deadline."""


def was_at_coordinate(
    view: LedgerView, scope: Scope, coordinate: Coordinate, memory_type: str | None, at: float
) -> MemoryRecord | None:
    """The memory that was at the coordinate at that moment, the last stored of several types; None where none was."""
    # what is there now is read first: an update between the two queries is in the past that is read second
    standing = view.at_coordinate(scope, coordinate, memory_type, at)
    past = view.past(scope, at, memory_type=memory_type, coordinate=coordinate)
    now = [one for one in standing if one.id.bytes not in past.replaced and one.event_time <= at]
    return max((*now, *past.versions), key=lambda one: one.seq, default=None)


class PastIndex:
    """The versions that counted at a past moment in place of what counts now, with an index of their own.

    `replaced` are ids that the index of what counts now must not answer with; `records` have no payloads.
    Making it takes about as long as storing so many memories in an index. Raises DeadlineExceeded.
    """

    def __init__(self, past: Past, follower: Follower, facts: dict[str, str]) -> None:
        comparable = {CLIENT_REVISION, facts.get(Facts.EMBEDDING, "")}
        self.replaced = past.replaced
        # a vector of another embedding than that which serves cannot be compared with a query's
        usable = [
            one
            for one in past.versions
            if one.vector is not None and len(one.vector) == follower.index.dim and one.model_revision in comparable
        ]
        self.records = {one.id.bytes: one for one in usable}
        self.index: ExactIndex | None = None
        if usable:
            self.index = follower.fresh_index()
            for start in range(0, len(usable), _PART):
                check_time()
                self.index.upsert(follower.batch(_rows(usable[start : start + _PART])))
            check_time()


def past_index(
    view: LedgerView, follower: Follower, scope: Scope, at: float | None, memory_type: str | None, filters: object
) -> PastIndex | None:
    """What must be answered otherwise than now; None where nothing must."""
    if at is None:
        return None
    past = view.past(scope, at, memory_type=memory_type, filters=filters or None, payloads=False)  # type: ignore[arg-type]
    return None if past == NOTHING else PastIndex(past, follower, view.facts())


def _rows(records: Sequence[MemoryRecord]) -> Rows:
    return Rows(
        0,
        [one.id.bytes for one in records],
        [one.tenant for one in records],
        [one.namespace for one in records],
        [one.memory_type for one in records],
        [one.importance_norm for one in records],
        [one.event_time for one in records],
        [np.inf if one.ends_at is None else one.ends_at for one in records],
        [canonical_json(one.features, field="features") if one.features else None for one in records],
        np.stack([one.vector for one in records if one.vector is not None]),
        [one.pinned for one in records],
    )
