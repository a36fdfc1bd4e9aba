"""What followers of the ledger read: the change stream, a scan for an index, counts, and the proof of wholeness."""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from memory_runtime.model.errors import Conflict, Unavailable
from memory_runtime.model.records import Scope
from memory_runtime.stores.contracts import (
    Applied,
    Change,
    Collection,
    Delete,
    HistoryLost,
    IdempotencyKey,
    Link,
    Operation,
    Put,
    Receipt,
    Rows,
    TailTrimmed,
    deleted_change,
    left_versions,
)
from memory_runtime.stores.link_body import link_of
from memory_runtime.stores.postgres.session import Session
from memory_runtime.stores.rows import AS_IT_IS, SCANNED, as_it_is, scanned
from memory_runtime.stores.values import CoordinateRow, CountKey, Facts, VectorTable

_CHANGE: Final = (
    "seq, operation, id, tenant, namespace, memory_type, version, at, payload, collection, created, coordinate,"
    " event_time, importance, model_revision, origin, trace, history"
)
_REPLIES_ROOT: Final = uuid.uuid5(uuid.NAMESPACE_OID, "soma idempotency")


class Head(NamedTuple):
    """The ledger's one row: the newest change, the newest row, and what has happened besides changes."""

    seq: int
    rows: int
    generation: int
    writer: uuid.UUID | None
    documents: int
    tokens: int
    reembedding: bool
    history: uuid.UUID | None = None
    lineage: uuid.UUID | None = None


HEAD_COLUMNS: Final = ", ".join(f"h.{name}" for name in Head._fields)
HEAD_LENGTH: Final = len(Head._fields)
HEAD: Final = f"SELECT {HEAD_COLUMNS} FROM ledger_head h"  # noqa: S608


def whole_head(session: Session) -> Head:
    """The head as this session sees it."""
    return Head(*session.row(HEAD))


class Moment(NamedTuple):
    """The head, and the tokens of the newest change and of one that was asked for; None where the outbox has none."""

    head: Head
    newest: uuid.UUID | None
    asked: uuid.UUID | None


_MOMENT: Final = (
    f"SELECT {HEAD_COLUMNS}, (SELECT o.history FROM outbox o WHERE o.seq = h.seq),"  # noqa: S608
    " (SELECT o.history FROM outbox o WHERE o.seq = $1) FROM ledger_head h"
)


def moment(session: Session, seq: int) -> Moment:
    """What a follower that has come to `seq` compares, in one query."""
    found = session.row(_MOMENT, seq)
    return Moment(Head(*found[:HEAD_LENGTH]), *found[HEAD_LENGTH:])


def head(session: Session) -> int:
    """The sequence of the newest change."""
    return int(session.value("SELECT seq FROM ledger_head"))


def tail(session: Session, seq: int, limit: int, token: str = "") -> list[Change]:
    """The changes after `seq`, in order. Raises TailTrimmed where some of them are gone.

    Raises HistoryLost for a `seq` that is not there, or is of another group than that of the `token`, if one is given.
    """
    newest, known = session.row("SELECT seq, (SELECT history FROM outbox WHERE seq = $1) FROM ledger_head", seq)
    if seq > newest or (token and known is not None and known.hex != token):
        # the asker followed another ledger, or this one before it was restored
        raise HistoryLost
    sql = f"SELECT {_CHANGE} FROM outbox WHERE seq > $1 ORDER BY seq LIMIT $2"  # noqa: S608
    found = session.rows(sql, seq, limit)
    # sequences have no gaps: what does not follow on was trimmed
    if seq < newest and (not found or found[0][0] != seq + 1):
        raise TailTrimmed
    return [_change(one) for one in found]


def _change(found: Sequence[Any]) -> Change:
    return Change(
        seq=found[0],
        operation=Operation(found[1]),
        id=uuid.UUID(bytes=found[2].bytes),
        scope=Scope(found[3], found[4]),
        memory_type=found[5],
        version=found[6],
        at=found[7],
        payload=found[8],
        collection=Collection(found[9]),
        created=found[10],
        coordinate=found[11],
        event_time=found[12],
        importance=found[13],
        model_revision=found[14],
        origin=found[15],
        trace=found[16],
        history=found[17].hex if found[17] else "",
    )


def changes(session: Session, seq: int, limit: int, dim: int, token: str = "") -> list[Applied]:
    """The changes after `seq` as the index needs them. Raises TailTrimmed, and HistoryLost as `tail` does."""
    found = tail(session, seq, limit, token)
    puts = list(dict.fromkeys(one.id for one in found if one.operation is Operation.PUT))
    now = _as_they_are(session, puts, dim) if puts else {}
    return [_applied(one, now.get(one.id)) for one in found]


def _applied(change: Change, now: tuple[Put, float] | None) -> Applied:
    write: Put | Delete | Link
    norm = 1.0
    if change.operation is Operation.DELETE:
        write = Delete(change.id, change.scope, change.memory_type, change.at, collection=change.collection)
    elif change.operation is Operation.LINK:
        write = link_of(change)
    elif now is not None:
        write, norm = now
    else:
        write = Put(
            id=change.id,
            scope=change.scope,
            memory_type=change.memory_type,
            coordinate=change.coordinate,
            payload="",
            search_text="",
            event_time=change.event_time or 0.0,
            ingest_time=change.at,
            collection=change.collection,
        )
    receipt = Receipt(change.id, change.version, change.seq, created=change.created, changed=True)
    return Applied(write, receipt, norm)


