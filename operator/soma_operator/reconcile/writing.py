"""Writes a status, only when it differs, and tells of the transitions that it brings."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from soma_operator.api import Condition, ConditionStatus
from soma_operator.api.resources import API_VERSION, parse_status
from soma_operator.api.status import SomaMemoryStatus
from soma_operator.catalog.kinds import SOMA_MEMORY, Kind
from soma_operator.events.recorder import NORMAL, WARNING
from soma_operator.observe.store import Parent
from soma_operator.reconcile.workbench import Workbench
from soma_operator.status.findings import Findings
from soma_operator.status.memory import memory_status
from soma_operator.telemetry import metrics

log = logging.getLogger(__name__)
_TOLD = ("Ready", "Stalled", "Suspended", "Available")


async def write_memory_status(
    bench: Workbench, parent: Parent, found: Findings, before: SomaMemoryStatus
) -> tuple[SomaMemoryStatus, Parent]:
    """Compute and write; returns the status that is now there, and the resource with it."""
    after = memory_status(found, before, bench.now())
    if after == before:
        return before, parent
    fresh = await write_status(bench, SOMA_MEMORY, parent, after.to_manifest())
    _tell(bench, parent, before.conditions, after.conditions)
    return parse_status(SomaMemoryStatus, fresh.body), fresh


async def write_status(bench: Workbench, kind: Kind, parent: Parent, status: Mapping[str, Any]) -> Parent:
    """Server-side apply of the status subresource; the answer goes into the store."""
    manifest = {
        "apiVersion": API_VERSION,
        "kind": kind.name,
        "metadata": {"name": parent.ref.name, "namespace": parent.ref.namespace, "uid": parent.uid},
        "status": status,
    }
    answer = await bench.client.apply_status(parent.ref, manifest)
    metrics.STATUS_WRITES.labels(kind.name).inc()
    bench.store.put_parent(kind, answer)
    fresh = bench.store.parent(parent.ref)
    return fresh if fresh is not None and fresh.uid == parent.uid else parent


def _tell(bench: Workbench, parent: Parent, before: tuple[Condition, ...], after: tuple[Condition, ...]) -> None:
    former = {condition.type: condition for condition in before}
    now = {condition.type: condition for condition in after}
    for kind in _TOLD:
        old, new = former.get(kind), now.get(kind)
        if new is None or (old is not None and (old.status, old.reason) == (new.status, new.reason)):
            continue
        if old is None and new.status is ConditionStatus.FALSE:
            continue
        wrong = kind == "Stalled" or (kind == "Available" and new.status is ConditionStatus.FALSE)
        if kind == "Ready" and new.status is not ConditionStatus.TRUE:
            continue
        log.info("condition changed", extra={"condition": kind, "status": new.status.value, "reason": new.reason})
        reason = new.reason if kind in ("Stalled", "Ready") else f"{kind}{new.status.value}"
        bench.recorder.record(parent.ref, parent.uid, WARNING if wrong else NORMAL, reason, f"{kind}: {new.message}")
