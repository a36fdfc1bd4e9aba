"""Which watch events of children wake a reconcile: those that tell something that planning or status looks at."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from soma_operator.catalog.kinds import DEPLOYMENT
from soma_operator.catalog.names import FIELD_MANAGER
from soma_operator.observe.facts import facts_of


def _deployment() -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "team",
            "name": "notes",
            "uid": "1",
            "resourceVersion": "10",
            "generation": 1,
            "labels": {"memory.somatech.dev/memory": "notes"},
            "managedFields": [
                {"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:metadata": {"f:annotations": {}}}},
            ],
        },
        "spec": {"replicas": 1},
        "status": {"observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1},
    }


def _after(change: Any) -> dict[str, Any]:
    body = copy.deepcopy(_deployment())
    body["metadata"]["resourceVersion"] = "11"
    change(body)
    return body


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["metadata"].update(annotations={"example.com/touched": "now"}),
        lambda body: body["metadata"]["managedFields"][1].update(time="2026-11-30T00:00:00Z"),
        lambda body: body["status"].update(conditions=[{"type": "Available", "status": "True"}]),
    ],
)
def test_what_nobody_looks_at_tells_nothing(change: Any) -> None:
    before, after = facts_of(DEPLOYMENT, _deployment()), facts_of(DEPLOYMENT, _after(change))
    assert after.resource_version == 11
    assert after.tells_nothing_beyond(before)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["metadata"]["managedFields"][0].update(fieldsV1={"f:spec": {}}),
        lambda body: body["metadata"].update(deletionTimestamp="2026-11-30T00:00:00Z"),
        lambda body: body["metadata"].update(uid="2"),
        lambda body: body["metadata"]["labels"].update({"memory.somatech.dev/memory": "other"}),
        lambda body: body["metadata"].update(annotations={"memory.somatech.dev/adopt": "notes"}),
        lambda body: body["metadata"].update(annotations={"memory.somatech.dev/desired-hash": "other"}),
        lambda body: body["spec"].update(replicas=0),
        lambda body: body["status"].update(readyReplicas=0),
    ],
)
def test_what_planning_or_status_looks_at_tells_something(change: Any) -> None:
    before, after = facts_of(DEPLOYMENT, _deployment()), facts_of(DEPLOYMENT, _after(change))
    assert not after.tells_nothing_beyond(before)
