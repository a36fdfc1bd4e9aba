"""How an answer is made: allowed ids, exact search, keyword boost, payloads. Runs on a reader's thread, in one go."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from memory_runtime.engine import compatibility
from memory_runtime.engine.following import Follower
from memory_runtime.engine.hybrid import FusedHit, HybridRecaller, Question
from memory_runtime.engine.past import PastIndex, past_index
from memory_runtime.engine.types import Hit, RecallRequest, RecallResult, Suppressed
from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.errors import NotFound, Unavailable
from memory_runtime.model.records import MemoryRecord, Scope, Vector
from memory_runtime.scoring import Partition, ScoredRow, Unset
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.resilience.deadline import check_time
from memory_runtime.stores.sessions import LedgerView

MAX_LEXICAL = 10_000
_ATTEMPTS = 3
_PART = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A recall request with its unit vector, the moment it is answered for, and its deadline on the monotonic clock."""

    request: RecallRequest
    vector: Vector
    now: float
    deadline: float

    @property
    def at(self) -> float:
        """The T of the formula."""
        return self.now if self.request.as_of is None else self.request.as_of


@dataclass(frozen=True, slots=True)
class _Candidate:
    row: ScoredRow
    score: float
    log2_score: float
    lexical: bool
    fused: FusedHit | None = None
    was: MemoryRecord | None = None
    """The version that counted at the moment asked for, where it does not count now; without its payload."""


