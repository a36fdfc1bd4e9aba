"""Exported memories, put back as they were: what a fresh ledger then exports is what was exported before, bit for bit.

A memory is written with the i, times, accesses and hold that the file says; no normaliser is asked, so it ranks as it
did. Over one that lives this is its next version, which keeps the larger count of accesses and the last of them.

A vector is kept where it may be compared with the others here: the client's own, and those of the revision that serves.
Any other, by revision or dimension, is made anew from the text.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from memory_runtime.embedding import EmbeddingProvider
from memory_runtime.engine.restoring import as_puts
from memory_runtime.engine.validation import Checked, check_item, check_time
from memory_runtime.engine.writing import Storekeeper, replaced
from memory_runtime.model.actor import current_actor
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.records import MemoryRecord, Scope, StoreItem, Vector
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.contracts import AuditEntry, Put
from memory_runtime.stores.finite import check_put
from memory_runtime.stores.sessions import Ledger, LedgerTransaction
from memory_runtime.stores.values import CLIENT_REVISION, Kept, Restored

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

    @property
    def ends_at(self) -> float | None:
        """When it is no longer found: its expiry, which what is pinned or held outlives."""
        item = self.checked.item
        return None if item.pinned or item.hold else self.exported.expires_at


def check_exported(scope: Scope, one: ExportedMemory, settings: SMFSettings, *, path: str = "") -> CheckedExport:
    """The memory with its id. Raises InvalidArgument or PayloadTooLarge naming `path` + field."""
    item = one.item
    if item.vector is not None and len(item.vector) != settings.vector_dim:
        # of another dimension: made anew from the text
        item = replace(item, vector=None)
    checked = check_item(scope, item, settings, path=path)
    for name in ("ingested", "accessed", "expires_at"):
        check_time(getattr(one, name), f"{path}{name}")
    if not 0.0 <= one.importance_norm <= 1.0:
        field = f"{path}importance_norm"
        raise InvalidArgument(f"{field}: must be in [0, 1]", field=field, remedy="leave the export as it was written")
    if not 0 <= one.access_count <= MOST_ACCESSES:
        field = f"{path}access_count"
        raise InvalidArgument(f"{field}: must be a count", field=field, remedy="leave the export as it was written")
    return CheckedExport(checked, one, _as_sent(item.vector, checked.vector))


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
        written: Callable[[Sequence[Put]], Awaitable[None]],
    ) -> None:
        """`written` is the read cache's, told what has been written."""
        self._written = written
        self._ledger = ledger
        self._provider = provider
        self._storekeeper = storekeeper
        self._settings = settings
        self._clock = clock

    async def put_in(
        self, scope: Scope, exports: Sequence[CheckedExport], actor: str, *, replace: bool = False
    ) -> Imported:
        """Writes them all in one transaction, over those that live, or with `replace` in the place of those."""
        now = self._clock()
        lasting = {one.checked.id: one for one in exports if (ends := one.ends_at) is None or ends > now}
        restored = await self._restore(scope, list(lasting.values()), now, actor, replace) if lasting else 0
        return Imported(restored, len(lasting) - restored, len(exports) - len(lasting))

    async def _restore(
        self, scope: Scope, exports: Sequence[CheckedExport], now: float, actor: str, replace: bool
    ) -> int:
        kept = [Kept(_record(scope, one), []) for one in exports]
        memories = await as_puts(kept, self._provider, self._settings.vector_dim, pin=False)
        if any(put.model_revision != CLIENT_REVISION for put, _, _ in memories):
            await self._storekeeper.remember_revision()
        actor = actor or current_actor()
        entry = AuditEntry(scope.tenant, actor, "import", scope.namespace, now)
        puts = [put for put, _, _ in memories]

        def write(transaction: LedgerTransaction) -> Restored:
            if replace:
                # a refusal must come before the deletes: it would not undo them
                for put, record, _ in memories:
                    check_put(put, record.importance_norm, record.access_time)
                transaction.run(replaced(puts, now, actor))
            return transaction.restore(memories, now, entry, over=True)

        done = await self._ledger.transact(write)
        await self._written(puts)
        return done.restored


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
