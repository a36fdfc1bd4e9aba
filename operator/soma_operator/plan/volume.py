"""What may be done about the volume that holds the memories: the one child that cannot simply be made again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from soma_operator.observe.facts import Facts, Volume


class VolumeState(StrEnum):
    NOT_USED = "not used"
    """Distributed mode keeps nothing on a volume."""
    TO_CREATE = "to create"
    """Never had one, or its loss was accepted."""
    WAITING = "waiting"
    """Somebody else's claim is named and not there yet."""
    PRESENT = "present"
    LEAVING = "leaving"
    """Being deleted, and kept alive by the pod that uses it: no rollout may let go of it."""
    LOST = "lost"
    """It held memories, and is gone or replaced."""


@dataclass(frozen=True, slots=True)
class VolumeVerdict:
    """State of the volume, and the uid to record: the one found, or the one that is missed."""

    state: VolumeState
    claim: str = ""
    uid: str | None = None

    @property
    def usable(self) -> bool:
        """Whether pods may be rolled out on it."""
        return self.state in (VolumeState.NOT_USED, VolumeState.TO_CREATE, VolumeState.PRESENT)


def judge_volume(
    claim: str, recorded: str | None, facts: Facts | None, accepted: str | None, *, existing: bool
) -> VolumeVerdict:
    """Compare the claim with what is recorded in status.

    `recorded` is status.volume.uid, `accepted` the annotation by which a person accepts the loss of that very uid,
    `existing` says that the claim is not ours to make.
    """
    consented = recorded is not None and accepted == recorded
    if facts is None:
        if recorded is not None and not consented:
            return VolumeVerdict(VolumeState.LOST, claim, recorded)
        return VolumeVerdict(VolumeState.WAITING if existing else VolumeState.TO_CREATE, claim)
    if recorded is not None and facts.uid != recorded and not consented:
        return VolumeVerdict(VolumeState.LOST, claim, recorded)
    if isinstance(facts.content, Volume) and facts.content.phase == "Lost" and accepted != facts.uid:
        return VolumeVerdict(VolumeState.LOST, claim, facts.uid)
    if facts.deleting:
        return VolumeVerdict(VolumeState.LEAVING, claim, recorded or facts.uid)
    return VolumeVerdict(VolumeState.PRESENT, claim, facts.uid)
