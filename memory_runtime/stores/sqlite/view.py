"""The embedded ledger's view: every question of `stores.sessions.LedgerView`, asked on one SQLite connection."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from memory_runtime.model.coordinates import Coordinate
from memory_runtime.model.records import Edge, MemoryRecord, Scope, Vector
from memory_runtime.stores.audit import AuditLine
from memory_runtime.stores.contracts import (
    Applied,
    Change,
    Collection,
    EdgeKey,
    IdempotencyKey,
    KeywordHit,
    Lineage,
    Neighbor,
    Receipt,
    Rows,
)
from memory_runtime.stores.history import Past
from memory_runtime.stores.sqlite import (
    auditing,
    context,
    following,
    fts,
    graph,
    history,
    importance,
    lineage,
    reading,
    reembedding,
    retaining,
)
from memory_runtime.stores.sqlite.replies import find_reply
from memory_runtime.stores.values import CoordinateRow, CountKey, Kept, Pending, Row, Slice, VectorTable, Visible


class SQLiteView:
    """What the connection sees. Belongs to the thread that the connection belongs to."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def get(self, record_id: uuid.UUID) -> MemoryRecord | None:
        return reading.get(self.connection, record_id)

    def by_ids(self, ids: Sequence[bytes]) -> dict[bytes, MemoryRecord]:
        return reading.by_ids(self.connection, ids)

    def at_coordinate(
        self, scope: Scope, coordinate: Coordinate, memory_type: str | None, now: float
    ) -> list[MemoryRecord]:
        return reading.at_coordinate(self.connection, scope, coordinate, memory_type, now)

    def types_at(self, scope: Scope, coordinate: Coordinate, collection: Collection) -> list[str]:
        return reading.types_at(self.connection, scope, coordinate, collection)

    def by_words(
        self,
        scope: Scope,
        term: str,
        *,
        exact: bool,
        case_sensitive: bool,
        limit: int,
        memory_type: str | None,
        filters: Mapping[str, Any] | None,
        now: float,
    ) -> list[MemoryRecord]:
        return reading.by_words(
            self.connection,
            scope,
            term,
            fts.phrase(term) if exact else fts.any_word(term),
            contains=term if exact and case_sensitive else None,
            exactly=term if exact else None,
            limit=limit,
            memory_type=memory_type,
            filters=filters,
            now=now,
        )

    def holding(
        self,
        scope: Scope,
        fragments: Sequence[str],
        *,
        memory_type: str | None,
        filters: Mapping[str, Any] | None,
        now: float,
        limit: int,
    ) -> list[MemoryRecord]:
        return reading.holding(
            self.connection, scope, fragments, memory_type=memory_type, filters=filters, now=now, limit=limit
        )

    def page(
        self, scope: Scope, *, after: uuid.UUID | None, limit: int, memory_type: str | None, now: float
    ) -> list[MemoryRecord]:
        return reading.page(self.connection, scope, after=after, limit=limit, memory_type=memory_type, now=now)

    def past(
        self,
        scope: Scope,
        at: float,
        *,
        memory_type: str | None = None,
        filters: Mapping[str, Any] | None = None,
        coordinate: Coordinate | None = None,
        payloads: bool = True,
    ) -> Past:
        return history.past(
            self.connection,
            scope,
            at,
            memory_type=memory_type,
            filters=filters,
            coordinate=coordinate,
            payloads=payloads,
        )

    def superseded_since(self, scope: Scope, at: float) -> int:
        return history.superseded_since(self.connection, scope, at)

    def versions(self, wanted: Sequence[tuple[bytes, int]]) -> dict[bytes, MemoryRecord]:
        return history.versions(self.connection, wanted)

    def newest_importance(self, limit: int = 2000) -> list[float]:
        return reading.newest_importance(self.connection, limit)

    def allowed_ids(
        self, scope: Scope, filters: Mapping[str, Any], *, memory_type: str | None, now: float
    ) -> list[bytes]:
        return reading.allowed_ids(self.connection, scope, filters, memory_type=memory_type, now=now)

    def coordinates_between(
        self, scope: Scope, low: Coordinate, high: Coordinate, *, memory_type: str | None, limit: int, now: float
    ) -> list[Coordinate]:
        return reading.coordinates_between(
            self.connection, scope, low, high, memory_type=memory_type, limit=limit, now=now
        )

    def expired(self, now: float, limit: int) -> list[tuple[uuid.UUID, Scope, str]]:
        return reading.expired(self.connection, now, limit)

    def held_beyond(self, since: float, until: float) -> list[bytes]:
        return reading.held_beyond(self.connection, since, until)

    def any_word(
        self,
        scope: Scope,
        text: str,
        *,
        limit: int,
        now: float,
        memory_type: str | None = None,
        filters: Mapping[str, Any] | None = None,
    ) -> list[KeywordHit] | None:
        match = fts.any_word(text)
        if match is None:
            return None
        return fts.search_text(
            self.connection, scope, match, limit=limit, now=now, memory_type=memory_type, filters=filters
        )

    def unfolded(self) -> bool:
        return fts.unfolded(self.connection)

    def frequency(self, word: str, *, limit: int) -> int:
        return context.frequency(self.connection, word, limit=limit)

    def best_by_words(self, visible: Visible, words: Sequence[str], *, limit: int) -> dict[bytes, float]:
        return context.best_by_words(self.connection, visible, words, limit=limit)

    def word_scores(self, word: str, rows: Sequence[int]) -> dict[int, float]:
        return context.word_scores(self.connection, word, rows)

    def rows(self, visible: Visible, ids: Sequence[bytes]) -> list[Row]:
        return context.rows(self.connection, visible, ids)

    def around(self, visible: Visible, row: Row, *, reach: int, gap: float) -> tuple[list[Row], list[Row]]:
        return context.around(self.connection, visible, row, reach=reach, gap=gap)

    def linked(self, visible: Visible, seeds: Sequence[Row], *, limit: int) -> list[tuple[bytes, Row, float]]:
        return context.linked(self.connection, visible, seeds, limit=limit)

    def vectors(self, rows: Sequence[int]) -> dict[int, Vector]:
        return context.vectors(self.connection, rows)

    def neighbors(
        self, scope: Scope, start: Coordinate, *, link_type: str | None, hops: int, limit: int
    ) -> list[Neighbor]:
        return graph.neighbors(self.connection, scope, start, link_type=link_type, hops=hops, limit=limit)

    def shortest_path(
        self, scope: Scope, start: Coordinate, goal: Coordinate, *, link_type: str | None, max_length: int
    ) -> list[Edge] | None:
        return graph.shortest_path(self.connection, scope, start, goal, link_type=link_type, max_length=max_length)

    def edges(self, scope: Scope, *, after: EdgeKey | None, limit: int) -> list[Edge]:
        return graph.page(self.connection, scope, after, limit)

    def edges_at(self, scope: Scope, coordinates: Sequence[Coordinate]) -> list[Edge]:
        return graph.touching(self.connection, scope, coordinates)

    def edges_standing(self, scope: Scope, keys: Sequence[EdgeKey]) -> list[Edge]:
        return graph.standing(self.connection, scope, keys)

    def edge_scopes(self) -> list[Scope]:
        return graph.scopes(self.connection)

    def measure(self, after: int, limit: int, dim: int, scope: Scope | None = None) -> Slice:
        return retaining.measure(self.connection, after, limit, dim, scope)

    def kept(self, rows: Sequence[int]) -> list[Kept]:
        return retaining.kept(self.connection, rows)

    def described(self, rows: Sequence[int]) -> dict[int, MemoryRecord]:
        return retaining.described(self.connection, rows)

    def ids_of(self, rows: Sequence[int]) -> list[bytes]:
        return retaining.ids_of(self.connection, rows)

    def raw_values(self, tenant: str, most: int) -> tuple[list[float], int]:
        return importance.raw_values(self.connection, tenant, most)

    def raw_of(self, tenant: str, ids: Sequence[bytes]) -> dict[bytes, float]:
        return importance.raw_of(self.connection, tenant, ids)

    def normaliser_state(self, tenant: str) -> str | None:
        return importance.normaliser_state(self.connection, tenant)

    def lineages(self) -> list[Lineage]:
        return lineage.chain(self.connection)

    def facts(self) -> dict[str, str]:
        return following.facts(self.connection)

    def find_reply(self, key: IdempotencyKey) -> tuple[Receipt, ...] | None:
        return find_reply(self.connection, key)

    def head(self) -> int:
        return following.head(self.connection)

    def tail(self, seq: int, limit: int, token: str = "") -> list[Change]:
        return following.tail(self.connection, seq, limit, token)

    def changes(self, seq: int, limit: int, dim: int, token: str = "") -> list[Applied]:
        return following.changes(self.connection, seq, limit, dim, token)

    def sinks(self) -> dict[str, int]:
        return following.sinks(self.connection)

    def audit(self, after: int, limit: int) -> list[AuditLine]:
        return auditing.some(self.connection, after, limit)

    def audit_head(self) -> int:
        return auditing.head(self.connection)

    def counts(self) -> dict[CountKey, int]:
        return following.counts(self.connection)

    def coordinate_rows(self) -> list[CoordinateRow]:
        return following.coordinate_rows(self.connection)

    def scan(self, dim: int, batch: int = 20_000, table: VectorTable = "vectors") -> Iterator[Rows]:
        return following.batches(self.connection, dim, batch, table)

    def some(self, ids: Sequence[bytes], dim: int) -> Iterator[Rows]:
        return following.some(self.connection, ids, dim)

    def stamps(self, after: bytes, limit: int) -> list[tuple[bytes, int]]:
        return following.stamps(self.connection, after, limit)

    def tombstones(self, after: int, limit: int) -> list[tuple[int, Change]]:
        return following.tombstones(self.connection, after, limit)

    def pending(self, after: int, limit: int) -> list[Pending]:
        return reembedding.pending(self.connection, after, limit)

    def progress(self) -> tuple[int, int]:
        return reembedding.progress(self.connection)
