"""status.drift: the edits that stand, and those that were corrected within the last day."""

from __future__ import annotations

from datetime import datetime, timedelta

from soma_operator.api import SomaMemoryStatus
from soma_operator.api.status import Drift, DriftAction, DriftItem
from soma_operator.status.findings import DriftFinding, Findings

_KEPT = 10
_REMEMBERED = timedelta(days=1)


def drift_status(found: Findings, before: SomaMemoryStatus, now: str) -> Drift:
    """What stands is counted; what was corrected is listed for a day, whatever generation it was of.

    Of an object that this reconcile did not look at, what stood before stands.
    """
    former = before.drift or Drift()
    fresh = [_item(finding, former, now) for finding in found.drift]
    edits = {_edit(item) for item in fresh}
    rest = [item for item in former.items if _edit(item) not in edits and _stays(item, found, now)]
    # Those that stand first: they are what somebody has to act upon.
    items = sorted([*fresh, *rest], key=lambda item: not _is_open(item))
    unlisted = max(0, former.count - sum(map(_is_open, former.items))) if not found.examined else 0
    return Drift(count=sum(map(_is_open, items)) + unlisted, items=tuple(items[:_KEPT]))


def _item(finding: DriftFinding, former: Drift, now: str) -> DriftItem:
    edit = finding.edit
    name, path, manager = str(edit.ref), edit.field[:512], edit.manager[:256]
    known = [item for item in former.items if (item.object, item.path, item.manager) == (name, path, manager)]
    # A removed field has no editor with a time: keep the one noted first, or the status would change for ever.
    time = edit.time or next((item.time for item in known), None) or now
    same = next((item for item in known if item.time == time and item.action is finding.action), None)
    acted_at = same.acted_at if same is not None else now
    return DriftItem(object=name, path=path, manager=manager, time=time, action=finding.action, acted_at=acted_at)


def _stays(item: DriftItem, found: Findings, now: str) -> bool:
    if _is_open(item):
        return item.object not in found.examined
    return _age(item.acted_at or item.time, now) < _REMEMBERED


def _age(then: str | None, now: str) -> timedelta:
    try:
        return datetime.fromisoformat(now) - datetime.fromisoformat(then or "")
    except (ValueError, TypeError):
        return _REMEMBERED  # written by another version: of no known age


def _is_open(item: DriftItem) -> bool:
    return item.action in (DriftAction.REPORTED, DriftAction.BACKING_OFF)


def _edit(item: DriftItem) -> tuple[str, str, str | None, str | None]:
    """An edit whose action changed (reported, then corrected) is the same edit."""
    return (item.object, item.path, item.manager, item.time)