class Recaller:
    """Answers queries of one engine."""

    def __init__(self, follower: Follower, settings: SMFSettings) -> None:
        self._follower = follower
        self._settings = settings
        self._hybrid_recaller = HybridRecaller(follower)

    def answer(self, view: LedgerView, scope: Scope, queries: Sequence[Query]) -> list[RecallResult]:
        """One result for each query, in order; queries that ask alike are searched together in one product."""
        seq, losses = self._follower.applied_seq, self._follower.losses
        partition = self._follower.partition(scope)
        groups: dict[object, list[int]] = {}
        for position, query in enumerate(queries):
            groups.setdefault(self._alike(query, position), []).append(position)
        results: list[RecallResult | None] = [None] * len(queries)
        for positions in groups.values():
            members = [queries[position] for position in positions]
            hits = self._group(view, scope, partition, members)
            for position, query, found in zip(positions, members, hits, strict=True):
                suppressed = self._suppressed(view, scope, partition, query, found)
                results[position] = RecallResult(found, seq, query.at, "exact", suppressed)
        if self._follower.lost or self._follower.losses != losses:
            raise Unavailable(
                "the ledger has lost changes that the index holds: it is built anew",
                remedy="retry in a moment",
                retry_after=1.0,
            )
        return [result for result in results if result is not None]

    def is_plain(self, query: Query) -> bool:
        """Whether nothing but the index and its records are needed: quick, and worth sharing a pass with others."""
        request = query.request
        return not (request.filters or request.explain or self._hybrid(request))

    def _alike(self, query: Query, position: int) -> object:
        """What queries must have in common to be searched together: everything but their vectors.

        What a query's words find is its own, so one with words is answered alone; so is one with filters that no other
        has. Filters are compared as text, because 1, 1.0 and true are equal and find different memories.
        """
        request = query.request
        if self._hybrid(request):
            return position
        filters = canonical_json(dict(request.filters), field="filters") if request.filters else None
        return (
            request.top_k,
            request.memory_type,
            request.half_life,
            request.as_of,
            request.explain,
            query.now,
            filters,
        )

    def _group(
        self, view: LedgerView, scope: Scope, partition: Partition | None, queries: Sequence[Query]
    ) -> list[tuple[Hit, ...]]:
        """Hits of queries that share everything but their vector and text. Retries where a hit was just deleted.

        So it does where a memory was updated after the past was read: the search then knew only what it is now.
        """
        request = queries[0].request
        for attempt in range(_ATTEMPTS):
            seq = self._follower.applied_seq
            superseded = 0 if request.as_of is None else view.superseded_since(scope, request.as_of)
            past = past_index(view, self._follower, scope, request.as_of, request.memory_type, request.filters)
            candidates = self._candidates(view, scope, partition, queries, past)
            wanted = {one.row.id: one.was for found in candidates for one in found}
            records = _records(view, [identity for identity, was in wanted.items() if was is None])
            records |= _versions(view, [was for was in wanted.values() if was is not None])
            stands = (
                request.as_of is None
                or self._follower.applied_seq == seq
                or view.superseded_since(scope, request.as_of) == superseded
            )
            if (stands and len(records) == len(wanted)) or attempt == _ATTEMPTS - 1:
                break
        return [
            tuple(
                self._hit(query, one, record, past) for one in found if (record := records.get(one.row.id)) is not None
            )
            for query, found in zip(queries, candidates, strict=True)
        ]

    def _candidates(
        self,
        view: LedgerView,
        scope: Scope,
        partition: Partition | None,
        queries: Sequence[Query],
        past: PastIndex | None,
    ) -> list[list[_Candidate]]:
        if past is None:
            return self._standing(view, scope, partition, queries)
        # as many more as may have to go: then no better one is missing among those that stay
        wanted = queries[0].request.top_k
        more = [replace(one, request=replace(one.request, top_k=wanted + len(past.replaced))) for one in queries]
        found = self._standing(view, scope, partition, more)
        return [self._with_past(query, one, past, partition) for query, one in zip(queries, found, strict=True)]

    def _with_past(
        self, query: Query, found: Sequence[_Candidate], past: PastIndex, partition: Partition | None
    ) -> list[_Candidate]:
        """What counted then: without what has come since, with what it has superseded."""
        request = query.request
        merged = [one for one in found if one.row.id not in past.replaced]
        if past.index is not None and partition is not None:
            (rows,) = past.index.search(
                query.vector[None, :],
                top_k=request.top_k,
                partition=partition,
                types=self._types(request),
                now=query.now,
                as_of=request.as_of,
                half_life=request.half_life,
                deadline=query.deadline,
            )
            merged += [
                _Candidate(row, row.score, row.log2_score, lexical=False, was=past.records[row.id]) for row in rows
            ]
        return sorted(merged, key=lambda one: (-one.log2_score, one.row.id))[: request.top_k]

    def _standing(
        self, view: LedgerView, scope: Scope, partition: Partition | None, queries: Sequence[Query]
    ) -> list[list[_Candidate]]:
        """The candidates among what counts now."""
        request = queries[0].request
        types = self._types(request)
        if partition is None or types == []:
            return [[] for _ in queries]
        only = None
        if request.filters:
            only = view.allowed_ids(scope, request.filters, memory_type=request.memory_type, now=queries[0].at)
        if self._hybrid(request) and self._settings.compat_profile:
            return [self._added(view, scope, partition, types, query, only) for query in queries]
        if self._hybrid(request) and _fuses(request):
            return [self._fused(view, scope, partition, types, query, only) for query in queries]
        found = self._search(partition, types, queries, only)
        plain = [[_Candidate(row, row.score, row.log2_score, lexical=False) for row in rows] for rows in found]
        if not self._hybrid(request):
            return plain
        return [
            self._boosted(view, scope, partition, types, query, one) for query, one in zip(queries, plain, strict=True)
        ]

    def _fused(
        self,
        view: LedgerView,
        scope: Scope,
        partition: Partition,
        types: list[int] | None,
        query: Query,
        only: Sequence[bytes] | None,
    ) -> list[_Candidate]:
        question = Question(
            scope=scope,
            request=query.request,
            text=query.request.query or "",
            vector=query.vector,
            now=query.now,
            deadline=query.deadline,
            boost=self._settings.hybrid_boost,
            partition=partition,
            types=types,
            only=only,
        )
        return [
            _Candidate(hit.row, hit.row.score, hit.row.log2_score, lexical=hit.fusion.words > 0, fused=hit)
            for hit in self._hybrid_recaller.answer(view, question)
        ]

    def _types(self, request: RecallRequest) -> list[int] | None:
        if request.memory_type is None:
            return None
        return self._follower.type_codes(request.memory_type)

    def _hybrid(self, request: RecallRequest) -> bool:
        wanted = self._settings.hybrid_recall_default if request.hybrid is None else request.hybrid
        return wanted and (request.query is not None or bool(request.terms))

    def _search(
        self, partition: Partition, types: list[int] | None, queries: Sequence[Query], only: Sequence[bytes] | None
    ) -> list[list[ScoredRow]]:
        if only is not None and not only:
            return [[] for _ in queries]
        first = queries[0]
        return self._follower.index.search(
            np.stack([query.vector for query in queries]),
            top_k=first.request.top_k,
            partition=partition,
            types=types,
            now=first.now,
            as_of=first.request.as_of,
            half_life=first.request.half_life,
            only=only,
            deadline=max(query.deadline for query in queries),
        )

    def _added(
        self,
        view: LedgerView,
        scope: Scope,
        partition: Partition,
        types: list[int] | None,
        query: Query,
        only: Sequence[bytes] | None,
    ) -> list[_Candidate]:
        """The old service's rule: score + boost * matches, of the nearest by vector and of all that hold a term."""
        request = query.request
        sought = compatibility.in_words(
            request.terms, request.query, exact=request.exact, case_sensitive=request.case_sensitive
        )
        boost = self._settings.hybrid_boost if request.boost is None else request.boost
        holding = sought.holding(view, scope, memory_type=request.memory_type, filters=request.filters, now=query.now)
        counts = {
            record.id.bytes: count
            for record, count in holding
            if request.as_of is None or record.event_time <= request.as_of
        }
        near = replace(query, request=replace(request, top_k=compatibility.candidates(request.top_k)))
        every = replace(query, request=replace(request, top_k=max(1, len(counts))))
        found = {row.id: row for row in self._search(partition, types, [near], only)[0]}
        found |= {row.id: row for row in self._search(partition, types, [every], list(counts))[0]}
        # what is not like the query at all is found by its words alone
        found |= {one: ScoredRow(one, 0.0, -math.inf, 0.0, "words") for one in counts if one not in found}
        scores = {one: row.score + boost * counts.get(one, 0) for one, row in found.items()}
        ranked = sorted((one for one in found if scores[one] > 0), key=lambda one: (-scores[one], one))
        return [
            _Candidate(found[one], scores[one], math.log2(scores[one]), lexical=one in counts)
            for one in ranked[: request.top_k]
        ]

    def _boosted(
        self,
        view: LedgerView,
        scope: Scope,
        partition: Partition,
        types: list[int] | None,
        query: Query,
        plain: Sequence[_Candidate],
    ) -> list[_Candidate]:
        """The exact top k of the boosted score: it lies within the plain top k and the top k of the keyword matches."""
        request = query.request
        matched = view.any_word(
            scope,
            " ".join(request.terms) if request.terms else request.query or "",
            limit=MAX_LEXICAL,
            now=query.now,
            memory_type=request.memory_type,
            filters=request.filters,
        )
        if matched is None:
            return list(plain)
        boost = self._settings.hybrid_boost if request.boost is None else request.boost
        best = {one.row.id: one for one in plain}
        for row in self._search(partition, types, [query], [hit.id for hit in matched])[0]:
            best[row.id] = _Candidate(row, row.score * boost, row.log2_score + math.log2(boost), lexical=True)
        ranked = sorted(best.values(), key=lambda one: (-one.log2_score, one.row.id))
        return ranked[: request.top_k]

    def _hit(self, query: Query, one: _Candidate, record: MemoryRecord, past: PastIndex | None) -> Hit:
        if one.fused is not None:
            return Hit(record, one.score, one.log2_score, one.fused.explanation, one.lexical, one.fused.fusion)
        explanation = None
        if query.request.explain:
            try:
                index = self._follower.index if one.was is None or past is None or past.index is None else past.index
                explanation = index.explain(
                    one.row.id,
                    query.vector,
                    now=query.now,
                    as_of=query.request.as_of,
                    half_life=query.request.half_life,
                )
            except NotFound:
                # deleted between the search and now: the answer is of the moment of the search
                explanation = None
        return Hit(record, one.score, one.log2_score, explanation, one.lexical)

    def _decays(self, request: RecallRequest) -> bool:
        if isinstance(request.half_life, Unset):
            return any(profile.half_life is not None for profile in self._follower.params.profiles())
        return request.half_life is not None

    def _suppressed(
        self,
        view: LedgerView,
        scope: Scope,
        partition: Partition | None,
        query: Query,
        hits: Sequence[Hit],
    ) -> tuple[Suppressed, ...]:
        if not query.request.explain or partition is None or not self._decays(query.request):
            return ()
        undecayed = replace(query, request=_without_decay(query.request))
        answered = {hit.record.id.bytes for hit in hits}
        request = query.request
        past = past_index(view, self._follower, scope, request.as_of, request.memory_type, request.filters)
        (found,) = self._candidates(view, scope, partition, [undecayed], past)
        missed = [one.row for one in found if one.row.id not in answered]
        records = _records(view, [row.id for row in missed]) | (past.records if past is not None else {})
        return tuple(
            Suppressed(uuid.UUID(bytes=row.id), records[row.id].coordinate, row.score)
            for row in missed
            if row.id in records
        )


def _records(view: LedgerView, wanted: Sequence[bytes]) -> dict[bytes, MemoryRecord]:
    """The records, a part at a time: what is read beyond an answer's bound is small."""
    records: dict[bytes, MemoryRecord] = {}
    for start in range(0, len(wanted), _PART):
        check_time()
        records |= view.by_ids(wanted[start : start + _PART])
    return records


def _versions(view: LedgerView, wanted: Sequence[MemoryRecord]) -> dict[bytes, MemoryRecord]:
    records: dict[bytes, MemoryRecord] = {}
    for start in range(0, len(wanted), _PART):
        check_time()
        records |= view.versions([(one.id.bytes, one.version) for one in wanted[start : start + _PART]])
    return records


def _fuses(request: RecallRequest) -> bool:
    """Whether hybrid recall fuses both parts; named terms or a boost ask for the old service's multiplied score."""
    return request.query is not None and request.terms is None and request.boost is None


def _without_decay(request: RecallRequest) -> RecallRequest:
    return RecallRequest(
        query=request.query,
        vector=request.vector,
        top_k=request.top_k,
        memory_type=request.memory_type,
        filters=request.filters,
        half_life=None,
        as_of=request.as_of,
        hybrid=request.hybrid if _fuses(request) else False,
    )
