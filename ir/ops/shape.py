"""Ops that make values from nothing, or only move elements: each is a map of indices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlc.ir.dims import Dim, evaluate, floordiv, mod, product, symbol
from dlc.ir.ops.contract import map_of, spec
from dlc.ir.ops.op import (
    Array,
    EvalCall,
    Op,
    Read,
    Sample,
    TypeRuleError,
    array_shape,
    dense,
    not_differentiable,
    register,
)
from dlc.ir.types import DTYPES, DType, TensorType, Type, tensor

if TYPE_CHECKING:
    from dlc.ir.graph import Attr, Builder, Graph, Node, Value

    Attrs = dict[str, Attr]
    Regions = tuple[Graph, ...]
    Grads = tuple[Value, ...]
    Cotangents = tuple[Value | None, ...]

_NO_OPERANDS = not_differentiable("it has no operands")


def dims_attr(attrs: Attrs | Node, name: str = "dims") -> tuple[Dim, ...]:
    """An attribute that is a tuple of dims."""
    return map_of(attrs[name] if isinstance(attrs, dict) else attrs.attr(name))


def ints_attr(attrs: Attrs | Node, name: str) -> tuple[int, ...]:
    """An attribute that is a tuple of integers."""
    dims = dims_attr(attrs, name)
    ints = tuple(dim for dim in dims if isinstance(dim, int))
    if len(ints) != len(dims):
        raise TypeRuleError(f"{name} are integers, not {dims}")
    return ints


def _dtype(attrs: Attrs) -> DType:
    dtype = attrs["dtype"]
    if not isinstance(dtype, DType):
        raise TypeRuleError(f"{dtype} is not a dtype")
    return dtype


# Makers: constant, dim, iota.

def _infer_constant(kinds: tuple[Type, ...], attrs: Attrs, regions: Regions) -> tuple[Type, ...]:
    value = attrs["value"]
    if isinstance(value, tuple):
        raise TypeRuleError("a constant holds one number; `table` holds many")
    return (tensor(_dtype(attrs)),)


constant = register(Op(
    "constant", "one number", _infer_constant,
    lambda call: (np.asarray(call.attrs["value"], dense(call.types[0], "").dtype.numpy),),
    _NO_OPERANDS, (Sample((), (("dtype", DTYPES["f32"]), ("value", 0.5))),),
    attrs=("dtype", "value"), kernel="constant",
))


def _infer_table(kinds: tuple[Type, ...], attrs: Attrs, regions: Regions) -> tuple[Type, ...]:
    dims, values = ints_attr(attrs, "dims"), attrs["values"]
    if not isinstance(values, tuple) or len(values) != int(np.prod(dims)):
        raise TypeRuleError(f"a table of {dims} does not hold these values")
    return (tensor(_dtype(attrs), dims),)


def _eval_table(call: EvalCall) -> tuple[Array, ...]:
    kind = dense(call.types[0], "table")
    return (np.asarray(call.attrs["values"], kind.dtype.numpy).reshape(array_shape(kind, {})),)


table = register(Op(
    "table", "a constant tensor, its values in row-major order", _infer_table, _eval_table,
    _NO_OPERANDS,
    (Sample((), (("dtype", DTYPES["f32"]), ("dims", (2, 3)), ("values", (1, 2, 3, 4, 5, 6.5)))),),
    attrs=("dtype", "dims", "values"), kernel="constant",
))


def _dim_value(attrs: Attrs) -> Dim:
    return map_of((attrs["value"],))[0]


def _infer_dim(kinds: tuple[Type, ...], attrs: Attrs, regions: Regions) -> tuple[Type, ...]:
    _dim_value(attrs)
    return (tensor(_dtype(attrs)),)


dim = register(Op(
    "dim", "a dim as a number", _infer_dim,
    lambda call: (np.asarray(evaluate(_dim_value(dict(call.attrs)), call.env),
                             dense(call.types[0], "dim").dtype.numpy),),
    _NO_OPERANDS, (Sample((), (("dtype", DTYPES["f32"]), ("value", 7))),),
    attrs=("dtype", "value"), kernel="index",
))


def _infer_iota(kinds: tuple[Type, ...], attrs: Attrs, regions: Regions) -> tuple[Type, ...]:
    dims, axis = dims_attr(attrs), attrs["axis"]
    if not isinstance(axis, int) or not 0 <= axis < len(dims):
        raise TypeRuleError(f"iota over axis {axis} of {len(dims)} dims")
    return (tensor(_dtype(attrs), dims),)


def _eval_iota(call: EvalCall) -> tuple[Array, ...]:
    shape, axis = array_shape(call.types[0], call.env), call.attrs["axis"]
    assert isinstance(axis, int)
    line = np.arange(shape[axis], dtype=dense(call.types[0], "iota").dtype.numpy)
    return (np.broadcast_to(line.reshape([-1 if i == axis else 1 for i in range(len(shape))]),
                            shape).copy(),)


iota = register(Op(
    "iota", "the index along an axis", _infer_iota, _eval_iota, _NO_OPERANDS,
    (Sample((), (("dtype", DTYPES["i32"]), ("dims", (3, 4)), ("axis", 1))),),
    attrs=("dtype", "dims", "axis"), kernel="index",
))


# Movers. Each gives, for an index into its result, the index into its operand.

def _infer_broadcast(kinds: tuple[Type, ...], attrs: Attrs, regions: Regions) -> tuple[Type, ...]:
    kind, dims, axes = dense(kinds[0], "broadcast"), dims_attr(attrs), ints_attr(attrs, "axes")
    if len(axes) != kind.rank or sorted(set(axes)) != list(axes):
        raise TypeRuleError(f"broadcast of {kind} over axes {axes}")
    for extent, axis in zip(kind.dims, axes, strict=True):
        if axis >= len(dims) or (extent != 1 and extent != dims[axis]):
            raise TypeRuleError(f"{kind} does not stretch to {tensor(kind.dtype, dims)}")
    return (tensor(kind.dtype, dims),)


def _eval_broadcast(call: EvalCall) -> tuple[Array, ...]:
    shape, axes = array_shape(call.types[0], call.env), ints_attr(dict(call.attrs), "axes")
    placed = [1] * len(shape)
    for extent, axis in zip(call.inputs[0].shape, axes, strict=True):
        placed[axis] = extent
    return (np.broadcast_to(call.inputs[0].reshape(placed), shape).copy(),)


def _broadcast_vjp(b: Builder, node: Node, g: Grads) -> Cotangents:
    x, axes = node.operands[0], ints_attr(node, "axes")
    dims = node.result.dims
    kept = [a for a, extent in zip(axes, x.dims, strict=True) if extent == dims[a]]
    summed = b.sum(g[0], [a for a in range(len(dims)) if a not in kept])
    return (b.reshape(summed, x.dims),)


def _broadcast_access(node: Node, index: tuple[Dim, ...]) -> Read:
    x = node.operands[0]
    return Read(tuple(0 if extent == 1 else index[axis]
                      for extent, axis in zip(x.dims, ints_attr(node, "axes"), strict=True)))


broadcast = register(Op(
    "broadcast", "repeats along new axes and along axes of extent 1", _infer_broadcast,
    _eval_broadcast, _broadcast_vjp,
    (Sample(("f32[5]",), (("dims", (3, 5)), ("axes", (1,)))),
     Sample(("f32[3, 1]",), (("dims", (3, 4)), ("axes", (0, 1)))),
     Sample(("f32",), (("dims", (2, 3)), ("axes", ())))),
    attrs=("dims", "axes"), access=_broadcast_access,
))


def _infer_reshape(kinds: tuple[Type, ...], attrs: Attrs, regions: Regions) -> tuple[Type, ...]:
    kind, dims = dense(kinds[0], "reshape"), dims_attr(attrs)
    if product(kind.dims) != product(dims):
        raise TypeRuleError(f"{kind} has {product(kind.dims)} elements, "
                            f"{tensor(kind.dtype, dims)} has {product(dims)}")
    return (tensor(kind.dtype, dims),)


def reshape_groups(
    left: tuple[Dim, ...], right: tuple[Dim, ...]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The finest runs of axes of both sides that hold equally many elements, in order."""
    groups: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    i = j = 0
    while i < len(left) or j < len(right):
        i0, j0 = i, j
        a, b = 1, 1  # type: Dim, Dim
        if i < len(left):
            a, i = left[i], i + 1
        if j < len(right):
            b, j = right[j], j + 1
        while a != b:
            if i < len(left) and (j >= len(right) or _smaller(a, b)):
                a, i = a * left[i], i + 1
            elif j < len(right):
                b, j = b * right[j], j + 1
            else:
                break
        groups.append((tuple(range(i0, i)), tuple(range(j0, j))))
    return groups


