"""Statuses of distributed mode: each condition says what was seen, and nothing more."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from soma_operator.api import MemoryConditionType, Reason, SomaMemory, SomaMemoryStatus
from soma_operator.catalog.back_ends import BackEnd
from soma_operator.catalog.kinds import AUTOSCALER, DEPLOYMENT, JOB
from soma_operator.desired.children import children
from soma_operator.desired.dependencies import dependencies
from soma_operator.desired.inputs import Defaults, Inputs
from soma_operator.observe.dependencies import Answer, Health, Sight
from soma_operator.observe.facts import Content, Facts, JobState, Rollout, Run, Scaling
from soma_operator.status.findings import Failure, Findings
from soma_operator.status.memory import memory_status

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
TWO = Rollout(
    generation=1, observed_generation=1, wanted=2, total=2, updated=2, ready=2, available=2, deadline_exceeded=False
)
SPEC: dict[str, Any] = {
    "mode": "distributed",
    "endpoints": {
        "postgresql": {"host": "pg", "credentialsSecretRef": {"name": "pg"}},
        "redis": {"host": "redis"},
        "kafka": {"bootstrapServers": ["kafka:9092"]},
    },
    "events": {"enabled": True},
    "topics": {"mode": "External"},
    "api": {"autoscaling": {"maxReplicas": 4}},
}
ACTIVE = Scaling(active=True, limited=False)
UP = Health(Answer(Sight.ANSWERS))
DOWN = Health(Answer(Sight.SILENT), 3, 0.0)


def findings(
    spec: dict[str, Any] | None = None,
    job: JobState | None = JobState.COMPLETE,
    rollouts: dict[str, Rollout] | None = None,
    scaling: Scaling | None = ACTIVE,
) -> Findings:
    """All is well, but for what is given."""
    meta = {"name": "store", "namespace": "team", "uid": "u", "generation": 1}
    memory = SomaMemory.parse({"metadata": meta, "spec": SPEC if spec is None else spec})
    wanted = children(Inputs(memory, Defaults("image:1", "1"), "d", "c"))
    facts = {}
    for child in wanted:
        content: Content = None
        if child.ref.kind is DEPLOYMENT:
            content = (rollouts or {}).get(child.ref.name, TWO)
        elif child.ref.kind is JOB:
            if job is None:
                continue
            content = Run(job)
        elif child.ref.kind is AUTOSCALER:
            content = scaling
        facts[child.ref] = Facts(
            ref=child.ref, uid="x", resource_version=1, deleting=False, memory="store", managed=True,
            owner=("SomaMemory", "store", "u"), adopt=None, desired_hash=child.hash,
            template_hash=child.template_hash, digest=child.digest, content=content,
        )  # fmt: skip
    found = Findings("store", "team", 1, memory, children=wanted, facts=facts, image="image:1", version="1")
    found.endpoints = dependencies(memory)
    found.health = dict.fromkeys(found.endpoints.values(), UP)
    return found


def told(found: Findings) -> dict[str, tuple[str, str]]:
    status = memory_status(found, SomaMemoryStatus(), NOW)
    assert memory_status(found, status, LATER) == status, "the same findings write nothing"
    return {condition.type: (condition.status.value, condition.reason) for condition in status.conditions}


def message(found: Findings, kind: str) -> str:
    status = memory_status(found, SomaMemoryStatus(), NOW)
    return next(condition.message for condition in status.conditions if condition.type == kind)


def without_deployments(found: Findings) -> Findings:
    found.facts = {ref: facts for ref, facts in found.facts.items() if ref.kind is not DEPLOYMENT}
    return found


def seen(found: Findings, name: BackEnd, health: Health | None) -> Findings:
    endpoint = found.endpoints[name]
    found.health = {e: h for e, h in found.health.items() if e != endpoint} | ({endpoint: health} if health else {})
    return found


def test_all_well_is_ready_with_every_condition() -> None:
    conditions = told(findings())
    assert conditions["Ready"] == ("True", "Serving")
    for kind in ("DatabaseReady", "CacheReady", "KafkaReady"):
        assert conditions[kind] == ("True", "Reachable")
    assert conditions["VectorStoreReady"] == ("True", "Disabled")
    assert conditions["TopicsReady"] == ("True", "TopicsExternal")
    assert conditions["Migrated"] == ("True", "Migrated")
    assert conditions["RuntimeReady"] == conditions["ConsumerReady"] == ("True", "RolloutComplete")
    assert conditions["AutoscalingActive"] == ("True", "ScalingActive")
    assert set(conditions) == {kind.value for kind in MemoryConditionType} - {"Reconciling", "Stalled"}


def test_a_ledger_that_does_not_answer_holds_back_the_first_rollout_and_names_it() -> None:
    found = seen(without_deployments(findings(job=None)), BackEnd.POSTGRESQL, DOWN)
    conditions = told(found)
    assert conditions["DatabaseReady"] == ("False", "Unreachable")
    assert conditions["Ready"] == ("False", "WaitingForDependency")
    assert conditions["Reconciling"] == ("True", "WaitingForDependency")
    assert "Stalled" not in conditions
    assert "pg.team.svc:5432" in message(found, "Ready")


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        (BackEnd.POSTGRESQL, "DatabaseReady"),
        (BackEnd.REDIS, "CacheReady"),
        (BackEnd.KAFKA, "KafkaReady"),
    ],
)
def test_a_back_end_that_goes_later_is_told_and_takes_nothing_down(name: BackEnd, condition: str) -> None:
    conditions = told(seen(findings(), name, DOWN))
    assert conditions[condition] == ("False", "Unreachable")
    assert conditions["Ready"] == ("True", "Serving")
    assert conditions["Available"] == ("True", "Serving")
    assert told(seen(findings(), name, Health(Answer(Sight.NO_TLS), 3)))[condition] == ("False", "TLSFailed")
    assert told(seen(findings(), name, None))[condition] == ("Unknown", "Unknown")


def test_nobody_who_looks_means_unknown() -> None:
    found = findings()
    found.probed, found.health = False, {}
    assert told(found)["DatabaseReady"] == ("Unknown", "Unknown")
    assert told(found)["Ready"] == ("True", "Serving")


@pytest.mark.parametrize(
    ("job", "status", "reason"),
    [(JobState.RUNNING, "False", "MigrationRunning"), (JobState.FAILED, "False", "MigrationFailed")],
)
def test_a_migration_that_is_not_done_holds_the_rollout(job: JobState, status: str, reason: str) -> None:
    found = without_deployments(findings(job=job))
    conditions = told(found)
    assert conditions["Migrated"] == (status, reason)
    assert conditions["Ready"] == ("False", reason)
    assert ("Stalled" in conditions) is (job is JobState.FAILED)


def test_a_failed_migration_stalls_and_the_old_pods_go_on() -> None:
    found = findings(job=JobState.FAILED)
    api = next(child.ref for child in found.children if child.ref.kind is DEPLOYMENT)
    found.facts = {**found.facts, api: replace(found.facts[api], desired_hash="of version N-1")}
    conditions = told(found)
    assert conditions["Stalled"] == ("True", "MigrationFailed")
    assert conditions["Available"] == ("True", "Serving")
    assert "delete the Job" in message(found, "Stalled")


def test_a_migration_that_is_made_again_does_not_take_ready_away() -> None:
    assert told(findings(job=JobState.RUNNING))["Ready"] == ("True", "Serving")


def test_missing_credentials_are_named() -> None:
    found = without_deployments(findings(job=None))
    found.credentials = Failure(Reason.SECRET_NOT_FOUND, "spec.endpoints.postgresql: Secret pg does not exist")
    conditions = told(found)
    assert conditions["SecretsReady"] == conditions["Migrated"] == conditions["Ready"] == ("False", "SecretNotFound")


def test_consumers_that_are_not_up_are_told_and_keep_it_from_ready() -> None:
    conditions = told(findings(rollouts={"store-consumer": replace(TWO, ready=0, available=0)}))
    assert conditions["RuntimeReady"] == ("True", "RolloutComplete")
    assert conditions["ConsumerReady"] == ("False", "RollingOut")
    assert conditions["Ready"] == ("False", "RollingOut")
    assert conditions["Available"] == ("True", "Serving")


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (None, ("False", "MetricsUnavailable")),
        (Scaling(active=False, limited=False), ("False", "MetricsUnavailable")),
        (Scaling(active=True, limited=True), ("True", "ScalingLimited")),
    ],
)
def test_an_autoscaler_tells_by_its_own_conditions(scaling: Scaling | None, expected: tuple[str, str]) -> None:
    assert told(findings(scaling=scaling))["AutoscalingActive"] == expected


def test_topics_are_seen_and_never_promised() -> None:
    missing = Health(Answer(Sight.ANSWERS, ("memory.dlq",)))
    assert told(seen(findings(), BackEnd.KAFKA, missing))["TopicsReady"] == ("False", "TopicsPending")
    assert "memory.dlq" in message(seen(findings(), BackEnd.KAFKA, missing), "TopicsReady")
    assert told(seen(findings(), BackEnd.KAFKA, DOWN))["TopicsReady"] == ("Unknown", "Unreachable")
    made = told(findings({**SPEC, "topics": {"mode": "Admin"}}))
    assert made["TopicsReady"] == ("False", "NotImplemented")
    assert made["Ready"] == ("True", "Serving")
    secured = json.loads(json.dumps(SPEC))
    secured["endpoints"]["kafka"]["sasl"] = {"credentialsSecretRef": {"name": "kafka"}}
    assert told(findings(secured))["TopicsReady"] == ("Unknown", "TopicsExternal")


def test_the_checklist_names_a_connection_that_is_not_verified() -> None:
    def check(spec: dict[str, Any]) -> tuple[str, str]:
        checks = memory_status(findings(spec), SomaMemoryStatus(), NOW).preflight
        found = next(c for c in checks if c.name.value == "TLSAssetsMounted")
        return found.status.value, found.evidence

    assert check(SPEC)[0] == "Passed"
    plain = json.loads(json.dumps(SPEC))
    plain["endpoints"]["redis"]["tls"] = {"mode": "Disabled"}
    status, evidence = check(plain)
    assert status == "Failed"
    assert evidence.startswith("spec.endpoints.redis.tls.mode")
