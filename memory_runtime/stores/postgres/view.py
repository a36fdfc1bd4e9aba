"""The distributed ledger's view: every question of `stores.sessions.LedgerView`, asked in one session."""

from __future__ import annotations

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
from memory_runtime.stores.postgres import (
    auditing,
    context,
    following,
    graph,
    history,
    importance,
    lineage,
    reading,
    reembedding,
    retaining,
)
from memory_runtime.stores.postgres import words as lexicon
from memory_runtime.stores.postgres.session import Session
from memory_runtime.stores.values import CoordinateRow, CountKey, Kept, Pending, Row, Slice, VectorTable, Visible


class PostgresView:
    """What the session sees. Belongs to the thread that the session was lent to."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def get(self, record_id: uuid.UUID) -> MemoryRecord | None:
        return reading.get(self.session, record_id)

    def by_ids(self, ids: Sequence[bytes]) -> dict[bytes, MemoryRecord]:
        return reading.by_ids(self.session, ids)

    def at_coordinate(
        self, scope: Scope, coordinate: Coordinate, memory_type: str | None, now: float
    ) -> list[MemoryRecord]:
        return reading.at_coordinate(self.session, scope, coordinate, memory_type, now)

    def types_at(self, scope: Scope, coordinate: Coordinate, collection: Collection) -> list[str]:
        return reading.types_at(self.session, scope, coordinate, collection)

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
        return lexicon.by_words(
            self.session,
            scope,
            term,
            exact=exact,
            case_sensitive=case_sensitive,
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
            self.session, scope, fragments, memory_type=memory_type, filters=filters, now=now, limit=limit
        )

    def page(
        self, scope: Scope, *, after: uuid.UUID | None, limit: int, memory_type: str | None, now: float
    ) -> list[MemoryRecord]:
        return reading.page(self.session, scope, after=after, limit=limit, memory_type=memory_type, now=now)

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
            self.session,
            scope,
            at,
            memory_type=memory_type,
            filters=filters,
            coordinate=coordinate,
            payloads=payloads,
        )

    def superseded_since(self, scope: Scope, at: float) -> int:
        return history.superseded_since(self.session, scope, at)

    def versions(self, wanted: Sequence[tuple[bytes, int]]) -> dict[bytes, MemoryRecord]:
        return history.versions(self.session, wanted)

    def newest_importance(self, limit: int = 2000) -> list[float]:
        return reading.newest_importance(self.session, limit)

    def allowed_ids(
        self, scope: Scope, filters: Mapping[str, Any], *, memory_type: str | None, now: float
    ) -> list[bytes]:
        return reading.allowed_ids(self.session, scope, filters, memory_type=memory_type, now=now)

    def coordinates_between(
        self, scope: Scope, low: Coordinate, high: Coordinate, *, memory_type: str | None, limit: int, now: float
    ) -> list[Coordinate]:
        return reading.coordinates_between(
            self.session, scope, low, high, memory_type=memory_type, limit=limit, now=now
        )

    def expired(self, now: float, limit: int) -> list[tuple[uuid.UUID, Scope, str]]:
        return reading.expired(self.session, now, limit)

    def held_beyond(self, since: float, until: float) -> list[bytes]:
        return reading.held_beyond(self.session, since, until)

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
        return lexicon.any_word(
            self.session, scope, text, limit=limit, now=now, memory_type=memory_type, filters=filters
        )

    def unfolded(self) -> bool:
        return lexicon.unfolded(self.session)

    def frequency(self, word: str, *, limit: int) -> int:
        return lexicon.frequency(self.session, word, limit=limit)

    def best_by_words(self, visible: Visible, words: Sequence[str], *, limit: int) -> dict[bytes, float]:
        return lexicon.best_by_words(self.session, visible, words, limit=limit)

    def word_scores(self, word: str, rows: Sequence[int]) -> dict[int, float]:
        return lexicon.word_scores(self.session, word, rows)

    def rows(self, visible: Visible, ids: Sequence[bytes]) -> list[Row]:
        return context.rows(self.session, visible, ids)

    def around(self, visible: Visible, row: Row, *, reach: int, gap: float) -> tuple[list[Row], list[Row]]:
        return context.around(self.session, visible, row, reach=reach, gap=gap)

    def linked(self, visible: Visible, seeds: Sequence[Row], *, limit: int) -> list[tuple[bytes, Row, float]]:
        return context.linked(self.session, visible, seeds, limit=limit)

    def vectors(self, rows: Sequence[int]) -> dict[int, Vector]:
        return context.vectors(self.session, rows)

    def neighbors(
        self, scope: Scope, start: Coordinate, *, link_type: str | None, hops: int, limit: int
    ) -> list[Neighbor]:
        return graph.neighbors(self.session, scope, start, link_type=link_type, hops=hops, limit=limit)

    def shortest_path(
        self, scope: Scope, start: Coordinate, goal: Coordinate, *, link_type: str | None, max_length: int
    ) -> list[Edge] | None:
        return graph.shortest_path(self.session, scope, start, goal, link_type=link_type, max_length=max_length)

    def edges(self, scope: Scope, *, after: EdgeKey | None, limit: int) -> list[Edge]:
        return graph.page(self.session, scope, after, limit)

    def edges_at(self, scope: Scope, coordinates: Sequence[Coordinate]) -> list[Edge]:
        return graph.touching(self.session, scope, coordinates)

    def edges_standing(self, scope: Scope, keys: Sequence[EdgeKey]) -> list[Edge]:
        return graph.standing(self.session, scope, keys)

    def edge_scopes(self) -> list[Scope]:
        return graph.scopes(self.session)

    def measure(self, after: int, limit: int, dim: int, scope: Scope | None = None) -> Slice:
        return retaining.measure(self.session, after, limit, dim, scope)

    def kept(self, rows: Sequence[int]) -> list[Kept]:
        return retaining.kept(self.session, rows)

    def described(self, rows: Sequence[int]) -> dict[int, MemoryRecord]:
        return retaining.described(self.session, rows)

    def ids_of(self, rows: Sequence[int]) -> list[bytes]:
        return retaining.ids_of(self.session, rows)

    def raw_values(self, tenant: str, most: int) -> tuple[list[float], int]:
        return importance.raw_values(self.session, tenant, most)

    def raw_of(self, tenant: str, ids: Sequence[bytes]) -> dict[bytes, float]:
        return importance.raw_of(self.session, tenant, ids)

    def normaliser_state(self, tenant: str) -> str | None:
        return importance.normaliser_state(self.session, tenant)

    def lineages(self) -> list[Lineage]:
        return lineage.chain(self.session)

    def facts(self) -> dict[str, str]:
        return following.facts(self.session)

    def find_reply(self, key: IdempotencyKey) -> tuple[Receipt, ...] | None:
        return following.find_reply(self.session, key)

    def head(self) -> int:
        return following.head(self.session)

    def tail(self, seq: int, limit: int, token: str = "") -> list[Change]:
        return following.tail(self.session, seq, limit, token)

    def changes(self, seq: int, limit: int, dim: int, token: str = "") -> list[Applied]:
        return following.changes(self.session, seq, limit, dim, token)

    def sinks(self) -> dict[str, int]:
        return following.sinks(self.session)

    def audit(self, after: int, limit: int) -> list[AuditLine]:
        return auditing.some(self.session, after, limit)

    def audit_head(self) -> int:
        return auditing.head(self.session)

    def counts(self) -> dict[CountKey, int]:
        return following.counts(self.session)

    def coordinate_rows(self) -> list[CoordinateRow]:
        return following.coordinate_rows(self.session)

    def scan(self, dim: int, batch: int = 20_000, table: VectorTable = "vectors") -> Iterator[Rows]:
        return following.batches(self.session, dim, batch, table)

    def some(self, ids: Sequence[bytes], dim: int) -> Iterator[Rows]:
        return following.some(self.session, reading.as_uuids(ids), dim)

    def stamps(self, after: bytes, limit: int) -> list[tuple[bytes, int]]:
        return following.stamps(self.session, after, limit)

    def tombstones(self, after: int, limit: int) -> list[tuple[int, Change]]:
        return following.tombstones(self.session, after, limit)

    def pending(self, after: int, limit: int) -> list[Pending]:
        return reembedding.pending(self.session, after, limit)

    def progress(self) -> tuple[int, int]:
        return reembedding.progress(self.session)
