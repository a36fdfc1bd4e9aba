"""Work of an event loop in another thread: what it raises must be something that the loop can hand to its caller.

asyncio sets no StopIteration on a future: it logs a TypeError, and whoever awaits the answer waits for ever. SystemExit
and its like would end the loop or the thread, and a CancelledError would look as if the caller had been cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def raisable(error: BaseException) -> Exception:
    """The error itself; for what no future can carry, a RuntimeError that it is the cause of."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    carried = RuntimeError(f"work in another thread raised {type(error).__name__}")
    carried.__cause__ = error
    return carried


def raising_only_errors(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Calls `work`, and raises what it raises as `raisable` says it."""
    try:
        return work(*arguments, **named)
    except BaseException as error:
        carried = raisable(error)
        if carried is error:
            raise
        raise carried from error


async def in_thread(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """`asyncio.to_thread`, whose caller hears of every failure."""
    return await asyncio.to_thread(raising_only_errors, partial(work, *arguments, **named))  # noqa: TID251 -- the one place
