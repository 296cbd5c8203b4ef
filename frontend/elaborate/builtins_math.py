"""Builtins that compute element by element, and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from dlc.frontend.elaborate.arithmetic import (
    constant_of,
    elementwise,
    is_untyped,
    untyped_value,
)
from dlc.frontend.elaborate.builtin_table import Given, builtin
from dlc.frontend.elaborate.frames import Fault
from dlc.frontend.elaborate.minimize import grad
from dlc.frontend.elaborate.values import Number, Tensor, Value
from dlc.ir import dims
from dlc.ir.types import BOOL, I32, I64, tensor

_FLOATS: Final[dict[str, Callable[[float], float]]] = {
    "exp": math.exp, "log": math.log, "tanh": math.tanh, "sin": math.sin, "cos": math.cos,
    "sqrt": math.sqrt, "rsqrt": lambda x: 1 / math.sqrt(x), "erf": math.erf,
    "log1p": math.log1p, "expm1": math.expm1, "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "softplus": lambda x: math.log1p(math.exp(x)),
    "log_sigmoid": lambda x: -math.log1p(math.exp(-x)),
}
_NUMBERS: Final[dict[str, Callable[[float], float]]] = {
    "abs": abs, "sign": lambda x: (x > 0) - (x < 0),
}
_ROUNDED: Final[dict[str, Callable[[float], float]]] = {"floor": math.floor, "round": round}


def _unary(name: str, exact: Callable[[float], float], floats: bool) -> None:
    def run(given: Given) -> Value:
        x = given.values["x"]
        number = constant_of(x) if isinstance(x, Number) else None
        if number is not None:
            return Number(_exact(given, exact, number))
        value = untyped_value(given.frame, x, given.span) if is_untyped(x) else given.tensor("x")
        if floats and not value.dtype.is_float:
            raise Fault("needs-floats", f"`{name}` takes floats, not {value.type}", given.span,
                        help="`f32(x)` makes floats")
        if value.dtype is BOOL:
            raise Fault("bool-arithmetic", f"`{name}` does not take bool", given.span)
        return Tensor(given.frame.emit(given.span, name, value), is_untyped(x))

    builtin(name, "x")(run)


def _exact(given: Given, function: Callable[[float], float], number: float) -> float:
    try:
        return function(number)
    except OverflowError:
        return math.inf
    except (ValueError, ZeroDivisionError):
        return math.nan


for _name, _function in _FLOATS.items():
    _unary(_name, _function, True)
for _name, _function in _ROUNDED.items():
    _unary(_name, _function, True)
for _name, _function in _NUMBERS.items():
    _unary(_name, _function, False)


def _two(
    name: str, exact: Callable[..., float], symbolic: Callable[[dims.Dim, dims.Dim], dims.Dim]
) -> None:
    def run(given: Given) -> Value:
        a, b = given.values["a"], given.values["b"]
        x, y = constant_of(a), constant_of(b)
        if isinstance(a, Number) and isinstance(b, Number) and x is not None and y is not None:
            return Number(exact(x, y))
        if isinstance(a, Number) and isinstance(b, Number) and not (
                isinstance(a.value, float) or isinstance(b.value, float)):
            return Number(symbolic(a.value, b.value))
        return elementwise(given.frame, name, (a, b), f"`{name}`", given.span)

    builtin(name, "a, b")(run)


_two("maximum", max, dims.maximum)
_two("minimum", min, dims.minimum)


@builtin("clamp", "x, low, high")
def _clamp(given: Given) -> Value:
    """At least `low`, at most `high`, which counts where they cross."""
    x, low, high = (given.values[name] for name in ("x", "low", "high"))
    raised = elementwise(given.frame, "maximum", (x, low), "`clamp`", given.span)
    return elementwise(given.frame, "minimum", (raised, high), "`clamp`", given.span)


@builtin("ceil", "x")
def _ceil(given: Given) -> Value:
    x = given.values["x"]
    number = constant_of(x) if isinstance(x, Number) else None
    if number is not None:
        return Number(math.ceil(number))
    value = given.tensor("x")
    if not value.dtype.is_float:
        raise Fault("needs-floats", f"`ceil` takes floats, not {value.type}", given.span)
    down = given.frame.emit(given.span, "floor", given.frame.emit(given.span, "neg", value))
    return Tensor(given.frame.emit(given.span, "neg", down))


@builtin("one_hot", "label, count")
def _one_hot(given: Given) -> Value:
    """1 where a label is, 0 elsewhere; all 0 for a label out of range."""
    label = given.tensor("label")
    if not label.dtype.is_integer:
        raise Fault("needs-integers", f"`one_hot` takes integers, not {label.type}", given.span)
    dtype = label.dtype if label.dtype is I64 else I32
    count = given.dim(given.values["count"], given.spans["count"])
    shape = (*label.dims, count)
    builder = given.frame.place(given.span)
    places = builder.op("iota", dtype=dtype, dims=shape, axis=len(label.dims))
    spread = builder.broadcast(builder.cast(label, dtype), shape, range(len(label.dims)))
    kind = tensor(given.frame.default_float, shape)
    one, zero = builder.constant(1, kind), builder.zeros(kind)
    return Tensor(builder.op("select", builder.op("eq", spread, places), one, zero))


@builtin("stop_gradient", "x")
def _stop_gradient(given: Given) -> Value:
    if is_untyped(given.values["x"]):
        return given.values["x"]
    return Tensor(given.frame.emit(given.span, "stop_gradient", given.tensor("x")))


@builtin("grad", "loss, by", raw=True)
def _grad(given: Given) -> Value:
    return grad(given.frame, given.exprs, given.span)