def _as_they_are(session: Session, ids: Sequence[uuid.UUID], dim: int) -> dict[uuid.UUID, tuple[Put, float]]:
    sql = (
        f"SELECT {named(AS_IT_IS)}, v.vector FROM memories m LEFT JOIN vectors v USING (row)"  # noqa: S608
        " WHERE m.id = ANY($1::uuid[]) AND NOT m.deleted"
    )
    found: dict[uuid.UUID, tuple[Put, float]] = {}
    for one in session.rows(sql, ids):
        vector = one[-1]
        if vector is not None and len(vector) != 4 * dim:
            raise damaged(f"a vector has {len(vector)} bytes, not the {4 * dim} of dimension {dim}")
        found[uuid.UUID(bytes=one[0])] = as_it_is(one, vector)
    return found


def damaged(what: str) -> Unavailable:
    """The refusal of a ledger that is not whole."""
    return Unavailable(f"the ledger is damaged: {what}", remedy="restore it from a backup")


def digest(key: IdempotencyKey) -> uuid.UUID:
    """What the row of an idempotency key is found by."""
    return _named("\x1f".join((key.scope.tenant, key.scope.namespace, key.operation, key.key)))


@functools.lru_cache(8192)
def _named(text: str) -> uuid.UUID:
    # asked for at each step of a group, and dear: remembered for as long as a group lasts
    return uuid.uuid5(_REPLIES_ROOT, text)


def find_reply(session: Session, key: IdempotencyKey) -> tuple[Receipt, ...] | None:
    """The reply that this key was given before, if it may be given again. Raises Conflict for another body."""
    found = session.row("SELECT body_hash, reply FROM idempotency WHERE digest = $1", digest(key))
    receipts = None if found is None else reply_of(found[0], found[1], key)
    return None if receipts and key.implicit and not _stands(session, receipts, key.at) else receipts


def _stands(session: Session, receipts: Sequence[Receipt], now: float) -> bool:
    """Whether every memory is as these receipts left it: of that version, neither deleted nor expired."""
    wanted = left_versions(receipts)
    there = session.value(
        "SELECT count(*) FROM memories m JOIN unnest($1::uuid[], $2::bigint[]) x(id, version) USING (id, version)"
        " WHERE NOT m.deleted AND (m.expires_at IS NULL OR m.expires_at > $3 OR m.pinned OR m.hold)",
        list(wanted),
        list(wanted.values()),
        now,
    )
    return int(there) == len(wanted)


def reply_of(body_hash: str, reply: str, key: IdempotencyKey) -> tuple[Receipt, ...]:
    """The receipts that a row of the table holds. Raises Conflict when it stood for another body."""
    if body_hash != key.body_hash:
        raise Conflict(
            "the idempotency key was used before with another body",
            field="idempotency_key",
            remedy="send the first body again, or a new key",
        )
    return tuple(
        Receipt(uuid.UUID(hex=one[0]), one[1], one[2], created=one[3], changed=one[4]) for one in json.loads(reply)
    )


def facts(session: Session) -> dict[str, str]:
    """What the ledger remembers about itself."""
    found = {one[0]: one[1] for one in session.rows("SELECT key, value FROM facts")}
    generation = session.value("SELECT generation FROM ledger_head")
    return found | ({Facts.GENERATION: str(generation)} if generation else {})


def sinks(session: Session) -> dict[str, int]:
    """How far each sink has come."""
    return {one[0]: one[1] for one in session.rows("SELECT name, seq FROM sinks")}


def counts(session: Session) -> dict[CountKey, int]:
    """Live memories by tenant, namespace, memory type and collection; one pass, done once at the start."""
    sql = (
        "SELECT tenant, namespace, memory_type, collection, count(*) FROM memories WHERE NOT deleted"
        " GROUP BY tenant, namespace, memory_type, collection"
    )
    return {(found[0], found[1], found[2], found[3]): found[4] for found in session.rows(sql)}


def coordinate_rows(session: Session) -> list[CoordinateRow]:
    """Id, tenant, namespace, type and coordinate of every live row of the old service's coordinate collections."""
    found = session.rows(
        "SELECT uuid_send(id), tenant, namespace, memory_type, coordinate FROM memories"
        " WHERE NOT deleted AND collection = $1",
        int(Collection.COORDINATES),
    )
    return [(one[0], one[1], one[2], one[3], one[4]) for one in found]


def named(columns: Sequence[str]) -> str:
    """These columns of `memories m` as a query names them, ids as 16 bytes."""
    return ", ".join("uuid_send(m.id)" if name == "id" else f"m.{name}" for name in columns)


_MEMORY: Final = f"{named(SCANNED)}, v.vector"


