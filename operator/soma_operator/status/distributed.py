"""Conditions of distributed mode: the back ends as their probes see them, topics, migration, consumers, autoscalers."""

from __future__ import annotations

from soma_operator.api import Reason, SomaMemory
from soma_operator.catalog.back_ends import BackEnd
from soma_operator.catalog.kinds import AUTOSCALER
from soma_operator.desired.dependencies import topics_are_given
from soma_operator.observe.dependencies import Sight
from soma_operator.plan.migration import MigrationState
from soma_operator.status.conditions import Verdict, false, true, unknown
from soma_operator.status.findings import Findings


def ledger_answers(found: Findings) -> bool:
    """Whether a migration may begin: PostgreSQL was seen, or nobody looks."""
    endpoint = found.endpoints.get(BackEnd.POSTGRESQL)
    health = found.health.get(endpoint) if endpoint is not None else None
    return not found.probed or (health is not None and health.answers)


def back_end(found: Findings, name: BackEnd, without: str) -> Verdict:
    """What the probe of one back end says; `without` is told where the spec names none."""
    endpoint = found.endpoints.get(name)
    if endpoint is None:
        return true(Reason.DISABLED, without)
    if not found.probed:
        return unknown(Reason.UNKNOWN, "back ends are not looked at: SOMA_OPERATOR_PROBE_SECONDS is 0")
    health = found.health.get(endpoint)
    if health is None:
        return unknown(Reason.UNKNOWN, f"{endpoint} has not been looked at yet")
    if health.answers:
        return true(Reason.REACHABLE, f"{endpoint} answers")
    if health.told.sight is Sight.NO_TLS:
        return false(Reason.TLS_FAILED, f"{endpoint} does not speak TLS: enable it there, or set tls.mode to Disabled")
    return false(
        Reason.UNREACHABLE, f"{endpoint} does not answer the operator: see that it runs, its name, and NetworkPolicies"
    )


def topics(found: Findings, memory: SomaMemory) -> Verdict:
    """Whether the topics are there; only those that somebody else makes are supported."""
    if not topics_are_given(memory):
        return false(
            Reason.NOT_IMPLEMENTED,
            "spec.topics.mode: making topics is not implemented yet: make them yourself and set External",
        )
    endpoint = found.endpoints.get(BackEnd.KAFKA)
    if endpoint is None or not found.probed:
        return unknown(Reason.UNKNOWN, "the brokers are not looked at")
    if not endpoint.topics:
        return unknown(
            Reason.TOPICS_EXTERNAL, "the brokers ask for credentials, which the operator never reads: it sees no topics"
        )
    health = found.health.get(endpoint)
    if health is None or not health.answers:
        return unknown(Reason.UNREACHABLE, "the brokers do not answer: the topics cannot be told")
    if health.told.missing:
        return false(Reason.TOPICS_PENDING, f"make the topics {', '.join(health.told.missing)}: they do not exist")
    return true(Reason.TOPICS_EXTERNAL, f"the topics {', '.join(endpoint.topics)} exist; others keep them")


def migrated(found: Findings) -> Verdict:
    """Whether the ledger has the newest schema."""
    job, state = found.migration_job, found.migration
    if job is None:
        return false(Reason.PROGRESSING, "the migration is not planned yet")
    if state is MigrationState.DONE:
        return true(Reason.MIGRATED, f"{job.ref} has brought the ledger to the newest schema")
    if state is MigrationState.FAILED:
        return false(
            Reason.MIGRATION_FAILED,
            f"{job.ref} is out of retries: read its log, mend the cause, then delete the Job, and it is made again",
        )
    if state is MigrationState.RUNNING:
        trouble = found.migration_pods
        return false(Reason.MIGRATION_RUNNING, trouble.message if trouble else "the ledger is being migrated")
    if job.ref in found.failures:
        failure = found.failures[job.ref]
        return false(failure.reason, f"{job.ref}: {failure.message}")
    if found.secrets is not None:
        return false(found.secrets.reason, found.secrets.message)
    if not ledger_answers(found):
        told = back_end(found, BackEnd.POSTGRESQL, "")
        return false(Reason.WAITING_FOR_DEPENDENCY, told.message)
    return false(Reason.PROGRESSING, "the migration has not begun yet")


def consumer(found: Findings) -> Verdict:
    """Whether the consumers run the newest template."""
    child, rollout = found.consumer, found.consumer_rollout
    if child is None:
        return true(Reason.DISABLED, "events are off: nothing is consumed")
    if child.ref in found.failures:
        failure = found.failures[child.ref]
        return false(failure.reason, f"{child.ref}: {failure.message}")
    if rollout is None:
        return false(Reason.PROGRESSING, "the consumers' Deployment is not there yet")
    if found.consumes_current:
        return true(Reason.ROLLOUT_COMPLETE, "all consumers run the newest template and are available")
    if found.waits_for_slot and rollout.complete:
        return true(
            Reason.WAITING_FOR_SLOT, "the consumers are available; an update by the operator waits for its turn"
        )
    if found.consumer_pods is not None:
        return false(found.consumer_pods.reason, found.consumer_pods.message)
    if rollout.deadline_exceeded:
        return false(Reason.PROGRESS_DEADLINE_EXCEEDED, "the consumers did not get on in time: see the pods' events")
    return false(Reason.ROLLING_OUT, "the newest template of the consumers is being rolled out")


def autoscaling(found: Findings) -> Verdict:
    """Whether the autoscalers decide."""
    scalers = found.scaling
    if not scalers:
        return true(Reason.DISABLED, "autoscaling is off")
    failed = [failure for ref, failure in found.told_failures() if ref.kind is AUTOSCALER]
    if failed:
        return false(failed[0].reason, failed[0].message)
    if any(scaler is None or not scaler.active for scaler in scalers):
        return false(
            Reason.METRICS_UNAVAILABLE,
            "an autoscaler has no metrics: it needs metrics-server and resources.requests.cpu",
        )
    if any(scaler is not None and scaler.limited for scaler in scalers):
        return true(Reason.SCALING_LIMITED, "an autoscaler wants more pods than maxReplicas lets it have")
    return true(Reason.SCALING_ACTIVE, "the autoscalers decide by measured use")
