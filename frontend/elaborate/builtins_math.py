"""Builtins that compute: functions of one or two values, sums and their like."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from dlc.frontend.elaborate.arithmetic import (
    as_value,
    constant_of,
    elementwise,
    is_untyped,
    untyped_value,
)
from dlc.frontend.elaborate.builtin_table import Given, builtin
from dlc.frontend.elaborate.frames import Fault
from dlc.frontend.elaborate.minimize import grad
from dlc.frontend.elaborate.values import Number, Tensor, Value
from dlc.ir import graph as ir
from dlc.ir.dims import product
from dlc.ir.types import BOOL, F32, I32, tensor

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
            raise Fault("dtype-mismatch", f"`{name}` takes floats, not {value.type}", given.span,
                        help="`f32(x)` makes floats")
        if value.dtype is BOOL:
            raise Fault("dtype-mismatch", f"`{name}` does not take bool", given.span)
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


def _two(name: str, exact: Callable[..., float]) -> None:
    def run(given: Given) -> Value:
        a, b = given.values["a"], given.values["b"]
        x, y = constant_of(a), constant_of(b)
        if isinstance(a, Number) and isinstance(b, Number) and x is not None and y is not None:
            return Number(exact(x, y))
        return elementwise(given.frame, name, (a, b), f"`{name}`", given.span)

    builtin(name, "a, b")(run)


_two("maximum", max)
_two("minimum", min)


# Reductions


def _keep(given: Given, made: ir.Value, x: ir.Value, axes: tuple[int, ...]) -> Tensor:
    """The result, with axes of 1 where it was summed if `keepdims` says so."""
    if given.truth("keepdims", False):
        dims = tuple(1 if i in axes else d for i, d in enumerate(x.dims))
        return Tensor(given.frame.place(given.span).reshape(made, dims))
    return Tensor(made)


def _summed(given: Given, x: ir.Value, axes: tuple[int, ...]) -> ir.Value:
    if x.dtype is BOOL:
        raise Fault("dtype-mismatch", f"`{given.name}` does not take bool", given.span,
                    help="`i32(x)` makes 0 and 1 of it")
    return given.frame.place(given.span).sum(x, axes)


@builtin("sum", "x, axis?, keepdims?")
def _sum(given: Given) -> Value:
    x = given.tensor("x")
    axes = given.axes("axis", len(x.dims))
    return _keep(given, _summed(given, x, axes), x, axes)


@builtin("mean", "x, axis?, keepdims?")
def _mean(given: Given) -> Value:
    x = given.tensor("x")
    axes = given.axes("axis", len(x.dims))
    return _keep(given, mean_of(given, x, axes), x, axes)


def mean_of(given: Given, x: ir.Value, axes: tuple[int, ...]) -> ir.Value:
    """The sum over `axes`, over the number of what was summed."""
    if not x.dtype.is_float:
        raise Fault("dtype-mismatch", f"`{given.name}` takes floats, not {x.type}", given.span,
                    help="`f32(x)` makes floats")
    total = _summed(given, x, axes)
    count = as_value(given.frame, Number(product(tuple(x.dims[a] for a in axes))), given.span,
                     x.dtype)
    builder = given.frame.place(given.span)
    return builder.op("div", total, builder.broadcast(count, total.dims))


@builtin("var", "x, axis?, keepdims?")
def _var(given: Given) -> Value:
    x = given.tensor("x")
    axes = given.axes("axis", len(x.dims))
    middle = mean_of(given, x, axes)
    builder = given.frame.place(given.span)
    kept = [i for i in range(len(x.dims)) if i not in axes]
    away = builder.op("sub", x, builder.broadcast(middle, x.dims, kept))
    return _keep(given, mean_of(given, builder.op("mul", away, away), axes), x, axes)


def _extreme(given: Given, x: ir.Value, axes: tuple[int, ...]) -> ir.Value:
    if not axes:
        return x
    return given.frame.emit(given.span, "reduce_max", x, axes=axes)


@builtin("max", "x, axis?, keepdims?")
def _max(given: Given) -> Value:
    x = given.tensor("x")
    axes = given.axes("axis", len(x.dims))
    return _keep(given, _extreme(given, x, axes), x, axes)


@builtin("min", "x, axis?, keepdims?")
def _min(given: Given) -> Value:
    x = given.tensor("x")
    axes = given.axes("axis", len(x.dims))
    down = _extreme(given, given.frame.emit(given.span, "neg", x), axes)
    return _keep(given, given.frame.emit(given.span, "neg", down), x, axes)


def _truths(given: Given) -> tuple[ir.Value, tuple[int, ...]]:
    x = given.tensor("x")
    if x.dtype is not BOOL:
        raise Fault("dtype-mismatch", f"`{given.name}` takes bool, not {x.type}", given.span)
    axes = given.axes("axis", len(x.dims))
    builder = given.frame.place(given.span)
    return builder.sum(builder.cast(x, I32), axes), axes


@builtin("any", "x, axis?")
def _any(given: Given) -> Value:
    count, _ = _truths(given)
    builder = given.frame.place(given.span)
    return Tensor(builder.op("gt", count, builder.zeros(count.type)))


@builtin("all", "x, axis?")
def _all(given: Given) -> Value:
    count, axes = _truths(given)
    x = given.tensor("x")
    whole = as_value(given.frame, Number(product(tuple(x.dims[a] for a in axes))), given.span, I32)
    builder = given.frame.place(given.span)
    return Tensor(builder.op("eq", count, builder.broadcast(whole, count.dims)))


@builtin("argmax", "x, axis?")
def _argmax(given: Given) -> Value:
    x = given.tensor("x")
    axis = given.axis("axis", len(x.dims), 0 if len(x.dims) == 1 else None)
    return Tensor(given.frame.emit(given.span, "argmax", x, axis=axis))


def _rows(name: str) -> None:
    def run(given: Given) -> Value:
        x = given.tensor("x")
        axis = given.axis("axis", len(x.dims), -1)
        return Tensor(given.frame.emit(given.span, name, x, axis=axis))

    builtin(name, "x, axis?")(run)


_rows("softmax")
_rows("log_softmax")


@builtin("one_hot", "label, count")
def _one_hot(given: Given) -> Value:
    label = given.tensor("label")
    if not label.dtype.is_integer:
        raise Fault("dtype-mismatch", f"`one_hot` takes integers, not {label.type}", given.span)
    count = given.dim(given.values["count"], given.spans["count"])
    dims = (*label.dims, count)
    builder = given.frame.place(given.span)
    places = builder.op("iota", dtype=I32, dims=dims, axis=len(dims) - 1)
    spread = builder.broadcast(builder.cast(label, I32), dims, range(len(label.dims)))
    one, zero = builder.constant(1, tensor(F32, dims)), builder.zeros(tensor(F32, dims))
    return Tensor(builder.op("select", builder.op("eq", spread, places), one, zero))


@builtin("stop_gradient", "x")
def _stop_gradient(given: Given) -> Value:
    if is_untyped(given.values["x"]):
        return given.values["x"]
    return Tensor(given.frame.emit(given.span, "stop_gradient", given.tensor("x")))


@builtin("grad", "loss, by", raw=True)
def _grad(given: Given) -> Value:
    return grad(given.frame, given.exprs, given.span)