def batches(session: Session, dim: int, batch: int, table: VectorTable = "vectors") -> Iterator[Rows]:
    """All live memories with a vector, in batches of at most `batch`, in order of row.

    Raises Unavailable when a vector has another dimension or is missing: then the ledger is damaged. In
    `vectors_next` vectors may be missing: those memories are left out.
    """
    last = 0
    join = "LEFT JOIN vectors" if table == "vectors" else "JOIN vectors_next"
    sql = (
        f"SELECT {_MEMORY} FROM memories m {join} v USING (row)"  # noqa: S608
        " WHERE m.row > $1 AND NOT m.deleted AND m.collection = 0 ORDER BY m.row LIMIT $2"
    )
    while found := session.rows(sql, last, batch):
        yield _rows(found, dim)
        last = found[-1][0]


def stamps(session: Session, after: bytes, limit: int) -> list[tuple[bytes, int]]:
    """(id, seq of the change that wrote it) of the live memories with ids after `after`, in order of id."""
    sql = "SELECT id, seq FROM memories WHERE id > $1 AND NOT deleted AND collection = 0 ORDER BY id LIMIT $2"
    return [(one[0].bytes, one[1]) for one in session.rows(sql, uuid.UUID(bytes=after), limit)]


def tombstones(session: Session, after: int, limit: int) -> list[tuple[int, Change]]:
    """(row, the change that deleted it) of deleted memories with rows after `after`; when it was is not kept."""
    sql = (
        "SELECT row, seq, id, tenant, namespace, memory_type, version, ingest_time, coordinate FROM memories"
        " WHERE row > $1 AND deleted AND collection = 0 ORDER BY row LIMIT $2"
    )
    return [(one[0], deleted_change(one[1:], one[2])) for one in session.rows(sql, after, limit)]


def some(session: Session, ids: Sequence[uuid.UUID], dim: int) -> Iterator[Rows]:
    """The live memories among these ids, as `batches` gives them."""
    sql = (
        f"SELECT {_MEMORY} FROM memories m LEFT JOIN vectors v USING (row)"  # noqa: S608
        " WHERE m.id = ANY($1::uuid[]) AND NOT m.deleted AND m.collection = 0 ORDER BY m.row"
    )
    for start in range(0, len(ids), 5000):
        found = session.rows(sql, ids[start : start + 5000])
        if found:
            yield _rows(found, dim)


def _rows(found: Sequence[Any], dim: int) -> Rows:
    vectors = [one[-1] for one in found]
    if any(one is None for one in vectors):
        raise damaged("a memory has no vector")
    joined = b"".join(vectors)
    if len(joined) != len(found) * dim * 4:
        raise damaged(f"{len(found)} memories have {len(joined)} bytes of vectors of dimension {dim}")
    made = np.frombuffer(joined, np.float32).reshape(len(found), dim)
    return scanned([one[: len(SCANNED)] for one in found], made)


def half_visible(session: Session) -> dict[str, int]:
    """What a crash must never leave: counts of records without vector, words or outbox row, and of orphans of each."""
    queries = {
        "record_without_vector": (
            "SELECT count(*) FROM memories m LEFT JOIN vectors v USING (row)"
            " WHERE NOT m.deleted AND m.collection = 0 AND v.row IS NULL"
        ),
        "vector_without_record": (
            "SELECT count(*) FROM vectors v LEFT JOIN memories m USING (row) WHERE m.row IS NULL OR m.deleted"
        ),
        "record_without_outbox": (
            "SELECT count(*) FROM memories m LEFT JOIN outbox o ON o.seq = m.seq AND o.id = m.id WHERE o.seq IS NULL"
            " AND m.seq >= (SELECT coalesce(min(seq), 0) FROM outbox)"
        ),
        "outbox_without_record": (
            "SELECT count(*) FROM outbox o LEFT JOIN memories m ON m.id = o.id"
            " WHERE o.operation != 'link' AND (m.row IS NULL OR m.version < o.version)"
        ),
        "versions_without_record": (
            "SELECT count(*) FROM memory_versions v LEFT JOIN memories m ON m.id = v.id"
            " WHERE m.row IS NULL OR m.deleted"
        ),
        "words_without_record": (
            "SELECT count(*) FROM memories_text t LEFT JOIN memories m USING (row) WHERE m.row IS NULL OR m.text = ''"
        ),
        "record_without_words": (
            "SELECT count(*) FROM memories m LEFT JOIN memories_text t USING (row)"
            " WHERE NOT m.deleted AND m.text != '' AND t.row IS NULL"
        ),
        "outbox_gaps": (
            "SELECT coalesce(max(seq) - min(seq) + 1 - count(*), 0)"
            " + abs(coalesce(max(seq), (SELECT seq FROM ledger_head)) - (SELECT seq FROM ledger_head)) FROM outbox"
        ),
        "words_miscounted": (
            "SELECT abs(h.documents - t.documents) + abs(h.tokens - t.tokens) FROM ledger_head h,"
            " (SELECT count(*) AS documents, coalesce(sum(length), 0) AS tokens FROM memories_text) t"
        ),
    }
    return {name: int(session.value(sql)) for name, sql in queries.items()}
