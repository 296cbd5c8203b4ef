"""Builtins that put elements in an order, add them up along one, or set some of them."""

from __future__ import annotations

from dlc.frontend.elaborate.arithmetic import as_value
from dlc.frontend.elaborate.builtin_table import Given, builtin
from dlc.frontend.elaborate.builtins_reduce import widened
from dlc.frontend.elaborate.declared import conform
from dlc.frontend.elaborate.draws import draw
from dlc.frontend.elaborate.frames import Fault, flatten
from dlc.frontend.elaborate.gather import Place, along, place_of, side_by_side
from dlc.frontend.elaborate.indexing import constant_place
from dlc.frontend.elaborate.values import Many, Number, Tensor, Value
from dlc.ir import graph as ir
from dlc.ir.diagnostics import plural
from dlc.ir.dims import Dim
from dlc.ir.graph import Builder
from dlc.ir.types import BOOL, I32, I64, tensor

# Orders. Along an axis that is not the last one, the axes change places before and after.


def _last(builder: Builder, x: ir.Value, axis: int) -> ir.Value:
    """`x` with `axis` and the last axis in each other's place."""
    rank = len(x.dims)
    order = list(range(rank))
    order[axis], order[-1] = order[-1], order[axis]
    return x if axis == rank - 1 else builder.op("transpose", x, order=tuple(order))


def _ranked(given: Given) -> tuple[ir.Value, int]:
    """What is sorted, with its axis as the last one."""
    x = given.tensor("x")
    if not x.dims:
        raise Fault("axis-range", f"`{given.name}` goes along an axis; {x.type} has none",
                    given.span)
    axis = given.axis("axis", len(x.dims), len(x.dims) - 1)
    return _last(given.frame.place(given.span), x, axis), axis


def _order(builder: Builder, x: ir.Value, descending: bool) -> ir.Value:
    """Where the elements along the last axis stand that come one after the other.

    Equal ones stay in their order, and nan is the largest, either way: descending is the ascending
    order of the row from its end, read from its end.
    """
    if not descending:
        return builder.op("argsort", x)
    last = (len(x.dims) - 1,)
    back = builder.op("argsort", builder.op("flip", x, axes=last))
    order = builder.op("flip", back, axes=last)
    end = builder.op("dim", dtype=I32, value=x.dims[-1] - 1)
    return builder.op("sub", builder.broadcast(end, order.dims), order)


@builtin("argsort", "x, axis?, descending?")
def _argsort(given: Given) -> Value:
    x, axis = _ranked(given)
    builder = given.frame.place(given.span)
    order = _order(builder, x, given.truth("descending", False))
    return Tensor(_last(builder, order, axis))


@builtin("sort", "x, axis?, descending?")
def _sort(given: Given) -> Value:
    x, axis = _ranked(given)
    builder = given.frame.place(given.span)
    order = _order(builder, x, given.truth("descending", False))
    return Tensor(_last(builder, along(given.frame, x, order, given.span), axis))


@builtin("top_k", "x, k")
def _top_k(given: Given) -> Value:
    """The k largest along the last axis, the largest first, and where they stand."""
    x, _ = _ranked(given)
    k = given.dim(given.values["k"], given.spans["k"])
    frame, span = given.frame, given.span
    frame.at_least(k, 0, f"{k} >= 0, for it counts elements", span, f"`top_k` of {k} elements")
    frame.at_least(x.dims[-1] - k, 0, f"{k} <= {x.dims[-1]}, for `top_k` takes {k} of them", span,
                   f"`top_k` takes {k} of {x.dims[-1]} elements")
    builder = frame.place(span)
    order = _order(builder, x, descending=True)
    dims = (*x.dims[:-1], k)
    first = builder.op("slice", order, start=(0,) * len(dims), step=(1,) * len(dims), dims=dims)
    return Many((Tensor(along(frame, x, first, span)), Tensor(first)))


@builtin("permutation", "n")
def _permutation(given: Given) -> Value:
    """The numbers below n in a random order: that of as many words of 64 random bits."""
    count = given.dim(given.values["n"], given.spans["n"])
    given.frame.at_least(count, 0, f"{count} >= 0, for it is a size", given.span,
                         f"a permutation of {count}")
    keys = draw(given.frame, given.span, "random_seed", tensor(I64, (count,)))
    return Tensor(given.frame.place(given.span).op("argsort", keys))


@builtin("flip", "x, axis?")
def _flip(given: Given) -> Value:
    x = given.tensor("x")
    axes = given.axes("axis", len(x.dims))
    return Tensor(given.frame.emit(given.span, "flip", x, axes=axes)) if axes else Tensor(x)


@builtin("cumsum", "x, axis?, reverse?")
def _cumsum(given: Given) -> Value:
    x = given.tensor("x")
    if x.dtype is BOOL:
        raise Fault("bool-arithmetic", "`cumsum` does not take bool", given.span,
                    help="`i32(x)` makes 0 and 1 of it")
    axis = given.axis("axis", len(x.dims), 0 if len(x.dims) == 1 else None)
    builder = given.frame.place(given.span)
    made = builder.op("cumsum", widened(builder, x), axis=axis,
                      reverse=given.truth("reverse", False))
    return Tensor(builder.cast(made, x.dtype) if x.dtype.is_float else made)


# Updates


@builtin("set_at", "x, i, v")
def _set_at(given: Given) -> Value:
    """`x` with v at the index i, or at `(i, j)`: of several for one place the last one stays."""
    x, frame, span = given.tensor("x"), given.frame, given.spans["i"]
    indices = flatten(given.values["i"])
    if len(indices) > len(x.dims):
        raise Fault("too-many-indices",
                    f"{plural(len(indices), 'index', 'indices')} for {x.type}", span)
    places = [_place(given, index, extent)
              for index, extent in zip(indices, x.dims, strict=False)]
    ids = side_by_side(frame, places, span)
    wanted = tensor(x.dtype, (*ids[0].dims, *x.dims[len(ids):]))
    v = conform(frame, given.tensor("v", x.dtype), wanted, "`v`", given.spans["v"])
    return Tensor(frame.emit(given.span, "scatter", x, v, *ids, axis=0, mode="set"))


def _place(given: Given, index: Value, extent: Dim) -> Place:
    span = given.spans["i"]
    if isinstance(index, Number) and not isinstance(index.value, float):
        place = constant_place(given.frame, index.value, extent, span)
        return Place(as_value(given.frame, Number(place), span, I32), extent)
    return place_of(given.frame, index, extent, span)
