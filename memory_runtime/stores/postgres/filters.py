"""Filters of the old service: equality on payload fields, in SQL, with the answers of `stores.sqlite.filters`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.records import Scope
from memory_runtime.stores.postgres.session import Bound
from memory_runtime.stores.values import Visible

MAX_FILTERS: Final = 32
_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def storable(canonical: str) -> str:
    """Canonical JSON as jsonb takes it: a NUL, which PostgreSQL has no room for, is U+FFFD in what filters see."""
    return _NUL.sub(lambda found: f"{found[1]}\ufffd", canonical) if "\\u0000" in canonical else canonical


def in_scope(
    bound: Bound, scope: Scope, memory_type: str | None, filters: Mapping[str, Any] | None, now: float
) -> list[str]:
    """Conditions on `memories m`: live, not expired, of the scope, of the type, passing the filters."""
    where = [
        f"m.tenant = {bound(scope.tenant)}",
        f"m.namespace = {bound(scope.namespace)}",
        "m.collection = 0",
        "NOT m.deleted",
        f"(m.expires_at IS NULL OR m.expires_at > {bound(now)})",
    ]
    if memory_type is not None:
        where.append(f"m.memory_type = {bound(memory_type)}")
    return where + conditions(bound, filters or {})


def visible(bound: Bound, what: Visible) -> str:
    """The condition on `memories m` that a question sees it by."""
    where = in_scope(bound, what.scope, what.memory_type, what.filters, what.at)
    if what.hide_later:
        where.append(f"m.event_time <= {bound(what.at)}")
    return " AND ".join(where)


def conditions(bound: Bound, filters: Mapping[str, Any]) -> list[str]:
    """One condition a filter; all must hold. Raises InvalidArgument naming the filter.

    A key names a payload field, or a path with dots (`metadata.source`). Values compare by type and value; 1 equals
    1.0, and null is a field that is there and is null.
    """
    if len(filters) > MAX_FILTERS:
        raise InvalidArgument(f"filters: more than {MAX_FILTERS}", field="filters", remedy="send fewer filters")
    return [_condition(bound, key, wanted) for key, wanted in filters.items()]


def _condition(bound: Bound, key: str, wanted: Any) -> str:
    if not isinstance(key, str) or not key or len(key) > 256 or '"' in key or not key.isprintable():
        raise InvalidArgument(
            f"filters: {key!r} is not a field name", field="filters", remedy="name a payload field without quotes"
        )
    paths = [[key]]
    if "." in key and all(key.split(".")):
        paths.append(key.split("."))
    text = storable(canonical_json(wanted, field=f"filters.{key}"))
    alternatives = [_equals(bound, path, text, wanted) for path in paths]
    column = _column(bound, key, wanted)
    if column is not None:
        alternatives.append(f"(m.fields -> {bound(key)}::text IS NULL AND {column})")
    return f"({' OR '.join(alternatives)})"


def _equals(bound: Bound, path: list[str], text: str, wanted: Any) -> str:
    steps = "".join(f" -> {bound(part)}::text" for part in path)
    if isinstance(wanted, list | tuple | dict):
        # lists and objects are equal when their canonical texts are: 1 in one is not 1.0 in the other
        wanted_text = bound(text)
        return (
            # a payload with a NUL in it is no json to PostgreSQL
            f"CASE WHEN strpos(m.payload, '\\u0000') = 0 THEN (m.payload::json{steps})::text = {wanted_text}::text"
            f" ELSE m.fields{steps} = {wanted_text}::text::jsonb END"
        )
    return f"m.fields{steps} = {bound(text)}::text::jsonb"


def _column(bound: Bound, key: str, wanted: Any) -> str | None:
    """The server's own column of that name, which a payload's own field hides."""
    if isinstance(wanted, bool) or not isinstance(wanted, str | int | float):
        return None
    if key == "memory_type":
        return f"m.memory_type = {bound(str(wanted))}"
    if key in {"importance", "importance_norm"}:
        try:
            number = float(wanted)
        except (ValueError, OverflowError):
            return "FALSE"
        return f"m.{'importance_raw' if key == 'importance' else key} = {bound(number)}"
    return None
