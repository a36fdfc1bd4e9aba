"""What one reconcile found: the input of every status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from soma_operator.api import Reason, SomaMemory
from soma_operator.api.status import DriftAction
from soma_operator.catalog.back_ends import BackEnd, Endpoint
from soma_operator.catalog.kinds import AUTOSCALER, DEPLOYMENT, JOB, Ref
from soma_operator.desired.render import Child
from soma_operator.observe.dependencies import Health
from soma_operator.observe.facts import Facts, Rollout, Scaling
from soma_operator.plan.drift import Edit
from soma_operator.plan.migration import MigrationState, judge_migration
from soma_operator.plan.volume import VolumeState, VolumeVerdict

PERMANENT = frozenset({Reason.RESOURCE_CONFLICT, Reason.IMMUTABLE_CONFLICT, Reason.REFUSED, Reason.CRD_NOT_INSTALLED})


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something is not as it should be, ready for a condition."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class DriftFinding:
    """An edit, and what was done about it."""

    edit: Edit
    action: DriftAction


@dataclass(slots=True)
class Findings:
    """Filled in the course of one reconcile. `memory` is None when the spec cannot be parsed."""

    name: str
    namespace: str
    generation: int
    memory: SomaMemory | None = None
    stall: Failure | None = None
    """What stops everything: invalid or unsafe spec, lost data."""
    children: Sequence[Child] = ()
    facts: Mapping[Ref, Facts] = field(default_factory=dict)
    failures: dict[Ref, Failure] = field(default_factory=dict)
    volume: VolumeVerdict = field(default_factory=lambda: VolumeVerdict(VolumeState.NOT_USED))
    volume_phase: str = ""
    token: Failure | None = None
    """What the token Secret lacks."""
    credentials: Failure | None = None
    """What the Secrets of the back ends lack."""
    endpoints: Mapping[BackEnd, Endpoint] = field(default_factory=dict)
    """The back ends that are probed."""
    health: Mapping[Endpoint, Health] = field(default_factory=dict)
    """What is known of them; absent: not looked at yet."""
    probed: bool = True
    """Whether back ends are probed at all."""
    drift: list[DriftFinding] = field(default_factory=list)
    examined: set[str] = field(default_factory=set)
    """Objects (Kind/name) whose step was carried out: all of their open edits are in `drift`."""
    pods: Failure | None = None
    """Why the pods of the API do not get on."""
    consumer_pods: Failure | None = None
    migration_pods: Failure | None = None
    waits_for_slot: bool = False
    image: str = ""
    image_digest: str | None = None
    version: str = ""
    handled_reconcile_at: str | None = None

    @property
    def deployment(self) -> Child | None:
        """The Deployment of the API."""
        found = [child for child in self.children if child.ref.kind is DEPLOYMENT]
        return found[0] if found else None

    @property
    def deployment_facts(self) -> Facts | None:
        """What runs; also where the spec is invalid and nothing is desired."""
        child = self.deployment
        if child is not None:
            return self.facts.get(child.ref)
        names = (self.name, f"{self.name}-api")
        return next((f for ref, f in self.facts.items() if ref.kind is DEPLOYMENT and ref.name in names), None)

    @property
    def rollout(self) -> Rollout | None:
        """How far what runs is."""
        facts = self.deployment_facts
        return facts.content if facts is not None and isinstance(facts.content, Rollout) else None

    @property
    def secrets(self) -> Failure | None:
        """What any Secret lacks."""
        return self.token or self.credentials

    @property
    def consumer(self) -> Child | None:
        """The Deployment of the consumers, in distributed mode with events."""
        name = f"{self.name}-consumer"
        return next((c for c in self.children if c.ref.kind is DEPLOYMENT and c.ref.name == name), None)

    @property
    def consumer_rollout(self) -> Rollout | None:
        """How far the consumers are."""
        child = self.consumer
        facts = self.facts.get(child.ref) if child is not None else None
        return facts.content if facts is not None and isinstance(facts.content, Rollout) else None

    @property
    def consumes_current(self) -> bool:
        """The newest template of the consumers is rolled out completely; also where none are wanted."""
        child, rollout = self.consumer, self.consumer_rollout
        return child is None or (rollout is not None and rollout.complete and self.in_sync(child))

    @property
    def migration_job(self) -> Child | None:
        """The Job that brings the ledger to the newest schema, in distributed mode."""
        return next((child for child in self.children if child.ref.kind is JOB), None)

    @property
    def migration(self) -> MigrationState:
        """How far it is."""
        job = self.migration_job
        return judge_migration(job, self.facts.get(job.ref) if job is not None else None)

    @property
    def scaling(self) -> list[Scaling | None]:
        """The autoscalers that are wanted; None for one that has said nothing yet."""
        wanted = [self.facts.get(child.ref) for child in self.children if child.ref.kind is AUTOSCALER]
        return [f.content if f is not None and isinstance(f.content, Scaling) else None for f in wanted]

    def in_sync(self, child: Child) -> bool:
        """Whether the object was applied as it is desired now."""
        facts = self.facts.get(child.ref)
        return (
            facts is not None
            and facts.desired_hash == child.hash
            and not facts.deleting
            and child.ref not in self.failures
        )

    def told_failures(self) -> list[tuple[Ref, Failure]]:
        """Failures in a fixed order, each with its object's name in the message."""
        ordered = sorted(self.failures.items(), key=lambda entry: str(entry[0]))
        return [(ref, Failure(failure.reason, f"{ref}: {failure.message}")) for ref, failure in ordered]

    @property
    def serves_current(self) -> bool:
        """The newest template is rolled out completely."""
        child, rollout = self.deployment, self.rollout
        return child is not None and rollout is not None and rollout.complete and self.in_sync(child)

    @property
    def open_drift(self) -> DriftAction | None:
        """The worst action that leaves an edit standing."""
        actions = {finding.action for finding in self.drift}
        for action in (DriftAction.BACKING_OFF, DriftAction.REPORTED):
            if action in actions:
                return action
        return None
