"""The one rule of times: what is one, which moment it is, and what is refused."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.timestamps import EARLIEST, LATEST, iso_time, own_time, parse_timestamp, shown_time

DAY = 1717977600.0
"""2024-06-10T00:00:00Z."""
AT = 1718000000.0
"""2024-06-10T06:13:20Z."""

VALID: list[tuple[Any, float]] = [
    # numbers, and numbers as text
    (1718000000, AT),
    (1718000000.25, AT + 0.25),
    (0, 0.0),
    (-1, -1.0),
    (-0.0, 0.0),
    (2024, 2024.0),
    (20240610, 20240610.0),
    (-62135596800, EARLIEST),
    (253402300799, 253402300799.0),
    ("1718000000", AT),
    ("1718000000.25", AT + 0.25),
    (" 1718000000\n", AT),
    ("+1718000000", AT),
    ("-1", -1.0),
    ("0", 0.0),
    ("1.718e9", AT),
    ("1.718E+9", AT),
    (".5", 0.5),
    ("5.", 5.0),
    ("100", 100.0),
    ("86400", 86400.0),
    ("2024.0", 2024.0),
    ("999999999", 999999999.0),
    # calendar dates
    ("2024-06-10", DAY),
    ("20240610", DAY),
    ("2024-06", 1717200000.0),
    ("1970-01-01", 0.0),
    ("0001-01-01", EARLIEST),
    ("9999-12-31", 253402214400.0),
    ("2024-02-29", 1709164800.0),
    ("2000-02-29", 951782400.0),
    # week dates and ordinal dates
    ("2024-W24-1", DAY),
    ("2024W241", DAY),
    ("2024-W24", DAY),
    ("2024-w24-1", DAY),
    ("2020-W53-5", 1609459200.0),
    ("2024-162", DAY),
    ("2024-366", 1735603200.0),
    ("2024162T061320Z", AT),
    # date and time
    ("2024-06-10T06:13:20Z", AT),
    ("2024-06-10T06:13:20", AT),
    ("2024-06-10t06:13:20z", AT),
    ("2024-06-10 06:13:20", AT),
    ("2024-06-10  06:13:20 +00:00", AT),
    ("20240610T061320Z", AT),
    ("20240610T0613Z", AT - 20),
    ("20240610T06", DAY + 6 * 3600),
    ("2024-06-10T06", DAY + 6 * 3600),
    ("2024-06-10T06:13", AT - 20),
    ("2024-W24-1T06:13:20Z", AT),
    ("2024W241T061320Z", AT),
    ("2024-162T06:13:20Z", AT),
    ("2024-06T06:13:20Z", 1717200000.0 + 22400),
    ("9999-12-31T23:59:59Z", 253402300799.0),
    ("0001-01-01T00:00:00Z", EARLIEST),
    # the end of a day, and leap seconds
    ("2024-06-10T24:00", DAY + 86400),
    ("2024-06-10T24:00:00Z", DAY + 86400),
    ("2024-06-10T24:00:00.000Z", DAY + 86400),
    ("20240610T2400Z", DAY + 86400),
    ("2024-12-31T24:00Z", 1735689600.0),
    ("2016-12-31T23:59:60Z", 1483228800.0),
    ("2016-12-31T23:59:60.5Z", 1483228800.5),
    ("20161231T235960Z", 1483228800.0),
    ("2017-01-01T05:29:60+05:30", 1483228800.0),
    # fractions of what was written last
    ("2024-06-10T06:13:20.5Z", AT + 0.5),
    ("2024-06-10T06:13:20,5Z", AT + 0.5),
    ("2024-06-10T06:13:20.1234Z", AT + 0.1234),
    ("2024-06-10T06:13:20.123456789012345Z", AT + 0.123456789),
    ("2024-06-10T06:13:20." + "0" * 300 + "Z", AT),
    ("2024-06-10T06:13.5Z", AT - 20 + 30),
    ("2024-06-10T06.5Z", DAY + 6.5 * 3600),
    ("1969-12-31T23:59:59.5Z", -0.5),
    # zones
    ("2024-06-10T06:13:20+00:00", AT),
    ("2024-06-10T06:13:20-00:00", AT),
    ("2024-06-10T08:13:20+02:00", AT),
    ("2024-06-10T08:13:20+0200", AT),
    ("2024-06-10T08:13:20+02", AT),
    ("2024-06-10T01:13:20-05", AT),
    ("2024-06-10T01:13:20\u221205:00", AT),
    ("2024-06-10T11:58:20+05:45", AT),
    ("2024-06-10T06:13:50+00:00:30", AT),
    ("2024-06-10T08+02:00", DAY + 6 * 3600),
    ("2024-06-10T00:00-12:00", DAY + 12 * 3600),
    ("2024-06-11T00:00+14:00", DAY + 10 * 3600),
    ("9999-12-31T23:59:59+14:00", 253402300799.0 - 14 * 3600),
]

INVALID: list[Any] = [
    # no time at all
    None,
    True,
    False,
    [],
    {},
    b"2024-06-10",
    "",
    " ",
    "now",
    "yesterday",
    "nan",
    "inf",
    "-Infinity",
    "1_000",
    "0x10",
    "1e999",
    "\u0661\u0662",
    "1718000000 s",
    # of another unit, or ambiguous
    1796040112345,
    "1796040112345",
    "1796040112345678",
    1796040112345678901,
    "2024",
    "1796",
    # beyond what ISO 8601 can say
    float("nan"),
    float("inf"),
    float("-inf"),
    10**400,
    -(10**400),
    1e300,
    -9e10,
    253402300800,
    -62135596801,
    "-90000000000",
    "0000-01-01",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "9999-12-31T24:00:00Z",
    "9999-12-31T23:59:60Z",
    "10000-01-01",
    "+12024-06-10",
    # no such day
    "2023-02-29",
    "2024-00-10",
    "2024-13-01",
    "2024-06-00",
    "2024-06-31",
    "20241301",
    "86400000",
    "2024-W00-1",
    "2024-W54-1",
    "2023-W53-1",
    "2024-W24-8",
    "2024-000",
    "2023-366",
    "2024-6-1",
    "24-06-10",
    # no such time of the day
    "2024-06-10T25:00",
    "2024-06-10T24:00:01Z",
    "2024-06-10T24:01Z",
    "2024-06-10T06:60Z",
    "2024-06-10T06:13:61Z",
    "2024-06-10T06:13:60Z",
    "2024-06-10T23:59:60+02:00",
    "2024-06-10T6:13",
    "2024-06-10T06:13:",
    "2024-06-10T",
    "2024-06-10TZ",
    "2024-06-10T06:13:20.Z",
    "2024-06-10T0613:20Z",
    "2024-06-10X06:13:20Z",
    "T06:13:20Z",
    # no such zone
    "2024-06-10Z",
    "2024-06-10+02:00",
    "2024-06-10T06:13:20+24:00",
    "2024-06-10T06:13:20+02:60",
    "2024-06-10T06:13:20+2",
    "2024-06-10T06:13:20 Europe/Lisbon",
    "2024-06-10T06:13:20ZZ",
    "2024-06-10T06:13:20." + "1" * 1000 + "Z",
]


@pytest.mark.parametrize(("given", "seconds"), VALID)
def test_a_time_is_understood(given: Any, seconds: float) -> None:
    assert parse_timestamp(given) == pytest.approx(seconds, abs=2.5e-7)


@pytest.mark.parametrize("given", INVALID)
def test_what_is_no_time_is_refused_by_name(given: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_timestamp(given, field="as_of")
    assert caught.value.field == "as_of"
    assert caught.value.remedy
    assert len(caught.value.message) < 200


def test_the_table_is_large() -> None:
    assert len(VALID) >= 80
    assert len(INVALID) >= 70


@pytest.mark.parametrize("given", [1796040112345, "1796040112345"])
def test_milliseconds_are_called_so(given: Any) -> None:
    with pytest.raises(InvalidArgument, match="looks like milliseconds"):
        parse_timestamp(given)


def test_what_is_written_is_read_as_the_same_moment() -> None:
    rng = random.Random(3)
    for _ in range(2000):
        seconds = rng.uniform(EARLIEST, LATEST - 1)
        written = iso_time(seconds)
        assert parse_timestamp(written) == datetime.fromisoformat(written).timestamp()
        assert abs(parse_timestamp(written) - seconds) < 1e-4


@pytest.mark.parametrize("seconds", [EARLIEST, -1.5, 0.0, AT, 253402300799.999])
def test_a_time_is_written_in_utc(seconds: float) -> None:
    assert datetime.fromisoformat(iso_time(seconds)).tzinfo is UTC


@pytest.mark.parametrize("seconds", [-9e10, 1e12, 1e300, float("nan"), float("inf"), EARLIEST - 1, LATEST])
def test_what_has_no_name_is_shown_as_none(seconds: float) -> None:
    assert shown_time(seconds) is None
    with pytest.raises(InvalidArgument):
        iso_time(seconds)


@pytest.mark.parametrize(
    ("payload", "seconds"),
    [
        ({"timestamp": "2024-06-10T06:13:20Z"}, AT),
        ({"timestamp": 1718000000}, AT),
        ({"timestamp": "9999-12-31T23:59:59Z"}, None),
        ({"timestamp": 1796040112345}, None),
        ({"timestamp": "1796040112345"}, None),
        ({"timestamp": 1e300}, None),
        ({"timestamp": 10**400}, None),
        ({"timestamp": "last summer"}, None),
        ({"timestamp": None}, None),
        ({"timestamp": True}, None),
        ({"timestamp": ["2024"]}, None),
        ({}, None),
    ],
)
def test_a_payloads_own_time_counts_where_it_is_one(payload: dict[str, Any], seconds: float | None) -> None:
    assert own_time(payload) == seconds
