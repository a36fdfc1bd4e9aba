"""status.preflight: the ten points of the production preflight checklist, each with evidence."""

from __future__ import annotations

from collections.abc import Mapping

from soma_operator.api import ConditionStatus, Mode, SomaMemory
from soma_operator.api import MemoryConditionType as Type
from soma_operator.api.references import TLSMode
from soma_operator.api.status import PreflightCheck, PreflightPoint, PreflightStatus
from soma_operator.desired.connections import connections
from soma_operator.status.conditions import Verdict, clip

_STATUS = {
    ConditionStatus.TRUE: PreflightStatus.PASSED,
    ConditionStatus.FALSE: PreflightStatus.FAILED,
    ConditionStatus.UNKNOWN: PreflightStatus.UNKNOWN,
}
_SCRAPE = "prometheus.io/scrape"


def preflight(verdicts: Mapping[Type, Verdict], memory: SomaMemory) -> tuple[PreflightCheck, ...]:
    """The points in the order of the checklist."""
    return (
        _as(PreflightPoint.SECRETS_PRESENT, verdicts[Type.SECRETS_READY]),
        _tls(memory),
        _as(PreflightPoint.PERSISTENCE_ENABLED, verdicts[Type.DATABASE_READY]),
        _as(PreflightPoint.MIGRATIONS, verdicts[Type.MIGRATED]),
        _kafka(memory, verdicts[Type.KAFKA_READY]),
        _observability(memory, verdicts[Type.MONITORING_READY]),
        _access(memory, verdicts[Type.NETWORK_RESTRICTED]),
        _as(PreflightPoint.BACKUPS_RUNNING, verdicts[Type.BACKED_UP]),
        _check(
            PreflightPoint.RESTART_ON_ROTATION,
            PreflightStatus.PASSED,
            "a digest of the token Secret's metadata is in the pod template: a rotated token rolls the pods",
        ),
        _check(
            PreflightPoint.DISASTER_RECOVERY_DRILL,
            PreflightStatus.FAILED,
            "NotImplemented: this version of the operator rehearses no restore; rehearse one by hand",
        ),
    )


def _check(point: PreflightPoint, status: PreflightStatus, evidence: str) -> PreflightCheck:
    return PreflightCheck(name=point, status=status, evidence=clip(evidence))


def _as(point: PreflightPoint, verdict: Verdict) -> PreflightCheck:
    return _check(point, _STATUS[verdict.status], f"{verdict.reason.value}: {verdict.message}")


def _tls(memory: SomaMemory) -> PreflightCheck:
    point = PreflightPoint.TLS_ASSETS_MOUNTED
    if memory.spec.mode is Mode.EMBEDDED:
        return _check(point, PreflightStatus.NOT_APPLICABLE, "embedded mode connects to no back end")
    loose = [c.field for c in connections(memory.spec) if c.tls.mode is not TLSMode.VERIFY_FULL]
    if loose:
        return _check(point, PreflightStatus.FAILED, f"{loose[0]}.tls.mode is not VerifyFull: set it")
    mounted = [c.name for c in connections(memory.spec) if c.volume() is not None]
    named = f"certificates are mounted for {', '.join(mounted)}" if mounted else "the image's authorities are trusted"
    return _check(point, PreflightStatus.PASSED, f"every back end is verified in full; {named}")


def _kafka(memory: SomaMemory, verdict: Verdict) -> PreflightCheck:
    if not memory.spec.events.enabled:
        return _check(PreflightPoint.KAFKA_READINESS, PreflightStatus.NOT_APPLICABLE, "events are off")
    return _as(PreflightPoint.KAFKA_READINESS, verdict)


def _observability(memory: SomaMemory, monitoring: Verdict) -> PreflightCheck:
    point, observability = PreflightPoint.OBSERVABILITY, memory.spec.observability
    if not observability.metrics_enabled:
        return _check(point, PreflightStatus.FAILED, "spec.observability.metricsEnabled is false: enable it")
    if memory.spec.pod_template.annotations.get(_SCRAPE) == "true":
        return _check(point, PreflightStatus.PASSED, f"/metrics is served and the pods carry {_SCRAPE}")
    if monitoring.status is ConditionStatus.FALSE:
        return _as(point, monitoring)
    return _check(
        point,
        PreflightStatus.FAILED,
        f"/metrics is served, but nothing tells Prometheus: add {_SCRAPE} to spec.podTemplate.annotations",
    )


def _access(memory: SomaMemory, network: Verdict) -> PreflightCheck:
    point = PreflightPoint.ACCESS_CONTROLS
    if not memory.spec.network_policy.enabled:
        return _check(
            point, PreflightStatus.FAILED, "a token is required, but spec.networkPolicy.enabled is false: enable it"
        )
    if network.status is not ConditionStatus.TRUE:
        return _as(point, network)
    return _check(
        point,
        PreflightStatus.PASSED,
        "a bearer token is required, NetworkPolicies deny by default, the pods' ServiceAccount has no rights",
    )
