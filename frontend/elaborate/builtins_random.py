"""Builtins that draw random numbers, and initial values."""

from __future__ import annotations

import math

from dlc.frontend.elaborate.builtin_table import Given, builtin
from dlc.frontend.elaborate.builtins_make import made_type
from dlc.frontend.elaborate.draws import draw
from dlc.frontend.elaborate.frames import Fault, Frame
from dlc.frontend.elaborate.values import Tensor, Value
from dlc.ir import graph as ir
from dlc.ir.diagnostics import Span
from dlc.ir.dims import Dim, at_least, product
from dlc.ir.graph import Builder
from dlc.ir.ops.contract import einsum_spec, matmul_spec
from dlc.ir.types import F32, F64, TensorType, tensor


def _scaled(given: Given, made: ir.Value, factor: float, offset: float) -> ir.Value:
    builder = given.frame.place(given.span)
    if factor != 1:
        made = builder.op("mul", made, builder.constant(factor, made.type))
    return builder.op("add", made, builder.constant(offset, made.type)) if offset else made


def _needs_float(given: Given, kind: TensorType) -> TensorType:
    if not kind.dtype.is_float:
        raise Fault("needs-floats", f"`{given.name}` makes floats, not {kind.dtype}", given.span)
    return kind


@builtin("uniform", "*shape, low?, high?")
def _uniform(given: Given) -> Value:
    kind = _needs_float(given, made_type(given))
    low, high = given.number("low", 0.0), given.number("high", 1.0)
    made = draw(given.frame, given.span, "random_uniform", kind)
    return Tensor(_scaled(given, made, high - low, low))


@builtin("normal", "*shape, mean?, stddev?")
def _normal(given: Given) -> Value:
    kind = _needs_float(given, made_type(given))
    made = draw(given.frame, given.span, "random_normal", kind)
    return Tensor(_scaled(given, made, given.number("stddev", 1.0), given.number("mean", 0.0)))


@builtin("bernoulli", "p")
def _bernoulli(given: Given) -> Value:
    p = given.tensor("p")
    if not p.dtype.is_float:
        raise Fault("needs-floats", f"`bernoulli` takes floats, not {p.type}", given.span)
    made = draw(given.frame, given.span, "random_uniform", _at_least_f32(p))
    builder = given.frame.place(given.span)
    return Tensor(builder.cast(builder.op("lt", made, builder.cast(p, made.dtype)), p.dtype))


def _at_least_f32(x: ir.Value) -> TensorType:
    """The type in which chances are compared: halves would round draws up to 1."""
    return x.tensor if x.dtype is F64 else tensor(F32, x.dims)


@builtin("categorical", "logits")
def _categorical(given: Given) -> Value:
    """One of the places along the last axis, drawn by its logit: the largest after Gumbel noise."""
    logits = given.tensor("logits")
    if not logits.dtype.is_float or not logits.dims:
        raise Fault("needs-floats", f"`categorical` takes floats along an axis, not "
                    f"{logits.type}", given.span)
    kind = _at_least_f32(logits)
    made = draw(given.frame, given.span, "random_uniform", kind)
    builder = given.frame.place(given.span)
    # -log of an exponential draw. A draw of 24 bits is moved to the middle of its step: never 0,
    # whose noise would be inf.
    middle = builder.op("add", made, builder.constant(2.0**-25, kind))
    waiting = builder.op("neg", builder.op("log1p", builder.op("neg", middle)))
    noisy = builder.op("sub", builder.cast(logits, kind.dtype), builder.op("log", waiting))
    return Tensor(builder.op("argmax", noisy, axis=len(kind.dims) - 1))


@builtin("dropout", "x, rate")
def _dropout(given: Given) -> Value:
    """What is left is scaled up, so that the mean stays; nothing where no step trains."""
    x, frame = given.tensor("x"), given.frame
    if not frame.context.training:
        return Tensor(x)
    rate = given.tensor("rate", x.dtype)
    made = draw(frame, given.span, "random_uniform", _at_least_f32(x))
    builder = frame.place(given.span)
    spread = builder.broadcast(rate, x.dims)
    scale = builder.op("div", x, builder.op("sub", builder.constant(1, x.type), spread))
    kept = builder.op("ge", made, builder.cast(spread, made.dtype))
    return Tensor(builder.op("select", kept, scale, builder.zeros(x.type)))


# Initial values


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
        raise Fault("missing-argument", f"`{given.name}` needs `fan_in=` and `fan_out=` for {kind}",
                    given.span)
    fan_in, fan_out = found or (1.0, 1.0)
    return given.number("fan_in", fan_in), given.number("fan_out", fan_out)


