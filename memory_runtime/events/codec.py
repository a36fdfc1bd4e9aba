"""Between a change of the ledger, an event on the wire and an event to apply: functions of values.

The body is schema version 1, canonical JSON, with `coordinate` and `memory_type` among the payload's fields as the
service we replace put them there. What the body has no room for travels as headers, each text in UTF-8; all of them
may be missing, which means a creation in the default tenant (wire-compat.md, section 4).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from memory_runtime.engine.ingesting import EventOperation, IncomingEvent
from memory_runtime.events.poison import Poison
from memory_runtime.events.schema import SCHEMA_VERSION, parse
from memory_runtime.model.canonical import canonical_json, parse_json
from memory_runtime.model.coordinates import Coordinate, coordinate_from_canonical, make_coordinate, parse_coordinate
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.records import MemoryRecord, Scope
from memory_runtime.model.timestamps import iso_time, parse_timestamp
from memory_runtime.stores.contracts import Change, Collection, Lineage, Operation
from memory_runtime.stores.lineages import lineage_of

log = logging.getLogger(__name__)
Headers = list[tuple[str, bytes]]

TENANT: Final = "tenant"
OP: Final = "op"
RECORD_VERSION: Final = "record-version"
SCHEMA: Final = "schema-version"
ORIGIN: Final = "origin"
TRACE: Final = "traceparent"
COMMITTED_AT: Final = "committed-at"
MEMORY_TYPE: Final = "memory-type"
COORDINATE: Final = "coordinate"
COLLECTION: Final = "collection"
SEQ: Final = "seq"
HISTORY: Final = "history"
EPOCH: Final = "lineage-epoch"
FORKED: Final = "lineage-forked"
"""Of the line of history (`stores.lineages`) that the change is of: its order, and after which seq it began."""
ADDED: Final = "added"
"""Which fields were put into the payload for readers of the body, and are not of the memory."""
ATTRIBUTES: Final = "attributes"
"""JSON: features, pinned, hold, expires_at, those that differ from nothing."""

_MAGIC: Final = 0
_PREFIX_BYTES: Final = 5
_OURS: Final = frozenset(
    {TENANT, OP, RECORD_VERSION, SCHEMA, ORIGIN, TRACE, COMMITTED_AT}
    | {MEMORY_TYPE, COORDINATE, COLLECTION, ADDED, ATTRIBUTES, SEQ, HISTORY, EPOCH, FORKED}
)
_KINDS: Final[dict[str, Any]] = {"features": dict, "pinned": bool, "hold": bool, "expires_at": (int, float)}
_MAX_ORIGIN: Final = 256
_MAX_TRACE: Final = 256
_MAX_WHOLE: Final = 2**63 - 1
_MAX_DIGITS: Final = 20
_TYPES: Final = frozenset(one.value for one in EventOperation)
_DEFAULT_TYPE: Final = "episodic"


class Encoded(NamedTuple):
    """An event as Kafka takes it."""

    key: bytes
    value: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who publishes: the ledger's identity, and the registry's id of the schema where there is a registry.

    `chain` are the lines of its history; `restates` says that what is published is what the newest of them holds in
    the place of an abandoned future: an event of its own, later than all of that.
    """

    origin: str
    schema_id: int | None = None
    chain: Sequence[Lineage] = ()
    restates: bool = False

    def line_of(self, change: Change) -> Lineage:
        """The line that the event is of."""
        return self.chain[-1] if self.restates else lineage_of(self.chain, change.seq)

    def id_of(self, change: Change) -> str:
        """The id of the event of a change: the same however often it is published, and no other change has it.

        A seq stands for another change after a restore, or a fail-over that lost commits; the token of its group does
        not. Where the token was trimmed, the line of history tells them apart.
        """
        told = [self.origin, str(change.seq)]
        if self.restates:
            told += [self.chain[-1].id, change.id.hex]
        elif change.history or self.line_of(change).id:
            told.append(change.history or self.line_of(change).id)
        return str(uuid.uuid5(uuid.NAMESPACE_OID, "\x1f".join(told)))


