"""Builtins that make less of many: sums, means, the largest, whether any; and softmax."""

from __future__ import annotations

from dlc.frontend.elaborate.arithmetic import as_value
from dlc.frontend.elaborate.builtin_table import Given, builtin
from dlc.frontend.elaborate.frames import Fault
from dlc.frontend.elaborate.gather import complement, least
from dlc.frontend.elaborate.values import Number, Tensor, Value
from dlc.ir import graph as ir
from dlc.ir.dims import Dim, product
from dlc.ir.graph import Builder
from dlc.ir.types import BOOL, F32, I32


def _keep(given: Given, made: ir.Value, x: ir.Value, axes: tuple[int, ...]) -> Tensor:
    """The result, with axes of 1 where it was summed if `keepdims` says so."""
    if given.truth("keepdims", False):
        dims = tuple(1 if i in axes else d for i, d in enumerate(x.dims))
        return Tensor(given.frame.place(given.span).reshape(made, dims))
    return Tensor(made)


def _summed(given: Given, x: ir.Value, axes: tuple[int, ...]) -> ir.Value:
    if x.dtype is BOOL:
        raise Fault("bool-arithmetic", f"`{given.name}` does not take bool", given.span,
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
    """The sum over `axes`, over the number of what was summed; in f32 at least."""
    if not x.dtype.is_float:
        raise Fault("needs-floats", f"`{given.name}` takes floats, not {x.type}", given.span,
                    help="`f32(x)` makes floats")
    builder = given.frame.place(given.span)
    total = builder.sum(widened(builder, x), axes)
    count = as_value(given.frame, Number(product(tuple(x.dims[a] for a in axes))), given.span,
                     total.dtype)
    return builder.cast(builder.op("div", total, builder.broadcast(count, total.dims)), x.dtype)


def widened(builder: Builder, x: ir.Value) -> ir.Value:
    """Halves as f32, for sums that would not fit them."""
    return builder.cast(x, F32) if x.dtype.size == 2 else x


@builtin("var", "x, axis?, keepdims?")
def _var(given: Given) -> Value:
    x = given.tensor("x")
    axes = given.axes("axis", len(x.dims))
    builder = given.frame.place(given.span)
    wide = widened(builder, x) if x.dtype.is_float else x
    middle = mean_of(given, wide, axes)
    kept = [i for i in range(len(x.dims)) if i not in axes]
    away = builder.op("sub", wide, builder.broadcast(middle, x.dims, kept))
    made = mean_of(given, builder.op("mul", away, away), axes)
    return _keep(given, builder.cast(made, x.dtype), x, axes)


def _extreme(given: Given, x: ir.Value, axes: tuple[int, ...]) -> ir.Value:
    if not axes:
        return x
    if x.dtype is BOOL:
        raise Fault("bool-arithmetic", f"`{given.name}` does not take bool", given.span,
                    help="`any` and `all` do")
    for axis in axes:
        _require_some(given, x.dims[axis])
    return (least if given.name == "min" else _greatest)(given.frame.place(given.span), x, axes)


def _require_some(given: Given, extent: Dim) -> None:
    given.frame.at_least(extent, 1, f"{extent} >= 1, for `{given.name}` of nothing is not "
                         "defined", given.span, f"`{given.name}` over an axis of {extent}")


def _greatest(builder: Builder, x: ir.Value, axes: tuple[int, ...]) -> ir.Value:
    return builder.op("reduce_max", x, axes=axes)


@builtin("max", "x, axis?, keepdims?")
@builtin("min", "x, axis?, keepdims?")
def _max_or_min(given: Given) -> Value:
    x = given.tensor("x")
    axes = given.axes("axis", len(x.dims))
    return _keep(given, _extreme(given, x, axes), x, axes)


def _truths(given: Given) -> tuple[ir.Value, tuple[int, ...]]:
    x = given.tensor("x")
    if x.dtype is not BOOL:
        raise Fault("needs-bool", f"`{given.name}` takes bool, not {x.type}", given.span)
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


def _place_of_extreme(given: Given, smallest: bool) -> Value:
    x = given.tensor("x")
    axis = given.axis("axis", len(x.dims), 0 if len(x.dims) == 1 else None)
    _require_some(given, x.dims[axis])
    if smallest and x.dtype is not BOOL:
        builder = given.frame.place(given.span)
        x = builder.op("neg", x) if x.dtype.is_float else complement(builder, x)
    return Tensor(given.frame.emit(given.span, "argmax", x, axis=axis))


@builtin("argmax", "x, axis?")
def _argmax(given: Given) -> Value:
    return _place_of_extreme(given, smallest=False)


@builtin("argmin", "x, axis?")
def _argmin(given: Given) -> Value:
    return _place_of_extreme(given, smallest=True)


def _rows(name: str) -> None:
    def run(given: Given) -> Value:
        x = given.tensor("x")
        axis = given.axis("axis", len(x.dims), -1)
        return Tensor(given.frame.emit(given.span, name, x, axis=axis))

    builtin(name, "x, axis?")(run)


_rows("softmax")
_rows("log_softmax")
