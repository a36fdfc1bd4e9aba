"""What a filter means, for both ledgers: equality of JSON values, by type and value.

A key names a payload field, any text of at most 256 characters, or a path with dots (`metadata.source`) where no field
has that very name. 1 equals 1.0 and true equals neither, at any depth; numbers compare by their decimal digits; texts
compare character by character, as they are stored; the order of an object's fields does not count; null is a field that
is there and is null.

A memory's payload is stored as canonical JSON. So a text, a boolean or null has one form there, and a number at most
two: a ledger compares forms (`forms`), and asks `equal` where lists and objects are compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.errors import InvalidArgument

MAX_FILTERS: Final = 32
MAX_KEY: Final = 256
COLUMNS: Final = {"memory_type": "memory_type", "importance": "importance_raw", "importance_norm": "importance_norm"}
"""Fields that the server adds to a payload and that are columns; a payload's own field of that name wins."""


class Condition(NamedTuple):
    """One filter: the payload's value at any of `paths` equals `wanted`, whose canonical text is `text`; or there is no
    field `paths[0]`, and `column` equals `wanted`.
    """

    paths: list[list[str]]
    wanted: Any
    text: str
    column: str | None

    @property
    def is_nested(self) -> bool:
        """Whether it asks for a list or an object."""
        return isinstance(self.wanted, list | tuple | dict)


def conditions(filters: Mapping[str, Any]) -> list[Condition]:
    """One for each filter; all must hold. Raises InvalidArgument naming the filter."""
    if len(filters) > MAX_FILTERS:
        raise InvalidArgument(f"filters: more than {MAX_FILTERS}", field="filters", remedy="send fewer filters")
    return [_condition(key, wanted) for key, wanted in filters.items()]


def _condition(key: str, wanted: Any) -> Condition:
    if not isinstance(key, str) or len(key) > MAX_KEY:
        raise InvalidArgument(
            f"filters: {key!r} is not a field name",
            field="filters",
            remedy=f"name a payload field by a text of at most {MAX_KEY} characters",
        )
    canonical_json(key, field="filters")
    parts = key.split(".")
    paths = [[key], parts] if len(parts) > 1 and all(parts) else [[key]]
    return Condition(paths, wanted, canonical_json(wanted, field=f"filters.{key}"), _column(key, wanted))


def _column(key: str, wanted: Any) -> str | None:
    if isinstance(wanted, bool) or key not in COLUMNS:
        return None
    if key == "memory_type":
        return COLUMNS[key] if isinstance(wanted, str) else None
    if isinstance(wanted, int):
        try:
            return COLUMNS[key] if int(float(wanted)) == wanted else None
        except OverflowError:
            return None
    return COLUMNS[key] if isinstance(wanted, float) else None


def forms(condition: Condition) -> list[str]:
    """The canonical texts of the values that a condition's text, number, boolean or null equals."""
    wanted = condition.wanted
    if isinstance(wanted, bool) or not isinstance(wanted, int | float):
        return [condition.text]
    digits = Decimal(condition.text)
    found = {condition.text: None}
    if digits == digits.to_integral_value():
        found[str(int(digits))] = None
        try:
            near = float(digits)
        except OverflowError:
            return list(found)
        if near not in {float("inf"), float("-inf")} and Decimal(repr(near)) == digits:
            found[repr(near)] = None
    if not digits:
        found |= {"0": None, "0.0": None, "-0.0": None}
    return list(found)


def equal(one: str, other: str) -> bool:
    """Whether two JSON texts are of equal values."""
    return _same(_value(one), _value(other))


def _value(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def field(payload: str, path: str) -> str | None:
    """The canonical text of the value at a path (a JSON list of field names) of a payload; None where there is none."""
    value = json.loads(payload)
    for name in json.loads(path):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return canonical_json(value)
