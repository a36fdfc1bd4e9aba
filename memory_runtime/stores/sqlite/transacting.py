"""The embedded ledger's transaction: `stores.sessions.LedgerTransaction`, on the writer's connection and thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from memory_runtime.model.records import Edge, MemoryRecord, Scope
from memory_runtime.stores.contracts import AuditEntry, Put, Receipt
from memory_runtime.stores.sqlite import fts, history, importance, reembedding, retaining
from memory_runtime.stores.sqlite.view import SQLiteView
from memory_runtime.stores.sqlite.writing import Transaction
from memory_runtime.stores.values import Pending, Restored


class SQLiteTransaction(Transaction):
    """A group's transaction with everything that may be done in one."""

    @property
    def view(self) -> SQLiteView:
        return SQLiteView(self.connection)

    def remember(self, key: str, value: str, *, replace: bool = True) -> None:
        where_known = "DO UPDATE SET value = excluded.value" if replace else "DO NOTHING"
        sql = f"INSERT INTO facts (key, value) VALUES (?, ?) ON CONFLICT (key) {where_known}"  # noqa: S608 -- literals
        self.connection.execute(sql, (key, value))

    def forget(self, key: str) -> None:
        self.connection.execute("DELETE FROM facts WHERE key = ?", (key,))

    def advance_sink(self, name: str, seq: int, at: float) -> None:
        self.connection.execute("INSERT OR REPLACE INTO sinks (name, seq, at) VALUES (?, ?, ?)", (name, seq, at))

    def drop_sink(self, name: str) -> None:
        self.connection.execute("DELETE FROM sinks WHERE name = ?", (name,))

    def add_accesses(self, taken: Sequence[tuple[int, float, bytes]]) -> None:
        self.connection.executemany(
            "UPDATE memories SET access_count = access_count + ?, access_time = max(access_time, ?)"
            " WHERE id = ? AND deleted = 0",
            taken,
        )

    def trim(self, before: float, keep: int) -> None:
        self.connection.execute("DELETE FROM idempotency WHERE at < ?", (before,))
        head = self.view.head()
        behind = self.connection.execute("SELECT coalesce(min(seq), ?) FROM sinks", (head,)).fetchone()[0]
        self.connection.execute("DELETE FROM outbox WHERE seq <= ?", (min(behind, head - keep),))

    def sweep_versions(self, before: float, most: int) -> int:
        return history.sweep(self.connection, before, most)

    def hold(self, scope: Scope, coordinate: str, memory_type: str | None, held: bool, entry: AuditEntry) -> int:
        return retaining.hold(self, scope, coordinate, memory_type, held, entry)

    def purge(self, records: Sequence[MemoryRecord], at: float, entry: AuditEntry) -> list[Receipt]:
        return retaining.purge(self, records, at, entry)

    def restore(
        self,
        memories: Sequence[tuple[Put, MemoryRecord, Sequence[Edge]]],
        at: float,
        entry: AuditEntry,
        *,
        over: bool = False,
    ) -> Restored:
        return retaining.restore(self, memories, at, entry, over=over)

    def rebuild_importance(self, tenant: str, mapped: Callable[[float], float], version: int) -> int:
        return importance.rebuild(self, tenant, mapped, version)

    def undo_importance(self, tenant: str, mapped: Callable[[float], float], version: int, since: int) -> int:
        return importance.undo(self, tenant, mapped, version, since)

    def refold_words(self, limit: int) -> int:
        return fts.refold(self.connection, limit)

    def confirm_importance(self, tenant: str) -> None:
        importance.confirm(self, tenant)

    def begin_reembedding(self, target: str) -> None:
        reembedding.begin(self, target)

    def discard_reembedding(self) -> None:
        reembedding.discard(self)

    def keep_vectors(self, made: Sequence[tuple[Pending, bytes]]) -> int:
        return reembedding.keep(self, made)

    def swap_vectors(self) -> bool:
        return reembedding.swap(self)

    def finish_reembedding(self, rows: int) -> bool:
        return reembedding.finish(self, rows)
