"""Answers of many memories: made beside the event loop where they are many, and refused beyond the bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from memory_runtime.model.threads import in_thread
from memory_runtime.stores.answer_size import answer_bound, too_large

T = TypeVar("T")
AT_ONCE: Final = 16
"""Memories that are made into messages on the event loop."""


async def bounded(make: Callable[[Sequence[T]], Any], found: Sequence[T]) -> Any:
    """`make(found)`, a message. Raises PayloadTooLarge."""
    answer = make(found) if len(found) <= AT_ONCE else await in_thread(make, found)
    most = answer_bound()
    if answer.ByteSize() > most:
        raise too_large(most)
    return answer
