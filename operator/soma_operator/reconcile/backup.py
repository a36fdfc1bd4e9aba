"""The reconcile of a SomaMemoryBackup: tells that backups are not made yet."""

from __future__ import annotations

from soma_operator.api import SomaMemoryBackup, SomaMemoryBackupStatus, SpecError
from soma_operator.api.resources import parse_status
from soma_operator.catalog.kinds import SOMA_MEMORY, SOMA_MEMORY_BACKUP, Ref
from soma_operator.catalog.names import RECONCILE_AT
from soma_operator.observe.store import Parent
from soma_operator.reconcile.workbench import Outcome, Workbench
from soma_operator.reconcile.writing import write_status
from soma_operator.status.backup import BackupFindings, backup_status


async def reconcile_backup(bench: Workbench, parent: Parent) -> Outcome:
    """Compute the status and write it if it differs."""
    before = parse_status(SomaMemoryBackupStatus, parent.body)
    backup, problem, exists = None, None, False
    try:
        backup = SomaMemoryBackup.parse(parent.body)
        exists = bench.store.parent(Ref(SOMA_MEMORY, parent.ref.namespace, backup.spec.memory_ref.name)) is not None
    except SpecError as error:
        problem = error
    handled = parent.annotations.get(RECONCILE_AT)
    found = BackupFindings(parent.generation, backup, problem, exists, handled)
    after = backup_status(found, before, bench.now())
    if after != before:
        await write_status(bench, SOMA_MEMORY_BACKUP, parent, after.to_manifest())
    return Outcome(result="stalled")
