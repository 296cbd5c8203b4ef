"""Windows of a tensor: what pooling takes the largest of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlc.ir.dims import Dim, floordiv, symbol
from dlc.ir.ops.contract import spec
from dlc.ir.ops.op import Array, EvalCall, Op, Read, Sample, TypeRuleError, dense, register
from dlc.ir.ops.shape import ints_attr
from dlc.ir.types import Type, tensor

if TYPE_CHECKING:
    from dlc.ir.graph import Attr, Builder, Graph, Node, Value

    Attrs = dict[str, Attr]
    Regions = tuple[Graph, ...]
    Grads = tuple[Value, ...]
    Cotangents = tuple[Value | None, ...]


def _infer_windows(kinds: tuple[Type, ...], attrs: Attrs, regions: Regions) -> tuple[Type, ...]:
    kind, axes = dense(kinds[0], "windows"), ints_attr(attrs, "axes")
    size, step = ints_attr(attrs, "size"), ints_attr(attrs, "step")
    if not len(axes) == len(size) == len(step) or min(*size, *step) < 1 or (
            sorted(set(axes)) != list(axes) or not set(axes) <= set(range(kind.rank))):
        raise TypeRuleError(f"windows of {size} at every {step} of axes {axes} of {kind}")
    dims = list(kind.dims)
    for axis, extent, by in zip(axes, size, step, strict=True):
        dims[axis] = floordiv(dims[axis] - extent, by) + 1
    return (tensor(kind.dtype, (*dims, *size)),)


def _windows_at(node: Node, index: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Where in the operand an element of a window stands."""
    rank = len(node.operands[0].dims)
    at = list(index[:rank])
    for tap, axis, by in zip(index[rank:], ints_attr(node, "axes"), ints_attr(node, "step"),
                             strict=True):
        at[axis] = at[axis] * by + tap
    return tuple(at)


def _eval_windows(call: EvalCall) -> tuple[Array, ...]:
    attrs, (x,) = dict(call.attrs), call.inputs
    axes = ints_attr(attrs, "axes")
    every = np.lib.stride_tricks.sliding_window_view(x, ints_attr(attrs, "size"), axes)
    steps = dict(zip(axes, ints_attr(attrs, "step"), strict=True))
    return (every[tuple(slice(None, None, steps.get(a, 1)) for a in range(x.ndim))].copy(),)


def _windows_vjp(b: Builder, node: Node, g: Grads) -> Cotangents:
    x, names = node.operands[0], [f"i{k}" for k in range(len(node.result.dims))]
    index = tuple(map(symbol, names))
    attrs = spec(dict(zip(names, node.result.dims, strict=True)), (index,),
                 _windows_at(node, index), x.dims)
    return (b.op("contract", g[0], hint=f"d_{x.name}", **attrs),)


windows = register(Op(
    "windows", "all windows of a size, at every step of some axes: a window's number takes the "
    "place of each of these axes, and the places in it come last", _infer_windows, _eval_windows,
    _windows_vjp,
    (Sample(("f32[2, 7, 6]",), (("axes", (1, 2)), ("size", (3, 2)), ("step", (2, 1)))),
     Sample(("f32[9, 2]",), (("axes", (0,)), ("size", (4,)), ("step", (3,))))),
    attrs=("axes", "size", "step"), access=lambda node, index: Read(_windows_at(node, index)),
))
