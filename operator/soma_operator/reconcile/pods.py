"""Why pods do not get on, and which image they run: asked for only while a rollout is under way or has just ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from soma_operator.api import Reason
from soma_operator.cluster.errors import ApiError
from soma_operator.desired.render import Child
from soma_operator.plan.migration import MigrationState
from soma_operator.reconcile.workbench import Workbench
from soma_operator.status.findings import Failure, Findings

_PULL = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_CRASH = frozenset({"CrashLoopBackOff", "CreateContainerConfigError", "RunContainerError", "CreateContainerError"})


async def look_at_pods(bench: Workbench, found: Findings) -> None:
    """Fill in `pods` and `image_digest`. What cannot be seen is left out: this only explains."""
    pods = await _pods(bench, found, found.deployment)
    if found.serves_current:
        found.image_digest = image_digest(pods)
    else:
        found.pods = trouble(pods)
    if not found.consumes_current:
        found.consumer_pods = trouble(await _pods(bench, found, found.consumer))
    if found.migration is MigrationState.RUNNING:
        found.migration_pods = trouble(await _pods(bench, found, found.migration_job))


async def _pods(bench: Workbench, found: Findings, child: Child | None) -> Sequence[Mapping[str, Any]]:
    if child is None:
        return ()
    labels: Mapping[str, str] = child.manifest["spec"]["template"]["metadata"]["labels"]
    wanted = {key: value for key, value in labels.items() if key.startswith("app.kubernetes.io/")}
    try:
        return await bench.client.pods(found.namespace, ",".join(f"{k}={v}" for k, v in sorted(wanted.items())))
    except ApiError as error:
        if error.blind:
            raise
        return ()


def trouble(pods: Sequence[Mapping[str, Any]]) -> Failure | None:
    """The first trouble of a pod that is not being deleted. No names of pods and no counts: they would make the
    message flap."""
    for pod in pods:
        if pod["metadata"].get("deletionTimestamp"):
            continue
        for waiting, last in _waiting(pod):
            if waiting in _PULL:
                return Failure(
                    Reason.IMAGE_PULL_FAILED, f"the image cannot be pulled ({_settled(waiting)}): see spec.image"
                )
            if waiting in _CRASH:
                detail = f", exit code {last}" if last is not None else ""
                return Failure(Reason.PODS_CRASHING, f"the runtime does not start ({waiting}{detail}): see its log")
        if _unschedulable(pod):
            return Failure(
                Reason.PODS_UNSCHEDULABLE, "no node takes the pod: see its events, spec.api.scheduling and resources"
            )
    return None


def image_digest(pods: Sequence[Mapping[str, Any]]) -> str | None:
    """Digest of the image that a ready pod runs, as the node reports it."""
    for pod in pods:
        for status in _statuses(pod):
            image = str(status.get("imageID", ""))
            if status.get("ready") and "sha256:" in image:
                return "sha256:" + image.rpartition("sha256:")[2]
    return None


def _settled(waiting: str) -> str:
    # The kubelet goes to and fro between these two.
    return "ImagePullBackOff" if waiting == "ErrImagePull" else waiting


def _statuses(pod: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = (pod.get("status") or {}).get("containerStatuses") or ()
    return found


def _waiting(pod: Mapping[str, Any]) -> Iterator[tuple[str, int | None]]:
    for status in _statuses(pod):
        terminated = (status.get("lastState") or {}).get("terminated") or {}
        waiting = (status.get("state") or {}).get("waiting") or {}
        yield str(waiting.get("reason", "")), terminated.get("exitCode")


def _unschedulable(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "PodScheduled" and c.get("reason") == "Unschedulable" for c in conditions)
