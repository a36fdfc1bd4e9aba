"""What a rollout waits for in distributed mode: a ledger that can be reached, then one that is migrated."""

from __future__ import annotations

from enum import StrEnum

from soma_operator.desired.render import Child
from soma_operator.observe.facts import Facts, JobState, Run
from soma_operator.plan.steps import Step, Verb


class MigrationState(StrEnum):
    NOT_NEEDED = "not needed"
    """Embedded mode: the runtime migrates its own ledger when it starts."""
    WAITING = "waiting"
    """Not begun."""
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """Out of retries: a person has to look."""


def judge_migration(job: Child | None, facts: Facts | None) -> MigrationState:
    """State of the Job that migrates to the newest ledger."""
    if job is None:
        return MigrationState.NOT_NEEDED
    if facts is None or facts.deleting or not isinstance(facts.content, Run):
        return MigrationState.WAITING
    return {
        JobState.RUNNING: MigrationState.RUNNING,
        JobState.COMPLETE: MigrationState.DONE,
        JobState.FAILED: MigrationState.FAILED,
    }[facts.content.state]


def restarts_pods(step: Step) -> bool:
    """Whether a step on a Deployment brings new pods: only those need the ledger that the migration makes."""
    if step.child is None or step.facts is None:
        return step.verb is Verb.CREATE
    return step.verb in (Verb.CHANGE, Verb.VERIFY) and step.facts.template_hash != step.child.template_hash
