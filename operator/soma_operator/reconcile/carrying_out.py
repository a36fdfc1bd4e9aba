"""Carries out the steps of a plan: one request each, its failure kept for the status, its answer taken into the
store."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from soma_operator.api import Reason, SomaMemorySpec
from soma_operator.api.spec import DriftPolicy
from soma_operator.api.status import DriftAction
from soma_operator.catalog.kinds import DEPLOYMENT, JOB, SECRET, Ref
from soma_operator.catalog.names import ADOPT, DESIRED_HASH, SCALE_MANAGER
from soma_operator.cluster.errors import ApiError
from soma_operator.desired.render import Child
from soma_operator.events.recorder import NORMAL, WARNING
from soma_operator.observe.facts import facts_of
from soma_operator.observe.store import Parent
from soma_operator.ownership.entries import REPLICAS, own_digest, own_paths
from soma_operator.ownership.expected import without
from soma_operator.plan.drift import Edit, edits, ignored_paths, left_to_others
from soma_operator.plan.steps import Step, Verb, Verdict
from soma_operator.reconcile.workbench import Workbench
from soma_operator.status.findings import DriftFinding, Failure, Findings
from soma_operator.telemetry import metrics

log = logging.getLogger(__name__)


class Steps:
    """For one reconcile of one SomaMemory."""

    def __init__(self, bench: Workbench, parent: Parent, spec: SomaMemorySpec, found: Findings) -> None:
        self._bench = bench
        self._parent = parent
        self._spec = spec
        self._found = found
        self.retry_after: float | None = None

    async def carry_out(self, step: Step) -> None:
        """Do one step. Raises ApiError only when nothing can be concluded: no answer, or the namespace is going."""
        if step.verb is Verb.WAIT:
            return
        try:
            if step.verb is not Verb.LEAVE:
                await self._carry_out(step)
            self._found.examined.add(str(step.ref))
        except ApiError as error:
            self._found.failures[step.ref] = tellable(error)

    async def _carry_out(self, step: Step) -> None:
        child, facts = step.child, step.facts
        if child is None:
            if facts is not None and step.verb is Verb.DELETE:
                await self._bench.client.delete(step.ref, facts.uid)
                log.info("deleted, as it is no longer desired", extra={"object": str(step.ref)})
        elif step.verb is Verb.CONFLICT:
            self._found.failures[step.ref] = self._conflict(step.ref)
        elif step.verb is Verb.CREATE:
            await self._create(child)
        elif step.verb is Verb.CHANGE:
            await self._apply(child)
        else:
            await self._verify(child)

    def _conflict(self, ref: Ref) -> Failure:
        message = (
            f"an object of that name exists and is not ours: delete it, or let it be taken over with the annotation "
            f"{ADOPT}={self._found.name}"
        )
        return Failure(Reason.RESOURCE_CONFLICT, message)

    async def _create(self, child: Child) -> None:
        live = await self._bench.client.get(child.ref)
        if live is not None:
            # Ours without its labels, somebody else's, or newer than our picture.
            facts = facts_of(child.ref.kind, live)
            if facts.deleting:
                return
            if not facts.belongs_to(self._found.name, self._parent.uid) and facts.adopt != self._found.name:
                self._found.failures[child.ref] = self._conflict(child.ref)
                return
            await self._apply(child)
            return
        if child.ref.kind is SECRET:
            # Its token is made elsewhere, with create semantics; an apply here would make one without.
            return
        before = self._parent.body.get("status", {}).get("observedGeneration")
        await self._apply(child, force=False)
        if before is not None:
            self.tell(NORMAL, "Created", f"{child.ref} was missing and has been made")

    async def _apply(self, child: Child, *, force: bool = True) -> None:
        if child.ref.kind is DEPLOYMENT and "replicas" not in child.manifest["spec"]:
            await self._hand_over_replicas(child.ref)
        manifest = await self._allowed_part(child)
        answer = await self._bench.client.apply(child.ref, manifest, force=force)
        log.info("applied", extra={"object": str(child.ref), "hash": child.hash})
        self.took(child, answer)

    async def _hand_over_replicas(self, ref: Ref) -> None:
        """An autoscaler takes over: dropped by its sole owner the field would fall back to 1, pods and all."""
        live = await self._bench.client.get(ref)
        if live is None or REPLICAS not in (own_paths(live["metadata"]) or frozenset()):
            return
        manifest = {
            "apiVersion": ref.kind.api_version,
            "kind": ref.kind.name,
            "metadata": {"name": ref.name, "namespace": ref.namespace},
            "spec": {"replicas": live["spec"]["replicas"]},
        }
        await self._bench.client.apply(ref, manifest, force=True, manager=SCALE_MANAGER)

    def took(self, child: Child, answer: Mapping[str, Any]) -> None:
        """The answer to our own write is the newest picture there is."""
        self._bench.store.put_child(child.ref.kind, answer)
        facts = facts_of(child.ref.kind, answer)
        if facts.digest != child.digest:
            self._bench.trust(facts.uid, Verdict(child.hash, facts.digest, drifted=False))

    async def _allowed_part(self, child: Child) -> Mapping[str, Any]:
        """The manifest without ignored fields that somebody else has taken by now."""
        ignored = ignored_paths(child.ref.kind, child.manifest, self._spec.ignore_paths)
        live = await self._bench.client.get(child.ref) if ignored else None
        if live is None:
            return child.manifest
        applied = (live["metadata"].get("annotations") or {}).get(DESIRED_HASH) == child.hash
        left = left_to_others(child.manifest, ignored, live["metadata"], applied=applied)
        return without(child.manifest, left) if left else child.manifest

    async def _verify(self, child: Child) -> None:
        """Our field set is not as expected: ask what an apply would take back, then take it back or only tell."""
        live = await self._bench.client.get(child.ref)
        if live is None:
            return
        answer = await self._bench.client.apply(child.ref, child.manifest, force=True, dry_run=True)
        ignored = ignored_paths(child.ref.kind, child.manifest, self._spec.ignore_paths)
        found = edits(child.ref, live["metadata"], answer["metadata"], ignored)
        if not found:
            meta = live["metadata"]
            self._bench.trust(meta["uid"], Verdict(child.hash, own_digest(meta), drifted=False))
            self._bench.store.put_child(child.ref.kind, live)
            return
        action = self._action(child.ref, found)
        if action is DriftAction.CORRECTED:
            await self._apply(child)
            for manager in {edit.manager for edit in found}:
                self._bench.corrections.note(child.ref, manager)
        self._note(child.ref, found, action)

    def _action(self, ref: Ref, found: list[Edit]) -> DriftAction:
        if self._spec.drift_policy is DriftPolicy.WARN:
            return DriftAction.REPORTED
        busy = [edit.manager for edit in found if not self._bench.corrections.allowed(ref, edit.manager)]
        if not busy:
            return DriftAction.CORRECTED
        wait = max(self._bench.corrections.retry_after(ref, manager) for manager in busy)
        self.retry_after = max(wait, self.retry_after or 0.0)
        return DriftAction.BACKING_OFF

    def _note(self, ref: Ref, found: list[Edit], action: DriftAction) -> None:
        for edit in found:
            metrics.DRIFT.labels(ref.kind.name, action.value).inc()
            self._found.drift.append(DriftFinding(edit, action))
        fields = ", ".join(edit.field for edit in found[:3]) + (" and more" if len(found) > 3 else "")
        managers = ", ".join(sorted({edit.manager for edit in found}))
        log.warning("drift", extra={"object": str(ref), "fields": fields, "managers": managers, "action": action.value})
        known = {
            (i.get("object"), i.get("path"), i.get("manager"), i.get("time"), i.get("action"))
            for i in (self._parent.body.get("status", {}).get("drift") or {}).get("items", ())
        }
        if any((str(ref), e.field, e.manager, e.time, action.value) not in known for e in found):
            self.tell(WARNING, f"Drift{action.value}", f"{ref}: {fields} changed by {managers}: {action.value}")

    def tell(self, kind: str, reason: str, message: str) -> None:
        """Record an Event on the resource."""
        self._bench.recorder.record(self._parent.ref, self._parent.uid, kind, reason, message)


def tellable(error: ApiError) -> Failure:
    """The failure that an error is; raised again if nothing can be concluded: no answer, or a namespace that goes."""
    if error.blind or error.reason is Reason.NAMESPACE_TERMINATING:
        raise error
    metrics.RECONCILE_ERRORS.labels(error.reason.value).inc()
    return Failure(error.reason, error.message)


def unasked_rollout(step: Step, parent: Parent) -> bool:
    """Whether a change restarts pods, or migrates again, although nobody changed the spec: then it waits for a slot.
    A generation that has not served yet is being rolled out because somebody asked, however often it is looked at."""
    if not _has_served(parent):
        return False
    if step.ref.kind is JOB:
        return step.verb is Verb.CREATE
    if step.verb is not Verb.CHANGE or step.ref.kind is not DEPLOYMENT or step.facts is None or step.child is None:
        return False
    return step.facts.template_hash != step.child.template_hash


def _has_served(parent: Parent) -> bool:
    """Whether the spec as it is now was rolled out completely once."""
    entries = (parent.body.get("status") or {}).get("history") or ()
    return any(entry.get("generation") == parent.generation and entry.get("completedAt") for entry in entries)