def _smaller(a: Dim, b: Dim) -> bool:
    if isinstance(a, int) and isinstance(b, int):
        return a < b
    return floordiv(b, a) * a == b


def _reshape_access(node: Node, index: tuple[Dim, ...]) -> Read:
    source, target = node.operands[0].dims, node.result.dims
    out: list[Dim] = [0] * len(source)
    for left, right in reshape_groups(source, target):
        flat: Dim = 0
        for axis in right:
            flat = flat * target[axis] + (0 if target[axis] == 1 else index[axis])
        wide = [axis for axis in left if source[axis] != 1]
        for axis in reversed(wide[1:]):
            out[axis] = mod(flat, source[axis])
            flat = floordiv(flat, source[axis])
        if wide:
            out[wide[0]] = flat
    return Read(tuple(out))


reshape = register(Op(
    "reshape", "other dims, the same elements in row-major order", _infer_reshape,
    lambda call: (call.inputs[0].reshape(array_shape(call.types[0], call.env)),),
    lambda b, node, g: (b.reshape(g[0], node.operands[0].dims),),
    (Sample(("f32[2, 6]",), (("dims", (3, 4)),)), Sample(("f32[2, 3, 1]",), (("dims", (6,)),)),
     Sample(("f32[24]",), (("dims", (2, 3, 4)),))),
    attrs=("dims",), access=_reshape_access,
))


