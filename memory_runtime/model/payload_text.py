"""Which text of a memory is embedded, and searched for words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memory_runtime.model.canonical import canonical_json

TEXT_KEYS = ("text", "content", "task", "message", "fact", "summary", "description")
"""The payload's keys that hold a memory's text, the first one present wins."""


def payload_text(payload: Mapping[str, Any]) -> str:
    """The first non-blank text among `TEXT_KEYS`; without one, the whole payload as canonical JSON."""
    for key in TEXT_KEYS:
        value = payload.get(key)
        if isinstance(value, str) and value.strip():
            return value
    return canonical_json(dict(payload))
