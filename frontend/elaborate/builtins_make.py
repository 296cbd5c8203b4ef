"""Builtins that make: constants, draws, initial values, ranges and lists."""

from __future__ import annotations

import math
from zlib import crc32

from dlc.frontend.elaborate.builtin_table import Given, builtin
from dlc.frontend.elaborate.frames import Fault, Frame
from dlc.frontend.elaborate.minimize import variables_in
from dlc.frontend.elaborate.values import Instance, Listing, Many, Number, Tensor, Value, describe
from dlc.ir import graph as ir
from dlc.ir.diagnostics import Span
from dlc.ir.dims import product
from dlc.ir.types import F32, I32, I64, TensorType, tensor


def _kind(given: Given) -> TensorType:
    """The type of what is made: the shape given, in f32, or the type declared."""
    if given.shape:
        return tensor(F32, given.dims())
    declared = given.frame.declared
    if declared is None:
        raise Fault("wrong-arguments", f"`{given.name}` needs a shape here", given.span,
                    help=f"`{given.name}(N, 10)`; it is left out only after `param` and `state`")
    return declared


def _filled(given: Given, value: float) -> Value:
    return Tensor(given.frame.place(given.span).constant(value, _kind(given)))


@builtin("zeros", "*shape")
def _zeros(given: Given) -> Value:
    return _filled(given, 0)


@builtin("ones", "*shape")
def _ones(given: Given) -> Value:
    return _filled(given, 1)


@builtin("full", "*shape, value")
def _full(given: Given) -> Value:
    kind = _kind(given)
    value = given.tensor("value", kind.dtype)
    if value.dims or value.dtype is not kind.dtype:
        raise given.fault("value", f"`full` takes a scalar {kind.dtype}, not {value.type}")
    return Tensor(given.frame.place(given.span).broadcast(value, kind.dims))


@builtin("eye", "*shape")
def _eye(given: Given) -> Value:
    kind = _kind(given)
    dims = kind.dims * 2 if len(kind.dims) == 1 else kind.dims
    if len(dims) != 2:
        raise Fault("shape-mismatch", f"`eye` makes a matrix, not {kind}", given.span)
    builder = given.frame.place(given.span)
    row, column = (builder.op("iota", dtype=I32, dims=dims, axis=axis) for axis in (0, 1))
    return Tensor(builder.cast(builder.op("eq", row, column), kind.dtype))


# Draws


def draw(frame: Frame, span: Span, op: str, kind: TensorType) -> ir.Value:
    """Random numbers of a type: from the seed, the call's number, the place in the text and the
    element's number."""
    context = frame.context
    if context.random is None:
        context.random = context.builder.fresh("random", tensor(I64, (2,)))
    builder = frame.place(span)
    numbers = [builder.reshape(builder.op("slice", context.random, start=(k,), step=(1,),
                                          dims=(1,)), ()) for k in (0, 1)]
    seed, call = (builder.broadcast(v, kind.dims) for v in numbers)
    line = builder.op("iota", dtype=I64, dims=(product(kind.dims),), axis=0)
    element = builder.reshape(line, kind.dims)
    made = builder.op(op, seed, call, element, place=_place(frame, span))
    return builder.cast(made, kind.dtype)


def _place(frame: Frame, span: Span) -> int:
    """A number for a place in the text and the calls through which it was reached.

    The name of the file is no part of it: a program that is moved draws the same numbers.
    """
    chain, loc = [frame.path], frame.loc(span)
    step: ir.Loc | None = loc
    while step is not None:
        chain.append(f"{step.line}:{step.column}")
        step = step.caller
    if frame.declared is not None:
        chain = [frame.path]  # an initial value depends on the name of its variable alone
    key = "<".join(chain)
    count = frame.context.draws.get(key, 0)
    frame.context.draws[key] = count + 1
    return crc32(f"{key}#{count}".encode())


def _scaled(given: Given, made: ir.Value, factor: float, offset: float) -> ir.Value:
    builder = given.frame.place(given.span)
    if factor != 1:
        made = builder.op("mul", made, builder.constant(factor, made.type))
    return builder.op("add", made, builder.constant(offset, made.type)) if offset else made


def _needs_float(given: Given, kind: TensorType) -> TensorType:
    if not kind.dtype.is_float:
        raise Fault("dtype-mismatch", f"`{given.name}` makes floats, not {kind.dtype}", given.span)
    return kind


@builtin("uniform", "*shape, low?, high?")
def _uniform(given: Given) -> Value:
    kind = _needs_float(given, _kind(given))
    low, high = given.number("low", 0.0), given.number("high", 1.0)
    made = draw(given.frame, given.span, "random_uniform", kind)
    return Tensor(_scaled(given, made, high - low, low))


@builtin("normal", "*shape, mean?, stddev?")
def _normal(given: Given) -> Value:
    kind = _needs_float(given, _kind(given))
    made = draw(given.frame, given.span, "random_normal", kind)
    return Tensor(_scaled(given, made, given.number("stddev", 1.0), given.number("mean", 0.0)))


