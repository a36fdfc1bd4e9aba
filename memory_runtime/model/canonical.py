"""Canonical, versioned JSON: one byte sequence for one value, so that hashes, tests and exports agree.

Keys are sorted by code point, separators are bare, text is UTF-8, NaN and infinities are refused.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from memory_runtime.model.errors import InvalidArgument

SCHEMA_VERSION = 1
MAX_DEPTH = 64
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any, *, field: str = "payload") -> str:
    """The canonical text of a JSON value.

    Raises InvalidArgument, naming `field`, when the value is not JSON, holds NaN or an infinity, nests deeper than
    64 levels (which would overflow later parsers), or holds text that UTF-8 cannot carry (a lone surrogate).
    """
    _check_depth(value, field)
    try:
        text = _ENCODER.encode(value)
        if not text.isascii():
            text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"{field}: not representable as JSON: {error}",
            field=field,
            remedy="send text, finite numbers, booleans, null, lists, and objects with text keys",
        ) from None
    return text


def _check_depth(value: Any, field: str) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        children: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                children.extend(node.values())
            elif isinstance(node, list | tuple):
                children.extend(node)
        if not children:
            return
        level = children
    raise InvalidArgument(f"{field}: nested deeper than {MAX_DEPTH} levels", field=field, remedy="flatten the payload")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


# json.loads with an argument makes a decoder at each call, which costs more than a small text
_DECODER = json.JSONDecoder(parse_constant=_refuse)


def parse_json(text: str | bytes, *, field: str = "payload") -> Any:
    """The value of a JSON text; NaN and infinities are refused. Raises InvalidArgument naming `field`."""
    try:
        # bytes may be UTF-8, 16 or 32, and may begin with a mark: json.loads knows which
        return _DECODER.decode(text) if isinstance(text, str) else json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{field}: not JSON: {error}", field=field, remedy="send valid JSON") from None


def content_hash(value: Any) -> str:
    """SHA-256, in hexadecimal, of the canonical text: what the idempotency rows compare."""
    return hashlib.sha256(canonical_json(value, field="body").encode("utf-8")).hexdigest()


def versioned(kind: str, body: dict[str, Any]) -> str:
    """One canonical line that says what it is and under which schema it was written (exports, outbox bodies)."""
    return canonical_json({"kind": kind, "schema": SCHEMA_VERSION, **body}, field=kind)