def encode(change: Change, record: MemoryRecord | None, publisher: Publisher) -> Encoded | None:
    """The event of a change, or None where there is nothing to say.

    `record` is the memory as it is now, which lends vector and attributes where it is still of this version. Nothing
    is said of links, of changes that came as events themselves, and of a memory that has been deleted since: its
    delete follows, and what was deleted must not be readable from the topic. Raises Poison for what can never pass.
    """
    if change.operation is Operation.LINK or change.origin:
        return None
    if change.operation is Operation.PUT and change.payload is None:
        return None
    current = record if record is not None and record.version == change.version else None
    try:
        body, added = _body(change, publisher)
    except InvalidArgument as error:
        raise Poison("invalid", error.message) from None
    vector = None if current is None or change.operation is not Operation.PUT else current.vector
    if vector is not None and current is not None:
        body["model_revision"] = current.model_revision
    try:
        text = canonical_json(body, field="event")
    except InvalidArgument as error:
        raise Poison("schema", error.message) from None
    if vector is not None:
        # its key sorts before all others; as text of its own it costs a quarter of what it would inside of the body
        text = f'{{"embedding":{json.dumps(vector.tolist(), separators=(",", ":"))},{text[1:]}'
    return Encoded(
        key=f"{change.scope.tenant}:{change.id}".encode(),
        value=framed(text.encode(), publisher.schema_id),
        headers=_headers(change, current, publisher, added),
    )


def _operation(change: Change) -> EventOperation:
    if change.operation is Operation.DELETE:
        return EventOperation.DELETED
    return EventOperation.CREATED if change.created else EventOperation.UPDATED


def _body(change: Change, publisher: Publisher) -> tuple[dict[str, Any], list[str]]:
    payload: dict[str, Any] = json.loads(change.payload) if change.payload is not None else {}
    extra: dict[str, Any] = {"memory_type": change.memory_type}
    if change.coordinate:
        extra["coordinate"] = list(coordinate_from_canonical(change.coordinate))
    added = [name for name in extra if name not in payload]
    body: dict[str, Any] = {
        "event_id": publisher.id_of(change),
        "id": str(change.id),
        "namespace": change.scope.namespace,
        "type": _operation(change).value,
        "timestamp": iso_time(change.at if change.event_time is None else change.event_time),
        "payload": {**payload, **{name: extra[name] for name in added}},
    }
    if change.importance is not None:
        body["importance"] = change.importance
    return body, added


def _headers(change: Change, record: MemoryRecord | None, publisher: Publisher, added: Sequence[str]) -> Headers:
    line = publisher.line_of(change)
    # a restatement is of no change after the fork: nothing later may make it one of an abandoned future
    seq = line.forked if publisher.restates else change.seq
    named = {
        TENANT: change.scope.tenant,
        OP: _operation(change).value,
        RECORD_VERSION: str(change.version),
        SCHEMA: str(SCHEMA_VERSION),
        ORIGIN: publisher.origin,
        SEQ: str(seq) if line.epoch else "",
        HISTORY: change.history,
        EPOCH: str(line.epoch) if line.epoch else "",
        FORKED: str(line.forked) if line.epoch else "",
        TRACE: change.trace,
        COMMITTED_AT: repr(change.at),
        MEMORY_TYPE: change.memory_type,
        COORDINATE: change.coordinate,
        COLLECTION: "" if change.collection is Collection.MEMORIES else str(int(change.collection)),
        ADDED: ",".join(added),
        ATTRIBUTES: _attributes(record),
    }
    return [(name, text.encode()) for name, text in named.items() if text]


def _attributes(record: MemoryRecord | None) -> str:
    if record is None:
        return ""
    said = {"features": record.features, "pinned": record.pinned, "hold": record.hold, "expires_at": record.expires_at}
    kept = {name: value for name, value in said.items() if value}
    return canonical_json(kept, field="attributes") if kept else ""


def framed(value: bytes, schema_id: int | None) -> bytes:
    """The value as the registry's clients expect it: a zero byte and the schema's id before it, where there is one."""
    return value if schema_id is None else bytes([_MAGIC]) + schema_id.to_bytes(4, "big") + value


