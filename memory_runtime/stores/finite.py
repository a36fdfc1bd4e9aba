"""The last guard before a row is written: no path stores a number that is none.

Doors refuse NaN and infinities by the field's name. What a door forgets, or a file that is restored holds, stops here:
such a number would make answers of JSON impossible, and order and arithmetic of rows wrong.
"""

from __future__ import annotations

import math

from memory_runtime.model.errors import InvalidArgument
from memory_runtime.stores.contracts import Link, Put


def check_put(put: Put, norm: float, *more: float) -> None:
    """Raises InvalidArgument where the memory, its i, or one of `more` holds NaN, an infinity, or is no number."""
    numbers = {
        "importance": put.importance,
        "importance_norm": norm,
        "timestamp": put.event_time,
        "ingested": put.ingest_time,
        "expires_at": put.expires_at,
    }
    for field, value in numbers.items():
        if value is not None and not _finite(value):
            raise _refusal(field)
    if not all(map(_finite, put.features.values())):
        raise _refusal("features")
    if not all(map(_finite, more)):
        raise _refusal("accessed")
    # a sum of squares is finite only where each number is; it costs a third of asking each
    if put.vector is not None and not math.isfinite(float(put.vector @ put.vector)):
        raise _refusal("vector")


def check_link(link: Link) -> None:
    """Raises InvalidArgument where the edge's weight is no finite number."""
    if not _finite(link.edge.weight):
        raise _refusal("weight")


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except (OverflowError, TypeError):
        return False


def _refusal(field: str) -> InvalidArgument:
    return InvalidArgument(f"{field}: must be a finite number", field=field, remedy="send a finite number")
