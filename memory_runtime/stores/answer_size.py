"""How many bytes of memories are read for one answer: counted where rows become records, refused beyond the bound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from memory_runtime.model.errors import PayloadTooLarge

REMEDY: Final = (
    "ask for less at once: fewer queries, a smaller top_k or limit, or pages; or raise SOMA_MAX_RESPONSE_BODY_MB"
)


class AnswerSize:
    """Bytes read so far, at most `most`."""

    __slots__ = ("most", "spent")

    def __init__(self, most: int) -> None:
        self.most = most
        self.spent = 0

    def spend(self, count: int) -> None:
        """Counts bytes. Raises PayloadTooLarge beyond the bound."""
        self.spent += count
        if self.spent > self.most:
            raise too_large(self.most)


_SIZE: Final[ContextVar[AnswerSize | None]] = ContextVar("answer_size", default=None)
_MOST: Final[ContextVar[int]] = ContextVar("answer_most", default=32 << 20)


def bound_answer(most: int) -> None:
    """From here on, this request's answer is refused beyond `most` bytes."""
    _MOST.set(most)


def answer_bound() -> int:
    """The most bytes of this request's answer."""
    return _MOST.get()


def too_large(most: int) -> PayloadTooLarge:
    """The refusal of an answer of more bytes than that."""
    return PayloadTooLarge(f"the answer would be larger than {most} bytes", field="top_k", remedy=REMEDY)


@contextmanager
def answer_of(most: int) -> Iterator[AnswerSize]:
    """Inside, also in the readers' threads, payloads of at most `most` bytes may be read."""
    size = AnswerSize(most)
    token = _SIZE.set(size)
    try:
        yield size
    finally:
        _SIZE.reset(token)


def spend(count: int) -> None:
    """Counts bytes that were read for an answer, if for one. Raises PayloadTooLarge."""
    size = _SIZE.get()
    if size is not None:
        size.spend(count)
