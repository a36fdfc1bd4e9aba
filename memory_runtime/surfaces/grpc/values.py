"""JSON that travels inside a protobuf string."""

from __future__ import annotations

from typing import Any

from memory_runtime.model.canonical import canonical_json, parse_json
from memory_runtime.model.errors import InvalidArgument


def json_object(text: str, *, field: str) -> dict[str, Any]:
    """The object that the text holds; empty text is an empty object. Raises InvalidArgument."""
    if not text.strip():
        return {}
    value = parse_json(text, field=field)
    if not isinstance(value, dict):
        raise InvalidArgument(
            f"{field}: not a JSON object", field=field, remedy='send an object, such as {"text": "…"}'
        )
    canonical_json(value, field=field)
    return value
