"""`stores.filtering` in SQLite: canonical texts of the payload's fields compared, with bound parameters."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from memory_runtime.model.canonical import canonical_json
from memory_runtime.stores import filtering
from memory_runtime.stores.filtering import Condition


def install(connection: sqlite3.Connection) -> None:
    """Makes the functions that conditions call: on every connection."""
    connection.create_function("json_field", 2, filtering.field, deterministic=True)
    connection.create_function("json_equal", 2, _equal, deterministic=True)


def _equal(one: str | None, other: str) -> bool:
    return one is not None and filtering.equal(one, other)


def conditions(filters: Mapping[str, Any]) -> tuple[list[str], list[Any]]:
    """SQL conditions on `memories` and their parameters; all must hold. Raises InvalidArgument naming the filter."""
    sql: list[str] = []
    values: list[Any] = []
    for one in filtering.conditions(filters):
        alternatives = [_equals(path, one, values) for path in one.paths]
        if one.column is not None:
            field = _field(one.paths[0], values)
            alternatives.append(f"({field} IS NULL AND {one.column} = ?)")
            values.append(one.wanted if isinstance(one.wanted, str) else float(one.wanted))
        sql.append(f"({' OR '.join(alternatives)})")
    return sql, values


def _equals(path: list[str], one: Condition, values: list[Any]) -> str:
    field = _field(path, values)
    if one.is_nested:
        values.append(one.text)
        return f"json_equal({field}, ?)"
    found = filtering.forms(one)
    values.extend(found)
    return f"{field} IN ({','.join('?' * len(found))})"


def _field(path: list[str], values: list[Any]) -> str:
    """SQL for the JSON text of a field. SQLite's paths have no room for a quote, an escape or an empty name."""
    if all(part and canonical_json(part) == f'"{part}"' for part in path):
        values.append("$" + "".join(f'."{part}"' for part in path))
        return "payload -> ?"
    values.append(canonical_json(path))
    return "json_field(payload, ?)"
