"""The rule of feature weights, for settings and formula alike: together they count no more than similarity."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

SLACK: Final = 1e-9
"""What their sum may exceed 1 by: decimal fractions that add up to 1 seldom do so in binary."""


def exceed_one(weights: Iterable[float]) -> bool:
    """Whether the weights add up to more than 1. The CRD admits half the slack, so that the order of adding is free."""
    return math.fsum(weights) > 1.0 + SLACK