def unframed(value: bytes) -> bytes:
    """The JSON of a value, framed or not: JSON never begins with a zero byte."""
    return value[_PREFIX_BYTES:] if len(value) > _PREFIX_BYTES and value[0] == _MAGIC else value


def origin_of(headers: Sequence[tuple[str, bytes | None]]) -> str:
    """Which ledger published it; empty where no one says. Cheap: asked of every record before anything is parsed."""
    for name, value in headers:
        if name == ORIGIN and value is not None:
            return value.decode(errors="replace")
    return ""


def told_of(headers: Sequence[tuple[str, bytes | None]]) -> tuple[int, int]:
    """Epoch and seq of the change that an event of ours tells of; zeros where it does not say."""
    said = {name: value for name, value in headers if name in {EPOCH, SEQ} and value is not None}
    if not all(value.isdigit() and len(value) < _MAX_DIGITS for value in said.values()):
        return 0, 0
    return int(said.get(EPOCH, b"0")), int(said.get(SEQ, b"0"))


def told(value: bytes | None, headers: Sequence[tuple[str, bytes | None]], default_tenant: str) -> IncomingEvent:
    """`decode`, of a record that may hold anything: whatever goes wrong is said of this record. Raises Poison."""
    try:
        return decode(value, headers, default_tenant)
    except Poison:
        raise
    except Exception as error:
        log.exception("an event met a defect while it was read: %s", type(error).__name__)
        raise Poison("defect", f"the event could not be read: {type(error).__name__}") from None


def decode(value: bytes | None, headers: Sequence[tuple[str, bytes | None]], default_tenant: str) -> IncomingEvent:
    """The event to apply. Raises Poison, naming the field or header, for what is not one."""
    if value is None:
        raise Poison("not_json", "the record has no value")
    said = _said(headers)
    if said.get(SCHEMA, "1") != str(SCHEMA_VERSION):
        raise Poison("schema_version", f"{SCHEMA}: {said[SCHEMA]!r} is not a version that this consumer knows (1)")
    body = parse(unframed(value))
    payload = body["payload"]
    try:
        scope = Scope(said.get(TENANT, default_tenant), body["namespace"])
        memory_type, coordinate = _place(body, payload, said)
        for name in filter(None, said.get(ADDED, "").split(",")):
            payload.pop(name, None)
        return IncomingEvent(
            event_id=_plain(body["event_id"], "event_id"),
            scope=scope,
            operation=_operation_said(said),
            id=body["id"],
            memory_type=memory_type,
            coordinate=coordinate,
            payload=payload,
            timestamp=parse_timestamp(body["timestamp"]),
            importance=_number(body.get("importance"), "importance"),
            embedding=body.get("embedding"),
            model_revision=_plain(body.get("model_revision", ""), "model_revision"),
            collection=_collection_said(said),
            version=_whole(said, RECORD_VERSION),
            origin=_origin_said(said),
            at=_committed_said(said),
            trace=_trace_said(said),
            epoch=_whole(said, EPOCH),
            forked=_whole(said, FORKED),
            seq=_whole(said, SEQ),
            **_attributes_said(said),
        )
    except InvalidArgument as error:
        raise Poison("invalid", error.message) from None
    except ValueError as error:
        raise Poison("header", str(error)) from None


