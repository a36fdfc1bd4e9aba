"""What a unit does to a group's work, in memory: versions, refusals, receipts, with the answers of the embedded ledger.

Nothing here speaks to the database: `loading` has read what is needed, `flushing` writes what has come of it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Final

from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.coordinates import canonical_coordinate
from memory_runtime.model.errors import Conflict, NotFound
from memory_runtime.stores.audit import line_hash
from memory_runtime.stores.contracts import (
    Applied,
    AuditEntry,
    Committed,
    Delete,
    IdempotencyKey,
    Link,
    Operation,
    Put,
    Receipt,
    Unit,
    left_versions,
)
from memory_runtime.stores.finite import check_link, check_put
from memory_runtime.stores.link_body import link_body
from memory_runtime.stores.postgres.following import digest, reply_of
from memory_runtime.stores.postgres.graph import identity
from memory_runtime.stores.postgres.states import Cut, Drop, Erased, Join, Outgoing, Replaced, Reply, State, Work

NEUTRAL_IMPORTANCE: Final = 1.0
"""The i of a memory stored without importance: nothing is taken from its score."""

Normalise = Callable[[str, float | None], tuple[float, int]]
"""Tenant and raw importance to i and the normaliser's version."""

AuditTail = tuple[int, str]
"""Number and hash of the audit chain's last line."""


def run(work: Work, unit: Unit, normalise: Normalise, audit_tail: Callable[[], AuditTail]) -> Committed:
    """Runs a unit whole; a refusal leaves `work` as it was. `work` must know what `loading.prepare` reads."""
    work.begin()
    try:
        return _run(work, unit, normalise, audit_tail)
    except BaseException:
        work.undo()
        raise


def _run(work: Work, unit: Unit, normalise: Normalise, audit_tail: Callable[[], AuditTail]) -> Committed:
    if unit.idempotency is not None:
        known = work.replies.get(digest(unit.idempotency))
        if known is not None:
            receipts = reply_of(*known, unit.idempotency)
            if not unit.idempotency.implicit or _stands(work, receipts, unit.idempotency.at):
                return Committed(receipts, replayed=True)
    told = unit.tells_of
    if told is not None and not work.tell(told):
        return Committed((), late=True)
    receipts = tuple(_write(work, write, unit, normalise) for write in unit.writes)
    if unit.audit:
        _append_audit(work, unit.audit, audit_tail)
    if unit.idempotency is not None:
        _keep_reply(work, unit.idempotency, receipts)
    return Committed(receipts)


def _stands(work: Work, receipts: Sequence[Receipt], now: float) -> bool:
    """Whether every memory is as these receipts left it; they are of the same writes, so `work` knows their rows."""
    for memory, version in left_versions(receipts).items():
        state = work.states.get(memory)
        if state is None or state.deleted or state.version != version:
            return False
        if state.expires_at is not None and state.expires_at <= now and not (state.pinned or state.hold):
            return False
    return True


def _write(work: Work, write: Put | Delete | Link, unit: Unit, normalise: Normalise) -> Receipt:
    norm = NEUTRAL_IMPORTANCE
    if isinstance(write, Put):
        check_put(write, norm)
        norm, version = normalise(write.scope.tenant, write.importance)
        return put(work, write, norm, version, unit)
    receipt = _delete(work, write, unit) if isinstance(write, Delete) else _link(work, write, unit)
    if receipt.changed:
        work.applied.append(Applied(write, receipt, norm))
    return receipt


def put(work: Work, put: Put, norm: float, normaliser_version: int, unit: Unit) -> Receipt:
    """Writes a memory with an i that is given: a new version where its id exists."""
    ours = put.id in work.changed
    state = work.change(put.id)
    created = state is None or state.deleted
    if state is not None and not created and state.collection == 0:
        work.past.append(Replaced(put.id, put.ingest_time, copy.copy(state) if ours else None))
    previous = None if state is None else state.seq
    tenant, namespace = put.scope.tenant, put.scope.namespace
    if state is None:
        state = State(work.new_row(), put.id, int(put.collection), tenant, namespace, put.memory_type, put.coordinate)
        work.add(state)
    elif state.collection == 0 and state.place in work.at:
        work.at[state.place].add(put.id)
    state.version += 1
    state.seq = work.next_seq()
    # what a deleted memory had been is over; what a living one has been stays
    state.hold = put.hold or (state.hold and not created)
    state.access_time = put.ingest_time if created else max(state.access_time, put.ingest_time)
    state.access_count = 0 if created else state.access_count
    state.deleted = False
    state.importance_raw, state.importance_norm, state.normaliser_version = put.importance, norm, normaliser_version
    state.event_time, state.ingest_time, state.expires_at = put.event_time, put.ingest_time, put.expires_at
    state.pinned, state.model_revision = put.pinned, put.model_revision
    state.features = canonical_json(dict(put.features), field="features") if put.features else None
    state.payload, state.text = put.payload, put.search_text
    if put.vector is not None:
        state.vector = put.vector.tobytes()
    work.outbox.append(
        Outgoing(
            state.seq,
            Operation.PUT,
            put.id,
            int(put.collection),
            tenant,
            namespace,
            put.memory_type,
            state.version,
            put.ingest_time,
            previous,
            put.payload,
            created,
            put.coordinate,
            put.event_time,
            put.importance,
            put.model_revision,
            unit.origin,
            unit.trace,
        )
    )
    receipt = Receipt(put.id, state.version, state.seq, created=created, changed=True)
    work.applied.append(Applied(put, receipt, norm))
    return receipt


