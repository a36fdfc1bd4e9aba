"""The distributed ledger's transaction: `stores.sessions.LedgerTransaction`, in the session that holds the turn."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from memory_runtime.model.errors import NotFound, SomaError
from memory_runtime.model.records import Edge, MemoryRecord, Scope
from memory_runtime.stores.contracts import (
    Applied,
    AuditEntry,
    Committed,
    Delete,
    Link,
    NormaliserFactory,
    NormaliserState,
    Put,
    Receipt,
    Unit,
)
from memory_runtime.stores.finite import check_put
from memory_runtime.stores.postgres import flushing, history, importance, loading, reembedding, words, writing
from memory_runtime.stores.postgres.following import HEAD, Head
from memory_runtime.stores.postgres.session import NoQuestions, Session
from memory_runtime.stores.postgres.states import Work
from memory_runtime.stores.postgres.view import PostgresView
from memory_runtime.stores.values import Pending, Restored

TURN: Final = "SELECT 1 FROM ledger_head FOR UPDATE"
"""Takes the one writer's turn; waits no longer than the lock time-out. What is read after it is as it stays."""


@dataclass(slots=True)
class Memory:
    """What a writer may remember from its last group as long as nobody else has written since."""

    writer: uuid.UUID = field(default_factory=uuid.uuid4)
    group: int = 0
    seq: int = -1
    normalisers: dict[str, NormaliserState] = field(default_factory=dict)
    audit_tail: writing.AuditTail | None = None
    history: uuid.UUID = field(default_factory=uuid.uuid4)
    """The token of the group in hand."""

    def next_group(self) -> None:
        """Another group begins."""
        self.group += 1
        self.history = uuid.uuid4()

    def forget(self) -> None:
        """Others have written, or what this writer wrote is not known to be durable."""
        self.normalisers.clear()
        self.audit_tail = None


