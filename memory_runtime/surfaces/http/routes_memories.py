"""Era E2: memories as resources. The listing with its cursor is ours: export reads it."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from starlette.requests import Request

from memory_runtime.engine import RecallRequest
from memory_runtime.model.coordinates import parse_coordinate
from memory_runtime.model.errors import Conflict, InvalidArgument
from memory_runtime.model.timestamps import parse_timestamp
from memory_runtime.surfaces.http import requests as bodies
from memory_runtime.surfaces.http import responses as answers
from memory_runtime.surfaces.http.context import asked_for_receipt, engine, idempotency_key, json_object, scope
from memory_runtime.surfaces.http.recalls import recalled
from memory_runtime.surfaces.http.rendering import (
    answer,
    context_of,
    found,
    kept,
    recall_headers,
    receipts_of,
    resource,
    store_headers,
)
from memory_runtime.surfaces.http.strict_json import StrictRoute

router = APIRouter(prefix="/memories", tags=["memories"], route_class=StrictRoute)

Coord = Annotated[str, Path(max_length=100_000, description="Numbers separated by commas.", examples=["1,2,3"])]


# An empty name must not delete the memories of every type
NamedType = Annotated[str | None, Query(min_length=1, max_length=256)]


@router.post("", response_model=answers.MemoryStored)
async def store_memory(request: Request, body: bodies.MemoryBody) -> Response:
    """Stores a memory; storing a coordinate again makes its next version. Durable when answered."""
    key = idempotency_key(request, body)
    receipt = await engine(request).store(scope(request), body.to_item(), idempotency_key=key)
    reply: answers.Json = {"coord": body.coord, "memory_type": body.memory_type, "ok": True}
    if asked_for_receipt(request):
        reply["receipt"] = receipts_of([receipt])[0]
    return answer(reply, store_headers([receipt]))


@router.get("", response_model=answers.MemoryPage)
async def list_memories(
    request: Request,
    after: Annotated[uuid.UUID | None, Query(description="The `next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    memory_type: bodies.TypeQuery = None,
    vectors: Annotated[bool, Query(description="Add each memory's vector.")] = False,
    full: Annotated[bool, Query(description="Add what an import needs to put it back as it was.")] = False,
) -> Response:
    """Lists the memories of the scope in the order of their ids, a page at a time.

    A page of large memories holds fewer than `limit`: `next` alone says whether there are more.
    """
    page = await engine(request).scan(scope(request), after=after, limit=limit, memory_type=memory_type)
    following = str(page.memories[-1].id) if page.more else None
    shown = (resource(record, vector=vectors) | (kept(record) if full else {}) for record in page.memories)
    return answer({"memories": shown, "next": following})


@router.post("/import", response_model=answers.Open)
async def import_memories(request: Request, body: bodies.ImportBody) -> Response:
    """Puts exported memories back as they were, times, importance, accesses and holds included; all or none.

    One that lives already is stored over, as its next version; what has expired meanwhile is left out.
    """
    exported = [one.exported(field=f"items[{at}].") for at, one in enumerate(body.items)]
    done = await engine(request).import_memories(scope(request), exported, replace=body.replace)
    return answer(done._asdict())


@router.post("/prune", response_model=answers.Pruned)
async def prune(request: Request, body: bodies.PruneBody) -> Response:
    """Deletes, at each coordinate where a memory of a type that stays lives, those of other types.

    What is under a legal hold stays, with the others of its coordinate: `held` names such coordinates.
    """
    places = [(parse_coordinate(one.coord, field=f"places[{at}].coord"), one) for at, one in enumerate(body.places)]
    deleted, held = 0, []
    for coordinate, one in places:
        try:
            deleted += await engine(request).delete_others(scope(request), coordinate, one.stay)
        except Conflict:
            held.append(one.coord)
    return answer({"deleted": deleted, "held": held})


async def _search(request: Request, wanted: RecallRequest, offset: int) -> Response:
    bound = engine(request).settings.top_k_max
    if offset >= bound:
        raise InvalidArgument(
            f"offset: must be below {bound}, the most that a recall finds",
            field="offset",
            remedy="ask for a narrower query or filters; GET /memories lists all of a scope in pages",
        )
    result = await recalled(request, wanted)
    reply = {"memories": (found(hit) for hit in result.hits[offset:])} | context_of(result, explain=wanted.explain)
    return answer(reply, recall_headers([result]))


@router.post("/search", response_model=answers.MemoriesFound)
async def search(request: Request, body: bodies.SearchBody) -> Response:
    """Recalls memories, best first, each with its score."""
    wanted = body.request(
        body.query,
        body.vector,
        top_k=body.top_k + body.offset,
        memory_type=body.memory_type,
        filters=body.filters,
        hybrid=body.hybrid,
    )
    return await _search(request, wanted, body.offset)


@router.get("/search", response_model=answers.MemoriesFound)
async def search_by_query(
    request: Request,
    query: Annotated[str, Query(max_length=100_000)],
    top_k: Annotated[int, Query(ge=0, lt=1 << 63)] = 5,
    offset: Annotated[int, Query(ge=0, le=bodies.MOST_AT_ONCE)] = 0,
    memory_type: bodies.TypeQuery = None,
    filters: Annotated[str | None, Query(description="A JSON object, as text.")] = None,
    half_life: bodies.HalfLife | None = None,
) -> Response:
    """POST /memories/search for those who can only send a query string."""
    wanted = bodies.RecallOptions(half_life=half_life).request(
        query, top_k=top_k + offset, memory_type=memory_type, filters=json_object(filters, field="filters")
    )
    return await _search(request, wanted, offset)


# `/search` stands above: a coordinate may be any text until it is parsed.
@router.get("/{coord}", response_model=answers.MemoryFound)
async def get_memory(
    request: Request, coord: Coord, memory_type: bodies.TypeQuery = None, as_of: str | None = None
) -> Response:
    """One memory; `as_of`, as it was then. Another tenant's is not found, as one that does not exist."""
    moment = None if as_of is None else parse_timestamp(as_of, field="as_of")
    record = await engine(request).get(scope(request), parse_coordinate(coord), memory_type, as_of=moment)
    return answer({"memory": resource(record)}, {"X-Soma-Seq": str(record.seq)})


@router.delete("/{coord}", response_model=answers.MemoryDeleted)
async def delete_memory(request: Request, coord: Coord, memory_type: NamedType = None) -> Response:
    """Deletes what is at a coordinate, of one type or of all; when answered, nothing finds it any more."""
    receipt = await engine(request).delete(scope(request), parse_coordinate(coord), memory_type)
    if receipt.deleted:
        engine(request).metrics.api_deletes.inc()
    return answer({"coord": coord, "deleted": receipt.deleted}, {"X-Soma-Seq": str(receipt.seq)})
