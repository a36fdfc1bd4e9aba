"""status.history: the latest generations that were rolled out."""

from __future__ import annotations

import hashlib

from soma_operator.api import Reason, SomaMemoryStatus
from soma_operator.api.status import HistoryEntry
from soma_operator.status.findings import Findings

_KEPT = 5


def history(
    found: Findings, before: SomaMemoryStatus, reason: Reason, serves: bool, now: str
) -> tuple[HistoryEntry, ...]:
    """Newest first. A new entry begins with each generation or set of objects that is rolled out."""
    child = found.deployment
    suspended = found.memory is not None and found.memory.spec.suspend
    if child is None or found.stall is not None or suspended or child.ref not in found.facts:
        return before.history
    digest = hashlib.sha256(f"{child.hash}".encode()).hexdigest()[:16]
    entries = list(before.history)
    if not entries or (entries[0].generation, entries[0].hash) != (found.generation, digest):
        entries.insert(0, HistoryEntry(generation=found.generation, version=found.version, hash=digest, started_at=now))
    head = entries[0]
    completed = head.completed_at or (now if serves else None)
    outcome = head.outcome if head.completed_at else reason.value
    entries[0] = head.model_copy(update={"completed_at": completed, "outcome": outcome})
    return tuple(entries[:_KEPT])
