"""Small things that tests of the engine are made of: a clock that the test turns, items, questions."""

from __future__ import annotations

from typing import Any

import numpy as np

from memory_runtime.engine import RecallRequest, RecallResult
from memory_runtime.model.records import StoreItem

DAY = 86400.0


class Clock:
    """A clock that the test turns."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def item(at: float, vector: list[float] | None = None, **rest: Any) -> StoreItem:
    payload = rest.pop("payload", {"text": f"memory {at:g}"})
    return StoreItem((at,), payload, vector=None if vector is None else np.array(vector, np.float32), **rest)


def asked(vector: list[float], **rest: Any) -> RecallRequest:
    return RecallRequest(vector=np.array(vector, np.float32), **rest)


def coordinates(result: RecallResult) -> list[float]:
    return [hit.record.coordinate[0] for hit in result.hits]
