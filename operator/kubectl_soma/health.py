"""Whether an object is well, judged from the object alone, as kstatus does it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

Body = Mapping[str, Any]


class Level(StrEnum):
    """How an object is. The order is from good to bad."""

    OK = "ok"
    PROGRESSING = "progressing"
    FAILED = "failed"


class Health(NamedTuple):
    """A level, and the reason in a few words."""

    level: Level
    why: str


def of(body: Body) -> Health:
    """Health of any object. One that has no notion of health is well as soon as it exists."""
    if body.get("metadata", {}).get("deletionTimestamp"):
        return Health(Level.PROGRESSING, "being deleted")
    judge = _JUDGES.get(str(body.get("kind")))
    return judge(body) if judge else Health(Level.OK, "exists")


def condition(body: Body, kind: str) -> Body:
    """One condition; empty where it is not there."""
    conditions = body.get("status", {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind), {})


def is_true(body: Body, kind: str) -> bool:
    """Whether a condition is True."""
    return condition(body, kind).get("status") == "True"


def _soma(body: Body) -> Health:
    ready, stalled = condition(body, "Ready"), condition(body, "Stalled")
    if stalled.get("status") == "True":
        return Health(Level.FAILED, f"Stalled: {stalled.get('reason')}")
    generation = body.get("metadata", {}).get("generation")
    if body.get("status", {}).get("observedGeneration") != generation:
        return Health(Level.PROGRESSING, "the operator has not seen this generation yet")
    if ready.get("status") == "True":
        return Health(Level.OK, str(ready.get("reason")))
    if is_true(body, "Reconciling") or not ready:
        return Health(Level.PROGRESSING, str(ready.get("reason") or "no status yet"))
    return Health(Level.FAILED, str(ready.get("reason")))


def _deployment(body: Body) -> Health:
    status, wanted = body.get("status", {}), int(body.get("spec", {}).get("replicas", 1))
    ready, updated = int(status.get("readyReplicas") or 0), int(status.get("updatedReplicas") or 0)
    counts = f"{ready}/{wanted} ready"
    if condition(body, "Progressing").get("reason") == "ProgressDeadlineExceeded":
        return Health(Level.FAILED, f"{counts}, the rollout is stuck")
    seen = status.get("observedGeneration") == body.get("metadata", {}).get("generation")
    if seen and ready >= wanted and updated >= wanted:
        return Health(Level.OK, counts)
    return Health(Level.PROGRESSING, counts)


def _job(body: Body) -> Health:
    if is_true(body, "Failed"):
        return Health(Level.FAILED, f"failed: {condition(body, 'Failed').get('reason', '')}")
    return Health(Level.OK, "complete") if is_true(body, "Complete") else Health(Level.PROGRESSING, "running")


def _claim(body: Body) -> Health:
    phase = str(body.get("status", {}).get("phase") or "Pending")
    return Health({"Bound": Level.OK, "Lost": Level.FAILED}.get(phase, Level.PROGRESSING), phase)


def _pod(body: Body) -> Health:
    status = body.get("status", {})
    states = [one.get("state", {}) for one in status.get("containerStatuses") or ()]
    restarts = sum(int(one.get("restartCount") or 0) for one in status.get("containerStatuses") or ())
    tail = f", {restarts} restarts" if restarts else ""
    for state in states:
        if (reason := state.get("waiting", {}).get("reason")) and reason not in {
            "ContainerCreating",
            "PodInitializing",
        }:
            return Health(Level.FAILED, f"{reason}{tail}")
    phase = str(status.get("phase") or "Pending")
    if phase == "Succeeded" or (phase == "Running" and is_true(body, "Ready")):
        return Health(Level.OK, f"{'done' if phase == 'Succeeded' else 'ready'}{tail}")
    return Health(Level.FAILED if phase == "Failed" else Level.PROGRESSING, f"{phase}{tail}")


def _autoscaler(body: Body) -> Health:
    if condition(body, "ScalingActive").get("status") == "False":
        return Health(Level.PROGRESSING, str(condition(body, "ScalingActive").get("reason")))
    return Health(Level.OK, f"{body.get('status', {}).get('currentReplicas', '?')} replicas")


def _external_secret(body: Body) -> Health:
    ready = condition(body, "Ready")
    if ready.get("status") == "False":
        return Health(Level.FAILED, str(ready.get("reason")))
    return Health(Level.OK if ready else Level.PROGRESSING, str(ready.get("reason") or "no status yet"))


_JUDGES = {
    "SomaMemory": _soma,
    "SomaMemoryBackup": _soma,
    "Deployment": _deployment,
    "Job": _job,
    "PersistentVolumeClaim": _claim,
    "Pod": _pod,
    "HorizontalPodAutoscaler": _autoscaler,
    "ExternalSecret": _external_secret,
}
