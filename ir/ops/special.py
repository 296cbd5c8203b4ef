"""Formulas of erf, rsqrt and pow; see `exponentials.py` for what is said of all of them."""

from __future__ import annotations

import math
from typing import Final, TypeVar

from dlc.ir.ops import exponentials as base
from dlc.ir.scalar import ScalarBuilder
from dlc.ir.types import F32, F64

T = TypeVar("T")

# erf(x) / x - 1 in x**2 for |x| <= 1: 2**-29.6 and 2**-62.7.
_ERF_LOW_F32: Final = (
    7.8538644e-05, -0.0008010194, 0.0051883277, -0.026853813, 0.112835854, -0.37612626, 0.12837917)
_ERF_LOW_F64: Final = (
    5.945261124617166e-11, -1.136566564118532e-09, 1.4657879774671944e-08, -1.6350025215375894e-07,
    1.64609728166469e-06, -1.4925593506888752e-05, 0.00012055331036900577, -0.0008548326978742261,
    0.005223977624780868, -0.026866170645072896, 0.11283791670954857, -0.3761263890318375,
    0.1283791670955126)
# -log(erfc(x)) for 1 <= x <= 4: 2**-29.9 in erf.
_ERF_HIGH_F32: Final = (
    -0.0001855737, 0.0029396045, -0.021805307, 0.10303735, 0.6382257, 1.12704, 0.00035372266)
# exp(x**2) erfc(x) in 1 / (1 + x) for 1 <= x <= 6: 2**-57.6 in erf.
_ERF_HIGH_F64: Final = (
    0.8496071066779047, -6.909407306827402, 24.047817374585836, -48.41899860318714,
    62.98180672265318, -54.92939726674904, 31.562071619027872, -10.94211532238452,
    2.0882890117104758, -0.8046135874253921, 0.3515582388669368, 0.5579376759155965,
    0.5645321125904142, -8.641962627939275e-06)


def erf(b: ScalarBuilder[T], x: T) -> T:
    """The error function: a polynomial up to |x| = 1, 1 - erfc beyond."""
    single = b.dtype(x) is F32
    one = b.like(x, 1)
    size = b.primitive("abs", x)
    square = b.mul(x, x)
    low = b.fma(x, b.polynomial(square, _ERF_LOW_F32 if single else _ERF_LOW_F64), x)
    a = b.primitive("minimum", size, b.like(x, 4 if single else 6))
    if single:
        power = b.primitive("neg", b.polynomial(a, _ERF_HIGH_F32))
        rest = base.exp_inside(b, power)
    else:
        scaled = b.polynomial(b.div(one, b.add(a, one)), _ERF_HIGH_F64)
        rest = b.mul(base.exp_inside(b, b.primitive("neg", b.mul(a, a))), scaled)
    high = base.with_sign_of(b, b.sub(one, rest), x)
    return b.select(b.compare("gt", size, one), high, low)


def rsqrt(b: ScalarBuilder[T], x: T) -> T:
    """1 / sqrt(x)."""
    return b.div(b.like(x, 1), b.primitive("sqrt", x))


def power(b: ScalarBuilder[T], x: T, y: T) -> T:
    """x**y = exp(y log |x|), with the sign of x if y is odd; f32 by way of f64. nan if x < 0 is
    finite and y not whole, 1 if y is 0 or x is 1."""
    size = b.primitive("abs", x)
    if b.dtype(x) is F32:
        wide = b.cast(size, F64)
        exponent = b.mul(b.cast(y, F64), _log_of_base(b, wide, base.log_inside(
            b, wide, base.LOG_SHORT)))
        inside = _clamp(b, exponent, 200.0)
        result = b.cast(base.exp_inside(b, inside, base.EXP_SHORT), F32)
        result = b.select(b.compare("eq", exponent, exponent), result, b.cast(exponent, F32))
    else:
        result = _power_f64(b, size, y)
    one = b.like(x, 1)
    result = b.select(b.compare("eq", size, one), one, result)
    result = _signed_power(b, x, y, result)
    result = b.select(b.compare("eq", y, b.like(y, 0)), one, result)
    return b.select(b.compare("eq", x, one), one, result)


def _signed_power(b: ScalarBuilder[T], x: T, y: T, size: T) -> T:
    """x**y where its size is that of |x|**y."""
    whole = b.compare("eq", b.primitive("round", y), y)
    half = b.mul(y, b.like(y, 0.5))
    even = b.compare("eq", b.primitive("round", half), half)
    result = b.select(even, size, base.with_sign_of(b, size, x))
    number = b.select(b.compare("gt", x, b.like(x, -math.inf)), b.like(x, math.nan), size)
    other = b.select(b.compare("lt", x, b.like(x, 0)), number, size)
    return b.select(whole, result, other)


def _clamp(b: ScalarBuilder[T], x: T, limit: float) -> T:
    x = b.primitive("minimum", x, b.like(x, limit))
    return b.primitive("maximum", x, b.like(x, -limit))


def _log_of_base(b: ScalarBuilder[T], x: T, inside: T) -> T:
    """`inside`, which is log(x), with its values at 0, inf and nan."""
    y = b.select(b.compare("gt", x, b.like(x, 0)), inside, b.like(x, -math.inf))
    return b.select(b.compare("lt", x, b.like(x, math.inf)), y, x)


def _power_f64(b: ScalarBuilder[T], x: T, y: T) -> T:
    """exp(y log x) in f64, log x and the product as sums of two numbers (Dekker 1971)."""
    high, low = _log_pair(b, x)
    product = b.mul(y, _log_of_base(b, x, high))
    near = b.compare("lt", b.primitive("abs", product), b.like(x, 746))
    error = b.fma(y, low, b.fma(y, high, b.primitive("neg", product)))
    r, n = base.reduce_exp(b, _clamp(b, product, 746.0))
    r = b.add(r, b.select(near, error, b.like(x, 0)))
    result = b.primitive(
        "ldexp", b.add(b.like(x, 1), base.expm1_part(b, r, base.EXP_F64)), n)
    return b.select(b.compare("eq", product, product), result, product)


def _log_pair(b: ScalarBuilder[T], x: T) -> tuple[T, T]:
    """log(x) as a sum of two f64, to 2**-60; x positive and finite."""
    n, m = base.split_denormal(b, x)
    one = b.like(x, 1)
    part = b.sub(m, one)
    whole = b.add(m, one)
    lost = b.sub(m, b.sub(whole, one))
    inverse = b.div(one, whole)
    s = b.mul(part, inverse)
    rest = b.fma(b.primitive("neg", s), whole, part)
    rest = b.mul(inverse, b.fma(b.primitive("neg", s), lost, rest))
    z = b.mul(s, s)
    tail = b.fma(b.mul(s, z), b.polynomial(z, base.LOG_F64), b.add(rest, rest))
    tail = b.fma(n, b.like(x, base.LN2_F64[1]), tail)
    first = b.mul(n, b.like(x, base.LN2_F64[0]))
    twice = b.add(s, s)
    high = b.add(first, twice)
    low = b.add(b.sub(twice, b.sub(high, first)), tail)
    total = b.add(high, low)
    return total, b.add(b.sub(high, total), low)