def _spread(given: Given, mode: str) -> float:
    """The variance of an initial value: 2 / (in + out) (Glorot & Bengio 2010), 2 / in (He et al.
    2015) or 1 / in (LeCun et al. 1998)."""
    fan_in, fan_out = _fans(given, made_type(given))
    return {"glorot": 2 / (fan_in + fan_out), "he": 2 / fan_in, "lecun": 1 / fan_in}[mode]


def _initial(mode: str) -> None:
    def normal(given: Given) -> Value:
        kind = _needs_float(given, made_type(given))
        made = draw(given.frame, given.span, "random_normal", kind)
        return Tensor(_scaled(given, made, math.sqrt(_spread(given, mode)), 0))

    def uniform(given: Given) -> Value:
        kind = _needs_float(given, made_type(given))
        limit = math.sqrt(3 * _spread(given, mode))
        made = draw(given.frame, given.span, "random_uniform", kind)
        return Tensor(_scaled(given, made, 2 * limit, -limit))

    builtin(f"{mode}_normal", "*shape, fan_in?, fan_out?")(normal)
    builtin(f"{mode}_uniform", "*shape, fan_in?, fan_out?")(uniform)


for _mode in ("glorot", "he", "lecun"):
    _initial(_mode)


@builtin("orthogonal", "*shape, gain?")
def _orthogonal(given: Given) -> Value:
    """A random matrix `[first, rest]` whose rows are orthonormal, or its columns if those are
    fewer (Saxe, McClelland & Ganguli 2014): what is nearest to a normal one, and so as likely in
    all directions."""
    kind = _needs_float(given, made_type(given))
    if len(kind.dims) < 2:
        raise Fault("rank-mismatch", f"`orthogonal` makes matrices, not {kind}", given.span)
    rows, columns = kind.dims[0], product(kind.dims[1:])
    upright = at_least(rows - columns, 1)
    few, many = (columns, rows) if upright else (rows, columns)
    work = tensor(F64 if kind.dtype is F64 else F32, (few, many))
    made = _nearest_orthonormal(
        given.frame, draw(given.frame, given.span, "random_normal", work), given.span)
    builder = given.frame.place(given.span)
    if upright:
        made = builder.op("transpose", made, order=(1, 0))
    made = builder.cast(builder.reshape(made, kind.dims), kind.dtype)
    return Tensor(_scaled(given, made, given.number("gain", 1.0), 0))


def _nearest_orthonormal(frame: Frame, x: ir.Value, span: Span) -> ir.Value:
    """The matrix with orthonormal rows that is nearest to x[few, many], by Newton and Schulz:
    each turn of `x := 1.5 x - 0.5 (x x') x` brings the singular values, at most 1, nearer to 1."""
    builder = frame.place(span)
    square = builder.op("mul", x, x)
    size = builder.op("sqrt", builder.sum(square, (0, 1)))
    start = builder.op("div", x, builder.broadcast(size, x.dims))
    inner = Builder()
    inner.locs, inner.path = builder.locs, builder.path
    before = inner.fresh("x", x.type)
    few, many = x.dims
    gram = inner.op("contract", before, before, hint="gram", **einsum_spec(
        "ik,jk->ij", (few, many), (few, many)))
    cubed = inner.op("contract", gram, before, hint="cubed", **matmul_spec(gram.dims, x.dims))
    after = inner.op("sub", inner.op("mul", before, inner.constant(1.5, x.type)),
                     inner.op("mul", cubed, inner.constant(0.5, x.type)))
    turn = ir.Graph("turn", (ir.Param(before),), tuple(inner.nodes), (after,))
    return builder.emit("scan", start, regions=(turn,), hint="orthonormal", carried=1, items=0,
                        length=_turns(few, many), reverse=False)[0]


def _turns(few: Dim, many: Dim) -> int:
    """Turns that bring the smallest singular value of a random matrix of norm 1 to 1: it grows by
    half in each, and some six more make it exact. That of a square one is below 1e-6 / sqrt(n) once
    in a million times (Edelman 1988)."""
    if not isinstance(few, int) or not isinstance(many, int):
        return 1  # a definition that is checked with symbols: the graph is thrown away
    smallest = max(math.sqrt(many) - math.sqrt(few), 1e-6 / math.sqrt(few))
    return math.ceil(math.log(math.sqrt(few * many) / smallest) / math.log(1.5)) + 6
