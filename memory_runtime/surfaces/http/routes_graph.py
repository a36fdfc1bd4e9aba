"""Links between memories and questions about coordinates, in the shapes of both eras."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from starlette.requests import Request

from memory_runtime.model.canonical import parse_json
from memory_runtime.model.coordinates import canonical_coordinate, parse_coordinate
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.records import Edge
from memory_runtime.stores.contracts import EdgeKey
from memory_runtime.surfaces.http import requests as bodies
from memory_runtime.surfaces.http import responses as answers
from memory_runtime.surfaces.http.context import engine, scope
from memory_runtime.surfaces.http.rendering import answer, edge_data
from memory_runtime.surfaces.http.strict_json import StrictRoute

router = APIRouter(tags=["graph"], route_class=StrictRoute)

CoordQuery = Annotated[str, Query(max_length=100_000, examples=["1,2,3"])]
MOST_HOPS = 16
MOST_STEPS = 64


@router.post("/link", response_model=answers.Ok)
async def link(request: Request, body: bodies.LinkBody) -> Response:
    """Links two coordinates; linking them again with the same type changes the weight."""
    await engine(request).link(
        scope(request),
        parse_coordinate(body.from_coord, field="from_coord"),
        parse_coordinate(body.to_coord, field="to_coord"),
        link_type=body.type or "related",
        weight=body.weight,
        metadata={},
    )
    return answer({"ok": True})


@router.get("/neighbors", response_model=answers.Neighbors)
async def neighbors(
    request: Request,
    coord: CoordQuery,
    link_type: bodies.TypeQuery = None,
    limit: Annotated[int, Query(ge=1, le=bodies.MOST_AT_ONCE)] = 1000,
) -> Response:
    """What a memory links to."""
    found = await engine(request).neighbors(
        scope(request), parse_coordinate(coord), link_type=link_type, hops=1, limit=limit
    )
    return answer({"neighbors": [[list(one.coordinate), edge_data(one.edge)] for one in found]})


@router.get("/shortest_path", response_model=answers.CoordPath)
async def shortest_path(
    request: Request, frm: CoordQuery, to: CoordQuery, link_type: bodies.TypeQuery = None
) -> Response:
    """The shortest way along links from one memory to another; empty where there is none."""
    path = await engine(request).shortest_path(
        scope(request),
        parse_coordinate(frm, field="frm"),
        parse_coordinate(to, field="to"),
        link_type=link_type,
        max_length=MOST_STEPS,
    )
    return answer({"path": [list(coordinate) for coordinate in path.coordinates]})


@router.get("/range", response_model=answers.Coords)
async def coordinate_range(
    request: Request,
    min: CoordQuery,  # noqa: A002 -- the wire's name
    max: CoordQuery,  # noqa: A002 -- the wire's name
    type: bodies.TypeQuery = None,  # noqa: A002 -- the wire's name
    limit: Annotated[int, Query(ge=1, le=bodies.MOST_AT_ONCE)] = bodies.MOST_AT_ONCE,
) -> Response:
    """The coordinates of memories within a box, its faces included."""
    found = await engine(request).coordinates_in_range(
        scope(request),
        parse_coordinate(min, field="min"),
        parse_coordinate(max, field="max"),
        memory_type=type,
        limit=limit,
    )
    return answer({"coords": [list(coordinate) for coordinate in found]})


@router.post("/graph/link", response_model=answers.GraphLinked)
async def graph_link(request: Request, body: bodies.GraphLinkBody) -> Response:
    """Links two coordinates, whether or not they hold a memory; again with the same type changes the link.

    The link stays until it is deleted, or until the last memory at either end is.
    """
    link_type = body.link_type or "related"
    await engine(request).link(
        scope(request),
        parse_coordinate(body.from_coord, field="from_coord"),
        parse_coordinate(body.to_coord, field="to_coord"),
        link_type=link_type,
        weight=body.strength,
        metadata=body.metadata or {},
    )
    return answer({"from_coord": body.from_coord, "to_coord": body.to_coord, "link_type": link_type, "ok": True})


@router.delete("/graph/link", response_model=answers.GraphUnlinked)
async def graph_unlink(
    request: Request, from_coord: CoordQuery, to_coord: CoordQuery, link_type: bodies.TypeQuery = None
) -> Response:
    """Deletes the links from one coordinate to another, of one type or, where none is named, of all."""
    gone = await engine(request).unlink(
        scope(request),
        parse_coordinate(from_coord, field="from_coord"),
        parse_coordinate(to_coord, field="to_coord"),
        link_type=link_type,
    )
    return answer({"from_coord": from_coord, "to_coord": to_coord, "deleted": gone})


@router.get("/graph/links", response_model=answers.Open)
async def graph_links(
    request: Request,
    after: Annotated[str | None, Query(max_length=400_000, description="The `next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> Response:
    """Lists every link of the scope, a page at a time; export reads it."""
    found = await engine(request).links(scope(request), after=_key(after), limit=limit)
    shown = [_shown(one) for one in found]
    last = shown[-1] if len(found) == limit else None
    following = None if last is None else json.dumps([last["from_coord"], last["link_type"], last["to_coord"]])
    return answer({"links": shown, "next": following})


def _shown(edge: Edge) -> answers.Json:
    return {
        "from_coord": canonical_coordinate(edge.source),
        "to_coord": canonical_coordinate(edge.target),
        "link_type": edge.link_type,
        "strength": edge.weight,
        "metadata": edge.metadata,
    }


def _key(after: str | None) -> EdgeKey | None:
    if after is None:
        return None
    key = parse_json(after, field="after")
    if not isinstance(key, list) or len(key) != 3 or not all(isinstance(part, str) for part in key):
        raise InvalidArgument("after: is no cursor", field="after", remedy="send the `next` of the page before")
    return parse_coordinate(key[0], field="after"), key[1], parse_coordinate(key[2], field="after")


@router.post("/graph/links", response_model=answers.Open)
async def link_many(request: Request, body: bodies.LinksBody) -> Response:
    """Links many coordinates, all or none; with `skip_missing` a link whose ends hold no memory is left out."""
    edges = [one.edge(field=f"links[{at}].") for at, one in enumerate(body.links)]
    done = await engine(request).link_many(scope(request), edges, skip_missing=body.skip_missing)
    return answer(done._asdict())


@router.get("/graph/neighbors", response_model=answers.GraphNeighbors)
async def graph_neighbors(
    request: Request,
    coord: CoordQuery,
    k_hop: Annotated[int, Query(ge=1, le=MOST_HOPS)] = 1,
    limit: Annotated[int, Query(ge=1, le=bodies.MOST_AT_ONCE)] = 10,
    offset: Annotated[int, Query(ge=0, le=bodies.MOST_AT_ONCE)] = 0,
    link_type: bodies.TypeQuery = None,
) -> Response:
    """What a coordinate links to within some hops, nearest first; each once for every type of link."""
    found = await engine(request).neighbors(
        scope(request), parse_coordinate(coord), link_type=link_type, hops=k_hop, limit=offset + limit
    )
    shown = [
        {
            **one.edge.metadata,
            "coord": canonical_coordinate(one.coordinate),
            "coordinate": list(one.coordinate),
            "metadata": one.edge.metadata,
            "link_type": one.edge.link_type,
            "strength": one.edge.weight,
            "hops": one.hops,
        }
        for one in found[offset:]
    ]
    return answer({"coord": coord, "neighbors": shown})


@router.get("/graph/path", response_model=answers.GraphPath)
async def graph_path(
    request: Request,
    from_coord: CoordQuery,
    to_coord: CoordQuery,
    max_length: Annotated[int, Query(ge=1, le=MOST_STEPS, description="The most coordinates in the path.")] = 10,
    link_type: bodies.TypeQuery = None,
) -> Response:
    """The shortest way along links from one memory to another; `found` says whether there is one."""
    path = await engine(request).shortest_path(
        scope(request),
        parse_coordinate(from_coord, field="from_coord"),
        parse_coordinate(to_coord, field="to_coord"),
        link_type=link_type,
        # The wire counts coordinates, the engine the links between them.
        max_length=max(1, max_length - 1),
    )
    return answer(
        {
            "from_coord": from_coord,
            "to_coord": to_coord,
            "path": [canonical_coordinate(coordinate) for coordinate in path.coordinates],
            "link_types": [edge.link_type for edge in path.edges],
            "links": [[_shown(edge) for edge in edges] for edges in path.steps],
            "found": path.found,
        }
    )