def _said(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    said = {}
    for name, value in headers:
        if name in _OURS and value is not None:
            try:
                said[name] = value.decode()
            except UnicodeDecodeError:
                raise Poison("header", f"{name}: not UTF-8") from None
    return said


def _operation_said(said: Mapping[str, str]) -> EventOperation:
    text = said.get(OP, EventOperation.CREATED.value)
    if text not in _TYPES:
        raise Poison("header", f"{OP}: {text!r} is none of created, updated, deleted")
    return EventOperation(text)


def _whole(said: Mapping[str, str], name: str) -> int:
    text = said.get(name, "0")
    if not text.isascii() or not text.isdigit():
        raise Poison("header", f"{name}: {text!r} is not a whole number")
    number = int(text)
    if number > _MAX_WHOLE:
        raise Poison("header", f"{name}: {text[:40]} is larger than {_MAX_WHOLE}")
    return number


def _collection_said(said: Mapping[str, str]) -> Collection:
    number = _whole(said, COLLECTION)
    try:
        return Collection(number)
    except ValueError:
        raise Poison("header", f"{COLLECTION}: {number} is not a collection") from None


def _committed_said(said: Mapping[str, str]) -> float | None:
    try:
        return parse_timestamp(said[COMMITTED_AT], field=COMMITTED_AT) if COMMITTED_AT in said else None
    except InvalidArgument as error:
        raise Poison("header", error.message) from None


def _number(value: float | None, field: str) -> float | None:
    """The number as a float: JSON's whole numbers have no bound, ours have."""
    try:
        number = None if value is None else float(value)
    except OverflowError:
        number = math.inf
    if number is not None and not math.isfinite(number):
        raise InvalidArgument(f"{field}: larger than a number may be", field=field)
    return number


def _plain(text: str, field: str) -> str:
    if "\0" in text:
        raise InvalidArgument(f"{field}: holds NUL", field=field)
    return text


def _origin_said(said: Mapping[str, str]) -> str:
    origin = said.get(ORIGIN, "")
    if len(origin) > _MAX_ORIGIN or "\0" in origin:
        raise Poison("header", f"{ORIGIN}: longer than {_MAX_ORIGIN} characters, or holds NUL")
    return origin


def _trace_said(said: Mapping[str, str]) -> str:
    """The trace context; what cannot be one is left out, because no memory may be lost for a trace."""
    trace = said.get(TRACE, "")
    return trace if len(trace) <= _MAX_TRACE and trace.isascii() and trace.isprintable() else ""


def _attributes_said(said: Mapping[str, str]) -> dict[str, Any]:
    if ATTRIBUTES not in said:
        return {}
    try:
        kept = parse_json(said[ATTRIBUTES], field=ATTRIBUTES)
    except InvalidArgument as error:
        raise Poison("header", error.message) from None
    if not isinstance(kept, dict) or not all(isinstance(kept[name], _KINDS.get(name, ())) for name in kept):
        raise Poison("header", f"{ATTRIBUTES}: not an object of {', '.join(_KINDS)}")
    if "expires_at" in kept:
        kept["expires_at"] = parse_timestamp(kept["expires_at"], field=f"{ATTRIBUTES}.expires_at")
    return kept


def _place(body: Mapping[str, Any], payload: Mapping[str, Any], said: Mapping[str, str]) -> tuple[str, Coordinate]:
    """Memory type and coordinate: as the headers say, else as the payload does, else made from type and id."""
    memory_type = said.get(MEMORY_TYPE) or payload.get("memory_type")
    if not isinstance(memory_type, str) or not memory_type:
        memory_type = _DEFAULT_TYPE if body["type"] in _TYPES else body["type"]
    if COORDINATE in said:
        try:
            return memory_type, parse_coordinate(said[COORDINATE], field=COORDINATE)
        except InvalidArgument as error:
            raise Poison("header", error.message) from None
    given = payload.get("coordinate")
    if isinstance(given, str) and _are_numbers(given):
        return memory_type, parse_coordinate(given, field="payload.coordinate")
    if isinstance(given, list) and given and all(isinstance(one, int | float) for one in given):
        return memory_type, make_coordinate(given, field="payload.coordinate")
    return memory_type, coordinate_of_id(body["id"])


def _are_numbers(text: str) -> bool:
    try:
        return bool([float(part) for part in text.split(",")])
    except ValueError:
        return False


def coordinate_of_id(identity: str) -> Coordinate:
    """The coordinate of a memory that an event names by id alone: four whole numbers below 2^48 out of its SHA-256."""
    digest = hashlib.sha256(identity.encode()).digest()
    return tuple(float(int.from_bytes(digest[at : at + 6], "big")) for at in (0, 6, 12, 18))
