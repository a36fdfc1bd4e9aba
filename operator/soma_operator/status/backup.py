"""The status of a SomaMemoryBackup. Backups are not implemented yet, and a backup that is silently not made is worse
than none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from soma_operator.api import BackupConditionType as Type
from soma_operator.api import Reason, SomaMemoryBackup, SomaMemoryBackupStatus
from soma_operator.api.errors import SpecError
from soma_operator.status.conditions import Verdict, dated, false, true

_NOT_YET = "backups are not implemented yet in this version of the operator: export, or snapshot the volume"


@dataclass(frozen=True, slots=True)
class BackupFindings:
    """What was found: a parsed resource, or what is wrong with it."""

    generation: int
    backup: SomaMemoryBackup | None
    problem: SpecError | None
    memory_exists: bool
    handled_reconcile_at: str | None = None


def backup_status(found: BackupFindings, before: SomaMemoryBackupStatus, now: str) -> SomaMemoryBackupStatus:
    """The complete status."""
    conditions = dated({k.value: v for k, v in _verdicts(found).items()}, before.conditions, found.generation, now)
    return SomaMemoryBackupStatus(
        observed_generation=found.generation,
        conditions=conditions,
        last_handled_reconcile_at=found.handled_reconcile_at or before.last_handled_reconcile_at,
    )


def _verdicts(found: BackupFindings) -> dict[Type, Verdict]:
    stall = _stall(found)
    not_yet = false(Reason.NOT_IMPLEMENTED, _NOT_YET)
    pending: Sequence[Type] = (
        Type.SCHEDULED, Type.LAST_BACKUP_SUCCEEDED, Type.FRESH, Type.LAST_DRILL_SUCCEEDED, Type.RESTORE_SUCCEEDED,
    )  # fmt: skip
    suspended = found.backup is not None and found.backup.spec.suspend
    return {
        Type.READY: stall,
        Type.STALLED: true(stall.reason, stall.message),
        **dict.fromkeys(pending, not_yet),
        Type.RESTORE_IN_PROGRESS: false(Reason.NO_RESTORE, "no restore is asked for"),
        Type.SUSPENDED: true(Reason.SUSPENDED, "spec.suspend is true")
        if suspended
        else false(Reason.NOT_SUSPENDED, "not suspended"),
    }


def _stall(found: BackupFindings) -> Verdict:
    if found.problem is not None:
        return false(Reason.INVALID_SPEC, str(found.problem))
    if found.backup is not None and not found.memory_exists:
        name = found.backup.spec.memory_ref.name
        return false(
            Reason.MEMORY_NOT_FOUND,
            f"spec.memoryRef.name: there is no SomaMemory {name} in this namespace; and {_NOT_YET}",
        )
    return false(Reason.NOT_IMPLEMENTED, _NOT_YET)
