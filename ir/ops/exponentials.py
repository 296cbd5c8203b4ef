"""Formulas of the transcendental functions, for f32 and f64, in the primitives of `ScalarBuilder`.

All are branch-free: a polynomial on a short interval after a reduction of the argument, as in Cody
and Waite, *Software Manual for the Elementary Functions* (1980), and Muller, *Elementary Functions*
(2016). There are no tables, and at most one division. The polynomials are minimax for the relative
error of the function, found by the exchange algorithm of Remez in 50 digits and then rounded; the
bound beside each is that of the polynomial alone. Coefficients stand highest power first.

f32 results are within 2 units in the last place wherever the result is a normal number (pow: 1),
f64 results within 4 (pow: 32 next to over- and underflow). Results below the smallest normal number
may be 0 and arguments below it count as 0, as on hardware that flushes them. nan gives nan. f16 and
bf16 are computed in f32.

Arguments are clamped where nothing changes any more, so that results need not be chosen at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeVar

from dlc.ir.dataclass import dataclass
from dlc.ir.scalar import ScalarBuilder
from dlc.ir.types import F32, F64, I32, I64, DType

T = TypeVar("T")
Coefficients = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Format:
    """A float format and the constants that belong to it."""

    dtype: DType
    bits: DType  # the integers of its size
    mantissa: int  # explicit bits
    bias: int
    sqrt_half: int  # the bits of sqrt(1/2)
    smallest: float  # normal number
    largest: float
    exp_low: float  # exp is 0 at this, or as good as 0, and inf at that
    exp_high: float
    ln2: tuple[float, float]  # high part, with zeros at the end, and rest
    exp: Coefficients  # (exp(r) - 1 - r) / r**2, |r| <= ln(2) / 2
    expm1_low: float  # below it exp is nothing beside 1

    @property
    def magic(self) -> float:
        """Added to a number below 2**(mantissa - 2), it leaves the nearest integer in low bits."""
        return 1.5 * 2.0**self.mantissa


# Relative error of exp by these polynomials: 2**-28.3 and 2**-61.7.
_EXP_F32: Final = (0.0013820947, 0.008368684, 0.041668266, 0.16666521, 0.49999994)
EXP_F64: Final = (
    2.092447713760634e-09, 2.5109090565507812e-08, 2.7557242649804514e-07, 2.7557244061505186e-06,
    2.4801587360685793e-05, 0.00019841269886266627, 0.0013888888888866772, 0.008333333333321579,
    0.0416666666666667, 0.16666666666666677, 0.5)
EXP_SHORT: Final = (
    0.00019914230148735938, 0.0013941050048961626, 0.00833327295019048, 0.04166635416428787,
    0.1666666681745277, 0.5000000046524973)
LN2_F64: Final = (0.6931471803691238, 1.9082149292705877e-10)
_F32 = _Format(
    F32, I32, 23, 127, 0x3F3504F3, 2.0**-126, (2 - 2.0**-23) * 2.0**127, -87.9, 89.0,
    (0.693145751953125, 1.428606765330187e-06), _EXP_F32, -17.5)
_F64 = _Format(
    F64, I64, 52, 1023, 0x3FE6A09E667F3BCD, 2.0**-1022, (2 - 2.0**-52) * 2.0**1023,
    -708.9, 710.0, LN2_F64, EXP_F64, -38.0)


def wide(formula: Callable[..., T]) -> Callable[..., T]:
    """`formula` with f16 and bf16 computed in f32."""

    def widened(b: ScalarBuilder[T], *xs: T) -> T:
        dtype = b.dtype(xs[0])
        if dtype is F32 or dtype is F64:
            return formula(b, *xs)
        return b.cast(formula(b, *(b.cast(x, F32) for x in xs)), dtype)

    return widened


def _format(b: ScalarBuilder[T], x: T) -> _Format:
    return _F64 if b.dtype(x) is F64 else _F32


def with_sign_of(b: ScalarBuilder[T], magnitude: T, x: T) -> T:
    """A number that is not negative, or has the sign of `x` already, with the sign of `x`."""
    f = _format(b, x)
    sign = b.primitive("and", b.bitcast(x, f.bits), b.const(f.bits, -(2 ** (8 * f.bits.size - 1))))
    return b.bitcast(b.primitive("or", b.bitcast(magnitude, f.bits), sign), f.dtype)


def _at_least(b: ScalarBuilder[T], x: T, low: float) -> T:
    return b.primitive("maximum", x, b.like(x, low))


def _at_most(b: ScalarBuilder[T], x: T, high: float) -> T:
    return b.primitive("minimum", x, b.like(x, high))


# exp and what is made of it: x = r + n ln 2, with n a whole number and |r| <= ln(2) / 2.

def _rest(b: ScalarBuilder[T], x: T, n: T, ln2: tuple[float, ...]) -> T:
    """x - n ln 2, with ln 2 in parts."""
    for part in ln2:
        x = b.fma(n, b.like(x, -part), x)
    return x


def reduce_exp(b: ScalarBuilder[T], x: T) -> tuple[T, T]:
    """`(r, n)`."""
    n = b.primitive("round", b.mul(x, b.like(x, math.log2(math.e))))
    return _rest(b, x, n, _format(b, x).ln2), n


def _reduce_inside(
    b: ScalarBuilder[T], x: T, less: int = 0, ln2: tuple[float, ...] = ()
) -> tuple[T, T]:
    """`(r, 2**(n - less))`; 0 and inf are the powers next to those that are normal numbers."""
    f = _format(b, x)
    # The exponent's bits are the last ones of a number that is rounded to a whole one.
    magic = b.like(x, f.magic + f.bias - less)
    shifted = b.fma(x, b.like(x, math.log2(math.e)), magic)
    n = b.sub(shifted, magic)
    power = b.primitive("shl", b.bitcast(shifted, f.bits), b.const(f.bits, f.mantissa))
    return _rest(b, x, n, ln2 or f.ln2), b.bitcast(power, f.dtype)


def expm1_part(b: ScalarBuilder[T], r: T, coefficients: Coefficients) -> T:
    """exp(r) - 1 for |r| <= ln(2) / 2."""
    square = b.mul(r, r)
    return b.fma(square, b.polynomial(r, coefficients, square), r)


def exp_inside(b: ScalarBuilder[T], x: T, coefficients: Coefficients = ()) -> T:
    """exp where x lies between those that give 0 and inf, anything elsewhere; inf comes early."""
    r, power = _reduce_inside(b, x)
    return b.fma(power, expm1_part(b, r, coefficients or _format(b, x).exp), power)


def exp(b: ScalarBuilder[T], x: T) -> T:
    """e**x."""
    f = _format(b, x)
    x = _at_most(b, _at_least(b, x, f.exp_low), f.exp_high)
    r, n = reduce_exp(b, x)
    return b.primitive("ldexp", b.add(b.like(x, 1), expm1_part(b, r, f.exp)), n)


def expm1(b: ScalarBuilder[T], x: T) -> T:
    """e**x - 1 = 2 * (2**(n - 1) (exp(r) - 1) + (2**(n - 1) - 1/2)), as 2**n may be too large."""
    f = _format(b, x)
    r, power = _reduce_inside(b, _at_most(b, _at_least(b, x, f.expm1_low), f.exp_high), 1)
    half = b.fma(power, expm1_part(b, r, f.exp), b.sub(power, b.like(x, 0.5)))
    return with_sign_of(b, b.add(half, half), x)  # -0 stays -0


def tanh(b: ScalarBuilder[T], x: T) -> T:
    """(1 - exp(-2|x|)) / (1 + exp(-2|x|)), with the sign of x."""
    f = _format(b, x)
    one = b.like(x, 1)
    double = b.mul(b.primitive("abs", x), b.like(x, -2))
    # one part of ln 2 will do: where n is large, exp is small beside 1.
    r, power = _reduce_inside(b, _at_least(b, double, f.expm1_low), ln2=(math.log(2),))
    part = expm1_part(b, r, f.exp)
    above = b.fma(power, part, b.sub(power, one))
    ratio = b.div(above, b.fma(power, part, b.add(power, one)))
    return with_sign_of(b, b.primitive("abs", ratio), x)


def sigmoid(b: ScalarBuilder[T], x: T) -> T:
    """m - m e / (1 + e) with e = exp(-|x|), where m is 1 or, for x < 0, e."""
    one = b.like(x, 1)
    e = _exp_negative(b, x)
    ratio = b.div(e, b.add(e, one))
    m = b.select(b.compare("lt", x, b.like(x, 0)), e, one)
    return b.fma(b.primitive("neg", m), ratio, m)


def _exp_negative(b: ScalarBuilder[T], x: T) -> T:
    """exp(-|x|)."""
    below = b.primitive("neg", b.primitive("abs", x))
    return exp_inside(b, _at_least(b, below, _format(b, x).exp_low))


# Logarithms.

# (log(1 + f) - f) / f**2 on [sqrt(1/2) - 1, sqrt(2) - 1] and on [0, 1]: 2**-30.3 and 2**-30.1.
_LOG_F32: Final = (
    0.067492768, -0.11670105, 0.1188355, -0.12406234, 0.14220358, -0.16667989, 0.20002072,
    -0.25000009, 0.33333313, -0.5)
_LOG1P_F32: Final = (
    0.0020844401, -0.013691187, 0.042113908, -0.08323805, 0.12479481, -0.16135158, 0.19899622,
    -0.24988864, 0.33332714, -0.49999988)
# (log((1 + s) / (1 - s)) / s - 2) / s**2 in s**2, |s| <= 3 - sqrt(8), 2**-58.5 and 2**-43.9.
LOG_F64: Final = (
    0.14795949502386863, 0.1531405056332274, 0.18183564326067939, 0.22222198573177263,
    0.2857142874238778, 0.39999999999414676, 0.6666666666666734)
LOG_SHORT: Final = (
    0.19584055414634619, 0.2217619432919773, 0.2857210905144083, 0.3999999562254535,
    0.6666666667579989)


def split(b: ScalarBuilder[T], x: T) -> tuple[T, T]:
    """`(e + bias, m)` with x = 2**e m and sqrt(1/2) <= m < sqrt(2), for positive normal x."""
    f = _format(b, x)
    offset = (f.bias << f.mantissa) - f.sqrt_half
    shifted = b.add(b.bitcast(x, f.bits), b.const(f.bits, offset))
    low = b.primitive("and", shifted, b.const(f.bits, (1 << f.mantissa) - 1))
    m = b.bitcast(b.add(low, b.const(f.bits, f.sqrt_half)), f.dtype)
    return b.primitive("lshr", shifted, b.const(f.bits, f.mantissa)), m


def unbiased(b: ScalarBuilder[T], exponent: T, m: T) -> T:
    """e of `split` as a number: the last bits of 2**mantissa + bias + e, less the rest of it."""
    f = _format(b, m)
    first = b.const(f.bits, (f.bias + f.mantissa) << f.mantissa)
    number = b.bitcast(b.primitive("or", exponent, first), f.dtype)
    return b.sub(number, b.like(m, 2.0**f.mantissa + f.bias))


def split_denormal(b: ScalarBuilder[T], x: T) -> tuple[T, T]:
    """`(e, m)` as of `split`, e being a number, for all positive finite x."""
    f = _format(b, x)
    small = b.compare("lt", x, b.like(x, f.smallest))
    up = f.mantissa + 1
    exponent, m = split(b, b.select(small, b.mul(x, b.like(x, 2.0**up)), x))
    e = unbiased(b, exponent, m)
    return b.select(small, b.sub(e, b.like(x, up)), e), m


def _log_sum(b: ScalarBuilder[T], part: T, e: T, coefficients: Coefficients = LOG_F64) -> T:
    """log(1 + part) + e ln 2."""
    f = _format(b, part)
    square = b.mul(part, part)
    if f is _F32:
        log = b.fma(square, b.polynomial(part, _LOG_F32, square), part)
        return b.fma(e, b.like(part, math.log(2)), log)
    high, low = b.like(part, f.ln2[0]), b.like(part, f.ln2[1])
    s = b.div(part, b.add(part, b.like(part, 2)))
    z = b.mul(s, s)
    half = b.mul(square, b.like(part, 0.5))
    tail = b.fma(s, b.fma(z, b.polynomial(z, coefficients), half), b.mul(e, low))
    return b.fma(e, high, b.sub(part, b.sub(half, tail)))


def log_inside(b: ScalarBuilder[T], x: T, coefficients: Coefficients = LOG_F64) -> T:
    """log where x is positive, normal and finite; anything elsewhere."""
    exponent, m = split(b, x)
    return _log_sum(b, b.sub(m, b.like(x, 1)), unbiased(b, exponent, m), coefficients)


def _log_edges(b: ScalarBuilder[T], x: T, y: T, zero: float) -> T:
    """`y` with the values of a logarithm outside: -inf at the pole `zero`, nan below it."""
    y = b.select(b.compare("le", x, b.like(x, _format(b, x).largest)), y, x)
    below = b.compare("lt", x, b.like(x, zero))
    low = b.select(below, b.like(x, math.nan), b.like(x, -math.inf))
    return b.select(b.compare("le", x, b.like(x, zero)), low, y)


def log(b: ScalarBuilder[T], x: T) -> T:
    """The natural logarithm; -inf at 0, nan below."""
    e, m = split_denormal(b, x)
    return _log_edges(b, x, _log_sum(b, b.sub(m, b.like(x, 1)), e), 0)


def _log1p_inside(b: ScalarBuilder[T], x: T) -> T:
    """log(1 + x), 1 + x being rounded and the rounding error carried along."""
    f = _format(b, x)
    one = b.like(x, 1)
    u = b.add(x, one)
    back = b.sub(u, one)
    error = b.add(b.sub(one, b.sub(u, back)), b.sub(x, back))
    exponent, m = split(b, u)
    # 2**(1 - e), for 2**-e may be too small to be normal.
    opposite = b.sub(b.const(f.bits, 2 * f.bias + 1), exponent)
    inverse = b.bitcast(b.primitive("shl", opposite, b.const(f.bits, f.mantissa)), f.dtype)
    part = b.fma(b.mul(error, b.like(x, 0.5)), inverse, b.sub(m, one))
    return _log_sum(b, part, unbiased(b, exponent, m))


def log1p(b: ScalarBuilder[T], x: T) -> T:
    """log(1 + x); -inf at -1, nan below."""
    return with_sign_of(b, _log_edges(b, x, _log1p_inside(b, x), -1), x)  # -0 stays -0


def _log1p_exp(b: ScalarBuilder[T], x: T) -> T:
    """log(1 + exp(-|x|))."""
    e = _exp_negative(b, x)
    if _format(b, x) is _F64:
        return _log1p_inside(b, e)
    square = b.mul(e, e)
    return b.fma(square, b.polynomial(e, _LOG1P_F32, square), e)


def softplus(b: ScalarBuilder[T], x: T) -> T:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))."""
    return b.add(b.primitive("maximum", x, b.like(x, 0)), _log1p_exp(b, x))


def log_sigmoid(b: ScalarBuilder[T], x: T) -> T:
    """log(sigmoid(x)) = min(x, 0) - log(1 + exp(-|x|))."""
    return b.sub(b.primitive("minimum", x, b.like(x, 0)), _log1p_exp(b, x))
