"""Era E1: the verbs. Paths, bodies and answers are those of the service we replace."""

from __future__ import annotations

import hashlib
import struct
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from starlette.requests import Request

from memory_runtime.engine import RecallRequest
from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.coordinates import Coordinate, make_coordinate, parse_coordinate
from memory_runtime.model.errors import NotFound
from memory_runtime.model.records import StoreItem
from memory_runtime.stores.answer_size import answer_bound, answer_of
from memory_runtime.surfaces.http import requests as bodies
from memory_runtime.surfaces.http import responses as answers
from memory_runtime.surfaces.http.context import asked_for_receipt, engine, idempotency_key, json_object, scope
from memory_runtime.surfaces.http.recalls import all_recalled, most, recalled
from memory_runtime.surfaces.http.rendering import (
    answer,
    context_of,
    explained,
    recall_headers,
    receipts_of,
    scored,
    store_headers,
)
from memory_runtime.surfaces.http.strict_json import StrictRoute

router = APIRouter(tags=["verbs"], route_class=StrictRoute)


async def _store_one(request: Request, item: StoreItem, body: bodies.StoreOptions, reply: answers.Json) -> Response:
    key = idempotency_key(request, body)
    receipt = await engine(request).store(scope(request), item, idempotency_key=key)
    if asked_for_receipt(request):
        reply = reply | {"receipt": receipts_of([receipt])[0]}
    return answer(reply, store_headers([receipt]))


@router.post("/store", response_model=answers.Ok)
async def store(request: Request, body: bodies.StoreBody) -> Response:
    """Stores a memory; storing a coordinate again makes its next version. Durable when answered."""
    return await _store_one(request, body.to_item(), body, {"ok": True})


@router.post("/remember", response_model=answers.Ok)
async def remember(request: Request, body: bodies.RememberBody) -> Response:
    """Stores a memory; without a coordinate, one is derived from the payload, so a repeat is no duplicate."""
    coord = body.coord or derived_coordinate(body.payload)
    item = body.item(coord, body.payload, body.type or "episodic")
    return await _store_one(request, item, body, {"ok": True})


def derived_coordinate(payload: answers.Json) -> str:
    """Three numbers in [0, 1) made of the payload's canonical text, written as a coordinate."""
    digest = hashlib.sha256(canonical_json(payload).encode()).digest()
    return ",".join(repr(number / 2**32) for number in struct.unpack(">3I", digest[:12]))


@router.post("/store_bulk", response_model=answers.Stored)
async def store_bulk(request: Request, body: bodies.BulkBody) -> Response:
    """Stores many memories in one transaction: all or none."""
    items = [item.to_item(field=f"items.{index}.") for index, item in enumerate(body.items)]
    key = idempotency_key(request, body)
    receipts = await engine(request).store_bulk(scope(request), items, idempotency_key=key, replace=body.replace)
    reply: answers.Json = {"stored": len(receipts)}
    if asked_for_receipt(request):
        reply["receipts"] = receipts_of(receipts)
    return answer(reply, store_headers(receipts))


async def _recall(request: Request, wanted: RecallRequest) -> Response:
    result = await recalled(request, wanted)
    reply: answers.Json = {"matches": (hit.record.legacy_payload() for hit in result.hits)}
    if wanted.explain:
        reply["explanations"] = (explained(hit) | {"score": hit.score} for hit in result.hits)
    return answer(reply | context_of(result, explain=wanted.explain), recall_headers([result]))


@router.post("/recall", response_model=answers.Matches)
async def recall(request: Request, body: bodies.RecallBody) -> Response:
    """Recalls memories, best first; exact, decayed as configured or as asked."""
    return await _recall(request, body.to_request())


@router.get("/recall", response_model=answers.Matches)
async def recall_by_query(
    request: Request,
    query: Annotated[str, Query(max_length=100_000)],
    top_k: Annotated[int, Query(ge=0, lt=1 << 63)] = 5,
    type: bodies.TypeQuery = None,  # noqa: A002 -- the wire's name
    hybrid: bool | None = None,
    filters: Annotated[str | None, Query(description="A JSON object, as text.")] = None,
    half_life: bodies.HalfLife | None = None,
    as_of: str | None = None,
    min_seq: Annotated[int | None, Query(ge=0, lt=1 << 63)] = None,
    explain: bool = False,
) -> Response:
    """POST /recall for those who can only send a query string."""
    options = bodies.RecallOptions(half_life=half_life, as_of=as_of, min_seq=min_seq, explain=explain)
    wanted = json_object(filters, field="filters")
    return await _recall(request, options.request(query, top_k=top_k, memory_type=type, filters=wanted, hybrid=hybrid))


