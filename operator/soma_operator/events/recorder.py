"""Records Events in the background: a repeated one extends its series, and each resource has a budget."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from soma_operator.catalog.kinds import Ref
from soma_operator.catalog.names import FIELD_MANAGER
from soma_operator.cluster.client import ClusterClient
from soma_operator.cluster.errors import ApiError
from soma_operator.telemetry import metrics

log = logging.getLogger(__name__)
NORMAL, WARNING = "Normal", "Warning"
_BUDGET = 25
_REFILL_SECONDS = 60.0
_SERIES_SECONDS = 1800.0
_SERIES_PAUSE = 60.0
_BACKLOG = 500
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing to tell about a resource."""

    ref: Ref
    uid: str
    kind: str
    reason: str
    message: str


@dataclass(slots=True)
class _Series:
    name: str
    sent: float
    count: int = 1


class Recorder:
    """`record` never waits and never fails; `run` sends."""

    def __init__(self, client: ClusterClient, identity: str, clock: Callable[[], float]) -> None:
        self._client = client
        self._identity = identity
        self._clock = clock
        self._backlog: asyncio.Queue[Happening] = asyncio.Queue(_BACKLOG)
        self._series: dict[Happening, _Series] = {}
        self._budget: dict[str, tuple[float, float]] = {}

    def record(self, ref: Ref, uid: str, kind: str, reason: str, message: str) -> None:
        """Tell about `ref`; what exceeds the backlog is dropped and counted."""
        try:
            self._backlog.put_nowait(Happening(ref, uid, kind, reason, message[:1000]))
        except asyncio.QueueFull:
            metrics.EVENTS.labels("dropped").inc()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            happening = await self._backlog.get()
            try:
                await self._send(happening)
            except ApiError as error:
                # An Event that cannot be sent must never hold up or repeat the work it tells of.
                metrics.EVENTS.labels("failed").inc()
                log.debug("event not sent: %s", error)

    async def _send(self, happening: Happening) -> None:
        now = self._clock()
        self._series = {key: s for key, s in self._series.items() if now - s.sent < _SERIES_SECONDS}
        series = self._series.get(happening)
        if series is not None:
            series.count += 1
            if now - series.sent < _SERIES_PAUSE:
                metrics.EVENTS.labels("aggregated").inc()
                return
            series.sent = now
            body = {"series": {"count": series.count, "lastObservedTime": _micro_time()}}
            with contextlib.suppress(ApiError):
                await self._client.apply_event(happening.ref.namespace, series.name, body)
                metrics.EVENTS.labels("aggregated").inc()
            return
        if not self._within_budget(happening.uid, now):
            metrics.EVENTS.labels("limited").inc()
            return
        name = _event_name(happening)
        await self._client.create_event(happening.ref.namespace, self._body(happening, name))
        self._series[happening] = _Series(name, now)
        metrics.EVENTS.labels("sent").inc()

    def _within_budget(self, uid: str, now: float) -> bool:
        if len(self._budget) > _REMEMBERED:
            whole = now - _BUDGET * _REFILL_SECONDS
            self._budget = {known: entry for known, entry in self._budget.items() if entry[1] > whole}
        tokens, last = self._budget.get(uid, (float(_BUDGET), now))
        tokens = min(float(_BUDGET), tokens + (now - last) / _REFILL_SECONDS)
        self._budget[uid] = (tokens - 1 if tokens >= 1 else tokens, now)
        return tokens >= 1

    def _body(self, happening: Happening, name: str) -> dict[str, Any]:
        ref = happening.ref
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": ref.namespace},
            "eventTime": _micro_time(),
            "reportingController": f"memory.somatech.dev/{FIELD_MANAGER}",
            "reportingInstance": self._identity[:128],
            "action": "Reconcile",
            "reason": happening.reason,
            "type": happening.kind,
            "note": happening.message,
            "regarding": {
                "apiVersion": ref.kind.api_version,
                "kind": ref.kind.name,
                "namespace": ref.namespace,
                "name": ref.name,
                "uid": happening.uid,
            },
        }


def _event_name(happening: Happening) -> str:
    text = f"{happening.uid}{happening.reason}{happening.message}{_micro_time()}"
    return f"{happening.ref.name}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _micro_time() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
