"""Reductions that are no sums: max, argmax, and what is said with them (softmax, log_softmax)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlc.ir.dims import Dim, product
from dlc.ir.ops.op import (
    Array,
    EvalCall,
    Op,
    Sample,
    TypeRuleError,
    dense,
    not_differentiable,
    register,
)
from dlc.ir.ops.shape import ints_attr
from dlc.ir.types import BOOL, I32, Type, tensor

if TYPE_CHECKING:
    from dlc.ir.graph import Attr, Builder, Graph, Node, Value


def _infer_max(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    kind, axes = dense(kinds[0], "max"), ints_attr(attrs, "axes")
    if kind.dtype is BOOL or not axes or not set(axes) <= set(range(kind.rank)):
        raise TypeRuleError(f"max of {kind} over axes {axes}")
    if any(kind.dims[a] == 0 for a in axes):
        raise TypeRuleError(f"max of {kind} over an axis of 0 elements")
    return (tensor(kind.dtype, tuple(d for i, d in enumerate(kind.dims) if i not in axes)),)


def _max_vjp(b: Builder, node: Node, g: tuple[Value, ...]) -> tuple[Value | None, ...]:
    # Ties go to the first in row-major order: the reduced axes are laid side by side as one.
    x, axes = node.operands[0], ints_attr(node, "axes")
    kept = tuple(i for i in range(len(x.dims)) if i not in axes)
    moved = b.op("transpose", x, order=kept + axes)
    flat = b.reshape(moved, (*node.result.dims, _size(x, axes)))
    last = len(kept)
    first = b.op("argmax", flat, axis=last)
    spread = tuple(range(last))
    here = b.op("eq", b.op("iota", dtype=I32, dims=flat.dims, axis=last),
                b.broadcast(first, flat.dims, spread))
    share = b.op("select", here, b.broadcast(g[0], flat.dims, spread), b.zeros(flat.type))
    back = b.reshape(share, moved.dims)
    order = tuple(int(i) for i in np.argsort(kept + axes))
    return (b.op("transpose", back, order=order),)


def _size(x: Value, axes: tuple[int, ...]) -> Dim:
    return product(tuple(x.dims[a] for a in axes))


reduce_max = register(Op(
    "reduce_max", "the largest over axes, which go away; nan if one is nan", _infer_max,
    lambda call: (np.max(call.inputs[0], axis=ints_attr(dict(call.attrs), "axes")),), _max_vjp,
    (Sample(("f32[3, 5]",), (("axes", (1,)),)), Sample(("f32[3, 5, 2]",), (("axes", (0, 2)),)),
     Sample(("f32[1]",), (("axes", (0,)),))),
    attrs=("axes",), kernel="reduce",
))


def _infer_argmax(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    kind, axis = dense(kinds[0], "argmax"), attrs["axis"]
    if kind.dtype is BOOL or not isinstance(axis, int) or not 0 <= axis < kind.rank:
        raise TypeRuleError(f"argmax of {kind} over axis {axis}")
    return (tensor(I32, tuple(d for i, d in enumerate(kind.dims) if i != axis)),)


def _eval_argmax(call: EvalCall) -> tuple[Array, ...]:
    axis = call.attrs["axis"]
    assert isinstance(axis, int)
    return (np.argmax(call.inputs[0], axis=axis).astype(np.int32),)


argmax = register(Op(
    "argmax", "where the largest along an axis stands: the first on a tie, or the first nan",
    _infer_argmax, _eval_argmax, not_differentiable("it gives an index"),
    (Sample(("f32[3, 5]",), (("axis", 1),)), Sample(("f32[4, 3]",), (("axis", 0),))),
    attrs=("axis",), kernel="reduce",
))


def _infer_softmax(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    kind, axis = dense(kinds[0], "softmax"), attrs["axis"]
    if not kind.dtype.is_float or not isinstance(axis, int) or not 0 <= axis < kind.rank:
        raise TypeRuleError(f"softmax of {kind} over axis {axis}")
    return (kind,)


def _shifted(call: EvalCall) -> tuple[Array, Array, int]:
    axis = call.attrs["axis"]
    assert isinstance(axis, int)
    x = call.inputs[0]
    largest = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    return x - np.where(np.isneginf(largest), 0, largest), largest, axis


def _eval_softmax(call: EvalCall) -> tuple[Array, ...]:
    shifted, _, axis = _shifted(call)
    e = np.exp(shifted)
    total = np.sum(e, axis=axis, keepdims=True)
    return (np.asarray(e / np.where(total == 0, 1, total)),)


def _eval_log_softmax(call: EvalCall) -> tuple[Array, ...]:
    shifted, largest, axis = _shifted(call)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
    return (np.where(np.isneginf(largest), -np.inf, y).astype(call.inputs[0].dtype),)


def _over(b: Builder, node: Node, per_row: Value) -> Value:
    """One number a row, repeated along the softmax's axis."""
    axis, dims = node.attr("axis"), node.result.dims
    return b.broadcast(per_row, dims, [i for i in range(len(dims)) if i != axis])


