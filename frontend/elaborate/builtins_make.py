"""Builtins that make: constants, ranges and lists."""

from __future__ import annotations

from dlc.frontend.elaborate.arithmetic import as_value
from dlc.frontend.elaborate.builtin_table import Given, builtin
from dlc.frontend.elaborate.frames import Fault, Silent, check_size
from dlc.frontend.elaborate.minimize import variables_in
from dlc.frontend.elaborate.values import Instance, Listing, Many, Number, Tensor, Value, describe
from dlc.ir.dims import Dim
from dlc.ir.types import I32, TensorType, tensor


def made_type(given: Given) -> TensorType:
    """The type of what is made: the shape given, in f32 (`default_float`), or the type
    declared."""
    if given.shape:
        made = tensor(given.frame.default_float, given.dims())
        check_size(made, given.span)
        return made
    declared = given.frame.declared
    if declared is None:
        raise Fault("missing-shape", f"`{given.name}` needs a shape here", given.span,
                    help=f"`{given.name}(N, 10)`; it is left out only after `param` and `state`")
    return declared


def _filled(given: Given, value: float) -> Value:
    return Tensor(given.frame.place(given.span).constant(value, made_type(given)))


@builtin("zeros", "*shape")
def _zeros(given: Given) -> Value:
    return _filled(given, 0)


@builtin("ones", "*shape")
def _ones(given: Given) -> Value:
    return _filled(given, 1)


@builtin("full", "*shape, value")
def _full(given: Given) -> Value:
    kind = made_type(given)
    value = given.tensor("value", kind.dtype)
    if value.dims or value.dtype is not kind.dtype:
        raise given.fault("value", f"`full` takes a scalar {kind.dtype}, not {value.type}",
                          help=f"`{value.dtype}(zeros(N)) + x` fills with what is no {kind.dtype}")
    return Tensor(given.frame.place(given.span).broadcast(value, kind.dims))


@builtin("eye", "*shape")
def _eye(given: Given) -> Value:
    kind = made_type(given)
    dims = kind.dims * 2 if len(kind.dims) == 1 else kind.dims
    if len(dims) != 2:
        raise Fault("rank-mismatch", f"`eye` makes a matrix, not {kind}", given.span)
    builder = given.frame.place(given.span)
    row, column = (builder.op("iota", dtype=I32, dims=dims, axis=axis) for axis in (0, 1))
    return Tensor(builder.cast(builder.op("eq", row, column), kind.dtype))


# Ranges and lists


@builtin("range", "start, stop?")
def _range(given: Given) -> Value:
    """`range(n)`, `range(from, to)`: a list where the bounds are constants, else i32[to - from]."""
    start: Dim = 0
    stop = given.dim(given.values["start"], given.spans["start"])
    if given.has("stop"):
        start, stop = stop, given.dim(given.values["stop"], given.spans["stop"])
    count = stop - start
    if isinstance(start, int) and isinstance(stop, int):
        if not 0 <= stop - start <= 100_000:
            raise Fault("number-range", f"a range from {start} to {stop}", given.span)
        return Listing(tuple(Number(i) for i in range(start, stop)))
    frame, span = given.frame, given.span
    if frame.new_model is not None:
        return Listing((Number(start),), known=False, alike=False)
    if start != 0:
        frame.at_least(count, 0, f"{start} <= {stop}, for they bound a range", span,
                       f"a range from {start} to {stop}")
    places = frame.emit(span, "iota", dtype=I32, dims=(count,), axis=0)
    if start == 0:
        return Tensor(places)
    first = as_value(frame, Number(start), span, I32)
    builder = frame.place(span)
    return Tensor(builder.op("add", places, builder.broadcast(first, (count,))))


@builtin("len", "x")
def _len(given: Given) -> Value:
    x = given.values["x"]
    if isinstance(x, Listing) and not x.known:
        raise Silent  # known when the model is built
    if isinstance(x, Listing | Many):
        return Number(len(x.items))
    if isinstance(x, Tensor) and x.value.dims:
        return Number(x.value.dims[0])
    raise given.fault("x", f"{describe(x)} has no length")


@builtin("zip", "a, b, *more")
def _zip(given: Given) -> Value:
    lists = [v for v in (given.values["a"], given.values["b"], *given.shape)
             if isinstance(v, Listing)]
    if len(lists) < 2 + len(given.shape) or len({len(x.items) for x in lists if x.known}) > 1:
        found = (given.values["a"], given.values["b"], *given.shape)
        raise Fault("zip-lengths", f"`zip` takes lists of one length, not "
                    f"{' and '.join(map(describe, found))}", given.span)
    known = all(each.known for each in lists)
    items = zip(*(each.items if known else each.items[:1] for each in lists), strict=known)
    return Listing(tuple(map(Many, items)), known, known or all(map(_is_alike, lists)))


def _is_alike(items: Listing) -> bool:
    """Whether all items of a list are like the first."""
    return items.alike if not items.known else len(items.items) < 2


@builtin("params", "model")
def _params(given: Given) -> Value:
    model = given.values["model"]
    if not isinstance(model, Instance | Listing):
        raise given.fault("model", f"`params` takes a model, not {describe(model)}")
    return Listing(tuple(v for v in variables_in(model) if v.trained))
