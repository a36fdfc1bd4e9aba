"""exp2 and log2 made of additions, multiplications and exact scalings only, so that every CPU gives the same bits.

NumPy picks its vectorised exp2 by instruction set, and libm its own by FMA: they differ in the last bit, which is
enough to swap two nearly tied memories between two replicas. IEEE 754 fixes the result of + and x everywhere, so these
do not differ. Errors are below 2 units in the last place. The compiled kernel holds the same
operations in the same order (a test compares the bits): they are NumPy's slow side, a dozen calls for a dozen rows.
"""

from __future__ import annotations

import decimal
import math
from typing import Final

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring import kernel

Floats = npt.NDArray[np.float64]

_STEPS: Final = 256


def _powers() -> Floats:
    # Decimal, because libm's pow is not the same on every platform; 40 digits round correctly to float64
    with decimal.localcontext() as context:
        context.prec = 40
        return np.array([float(decimal.Decimal(2) ** (decimal.Decimal(k) / _STEPS)) for k in range(_STEPS)])


_POWERS: Final = _powers()
_LN2: Final = 0.6931471805599453
_EXP_TERMS: Final = np.array([1.0 / math.factorial(n) for n in range(5, 0, -1)])
_ATANH_TERMS: Final = np.array([1.0 / (2 * n + 1) for n in range(4, -1, -1)])
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
    module = kernel.load()
    if module is not None:
        value = np.array(fraction, np.float64)
        module.exp2(value, _POWERS, _EXP_TERMS)
        return value
    return _exp2_fraction(fraction)


def log2(value: Floats) -> Floats:
    """log2 of positive finite values; exact for powers of two."""
    module = kernel.load()
    if module is not None:
        result = np.array(value, np.float64)
        module.log2(result, _CENTRE_LOGS, _ATANH_TERMS)
        return result
    return _log2(value)


def _exp2_fraction(fraction: Floats) -> Floats:
    step = np.floor(fraction * _STEPS)
    x = (fraction - step / _STEPS) * _LN2
    series = np.zeros_like(x)
    for term in _EXP_TERMS.tolist():
        series = (series + term) * x
    base = _POWERS[np.minimum(step.astype(np.intp), _STEPS - 1)]
    # Rounding may reach 2.0 for a fraction just below one; the callers' bounds rely on the half-open interval
    return np.minimum(base + base * series, np.nextafter(2.0, 1.0))


def _log2(value: Floats) -> Floats:
    mantissa, exponent = np.frexp(value)
    low = mantissa < _SQRT_HALF
    mantissa = np.where(low, mantissa * 2.0, mantissa)
    step = np.floor(mantissa * _CENTRES + 0.5)
    centre = step / _CENTRES
    s = (mantissa - centre) / (mantissa + centre)
    square = s * s
    series = np.zeros_like(s)
    for term in _ATANH_TERMS.tolist():
        series = series * square + term
    result: Floats = (exponent - low) + (_CENTRE_LOGS[step.astype(np.intp)] + (2.0 / _LN2) * s * series)
    return result