@router.post("/recall_batch", response_model=answers.Batches)
async def recall_batch(request: Request, body: bodies.BatchBody) -> Response:
    """Recalls for many queries in one pass over the index."""
    rest: answers.Json = {
        "top_k": body.top_k,
        "memory_type": body.type,
        "filters": body.filters,
        "hybrid": body.hybrid,
    }
    wanted = [body.request(query, **rest) for query in body.queries]
    results = await all_recalled(request, wanted)
    reply: answers.Json = {"batches": ((hit.record.legacy_payload() for hit in result.hits) for result in results)}
    if body.explain:
        reply["explanations"] = [
            context_of(result, explain=True) | {"hits": [explained(hit) | {"score": hit.score} for hit in result.hits]}
            for result in results
        ]
    return answer(reply, recall_headers(results))


async def _with_scores(request: Request, wanted: RecallRequest) -> Response:
    result = await recalled(request, wanted)
    reply = {"results": (scored(hit) for hit in result.hits)} | context_of(result, explain=wanted.explain)
    return answer(reply, recall_headers([result]))


@router.post("/recall_with_scores", response_model=answers.Scores)
async def recall_with_scores(request: Request, body: bodies.ScoresBody) -> Response:
    """Recalls memories with their scores."""
    return await _with_scores(request, body.to_request())


@router.post("/hybrid_recall_with_scores", response_model=answers.Scores)
async def hybrid_recall_with_scores(request: Request, body: bodies.HybridBody) -> Response:
    """Recalls by meaning and by words; a memory that holds a term gains `boost`."""
    wanted = body.request(
        body.query,
        top_k=body.top_k,
        memory_type=body.type,
        hybrid=True,
        terms=None if body.terms is None else tuple(body.terms),
        boost=body.boost,
        exact=body.exact,
        case_sensitive=body.case_sensitive,
    )
    return await _with_scores(request, wanted)


@router.post("/recall_with_context", response_model=answers.Results)
async def recall_with_context(request: Request, body: bodies.ContextBody) -> Response:
    """Recalls for a query within a context, which becomes part of what is looked for."""
    query = f"{body.query} [CTX] {canonical_json(body.context, field='context')}"
    wanted = body.request(query, top_k=body.top_k, memory_type=body.type)
    result = await recalled(request, wanted)
    reply: answers.Json = {"results": (hit.record.legacy_payload() for hit in result.hits)}
    if body.explain:
        reply["explanations"] = (explained(hit) | {"score": hit.score} for hit in result.hits)
    return answer(reply | context_of(result, explain=body.explain), recall_headers([result]))


@router.post("/keyword_search", response_model=answers.Results)
async def keyword_search(request: Request, body: bodies.KeywordBody) -> Response:
    """Finds memories whose payload holds a term."""
    records = await engine(request).keyword_search(
        scope(request),
        body.term,
        exact=body.exact,
        case_sensitive=body.case_sensitive,
        top_k=max(1, most(request, body.top_k)),
        memory_type=body.type,
    )
    return answer({"results": (record.legacy_payload() for record in records[: body.top_k])})


@router.post("/payloads", response_model=answers.Payloads)
@router.post("/payloads_by_coords", response_model=answers.Payloads)
async def payloads_by_coords(request: Request, body: bodies.CoordsBody) -> Response:
    """The payloads at the given coordinates; what is not there is left out."""
    payloads = []
    with answer_of(answer_bound()):
        for index, coord in enumerate(body.coords):
            try:
                record = await engine(request).get(scope(request), _coordinate(coord, f"coords.{index}"))
            except NotFound:
                continue
            payloads.append(record.legacy_payload())
    return answer({"payloads": payloads})


def _coordinate(coord: str | list[float], field: str) -> Coordinate:
    return parse_coordinate(coord, field=field) if isinstance(coord, str) else make_coordinate(coord, field=field)
