"""What goes onto the wire and what is made of what comes from there."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import uuid
from typing import Any

import numpy as np
import pytest

from memory_runtime.engine.ingesting import EventOperation
from memory_runtime.events import codec
from memory_runtime.events.codec import origin_of, told
from memory_runtime.events.dead_letters import Letter, read_letter
from memory_runtime.events.dlq import Position, State, entries_of, marker, position_of
from memory_runtime.events.poison import Poison
from memory_runtime.events.schema import schema_text
from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.records import MemoryRecord, Scope
from memory_runtime.stores.contracts import Change, Collection, Lineage, Operation

ID = uuid.UUID(int=7)
PUBLISHER = codec.Publisher("ledger-a")
CHANGE = Change(
    seq=41,
    operation=Operation.PUT,
    id=ID,
    scope=Scope("acme", "notes"),
    memory_type="semantic",
    version=3,
    at=1_700_000_100.5,
    payload='{"n":1,"text":"tea"}',
    created=False,
    coordinate="1.5,-2.0",
    event_time=1_700_000_000.25,
    importance=2.5,
    model_revision="client",
    trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
RECORD = MemoryRecord(
    id=ID, tenant="acme", namespace="notes", memory_type="semantic", coordinate=(1.5, -2.0), payload={}, importance=2.5,
    importance_norm=1.0, normaliser_version=0, event_time=0.0, ingest_time=0.0, access_time=0.0, access_count=0,
    features={"mood": 0.5}, vector=np.array([0.6, 0.8], np.float32), model_revision="client", pinned=True, version=3,
)  # fmt: skip
BODY: dict[str, Any] = {
    "event_id": "e1",
    "id": "m1",
    "namespace": "notes",
    "type": "created",
    "timestamp": "2023-11-14T22:13:20.25Z",
    "payload": {"text": "tea"},
}


def encoded(change: Change = CHANGE, record: MemoryRecord | None = RECORD) -> codec.Encoded:
    found = codec.encode(change, record, PUBLISHER)
    assert found is not None
    return found


def decoded(body: dict[str, Any] | bytes, *headers: tuple[str, bytes]) -> Any:
    value = body if isinstance(body, bytes) else json.dumps(body).encode()
    return codec.decode(value, headers, "default")


def test_a_change_comes_back_as_it_was() -> None:
    event = encoded()
    found = codec.decode(event.value, event.headers, "default")
    assert event.key == f"acme:{ID}".encode()
    assert (found.scope, found.operation, found.id) == (CHANGE.scope, EventOperation.UPDATED, str(ID))
    assert (found.memory_type, found.coordinate, found.payload) == ("semantic", (1.5, -2.0), {"n": 1, "text": "tea"})
    assert (found.timestamp, found.at, found.importance) == (1_700_000_000.25, 1_700_000_100.5, 2.5)
    assert np.array_equal(np.float32(found.embedding), RECORD.vector)
    assert (found.version, found.origin, found.trace) == (3, "ledger-a", CHANGE.trace)
    assert (dict(found.features), found.pinned, found.hold, found.expires_at) == ({"mood": 0.5}, True, False, None)


def test_the_body_is_version_1_in_canonical_json() -> None:
    event = encoded()
    body = json.loads(event.value)
    assert event.value.decode() == canonical_json(body)
    assert set(body) == {*BODY, "importance", "embedding", "model_revision"}
    assert body["timestamp"] == "2023-11-14T22:13:20.250000+00:00"
    assert body["type"] == "updated"
    assert body["payload"] == {"coordinate": [1.5, -2.0], "memory_type": "semantic", "n": 1, "text": "tea"}
    assert json.loads(schema_text())["additionalProperties"] is False


def test_a_clients_own_fields_are_not_taken_for_ours() -> None:
    payload = {"coordinate": "mine", "memory_type": 7, "text": "tea"}
    event = encoded(dataclasses.replace(CHANGE, payload=canonical_json(payload)))
    found = codec.decode(event.value, event.headers, "default")
    assert found.payload == payload
    assert (found.coordinate, found.memory_type) == ((1.5, -2.0), "semantic")


def test_the_vector_of_a_later_version_is_not_lent_to_an_earlier_event() -> None:
    body = json.loads(encoded(record=dataclasses.replace(RECORD, version=4)).value)
    assert "embedding" not in body


def test_a_delete_says_which_memory_and_nothing_of_it() -> None:
    event = encoded(dataclasses.replace(CHANGE, operation=Operation.DELETE, payload=None), None)
    found = codec.decode(event.value, event.headers, "default")
    assert (found.operation, found.coordinate, found.payload) == (EventOperation.DELETED, (1.5, -2.0), {})


@pytest.mark.parametrize(
    "silent",
    [{"operation": Operation.LINK}, {"origin": "ledger-b"}, {"payload": None}],
    ids=["link", "came as an event", "deleted since"],
)
def test_what_is_not_published(silent: dict[str, Any]) -> None:
    assert codec.encode(dataclasses.replace(CHANGE, **silent), None, PUBLISHER) is None


def test_an_events_id_is_of_its_ledger_its_seq_and_its_history() -> None:
    old, new = Lineage("l1", 10, 0), Lineage("l2", 20, 2)
    one, two = codec.Publisher("a", chain=[old]), codec.Publisher("a", chain=[old, new])

    def named(publisher: codec.Publisher, seq: int, history: str = "") -> str:
        return publisher.id_of(dataclasses.replace(CHANGE, seq=seq, history=history))

    assert named(one, 1, "t1") == named(two, 1, "t1"), "however often it is published, by whatever line"
    names = [named(one, 1, "t1"), named(one, 2, "t1"), named(codec.Publisher("b", chain=[old]), 1, "t1")]
    names += [named(one, 1, "t2"), named(one, 3), named(two, 3), named(codec.Publisher("a"), 1)]
    names += [named(dataclasses.replace(two, restates=True), 1, "t1")]
    assert len(set(names)) == len(names)


def test_headers_say_which_line_of_history_an_event_is_of() -> None:
    chain = [Lineage("l1", 10, 0), Lineage("l2", 20, CHANGE.seq - 1)]

    def told(publisher: codec.Publisher) -> tuple[int, int, int]:
        event = codec.encode(CHANGE, RECORD, publisher)
        assert event is not None
        found = codec.decode(event.value, event.headers, "default")
        return found.epoch, found.forked, found.seq

    assert told(codec.Publisher("a", chain=chain)) == (20, CHANGE.seq - 1, CHANGE.seq)
    assert told(codec.Publisher("a", chain=chain[:1])) == (10, 0, CHANGE.seq)
    assert told(codec.Publisher("a")) == (0, 0, 0)
    later = [*chain, Lineage("l3", 30, CHANGE.seq)]
    assert told(codec.Publisher("a", chain=later, restates=True)) == (30, CHANGE.seq, CHANGE.seq)


def test_without_headers_it_is_a_creation_in_the_default_tenant() -> None:
    found = decoded(BODY)
    assert (found.scope, found.operation) == (Scope("default", "notes"), EventOperation.CREATED)
    assert (found.memory_type, found.collection, found.version, found.origin) == (
        "episodic",
        Collection.MEMORIES,
        0,
        "",
    )
    assert found.coordinate == decoded(BODY | {"event_id": "e2"}).coordinate
    assert found.coordinate != decoded(BODY | {"id": "m2"}).coordinate


@pytest.mark.parametrize(
    "timestamp",
    [1_700_000_000.25, "2023-11-14T22:13:20.250Z", "2023-11-14T22:13:20.250", "2023-11-14T23:13:20.250+01:00"],
)
def test_times_are_taken_as_epoch_or_iso(timestamp: Any) -> None:
    assert decoded(BODY | {"timestamp": timestamp}).timestamp == 1_700_000_000.25


@pytest.mark.parametrize("coordinate", ["1.5,-2", [1.5, -2]])
def test_the_payload_names_coordinate_and_type(coordinate: Any) -> None:
    found = decoded(BODY | {"payload": {"coordinate": coordinate, "memory_type": "semantic"}})
    assert (found.coordinate, found.memory_type) == ((1.5, -2.0), "semantic")


def test_a_frame_of_a_schema_registry_is_taken_off() -> None:
    framed = codec.framed(json.dumps(BODY).encode(), 258)
    assert framed[:5] == b"\x00\x00\x00\x01\x02"
    assert decoded(framed).event_id == "e1"


@pytest.mark.parametrize(
    ("change", "reason", "names"),
    [
        ({"colour": "red"}, "schema", "colour"),
        ({"importance": "high"}, "schema", "importance"),
        ({"payload": []}, "schema", "payload"),
        ({"embedding": [1.0, "x"]}, "schema", "embedding.1"),
        ({"timestamp": "yesterday"}, "invalid", "timestamp"),
        ({"timestamp": 1.7e15}, "invalid", "timestamp"),
        ({"namespace": "a\x1fb"}, "invalid", "namespace"),
    ],
)
def test_poison_names_what_is_wrong(change: dict[str, Any], reason: str, names: str) -> None:
    with pytest.raises(Poison, match=names) as caught:
        decoded(BODY | change)
    assert caught.value.reason == reason


def test_what_people_remember_is_not_in_the_reason() -> None:
    for change in (
        {"payload": "a secret of mine"},
        {"importance": "a secret of mine"},
        {"event_id": ["a secret of mine"]},
    ):
        with pytest.raises(Poison) as caught:
            decoded(BODY | change)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("missing", BODY)
def test_what_is_missing_is_named(missing: str) -> None:
    with pytest.raises(Poison, match=missing):
        decoded({name: value for name, value in BODY.items() if name != missing})


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (("schema-version", b"2"), "schema_version"),
        (("op", b"renamed"), "header"),
        (("record-version", b"-1"), "header"),
        (("tenant", b"\xff"), "header"),
        (("tenant", b""), "invalid"),
        (("collection", b"9"), "header"),
        (("coordinate", b"1,x"), "header"),
        (("coordinate", b"nan"), "header"),
        (("coordinate", b"9" * 400), "header"),
        (("record-version", b"9223372036854775808"), "header"),
        (("record-version", b"9" * 5000), "header"),
        (("committed-at", b"nan"), "header"),
        (("committed-at", b"1e300"), "header"),
        (("origin", b"o" * 6000), "header"),
        (("origin", b"a\0b"), "header"),
        (("attributes", b'{"features":' + b"[" * 5000 + b"]" * 5000 + b"}"), "header"),
        (("attributes", b'{"expires_at": Infinity}'), "header"),
        (("attributes", b'{"expires_at": 1e999}'), "invalid"),
        (("attributes", b'{"expires_at": ' + b"9" * 400 + b"}"), "invalid"),
        (("committed-at", b"soon"), "header"),
        (("attributes", b'{"pinned": 1}'), "header"),
        (("attributes", b'{"owner": "me"}'), "header"),
        (("attributes", b"{"), "header"),
    ],
)
def test_a_header_that_is_wrong_is_poison(header: tuple[str, bytes], reason: str) -> None:
    with pytest.raises(Poison) as caught:
        decoded(BODY, header)
    assert caught.value.reason == reason


def test_a_foreign_header_may_hold_anything() -> None:
    assert decoded(BODY, ("theirs", b"\xff\x00")).event_id == "e1"


@pytest.mark.parametrize("value", [b"", b"\xff", b"NaN", b'{"event_id":NaN}', b"[" * 5000, b'"\\ud800"', b"null", b"7"])
def test_bytes_that_are_no_event_are_poison(value: bytes) -> None:
    with pytest.raises(Poison):
        decoded(value)


def test_a_record_without_a_value_is_poison() -> None:
    with pytest.raises(Poison):
        codec.decode(None, [], "default")


@pytest.mark.parametrize("seed", range(4))
def test_an_event_with_a_few_bytes_changed_is_an_event_or_poison(seed: int) -> None:
    dice = random.Random(seed)
    event = encoded()
    for _ in range(250):
        value, headers = bytearray(event.value), [(name, bytearray(said)) for name, said in event.headers]
        for target in (value, *(said for _, said in headers)):
            if dice.random() < 0.2:
                target[dice.randrange(len(target))] = dice.randrange(256)
        with contextlib.suppress(Poison):
            codec.decode(bytes(value), [(name, bytes(said)) for name, said in headers], "default")


class Record:
    """A record as aiokafka gives it."""

    def __init__(self, offset: int, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        self.partition, self.offset, self.value, self.headers = 0, offset, value, headers
        self.key, self.timestamp = b"k", 1_700_000_000_000


LETTER = Letter(
    "refused", "it is held", "consumer", "memory.events", 2, 99, 1_700_000_000.5, b"k", b"\x00raw", [("x", b"\xff")], 2
)


def test_a_dead_letter_keeps_bytes_headers_and_reason() -> None:
    found = read_letter(Record(5, LETTER.value, LETTER.record_headers()))
    assert found == LETTER
    assert found.original_headers() == [("x", b"\xff")]
    again = read_letter(Record(6, LETTER.value, dataclasses.replace(found, attempts=3).record_headers()))
    assert again.original_headers() == [("x", b"\xff")]


def test_what_another_program_put_there_is_still_shown() -> None:
    found = read_letter(Record(5, b"?", [("dlq-partition", b"many")]))
    assert (found.reason, found.value, found.partition) == ("unknown", b"?", -1)


def test_a_marker_settles_the_letter_that_it_names() -> None:
    records = [Record(0, b"a", LETTER.record_headers()), Record(1, b"b", LETTER.record_headers())]
    records.append(Record(2, None, marker(Position(0, 1), State.REPLAYED)))
    assert [(str(one.position), one.state) for one in entries_of(records)] == [("0:0", "waiting"), ("0:1", "replayed")]


@pytest.mark.parametrize("text", ["", "1", "1:", "a:1", "1:-1"])
def test_a_letters_position_is_checked(text: str) -> None:
    with pytest.raises(InvalidArgument, match="partition:offset"):
        position_of(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("importance", 10**400),
        ("event_id", "a\0b"),
        ("model_revision", "a\0b"),
        ("payload", {"text": "tea", "coordinate": [10**400]}),
        ("timestamp", 10**400),
        ("timestamp", -9e10),
    ],
)
def test_a_value_beyond_what_a_ledger_holds_is_poison(field: str, value: Any) -> None:
    with pytest.raises(Poison) as caught:
        decoded(BODY | {field: value})
    assert caught.value.reason == "invalid"


def test_a_header_of_no_value_is_as_if_it_were_not_there() -> None:
    headers: list[tuple[str, bytes | None]] = [("origin", None), ("tenant", None), ("added", None)]
    assert origin_of(headers) == ""
    assert told(canonical_json(BODY).encode(), headers, "default").scope.tenant == "default"


def test_a_trace_that_is_none_costs_no_memory() -> None:
    assert decoded(BODY, ("traceparent", b"\xc3\xa9" * 200)).trace == ""


def test_a_defect_while_reading_is_said_of_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "parse", lambda _: 1 // 0)
    with pytest.raises(Poison, match="ZeroDivisionError") as caught:
        told(b"{}", [], "default")
    assert caught.value.reason == "defect"
