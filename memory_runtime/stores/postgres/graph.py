"""The graph in SQL: directed, typed, weighted edges between a scope's coordinates; walks are `stores.walking`'s."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Final

from memory_runtime.model.coordinates import Coordinate, canonical_coordinate
from memory_runtime.model.records import Edge, Scope
from memory_runtime.stores.contracts import EdgeKey, Neighbor
from memory_runtime.stores.postgres.session import Bound, Session
from memory_runtime.stores.walking import NeighborWalk, PathWalk, Step

STEP: Final = "source, target, link_type, weight, metadata"
PREFIX: Final = 256
"""Characters of a source that the index in order of source holds: a coordinate may be longer than an entry."""


def step(found: Sequence[Any]) -> Step:
    """The step of a row that begins with STEP."""
    return Step(found[0], found[1], found[2], found[3], json.loads(found[4]))


def identity(scope: Scope, source: str, link_type: str, target: str) -> uuid.UUID:
    """The id of an edge: what its row is found by, and what its changes carry."""
    return uuid.uuid5(uuid.NAMESPACE_OID, "\x1f".join((scope.tenant, scope.namespace, source, link_type, target)))


def _outgoing(session: Session, scope: Scope, sources: Sequence[str], link_type: str | None) -> Iterable[Step]:
    bound = Bound(scope.tenant, scope.namespace, list(sources))
    sql = f"SELECT {STEP} FROM edges WHERE tenant = $1 AND namespace = $2 AND source = ANY($3::text[])"  # noqa: S608
    if link_type is not None:
        sql += f" AND link_type = {bound(link_type)}"
    return map(step, session.rows(sql, *bound.values))


def neighbors(
    session: Session, scope: Scope, start: Coordinate, *, link_type: str | None, hops: int, limit: int
) -> list[Neighbor]:
    """The coordinates within `hops` edges of `start`, nearest first, then by weight; each once."""
    walk = NeighborWalk(start, hops, limit)
    while walk.frontier:
        walk.advance(_outgoing(session, scope, walk.frontier, link_type))
    return walk.answer()


def shortest_path(
    session: Session,
    scope: Scope,
    start: Coordinate,
    goal: Coordinate,
    *,
    link_type: str | None,
    max_length: int,
) -> list[Edge] | None:
    """The edges of a path with the fewest hops, at most `max_length`; empty for a start that is the goal; else None."""
    walk = PathWalk(start, goal, max_length)
    while walk.frontier:
        walk.advance(_outgoing(session, scope, walk.frontier, link_type))
    return walk.answer()


def page(session: Session, scope: Scope, after: EdgeKey | None, limit: int) -> list[Edge]:
    """Up to `limit` edges of the scope after that key, in order of source, link type and target."""
    key = ("", "", "") if after is None else (canonical_coordinate(after[0]), after[1], canonical_coordinate(after[2]))
    found = session.rows(
        f"SELECT {STEP} FROM edges WHERE tenant = $1 AND namespace = $2 AND left(source, {PREFIX}) >= $3"  # noqa: S608
        " AND (source, link_type, target) > ($4, $5, $6)"
        f" ORDER BY left(source, {PREFIX}), source, link_type, target LIMIT $7",
        scope.tenant,
        scope.namespace,
        key[0][:PREFIX],
        *key,
        limit,
    )
    return [step(one).edge() for one in found]


def touching(session: Session, scope: Scope, coordinates: Sequence[Coordinate]) -> list[Edge]:
    """Every edge to or from these coordinates, each once."""
    places = [canonical_coordinate(one) for one in coordinates]
    found = session.rows(
        f"SELECT {STEP} FROM edges WHERE tenant = $1 AND namespace = $2"  # noqa: S608
        " AND (source = ANY($3::text[]) OR target = ANY($3::text[]))",
        scope.tenant,
        scope.namespace,
        places,
    )
    return [step(one).edge() for one in found]


def standing(session: Session, scope: Scope, keys: Sequence[EdgeKey]) -> list[Edge]:
    """Those of the edges that are there, as they are now."""
    wanted = [
        identity(scope, canonical_coordinate(source), link_type, canonical_coordinate(target))
        for source, link_type, target in keys
    ]
    found = session.rows(f"SELECT {STEP} FROM edges WHERE key = ANY($1::uuid[])", wanted)  # noqa: S608
    return [step(one).edge() for one in found]


def scopes(session: Session) -> list[Scope]:
    """The scopes that have edges: a search of the index for each, not a pass over the edges."""
    found = session.rows(
        "WITH RECURSIVE scopes AS ((SELECT tenant, namespace FROM edges ORDER BY tenant, namespace LIMIT 1)"
        " UNION ALL SELECT n.tenant, n.namespace FROM scopes s CROSS JOIN LATERAL"
        " (SELECT tenant, namespace FROM edges e WHERE (e.tenant, e.namespace) > (s.tenant, s.namespace)"
        " ORDER BY e.tenant, e.namespace LIMIT 1) n)"
        " SELECT tenant, namespace FROM scopes"
    )
    return [Scope(*one) for one in found]