def _fans(given: Given, kind: TensorType) -> tuple[float, float]:
    """Fan-in and fan-out: `(in, out)` for rank 2, `(out, in, kernel…)` from rank 3."""
    sizes = [float(d) if isinstance(d, int) else 1.0 for d in kind.dims]
    if len(sizes) == 2:
        found: tuple[float, float] | None = sizes[0], sizes[1]
    elif len(sizes) > 2:
        area = math.prod(sizes[2:])
        found = sizes[1] * area, sizes[0] * area
    else:
        found = None
    if found is None and not (given.has("fan_in") and given.has("fan_out")):
        raise Fault("wrong-arguments", f"`{given.name}` needs `fan_in=` and `fan_out=` for {kind}",
                    given.span)
    fan_in, fan_out = found or (1.0, 1.0)
    return given.number("fan_in", fan_in), given.number("fan_out", fan_out)


@builtin("glorot_uniform", "*shape, fan_in?, fan_out?")
def _glorot_uniform(given: Given) -> Value:
    kind = _needs_float(given, _kind(given))
    limit = math.sqrt(6 / sum(_fans(given, kind)))
    made = draw(given.frame, given.span, "random_uniform", kind)
    return Tensor(_scaled(given, made, 2 * limit, -limit))


@builtin("glorot_normal", "*shape, fan_in?, fan_out?")
def _glorot_normal(given: Given) -> Value:
    kind = _needs_float(given, _kind(given))
    made = draw(given.frame, given.span, "random_normal", kind)
    return Tensor(_scaled(given, made, math.sqrt(2 / sum(_fans(given, kind))), 0))


@builtin("he_normal", "*shape, fan_in?, fan_out?")
def _he_normal(given: Given) -> Value:
    kind = _needs_float(given, _kind(given))
    made = draw(given.frame, given.span, "random_normal", kind)
    return Tensor(_scaled(given, made, math.sqrt(2 / _fans(given, kind)[0]), 0))


@builtin("he_uniform", "*shape, fan_in?, fan_out?")
def _he_uniform(given: Given) -> Value:
    kind = _needs_float(given, _kind(given))
    limit = math.sqrt(6 / _fans(given, kind)[0])
    made = draw(given.frame, given.span, "random_uniform", kind)
    return Tensor(_scaled(given, made, 2 * limit, -limit))


@builtin("bernoulli", "p")
def _bernoulli(given: Given) -> Value:
    p = given.tensor("p")
    if not p.dtype.is_float:
        raise Fault("dtype-mismatch", f"`bernoulli` takes floats, not {p.type}", given.span)
    made = draw(given.frame, given.span, "random_uniform", p.tensor)
    builder = given.frame.place(given.span)
    return Tensor(builder.cast(builder.op("lt", made, p), p.dtype))


@builtin("dropout", "x, rate")
def _dropout(given: Given) -> Value:
    """What is left is scaled up, so that the mean stays; nothing where no step trains."""
    x, frame = given.tensor("x"), given.frame
    if not frame.context.training:
        return Tensor(x)
    rate = given.tensor("rate", x.dtype)
    made = draw(frame, given.span, "random_uniform", x.tensor)
    builder = frame.place(given.span)
    spread = builder.broadcast(rate, x.dims)
    scale = builder.op("div", x, builder.op("sub", builder.constant(1, x.type), spread))
    return Tensor(builder.op("select", builder.op("ge", made, spread), scale,
                             builder.zeros(x.type)))


def _later(name: str) -> None:
    """A function of the language that can't be compiled yet: its name is known, and says so."""
    def run(given: Given) -> Value:
        raise Fault("unsupported", f"`{name}` is not supported yet", given.span)

    builtin(name, "x", raw=True)(run)


for _name in ("categorical", "conv1d", "conv_transpose2d", "cumsum", "dense", "flip", "max_pool2d",
              "orthogonal", "permutation", "set_at", "sort", "top_k"):
    _later(_name)


# Ranges and lists


@builtin("range", "count")
def _range(given: Given) -> Value:
    """A list where the length is a constant; a tensor of i32 where it is a dim."""
    count = given.dim(given.values["count"], given.spans["count"])
    if isinstance(count, int):
        if not 0 <= count <= 100_000:
            raise given.fault("count", f"a range of {count}", "number-range")
        return Listing(tuple(Number(i) for i in range(count)))
    if given.frame.new_model is not None:
        return Listing((Number(0),), known=False)
    return Tensor(given.frame.emit(given.span, "iota", dtype=I32, dims=(count,), axis=0))


@builtin("len", "x")
def _len(given: Given) -> Value:
    x = given.values["x"]
    if isinstance(x, Listing | Many):
        return Number(len(x.items))
    if isinstance(x, Tensor) and x.value.dims:
        return Number(x.value.dims[0])
    raise given.fault("x", f"{describe(x)} has no length")


@builtin("zip", "a, b")
def _zip(given: Given) -> Value:
    a, b = given.values["a"], given.values["b"]
    if not isinstance(a, Listing) or not isinstance(b, Listing) or len(a.items) != len(b.items):
        raise Fault("wrong-count", f"`zip` takes lists of one length, not {describe(a)} and "
                    f"{describe(b)}", given.span)
    return Listing(tuple(Many(pair) for pair in zip(a.items, b.items, strict=True)),
                   a.known and b.known)


@builtin("params", "model")
def _params(given: Given) -> Value:
    model = given.values["model"]
    if not isinstance(model, Instance | Listing):
        raise given.fault("model", f"`params` takes a model, not {describe(model)}")
    return Listing(tuple(v for v in variables_in(model) if v.trained))


