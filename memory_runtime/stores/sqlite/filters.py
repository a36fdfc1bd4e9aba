"""Filters of the old service: equality on payload fields, turned into SQL with bound parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.errors import InvalidArgument

MAX_FILTERS = 32
COLUMNS = {"memory_type": "memory_type", "importance": "importance_raw", "importance_norm": "importance_norm"}
"""Fields that the server adds to a payload and that are columns; a payload's own field of that name wins."""


def conditions(filters: Mapping[str, Any]) -> tuple[list[str], list[Any]]:
    """SQL conditions on `memories` and their parameters; all must hold.

    A key names a payload field, or a path with dots (`metadata.source`). Values compare by type and value; 1 equals
    1.0, and null is a field that is there and is null. Raises InvalidArgument naming the filter.
    """
    if len(filters) > MAX_FILTERS:
        raise InvalidArgument(f"filters: more than {MAX_FILTERS}", field="filters", remedy="send fewer filters")
    sql: list[str] = []
    values: list[Any] = []
    for key, wanted in filters.items():
        alternatives = []
        for path in _paths(key):
            test, bound = _equals(path, wanted, key)
            alternatives.append(test)
            values.extend(bound)
        if key in COLUMNS and isinstance(wanted, str | int | float) and not isinstance(wanted, bool):
            alternatives.append(f"(json_type(payload, ?) IS NULL AND {COLUMNS[key]} = ?)")
            values.extend((_paths(key)[0], wanted))
        sql.append(f"({' OR '.join(alternatives)})")
    return sql, values


def _paths(key: str) -> list[str]:
    if not isinstance(key, str) or not key or len(key) > 256 or '"' in key or not key.isprintable():
        raise InvalidArgument(
            f"filters: {key!r} is not a field name", field="filters", remedy="name a payload field without quotes"
        )
    paths = [f'$."{key}"']
    if "." in key and all(key.split(".")):
        paths.append("$" + "".join(f'."{part}"' for part in key.split(".")))
    return paths


def _equals(path: str, wanted: Any, key: str) -> tuple[str, list[Any]]:
    if wanted is None:
        return "json_type(payload, ?) = 'null'", [path]
    if isinstance(wanted, bool):
        return "json_type(payload, ?) = ?", [path, "true" if wanted else "false"]
    if isinstance(wanted, int | float):
        text = canonical_json(wanted, field=f"filters.{key}")
        if isinstance(wanted, int) and abs(wanted) >= 2**63:
            return "payload -> ? = ?", [path, text]
        return "(json_type(payload, ?) IN ('integer', 'real') AND payload ->> ? = ?)", [path, path, wanted]
    if isinstance(wanted, str):
        canonical_json(wanted, field=f"filters.{key}")
        return "(json_type(payload, ?) = 'text' AND payload ->> ? = ?)", [path, path, wanted]
    return "payload -> ? = ?", [path, canonical_json(wanted, field=f"filters.{key}")]
