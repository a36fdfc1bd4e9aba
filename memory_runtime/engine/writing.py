"""From a checked request to a durable change: embed outside of the transaction, commit, acknowledge."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Container, Sequence

from memory_runtime.embedding import EmbeddingProvider, payload_text
from memory_runtime.engine.validation import Checked
from memory_runtime.model.actor import current_actor
from memory_runtime.model.coordinates import NAMESPACE_SOMA_COORDINATES, Coordinate, canonical_coordinate, memory_id
from memory_runtime.model.errors import InvalidArgument, Unprocessable
from memory_runtime.model.records import DeleteReceipt, Scope, StoreReceipt, Vector
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.contracts import (
    AuditEntry,
    Collection,
    Committed,
    Delete,
    IdempotencyKey,
    Put,
    Unit,
)
from memory_runtime.stores.sessions import Ledger, LedgerTransaction
from memory_runtime.stores.values import CLIENT_REVISION, Facts
from memory_runtime.telemetry.tracing import current_traceparent

MAX_KEY_LENGTH = 512


class RequestId(str):
    """A request's id in the place of an idempotency key: the caller may not have meant it as one.

    Its reply is given again only while every memory is as that reply left it; otherwise the write is done anew.
    """

    __slots__ = ()


class Storekeeper:
    """Writes of one engine."""

    def __init__(
        self,
        ledger: Ledger,
        provider: EmbeddingProvider,
        settings: SMFSettings,
        clock: Callable[[], float],
        commit: Callable[[Unit], Awaitable[Committed]],
    ) -> None:
        """`commit` is the ledger's, or the read cache's around it."""
        self._ledger = ledger
        self._commit = commit
        self._provider = provider
        self._settings = settings
        self._clock = clock
        self._revision_known = False

    @staticmethod
    def refuse_full(cap: int) -> None:
        """Raises the refusal of a namespace that has reached its cap."""
        raise Unprocessable(
            f"the namespace holds its cap of {cap} memories",
            field="namespace",
            remedy="delete memories, or raise SOMA_MAX_MEMORY_SIZE",
        )

    async def store(
        self,
        scope: Scope,
        checked: Sequence[Checked],
        operation: str,
        key: str | None,
        digest: str,
        *,
        replace: bool = False,
    ) -> list[StoreReceipt]:
        """Commits all of them in one unit; with `replace` the deletes of what they replace too."""
        guard = None
        if key is not None:
            guard = self._guard(scope, operation, key, digest)
            # asked before the embedding, so that a retry costs no model; the commit asks again
            known = await self._ledger.read(lambda view: view.find_reply(guard))
            if known is not None:
                return _receipts(Committed(known, replayed=True), len(checked))
        vectors, revisions = await self._vectors(checked)
        now = self._clock()
        puts = [
            self._put(scope, one, vector, revision, now)
            for one, vector, revision in zip(checked, vectors, revisions, strict=True)
        ]
        gone = replaced(puts, now, current_actor()) if replace else Unit()
        unit = Unit([*gone.writes, *puts], guard, audit=gone.audit, trace=current_traceparent())
        return _receipts(await self._commit(unit), len(puts))

    def _guard(self, scope: Scope, operation: str, key: str, digest: str) -> IdempotencyKey:
        if not 1 <= len(key) <= MAX_KEY_LENGTH or not key.isprintable():
            raise InvalidArgument(
                f"idempotency_key: must be 1 to {MAX_KEY_LENGTH} printable characters",
                field="idempotency_key",
                remedy="send a UUID",
            )
        return IdempotencyKey(scope, operation, key, digest, self._clock(), isinstance(key, RequestId))

    async def _vectors(self, checked: Sequence[Checked]) -> tuple[list[Vector], list[str]]:
        texts = [payload_text(one.item.payload) for one in checked if one.vector is None]
        embedded = iter(await self._provider.embed(texts)) if texts else iter(())
        if texts:
            await self.remember_revision()
        vectors = [next(embedded) if one.vector is None else one.vector for one in checked]
        revisions = [self._provider.revision if one.vector is None else CLIENT_REVISION for one in checked]
        return vectors, revisions

    async def remember_revision(self) -> None:
        """Notes by which embedding this ledger's first vectors were made, so that another one is noticed at a start."""
        if not self._revision_known:
            await self._ledger.transact(self._remember_revision)
            self._revision_known = True

    def _remember_revision(self, transaction: LedgerTransaction) -> None:
        transaction.remember(Facts.EMBEDDING, self._provider.revision, replace=False)

    def _put(self, scope: Scope, checked: Checked, vector: Vector | None, revision: str, now: float) -> Put:
        item = checked.item
        kept = item.pinned or item.ttl is None
        return Put(
            id=checked.id,
            scope=scope,
            memory_type=item.memory_type,
            coordinate=checked.coordinate,
            payload=checked.payload,
            search_text=payload_text(item.payload),
            event_time=now if item.timestamp is None else float(item.timestamp),
            ingest_time=now,
            importance=None if item.importance is None else float(item.importance),
            features={name: float(value) for name, value in (item.features or {}).items()},
            vector=vector,
            model_revision=revision,
            pinned=item.pinned,
            hold=item.hold,
            expires_at=None if kept or item.ttl is None else now + item.ttl,
        )

    async def store_coordinate(self, scope: Scope, checked: Checked) -> StoreReceipt:
        """One row of a coordinate collection: no vector, no words."""
        now = self._clock()
        identity = _coordinate_id(scope, checked.item.memory_type, checked.coordinate)
        write = Put(
            id=identity,
            scope=scope,
            memory_type=checked.item.memory_type,
            coordinate=checked.coordinate,
            payload=checked.payload,
            search_text="",
            event_time=now,
            ingest_time=now,
            collection=Collection.COORDINATES,
        )
        return _receipts(await self._commit(Unit([write], trace=current_traceparent())))[0]

    async def delete(self, scope: Scope, coordinate: Coordinate, memory_type: str | None) -> DeleteReceipt:
        """Deletes what is at the coordinate, in one unit, with a line in the audit chain."""
        text = canonical_coordinate(coordinate)
        types = (
            [memory_type] if memory_type is not None else await self._types_at(scope, coordinate, Collection.MEMORIES)
        )
        ids = {one: memory_id(scope.tenant, scope.namespace, one, text) for one in types or ["episodic"]}
        now = self._clock()
        writes = [Delete(identity, scope, one, at=now) for one, identity in ids.items()]
        return await self._commit_deletes(scope, text, writes)

    async def delete_coordinate(self, scope: Scope, coordinate: Coordinate, memory_type: str | None) -> DeleteReceipt:
        """`delete`, in the coordinate collections."""
        text = canonical_coordinate(coordinate)
        kind = Collection.COORDINATES
        types = [memory_type] if memory_type is not None else await self._types_at(scope, coordinate, kind)
        now = self._clock()
        writes = [
            Delete(_coordinate_id(scope, one, text), scope, one, at=now, collection=kind)
            for one in types or ["memories"]
        ]
        return await self._commit_deletes(scope, text, writes)

    async def delete_others(self, scope: Scope, coordinate: Coordinate, stay: Container[str]) -> int:
        """Deletes what is there of other types than `stay`, in one unit, if one of `stay` lives there."""
        types = await self._types_at(scope, coordinate, Collection.MEMORIES)
        others = [one for one in types if one not in stay]
        if not others or len(others) == len(types):
            return 0
        text, now = canonical_coordinate(coordinate), self._clock()
        ids = {one: memory_id(scope.tenant, scope.namespace, one, text) for one in others}
        await self._commit_deletes(scope, text, [Delete(identity, scope, one, at=now) for one, identity in ids.items()])
        return len(others)

    async def _types_at(self, scope: Scope, coordinate: Coordinate, collection: Collection) -> list[str]:
        return await self._ledger.read(lambda view: view.types_at(scope, coordinate, collection))

    async def _commit_deletes(self, scope: Scope, text: str, writes: Sequence[Delete]) -> DeleteReceipt:
        entry = AuditEntry(scope.tenant, current_actor(), "delete", f"{scope.namespace}/{text}", self._clock())
        committed = await self._commit(Unit(writes, audit=[entry], trace=current_traceparent()))
        gone = [receipt for receipt in committed.receipts if receipt.changed]
        last = gone[-1] if gone else committed.receipts[-1]
        return DeleteReceipt(last.id, bool(gone), last.seq)


def _coordinate_id(scope: Scope, memory_type: str, coordinate: str) -> uuid.UUID:
    return memory_id(scope.tenant, scope.namespace, memory_type, coordinate, root=NAMESPACE_SOMA_COORDINATES)


def replaced(puts: Sequence[Put], now: float, actor: str) -> Unit:
    """What deletes the memories whose places these puts take, with a line in the audit chain for each."""
    places = {put.id: put for put in puts}
    return Unit(
        [Delete(identity, put.scope, put.memory_type, at=now) for identity, put in places.items()],
        audit=[
            AuditEntry(put.scope.tenant, actor, "delete", f"{put.scope.namespace}/{put.coordinate}", now)
            for put in places.values()
        ],
    )


def _receipts(committed: Committed, last: int = 1) -> list[StoreReceipt]:
    """Those of the last writes: deletes of what is replaced come before."""
    return [
        StoreReceipt(one.id, one.version, one.seq, one.created, replayed=committed.replayed)
        for one in committed.receipts[-last:]
    ]
