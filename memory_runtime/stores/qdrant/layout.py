"""Where a row of weight 2^L is kept: its band, and its vector scaled inside it. Arithmetic only.

A row is stored as v·2^(L - w·b) in the band b = floor(L/w) of width w, so the dot product with a query orders each band
by the decayed score itself. A row of band b scores less than 2^(w·(b + 1)): bands are asked best first, and once the
k-th score has reached that bound, no row of band b or below can be among the answers.
"""

from __future__ import annotations

import hashlib
import math
from typing import Final, NamedTuple

import numpy as np

from memory_runtime.model.records import Vector

NORM_SLACK: Final = 1e-5
"""In log2: what rounding to float32, of the vectors and of their products, may add to a score."""


class Place(NamedTuple):
    """A band, and the scale of the rows in it: in [1, 2^width)."""

    band: int
    scale: float


def place(log2_weight: float, width: float) -> Place:
    """Where a row of weight 2^log2_weight belongs, in bands of this width."""
    band = math.floor(log2_weight / width)
    return Place(band, math.exp2(log2_weight - band * width))


def ceiling(band: int, width: float) -> float:
    """log2 of what no row of this band reaches."""
    return (band + 1) * width + NORM_SLACK


def scaled(vector: Vector, scale: float) -> list[float]:
    """The vector as it is stored."""
    return (vector * np.float32(scale)).tolist()  # type: ignore[no-any-return]


def layout_number(words: str, width: float) -> int:
    """A number for the rules that placed points, below 2^48: points of other rules are not searched, and replaced."""
    digest = hashlib.sha256(f"{words}|{width:.17g}".encode()).digest()
    return int.from_bytes(digest[:6], "big")
