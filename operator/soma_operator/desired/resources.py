"""What one pod reserves and may use: every pod has a request and a limit of memory, whatever a spec leaves out."""

from __future__ import annotations

from typing import Any

from soma_operator.api.values import amount
from soma_operator.api.workload import ResourceRequirements

JOB_RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}
_REQUESTS = {"cpu": "250m", "memory": "512Mi"}
_LIMITS = {"memory": "2Gi"}
_SNAPSHOT = {"ephemeral-storage": "2Gi"}


def resources(given: ResourceRequirements | None, *, snapshots: bool) -> dict[str, Any]:
    """Requests and limits, each default where the spec says nothing of that resource.

    A default never contradicts what is given: a request is at most its limit, a limit at least its request.
    `snapshots` says that the index is saved on the node's own disk, where a pod that reserved nothing is evicted first.
    """
    requests: dict[str, str] = dict(given.requests or {}) if given else {}
    limits: dict[str, str] = dict(given.limits or {}) if given else {}
    for name, default in (_REQUESTS | (_SNAPSHOT if snapshots else {})).items():
        if name not in requests:
            requests[name] = _least(default, limits.get(name))
    for name, default in _LIMITS.items():
        if name not in limits:
            limits[name] = _most(default, requests[name])
    return {"requests": requests, "limits": limits}


def _least(default: str, limit: str | None) -> str:
    return default if limit is None or amount(default) <= amount(limit) else limit


def _most(default: str, request: str) -> str:
    return default if amount(default) >= amount(request) else request
