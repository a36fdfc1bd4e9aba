"""Writes what has come of a group's work: COPY where it is much, and one statement for all the rest."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from memory_runtime.stores.contracts import Operation
from memory_runtime.stores.postgres import filters, history, words
from memory_runtime.stores.postgres.session import Bound, Session, TurnNeeded
from memory_runtime.stores.postgres.states import Cut, Join, Outgoing, Place, Reply, State, Work

COPY_FROM: Final = 48
"""Rows from which COPY is quicker than arrays: it costs a round trip of its own."""

_MEMORIES: Final = {
    "row": "bigint",
    "id": "uuid",
    "collection": "smallint",
    "tenant": "text",
    "namespace": "text",
    "memory_type": "text",
    "coordinate": "text",
    "importance_raw": "float8",
    "importance_norm": "float8",
    "normaliser_version": "bigint",
    "event_time": "float8",
    "ingest_time": "float8",
    "access_time": "float8",
    "access_count": "bigint",
    "expires_at": "float8",
    "pinned": "boolean",
    "hold": "boolean",
    "version": "bigint",
    "seq": "bigint",
    "deleted": "boolean",
    "model_revision": "text",
    "features": "text",
    "coordinate_first": "float8",
    "payload": "text",
    "fields": "jsonb",
    "text": "text",
}
_OUTBOX: Final = {
    "seq": "bigint",
    "operation": "text",
    "id": "uuid",
    "collection": "smallint",
    "tenant": "text",
    "namespace": "text",
    "memory_type": "text",
    "version": "bigint",
    "at": "float8",
    "previous_seq": "bigint",
    "payload": "text",
    "created": "boolean",
    "coordinate": "text",
    "event_time": "float8",
    "importance": "float8",
    "model_revision": "text",
    "origin": "text",
    "trace": "text",
    "history": "uuid",
}
_VECTORS: Final = {"row": "bigint", "vector": "bytea"}
_TEXTS: Final = {"row": "bigint", "length": "integer", "folded": "text"}
_REPLIES: Final = {
    "digest": "uuid",
    "tenant": "text",
    "namespace": "text",
    "operation": "text",
    "key": "text",
    "body_hash": "text",
    "reply": "text",
    "at": "float8",
}
_EDGES: Final = {
    "key": "uuid",
    "tenant": "text",
    "namespace": "text",
    "source": "text",
    "link_type": "text",
    "target": "text",
    "weight": "float8",
    "metadata": "text",
    "at": "float8",
    "seq": "bigint",
}
_AUDIT: Final = {
    "number": "bigint",
    "at": "float8",
    "tenant": "text",
    "actor": "text",
    "action": "text",
    "subject": "text",
    "detail": "text",
    "previous_hash": "text",
    "hash": "text",
}
_FIXED: Final = frozenset({"row", "id", "collection", "tenant", "namespace", "memory_type", "coordinate"})
_ERASE: Final = (
    "WITH RECURSIVE chain AS (SELECT seq, previous_seq, operation FROM outbox WHERE seq = ANY($1::bigint[])"
    " UNION ALL SELECT o.seq, o.previous_seq, o.operation FROM outbox o JOIN chain c ON o.seq = c.previous_seq"
    " WHERE c.operation <> 'delete') UPDATE outbox SET payload = NULL WHERE payload IS NOT NULL"
    " AND seq IN (SELECT seq FROM chain)"
)
Record = Sequence[Any]


CHANNEL: Final = "soma_ledger"
"""Every group says on this channel whose it is; followers look at once, and would have looked a little later anyway."""


class Batch:
    """Collects parts of one statement; what is large goes ahead by COPY, unless it must be one statement."""

    def __init__(self, session: Session, *, copies: bool = True) -> None:
        self.session = session
        self.copies = copies
        self.bound = Bound()
        self.parts: list[str] = []

    def insert(self, table: str, columns: dict[str, str], records: Sequence[Record], conflict: str = "") -> None:
        """Rows of a table; `conflict` is what happens to those that are there."""
        if not records:
            return
        if self.copies and not conflict and len(records) >= COPY_FROM:
            self.session.copy(table, list(columns), records)
            return
        names = ", ".join(columns)
        self.add(f"INSERT INTO {table} ({names}) SELECT * FROM {self.arrays(columns, records)} {conflict}")  # noqa: S608

    def arrays(self, columns: dict[str, str], records: Sequence[Record]) -> str:
        """The records as a table of the statement."""
        values = zip(*records, strict=True)
        types = zip(columns.values(), values, strict=True)
        return f"unnest({', '.join(f'{self.bound(list(column))}::{kind}[]' for kind, column in types)})"

    def add(self, statement: str) -> None:
        """A statement on a table that no other part touches."""
        self.parts.append(statement)

    def finish(self, statement: str) -> None:
        """Runs all parts, and this statement."""
        named = ", ".join(f"part{number} AS ({part})" for number, part in enumerate(self.parts))
        self.session.do(f"WITH {named} {statement}" if named else statement, *self.bound.values)


class Group(NamedTuple):
    """Whose group this is, its number there, when, and the token of its changes."""

    writer: uuid.UUID
    number: int
    at: float
    history: uuid.UUID


def flush(
    session: Session, work: Work, group: Group, normalisers: Sequence[tuple[str, int, str]], *, has_turn: bool = True
) -> None:
    """Writes all of the work, and forgets that it was to be written. Raises what the driver raises.

    `normalisers` are those that moved: tenant, version, state. The followers' notice goes out with the commit.
    Without the turn it is one statement that takes it, and is its own transaction: it writes only if nobody has written
    since `work` was read, and raises TurnNeeded otherwise.
    """
    changed = [state for identity in work.changed if (state := work.states[identity]) is not None]
    if has_turn:
        _erase(session, work)
        _drop_edges(session, work)
    elif work.edges or any(one.operation is Operation.DELETE for one in work.outbox):
        raise TurnNeeded
    batch = Batch(session, copies=has_turn)
    _memories(batch, changed)
    _vectors(batch, changed, reembedding=work.head.reembedding)
    documents, tokens = _texts(batch, changed)
    batch.insert("outbox", _OUTBOX, [_outgoing(one, group.history) for one in work.outbox])
    _replies(batch, work.new_replies)
    history.flush(batch, work)
    batch.insert("audit", _AUDIT, work.audit)
    batch.insert(
        "origin_versions",
        {"origin": "text", "id": "uuid", "epoch": "bigint", "version": "bigint"},
        [(*told, *version) for told, version in work.new_told.items()],
        "ON CONFLICT (origin, id) DO UPDATE SET version = excluded.version, epoch = excluded.epoch",
    )
    batch.insert(
        "origin_lineages",
        {"origin": "text", "epoch": "bigint", "forked": "bigint"},
        [(*line, forked) for line, forked in work.new_lines.items()],
        "ON CONFLICT DO NOTHING",
    )
    batch.insert(
        "ledger_writers",
        {"writer": "uuid", "group_number": "bigint", "at": "float8"},
        [group[:3]],
        "ON CONFLICT (writer) DO UPDATE SET group_number = excluded.group_number, at = excluded.at",
    )
    batch.insert(
        "normalisers",
        {"tenant": "text", "version": "bigint", "state": "text"},
        normalisers,
        "ON CONFLICT (tenant) DO UPDATE SET version = excluded.version, state = excluded.state",
    )
    bound = batch.bound
    writer = bound(group.writer)
    head = (
        f"UPDATE ledger_head SET seq = {bound(work.seq)}, rows = {bound(work.rows)}, writer = {writer},"  # noqa: S608
        f" history = {bound(work.history(group.history))},"
        f" documents = documents + {bound(documents)}, tokens = tokens + {bound(tokens)}"
    )
    notice = f"pg_notify('{CHANNEL}', {writer}::uuid::text)"
    if has_turn:
        batch.finish(f"{head} RETURNING {notice}")
    else:
        batch.add(f"{head} WHERE xmin = {bound(work.version)}::xid RETURNING 1")
        _finish_alone(batch, notice)
    _settle(work, changed)


def _replies(batch: Batch, replies: Sequence[Reply]) -> None:
    # of several that a group gave under one key, the last stands
    rows = {one.digest: (one.digest, *one.values) for one in replies}
    replace = (
        "ON CONFLICT (digest) DO UPDATE SET body_hash = excluded.body_hash, reply = excluded.reply, at = excluded.at"
    )
    batch.insert("idempotency", _REPLIES, list(rows.values()), replace if any(one.over for one in replies) else "")


def _finish_alone(batch: Batch, notice: str) -> None:
    """Runs all parts, of which the last takes the turn if the head is still the row that was read.

    The parts of a statement see one moment and are done whole or not at all. That the head is the same row proves that
    nobody wrote between what was read and the turn; where it is another, the division undoes the statement.
    """
    try:
        batch.finish(f"SELECT 1 / count(*), {notice} FROM part{len(batch.parts) - 1}")  # noqa: S608
    except asyncpg.DivisionByZeroError:
        raise TurnNeeded from None


def _settle(work: Work, changed: Sequence[State]) -> None:
    for state in changed:
        state.stored, state.vector, state.drops_vector = True, None, False
        state.payload = state.text = ""
    work.changed.clear()
    work.new_told.clear()
    work.new_lines.clear()
    for written in (work.outbox, work.edges, work.new_replies, work.audit, work.past):
        written.clear()


def _erase(session: Session, work: Work) -> None:
    """What was deleted must not be readable from the stream either: neither here nor in what was written before."""
    earlier: dict[uuid.UUID, list[int]] = {}
    chains: list[int] = []
    for number, one in enumerate(work.outbox):
        mine = earlier.setdefault(one.id, [])
        if one.operation is not Operation.DELETE:
            mine.append(number)
            continue
        first = work.outbox[mine[0]] if mine else one
        if first.previous_seq is not None:
            chains.append(first.previous_seq)
        for before in mine:
            work.outbox[before].payload = None
        mine.clear()
    if chains:
        session.do(_ERASE, chains)


def _drop_edges(session: Session, work: Work) -> None:
    """Edges in the order in which they went and came: what was joined after a drop stays."""
    dropped: dict[Place, None] = {}
    cut: dict[uuid.UUID, None] = {}
    joined: dict[uuid.UUID, tuple[Any, ...]] = {}
    for one in work.edges:
        if isinstance(one, Join):
            joined[one.key] = one.values
            continue
        if isinstance(one, Cut):
            joined.pop(one.key, None)
            cut[one.key] = None
            continue
        dropped[one.place] = None
        tenant, namespace, place = one.place
        for key in [k for k, v in joined.items() if v[:2] == (tenant, namespace) and place in (v[2], v[4])]:
            del joined[key]
    if dropped:
        columns = [list(column) for column in zip(*dropped, strict=True)]
        for end in ("source", "target"):
            session.do(
                "DELETE FROM edges e USING unnest($1::text[], $2::text[], $3::text[]) x(tenant, namespace, place)"  # noqa: S608
                f" WHERE e.tenant = x.tenant AND e.namespace = x.namespace AND e.{end} = x.place",
                *columns,
            )
    if cut:
        session.do("DELETE FROM edges WHERE key = ANY($1::uuid[])", list(cut))
    if joined:
        batch = Batch(session)
        update = ", ".join(f"{name} = excluded.{name}" for name in ("weight", "metadata", "at", "seq"))
        names = ", ".join(_EDGES)
        source = batch.arrays(_EDGES, [(key, *values) for key, values in joined.items()])
        batch.finish(f"INSERT INTO edges ({names}) SELECT * FROM {source} ON CONFLICT (key) DO UPDATE SET {update}")  # noqa: S608


def _memories(batch: Batch, changed: Sequence[State]) -> None:
    batch.insert("memories", _MEMORIES, [_memory(one) for one in changed if not one.stored])
    updates = [_memory(one) for one in changed if one.stored]
    if updates:
        columns = [name for name in _MEMORIES if name not in _FIXED and name != "coordinate_first"]
        names = ", ".join(_MEMORIES)
        batch.add(
            f"UPDATE memories m SET {', '.join(f'{name} = x.{name}' for name in columns)}"  # noqa: S608
            f" FROM {batch.arrays(_MEMORIES, updates)} x({names}) WHERE m.row = x.row"
        )


def _memory(state: State) -> Record:
    return (
        state.row,
        state.id,
        state.collection,
        state.tenant,
        state.namespace,
        state.memory_type,
        state.coordinate,
        state.importance_raw,
        state.importance_norm,
        state.normaliser_version,
        state.event_time,
        state.ingest_time,
        state.access_time,
        state.access_count,
        state.expires_at,
        state.pinned,
        state.hold,
        state.version,
        state.seq,
        state.deleted,
        state.model_revision,
        state.features,
        float(state.coordinate.partition(",")[0]),
        state.payload,
        filters.storable(state.payload),
        state.text.replace("\0", "\ufffd"),
    )


def _vectors(batch: Batch, changed: Sequence[State], *, reembedding: bool) -> None:
    fresh = [(one.row, one.vector) for one in changed if one.vector is not None and not one.stored]
    batch.insert("vectors", _VECTORS, fresh)
    again = [(one.row, one.vector) for one in changed if one.vector is not None and one.stored]
    gone = [one.row for one in changed if one.stored and one.drops_vector and one.vector is None]
    batch.insert("vectors", _VECTORS, again, "ON CONFLICT (row) DO UPDATE SET vector = excluded.vector")
    if gone:
        batch.add(f"DELETE FROM vectors WHERE row = ANY({batch.bound(gone)}::bigint[])")  # noqa: S608
    if reembedding and (again or gone):
        rows = batch.bound([row for row, _ in again] + gone)
        batch.add(f"DELETE FROM vectors_next WHERE row = ANY({rows}::bigint[])")  # noqa: S608


def _texts(batch: Batch, changed: Sequence[State]) -> tuple[int, int]:
    """Writes the words; returns by how much the numbers of texts and of words grew."""
    fresh: list[Record] = []
    again: list[Record] = []
    gone: list[int] = []
    documents = tokens = 0
    for one in changed:
        if one.words is not None:
            documents, tokens = documents - 1, tokens - one.words
        if not one.text:
            if one.words is not None:
                gone.append(one.row)
            one.words = None
            continue
        found = words.folded(one.text)
        (fresh if one.words is None else again).append((one.row, found.length, found.words))
        documents, tokens, one.words = documents + 1, tokens + found.length, found.length
    batch.insert("memories_text", _TEXTS, fresh)
    if again:
        batch.add(
            f"UPDATE memories_text t SET length = x.length, folded = x.folded"  # noqa: S608
            f" FROM {batch.arrays(_TEXTS, again)} x(row, length, folded) WHERE t.row = x.row"
        )
    if gone:
        batch.add(f"DELETE FROM memories_text WHERE row = ANY({batch.bound(gone)}::bigint[])")  # noqa: S608
    return documents, tokens


def _outgoing(one: Outgoing, history: uuid.UUID) -> Record:
    return (
        one.seq,
        one.operation.value,
        one.id,
        one.collection,
        one.tenant,
        one.namespace,
        one.memory_type,
        one.version,
        one.at,
        one.previous_seq,
        one.payload,
        one.created,
        one.coordinate,
        one.event_time,
        one.importance,
        one.model_revision,
        one.origin,
        one.trace,
        history,
    )
