"""The status of a SomaMemory."""

from __future__ import annotations

from soma_operator.api import Condition, ConditionStatus, Reason, SomaMemoryStatus
from soma_operator.api import MemoryConditionType as Type
from soma_operator.api.status import DriftAction, ObjectCounts, ServiceEndpoints, VersionStatus, VolumeStatus
from soma_operator.catalog.kinds import AUTOSCALER, DISRUPTION_BUDGET, SERVICE
from soma_operator.catalog.names import SETTINGS_HASH
from soma_operator.desired.inputs import Defaults, Inputs
from soma_operator.desired.runtime_settings import GRPC_PORT, HTTP_PORT
from soma_operator.plan.migration import MigrationState
from soma_operator.plan.volume import VolumeState
from soma_operator.status.conditions import Verdict, dated, false, true
from soma_operator.status.distributed import consumer, migrated
from soma_operator.status.drift import drift_status
from soma_operator.status.features import features, undetermined
from soma_operator.status.findings import PERMANENT, Failure, Findings
from soma_operator.status.history import history
from soma_operator.status.preflight import preflight

_DISPENSABLE = frozenset({AUTOSCALER, DISRUPTION_BUDGET})


def memory_status(found: Findings, before: SomaMemoryStatus, now: str) -> SomaMemoryStatus:
    """The complete status; `now` (RFC 3339) is used only for what changed."""
    verdicts = _verdicts(found, before)
    conditions = dated(
        {kind.value: verdict for kind, verdict in verdicts.items()}, before.conditions, found.generation, now
    )
    ready = verdicts[Type.READY]
    rollout = found.rollout
    memory = found.memory
    current = before.version.current if before.version else None
    return SomaMemoryStatus(
        observed_generation=found.generation,
        conditions=conditions,
        mode=memory.spec.mode.value if memory else before.mode,
        endpoints=_endpoints(found) or before.endpoints,
        version=VersionStatus(
            desired=found.version or (before.version.desired if before.version else None),
            current=found.version if found.serves_current else current,
        ),
        image=found.image or before.image,
        image_digest=_image_digest(found, before),
        volume=_volume(found, before),
        settings_hash=_settings_hash(found) or before.settings_hash,
        replicas=rollout.total if rollout else 0,
        ready_replicas=rollout.ready if rollout else 0,
        selector=_selector(found) or before.selector,
        objects=_objects(found) if found.children else before.objects,
        drift=drift_status(found, before, now),
        preflight=preflight(verdicts, memory) if memory else before.preflight,
        last_handled_reconcile_at=found.handled_reconcile_at or before.last_handled_reconcile_at,
        history=history(found, before, ready.reason, _serves_newest(found, ready), now),
    )


def _verdicts(found: Findings, before: SomaMemoryStatus) -> dict[Type, Verdict]:
    stalled = stall_of(found)
    runtime = _runtime(found)
    suspended = found.memory is not None and found.memory.spec.suspend
    ready = _ready(found, stalled, runtime, suspended=suspended)
    verdicts = {Type.READY: ready, Type.AVAILABLE: _available(found)}
    if stalled is not None:
        verdicts[Type.STALLED] = true(stalled.reason, stalled.message)
    elif ready.status is not ConditionStatus.TRUE and not suspended:
        verdicts[Type.RECONCILING] = true(ready.reason, ready.message)
    verdicts[Type.SYNCED] = _synced(found, stalled, suspended=suspended)
    verdicts[Type.INITIALIZED] = _initialized(ready, before)
    verdicts |= features(found, found.memory) if found.memory is not None else _kept(before)
    verdicts[Type.RUNTIME_READY] = runtime
    verdicts[Type.SUSPENDED] = (
        true(Reason.SUSPENDED, "spec.suspend is true: nothing is changed, what runs keeps running")
        if suspended
        else false(Reason.NOT_SUSPENDED, "changes are applied")
    )
    return verdicts


