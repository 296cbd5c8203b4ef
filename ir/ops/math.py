"""Exponentials, logarithms, powers, sigmoids, sine and cosine: element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from dlc.ir.ops import circular, exponentials, special
from dlc.ir.ops.elementwise import FLOAT, elementwise
from dlc.ir.ops.exponentials import wide
from dlc.ir.scalar import Array

if TYPE_CHECKING:
    from dlc.ir.graph import Builder, Value

    Slope = Callable[[Builder, Value, Value], Value]


def _in_f64(function: Callable[..., Array]) -> Callable[..., Array]:
    """`function` computed in float64: rounded once more at the end, it is right to half a unit."""
    return lambda *xs: function(*(x.astype(np.float64) for x in xs))


def _number(b: Builder, value: float, like: Value) -> Value:
    return b.constant(value, like.type)


def _one_minus(b: Builder, x: Value) -> Value:
    return b.op("sub", _number(b, 1, x), x)


def _unary(
    name: str, doc: str, formula: Callable[..., object], evaluate: Callable[..., Array],
    slope: Slope, *, low: float = -2.0, high: float = 2.0, cost: float = 8,
) -> None:
    """Registers a function of one float; `slope(b, x, y)` is its derivative."""
    elementwise(
        name, doc, 1, FLOAT, formula=wide(formula), evaluate=_in_f64(evaluate), low=low, high=high,
        cost=cost, gradient=lambda b, g, x, y: (b.op("mul", g, slope(b, x[0], y)),))


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _softplus(x: Array) -> Array:
    return np.logaddexp(x, 0)


def _gauss(b: Builder, x: Value, y: Value) -> Value:
    bell = b.op("exp", b.op("neg", b.op("mul", x, x)))
    return b.op("mul", bell, _number(b, 2 / math.sqrt(math.pi), x))


_unary("exp", "e to the power of a", exponentials.exp, np.exp, lambda b, x, y: y)
_unary("expm1", "exp(a) - 1, exact for small a too", exponentials.expm1, np.expm1,
       lambda b, x, y: b.op("add", y, _number(b, 1, y)), cost=10)
_unary("log", "the natural logarithm; -inf at 0, nan below", exponentials.log, np.log,
       lambda b, x, y: b.op("div", _number(b, 1, x), x), low=0.1)
_unary("log1p", "log(1 + a), exact for small a too", exponentials.log1p, np.log1p,
       lambda b, x, y: b.op("div", _number(b, 1, x), b.op("add", x, _number(b, 1, x))),
       low=-0.9, cost=10)
_unary("tanh", "the hyperbolic tangent", exponentials.tanh, np.tanh,
       lambda b, x, y: _one_minus(b, b.op("mul", y, y)), cost=12)
_unary("sigmoid", "1 / (1 + exp(-a))", exponentials.sigmoid, _sigmoid,
       lambda b, x, y: b.op("mul", y, _one_minus(b, y)), cost=10)
_unary("softplus", "log(1 + exp(a))", exponentials.softplus, _softplus,
       lambda b, x, y: b.op("sigmoid", x), cost=12)
_unary("log_sigmoid", "log(sigmoid(a))", exponentials.log_sigmoid, lambda x: -_softplus(-x),
       lambda b, x, y: b.op("sigmoid", b.op("neg", x)), cost=12)
_unary("sin", "the sine", circular.sin, np.sin,
       lambda b, x, y: b.op("cos", x), cost=16)
_unary("cos", "the cosine", circular.cos, np.cos,
       lambda b, x, y: b.op("neg", b.op("sin", x)), cost=16)
_unary("erf", "the error function", special.erf, np.vectorize(math.erf, otypes=[np.float64]),
       _gauss, cost=16)
_unary("rsqrt", "1 / sqrt(a)", special.rsqrt, lambda x: np.asarray(1 / np.sqrt(x)),
       lambda b, x, y: b.op("mul", _number(b, -0.5, x), b.op("div", y, x)), low=0.1, cost=6)


def _power(x: Array, y: Array) -> Array:
    """x**y; nan where x < 0 and y is not whole."""
    with np.errstate(all="ignore"):
        return np.power(x, y)


def _power_gradient(
    b: Builder, g: Value, x: tuple[Value, ...], y: Value
) -> tuple[Value | None, ...]:
    """`g b a**(b - 1)`, 0 if b is 0, and `g y log(a)`, 0 where a is not above 0."""
    base, exponent = x
    zero, one = b.zeros(base.type), _number(b, 1, base)
    slope = b.op("mul", exponent, b.op("pow", base, b.op("sub", exponent, one)))
    slope = b.op("select", b.op("eq", exponent, zero), zero, slope)
    positive = b.op("gt", base, zero)
    logarithm = b.op("log", b.op("select", positive, base, one))
    growth = b.op("select", positive, b.op("mul", y, logarithm), zero)
    return b.op("mul", g, slope), b.op("mul", g, growth)


elementwise(
    "pow", "a ** b by logarithms: nan for a < 0 and a b that is not whole", 2, FLOAT,
    formula=wide(special.power), evaluate=_in_f64(_power), gradient=_power_gradient, low=0.1,
    cost=30)
