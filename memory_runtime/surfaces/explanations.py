"""The engine's dataclasses as JSON-safe values: explanations, receipts and statistics for every transport."""

from __future__ import annotations

import dataclasses
from typing import Any

from memory_runtime.engine.types import Hit


def factors(hit: Hit) -> dict[str, Any]:
    """Every factor of a hit's score, and for a hybrid hit `fusion`: both parts of what stands for its similarity."""
    if hit.explanation is None:
        return {}
    known: dict[str, Any] = plain(hit.explanation)
    return known if hit.fusion is None else known | {"fusion": plain(hit.fusion)}


def plain(value: Any) -> Any:
    """A dataclass as JSON-safe values: ids as text, numbers that JSON cannot carry as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)
