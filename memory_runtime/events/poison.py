"""What makes an event a dead letter."""

from __future__ import annotations

from typing import Final

from memory_runtime.model.errors import SomaError

RETRYABLE: Final = frozenset({"refused", "defect"})
"""Reasons that may pass by themselves: a hold that ends, a setting that is mended. The others are in the bytes."""


class Poison(Exception):  # noqa: N818 -- what it is, as the dead letter says it
    """An event that can never pass as it is. `reason` is one word for metrics and headers; str() says it in full."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def poison_of(error: SomaError) -> Poison:
    """The refusal of the engine as a dead letter's reason."""
    remedy = f"; {error.remedy}" if error.remedy else ""
    return Poison(_REASONS.get(error.code, "invalid"), f"{error.message}{remedy}")


_REASONS: Final = {
    **dict.fromkeys(("CONFLICT", "UNPROCESSABLE", "NOT_FOUND", "PERMISSION_DENIED"), "refused"),
    "INTERNAL": "defect",
}
