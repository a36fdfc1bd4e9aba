"""SomaMemoryBackup: what is backed up, when, where to, how long it is kept, and how often a restore is rehearsed."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from soma_operator.api.base import ApiModel, Rule, StatusModel
from soma_operator.api.persistence import Destination
from soma_operator.api.references import SecretKeyRef
from soma_operator.api.status import Conditions, Count, Text
from soma_operator.api.values import ByteQuantity, DnsName, Duration, ShortText, Timestamp

_FIELD = r"[-0-9A-Za-z*/,?]+"
CronSchedule = Annotated[
    str,
    Field(
        pattern=rf"^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|{_FIELD}( {_FIELD}){{4}})$", max_length=128
    ),
]
TimeZone = Annotated[str, Field(pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$", max_length=64)]


class MemoryRef(ApiModel):
    """The SomaMemory that is backed up."""

    name: DnsName
    """Name of a SomaMemory in the same namespace."""


class BackupRetention(ApiModel):
    """How long snapshots are kept. The newest complete one is always kept, whatever these say."""

    keep_last: Annotated[int, Field(ge=1, le=10000)] | None = None
    """Keep this many of the newest snapshots."""

    keep_for: Duration | None = None
    """Keep snapshots younger than this, such as 30d."""


class Drill(ApiModel):
    """A rehearsal: the newest snapshot is restored beside the real store, verified by its manifest, and thrown away."""

    schedule: CronSchedule
    """When, as a cron expression of five fields or @weekly and the like."""

    timeout: Duration = "1h"
    """After this a drill counts as failed."""

    storage_size: ByteQuantity | None = None
    """Size of the scratch volume. Left out: that of the memory's own volume."""


class ConcurrencyPolicy(StrEnum):
    FORBID = "Forbid"
    REPLACE = "Replace"


class SomaMemoryBackupSpec(ApiModel):
    """Not built yet: a SomaMemoryBackup makes no snapshot, and its conditions say NotImplemented. With a schedule: a
    series of snapshots. Without: one, which is why such a spec cannot be changed."""

    memory_ref: MemoryRef
    """The SomaMemory that is backed up. Immutable."""

    schedule: CronSchedule | None = None
    """When, as a cron expression of five fields or @daily and the like. Each resource is shifted by a few seconds of
    its own, so that a fleet does not start at once; missed slots are not replayed. Left out: one snapshot, now."""

    time_zone: TimeZone = "UTC"
    """Time zone of the schedules, such as Europe/Madrid."""

    destination: Destination
    """Where snapshots are written."""

    retention: BackupRetention = Field(default_factory=BackupRetention)
    """How long snapshots are kept. Left out: for ever."""

    rpo: Duration | None = None
    """Most that may be lost: condition Fresh turns False when the newest snapshot is older. Left out: not watched."""

    timeout: Duration = "1h"
    """After this a snapshot counts as failed."""

    concurrency_policy: ConcurrencyPolicy = ConcurrencyPolicy.FORBID
    """When the previous snapshot still runs at the next slot: skip the slot, or replace the run."""

    drill: Drill | None = None
    """Rehearse a restore. Left out: never, and the preflight checklist says so."""

    encryption_key_secret_ref: SecretKeyRef | None = None
    """Key of 32 bytes, base64, that snapshots are encrypted with before they leave the pod. Left out: what the bucket
    does."""

    suspend: bool = False
    """Whether no new snapshot or drill is started; those that run are finished."""

    rules = (
        Rule(
            "has(self.schedule) || !has(self.drill)",
            "a single snapshot is not rehearsed on a schedule: set schedule, or remove drill",
            ".drill",
            lambda backup: backup.schedule is not None or backup.drill is None,
        ),
        Rule(
            "has(self.schedule) || !has(self.rpo)",
            "a single snapshot cannot keep an rpo: set schedule, or remove rpo",
            ".rpo",
            lambda backup: backup.schedule is not None or backup.rpo is None,
        ),
        Rule(
            "self.memoryRef == oldSelf.memoryRef",
            "memoryRef is immutable: create another SomaMemoryBackup for the other memory",
            ".memoryRef",
        ),
        Rule(
            "has(oldSelf.schedule) == has(self.schedule)",
            "schedule can be neither added nor removed: create another SomaMemoryBackup",
            ".schedule",
        ),
        Rule(
            "has(oldSelf.schedule) || self == oldSelf",
            "a SomaMemoryBackup without a schedule is one snapshot and immutable: create another one",
        ),
    )


class SnapshotStatus(StatusModel):
    """One snapshot or drill."""

    id: Text | None = None
    """Id of the snapshot."""

    started_at: Timestamp | None = None
    """When it began."""

    completed_at: Timestamp | None = None
    """When it ended."""

    outcome: Text | None = None
    """Reason word of how it ended, such as BackupSucceeded."""

    sequence: Count | None = None
    """Last ledger sequence number that it holds."""

    size_bytes: Count | None = None
    """Bytes written."""

    location: Annotated[str, Field(max_length=1024)] | None = None
    """Where it lies, without credentials."""


class SomaMemoryBackupStatus(StatusModel):
    """What was found. Written by the operator only."""

    observed_generation: Count | None = None
    """metadata.generation that this status was computed from."""

    conditions: Conditions = ()
    """Observations, one a type. Fresh: the newest snapshot is younger than the rpo."""

    last_backup: SnapshotStatus | None = None
    """The latest run, successful or not."""

    last_successful_backup: SnapshotStatus | None = None
    """The latest snapshot that can be restored."""

    last_drill: SnapshotStatus | None = None
    """The latest rehearsal of a restore."""

    next_backup_at: Timestamp | None = None
    """When the next snapshot is due."""

    next_drill_at: Timestamp | None = None
    """When the next drill is due."""

    snapshots: Count | None = None
    """Snapshots at the destination."""

    last_handled_reconcile_at: ShortText | None = None
    """Value of the annotation memory.somatech.dev/reconcile-at that was last acted upon."""
