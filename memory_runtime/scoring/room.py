"""Memory for the large columns of a segment, taken page by page on purpose.

NumPy asks for huge pages for large arrays, and the kernel then stops the process to make them out of a full page cache:
on a server that has been up for a while a merge spent more time there than on its rows. Searches read columns in order,
so huge pages gain them little.
"""

from __future__ import annotations

import math
import mmap
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_LARGE: Final = 1 << 20


class Room(mmap.mmap):
    """Anonymous memory, private to this process, given back when the last array over it is gone."""


def empty(shape: tuple[int, ...], kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """A writable array of this shape; it starts on at least 8 bytes, and its content is not defined."""
    kind = np.dtype(kind)
    size = math.prod(shape) * kind.itemsize
    if size < _LARGE or not hasattr(mmap, "MAP_ANONYMOUS"):
        return np.empty(shape, kind)
    # Not populated: that would be done under the GIL, and searches would wait
    return np.frombuffer(Room(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), kind).reshape(shape)


def is_mapped(column: npt.NDArray[np.generic]) -> bool:
    """Whether the pages of this array belong to a file."""
    base: object = column
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return isinstance(base, mmap.mmap) and not isinstance(base, Room)
