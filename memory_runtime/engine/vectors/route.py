"""The approximate route: completes an answer that the index within its budget cannot certify.

The index answers first. Where the k-th score is above what any row outside of it can reach, the answer stands, exact.
Else the store is asked for the rows that can still matter: below what was given up, above the k-th score. What it finds
are only ids: records, vectors and weights are read from the ledger and scored by the formula, so a point that is stale,
deleted or of another tenant is never answered, and all that is approximate is what was not found.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from memory_runtime.engine.following import Follower
from memory_runtime.engine.recalling import Query
from memory_runtime.engine.types import Hit, RecallResult
from memory_runtime.engine.vectors.backing import VectorBacking
from memory_runtime.engine.vectors.placement import Placement
from memory_runtime.model.errors import SomaError
from memory_runtime.model.records import Scope
from memory_runtime.scoring import ExactIndex, Profile, ScoredRow, ScoringParams, formula
from memory_runtime.scoring.budget import SLACK, Bound, Place, ceiling, joined
from memory_runtime.scoring.oracle import brute_force
from memory_runtime.scoring.rows import RowBatch
from memory_runtime.stores.interfaces import VectorFilter
from memory_runtime.stores.resilience import deadline_after
from memory_runtime.stores.sessions import Ledger, LedgerView
from memory_runtime.telemetry.vectors import VectorMetrics

log = logging.getLogger(__name__)

SEGMENT = "vector store"
"""What an explanation says of where the row was found."""
SLACK_FOUND = 16
"""Candidates beyond top_k: some may be expired, filtered or already known."""
OVERFETCH = 8
"""Times top_k, where what the store orders by is not the score: a filter that it does not know, another half-life."""
SCANNED_FILTERED = 5000
"""Memories that pass a filter and are scored straight from the ledger: few enough, and the answer is exact."""


@dataclass(frozen=True, slots=True, eq=False)
class Outside:
    """What can be outside the index for one query, by type code, and the score to beat (log2)."""

    ceilings: Mapping[int, float]
    bounds: Mapping[int, Bound]
    tenant: int
    least: float

    @property
    def certain(self) -> bool:
        """Whether nothing outside can be among the answers."""
        return all(top + SLACK < self.least for top in self.ceilings.values())

    def groups(self, params: ScoringParams) -> dict[Profile, list[int]]:
        """The types that can still matter, by profile: weights of one can be compared, of two they cannot."""
        found: dict[Profile, list[int]] = {}
        for kind, top in self.ceilings.items():
            if top + SLACK >= self.least:
                found.setdefault(params.profile(self.tenant, kind), []).append(kind)
        return found


class ApproximateRoute:
    """Completes answers of one engine."""

    def __init__(
        self,
        ledger: Ledger,
        follower: Follower,
        placement: Placement,
        store: VectorBacking | None,
        metrics: VectorMetrics,
        *,
        hybrid_default: bool,
        patience: float,
    ) -> None:
        """`patience` is how long an answer waits for the store, in seconds."""
        self._ledger = ledger
        self._follower = follower
        self._placement = placement
        self._store = store
        self._metrics = metrics
        self.hybrid_default = hybrid_default
        self._patience = patience

    async def complete(
        self, scope: Scope, queries: Sequence[Query], results: Sequence[RecallResult], index: ExactIndex
    ) -> list[RecallResult]:
        """The results, completed where they have to be; `index` is what was in use before they were made."""
        residency = self._follower.residency
        bounds: Mapping[Place, Bound] = residency.bounds(index)
        if self._follower.index is not index:
            bounds = joined(bounds, residency.bounds(self._follower.index))
        completed = [
            await self._one(scope, query, result, bounds) if bounds else result
            for query, result in zip(queries, results, strict=True)
        ]
        for result in completed:
            self._metrics.routes.labels(result.route).inc()
        return completed

    async def _one(
        self, scope: Scope, query: Query, result: RecallResult, bounds: Mapping[Place, Bound]
    ) -> RecallResult:
        outside = self._outside(scope, query, result, bounds)
        if outside.certain:
            return result
        if self._mixes_words(query):
            # fused over what is in the index alone; the label says that more may be outside
            return replace(result, route="approximate")
        if query.request.filters:
            allowed = await self._ledger.read(partial(_allowed, scope, query))
            if len(allowed) <= SCANNED_FILTERED:
                return await self._from_ledger(scope, query, result, allowed)
        return await self._through_store(scope, query, result, outside)

    def _outside(self, scope: Scope, query: Query, result: RecallResult, bounds: Mapping[Place, Bound]) -> Outside:
        partition = self._follower.partition(scope)
        request, params = query.request, self._follower.params
        ceilings, known = {}, {}
        wanted = None if request.memory_type is None else self._follower.type_codes(request.memory_type)
        for (tenant, namespace, kind), bound in bounds.items():
            if partition != (tenant, namespace) or (wanted is not None and kind not in wanted):
                continue
            known[kind] = bound
            ceilings[kind] = ceiling(bound, params.profile(tenant, kind), request.half_life, query.at)
        full = len(result.hits) >= request.top_k and not self._mixes_words(query)
        tenant = -1 if partition is None else partition.tenant
        return Outside(ceilings, known, tenant, result.hits[-1].log2_score if full else -math.inf)

    def _mixes_words(self, query: Query) -> bool:
        request = query.request
        wanted = self.hybrid_default if request.hybrid is None else request.hybrid
        return wanted and (request.query is not None or bool(request.terms))

    async def _from_ledger(
        self, scope: Scope, query: Query, result: RecallResult, allowed: Sequence[bytes]
    ) -> RecallResult:
        """Every memory that the filters allow, scored: exact, wherever the rows are."""
        found = await self._ledger.read(partial(self._score, scope, query, allowed))
        return replace(result, hits=_merged(result.hits, found, query.request.top_k))

    async def _through_store(self, scope: Scope, query: Query, result: RecallResult, outside: Outside) -> RecallResult:
        result = replace(result, route="approximate")
        if self._store is None:
            return result
        try:
            with deadline_after(self._patience):
                ids = await self._candidates(self._store, scope, query, outside)
            found = await self._ledger.read(partial(self._score, scope, query, ids))
        except SomaError as error:
            # the index's own part is the answer then: recall does not fail because the store is away
            self._metrics.failures.inc()
            log.warning("the approximate route is away: %s", error.message)
            return result
        penalty = self._follower.params.residual_penalty
        known = {hit.record.id for hit in result.hits}
        fresh = [_penalised(hit, penalty) for hit in found if hit.record.id not in known]
        return replace(result, hits=_merged(result.hits, fresh, query.request.top_k))

    async def _candidates(self, store: VectorBacking, scope: Scope, query: Query, outside: Outside) -> list[bytes]:
        request = query.request
        facts = await self._ledger.read(lambda view: view.facts())
        store.follow_layout(self._placement.layout(facts))
        found: list[bytes] = []
        for profile, kinds in outside.groups(self._follower.params).items():
            # under another half-life the stored weights say nothing: then the nearest are the candidates
            weighted = formula.effective_half_life(profile, request.half_life) == profile.half_life
            where = self._where(query, profile, kinds, outside, weighted=weighted)
            wanted = request.top_k * (OVERFETCH if request.filters or not weighted else 1) + SLACK_FOUND
            hits = await store.search(scope, query.vector, wanted, where=where, weighted=weighted)
            found += [hit.id.bytes for hit in hits]
        return found

    def _where(
        self, query: Query, profile: Profile, kinds: Sequence[int], outside: Outside, *, weighted: bool
    ) -> VectorFilter:
        """Only weights that can matter: no more than any row that was given up, no less than the score to beat."""
        as_of = query.request.as_of
        top = max(outside.bounds[kind].log2_weight for kind in kinds)
        low = -math.inf
        if weighted and math.isfinite(outside.least):
            age = 0.0 if profile.half_life is None else query.at / profile.half_life
            low = (outside.least + age) / profile.similarity_exponent - 1e-3
        return VectorFilter(
            memory_types=[self._placement.stored_type(kind) for kind in kinds],
            event_time=None if as_of is None else (-math.inf, float(np.nextafter(as_of, math.inf))),
            log2_weight=(low, top + 1e-3),
            at=query.at,
        )

    def _score(self, scope: Scope, query: Query, ids: Sequence[bytes], view: LedgerView) -> list[Hit]:
        """The best of these memories as the ledger holds them, by the formula."""
        request, partition = query.request, self._follower.partition(scope)
        if partition is None or not ids:
            return []
        if request.filters:
            ids = list(set(ids) & set(_allowed(scope, query, view)))
        if request.as_of is not None:
            # what counted then in their place is in this process's answer already
            past = view.past(scope, request.as_of, memory_type=request.memory_type, payloads=False)
            ids = list(set(ids) - past.replaced)
        rows = [self._follower.batch(run) for run in view.some(ids, self._follower.index.dim)]
        if not rows:
            return []
        batch = RowBatch.concatenate(rows)
        (found,) = brute_force(
            batch,
            query.vector,
            params=self._follower.params,
            k=request.top_k,
            partition=partition,
            now=query.now,
            as_of=request.as_of,
            types=None if request.memory_type is None else self._follower.type_codes(request.memory_type),
            half_life=request.half_life,
        )
        records = view.by_ids([row.id for row in found])
        place = {key.tobytes(): at for at, key in enumerate(batch.ids.astype(">u8"))}
        return [
            Hit(records[row.id], row.score, row.log2_score, self._explained(query, batch, place[row.id], row))
            for row in found
            if row.id in records
        ]

    def _explained(self, query: Query, batch: RowBatch, at: int, row: ScoredRow) -> formula.Explanation | None:
        if not query.request.explain:
            return None
        params = self._follower.params
        profile = params.profile(int(batch.tenant[at]), int(batch.memory_type[at]))
        return formula.explain(
            similarity=row.similarity,
            importance=float(batch.importance[at]),
            features=batch.features[at],
            feature_names=params.feature_names,
            event_time=float(batch.event_time[at]),
            at=query.at,
            profile=profile,
            half_life=formula.effective_half_life(profile, query.request.half_life),
            segment=SEGMENT,
        )


def _allowed(scope: Scope, query: Query, view: LedgerView) -> list[bytes]:
    request = query.request
    return view.allowed_ids(scope, request.filters or {}, memory_type=request.memory_type, now=query.now)


def _penalised(hit: Hit, penalty: float) -> Hit:
    """The residual penalty of gate G5: a factor on what an approximate back end found."""
    explanation = None if hit.explanation is None else formula.penalised(hit.explanation, penalty)
    score, logs = formula.penalised_score(hit.score, penalty), hit.log2_score + math.log2(penalty)
    return replace(hit, score=score, log2_score=logs, explanation=explanation, approximate=True)


def _merged(known: Sequence[Hit], found: Sequence[Hit], k: int) -> tuple[Hit, ...]:
    best = {hit.record.id: hit for hit in [*found, *known]}
    return tuple(sorted(best.values(), key=lambda hit: (-hit.log2_score, hit.record.id.bytes))[:k])
