"""How the best points are found: filters, bands from the best down, and when to stop. The client is asked by `ask`."""

from __future__ import annotations

import math
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from qdrant_client import models

from memory_runtime.model.records import Scope
from memory_runtime.stores.interfaces import VectorFilter, VectorHit
from memory_runtime.stores.qdrant.layout import ceiling, place
from memory_runtime.stores.qdrant.schema import (
    BAND,
    EVENT_TIME,
    EXPIRES_AT,
    GONE,
    LAYOUT,
    NAMESPACE,
    SEQ,
    TENANT,
    TYPE,
    WEIGHT,
)

LOOK_AHEAD: Final = 64
"""Points whose bands are read to learn which bands are next: bands of few points are found many at a time."""
OVERFETCH: Final = 4
LEAST_FETCH: Final = 64
EF: Final = 128

Ask = Callable[[Sequence[models.QueryRequest]], Awaitable[list[list[models.ScoredPoint]]]]
"""Sends several queries at once and gives the points of each."""


class Plan(NamedTuple):
    """What is asked: where, with which vector, how many; `exact` for local mode, which has no graph to tune."""

    conditions: models.Filter
    query: list[float]
    limit: int
    width: float
    exact: bool = False


def visible(scope: Scope | None, where: VectorFilter | None, layout: int, width: float) -> models.Filter:
    """The condition of a search: live points of the scope (None: of all) and layout that pass the filter."""
    where = where or VectorFilter()
    must: list[Any] = [_equals(LAYOUT, layout)]
    if scope is not None:
        must += [_equals(TENANT, scope.tenant), _equals(NAMESPACE, scope.namespace)]
    if where.memory_types is not None:
        must.append(models.FieldCondition(key=TYPE, match=models.MatchAny(any=list(where.memory_types))))
    if where.event_time is not None:
        must.append(_within(EVENT_TIME, *where.event_time))
    if where.log2_weight is not None:
        must.append(_within(WEIGHT, *where.log2_weight))
        must += _bands_within(*where.log2_weight, width)
    must_not: list[Any] = [_equals(GONE, 1)]
    if where.at is not None:
        must_not.append(models.FieldCondition(key=EXPIRES_AT, range=models.Range(lte=where.at)))
    return models.Filter(must=must, must_not=must_not)


def _equals(key: str, value: Any) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _within(key: str, low: float, high: float) -> models.FieldCondition:
    bounds = {"gte": low, "lt": high}
    return models.FieldCondition(
        key=key, range=models.Range(**{side: value for side, value in bounds.items() if math.isfinite(value)})
    )


def _bands_within(low: float, high: float, width: float) -> list[models.FieldCondition]:
    bounds: dict[str, float] = {}
    if math.isfinite(low):
        bounds["gte"] = math.floor(low / width)
    if math.isfinite(high):
        bounds["lte"] = math.floor(high / width)
    return [models.FieldCondition(key=BAND, range=models.Range(**bounds))] if bounds else []


async def nearest(ask: Ask, plan: Plan) -> list[VectorHit]:
    """The best by cosine. Points are stored scaled, so more are fetched, and the scale is taken out again."""
    fetch = max(OVERFETCH * plan.limit, LEAST_FETCH)
    (points,) = await ask([_search(plan, plan.conditions, fetch)])
    hits = [hit for point in points if (hit := _hit(point, plan.width)) is not None]
    return sorted(hits, key=lambda one: (-one.similarity, one.id.bytes))[: plan.limit]


async def best_bands(ask: Ask, plan: Plan) -> list[VectorHit]:
    """The best by cosine · 2^L: bands from the best down, more at once each time, until none can hold a better one."""
    best: list[tuple[float, VectorHit]] = []
    (ahead,) = await ask([_next_bands(plan, below=None)])
    waiting, at_once = _bands(ahead), 1
    while waiting and not _done(best, waiting[0], plan):
        now, waiting = waiting[:at_once], waiting[at_once:]
        if not waiting and len(ahead) == LOOK_AHEAD:
            # full bands follow one another: those below are asked unseen, and an empty one costs next to nothing
            now += range(now[-1] - 1, now[-1] - 1 - (at_once - len(now)), -1)
        requests = [_search(plan, _and_band(plan.conditions, band), plan.limit) for band in now]
        *answers, ahead = await ask([*requests, _next_bands(plan, below=waiting[-1] if waiting else now[-1])])
        best = _joined(best, now, answers, plan)
        waiting += _bands(ahead)
        at_once *= 2
    return [hit for _, hit in best]


def _joined(
    best: Sequence[tuple[float, VectorHit]],
    bands: Sequence[int],
    answers: Sequence[Sequence[models.ScoredPoint]],
    plan: Plan,
) -> list[tuple[float, VectorHit]]:
    found = [
        (_key(point, band, plan.width), hit)
        for band, points in zip(bands, answers, strict=True)
        for point in points
        if (hit := _hit(point, plan.width)) is not None
    ]
    return sorted([*best, *found], key=lambda one: (-one[0], one[1].id.bytes))[: plan.limit]


def _done(best: Sequence[tuple[float, VectorHit]], band: int, plan: Plan) -> bool:
    return len(best) == plan.limit and best[-1][0] >= ceiling(band, plan.width)


def _search(plan: Plan, conditions: models.Filter, limit: int) -> models.QueryRequest:
    return models.QueryRequest(
        query=plan.query,
        filter=conditions,
        limit=limit,
        params=None if plan.exact else models.SearchParams(hnsw_ef=max(EF, 2 * limit)),
        with_payload=[WEIGHT, SEQ, BAND],
    )


def _next_bands(plan: Plan, below: int | None) -> models.QueryRequest:
    conditions = plan.conditions
    if below is not None:
        conditions = _and(conditions, models.FieldCondition(key=BAND, range=models.Range(lt=below)))
    order = models.OrderBy(key=BAND, direction=models.Direction.DESC)
    return models.QueryRequest(
        query=models.OrderByQuery(order_by=order), filter=conditions, limit=LOOK_AHEAD, with_payload=[BAND]
    )


def _and_band(conditions: models.Filter, band: int) -> models.Filter:
    return _and(conditions, _equals(BAND, band))


def _and(conditions: models.Filter, more: models.FieldCondition) -> models.Filter:
    return models.Filter(must=[*conditions.must, more], must_not=conditions.must_not)  # type: ignore[misc]


def _bands(points: Sequence[models.ScoredPoint]) -> list[int]:
    return list(dict.fromkeys(int(point.payload[BAND]) for point in points if point.payload))


def _key(point: models.ScoredPoint, band: int, width: float) -> float:
    return math.log2(point.score) + band * width


def _hit(point: models.ScoredPoint, width: float) -> VectorHit | None:
    """None for what does not point the query's way: it scores zero."""
    if point.score <= 0 or not point.payload:
        return None
    weight = float(point.payload[WEIGHT])
    similarity = min(1.0, point.score / place(weight, width).scale)
    return VectorHit(uuid.UUID(str(point.id)), similarity, weight, int(point.payload[SEQ]))
