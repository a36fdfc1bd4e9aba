"""A memory as a text, and back: what a record holds but for its vector, which the cache does not keep."""

from __future__ import annotations

import dataclasses
import json
import uuid
from typing import Any, Final

from memory_runtime.model.records import MemoryRecord

MAX_ENTRY: Final = 256 * 2**10
"""Characters beyond which a memory is not cached: one such would push out hundreds of others."""
_FORMAT: Final = 1
_PLAIN: Final = tuple(
    one.name for one in dataclasses.fields(MemoryRecord) if one.name not in {"id", "coordinate", "vector"}
)
_WHOLE: Final = {*_PLAIN, "format", "id", "coordinate"}


def as_text(record: MemoryRecord) -> str | None:
    """The text; None for a memory that is too large."""
    fields: dict[str, Any] = {name: getattr(record, name) for name in _PLAIN}
    fields |= {"format": _FORMAT, "id": record.id.hex, "coordinate": list(record.coordinate)}
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return text if len(text) <= MAX_ENTRY else None


def as_record(text: str) -> MemoryRecord | None:
    """The memory; None for what another version of the runtime wrote, or nobody."""
    try:
        fields = json.loads(text)
        # a version that knows another set of fields has written it: what it lacks must not become a default
        if fields.keys() != _WHOLE or fields.pop("format") != _FORMAT:
            return None
        identity, coordinate = uuid.UUID(hex=fields.pop("id")), tuple(fields.pop("coordinate"))
        return MemoryRecord(id=identity, coordinate=coordinate, **fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
