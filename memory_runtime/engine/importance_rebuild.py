"""A new version of a tenant's importance normaliser for what is stored already: previewed, swapped in, taken back.

A stored memory keeps the i that it was committed with; this is the one thing that moves it, and only when asked. The
preview shows what would change in the answers to recent queries ("importance shock"). The swap is one commit in the
ledger and one replaced index: a search sees all the old i or all the new ones. The old ones are kept until the
rebuild is confirmed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from memory_runtime.engine.following import Follower
from memory_runtime.engine.measuring import REPLAYED, try_out
from memory_runtime.engine.refilling import refill
from memory_runtime.engine.sampling import Sampling
from memory_runtime.model.actor import current_actor
from memory_runtime.model.errors import Conflict, Unprocessable
from memory_runtime.model.threads import in_thread
from memory_runtime.scoring import ImportanceNormaliser
from memory_runtime.scoring.gates import Effect
from memory_runtime.scoring.importance import Mapping, fit
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.contracts import AuditEntry, Unit
from memory_runtime.stores.sessions import Ledger, LedgerTransaction

FACT: Final = "importance_rebuild:"
SAMPLES: Final = 65_536
QUANTILES: Final = (0.1, 0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a rebuild would do: how many memories, how far their i would move, what answers would become.

    `before` and `after` are the 10, 50, 90 and 99 % quantiles of i; `moved` the largest and the mean |change of i|,
    over at most 65,536 memories.
    """

    tenant: str
    memories: int
    version: int
    method: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    moved: tuple[float, float]
    effect: Effect


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A rebuild that can still be undone: the map in force, the one before, when, how many memories moved."""

    tenant: str
    memories: int
    at: float
    version: int
    method: str
    before: dict[str, Any]


class ImportanceRebuild:
    """Rebuilds of one engine's tenants, one at a time."""

    def __init__(
        self,
        ledger: Ledger,
        follower: Follower,
        settings: SMFSettings,
        sampling: Sampling,
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._follower = follower
        self._settings = settings
        self._sampling = sampling
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()
        self._stopping = False

    async def stop(self) -> None:
        """Waits for a rebuild that is under way: its commit may be durable while its index is not in place."""
        self._stopping = True
        if self._running:
            await asyncio.wait(self._running)

    async def pending(self, tenant: str) -> Rebuilt | None:
        """The rebuild that waits to be confirmed or undone."""
        kept = (await self._ledger.read(lambda view: view.facts())).get(FACT + tenant)
        return None if kept is None else Rebuilt(**json.loads(kept))

    async def preview(self, tenant: str) -> Preview:
        """What a rebuild would change, without changing it. Raises Unprocessable where nothing has an importance."""
        samples, count, mapping = await self._fitted(tenant)
        recent = [one for one in self._sampling.recent() if one.tenant == tenant][-REPLAYED:]
        old = _normaliser(await self._ledger.read(lambda view: view.normaliser_state(tenant)))
        effect = await in_thread(
            try_out,
            self._follower,
            recent,
            self._follower.params,
            importances=partial(self._remapped, tenant, mapping),
            stopped=lambda: self._stopping,
        )
        before = np.array([old.preview(raw) for raw in samples])
        after = np.array([mapping.apply(raw) for raw in samples])
        change = np.abs(after - before)
        return Preview(
            tenant=tenant,
            memories=count,
            version=old.version + 1,
            method=mapping.method,
            before=tuple(float(value) for value in np.quantile(before, QUANTILES)),
            after=tuple(float(value) for value in np.quantile(after, QUANTILES)),
            moved=(float(change.max()), float(change.mean())),
            effect=effect,
        )

    async def rebuild(self, tenant: str, *, actor: str = "") -> Rebuilt:
        """Gives every memory of the tenant the i of a map fitted to all of them. It goes on if the caller goes away.

        Raises Conflict while an earlier rebuild waits to be confirmed or undone, Unprocessable as `preview`.
        """
        return await self._shielded(self._rebuild(tenant, actor))

    async def undo(self, tenant: str, *, actor: str = "") -> Rebuilt:
        """Gives back the i that the memories had before the rebuild. Raises Conflict where none waits."""
        return await self._shielded(self._undo(tenant, actor))

    async def confirm(self, tenant: str, *, actor: str = "") -> Rebuilt:
        """Forgets the i from before: the rebuild can no longer be undone. Raises Conflict where none waits."""
        async with self._one_at_a_time:
            done = await self._waiting(tenant)
            entry = self._entry(tenant, actor, "importance.confirm", {"version": done.version})
            await self._ledger.transact(partial(_confirm, tenant, entry))
        return done

    async def _shielded(self, work: Coroutine[Any, Any, Rebuilt]) -> Rebuilt:
        task = asyncio.create_task(work, name="importance-rebuild")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        # whoever asked may have gone: then nobody else asks for its failure, and it is no defect
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _rebuild(self, tenant: str, actor: str) -> Rebuilt:
        async with self._one_at_a_time:
            if await self.pending(tenant) is not None:
                raise Conflict(
                    "importance: an earlier rebuild is neither confirmed nor undone",
                    field="importance",
                    remedy="confirm or undo it first",
                )
            _, _, mapping = await self._fitted(tenant)
            entry = self._entry(tenant, actor, "importance.rebuild", {})
            done = await self._ledger.transact(partial(_swap, tenant, mapping, entry))
            await refill(self._ledger, self._follower, self._settings, self._clock)
            return done

    async def _undo(self, tenant: str, actor: str) -> Rebuilt:
        async with self._one_at_a_time:
            done = await self._waiting(tenant)
            entry = self._entry(tenant, actor, "importance.undo", {"version": done.version})
            await self._ledger.transact(partial(_swap_back, tenant, done, entry))
            await refill(self._ledger, self._follower, self._settings, self._clock)
            return done

    async def _waiting(self, tenant: str) -> Rebuilt:
        done = await self.pending(tenant)
        if done is None:
            raise Conflict(
                "importance: no rebuild waits to be confirmed or undone", field="importance", remedy="see the preview"
            )
        return done

    async def _fitted(self, tenant: str) -> tuple[list[float], int, Mapping]:
        samples, count = await self._ledger.read(lambda view: view.raw_values(tenant, SAMPLES))
        if not samples:
            raise Unprocessable(
                "importance: no memory of this tenant has an importance of its own",
                field="importance",
                remedy="store memories with an importance first",
            )
        return samples, count, fit(samples, 0, floor=self._settings.importance_floor)

    def _remapped(self, tenant: str, mapping: Mapping, ids: Sequence[bytes]) -> list[float]:
        """The i that rows would have: on a worker's thread. Other tenants' rows get any i: no query sees them."""
        raw = self._ledger.read_now(lambda view: view.raw_of(tenant, ids))
        return [mapping.apply(raw[one]) if one in raw else 1.0 for one in ids]

    def _entry(self, tenant: str, actor: str, action: str, detail: dict[str, Any]) -> AuditEntry:
        return AuditEntry(tenant, actor or current_actor(), action, tenant, self._clock(), detail)


def _normaliser(state: str | None) -> ImportanceNormaliser:
    return ImportanceNormaliser() if state is None else ImportanceNormaliser.loads(state)


def _with(normaliser: ImportanceNormaliser, mapping: Mapping) -> ImportanceNormaliser:
    return ImportanceNormaliser.from_state(normaliser.state() | {"mapping": asdict(mapping)})


def _swap(tenant: str, fitted: Mapping, entry: AuditEntry, transaction: LedgerTransaction) -> Rebuilt:
    old = ImportanceNormaliser.loads(transaction.normaliser(tenant).dumps())
    mapping = replace(fitted, version=old.version + 1)
    memories = transaction.rebuild_importance(tenant, mapping.apply, mapping.version)
    transaction.replace_normaliser(tenant, _with(old, mapping).dumps())
    # memories with an importance were observed, so there was a map
    before = asdict(old.mapping or mapping)
    done = Rebuilt(tenant, memories, entry.at, mapping.version, mapping.method, before)
    _remember(transaction, tenant, done)
    _audit(transaction, entry, {"memories": memories, "version": mapping.version, "method": mapping.method})
    return done


def _swap_back(tenant: str, done: Rebuilt, entry: AuditEntry, transaction: LedgerTransaction) -> None:
    current = ImportanceNormaliser.loads(transaction.normaliser(tenant).dumps())
    # the former map under a number of its own: a version's parameters never change
    mapping = replace(Mapping(**done.before), version=current.version + 1)
    returned = transaction.undo_importance(tenant, mapping.apply, mapping.version, done.version)
    transaction.replace_normaliser(tenant, _with(current, mapping).dumps())
    _remember(transaction, tenant, None)
    _audit(transaction, entry, {"memories": returned})


def _confirm(tenant: str, entry: AuditEntry, transaction: LedgerTransaction) -> None:
    transaction.confirm_importance(tenant)
    _remember(transaction, tenant, None)
    _audit(transaction, entry, {})


def _remember(transaction: LedgerTransaction, tenant: str, done: Rebuilt | None) -> None:
    if done is None:
        transaction.forget(FACT + tenant)
    else:
        transaction.remember(FACT + tenant, json.dumps(asdict(done)))


def _audit(transaction: LedgerTransaction, entry: AuditEntry, detail: dict[str, Any]) -> None:
    transaction.run(Unit(audit=[replace(entry, detail={**entry.detail, **detail})]))
