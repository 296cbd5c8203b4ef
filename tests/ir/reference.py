"""The functions of `ir/ops/math.py` in 70 digits (some 230 bits): what formulas are held against.

Made of sums and products of Python's `decimal` and of its `exp` and `ln`, which are right to the
last digit; sines and erf are their Taylor series. Arguments and results are `Decimal`; arguments
are finite, and a function is defined at them.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from functools import cache
from typing import Final

DIGITS: Final = 70
GUARD: Final = 20
_WIDEST: Final = 400  # digits before the point of the largest f64, and those of a result


def _precise(digits: int = DIGITS + GUARD) -> Context:
    return Context(prec=digits, Emin=-10**6, Emax=10**6)


def _expm1(x: Decimal) -> Decimal:
    if abs(x) > Decimal("0.1"):
        return x.exp() - 1
    return _series(x, lambda k: x / (k + 1))


def _series(first: Decimal, ratio: Callable[[int], Decimal]) -> Decimal:
    """first * (1 + ratio(1) * (1 + ratio(2) * ...)), until it stays as it is."""
    total, term, k = first, first, 1
    while term and abs(term) > abs(total) * Decimal(10) ** -(DIGITS + GUARD):
        term = term * ratio(k)
        total += term
        k += 1
    return total


def _log1p(x: Decimal) -> Decimal:
    if abs(x) > Decimal("1e-20"):
        with localcontext(_precise(DIGITS + 2 * GUARD)):
            return (1 + x).ln()
    return x - x * x / 2 + x**3 / 3 - x**4 / 4 + x**5 / 5


def _tanh(x: Decimal) -> Decimal:
    above = _expm1(2 * x) if x < 1000 else Decimal("1e1000")
    return above / (above + 2)


def _softplus(x: Decimal) -> Decimal:
    return max(x, Decimal(0)) + _log1p((-abs(x)).exp())


def _erf(x: Decimal) -> Decimal:
    """The alternating series; it loses as many digits as its largest term has."""
    if abs(x) > 12:
        return Decimal(1).copy_sign(x)  # but for less than 1e-63
    with localcontext(_precise(DIGITS + GUARD + 80)):
        square, term, total, k = x * x, x, x, 0
        while abs(term) > abs(x) * Decimal(10) ** -(DIGITS + GUARD):
            k += 1
            term = -term * square / k
            total += term / (2 * k + 1)
        return 2 * total / pi(DIGITS + GUARD + 80).sqrt()


@cache
def pi(digits: int) -> Decimal:
    """By Machin's formula."""
    with localcontext(_precise(digits + 10)):
        def inverse_tangent_of_inverse(n: int) -> Decimal:
            total = term = Decimal(1) / n
            k = 1
            while abs(term) > Decimal(10) ** -(digits + 10):
                term = -term / (n * n)
                k += 2
                total += term / k
            return total

        return 16 * inverse_tangent_of_inverse(5) - 4 * inverse_tangent_of_inverse(239)


def _sine_from(x: Decimal, quarters: int) -> Decimal:
    """sin(x + quarters pi / 2)."""
    with localcontext(_precise(_WIDEST)):
        half = pi(_WIDEST) / 2
        turns = (x / half).to_integral_value()
        r, quarters = x - turns * half, quarters + int(turns % 4)
    square = r * r
    if quarters % 2:
        value = _series(Decimal(1), lambda k: -square / ((2 * k - 1) * 2 * k))
    else:
        value = _series(r, lambda k: -square / (2 * k * (2 * k + 1)))
    return -value if quarters % 4 in (2, 3) else value


def _power(x: Decimal, y: Decimal) -> Decimal:
    """x**y where it is a number and x is not 0."""
    size = (abs(x).ln() * y).exp()
    return -size if x < 0 and int(y) % 2 else size


FUNCTIONS: Final[dict[str, Callable[..., Decimal]]] = {
    "exp": lambda x: x.exp(), "expm1": _expm1, "log": lambda x: x.ln(), "log1p": _log1p,
    "tanh": _tanh, "sigmoid": lambda x: 1 / (1 + (-x).exp()), "softplus": _softplus,
    "log_sigmoid": lambda x: -_softplus(-x), "sin": lambda x: _sine_from(x, 0),
    "cos": lambda x: _sine_from(x, 1), "erf": _erf, "sqrt": lambda x: x.sqrt(),
    "rsqrt": lambda x: 1 / x.sqrt(), "pow": _power,
    "div": lambda x, y: x / y,
}


def exact(name: str, *xs: float) -> Decimal:
    """The value of a function at floats."""
    with localcontext(_precise()):
        return FUNCTIONS[name](*map(Decimal, xs))


def ulps(found: float, right: Decimal, mantissa: int, smallest: float) -> float:
    """|found - right| in units in the last place of `right`, for `mantissa` explicit bits."""
    with localcontext(_precise()):
        size = max(abs(right), Decimal(smallest))
        exponent = int(size.ln() / Decimal(2).ln())
        while Decimal(2) ** exponent > size:
            exponent -= 1
        while Decimal(2) ** (exponent + 1) <= size:
            exponent += 1
        return float(abs(Decimal(found) - right) / Decimal(2) ** (exponent - mantissa))
