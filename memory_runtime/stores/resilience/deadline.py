"""The caller's deadline, where every call made on its behalf can see it: set by the surfaces, obeyed by the guard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from memory_runtime.model.errors import DeadlineExceeded

_DEADLINE: Final[ContextVar[float | None]] = ContextVar("soma_deadline", default=None)


@contextmanager
def deadline_after(seconds: float | None) -> Iterator[None]:
    """Inside, the work must be done `seconds` from now. It only ever shortens: an outer, sooner deadline stays.

    None sets nothing. Tasks that are started inside inherit it; work that outlives its request must be started under
    `no_deadline`.
    """
    if seconds is None:
        yield
        return
    outer, own = _DEADLINE.get(), time.monotonic() + seconds
    token = _DEADLINE.set(own if outer is None else min(outer, own))
    try:
        yield
    finally:
        _DEADLINE.reset(token)


@contextmanager
def no_deadline() -> Iterator[None]:
    """Inside, no caller waits: for what a request starts in the background."""
    token = _DEADLINE.set(None)
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def remaining() -> float | None:
    """Seconds until the caller's deadline, negative once it has passed; None where there is none."""
    at = _DEADLINE.get()
    return None if at is None else at - time.monotonic()


def check_time() -> None:
    """Raises DeadlineExceeded once the caller's deadline has passed: called between the steps of long work."""
    left = remaining()
    if left is not None and left <= 0:
        raise DeadlineExceeded("the deadline passed", field="deadline", remedy="allow more time, or ask for less")
