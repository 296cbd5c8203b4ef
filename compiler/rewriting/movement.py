"""Rules for ops that only move elements: broadcast, reshape, transpose, slice, pad."""

from __future__ import annotations

from typing import Final

from dlc.compiler.rewriting.rewrite import Rewriter, Rule
from dlc.ir.graph import Node, Value
from dlc.ir.ops.shape import dims_attr, ints_attr


def drop_stop_gradient(r: Rewriter, node: Node) -> Value | None:
    """stop_gradient x -> x, once there are no gradients to take"""
    return None if r.has_gradients else node.operands[0]


def move_number(r: Rewriter, node: Node) -> Value | None:
    """reshape (broadcast s) -> broadcast s, for a scalar s; all that picks elements alike"""
    inner = r.maker(node.operands[0], "broadcast")
    if inner is None or inner.operands[0].dims:
        return None
    return r.broadcast(inner.operands[0], node.result.dims)


def drop_move(r: Rewriter, node: Node) -> Value | None:
    """reshape, broadcast, slice or pad to the same dims -> x"""
    x = node.operands[0]
    if x.dims != node.result.dims:
        return None
    offset = {"slice": "start", "pad": "low"}.get(node.op)
    return None if offset and any(first != 0 for first in dims_attr(node, offset)) else x


def merge_broadcasts(r: Rewriter, node: Node) -> Value | None:
    """broadcast (broadcast x) -> broadcast x"""
    inner = r.maker(node.operands[0], "broadcast")
    if inner is None:
        return None
    outer_axes, inner_axes = ints_attr(node, "axes"), ints_attr(inner, "axes")
    axes = tuple(outer_axes[axis] for axis in inner_axes)
    return r.op("broadcast", inner.operands[0], dims=node.result.dims, axes=axes)


def broadcast_as_reshape(r: Rewriter, node: Node) -> Value | None:
    """broadcast x to dims that only add axes of extent 1 -> reshape x"""
    x, dims, axes = node.operands[0], node.result.dims, ints_attr(node, "axes")
    if x.dims != tuple(dims[axis] for axis in axes):
        return None
    if any(dim != 1 for axis, dim in enumerate(dims) if axis not in axes):
        return None
    return r.op("reshape", x, dims=dims)


def broadcast_of_reshape(r: Rewriter, node: Node) -> Value | None:
    """broadcast (reshape x) -> broadcast x, where the reshape only adds axes of extent 1"""
    inner = r.maker(node.operands[0], "reshape")
    if inner is None:
        return None
    x, middle = inner.operands[0], inner.result.dims
    kept = [axis for axis, dim in enumerate(middle) if dim != 1]
    if len(x.dims) == len(middle) or x.dims != tuple(middle[axis] for axis in kept):
        return None
    axes = ints_attr(node, "axes")
    return r.op(
        "broadcast", x, dims=node.result.dims, axes=tuple(axes[axis] for axis in kept)
    )


def merge_reshapes(r: Rewriter, node: Node) -> Value | None:
    """reshape (reshape x) -> reshape x"""
    inner = r.maker(node.operands[0], "reshape")
    return r.op("reshape", inner.operands[0], dims=node.result.dims) if inner else None


def drop_transpose(r: Rewriter, node: Node) -> Value | None:
    """transpose x to the order it has -> x"""
    order = ints_attr(node, "order")
    return node.operands[0] if order == tuple(range(len(order))) else None


def merge_transposes(r: Rewriter, node: Node) -> Value | None:
    """transpose (transpose x) -> transpose x"""
    inner = r.maker(node.operands[0], "transpose")
    if inner is None:
        return None
    before = ints_attr(inner, "order")
    order = tuple(before[axis] for axis in ints_attr(node, "order"))
    return r.op("transpose", inner.operands[0], order=order)


def transpose_as_reshape(r: Rewriter, node: Node) -> Value | None:
    """transpose x in which only axes of extent 1 change places -> reshape x"""
    x, order = node.operands[0], ints_attr(node, "order")
    wide = [axis for axis in order if x.dims[axis] != 1]
    return r.op("reshape", x, dims=node.result.dims) if wide == sorted(wide) else None


def merge_slices(r: Rewriter, node: Node) -> Value | None:
    """slice (slice x) -> slice x"""
    inner = r.maker(node.operands[0], "slice")
    if inner is None:
        return None
    step = ints_attr(inner, "step")
    pairs = zip(dims_attr(inner, "start"), step, dims_attr(node, "start"), strict=True)
    start = tuple(first + by * second for first, by, second in pairs)
    both = tuple(a * b for a, b in zip(step, ints_attr(node, "step"), strict=True))
    return r.op("slice", inner.operands[0], start=start, step=both, dims=node.result.dims)


def reduce_nothing(r: Rewriter, node: Node) -> Value | None:
    """reduce_max x over axes of extent 1 -> reshape x"""
    x = node.operands[0]
    if any(x.dims[axis] != 1 for axis in ints_attr(node, "axes")):
        return None
    return r.op("reshape", x, dims=node.result.dims)


def known_dim(r: Rewriter, node: Node) -> Value | None:
    """dim {value = 7} -> constant {value = 7}"""
    value = node.attr("value")
    if not isinstance(value, int):
        return None
    return r.op("constant", dtype=node.result.dtype, value=value)


MOVEMENT: Final = (
    Rule(("stop_gradient",), drop_stop_gradient),
    Rule(("reshape", "broadcast", "slice", "pad"), drop_move),
    Rule(("reshape", "transpose", "slice", "flip", "gather"), move_number),
    Rule(("broadcast",), merge_broadcasts),
    Rule(("broadcast",), broadcast_as_reshape),
    Rule(("broadcast",), broadcast_of_reshape),
    Rule(("reshape",), merge_reshapes),
    Rule(("transpose",), drop_transpose),
    Rule(("transpose",), merge_transposes),
    Rule(("transpose",), transpose_as_reshape),
    Rule(("slice",), merge_slices),
    Rule(("reduce_max",), reduce_nothing),
    Rule(("dim",), known_dim),
)
