"""Exported memories, put back as they were: what a fresh ledger then exports is what was exported before, bit for bit.

A memory that is not there is restored with the i, times, accesses and hold that it had; no normaliser is asked, so it
ranks as it did. One that lives is stored over, as any store does, and keeps the larger count of accesses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from memory_runtime.embedding import EmbeddingProvider
from memory_runtime.engine.restoring import as_puts
from memory_runtime.engine.validation import Checked, check_item, check_time
from memory_runtime.engine.writing import Storekeeper
from memory_runtime.model.actor import current_actor
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.records import MemoryRecord, Scope, StoreItem, Vector
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.contracts import AuditEntry
from memory_runtime.stores.sessions import Ledger, LedgerTransaction
from memory_runtime.stores.values import CLIENT_REVISION, Kept

_UNIT_WITHIN: Final = 1e-5
MOST_ACCESSES: Final = 2**53


@dataclass(frozen=True, slots=True, eq=False)
class ExportedMemory:
    """A line of an export. Times are epoch seconds; `importance_norm` is the i in [0, 1] that it had."""

    item: StoreItem
    importance_norm: float
    ingested: float
    accessed: float
    access_count: int = 0
    expires_at: float | None = None
    model_revision: str = CLIENT_REVISION


class Imported(NamedTuple):
    """What an import did: memories that were not there, that were stored over, that had expired meanwhile."""

    restored: int
    updated: int
    expired: int


class CheckedExport(NamedTuple):
    """An exported memory that may be put in."""

    checked: Checked
    exported: ExportedMemory
    vector: Vector | None


def check_exported(scope: Scope, one: ExportedMemory, settings: SMFSettings, *, path: str = "") -> CheckedExport:
    """The memory with its id. Raises InvalidArgument or PayloadTooLarge naming `path` + field."""
    checked = check_item(scope, one.item, settings, path=path)
    for name in ("ingested", "accessed", "expires_at"):
        check_time(getattr(one, name), f"{path}{name}")
    if not 0.0 <= one.importance_norm <= 1.0:
        field = f"{path}importance_norm"
        raise InvalidArgument(f"{field}: must be in [0, 1]", field=field, remedy="leave the export as it was written")
    if not 0 <= one.access_count <= MOST_ACCESSES:
        field = f"{path}access_count"
        raise InvalidArgument(f"{field}: must be a count", field=field, remedy="leave the export as it was written")
    return CheckedExport(checked, one, _as_sent(one.item.vector, checked.vector))


def _as_sent(sent: Vector | None, made_unit: Vector | None) -> Vector | None:
    """The vector as it was exported, where that is unit: making it unit again could turn its last bits."""
    if sent is None or made_unit is None:
        return None
    norm = float(np.linalg.norm(sent.astype(np.float64)))
    return sent if math.isclose(norm, 1.0, abs_tol=_UNIT_WITHIN) else made_unit


class Importer:
    """Puts checked exports into one engine's ledger."""

    def __init__(
        self,
        ledger: Ledger,
        provider: EmbeddingProvider,
        storekeeper: Storekeeper,
        settings: SMFSettings,
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._provider = provider
        self._storekeeper = storekeeper
        self._settings = settings
        self._clock = clock

    async def put_in(self, scope: Scope, exports: Sequence[CheckedExport], actor: str) -> Imported:
        """Restores what is not there in one transaction, and stores over what is in another."""
        now = self._clock()
        lasting = {
            one.checked.id: one for one in exports if one.exported.expires_at is None or one.exported.expires_at > now
        }
        ids = [identity.bytes for identity in lasting]
        living = await self._ledger.read(lambda view: set(view.by_ids(ids)))
        absent = [one for identity, one in lasting.items() if identity.bytes not in living]
        present = [one for identity, one in lasting.items() if identity.bytes in living]
        restored = await self._restore(scope, absent, now, actor) if absent else 0
        # what came to life between the look and the write is stored over too: the file's word counts
        late = [] if restored == len(absent) else absent
        await self._store_over(scope, [*present, *late])
        return Imported(restored, len(lasting) - restored, len(exports) - len(lasting))

    async def _restore(self, scope: Scope, exports: Sequence[CheckedExport], now: float, actor: str) -> int:
        kept = [Kept(_record(scope, one), []) for one in exports]
        memories = await as_puts(kept, self._provider, self._settings.vector_dim, pin=False)
        if any(put.model_revision != CLIENT_REVISION for put, _, _ in memories):
            await self._storekeeper.remember_revision()
        entry = AuditEntry(scope.tenant, actor or current_actor(), "import", scope.namespace, now)
        done = await self._ledger.transact(lambda transaction: transaction.restore(memories, now, entry))
        return done.restored

    async def _store_over(self, scope: Scope, exports: Sequence[CheckedExport]) -> None:
        if not exports:
            return
        now = self._clock()
        checked = [
            replace(one.checked, item=replace(one.checked.item, ttl=_left(one.exported.expires_at, now)))
            for one in exports
        ]
        await self._storekeeper.store(scope, checked, "import", None, "")

        def count(transaction: LedgerTransaction) -> None:
            found = transaction.view.by_ids([one.checked.id.bytes for one in exports])
            more = [
                (one.exported.access_count - record.access_count, one.exported.accessed, one.checked.id.bytes)
                for one in exports
                if (record := found.get(one.checked.id.bytes)) and one.exported.access_count > record.access_count
            ]
            transaction.add_accesses(more)

        await self._ledger.transact(count)


def _left(expires_at: float | None, now: float) -> float | None:
    return None if expires_at is None else max(expires_at - now, 1e-3)


def _record(scope: Scope, one: CheckedExport) -> MemoryRecord:
    item, exported = one.checked.item, one.exported
    return MemoryRecord(
        id=one.checked.id,
        tenant=scope.tenant,
        namespace=scope.namespace,
        memory_type=item.memory_type,
        coordinate=item.coordinate,
        payload=dict(item.payload),
        importance=item.importance,
        importance_norm=exported.importance_norm,
        normaliser_version=0,  # none of this ledger's made it
        event_time=exported.ingested if item.timestamp is None else item.timestamp,
        ingest_time=exported.ingested,
        access_time=exported.accessed,
        access_count=exported.access_count,
        features={name: float(value) for name, value in (item.features or {}).items()},
        vector=one.vector,
        # without its vector it is embedded anew from its payload
        model_revision=exported.model_revision if one.vector is not None else "",
        pinned=item.pinned,
        hold=item.hold,
        expires_at=exported.expires_at,
    )