def _rows(b: Builder, node: Node) -> tuple[Value, Value, Value]:
    """`exp(x - max)`, its sum over each row, and `x - max`; a max of -inf counts as 0."""
    x, axis = node.operands[0], node.attr("axis")
    assert isinstance(axis, int)
    largest = b.op("reduce_max", x, axes=(axis,))
    bottom = b.constant(float("-inf"), largest.type)
    anchor = b.op("select", b.op("eq", largest, bottom), b.zeros(largest.type), largest)
    shifted = b.op("sub", x, _over(b, node, anchor))
    e = b.op("exp", shifted)
    return e, b.sum(e, (axis,)), shifted


def _decompose_softmax(b: Builder, node: Node) -> tuple[Value, ...]:
    e, total, _ = _rows(b, node)
    empty = b.op("eq", total, b.zeros(total.type))
    safe = b.op("select", empty, b.constant(1, total.type), total)
    return (b.op("div", e, _over(b, node, safe)),)


def _decompose_log_softmax(b: Builder, node: Node) -> tuple[Value, ...]:
    _, total, shifted = _rows(b, node)
    # A row that is all -inf has the sum 0: its result is -inf, not -inf - log 0 = nan.
    empty = b.op("eq", total, b.zeros(total.type))
    safe = b.op("select", empty, b.constant(1, total.type), total)
    return (b.op("sub", shifted, _over(b, node, b.op("log", safe))),)


def _softmax_vjp(b: Builder, node: Node, g: tuple[Value, ...]) -> tuple[Value | None, ...]:
    axis, y = node.attr("axis"), node.result
    assert isinstance(axis, int)
    weighted = b.op("mul", g[0], y)
    return (b.op("sub", weighted, b.op("mul", y, _over(b, node, b.sum(weighted, (axis,))))),)


def _log_softmax_vjp(b: Builder, node: Node, g: tuple[Value, ...]) -> tuple[Value | None, ...]:
    axis = node.attr("axis")
    assert isinstance(axis, int)
    y = node.result
    share = b.op("mul", b.op("exp", y), _over(b, node, b.sum(g[0], (axis,))))
    # What is -inf stays so, whatever moves: a row that is all -inf has gradient 0.
    nothing = b.op("eq", y, b.constant(float("-inf"), y.type))
    return (b.op("select", nothing, b.zeros(y.type), b.op("sub", g[0], share)),)


_SAMPLES = (Sample(("f32[3, 5]",), (("axis", 1),)), Sample(("f32[4, 3, 2]",), (("axis", 1),)),
            Sample(("f32[1, 1]",), (("axis", 1),)))

softmax = register(Op(
    "softmax", "exp(x) over its sum along an axis; 0 where all is -inf", _infer_softmax,
    _eval_softmax, _softmax_vjp, _SAMPLES, attrs=("axis",), decompose=_decompose_softmax,
))
log_softmax = register(Op(
    "log_softmax", "the logarithm of softmax; -inf where all is -inf", _infer_softmax,
    _eval_log_softmax, _log_softmax_vjp, _SAMPLES, attrs=("axis",),
    decompose=_decompose_log_softmax,
))


def _infer_tree_sum(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    kind = dense(kinds[0], "tree_sum")
    if kind.dtype is BOOL or not kind.rank:
        raise TypeRuleError(f"tree_sum of {kind}")
    return (tensor(kind.dtype, kind.dims[1:]),)


def _eval_tree_sum(call: EvalCall) -> tuple[Array, ...]:
    parts = list(call.inputs[0])
    step = 1
    while step < len(parts):
        for at in range(0, len(parts) - step, 2 * step):
            parts[at] = parts[at] + parts[at + step]
        step *= 2
    return (np.asarray(parts[0]),)


tree_sum = register(Op(
    "tree_sum", "the sum over the first axis, in a binary tree over its index", _infer_tree_sum,
    _eval_tree_sum, lambda b, node, g: (b.broadcast(g[0], node.operands[0].dims),),
    (Sample(("f32[5, 3]",)), Sample(("f32[1, 4]",)), Sample(("f32[8]",))), kernel="reduce",
))
