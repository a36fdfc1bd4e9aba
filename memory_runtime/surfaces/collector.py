"""The interpreter's garbage collector in a process that serves: it must not stop it for what is there to stay."""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 10_000
"""New objects between two looks at them (Python's own: 700). Almost all of a request ends by its reference counts."""


def keep_what_is_there() -> None:
    """Called once a process has all that it serves with, before it says so.

    What it has loaded by then, more than a hundred thousand objects, is looked at no more: each full collection stopped
    every request for about a tenth of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
