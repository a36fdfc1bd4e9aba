"""Reads what a group's units need to know, in one query a table whatever the number of units."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Final

from memory_runtime.model.coordinates import canonical_coordinate
from memory_runtime.stores.contracts import Delete, Link, Put, Unit
from memory_runtime.stores.postgres.following import HEAD_COLUMNS, HEAD_LENGTH, Head, digest
from memory_runtime.stores.postgres.session import Session
from memory_runtime.stores.postgres.states import Place, State, Work

STATE: Final = (
    "m.row, m.id, m.collection, m.tenant, m.namespace, m.memory_type, m.coordinate, m.importance_raw,"
    " m.importance_norm, m.normaliser_version, m.event_time, m.ingest_time, m.access_time, m.access_count,"
    " m.expires_at, m.pinned, m.hold, m.version, m.seq, m.deleted"
)


_REPLIES: Final = (
    "(SELECT json_agg(json_build_array(digest, body_hash, reply)) FROM idempotency WHERE digest = ANY($2::uuid[]))"
)
_JOINED: Final = "FROM memories m LEFT JOIN memories_text t USING (row) WHERE m.id = ANY($1::uuid[])"


def begin(session: Session, units: Sequence[Unit]) -> Work:
    """Reads the head and the rows that these units name: one query, so all of one moment."""
    ids = list(dict.fromkeys(_ids(units)))
    keys = list(dict.fromkeys(_keys(units)))
    found = session.rows(
        f"SELECT {HEAD_COLUMNS}, h.xmin, {_REPLIES if keys else 'NULL'}, s.* FROM ledger_head h"  # noqa: S608
        f" LEFT JOIN (SELECT {STATE}, t.length {_JOINED}) s ON TRUE",
        ids,
        *([keys] if keys else []),
    )
    work = Work(Head(*found[0][:HEAD_LENGTH]), found[0][HEAD_LENGTH])
    work.states.update(dict.fromkeys(ids))
    for one in found:
        state = one[HEAD_LENGTH + 2 :]
        if state[0] is not None:
            _take(work, state)
    work.replies.update(dict.fromkeys(keys))
    replies = found[0][HEAD_LENGTH + 1]
    for key, body_hash, reply in json.loads(replies) if replies else ():
        work.replies[uuid.UUID(key)] = (body_hash, reply)
    return work


def _keys(units: Sequence[Unit]) -> Iterable[uuid.UUID]:
    return (digest(unit.idempotency) for unit in units if unit.idempotency is not None)


def _ids(units: Sequence[Unit]) -> Iterable[uuid.UUID]:
    return (write.id for unit in units for write in unit.writes if not isinstance(write, Link))


def _take(work: Work, found: Sequence[Any]) -> None:
    state = State(*found[:20])
    state.id, state.words, state.stored = uuid.UUID(bytes=state.id.bytes), found[20], True
    work.states[state.id] = state


def prepare(session: Session, work: Work, units: Sequence[Unit]) -> None:
    """Takes into `work` the rows, replies and places that these units may touch and that it does not know yet."""
    writes = [write for unit in units for write in unit.writes]
    _states(session, work, _ids(units))
    _replies(session, work, units)
    _told(session, work, units)
    _places(session, work, _asked(work, writes))


def _states(session: Session, work: Work, ids: Iterable[uuid.UUID]) -> None:
    wanted = [one for one in dict.fromkeys(ids) if one not in work.states]
    if not wanted:
        return
    work.states.update(dict.fromkeys(wanted))
    for found in session.rows(f"SELECT {STATE}, t.length {_JOINED}", wanted):
        _take(work, found)


def _replies(session: Session, work: Work, units: Sequence[Unit]) -> None:
    wanted = [one for one in dict.fromkeys(_keys(units)) if one not in work.replies]
    if not wanted:
        return
    work.replies.update(dict.fromkeys(wanted))
    sql = "SELECT digest, body_hash, reply FROM idempotency WHERE digest = ANY($1::uuid[])"
    for found in session.rows(sql, wanted):
        work.replies[uuid.UUID(bytes=found[0].bytes)] = (found[1], found[2])


def _told(session: Session, work: Work, units: Sequence[Unit]) -> None:
    keys = [(unit.tells_of.origin, unit.tells_of.id) for unit in units if unit.tells_of is not None]
    wanted = [one for one in dict.fromkeys(keys) if one not in work.told]
    if not wanted:
        return
    work.told.update(dict.fromkeys(wanted))
    found = session.rows(
        "SELECT o.origin, o.id, o.epoch, o.version FROM origin_versions o"
        " JOIN unnest($1::text[], $2::uuid[]) x(origin, id) USING (origin, id)",
        [origin for origin, _ in wanted],
        [identity for _, identity in wanted],
    )
    work.told.update({(one[0], uuid.UUID(bytes=one[1].bytes)): (one[2], one[3]) for one in found})
    origins = [one for one in dict.fromkeys(origin for origin, _ in wanted) if one not in work.lines]
    work.lines.update({origin: {} for origin in origins})
    if origins:
        sql = "SELECT origin, epoch, forked FROM origin_lineages WHERE origin = ANY($1::text[])"
        for origin, epoch, forked in session.rows(sql, origins):
            work.lines[origin][epoch] = forked


def _asked(work: Work, writes: Sequence[Put | Delete | Link]) -> list[Place]:
    """Places of which it matters whether a memory lives there: where one is deleted, and ends of a link that asks."""
    places: dict[Place, None] = {}
    for write in writes:
        if isinstance(write, Link):
            for end in (write.edge.source, write.edge.target) if write.between_memories else ():
                places[write.scope.tenant, write.scope.namespace, canonical_coordinate(end)] = None
        elif isinstance(write, Delete):
            state = work.states.get(write.id)
            if state is not None:
                places[state.place] = None
    deleted = {write.id for write in writes if isinstance(write, Delete)}
    for write in writes:
        # put and deleted in one group: its place is not in the table yet
        if isinstance(write, Put) and write.id in deleted:
            places[write.scope.tenant, write.scope.namespace, write.coordinate] = None
    return [place for place in places if place not in work.at]


def _places(session: Session, work: Work, places: Sequence[Place]) -> None:
    if not places:
        return
    columns: list[list[Any]] = [list(column) for column in zip(*places, strict=True)]
    firsts = [float(place[2].partition(",")[0]) for place in places]
    found = session.rows(
        "SELECT m.tenant, m.namespace, m.coordinate, m.id FROM unnest($1::text[], $2::text[], $3::text[], $4::float8[])"
        " x(tenant, namespace, coordinate, first) JOIN memories m ON m.tenant = x.tenant"
        " AND m.namespace = x.namespace AND m.collection = 0 AND m.coordinate_first = x.first"
        " AND m.coordinate = x.coordinate AND NOT m.deleted",
        *columns,
        firsts,
    )
    work.know_places([((one[0], one[1], one[2]), uuid.UUID(bytes=one[3].bytes)) for one in found], places)
