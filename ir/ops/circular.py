"""Formulas of sin and cos; see `exponentials.py` for what is said of all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
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
# 2 / pi times 2**256; factors of PIECE bits have exact products with an f32 in f64.
_TWO_OVER_PI: Final = 0xA2F9836E4E441529FC2757D1F534DDC0DB6295993C439041FE5163ABDEBBC561
_PIECE, _PIECES = 29, 4


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
    """sin(x + quarters pi / 2)."""
    single = b.dtype(x) is F32
    wide = b.cast(x, F64) if single else x
    magic = b.const(F64, 1.5 * 2.0**52)
    shifted = b.fma(wide, b.const(F64, 2 / math.pi), magic)
    k = b.primitive("neg", b.sub(shifted, magic))
    r = wide
    for part in _HALF_PI[: 2 if single else 3]:
        r = b.fma(k, b.const(F64, part), r)
    q = b.bitcast(shifted, I64)
    far = b.compare("gt", b.primitive("abs", x), b.like(x, _LIMIT_F32 if single else _LIMIT_F64))
    if not single:
        r = b.select(far, b.like(x, math.nan), r)
        return quarter_turns(b, r, b.add(q, b.const(I64, quarters)))
    near = b.cast(r, F32), b.cast(b.primitive("and", q, b.const(I64, 3)), I32)
    r, q = b.rarely(far, lambda: _reduce_far(b, x), near)
    return quarter_turns(b, r, b.add(q, b.const(I32, quarters)))


def _reduce_far(b: ScalarBuilder[T], x: T) -> tuple[T, T]:
    """`(r, q)` with x = r + q pi / 2, up to whole turns, for an f32 of at least 2**48.

    Of x 2 / pi only what is less than 4 matters, so most digits of 2 / pi do not: those that do
    depend on the magnitude of x (Payne and Hanek 1983).
    """
    size = b.primitive("abs", x)
    scaled = b.mul(b.cast(x, F64), _by_magnitude(b, size, lambda up: 2.0**-up))
    products = [b.mul(scaled, _by_magnitude(b, size, partial(_piece, k)))
                for k in range(_PIECES)]
    quarter, four = b.const(F64, 0.25), b.const(F64, 4)
    first, second = (b.sub(p, b.mul(b.primitive("round", b.mul(p, quarter)), four))
                     for p in products[:2])
    whole = b.primitive("round", b.add(first, second))
    fraction = b.add(b.add(b.sub(first, whole), second), b.add(products[2], products[3]))
    return b.cast(b.mul(fraction, b.const(F64, math.pi / 2)), F32), b.cast(whole, I32)


def _by_magnitude(b: ScalarBuilder[T], size: T, constant: Callable[[int], float]) -> T:
    """A constant that depends on by how many binary places x is moved to lie in 2**[23, 47)."""
    chosen = b.const(F64, constant(25))
    for up in (49, 73, 97):
        above = b.compare("ge", size, b.like(size, 2.0 ** (up + 23)))
        chosen = b.select(above, b.const(F64, constant(up)), chosen)
    return chosen


def _piece(k: int, up: int) -> float:
    """The k-th of the pieces of (2**up 2 / pi) modulo 4."""
    last = (_PIECES - 1 - k) * _PIECE
    low = _PIECES * _PIECE - 2  # binary places in all
    bits = ((_TWO_OVER_PI << up) % (4 << 256)) >> (256 - low)
    return float(bits >> last & ((1 << _PIECE) - 1)) * 2.0 ** (last - low)


def sin(b: ScalarBuilder[T], x: T) -> T:
    """The sine; in f64 nan where |x| is above 2**30."""
    return _sin_shifted(b, x, 0)


def cos(b: ScalarBuilder[T], x: T) -> T:
    """The cosine; in f64 nan where |x| is above 2**30."""
    return _sin_shifted(b, x, 1)
