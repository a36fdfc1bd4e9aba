"""Bounds the threads of NumPy's matrix products."""

from __future__ import annotations

import ctypes

import numpy as np


def limit_threads(count: int) -> bool:
    """Lets each matrix product of this process use `count` threads; False where NumPy's BLAS is not OpenBLAS.

    Every caller's thread would otherwise wake a pool as large as the machine, and a barrier between them costs a busy
    machine a scheduling quantum (8 ms, measured): one thread a product, and other cores for other requests.
    """
    core = getattr(np, "_core", None)
    library = ctypes.CDLL(core._multiarray_umath.__file__) if core is not None else None  # noqa: SLF001
    for name in ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads", "openblas_set_num_threads"):
        function = getattr(library, name, None)
        if function is not None:
            function(ctypes.c_int(count))
            return True
    return False
