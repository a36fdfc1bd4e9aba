"""Times, coordinates and error texts as the HTTP surface reads and writes them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_runtime.model.errors import InvalidArgument, RateLimited, Unauthenticated
from memory_runtime.model.timestamps import iso_time, parse_timestamp
from memory_runtime.surfaces.explanations import plain
from memory_runtime.surfaces.http.errors import describe_validation, error_headers
from memory_runtime.surfaces.http.requests import RecallBody, StoreBody
from memory_runtime.surfaces.http.routes_verbs import derived_coordinate


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (1718000000, 1718000000.0),
        (1718000000.25, 1718000000.25),
        ("1718000000.5", 1718000000.5),
        ("2024-06-10T06:13:20Z", 1718000000.0),
        ("2024-06-10T08:13:20+02:00", 1718000000.0),
        ("2024-06-10T06:13:20", 1718000000.0),
        ("2024-06-10", 1717977600.0),
        (-86400, -86400.0),
    ],
)
def test_time_is_epoch_seconds_or_iso_8601(written, seconds):
    assert parse_timestamp(written) == seconds


@pytest.mark.parametrize("written", ["soon", "", True, None, [], math.nan, math.inf, 10**400, 1718000000000, "9" * 400])
def test_what_is_no_time_is_refused_by_name(written):
    with pytest.raises(InvalidArgument) as refused:
        parse_timestamp(written, field="as_of")
    assert refused.value.field == "as_of"
    assert refused.value.remedy


@given(st.floats(-6e10, 2.5e11))
def test_time_written_back_reads_the_same_to_the_microsecond(seconds):
    assert parse_timestamp(iso_time(seconds)) == pytest.approx(seconds, abs=2e-6, rel=1e-14)


def test_derived_coordinate_depends_on_content_and_not_on_key_order():
    assert derived_coordinate({"a": 1, "b": 2}) == derived_coordinate({"b": 2, "a": 1})
    assert derived_coordinate({"a": 1}) != derived_coordinate({"a": 2})


def test_absent_options_leave_the_engines_item_as_the_old_service_made_it():
    item = StoreBody(coord="1,2", payload={"text": "a"}).to_item()
    assert (item.timestamp, item.importance, item.vector, item.features, item.ttl) == (None,) * 5
    assert (item.memory_type, item.pinned, item.hold) == ("episodic", False, False)


@pytest.mark.parametrize("value", [True, "3", None, [1], 10**400])
def test_payload_fields_that_are_no_numbers_stay_the_callers_own(value):
    item = StoreBody(coord="1", payload={"importance": value, "timestamp": [value]}).to_item()
    assert (item.importance, item.timestamp) == (None, None)


def test_half_life_none_switches_decay_off_and_absent_leaves_it():
    assert RecallBody(query="a", half_life="none").to_request().half_life is None
    assert RecallBody(query="a", half_life="1d").to_request().half_life == 86400.0
    assert RecallBody(query="a").to_request().half_life is not None


def test_validation_message_never_repeats_the_input():
    detail, field, remedy = describe_validation(
        {"type": "string_type", "loc": ("body", "items", 0, "coord"), "msg": "Input should be text", "input": "s3cret"}
    )
    assert (detail, field) == ("items.0.coord: Input should be text", "items.0.coord")
    assert "s3cret" not in detail + str(remedy)


def test_error_headers_say_how_to_authenticate_and_when_to_return():
    assert error_headers(Unauthenticated("x")) == {"WWW-Authenticate": "Bearer"}
    assert error_headers(RateLimited("x", retry_after=0.2)) == {"Retry-After": "1"}


def test_numbers_that_json_cannot_carry_become_null():
    assert plain({"a": math.inf, "b": [math.nan, 1.5]}) == {"a": None, "b": [None, 1.5]}
