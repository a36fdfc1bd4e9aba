"""exp2 and log2 made of additions, multiplications and exact scalings only, so that every CPU gives the same bits.

NumPy picks its vectorised exp2 by instruction set, and libm its own by FMA: they differ in the last bit, which is
enough to swap two nearly tied memories between two replicas. IEEE 754 fixes the result of + and x everywhere, so these
do not differ. Errors are below 2 units in the last place.
"""

from __future__ import annotations

import decimal
import math
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_STEPS: Final = 256


def _powers() -> Floats:
    # Decimal, because libm's pow is not the same on every platform; 40 digits round correctly to float64
    with decimal.localcontext() as context:
        context.prec = 40
        return np.array([float(decimal.Decimal(2) ** (decimal.Decimal(k) / _STEPS)) for k in range(_STEPS)])


_POWERS: Final = _powers()
_LN2: Final = 0.6931471805599453
_EXP_TERMS: Final = tuple(1.0 / math.factorial(n) for n in range(5, 0, -1))
_ATANH_TERMS: Final = tuple(1.0 / (2 * n + 1) for n in range(4, -1, -1))
_CENTRES: Final = 64


def _centre_logs() -> Floats:
    with decimal.localcontext() as context:
        context.prec = 40
        ln2 = decimal.Decimal(2).ln()
        return np.array([0.0] + [float((decimal.Decimal(k) / _CENTRES).ln() / ln2) for k in range(1, 2 * _CENTRES)])


_CENTRE_LOGS: Final = _centre_logs()
_SQRT_HALF: Final = 0.7071067811865476


def exp2_fraction(fraction: Floats) -> Floats:
    """2**fraction for fractions in [0, 1); the result is in [1, 2)."""
    step = np.floor(fraction * _STEPS)
    x = (fraction - step / _STEPS) * _LN2
    series = np.zeros_like(x)
    for term in _EXP_TERMS:
        series = (series + term) * x
    base = _POWERS[np.minimum(step.astype(np.intp), _STEPS - 1)]
    # Rounding may reach 2.0 for a fraction just below one; the callers' bounds rely on the half-open interval
    return np.minimum(base + base * series, np.nextafter(2.0, 1.0))


def log2(value: Floats) -> Floats:
    """log2 of positive finite values; exact for powers of two."""
    mantissa, exponent = np.frexp(value)
    low = mantissa < _SQRT_HALF
    mantissa = np.where(low, mantissa * 2.0, mantissa)
    step = np.rint(mantissa * _CENTRES)
    centre = step / _CENTRES
    s = (mantissa - centre) / (mantissa + centre)
    square = s * s
    series = np.zeros_like(s)
    for term in _ATANH_TERMS:
        series = series * square + term
    result: Floats = (exponent - low) + (_CENTRE_LOGS[step.astype(np.intp)] + (2.0 / _LN2) * s * series)
    return result