def _infer_transpose(kinds: tuple[Type, ...], attrs: Attrs, regions: Regions) -> tuple[Type, ...]:
    kind, order = dense(kinds[0], "transpose"), ints_attr(attrs, "order")
    if sorted(order) != list(range(kind.rank)):
        raise TypeRuleError(f"{order} is no order of the {kind.rank} axes of {kind}")
    return (tensor(kind.dtype, tuple(kind.dims[axis] for axis in order)),)


transpose = register(Op(
    "transpose", "the axes in another order: result axis i is operand axis order[i]",
    _infer_transpose,
    lambda call: (np.transpose(call.inputs[0], ints_attr(dict(call.attrs), "order")),),
    lambda b, node, g: (b.op(
        "transpose", g[0], order=tuple(int(i) for i in np.argsort(ints_attr(node, "order")))),),
    (Sample(("f32[3, 5]",), (("order", (1, 0)),)),
     Sample(("f32[2, 3, 4]",), (("order", (2, 0, 1)),))),
    attrs=("order",),
    access=lambda node, index: Read(
        tuple(index[ints_attr(node, "order").index(axis)] for axis in range(len(index)))),
))


def _infer_slice(kinds: tuple[Type, ...], attrs: Attrs, regions: Regions) -> tuple[Type, ...]:
    kind, start, dims = dense(kinds[0], "slice"), dims_attr(attrs, "start"), dims_attr(attrs)
    step = ints_attr(attrs, "step")
    if not len(start) == len(step) == len(dims) == kind.rank or min(step, default=1) < 1:
        raise TypeRuleError(f"a slice of {kind} has a start, a step >= 1 and a dim for each axis")
    for first, by, extent, whole in zip(start, step, dims, kind.dims, strict=True):
        last = first + (extent - 1) * by
        if isinstance(last, int) and isinstance(whole, int) and last >= whole:
            raise TypeRuleError(f"a slice up to {last} of an axis of {whole}")
    return (tensor(kind.dtype, dims),)


