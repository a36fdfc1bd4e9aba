"""What is there when a process begins to serve is no work for the garbage collector; what comes later is."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import gc, weakref
from memory_runtime.surfaces.collector import YOUNG, keep_what_is_there

class Ring:
    def __init__(self):
        self.me = self

before = len(gc.get_objects())
keep_what_is_there()
assert gc.get_freeze_count() > before // 2, (gc.get_freeze_count(), before)
assert len(gc.get_objects()) < before // 10, len(gc.get_objects())
ring = weakref.ref(Ring())
assert ring() is not None
kept = [[] for _ in range(YOUNG + 1)]
assert ring() is None, "a ring that nobody has is not taken away any more"
"""


def test_full_collections_pass_over_what_was_there_and_rings_are_still_taken_away() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
