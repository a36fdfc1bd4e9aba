"""`stores.filtering` in PostgreSQL: jsonb values compared, with bound parameters.

jsonb has no room for the character NUL: in what filters see of a payload, and in what they ask for, it is two others,
and the first of these is two as well, so that different texts stay different.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from memory_runtime.model.records import Scope
from memory_runtime.stores import filtering
from memory_runtime.stores.filtering import Condition
from memory_runtime.stores.postgres.session import Bound
from memory_runtime.stores.values import Visible

ESCAPE: Final = "\ue000"
_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def storable(canonical: str) -> str:
    """Canonical JSON as jsonb takes it."""
    if ESCAPE in canonical:
        canonical = canonical.replace(ESCAPE, f"{ESCAPE}1")
    return _NUL.sub(lambda found: f"{found[1]}{ESCAPE}0", canonical) if "\\u0000" in canonical else canonical


def in_scope(
    bound: Bound, scope: Scope, memory_type: str | None, filters: Mapping[str, Any] | None, now: float
) -> list[str]:
    """Conditions on `memories m`: live, not expired, of the scope, of the type, passing the filters."""
    where = [
        f"m.tenant = {bound(scope.tenant)}",
        f"m.namespace = {bound(scope.namespace)}",
        "m.collection = 0",
        "NOT m.deleted",
        f"(m.expires_at IS NULL OR m.expires_at > {bound(now)} OR m.pinned OR m.hold)",
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
    """One condition a filter; all must hold. Raises InvalidArgument naming the filter."""
    return [_condition(bound, one) for one in filtering.conditions(filters)]


def _condition(bound: Bound, one: Condition) -> str:
    text = storable(one.text)
    alternatives = [f"{_field(bound, path)} = {bound(text)}::text::jsonb" for path in one.paths]
    if one.column is not None:
        value = one.wanted if isinstance(one.wanted, str) else float(one.wanted)
        # a text with NUL is no memory type
        value = value.replace("\0", ESCAPE) if isinstance(value, str) else value
        alternatives.append(f"({_field(bound, one.paths[0])} IS NULL AND m.{one.column} = {bound(value)})")
    return f"({' OR '.join(alternatives)})"


def _field(bound: Bound, path: list[str]) -> str:
    names = [part.replace(ESCAPE, f"{ESCAPE}1").replace("\0", f"{ESCAPE}0") for part in path]
    return "m.fields" + "".join(f" -> {bound(name)}::text" for name in names)
