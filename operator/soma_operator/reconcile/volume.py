"""The volume of embedded mode: asked after before its loss is declared, and judged against what was recorded."""

from __future__ import annotations

from soma_operator.api import Reason
from soma_operator.api.status import SomaMemoryStatus
from soma_operator.catalog.kinds import VOLUME_CLAIM, Ref
from soma_operator.catalog.names import ACCEPT_DATA_LOSS
from soma_operator.cluster.errors import ApiError
from soma_operator.desired.inputs import Inputs
from soma_operator.observe.facts import Volume, facts_of
from soma_operator.observe.store import Parent
from soma_operator.plan.volume import VolumeState, VolumeVerdict, judge_volume
from soma_operator.reconcile.carrying_out import tellable
from soma_operator.reconcile.workbench import Workbench
from soma_operator.status.findings import Failure, Findings


async def look_at_volume(
    bench: Workbench, parent: Parent, inputs: Inputs, found: Findings, before: SomaMemoryStatus
) -> VolumeVerdict:
    """The verdict; what went wrong in asking goes into `found`."""
    spec = inputs.memory.spec
    ref = Ref(VOLUME_CLAIM, inputs.namespace, inputs.claim)
    facts = bench.store.child(ref)
    if facts is None:
        # Before a loss is declared, and for a claim that is not ours to watch, the API server is asked.
        try:
            live = await bench.client.get(ref)
        except ApiError as error:
            found.failures[ref] = tellable(error)
            return VolumeVerdict(VolumeState.WAITING, inputs.claim)
        facts = facts_of(VOLUME_CLAIM, live) if live is not None else None
    existing = spec.persistence.existing_claim is not None
    ours = facts is not None and (facts.adopt == inputs.name or facts.belongs_to(inputs.name, parent.uid))
    if not existing and not ours:
        # Somebody else's claim of that name: the plan answers it as a conflict.
        facts = None
    recorded = before.volume.uid if before.volume else None
    accepted = parent.annotations.get(ACCEPT_DATA_LOSS)
    if facts is not None and isinstance(facts.content, Volume):
        found.volume_phase = facts.content.phase
    if facts is not None and facts.adopt == inputs.name:
        # Whoever restored the claim says with the annotation that it is the right one.
        accepted = recorded
    return judge_volume(inputs.claim, recorded, facts, accepted, existing=existing)


def volume_trouble(volume: VolumeVerdict) -> Failure | None:
    """What stops everything, if the memories are gone or going."""
    if volume.state is VolumeState.LEAVING:
        text = (
            f"PersistentVolumeClaim {volume.claim} is being deleted, and gone once the pod stops: export the memories"
        )
        return Failure(Reason.TERMINATING, text)
    if volume.state is not VolumeState.LOST:
        return None
    text = (
        f"PersistentVolumeClaim {volume.claim} that held the memories is gone: restore it, or begin empty with the "
        f"annotation {ACCEPT_DATA_LOSS}={volume.uid}"
    )
    return Failure(Reason.DATA_LOST, text)
