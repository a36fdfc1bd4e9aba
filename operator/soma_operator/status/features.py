"""Conditions of the single features: back ends, secrets, network, autoscaling, monitoring, backups."""

from __future__ import annotations

from collections.abc import Callable

from soma_operator.api import MemoryConditionType as Type
from soma_operator.api import Mode, Reason, SomaMemory
from soma_operator.catalog.back_ends import BackEnd
from soma_operator.catalog.kinds import NETWORK_POLICY, VOLUME_CLAIM
from soma_operator.desired.inputs import Defaults, Inputs
from soma_operator.plan.volume import VolumeState
from soma_operator.status.conditions import Verdict, false, true, unknown
from soma_operator.status.distributed import autoscaling, back_end, consumer, migrated, topics
from soma_operator.status.findings import Findings

_NOT_YET = "is not implemented yet in this version of the operator"


def features(found: Findings, memory: SomaMemory) -> dict[Type, Verdict]:
    """One verdict for each feature of a spec that could be parsed."""
    return {
        Type.DATABASE_READY: _database(found, memory),
        Type.VECTOR_STORE_READY: _vectors(found, memory),
        Type.CACHE_READY: _cache(found, memory),
        Type.KAFKA_READY: _events(found, memory) or back_end(found, BackEnd.KAFKA, "no brokers are named"),
        Type.TOPICS_READY: _events(found, memory) or topics(found, memory),
        Type.SECRETS_READY: secrets(found, memory),
        Type.MIGRATED: _migrated(found, memory),
        Type.CONSUMER_READY: _events(found, memory) or consumer(found),
        Type.AUTOSCALING_ACTIVE: autoscaling(found),
        Type.NETWORK_RESTRICTED: network(found, memory),
        Type.MONITORING_READY: _monitoring(memory),
        Type.BACKED_UP: false(Reason.NOT_IMPLEMENTED, f"backup {_NOT_YET}: export, or snapshot the volume"),
    }


def undetermined() -> dict[Type, Verdict]:
    """The same conditions for a spec that cannot be parsed."""
    verdict = unknown(Reason.INVALID_SPEC, "cannot be told until the spec is valid")
    kinds: list[Type] = [
        Type.DATABASE_READY, Type.VECTOR_STORE_READY, Type.CACHE_READY, Type.KAFKA_READY, Type.TOPICS_READY,
        Type.SECRETS_READY, Type.MIGRATED, Type.CONSUMER_READY, Type.AUTOSCALING_ACTIVE, Type.NETWORK_RESTRICTED,
        Type.MONITORING_READY, Type.BACKED_UP,
    ]  # fmt: skip
    return dict.fromkeys(kinds, verdict)


def _database(found: Findings, memory: SomaMemory) -> Verdict:
    if memory.spec.mode is Mode.DISTRIBUTED:
        return back_end(found, BackEnd.POSTGRESQL, "")
    state = found.volume.state
    refused = [failure for ref, failure in found.told_failures() if ref.kind is VOLUME_CLAIM]
    if refused:
        return false(refused[0].reason, refused[0].message)
    if state is VolumeState.LOST:
        return false(Reason.DATA_LOST, f"the volume {found.volume.claim} is gone")
    if state is VolumeState.LEAVING:
        return false(Reason.TERMINATING, f"the volume {found.volume.claim} is being deleted")
    if state is VolumeState.WAITING:
        return false(Reason.VOLUME_PENDING, f"PersistentVolumeClaim {found.volume.claim} does not exist: create it")
    if found.volume_phase != "Bound":
        return false(Reason.VOLUME_PENDING, f"PersistentVolumeClaim {found.volume.claim} is not bound yet")
    return true(Reason.EMBEDDED, f"the ledger is in SQLite on PersistentVolumeClaim {found.volume.claim}")


def _vectors(found: Findings, memory: SomaMemory) -> Verdict:
    if memory.spec.mode is Mode.EMBEDDED:
        return true(Reason.EMBEDDED, "embedded mode: the exact index is in the process, no vector store is needed")
    return back_end(found, BackEnd.QDRANT, "no Qdrant is named: every replica holds all vectors")


def _cache(found: Findings, memory: SomaMemory) -> Verdict:
    if memory.spec.mode is Mode.EMBEDDED:
        return true(Reason.EMBEDDED, "embedded mode: one process needs no shared cache")
    return back_end(found, BackEnd.REDIS, "no Redis is named: rate limits count per pod, reads go to the ledger")


def _events(found: Findings, memory: SomaMemory) -> Verdict | None:
    """What is told of events where they are off, or asked of a mode that has none."""
    if not memory.spec.events.enabled:
        return true(Reason.DISABLED, "events are off")
    if memory.spec.mode is Mode.EMBEDDED:
        return false(Reason.NOT_IMPLEMENTED, f"spec.events.enabled: events in embedded mode {_NOT_YET}")
    return None


def secrets(found: Findings, memory: SomaMemory) -> Verdict:
    """Whether the token is there, and what the back ends want."""
    if memory.spec.external_secret is not None:
        return false(Reason.NOT_IMPLEMENTED, f"spec.externalSecret {_NOT_YET}: create the Secret and reference it")
    lacking = found.secrets
    if lacking is not None and lacking.reason is Reason.FORBIDDEN:
        return unknown(lacking.reason, lacking.message)
    if lacking is not None:
        return false(lacking.reason, lacking.message)
    name, key = Inputs(memory, Defaults("", "")).token_secret
    if memory.spec.access.token_secret_ref is not None:
        return true(Reason.SECRET_REFERENCED, f"the token is key {key} of Secret {name}")
    return true(Reason.SECRET_GENERATED, f"the token was generated into key {key} of Secret {name}")


def _migrated(found: Findings, memory: SomaMemory) -> Verdict:
    if memory.spec.mode is Mode.DISTRIBUTED:
        return migrated(found)
    if found.rollout is not None and found.rollout.available > 0:
        return true(Reason.MIGRATED_AT_START, "the runtime migrated its ledger when it started")
    return false(Reason.PROGRESSING, "the runtime migrates its ledger when it starts")


def network(found: Findings, memory: SomaMemory) -> Verdict:
    """Whether the NetworkPolicies are in place."""
    if not memory.spec.network_policy.enabled:
        return true(Reason.DISABLED, "spec.networkPolicy.enabled is false: everybody may connect")
    policies = [child for child in found.children if child.ref.kind is NETWORK_POLICY]
    failed = [found.failures[child.ref] for child in policies if child.ref in found.failures]
    if failed:
        return false(failed[0].reason, f"NetworkPolicy: {failed[0].message}")
    if policies and all(child.ref in found.facts for child in policies):
        return true(Reason.POLICIES_APPLIED, "denied by default; the callers of spec.networkPolicy may connect")
    return false(Reason.POLICIES_PENDING, "the NetworkPolicies are not applied yet")


def _monitoring(memory: SomaMemory) -> Verdict:
    observability = memory.spec.observability
    checks: list[tuple[str, Callable[[], bool]]] = [
        ("spec.observability.serviceMonitor", lambda: observability.service_monitor.enabled),
        ("spec.observability.tracing", lambda: observability.tracing is not None),
    ]
    asked = [field for field, wanted in checks if wanted()]
    if asked:
        return false(Reason.NOT_IMPLEMENTED, f"{asked[0]} {_NOT_YET}")
    return true(Reason.DISABLED, "no ServiceMonitor and no tracing are asked for")
