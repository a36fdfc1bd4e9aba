"""JSON that travels inside a protobuf string."""

from __future__ import annotations

from typing import Any

from memory_runtime.model.canonical import canonical_json, parse_json
from memory_runtime.model.errors import InvalidArgument


def json_object(text: str, *, field: str, checked_later: bool = False) -> dict[str, Any]:
    """The object that the text holds; empty text is an empty object. Raises InvalidArgument.

    `checked_later`: the engine makes canonical JSON of it, and refuses then what has none (an infinity, half a
    surrogate pair, too deep); twice would be a tenth of what a row of a bulk costs.
    """
    if not text.strip():
        return {}
    value = parse_json(text, field=field)
    if not isinstance(value, dict):
        raise InvalidArgument(
            f"{field}: not a JSON object", field=field, remedy='send an object, such as {"text": "…"}'
        )
    if not checked_later:
        canonical_json(value, field=field)
    return value


def most(context: Any, top_k: int, bound: int) -> int:
    """`top_k`, or `bound` where it is more; then the answer says so in its trailing metadata, as x-soma-top-k."""
    if top_k > bound:
        context.set_trailing_metadata((("x-soma-top-k", str(bound)),))
    return min(top_k, bound)
