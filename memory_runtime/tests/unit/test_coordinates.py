"""What float64 cannot tell apart is refused at every door: two coordinates never become one memory unsaid."""

from __future__ import annotations

import itertools
import json
import struct
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_runtime.events.codec import _place
from memory_runtime.model.coordinates import (
    canonical_coordinate,
    make_coordinate,
    parse_coordinate,
    received_coordinate,
)
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.surfaces.cli.importing import _coord
from memory_runtime.surfaces.http.requests import CoordsBody, ExportLine

TWO_53 = 2**53
LINE = {"payload": {}, "memory_type": "episodic", "importance_norm": 1.0, "ingested": 1.0, "accessed": 1.0}

TAKEN = [
    ("1", 1.0),
    ("-7", -7.0),
    ("-0.0", 0.0),
    ("-0", 0.0),
    ("0e999", 0.0),
    (" 1 ", 1.0),
    ("1_000", 1000.0),
    (str(TWO_53), float(TWO_53)),
    (str(-TWO_53), float(-TWO_53)),
    ("9007199254740991.0", 9007199254740991.0),
    ("0.1", 0.1),
    ("0.10", 0.1),
    ("0.10000000000000001", 0.1),
    ("0.1000000000000000055511151231257827", 0.1),
    ("0.1000000000000000055511151231257827021181583404541015625", 0.1),
    ("0.1000000000000000055511151231257827021181583404541015625000", 0.1),
    ("0.30000000000000004", 0.1 + 0.2),
    ("1e300", 1e300),
    ("1E+300", 1e300),
    ("1.0987654321098765e+18", 1098765432109876543.0),
    ("5e-324", 5e-324),
    ("-2.2250738585072014e-308", -2.2250738585072014e-308),
]
REFUSED = [
    "1098765432109876543",
    "1098765432109876544",
    "-1098765432109876543",
    "1098765432109876543.0",
    "1098765432109876480.0",
    "1.098765432109876543e18",
    "1098765432109876543e0",
    "0001098765432109876543",
    "1_098_765_432_109_876_543",
    str(TWO_53 + 1),
    f"{TWO_53 + 1}.0",
    str(TWO_53 + 2),
    "9007199254740991.5",
    "0.10000000000000000123",
    "0.10000000000000000000001",
    "3.14159265358979323846",
    "0.10000000000000004",
    "1e-400",
    "1.7e-323",
    "1e400",
    "9" * 5000,
    "0." + "1" * 5000,
]


@pytest.mark.parametrize(("text", "value"), TAKEN)
def test_a_number_that_float64_holds_is_taken(text: str, value: float) -> None:
    assert parse_coordinate(f"1,{text},2") == (1.0, value, 2.0)
    assert canonical_coordinate(parse_coordinate(text)) == repr(value)


@pytest.mark.parametrize("text", REFUSED)
def test_a_number_that_float64_does_not_hold_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_coordinate(f"1,{text}", field="to_coord")
    assert caught.value.field == "to_coord"
    assert len(caught.value.message) < 300
    assert caught.value.remedy


def near(value: float) -> list[str]:
    """Texts of numbers near a float, of many lengths, and its own."""
    exact = Decimal(value)
    texts = [f"{value:.{digits}e}" for digits in range(14, 24)] + [repr(value), str(exact)]
    if abs(value) < 1e25:
        texts += [f"{exact:f}", *(str(int(value) + more) for more in range(-3, 4))]
        texts += [f"{value:.{digits}f}" for digits in (0, 1, 5, 20)]
    return texts


@given(
    st.one_of(
        st.floats(allow_nan=False, allow_infinity=False),
        st.floats(min_value=2.0**50, max_value=2.0**70),
        st.integers(min_value=-(2**70), max_value=2**70).map(float),
    )
)
def test_of_two_texts_of_one_float_one_is_refused_or_both_say_that_float(value: float) -> None:
    """Taken texts of one float are its shortest text and, below 2^53, correctly rounded prints of it: nothing else."""
    taken: dict[float, set[Decimal]] = {}
    for text in near(value):
        try:
            (found,) = parse_coordinate(text)
        except InvalidArgument:
            continue
        taken.setdefault(found, set()).add(Decimal(text))
    assert value + 0.0 in taken, "its own text is taken"
    for found, written in taken.items():
        assert abs(found) <= TWO_53 or written == {Decimal(repr(found))}
        for one, other in itertools.combinations(written, 2):
            longer = one if len(one.as_tuple().digits) > len(other.as_tuple().digits) else other
            # a print of the float: read as a number of more digits, it is the float to within its last digit
            assert abs(longer - Decimal(found)) <= Decimal(1).scaleb(longer.as_tuple().exponent)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [TWO_53 + 1, 1098765432109876543, -1098765432109876544, 2**1024])
def test_an_integer_stays_one_until_it_is_known_that_a_float_holds_it(number: int) -> None:
    body = json.loads(json.dumps({"coordinate": [1, number], "coords": [[1, number]]}))
    doors: list[Any] = [
        lambda: make_coordinate([1, number]),
        lambda: ExportLine(coordinate=body["coordinate"], **LINE).exported(),
        lambda: make_coordinate(CoordsBody(coords=body["coords"]).coords[0]),  # type: ignore[arg-type]
        lambda: _place({"type": "memory", "id": "x"}, {"coordinate": body["coordinate"]}, {}),
        lambda: _place({"type": "memory", "id": "x"}, {"coordinate": f"1,{number}"}, {}),
        lambda: parse_coordinate(_coord({"coordinate": body["coordinate"]})),
    ]
    for door in doors:
        with pytest.raises(InvalidArgument):
            door()


def test_an_export_of_before_goes_in_again() -> None:
    kept = json.loads(json.dumps({"coordinate": [1e300, 1.0987654321098765e18, 1]}))
    assert ExportLine(**kept, **LINE).exported().item.coordinate == (1e300, 1.0987654321098765e18, 1.0)
    assert _coord(kept) == "1e+300,1.0987654321098765e+18,1"


@pytest.mark.parametrize("number", [TWO_53, TWO_53 + 1, 1098765432109876543, -1098765432109876543])
def test_a_double_that_may_have_been_another_integer_is_refused(number: int) -> None:
    (double,) = struct.unpack("<d", struct.pack("<d", float(number)))
    with pytest.raises(InvalidArgument):
        received_coordinate([1.0, double])
    assert received_coordinate([TWO_53 - 1, 0.1]) == (TWO_53 - 1, 0.1)
