"""The compiled scan, if there is one: a small C extension, optional when building and when running.

`load()` gives the extension module or None; without it `scan_numpy` answers the same, more slowly. SOMA_KERNEL chooses
for tests and for doubt: `numpy`, `portable`, `avx2` or `avx512-vnni`. May import nothing of ours.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
from typing import Any, Final

_log = logging.getLogger(__name__)
GROUP: Final = 16
TAIL_BYTES: Final = 32


@functools.cache
def load() -> Any:
    """The extension module, set to the variant that SOMA_KERNEL names or to the CPU's best; None means NumPy."""
    wanted = os.environ.get("SOMA_KERNEL", "")
    if wanted == "numpy":
        return None
    try:
        module = importlib.import_module("memory_runtime.scoring.kernel._scan")
    except ImportError:
        _log.info("no compiled scoring kernel: recall uses NumPy (same answers, slower)")
        return None
    if not hasattr(module, "query_codes"):
        _log.warning("the compiled scoring kernel is older than this code: make kernel; recall uses NumPy meanwhile")
        return None
    if wanted and not module.force(wanted):
        _log.warning("SOMA_KERNEL=%s is not possible on this CPU; using %s", wanted, module.variant())
    return module


def variant() -> str:
    """What scans: avx512-vnni, avx2, portable or numpy."""
    module = load()
    return "numpy" if module is None else str(module.variant())
