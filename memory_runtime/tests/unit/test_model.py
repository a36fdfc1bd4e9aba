"""The words of the runtime: durations, coordinates, ids, canonical JSON, the one table of errors."""

from __future__ import annotations

import math
import uuid

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_runtime.model import errors
from memory_runtime.model.canonical import canonical_json, content_hash, parse_json
from memory_runtime.model.coordinates import (
    canonical_coordinate,
    coordinate_from_canonical,
    make_coordinate,
    memory_id,
    parse_coordinate,
)
from memory_runtime.model.duration import format_duration, parse_duration, parse_half_life
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.records import Scope


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("15m", 900),
        ("12h", 43200),
        ("30d", 2592000),
        ("2w", 1209600),
        ("1y", 31557600),
        ("1.5d", 129600),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "d", "-3d", "3 d", "30D", "1e3s", "30d ", "٣d", "nan", ".5d", "1" * 40 + "d"]
)
def test_what_is_not_a_duration_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_duration(text, field="ttl")
    assert caught.value.field == "ttl"
    assert "30d" in str(caught.value.remedy)


@given(st.integers(1, 10**9))
def test_written_durations_read_back(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


def test_no_half_life_is_written_none_and_zero_is_refused() -> None:
    assert parse_half_life("none") is None
    with pytest.raises(InvalidArgument):
        parse_half_life("0d")


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_a_coordinate_survives_its_text(values: list[float]) -> None:
    coordinate = make_coordinate(values)
    assert coordinate_from_canonical(canonical_coordinate(coordinate)) == coordinate
    assert parse_coordinate(canonical_coordinate(coordinate)) == coordinate


def test_minus_zero_is_zero_so_that_it_is_the_same_memory() -> None:
    assert canonical_coordinate(make_coordinate([-0.0, 1])) == "0.0,1.0"


@pytest.mark.parametrize("text", ["", "a", "1,,2", "nan,1", "1,inf", "1;2", ","])
def test_a_bad_coordinate_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_coordinate(text, field="from_coord")
    assert caught.value.field == "from_coord"


def test_the_id_is_the_scope_the_type_and_the_coordinate() -> None:
    ids = {
        memory_id(tenant, namespace, kind, coordinate)
        for tenant in ("a", "b")
        for namespace in ("a", "b")
        for kind in ("a", "b")
        for coordinate in ("1.0", "2.0")
    }
    assert len(ids) == 16
    # fixed for good: every ledger on earth holds ids made this way
    assert memory_id("default", "api_ns", "episodic", "1.0,2.0,3.0") == uuid.UUID(
        "ffbabfb7-d77c-5161-9010-02a648d5c87a"
    )


@pytest.mark.parametrize("name", ["", "a\x1fb", "a\nb", "x" * 257, "\u202eevil"])
def test_a_scope_with_a_name_that_could_collide_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        Scope(name, "ns")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), _json, max_size=4))
def test_canonical_json_does_not_know_the_order_of_keys_and_round_trips(value: dict[str, object]) -> None:
    try:
        text = canonical_json(value)
    except InvalidArgument:
        return  # a lone surrogate
    assert canonical_json(dict(reversed(value.items()))) == text
    assert parse_json(text) == value
    assert content_hash(value) == content_hash(dict(reversed(value.items())))


def test_canonical_json_refuses_what_json_cannot_say() -> None:
    deep: object = "x"
    for _ in range(70):
        deep = [deep]
    for bad in (math.nan, {"a": math.inf}, {"a": {1, 2}}, {"a": deep}, "\ud800"):
        with pytest.raises(InvalidArgument):
            canonical_json(bad)
    with pytest.raises(InvalidArgument):
        parse_json('{"a": NaN}')
    with pytest.raises(InvalidArgument):
        parse_json("[" * 100_000)


def test_every_error_has_one_row_in_the_table_and_the_numbers_are_grpcs() -> None:
    kinds = {kind.code for kind in errors.SomaError.__subclasses__()}
    assert kinds == set(errors.STATUS_TABLE)
    by_name = {code.name: code.value[0] for code in grpc.StatusCode}
    for status in errors.STATUS_TABLE.values():
        assert by_name[status.grpc] == status.grpc_number


def test_the_error_body_names_field_and_remedy() -> None:
    error = errors.NotFound("no memory", field="coord", remedy="store it")
    assert error.body() == {"detail": "no memory", "code": "NOT_FOUND", "field": "coord", "remedy": "store it"}
    assert error.status.http == 404