def _delete(work: Work, delete: Delete, unit: Unit) -> Receipt:
    found = work.states.get(delete.id)
    if found is None or found.deleted:
        version, seq = (0, 0) if found is None else (found.version, found.seq)
        return Receipt(delete.id, version, seq, created=False, changed=False)
    spared = found.hold or found.pinned or found.expires_at is None
    if delete.expired_before is not None and (spared or (found.expires_at or 0.0) > delete.expired_before):
        return Receipt(delete.id, found.version, found.seq, created=False, changed=False)
    if found.hold:
        raise Conflict(
            "the memory is under a legal hold", field="hold", remedy="end the hold first: soma retention hold --end"
        )
    state = work.change(delete.id)
    if state is None:
        raise AssertionError("a state that was found is gone")
    previous = state.seq
    state.version += 1
    state.seq = work.next_seq()
    state.deleted, state.payload, state.text, state.features = True, "null", "", None
    state.vector, state.drops_vector = None, True
    work.past.append(Erased(state.id))
    work.outbox.append(
        Outgoing(
            state.seq,
            Operation.DELETE,
            state.id,
            state.collection,
            state.tenant,
            state.namespace,
            state.memory_type,
            state.version,
            delete.at,
            previous,
            None,
            coordinate=state.coordinate,
            origin=unit.origin,
            trace=unit.trace,
        )
    )
    if not work.lives(state.place):
        work.edges.append(Drop(state.place))
    return Receipt(delete.id, state.version, state.seq, created=False, changed=True)


def _link(work: Work, link: Link, unit: Unit) -> Receipt:
    check_link(link)
    tenant, namespace, edge = link.scope.tenant, link.scope.namespace, link.edge
    source, target = canonical_coordinate(edge.source), canonical_coordinate(edge.target)
    for field, coordinate in (("from_coord", source), ("to_coord", target)):
        if link.between_memories and not work.lives((tenant, namespace, coordinate)):
            raise NotFound(f"{field}: no memory at {coordinate}", field=field, remedy="store the memory, then link it")
    key = identity(link.scope, source, edge.link_type, target)
    seq = work.next_seq()
    work.outbox.append(
        Outgoing(
            seq,
            Operation.LINK,
            key,
            0,
            tenant,
            namespace,
            edge.link_type,
            1,
            link.at,
            None,
            link_body(link),
            origin=unit.origin,
            trace=unit.trace,
        )
    )
    if link.removed:
        work.edges.append(Cut(key))
    else:
        metadata = canonical_json(edge.metadata)
        work.edges.append(
            Join(key, (tenant, namespace, source, edge.link_type, target, edge.weight, metadata, link.at, seq))
        )
    return Receipt(key, 1, seq, created=not link.removed, changed=True)


def _keep_reply(work: Work, key: IdempotencyKey, receipts: Sequence[Receipt]) -> None:
    reply = json.dumps([[r.id.hex, r.version, r.seq, r.created, r.changed] for r in receipts], separators=(",", ":"))
    found = digest(key)
    values = (key.scope.tenant, key.scope.namespace, key.operation, key.key, key.body_hash, reply, key.at)
    work.new_replies.append(Reply(found, values, over=work.replies.get(found) is not None))
    work.replies[found] = (key.body_hash, reply)


def _append_audit(work: Work, entries: Sequence[AuditEntry], audit_tail: Callable[[], AuditTail]) -> None:
    """Appends to the audit chain: each line's hash covers the line before, so that none can be taken out unseen."""
    number, previous = (work.audit[-1][0], work.audit[-1][-1]) if work.audit else audit_tail()
    for entry in entries:
        detail = canonical_json(dict(entry.detail), field="audit")
        digested = line_hash(previous, entry.at, entry.tenant, entry.actor, entry.action, entry.subject, detail)
        number += 1
        work.audit.append(
            (number, entry.at, entry.tenant, entry.actor, entry.action, entry.subject, detail, previous, digested)
        )
        previous = digested
