"""Formulas of sin and cos; see `exponentials.py` for what is said of all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
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
# 2 / pi times 2**1192.
_TWO_OVER_PI_BITS: Final = 1192
_TWO_OVER_PI: Final = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea"
    "09d1921cfe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b"
    "1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b3d0739f7"
    "8a5292ea6bfb5fb11f8d5d0856033046fc", 16)
# Factors of PIECE bits have exact products with an f32 in f64.
_PIECE, _PIECES = 29, 4
# Products of DIGIT bits can be added up in 64; DIGITS of them are as much of 2 / pi as f64 needs.
_DIGIT, _DIGITS = 27, 7
_WORDS: Final = 19  # of 64 bits, of 2 / pi: up to the last place that matters for the largest f64


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
    if single:
        r, q = b.cast(r, F32), b.cast(b.primitive("and", q, b.const(I64, 3)), I32)
    reduce_far = _reduce_far_f32 if single else _reduce_far_f64
    r, q = b.rarely(far, lambda: reduce_far(b, x), (r, q))
    return quarter_turns(b, r, b.add(q, b.const(b.dtype(q), quarters)))


def _reduce_far_f32(b: ScalarBuilder[T], x: T) -> tuple[T, T]:
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
    bits = _TWO_OVER_PI >> (_TWO_OVER_PI_BITS - up - low)
    return float(bits >> last & ((1 << _PIECE) - 1)) * 2.0 ** (last - low)


def _reduce_far_f64(b: ScalarBuilder[T], x: T) -> tuple[T, T]:
    """`(r, q)` as above, for an f64 of at least 2**30; r is nan if x is infinite.

    x is m 2**e with a whole number m of 53 bits. Of x 2 / pi modulo 4 all 133 places after the
    point are right that are used: no f64 is within 2**-62 of a whole number of quarter turns.
    """
    size = b.primitive("abs", x)
    bits = b.bitcast(size, I64)
    m = b.primitive("or", b.primitive("and", bits, b.const(I64, (1 << 52) - 1)),
                    b.const(I64, 1 << 52))
    # The bit of 2 / pi that stands for 2 in the product: (exponent's bits - 1053) with 24 zeros
    # before the point.
    place = b.sub(b.primitive("lshr", bits, b.const(I64, 52)), b.const(I64, 1053))
    places = _times(b, m, _digits(b, _bits_at(b, place)))
    upper, lower = (_joined(b, places[k], places[k + 1]) for k in (0, 2))
    carry, lower = _nearest(b, lower, 54)
    whole, upper = _nearest(b, b.add(upper, carry), 52)
    first, second = b.cast(upper, F64), b.cast(lower, F64)
    first, unit = b.mul(first, b.const(F64, 2.0**-52)), b.const(F64, 2.0**-106)
    high = b.fma(second, unit, first)
    low = b.fma(second, unit, b.sub(first, high))  # exact
    low = b.fma(b.cast(places[4], F64), b.const(F64, 2.0**-133), low)
    half, rest = (b.const(F64, part) for part in _HALF_PI[:2])
    r = b.fma(high, half, b.fma(high, rest, b.mul(low, half)))
    r = b.select(b.compare("lt", size, b.const(F64, math.inf)), r, b.const(F64, math.nan))
    below = b.compare("lt", x, b.const(F64, 0))
    r, q = (b.select(below, b.primitive("neg", each), each) for each in (r, whole))
    return r, q


def _bits_at(b: ScalarBuilder[T], place: T) -> list[T]:
    """The 192 bits of 2 / pi from a place on, in words of 64; the first 24 places are zeros."""
    words = [b.const(I64, _word(k)) for k in range(_WORDS)]
    for step in (8, 4, 2, 1):
        moved = b.compare("ne", b.primitive("and", place, b.const(I64, 64 * step)), b.const(I64, 0))
        words = [b.select(moved, words[k + step], words[k]) for k in range(step + 3)]
    left = b.primitive("and", place, b.const(I64, 63))
    right = b.primitive("xor", left, b.const(I64, 63))
    return [b.primitive("or", b.primitive("shl", word, left), b.primitive(
        "lshr", b.primitive("lshr", after, b.const(I64, 1)), right))
        for word, after in pairwise(words)]


def _word(k: int) -> int:
    """The k-th of the words, as a number with a sign."""
    bits = _TWO_OVER_PI >> 64 * (_WORDS - 1 - k) & ((1 << 64) - 1)
    return bits - (bits >> 63 << 64)


def _digits(b: ScalarBuilder[T], words: list[T]) -> list[T]:
    """The first bits of words of 64 bits, as digits."""
    digits = []
    for end in range(_DIGIT, _DIGIT * _DIGITS + 1, _DIGIT):
        k = (end - 1) // 64
        rest = 64 * (k + 1) - end
        bits = b.primitive("lshr", words[k], b.const(I64, rest))
        if end - _DIGIT < 64 * k:
            before = b.primitive("shl", words[k - 1], b.const(I64, 64 - rest))
            bits = b.primitive("or", before, bits)
        digits.append(b.primitive("and", bits, b.const(I64, (1 << _DIGIT) - 1)))
    return digits


def _times(b: ScalarBuilder[T], m: T, digits: list[T]) -> list[T]:
    """The digits after the point of m times a number below 1, for m of two digits."""
    mask, width = b.const(I64, (1 << _DIGIT) - 1), b.const(I64, _DIGIT)
    low, high = b.primitive("and", m, mask), b.primitive("lshr", m, width)
    sums = [b.mul(low, digit) for digit in digits]
    for k, digit in enumerate(digits[1:]):
        sums[k] = b.add(sums[k], b.mul(high, digit))
    for k in reversed(range(1, len(sums))):
        sums[k - 1] = b.add(sums[k - 1], b.primitive("lshr", sums[k], width))
    return [b.primitive("and", each, mask) for each in sums]


def _joined(b: ScalarBuilder[T], high: T, low: T) -> T:
    """Two digits as one."""
    return b.primitive("or", b.primitive("shl", high, b.const(I64, _DIGIT)), low)


def _nearest(b: ScalarBuilder[T], number: T, bits: int) -> tuple[T, T]:
    """The multiple of 2**bits that is nearest, by how many, and what is left, which has a sign."""
    up = b.primitive("lshr", b.add(number, b.const(I64, 1 << (bits - 1))), b.const(I64, bits))
    return up, b.sub(number, b.primitive("shl", up, b.const(I64, bits)))


def sin(b: ScalarBuilder[T], x: T) -> T:
    """The sine."""
    return _sin_shifted(b, x, 0)


def cos(b: ScalarBuilder[T], x: T) -> T:
    """The cosine."""
    return _sin_shifted(b, x, 1)