class PostgresTransaction:
    """The open transaction of a group. Its session has the turn: nobody else in the fleet writes meanwhile.

    Without the turn it is for puts alone, which `seal` writes, if nobody has written since they were read; what `work`
    does not know cannot be asked, and raises TurnNeeded.
    """

    def __init__(
        self,
        session: Session,
        work: Work,
        factory: NormaliserFactory,
        memory: Memory,
        clock: Callable[[], float],
        *,
        has_turn: bool = True,
    ) -> None:
        self.session = session if has_turn else NoQuestions()
        self.work = work
        self.has_turn = has_turn
        self._written_by = session
        self.generation = work.head.generation
        self.touched = False
        self._factory = factory
        self._memory = memory
        self._clock = clock
        self._moved: set[str] = set()
        if (work.head.writer, work.head.seq) != (memory.writer, memory.seq):
            memory.forget()

    @property
    def applied(self) -> list[Applied]:
        """What has changed so far, in order of seq."""
        return self.work.applied

    @property
    def view(self) -> PostgresView:
        self._flush()
        return PostgresView(self.session)

    def run(self, unit: Unit) -> Committed:
        loading.prepare(self.session, self.work, [unit])
        return writing.run(self.work, unit, self._normalise, self._audit_tail)

    def run_many(self, units: Sequence[Unit]) -> list[Committed | SomaError]:
        """Runs each as `run` would, one after the other; the database is asked once for all of them."""
        loading.prepare(self.session, self.work, units)
        fates: list[Committed | SomaError] = []
        for unit in units:
            try:
                fates.append(writing.run(self.work, unit, self._normalise, self._audit_tail))
            except SomaError as refusal:
                fates.append(refusal)
        return fates

    def _normalise(self, tenant: str, raw: float | None) -> tuple[float, int]:
        if raw is None:
            return writing.NEUTRAL_IMPORTANCE, 0
        self._moved.add(tenant)
        return self.normaliser(tenant).observe(raw)

    def _audit_tail(self) -> writing.AuditTail:
        if self._memory.audit_tail is None:
            found = self.session.row("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")
            self._memory.audit_tail = (found[0], found[1]) if found else (0, "")
        return self._memory.audit_tail

    def normaliser(self, tenant: str) -> NormaliserState:
        known = self._memory.normalisers
        state = known.get(tenant)
        if state is None:
            state = known[tenant] = self._factory(importance.normaliser_state(self.session, tenant))
        return state

    def replace_normaliser(self, tenant: str, state: str) -> None:
        self._memory.normalisers[tenant] = self._factory(state)
        self._moved.add(tenant)

    def seal(self) -> None:
        """Writes all that is not written yet; called once a group, before its COMMIT. Raises TurnNeeded without it."""
        if self.touched or self._moved or self._unwritten():
            states = {tenant: self._memory.normalisers[tenant] for tenant in sorted(self._moved)}
            self._write([(tenant, state.version, state.dumps()) for tenant, state in states.items()])

    def _unwritten(self) -> bool:
        work = self.work
        written = (work.changed, work.outbox, work.edges, work.new_replies, work.audit, work.new_told, work.new_lines)
        return any(written)

    def _write(self, normalisers: Sequence[tuple[str, int, str]] = ()) -> None:
        self.touched = True
        if self.work.audit:
            self._memory.audit_tail = (self.work.audit[-1][0], self.work.audit[-1][-1])
        group = flushing.Group(self._memory.writer, self._memory.group, self._clock(), self._memory.history)
        flushing.flush(self._written_by, self.work, group, normalisers, has_turn=self.has_turn)

    def _flush(self) -> None:
        if self._unwritten():
            self._write()

    def _direct(self) -> Session:
        """The session, to write in past `work`: what that knows is written first, and read anew afterwards."""
        self._flush()
        self.touched = True
        self.work.states.clear()
        self.work.at.clear()
        return self.session

    def _look_again(self) -> None:
        """After a statement that changed the head itself."""
        found = Head(*self.session.row(HEAD))
        self.generation = found.generation
        self.work.head = self.work.head._replace(reembedding=found.reembedding)

    def remember(self, key: str, value: str, *, replace: bool = True) -> None:
        self.touched = True
        reembedding.remember(self.session, key, value, replace=replace)

    def forget(self, key: str) -> None:
        self.touched = True
        reembedding.forget(self.session, key)

    def advance_sink(self, name: str, seq: int, at: float) -> None:
        self.touched = True
        self.session.do(
            "INSERT INTO sinks (name, seq, at) VALUES ($1, $2, $3)"
            " ON CONFLICT (name) DO UPDATE SET seq = excluded.seq, at = excluded.at",
            name,
            seq,
            at,
        )

    def drop_sink(self, name: str) -> None:
        self.touched = True
        self.session.do("DELETE FROM sinks WHERE name = $1", name)

    def add_accesses(self, taken: Sequence[tuple[int, float, bytes]]) -> None:
        if not taken:
            return
        self._direct().do(
            "UPDATE memories m SET access_count = m.access_count + x.count,"
            " access_time = greatest(m.access_time, x.at) FROM (SELECT id, sum(count)::bigint AS count, max(at) AS at"
            " FROM unnest($1::bigint[], $2::float8[], $3::uuid[]) t(count, at, id) GROUP BY id) x"
            " WHERE m.id = x.id AND NOT m.deleted",
            [one[0] for one in taken],
            [one[1] for one in taken],
            [uuid.UUID(bytes=one[2]) for one in taken],
        )

    def trim(self, before: float, keep: int) -> None:
        session = self._direct()
        session.do("DELETE FROM idempotency WHERE at < $1", before)
        self.work.replies.clear()
        head = self.work.seq
        behind = session.value("SELECT coalesce(min(seq), $1::bigint) FROM sinks", head)
        session.do("DELETE FROM outbox WHERE seq <= $1", min(behind, head - keep))
        # processes that are gone: nobody asks any more whether their last group was durable
        session.do("DELETE FROM ledger_writers WHERE at < $1", self._clock() - 7 * 86400)

    def sweep_versions(self, before: float, most: int) -> int:
        return history.sweep(self._direct(), before, most)

    def hold(self, scope: Scope, coordinate: str, memory_type: str | None, held: bool, entry: AuditEntry) -> int:
        changed = self._direct().do(
            "UPDATE memories SET hold = $1 WHERE tenant = $2 AND namespace = $3 AND collection = 0"
            " AND coordinate_first = $4 AND coordinate = $5 AND NOT deleted AND ($6::text IS NULL OR memory_type = $6)",
            held,
            scope.tenant,
            scope.namespace,
            float(coordinate.partition(",")[0]),
            coordinate,
            memory_type,
        )
        if changed:
            self.run(Unit(audit=[entry]))
        return changed

    def purge(self, records: Sequence[MemoryRecord], at: float, entry: AuditEntry) -> list[Receipt]:
        found = self._direct().rows(
            "SELECT m.id FROM unnest($1::uuid[], $2::bigint[]) x(id, version) JOIN memories m USING (id, version)"
            " WHERE NOT m.deleted AND NOT m.pinned AND NOT m.hold",
            [one.id for one in records],
            [one.version for one in records],
        )
        still = {one[0] for one in found}
        writes = [Delete(one.id, one.scope, one.memory_type, at=at) for one in records if one.id in still]
        if not writes:
            return []
        line = _with(entry, {"purged": len(writes)})
        return [one for one in self.run(Unit(writes, audit=[line])).receipts if one.changed]

    def restore(
        self,
        memories: Sequence[tuple[Put, MemoryRecord, Sequence[Edge]]],
        at: float,
        entry: AuditEntry,
        *,
        over: bool = False,
    ) -> Restored:
        loading.prepare(self.session, self.work, [Unit([put for put, _, _ in memories])])
        restored, edges_of = 0, dict[tuple[object, ...], Unit]()
        for put, record, edges in memories:
            state = self.work.states.get(put.id)
            lives = state is not None and not state.deleted
            if not lives or over:
                self._put_back(put, record)
                restored += not lives
                # a link between two memories of the archive stands with both
                for one in edges:
                    write = Link(put.scope, one, at, between_memories=True)
                    edges_of[put.scope, one.source, one.link_type, one.target] = Unit([write])
        fates = self.run_many(list(edges_of.values()))
        # the other end may not be there any more, or be in another archive
        for fate in fates:
            if isinstance(fate, SomaError) and not isinstance(fate, NotFound):
                raise fate
        links = sum(isinstance(one, Committed) for one in fates)
        done = Restored(restored, len(memories) - restored, links)
        self.run(Unit(audit=[_with(entry, done._asdict())]))
        return done

    def _put_back(self, put: Put, record: MemoryRecord) -> None:
        check_put(put, record.importance_norm, record.access_time)
        self.work.begin()
        found = self.work.states.get(put.id)
        accessed, made_by = (record.access_time, record.access_count), record.normaliser_version
        if found is not None and not found.deleted:
            accessed = max(accessed[0], found.access_time), max(accessed[1], found.access_count)
            # the same i is still what that normaliser made
            made_by = found.normaliser_version if found.importance_norm == record.importance_norm else made_by
        writing.put(self.work, put, record.importance_norm, made_by, Unit())
        state = self.work.states[put.id]
        if state is not None:
            state.access_time, state.access_count = accessed

    def rebuild_importance(self, tenant: str, mapped: Callable[[float], float], version: int) -> int:
        session = self._direct()
        changed = importance.rebuild(session, tenant, mapped, version)
        self._raise_generation()
        return changed

    def undo_importance(self, tenant: str, mapped: Callable[[float], float], version: int, since: int) -> int:
        session = self._direct()
        returned = importance.undo(session, tenant, mapped, version, since)
        self._raise_generation()
        return returned

    def _raise_generation(self) -> None:
        self.session.do("UPDATE ledger_head SET generation = generation + 1")
        self._look_again()

    def refold_words(self, limit: int) -> int:
        return words.refold(self._direct(), limit)

    def confirm_importance(self, tenant: str) -> None:
        importance.confirm(self._direct(), tenant)

    def begin_reembedding(self, target: str) -> None:
        reembedding.begin(self._direct(), target)
        self._look_again()

    def discard_reembedding(self) -> None:
        reembedding.discard(self._direct())
        self._look_again()

    def keep_vectors(self, made: Sequence[tuple[Pending, bytes]]) -> int:
        return reembedding.keep(self._direct(), made)

    def swap_vectors(self) -> bool:
        swapped = reembedding.swap(self._direct())
        self._look_again()
        return swapped

    def finish_reembedding(self, rows: int) -> bool:
        return reembedding.finish(self._direct(), rows)


def _with(entry: AuditEntry, more: dict[str, Any]) -> AuditEntry:
    return AuditEntry(entry.tenant, entry.actor, entry.action, entry.subject, entry.at, {**entry.detail, **more})
