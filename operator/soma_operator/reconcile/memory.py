"""The reconcile of a SomaMemory: one level-triggered function, whatever woke it."""

from __future__ import annotations

import logging
from datetime import datetime

from soma_operator.api import Mode, Reason, SomaMemory, SpecError
from soma_operator.api.resources import parse_status
from soma_operator.api.status import SomaMemoryStatus
from soma_operator.catalog.kinds import AUTOSCALER, DEPLOYMENT, JOB, SECRET, SERVICE_ACCOUNT, VOLUME_CLAIM, Ref
from soma_operator.catalog.names import RECONCILE_AT
from soma_operator.cluster.errors import ApiError
from soma_operator.desired.children import Child, Stage
from soma_operator.desired.connections import secrets_used
from soma_operator.desired.dependencies import dependencies
from soma_operator.desired.images import resolve
from soma_operator.desired.inputs import Inputs
from soma_operator.observe.facts import Facts, SecretData, Volume
from soma_operator.observe.store import Parent
from soma_operator.plan.migration import MigrationState, restarts_pods
from soma_operator.plan.readiness import unsafe_to_ignore
from soma_operator.plan.steps import Step, Verb, plan
from soma_operator.plan.volume import VolumeState, VolumeVerdict
from soma_operator.policy.judgement import refused
from soma_operator.reconcile.carrying_out import Steps, tellable, unasked_rollout
from soma_operator.reconcile.consent import lacks_consent
from soma_operator.reconcile.credentials import look_at_credentials
from soma_operator.reconcile.pods import look_at_pods
from soma_operator.reconcile.token import ensure_token, judge_token, referenced_token
from soma_operator.reconcile.volume import look_at_volume, volume_trouble
from soma_operator.reconcile.workbench import Outcome, Workbench
from soma_operator.reconcile.writing import write_memory_status
from soma_operator.status.distributed import ledger_answers
from soma_operator.status.findings import Failure, Findings
from soma_operator.status.memory import stall_of

log = logging.getLogger(__name__)
_SHORTEST_PROGRESS = 2.0
_LONGEST_PROGRESS = 30.0
_SLOT_SECONDS = 5.0
_MISSING_SECONDS = 5.0
_REFERENCE_SECONDS = 60.0
_PREREQUISITES = frozenset({Stage.CONFIGURATION})


async def reconcile_memory(bench: Workbench, parent: Parent) -> Outcome:
    """Bring one SomaMemory closer to its spec and tell what was found. Raises ApiError when nothing can be
    concluded."""
    run = _Run(bench, parent)
    return await run.outcome()


