"""Formulas of sin and cos; see `exponentials.py` for what is said of all of them."""

from __future__ import annotations

import math
from typing import Final, TypeVar

from dlc.ir.scalar import ScalarBuilder
from dlc.ir.types import F32, F64, I32, I64

T = TypeVar("T")

# sin(r) / r - 1 over r**2, and (cos(r) - 1 + r**2 / 2) / r**4, in r**2 for |r| <= pi / 4:
# 2**-37.6 and 2**-33.3 for f32, 2**-68.8 and 2**-64.2 for f64.
_SIN_F32: Final = (2.7182373e-06, -0.00019839327, 0.008333329, -0.16666667)
_COS_F32: Final = (2.443773e-05, -0.0013887362, 0.041666646)
_SIN_F64: Final = (
    -7.578625545534229e-13, 1.6058365194440508e-10, -2.50521049005511e-08, 2.7557319214148905e-06,
    -0.0001984126984125499, 0.008333333333333323, -0.16666666666666666)
_COS_F64: Final = (
    -1.1359448624191265e-11, 2.0875719557601233e-09, -2.755731432602231e-07, 2.4801587289394896e-05,
    -0.001388888888887399, 0.0416666666666666)
# pi / 2 as a sum of three f64.
_HALF_PI: Final = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
_LIMIT_F32, _LIMIT_F64 = 2.0**48, 2.0**30


def quarter_turns(b: ScalarBuilder[T], r: T, q: T) -> T:
    """sin(r + q pi / 2) for |r| <= pi / 4; q is an integer of the size of r."""
    single = b.dtype(r) is F32
    bits, width = (I32, 32) if single else (I64, 64)
    z = b.mul(r, r)
    one = b.like(r, 1)
    sine = b.mul(r, b.fma(z, b.polynomial(z, _SIN_F32 if single else _SIN_F64), one))
    tail = b.fma(z, b.polynomial(z, _COS_F32 if single else _COS_F64), b.like(r, -0.5))
    cosine = b.fma(z, tail, one)
    odd = b.compare("ne", b.primitive("and", q, b.const(bits, 1)), b.const(bits, 0))
    turned = b.bitcast(b.select(odd, cosine, sine), bits)
    sign = b.primitive(
        "shl", b.primitive("and", q, b.const(bits, 2)), b.const(bits, width - 2))
    return b.bitcast(b.primitive("xor", turned, sign), b.dtype(r))


def _sin_shifted(b: ScalarBuilder[T], x: T, quarters: int) -> T:
    """sin(x + quarters pi / 2). The reduction is exact: in f64, with pi / 2 in parts."""
    single = b.dtype(x) is F32
    wide = b.cast(x, F64) if single else x
    magic = b.const(F64, 1.5 * 2.0**52)
    shifted = b.fma(wide, b.const(F64, 2 / math.pi), magic)
    k = b.primitive("neg", b.sub(shifted, magic))
    r = wide
    for part in _HALF_PI[: 2 if single else 3]:
        r = b.fma(k, b.const(F64, part), r)
    q = b.add(b.bitcast(shifted, I64), b.const(I64, quarters))
    if single:
        r, q = b.cast(r, F32), b.cast(b.primitive("and", q, b.const(I64, 3)), I32)
    limit = b.like(x, _LIMIT_F32 if single else _LIMIT_F64)
    inside = b.compare("le", b.primitive("abs", x), limit)
    return b.select(inside, quarter_turns(b, r, q), b.like(x, math.nan))


def sin(b: ScalarBuilder[T], x: T) -> T:
    """The sine; nan where |x| is above 2**48 (f32) or 2**30 (f64)."""
    return _sin_shifted(b, x, 0)


def cos(b: ScalarBuilder[T], x: T) -> T:
    """The cosine; nan where |x| is above 2**48 (f32) or 2**30 (f64)."""
    return _sin_shifted(b, x, 1)