def stall_of(found: Findings) -> Failure | None:
    """What only a person can mend; None while things get on by themselves."""
    if found.stall is not None:
        return found.stall
    for _, failure in found.told_failures():
        if failure.reason in PERMANENT:
            return failure
    if found.migration is MigrationState.FAILED:
        return Failure(Reason.MIGRATION_FAILED, migrated(found).message)
    for rollout, pods in ((found.rollout, found.pods), (found.consumer_rollout, found.consumer_pods)):
        if rollout is not None and rollout.deadline_exceeded and not rollout.complete:
            detail = f" ({pods.message})" if pods else ""
            return Failure(
                Reason.PROGRESS_DEADLINE_EXCEEDED, f"the rollout did not get on in time{detail}: see the pods' events"
            )
    return None


def _ready(found: Findings, stalled: Failure | None, runtime: Verdict, *, suspended: bool) -> Verdict:
    if stalled is not None:
        return false(stalled.reason, stalled.message)
    blocking = _blocking(found)
    consuming = consumer(found)
    if runtime.status is ConditionStatus.TRUE and blocking is None and consuming.status is ConditionStatus.TRUE:
        return true(Reason.SERVING, "the current generation serves")
    if suspended:
        return false(Reason.SUSPENDED, "suspended before the current generation was rolled out")
    if blocking is not None:
        return false(blocking.reason, blocking.message)
    if found.migration in (MigrationState.WAITING, MigrationState.RUNNING):
        waiting = migrated(found)
        return false(waiting.reason, waiting.message)
    told = consuming if runtime.status is ConditionStatus.TRUE else runtime
    return false(told.reason, told.message)


def _serves_newest(found: Findings, ready: Verdict) -> bool:
    """Ready, and no update of the operator's own still to come."""
    return ready.status is ConditionStatus.TRUE and not found.waits_for_slot


def _blocking(found: Findings) -> Failure | None:
    if found.secrets is not None:
        return found.secrets
    if found.volume.state is VolumeState.WAITING:
        return Failure(Reason.VOLUME_PENDING, f"PersistentVolumeClaim {found.volume.claim} does not exist: create it")
    # Without a PodDisruptionBudget it serves as well; Synced tells of that.
    failed = [text for ref, text in found.told_failures() if ref.kind not in _DISPENSABLE]
    if failed:
        return failed[0]
    missing = [child.ref for child in found.children if child.ref.kind is SERVICE and child.ref not in found.facts]
    return Failure(Reason.PROGRESSING, f"{missing[0]} is not there yet") if missing else None


def _runtime(found: Findings) -> Verdict:
    child, rollout = found.deployment, found.rollout
    if child is not None and child.ref in found.failures:
        failure = found.failures[child.ref]
        return false(failure.reason, f"{child.ref}: {failure.message}")
    if rollout is None:
        return false(Reason.PROGRESSING, "the Deployment is not there yet")
    if found.serves_current:
        return true(Reason.ROLLOUT_COMPLETE, "all pods run the newest template and are available")
    if found.waits_for_slot and rollout.complete:
        return true(Reason.WAITING_FOR_SLOT, "the pods are available; an update by the operator waits for its turn")
    if child is None:
        complete = true(Reason.ROLLOUT_COMPLETE, "what was rolled out before keeps running")
        return complete if rollout.complete else false(Reason.PODS_NOT_READY, "the pods are not available")
    if found.pods is not None:
        return false(found.pods.reason, found.pods.message)
    if rollout.deadline_exceeded:
        return false(Reason.PROGRESS_DEADLINE_EXCEEDED, "the rollout did not get on in time: see the pods' events")
    if found.in_sync(child) and rollout.observed_generation >= rollout.generation and rollout.updated >= rollout.wanted:
        return false(Reason.PODS_NOT_READY, "the pods are started and not available yet")
    return false(Reason.ROLLING_OUT, "the newest template is being rolled out")