class _Run:
    """The state of one reconcile."""

    def __init__(self, bench: Workbench, parent: Parent) -> None:
        self._bench = bench
        self._parent = parent
        self._before = parse_status(SomaMemoryStatus, parent.body)
        self._found = Findings(
            parent.ref.name,
            parent.ref.namespace,
            parent.generation,
            handled_reconcile_at=parent.annotations.get(RECONCILE_AT),
        )
        self._steps: Steps | None = None

    async def outcome(self) -> Outcome:
        found = self._found
        found.facts = self._bench.store.children(self._parent.ref)
        try:
            memory = found.memory = SomaMemory.parse(self._parent.body)
        except SpecError as error:
            found.stall = Failure(Reason.INVALID_SPEC, str(error))
            return await self._finish()
        image = resolve(memory.spec, self._bench.defaults)
        found.image, found.version = image.reference, image.version
        problems = unsafe_to_ignore(memory.spec)
        if problems:
            found.stall = Failure(Reason.NOT_IMPLEMENTED, str(SpecError(problems)))
            return await self._finish()
        if await self._is_allowed(memory):
            await self._work(memory)
        elif self._bench.prober is not None:
            self._bench.prober.forget(self._parent.ref)
        return await self._finish()

    async def _is_allowed(self, memory: SomaMemory) -> bool:
        """Whether the policy, and who owns what is named, let the spec have what it asks for."""
        bench, found = self._bench, self._found
        rule = bench.policy.rule_for(found.namespace)
        problems = refused(memory, rule, bench.addresses, found.image, bench.defaults.image)
        if rule is not None and not problems:
            try:
                problems = await lacks_consent(bench, memory, rule)
            except ApiError as error:
                failure = tellable(error)
                if not rule.consent:
                    return True  # without rights on Secrets nothing is rolled out either: SecretsReady tells of it
                found.stall = Failure(failure.reason, f"what the spec names cannot be looked at: {failure.message}")
                return False
        if problems:
            found.stall = Failure(Reason.NOT_ALLOWED, str(SpecError(problems)))
        return not problems

    async def _work(self, memory: SomaMemory) -> None:
        found, bench = self._found, self._bench
        inputs = Inputs(memory, bench.defaults)
        if memory.spec.mode is Mode.EMBEDDED:
            found.volume = await look_at_volume(bench, self._parent, inputs, found, self._before)
            found.stall = volume_trouble(found.volume)
        token = await self._token(inputs)
        digest = token.content.digest if token is not None and isinstance(token.content, SecretData) else None
        credentials, found.credentials = await look_at_credentials(bench, inputs.namespace, memory.spec)
        found.endpoints, found.probed = dependencies(memory), bench.prober is not None
        if bench.prober is not None:
            found.health = bench.prober.want(self._parent.ref, found.endpoints.values())
        found.children = bench.children(Inputs(memory, bench.defaults, digest, credentials))
        self._refresh()
        if not memory.spec.suspend:
            await self._carry_out(memory)
        self._refresh()

    def _refresh(self) -> None:
        """Look at the store again: our own writes are in it by now."""
        store = self._bench.store
        facts = store.children(self._parent.ref)
        for child in self._found.children:
            known = store.child(child.ref)
            if known is not None:
                facts[child.ref] = known
        self._found.facts = facts

    async def _token(self, inputs: Inputs) -> Facts | None:
        try:
            facts = await self._token_facts(inputs)
        except ApiError as error:
            failure = tellable(error)
            self._found.token = Failure(failure.reason, f"Secret {inputs.token_secret[0]}: {failure.message}")
            return None
        self._found.token = judge_token(inputs, facts)
        return facts

    async def _token_facts(self, inputs: Inputs) -> Facts | None:
        bench = self._bench
        if not inputs.generates_token:
            return await referenced_token(bench, inputs)
        ref = Ref(SECRET, inputs.namespace, inputs.token_secret[0])
        known = bench.store.child(ref)
        if known is not None or inputs.memory.spec.suspend:
            return known
        manifest = next(child.manifest for child in bench.children(inputs) if child.ref == ref)
        await self._still_there()
        return await ensure_token(bench, inputs, manifest, served=self._before.version is not None)

    async def _still_there(self) -> None:
        """Before something is made anew: a watch that lags must not make us rebuild what a deletion is tearing down."""
        if self._before.observed_generation is None:
            return
        live = await self._bench.client.get(self._parent.ref)
        meta = live["metadata"] if live is not None else {}
        if meta.get("uid") != self._parent.uid or meta.get("deletionTimestamp"):
            raise GoneError

    async def _carry_out(self, memory: SomaMemory) -> None:
        found, bench, parent = self._found, self._bench, self._parent
        self._steps = steps = Steps(bench, parent, memory.spec, found)
        planned = plan(found.name, parent.uid, found.children, found.facts, bench.verdicts)
        if any(step.verb is Verb.CREATE for step in planned):
            await self._still_there()
        for step in planned:
            if not await self._may_carry_out(step):
                continue
            await steps.carry_out(step)
            if step.ref.kind is VOLUME_CLAIM:
                self._adopt_volume(step.ref)

    def _adopt_volume(self, ref: Ref) -> None:
        facts = self._bench.store.child(ref)
        if facts is None or ref in self._found.failures:
            return
        self._found.volume = VolumeVerdict(VolumeState.PRESENT, ref.name, facts.uid)
        if isinstance(facts.content, Volume):
            self._found.volume_phase = facts.content.phase

    async def _may_carry_out(self, step: Step) -> bool:
        """Whether what the step depends on is there: a stage that cannot finish stops what needs it, and nothing
        else."""
        if step.verb is Verb.DELETE:
            return True
        if step.ref.kind is DEPLOYMENT:
            return await self._may_roll_out(step)
        if step.ref.kind is JOB:
            return self._may_migrate(step)
        if step.ref.kind is AUTOSCALER and step.verb is Verb.CREATE:
            return self._bench.store.child(Ref(DEPLOYMENT, step.ref.namespace, step.ref.name)) is not None
        return step.ref.kind is not VOLUME_CLAIM or self._found.volume.usable

    def _prepared(self) -> bool:
        """Whether all that a pod mounts or names is there."""
        found = self._found
        return found.secrets is None and not any(
            child.ref in found.failures for child in found.children if _prerequisite(child)
        )

    def _may_migrate(self, step: Step) -> bool:
        if step.verb is Verb.LEAVE:
            return True
        return self._prepared() and ledger_answers(self._found) and self._has_turn(step)

    def _has_turn(self, step: Step) -> bool:
        """What nobody asked for waits until few enough of its like are under way."""
        if unasked_rollout(step, self._parent) and not self._bench.slots.take(self._parent.ref):
            self._found.waits_for_slot = True
            return False
        return True

    async def _may_roll_out(self, step: Step) -> bool:
        found = self._found
        if not found.volume.usable or not self._prepared():
            return False
        if restarts_pods(step) and found.migration not in (MigrationState.NOT_NEEDED, MigrationState.DONE):
            return False
        if step.verb is Verb.LEAVE:
            if (found.serves_current and found.consumes_current) or stall_of(found) is not None:
                self._bench.slots.release(self._parent.ref)
            return True
        recorded = self._before.volume.uid if self._before.volume else None
        if found.volume.uid is not None and found.volume.uid != recorded:
            # Written down before a pod can store anything in it: or its loss would go unnoticed.
            self._refresh()
            self._before, self._parent = await write_memory_status(self._bench, self._parent, self._found, self._before)
        return self._has_turn(step)

    async def _finish(self) -> Outcome:
        found, bench = self._found, self._bench
        rollouts = (found.rollout, found.consumer_rollout)
        pending = any(rollout is not None and not rollout.complete for rollout in rollouts)
        pending = pending or found.migration is MigrationState.RUNNING
        served = bool(
            self._before.version and self._before.version.current == found.version and self._before.image_digest
        )
        if pending or (found.serves_current and not served):
            await look_at_pods(bench, found)
        await write_memory_status(bench, self._parent, found, self._before)
        return self._again(pending=pending)

    def _again(self, *, pending: bool) -> Outcome:
        found = self._found
        if found.failures or (found.secrets is not None and found.secrets.reason is Reason.FORBIDDEN):
            return Outcome(failed=True, result="failed")
        waits: list[float] = []
        if found.memory is not None and found.memory.spec.suspend:
            return Outcome(result="suspended")
        if found.waits_for_slot:
            waits.append(_SLOT_SECONDS)
        if pending and stall_of(found) is None:
            started = self._before.history[0].started_at if self._before.history else None
            waits.append(_progress_wait(started, self._bench.now()))
        if found.stall is not None and found.stall.reason is Reason.NOT_ALLOWED:
            # A label or an annotation may come: what is only named is not watched.
            waits.append(_MISSING_SECONDS)
        if found.memory is not None and found.stall is None:
            if found.secrets is not None or found.volume.state is VolumeState.WAITING:
                waits.append(_MISSING_SECONDS)
            elif secrets_used(found.memory.spec) or not Inputs(found.memory, self._bench.defaults).generates_token:
                waits.append(_REFERENCE_SECONDS)
        if self._steps is not None and self._steps.retry_after is not None:
            waits.append(self._steps.retry_after)
        return Outcome(again_in=min(waits, default=None), result="stalled" if stall_of(found) else "ok")


class GoneError(Exception):
    """The resource was deleted, or is another one by now: there is nothing to do."""


def _prerequisite(child: Child) -> bool:
    return child.stage in _PREREQUISITES or child.ref.kind is SERVICE_ACCOUNT


def _progress_wait(started_at: str | None, now: str) -> float:
    """Seconds until a rollout is looked at again: a third of the time it has taken, from 2 to 30."""
    if started_at is None:
        return _SHORTEST_PROGRESS
    elapsed = (datetime.fromisoformat(now) - datetime.fromisoformat(started_at)).total_seconds()
    return min(_LONGEST_PROGRESS, max(_SHORTEST_PROGRESS, elapsed / 3))
