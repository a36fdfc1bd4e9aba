"""Whose fault a failure is: the back end's, which passes, or one item's, which is found and set aside.

A batch that fails for one item's sake must not hold up the others for good.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from memory_runtime.model.errors import InvalidArgument, PayloadTooLarge, SomaError, Unprocessable

T = TypeVar("T")
_OF_VALUES: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    InvalidArgument,
    PayloadTooLarge,
    Unprocessable,
)


def is_of_an_item(error: BaseException) -> bool:
    """Whether what was handed over is to blame: again it would fail the same way, and what is beside it may pass."""
    if isinstance(error, SomaError):
        return isinstance(error, InvalidArgument | PayloadTooLarge | Unprocessable)
    return isinstance(error, _OF_VALUES) and not isinstance(error, OSError)


async def in_halves(
    items: Sequence[T], act: Callable[[Sequence[T]], Awaitable[None]], aside: Callable[[T, Exception], None]
) -> None:
    """Does `act` with all items, in order; an item that cannot be acted on is handed to `aside` with its failure.

    Raises what passes by itself.
    """
    if not items:
        return
    try:
        await act(items)
    except Exception as error:
        if not is_of_an_item(error):
            raise
        if len(items) == 1:
            aside(items[0], error)
            return
        middle = len(items) // 2
        await in_halves(items[:middle], act, aside)
        await in_halves(items[middle:], act, aside)
