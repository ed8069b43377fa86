"""exp and log in single precision from additions and multiplications alone, so that every machine gives the same bits.

Polynomials are Taylor and area-hyperbolic-tangent series on a reduced range; relative error below 1e-6.
"""

import numpy as np

from voxmint.pairs.engines.cpu.kernels._jit import inline

_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_LN2 = np.float32(0.6931471805599453)
_HALF, _ONE, _TWO = np.float32(0.5), np.float32(1), np.float32(2)
_E3, _E4, _E5, _E6, _E7 = (np.float32(1 / n) for n in (6, 24, 120, 720, 5040))
_L3, _L5, _L7, _L9 = (np.float32(1 / n) for n in (3, 5, 7, 9))
_SQRT_HALF_BITS = np.int32(0x3F3504F3)
_MANTISSA_BITS = np.int32(23)
_BIAS = np.int32(127)
_LOWEST, _HIGHEST = np.float32(-87.0), np.float32(88.0)


@inline
def exp32(x):
    """Return e**x, float32; x is held to [-87, 88]."""
    x = _LOWEST if x < _LOWEST else (_HIGHEST if x > _HIGHEST else x)
    n = np.int32(np.floor(x * _LOG2_E + _HALF))
    whole = np.float32(n)
    r = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    p = _ONE + r * (_ONE + r * (_HALF + r * (_E3 + r * (_E4 + r * (_E5 + r * (_E6 + r * _E7))))))
    return p * np.int32((n + _BIAS) << _MANTISSA_BITS).view(np.float32)


@inline
def log32(x):
    """Return ln(x), float32; x must be a positive normal number."""
    bits = np.float32(x).view(np.int32)
    exponent = (bits - _SQRT_HALF_BITS) >> _MANTISSA_BITS
    m = np.int32(bits - (exponent << _MANTISSA_BITS)).view(np.float32)
    s = (m - _ONE) / (m + _ONE)
    q = s * s
    series = _TWO * s * (_ONE + q * (_L3 + q * (_L5 + q * (_L7 + q * _L9))))
    return np.float32(exponent) * _LN2 + series
