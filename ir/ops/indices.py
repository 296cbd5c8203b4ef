"""Ops whose indices are data, or run against an axis: gather, scatter, cumsum, flip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlc.ir.dims import Dim, product
from dlc.ir.ops.contract import accumulator
from dlc.ir.ops.op import (
    Array,
    EvalCall,
    Op,
    Read,
    Sample,
    TypeRuleError,
    dense,
    register,
)
from dlc.ir.ops.shape import ints_attr
from dlc.ir.scalar import cast_array
from dlc.ir.types import BOOL, I32, TensorType, Type, tensor

if TYPE_CHECKING:
    from dlc.ir.graph import Attr, Builder, Graph, Node, Value

    Attrs = dict[str, Attr]
    Regions = tuple[Graph, ...]
    Grads = tuple[Value, ...]
    Cotangents = tuple[Value | None, ...]


def axis_attr(attrs: Attrs | Node) -> int:
    """The attribute `axis`."""
    axis = attrs["axis"] if isinstance(attrs, dict) else attrs.attr("axis")
    if not isinstance(axis, int) or isinstance(axis, bool):
        raise TypeRuleError(f"{axis} is no axis")
    return axis


# gather and scatter. The n index tensors, all of the dims I, stand for n neighbouring axes.

def _selected(name: str, x: TensorType, ids: tuple[Type, ...], axis: int) -> tuple[Dim, ...]:
    """The dims of what is selected: those of x, with I in the place of the indexed axes."""
    kinds = [dense(kind, name) for kind in ids]
    if not kinds or not 0 <= axis <= x.rank - len(kinds):
        raise TypeRuleError(f"{name} with {len(kinds)} indices from axis {axis} of {x}")
    for kind in kinds:
        if not kind.dtype.is_integer:
            raise TypeRuleError(f"an index of {name} is {kind}, not of integers")
        if kind.dims != kinds[0].dims:
            raise TypeRuleError(f"the indices of {name} differ: {kinds[0]} and {kind}")
    return x.dims[:axis] + kinds[0].dims + x.dims[axis + len(kinds):]


def _places(ids: tuple[Array, ...], extents: tuple[int, ...]) -> Array:
    """The numbers, in row-major order of the indexed axes, that the indices stand for."""
    wide = [x.astype(np.int64).ravel() for x in ids]
    for x, extent in zip(wide, extents, strict=True):
        bad = x[(x < 0) | (x >= extent)]
        if bad.size:
            raise IndexError(f"index {bad[0]} is out of range for an axis of {extent}")
    flat = np.zeros(wide[0].shape, np.int64)
    for x, extent in zip(wide, extents, strict=True):
        flat = flat * extent + x
    return flat


def _rows(x: Array, axis: int, count: int) -> tuple[Array, tuple[int, ...]]:
    """`x` as [before, indexed, after], and the extents of the `count` indexed axes."""
    extents = x.shape[axis:axis + count]
    before, after = (int(np.prod(part)) for part in (x.shape[:axis], x.shape[axis + count:]))
    return x.reshape(before, int(np.prod(extents)), after), extents


def _infer_gather(kinds: tuple[Type, ...], attrs: Attrs, regions: Regions) -> tuple[Type, ...]:
    x = dense(kinds[0], "gather")
    return (tensor(x.dtype, _selected("gather", x, kinds[1:], axis_attr(attrs))),)


def _eval_gather(call: EvalCall) -> tuple[Array, ...]:
    x, *ids = call.inputs
    axis = axis_attr(dict(call.attrs))
    rows, extents = _rows(x, axis, len(ids))
    taken = rows[:, _places(tuple(ids), extents)]
    return (taken.reshape((*x.shape[:axis], *ids[0].shape, *x.shape[axis + len(ids):])),)


def _gather_vjp(b: Builder, node: Node, g: Grads) -> Cotangents:
    x, *ids = node.operands
    back = b.op("scatter", b.zeros(x.type), g[0], *ids, hint=f"d_{x.name}",
                axis=axis_attr(node), mode="add")
    return (back, *(None for _ in ids))


def _ids(first: int, count: int, high: int) -> tuple[tuple[int, float, float], ...]:
    """The range of `count` operands that are indices into axes of more than `high` places."""
    return tuple((first + k, 0, high) for k in range(count))


gather = register(Op(
    "gather", "elements at indices that are data: n integer tensors of the same dims I stand for "
    "axes axis … axis + n - 1, whose place I takes; indices must be in range, which `check` is for",
    _infer_gather, _eval_gather, _gather_vjp,
    (Sample(("f32[7, 5]", "i32[4]"), (("axis", 0),), ranges=_ids(1, 1, 6)),
     Sample(("f32[3, 7, 5]", "i64[2, 3]"), (("axis", 1),), ranges=_ids(1, 1, 6)),
     Sample(("f32[3, 7]", "u8[40]"), (("axis", 1),), ranges=_ids(1, 1, 6)),
     Sample(("f32[2, 6, 7]", "i32[5]", "i16[5]"), (("axis", 1),), ranges=_ids(1, 2, 5)),
     Sample(("f32[7, 3]", "i8"), (("axis", 0),), ranges=_ids(1, 1, 6))),
    attrs=("axis",), kernel="gather", cost=2,
))


def _infer_scatter(kinds: tuple[Type, ...], attrs: Attrs, regions: Regions) -> tuple[Type, ...]:
    base, mode = dense(kinds[0], "scatter"), attrs["mode"]
    if mode not in ("add", "set") or (mode == "add" and base.dtype is BOOL):
        raise TypeRuleError(f"scatter adds numbers or sets, it does not {mode} {base}")
    wanted = tensor(base.dtype, _selected("scatter", base, kinds[2:], axis_attr(attrs)))
    if kinds[1] is not wanted:
        raise TypeRuleError(f"the updates of scatter are {kinds[1]}, not {wanted}")
    return (base,)


def _eval_scatter(call: EvalCall) -> tuple[Array, ...]:
    base, updates, *ids = call.inputs
    out = base.copy()
    rows, extents = _rows(out, axis_attr(dict(call.attrs)), len(ids))
    places = _places(tuple(ids), extents)
    given = updates.reshape(rows.shape[0], places.size, rows.shape[2])
    with np.errstate(all="ignore"):
        for place, update in zip(places, given.swapaxes(0, 1), strict=True):
            rows[:, place] = update if call.attrs["mode"] == "set" else rows[:, place] + update
    return (out,)


def _scatter_vjp(b: Builder, node: Node, g: Grads) -> Cotangents:
    base, updates, *ids = node.operands
    axis = axis_attr(node)
    taken = b.op("gather", g[0], *ids, hint=f"d_{updates.name}", axis=axis)
    rest = (None,) * len(ids)
    if node.attr("mode") == "add":
        return (g[0], taken, *rest)
    kept = b.op("scatter", g[0], b.zeros(updates.type), *ids, hint=f"d_{base.name}",
                axis=axis, mode="set")
    # Of updates of one place the last one counts: the one whose number is found there.
    dims = ids[0].dims
    count = product(dims)
    numbers = b.reshape(b.op("iota", dtype=I32, dims=(count,), axis=0), dims)
    blank = b.zeros(tensor(I32, base.dims[axis:axis + len(ids)]))
    last = b.op("gather", b.op("scatter", blank, numbers, *ids, axis=0, mode="set"), *ids, axis=0)
    won = b.broadcast(b.op("eq", last, numbers), updates.dims, range(axis, axis + len(dims)))
    return (kept, b.op("select", won, taken, b.zeros(updates.type)), *rest)


scatter = register(Op(
    "scatter", "a tensor with updates added to it (`mode` add) or put into it (set) at indices "
    "that are data, as gather reads them; updates come in row-major order of the indices, so that "
    "of several for one place the last one stays",
    _infer_scatter, _eval_scatter, _scatter_vjp,
    tuple(Sample(types, (("axis", axis), ("mode", mode)), ranges=_ids(2, len(types) - 2, high))
          for mode in ("add", "set")
          for types, axis, high in (
              (("f32[7, 5]", "f32[4, 5]", "i32[4]"), 0, 6),
              (("f32[3, 4, 5]", "f32[3, 2, 3, 5]", "i64[2, 3]"), 1, 3),
              (("f32[3, 7]", "f32[3, 40]", "u8[40]"), 1, 6),
              (("f32[3, 4]", "f32[9]", "i32[9]", "i16[9]"), 0, 2),
              (("f32[7]", "f32[40]", "i32[40]"), 0, 6),
              (("f32[7, 3]", "f32[3]", "i8"), 0, 6))),
    attrs=("axis", "mode"), kernel="scatter", cost=2,
))


# cumsum and flip.

def _infer_cumsum(kinds: tuple[Type, ...], attrs: Attrs, regions: Regions) -> tuple[Type, ...]:
    x, axis = dense(kinds[0], "cumsum"), axis_attr(attrs)
    if not 0 <= axis < x.rank or not isinstance(attrs["reverse"], bool):
        raise TypeRuleError(f"cumsum of {x} along axis {axis}")
    return (tensor(accumulator(x.dtype), x.dims),)


def _eval_cumsum(call: EvalCall) -> tuple[Array, ...]:
    axis = axis_attr(dict(call.attrs))
    x = cast_array(call.inputs[0], dense(call.types[0], "cumsum").dtype)
    if call.attrs["reverse"]:
        x = np.flip(x, axis)
    with np.errstate(all="ignore"):
        total = np.cumsum(x, axis, dtype=x.dtype)
    return (np.flip(total, axis).copy() if call.attrs["reverse"] else total,)


def _cumsum_vjp(b: Builder, node: Node, g: Grads) -> Cotangents:
    if not node.operands[0].dtype.is_float:
        return (None,)
    return (b.op("cumsum", g[0], axis=axis_attr(node), reverse=not node.attr("reverse")),)


cumsum = register(Op(
    "cumsum", "the sum of all elements along an axis up to each one, one after the other (a GPU "
    "adds up long axes in pieces); from the end if `reverse`",
    _infer_cumsum, _eval_cumsum, _cumsum_vjp,
    tuple(Sample((kind,), (("axis", axis), ("reverse", reverse)))
          for reverse in (False, True)
          for kind, axis in (("f32[3, 5]", 1), ("f32[4, 3, 2]", 1), ("f32[17]", 0))),
    attrs=("axis", "reverse"), kernel="scan", cost=4,
))


def _infer_flip(kinds: tuple[Type, ...], attrs: Attrs, regions: Regions) -> tuple[Type, ...]:
    x, axes = dense(kinds[0], "flip"), ints_attr(attrs, "axes")
    if len(set(axes)) != len(axes) or not set(axes) <= set(range(x.rank)):
        raise TypeRuleError(f"flip of {x} along axes {axes}")
    return (x,)


def _flip_access(node: Node, index: tuple[Dim, ...]) -> Read:
    axes, last = ints_attr(node, "axes"), [extent - 1 for extent in node.result.dims]
    return Read(tuple(last[axis] - i if axis in axes else i for axis, i in enumerate(index)))


flip = register(Op(
    "flip", "the elements along axes in the opposite order", _infer_flip,
    lambda call: (np.flip(call.inputs[0], ints_attr(dict(call.attrs), "axes")).copy(),),
    lambda b, node, g: (b.op("flip", g[0], axes=node.attr("axes")),),
    (Sample(("f32[3, 5]",), (("axes", (1,)),)), Sample(("f32[4, 3, 2]",), (("axes", (0, 2)),)),
     Sample(("f32[17]",), (("axes", (0,)),))),
    attrs=("axes",), access=_flip_access,
))

__all__ = ["axis_attr"]