def _available(found: Findings) -> Verdict:
    rollout = found.rollout
    if rollout is not None and rollout.available > 0:
        return true(Reason.SERVING, "at least one pod serves")
    return false(Reason.NOT_SERVING, "no pod serves")


def _synced(found: Findings, stalled: Failure | None, *, suspended: bool) -> Verdict:
    if found.stall is not None and stalled is not None:
        return false(stalled.reason, stalled.message)
    for _, failure in found.told_failures():
        return false(failure.reason, failure.message)
    if found.open_drift is DriftAction.BACKING_OFF:
        return false(
            Reason.DRIFT_BACKING_OFF,
            "an object was taken back from the same manager too often: see status.drift, and stop one of the two",
        )
    if found.open_drift is DriftAction.REPORTED:
        return false(Reason.DRIFT_DETECTED, "an object was edited and driftPolicy is Warn: see status.drift")
    if found.waits_for_slot:
        return false(
            Reason.WAITING_FOR_SLOT, "an update by the operator waits for its turn: only a few roll out at once"
        )
    if all(found.in_sync(child) for child in found.children):
        return true(Reason.ALL_APPLIED, "all objects are as they should be")
    if suspended:
        return false(Reason.SUSPENDED, "objects differ from the spec while suspended")
    return false(Reason.PROGRESSING, "not all objects are applied yet")


def _initialized(ready: Verdict, before: SomaMemoryStatus) -> Verdict:
    former = next((c for c in before.conditions if c.type == Type.INITIALIZED.value), None)
    if ready.status is ConditionStatus.TRUE or (former is not None and former.status is ConditionStatus.TRUE):
        return true(Reason.INITIALIZED, "it has served")
    return false(Reason.NEVER_SERVED, "it has not served yet")


def _kept(before: SomaMemoryStatus) -> dict[Type, Verdict]:
    """Feature conditions of an invalid spec: what was known of the last valid one, or that nothing is."""
    former: dict[str, Condition] = {condition.type: condition for condition in before.conditions}
    kept: dict[Type, Verdict] = {}
    for kind, verdict in undetermined().items():
        old = former.get(kind.value)
        known = old is not None and old.reason in Reason.__members__.values()
        kept[kind] = Verdict(old.status, Reason(old.reason), old.message) if old is not None and known else verdict
    return kept


def _endpoints(found: Findings) -> ServiceEndpoints | None:
    if found.memory is None:
        return None
    secret, key = Inputs(found.memory, Defaults("", "")).token_secret
    host = f"{found.name}.{found.namespace}.svc"
    return ServiceEndpoints(
        http=f"http://{host}:{HTTP_PORT}",
        grpc=f"{found.name}-grpc.{found.namespace}.svc:{GRPC_PORT}",
        token_secret=f"{secret}/{key}",
    )


def _volume(found: Findings, before: SomaMemoryStatus) -> VolumeStatus | None:
    # A loss keeps the record: it is what the loss is told by.
    if found.volume.uid is None:
        return before.volume
    return VolumeStatus(claim=found.volume.claim, uid=found.volume.uid)


def _settings_hash(found: Findings) -> str | None:
    child = found.deployment
    if child is None:
        return None
    annotations: dict[str, str] = child.manifest["spec"]["template"]["metadata"]["annotations"]
    return annotations.get(SETTINGS_HASH)


def _selector(found: Findings) -> str | None:
    child = found.deployment
    if child is None:
        return None
    labels: dict[str, str] = child.manifest["spec"]["selector"]["matchLabels"]
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _objects(found: Findings) -> ObjectCounts:
    ready = [child for child in found.children if found.in_sync(child)]
    deployment = found.deployment
    waiting = deployment in ready and not found.serves_current
    return ObjectCounts(desired=len(found.children), ready=len(ready) - (1 if waiting else 0))


def _image_digest(found: Findings, before: SomaMemoryStatus) -> str | None:
    if found.image_digest is not None:
        return found.image_digest
    return before.image_digest if found.image in ("", before.image) else None
