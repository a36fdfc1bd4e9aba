"""status.drift: the edits that were found, newest first."""

from __future__ import annotations

from soma_operator.api import SomaMemoryStatus
from soma_operator.api.status import Drift, DriftItem
from soma_operator.status.findings import Findings

_KEPT = 10


def drift_status(found: Findings, before: SomaMemoryStatus, now: str) -> Drift:
    """Adds what this reconcile found to what was found in the same generation."""
    former = before.drift if before.drift and before.observed_generation == found.generation else Drift()
    known = {_identity(item) for item in former.items}
    fresh: list[DriftItem] = []
    for finding in found.drift:
        edit = finding.edit
        item = DriftItem(
            object=str(edit.ref),
            path=edit.field[:512],
            manager=edit.manager[:256],
            time=edit.time or _time_before(edit.manager, str(edit.ref), edit.field, former) or now,
            action=finding.action,
        )
        if _identity(item) not in known:
            fresh.append(item)
    if not fresh:
        return former
    # An edit whose action changed (reported, then corrected) is the same edit.
    edits = {_edit(item) for item in fresh}
    rest = [item for item in former.items if _edit(item) not in edits]
    new = len(edits - {_edit(item) for item in former.items})
    return Drift(count=former.count + new, items=tuple((fresh + rest)[:_KEPT]))


def _edit(item: DriftItem) -> tuple[str, str, str | None, str | None]:
    return (item.object, item.path, item.manager, item.time)


def _identity(item: DriftItem) -> tuple[str, ...]:
    return (item.object, item.path, str(item.manager), str(item.time), item.action.value)


def _time_before(manager: str, name: str, path: str, former: Drift) -> str | None:
    """A removed field has no editor with a time: keep the one noted first, or the status would change for ever."""
    for item in former.items:
        if (item.object, item.path, item.manager) == (name, path, manager):
            return item.time
    return None
