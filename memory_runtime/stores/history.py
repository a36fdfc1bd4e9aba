"""What a memory was at a past moment: which of its versions counted then, the current or one superseded since.

"Then" is when a version was stored (its ingest time). Of a memory that was stored later than the moment asked for, as a
backfill is, the last version counts that had happened by then (its event time).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from memory_runtime.model.records import MemoryRecord
from memory_runtime.stores.resilience.deadline import check_time
from memory_runtime.stores.rows import COLUMNS, record

COPIED: Final = (
    "id", "version", "collection", "tenant", "namespace", "memory_type", "coordinate", "coordinate_first",
    "importance_raw", "importance_norm", "normaliser_version", "event_time", "ingest_time", "access_time",
    "access_count", "features", "model_revision", "pinned", "hold", "expires_at", "seq", "payload",
)  # fmt: skip
"""The columns of `memories` that a superseded version keeps; beside them the vector and when it was superseded."""


class Superseded(NamedTuple):
    """A version that was superseded after the moment asked for; `passes` the filters; when the current one happened."""

    record: MemoryRecord
    passes: bool
    current_event_time: float


_PART: Final = 500
"""Versions between two looks at the deadline: some milliseconds."""


def selected(named: Callable[[Sequence[str]], str], *, payloads: bool) -> str:
    """COLUMNS as a query of versions names them; without payloads, which are most of the bytes, empty ones."""
    if payloads:
        return named(COLUMNS)
    at = COLUMNS.index("payload")
    return f"{named(COLUMNS[:at])}, '{{}}', {named(COLUMNS[at + 1 :])}"


def superseded(found: Iterable[Sequence[Any]]) -> Iterator[Superseded]:
    """Of rows of COLUMNS, vector, whether it passes the filters, and when the current one happened.

    Raises DeadlineExceeded.
    """
    for count, one in enumerate(found):
        if count % _PART == 0:
            check_time()
        if one[-1] is not None:
            yield Superseded(record(one, one[-3]), bool(one[-2]), one[-1])


class Past(NamedTuple):
    """`replaced` are ids whose current version did not count yet; `versions` those that did, where they are visible."""

    replaced: frozenset[bytes]
    versions: tuple[MemoryRecord, ...]


NOTHING: Final = Past(frozenset(), ())


def past_of(found: Iterable[Superseded], at: float) -> Past:
    """What counted at `at`. `found` holds, in any order, every version superseded after it."""
    by_id: dict[bytes, list[Superseded]] = {}
    for one in found:
        by_id.setdefault(one.record.id.bytes, []).append(one)
    replaced: set[bytes] = set()
    versions: list[MemoryRecord] = []
    for identity, several in by_id.items():
        several.sort(key=lambda one: one.record.version)
        stored = [one for one in several if one.record.ingest_time <= at]
        if not stored and several[-1].current_event_time <= at:
            continue  # stored later, all of it: what is there now had happened by then
        happened = stored or [one for one in several if one.record.event_time <= at]
        if not happened:
            continue
        replaced.add(identity)
        chosen = happened[-1]
        expired = chosen.record.ends_at is not None and chosen.record.ends_at <= at
        if chosen.passes and chosen.record.event_time <= at and not expired:
            versions.append(chosen.record)
    return Past(frozenset(replaced), tuple(versions))
