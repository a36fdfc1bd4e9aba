"""How long to wait after a failure of something that is tried for as long as it takes, and how it reads in a log."""

from __future__ import annotations

import random
from typing import Final

from memory_runtime.model.errors import SomaError
from memory_runtime.stores.resilience import Backoff

BACKOFF: Final = Backoff(base=0.2, cap=15.0)


def pause_after(failures: int) -> float:
    """Seconds before the next try after so many failures in a row: full jitter, up to 15 s."""
    return BACKOFF.wait(failures, random.random())  # noqa: S311 -- spreads callers, keeps no secret


def in_words(error: BaseException) -> str:
    """The failure for a log: an error of ours in its own words, others with their type."""
    return error.message if isinstance(error, SomaError) else f"{type(error).__name__}: {error}"[:500]