def _eval_slice(call: EvalCall) -> tuple[Array, ...]:
    attrs = dict(call.attrs)
    cut = tuple(
        slice(evaluate(start, call.env), evaluate(start, call.env) + extent * step, step)
        for start, step, extent in zip(
            dims_attr(attrs, "start"), ints_attr(attrs, "step"),
            array_shape(call.types[0], call.env), strict=True))
    return (call.inputs[0][cut],)


def _slice_vjp(b: Builder, node: Node, g: Grads) -> Cotangents:
    x, start, step = node.operands[0], dims_attr(node, "start"), ints_attr(node, "step")
    if all(by == 1 for by in step):
        high = tuple(whole - first - extent for whole, first, extent
                     in zip(x.dims, start, node.result.dims, strict=True))
        return (b.op("pad", g[0], low=start, high=high, value=0.0),)
    names = [f"i{k}" for k in range(len(start))]
    at = tuple(symbol(n) * by + first for n, by, first in zip(names, step, start, strict=True))
    attrs = spec(dict(zip(names, node.result.dims, strict=True)), (tuple(map(symbol, names)),), at,
                 x.dims)
    return (b.op("contract", g[0], hint=f"d_{x.name}", **attrs),)


slice_ = register(Op(
    "slice", "element start + step * i along each axis", _infer_slice, _eval_slice, _slice_vjp,
    (Sample(("f32[7, 5]",), (("start", (1, 0)), ("step", (2, 1)), ("dims", (3, 4)))),
     Sample(("f32[9]",), (("start", (2,)), ("step", (1,)), ("dims", (7,))))),
    attrs=("start", "step", "dims"),
    access=lambda node, index: Read(tuple(
        first + i * by for first, by, i in zip(
            dims_attr(node, "start"), ints_attr(node, "step"), index, strict=True))),
))


def _infer_pad(kinds: tuple[Type, ...], attrs: Attrs, regions: Regions) -> tuple[Type, ...]:
    kind, low, high = dense(kinds[0], "pad"), dims_attr(attrs, "low"), dims_attr(attrs, "high")
    if not len(low) == len(high) == kind.rank:
        raise TypeRuleError(f"pad of {kind} has a width before and after each axis")
    dims = tuple(a + d + b for a, d, b in zip(low, kind.dims, high, strict=True))
    return (tensor(kind.dtype, dims),)


def _eval_pad(call: EvalCall) -> tuple[Array, ...]:
    attrs = dict(call.attrs)
    out = np.full(array_shape(call.types[0], call.env), attrs["value"], call.inputs[0].dtype)
    low = [evaluate(d, call.env) for d in dims_attr(attrs, "low")]
    into = tuple(slice(max(a, 0), a + n) for a, n in zip(low, call.inputs[0].shape, strict=True))
    out_of = tuple(slice(max(-a, 0), max(-a, 0) + len(range(*cut.indices(n)))) for a, cut, n in zip(
        low, into, out.shape, strict=True))
    out[into] = call.inputs[0][out_of]
    return (out,)


def _pad_vjp(b: Builder, node: Node, g: Grads) -> Cotangents:
    x = node.operands[0]
    return (b.op("slice", g[0], start=node.attr("low"), step=(1,) * len(x.dims), dims=x.dims),)


def _fill(node: Node) -> float:
    value = node.attr("value")
    assert isinstance(value, int | float)
    return float(value)


pad = register(Op(
    "pad", "one number round a tensor", _infer_pad, _eval_pad, _pad_vjp,
    (Sample(("f32[3, 5]",), (("low", (1, 0)), ("high", (2, 3)), ("value", 0.5))),
     Sample(("f32[1]",), (("low", (4,)), ("high", (0,)), ("value", 0.0)))),
    attrs=("low", "high", "value"),
    access=lambda node, index: Read(
        tuple(i - a for i, a in zip(index, dims_attr(node, "low"), strict=True)),
        _fill(node)),
))

__all__ = ["TensorType", "dims_attr", "ints_attr", "reshape_groups"]
