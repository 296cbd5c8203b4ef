"""Rules for contractions: sums that are none, and operands that only move elements.

A contraction says what is summed, not in which order; so these rules may change the order, and
with it the last bits, of a sum.
"""

from __future__ import annotations

from typing import Final

from dlc.compiler.rewriting.rewrite import Rewriter, Rule
from dlc.ir.dims import Dim, Poly, at_least, product, substitute, symbol, symbols
from dlc.ir.graph import Node, Value
from dlc.ir.ops.contract import Map, extents_of, maps_of, spec
from dlc.ir.ops.shape import dims_attr, ints_attr


def contract_nothing(r: Rewriter, node: Node) -> Value | None:
    """contract x that only moves elements -> broadcast (transpose (reshape x))

    So a sum over axes of extent 1 goes, and so does the gradient of a sum, which is a broadcast.
    """
    if len(node.operands) != 1:
        return None
    x, extents = node.operands[0], extents_of(node)
    if x.dtype is not node.result.dtype:
        return None
    read = _axes(_without_units(maps_of(node)[0], extents), x.dims, extents)
    written = _axes(_without_units(_out(node), extents), node.result.dims, extents)
    if read is None or written is None or not read.keys() <= written.keys():
        return None
    wide = {name for name, extent in extents.items() if extent != 1}
    if wide != written.keys():
        return None
    packed = r.reshape(x, tuple(extents[name] for name in read))
    names = list(read)
    ordered = sorted(names, key=written.__getitem__)
    order = tuple(names.index(name) for name in ordered)
    if order != tuple(range(len(order))):
        packed = r.op("transpose", packed, order=order)
    return r.broadcast(packed, node.result.dims, sorted(written[name] for name in names))


def sum_of_repeats(r: Rewriter, node: Node) -> Value | None:
    """contract over an index that nothing depends on -> contract without it, times its extent"""
    if not node.result.dtype.is_float:
        return None
    extents = extents_of(node)
    used = _names(*maps_of(node), _out(node))
    if used >= extents.keys():
        return None
    count = product(tuple(extent for name, extent in extents.items() if name not in used))
    left = {name: extent for name, extent in extents.items() if name in used}
    attrs = spec(left, maps_of(node), _out(node), node.result.dims)
    total = r.make("contract", node.operands, attrs)
    factor = r.op("dim", dtype=total.dtype, value=count)
    return r.op("mul", total, r.broadcast(factor, total.dims))


def drop_operand_one(r: Rewriter, node: Node) -> Value | None:
    """contract 1, x -> contract x, for a scalar 1"""
    maps = maps_of(node)
    for k, operand in enumerate(node.operands):
        if not operand.dims and len(node.operands) > 1 and r.splat(operand) == 1:
            operands = node.operands[:k] + node.operands[k + 1 :]
            attrs = spec(
                extents_of(node), maps[:k] + maps[k + 1 :], _out(node), node.result.dims
            )
            return r.make("contract", operands, attrs)
    return None


def contract_through_moves(r: Rewriter, node: Node) -> Value | None:
    """contract (broadcast x), … -> contract x, …; also reshape, slice, zero pad…"""
    extents = extents_of(node)
    for k, (operand, at) in enumerate(zip(node.operands, maps_of(node), strict=True)):
        for op, look in _LOOK_THROUGH:
            maker = r.maker(operand, op)
            through = look(maker, at, extents) if maker else None
            if maker is not None and through is not None:
                maps = (*maps_of(node)[:k], through, *maps_of(node)[k + 1 :])
                operands = (*node.operands[:k], maker.operands[0], *node.operands[k + 1 :])
                attrs = spec(extents, maps, _out(node), node.result.dims)
                return r.make("contract", operands, attrs)
    return None


def merge_sums(r: Rewriter, node: Node) -> Value | None:
    """contract (contract x) -> contract x, where the inner one has one operand and one reader"""
    inner = r.maker(node.operands[0], "contract") if len(node.operands) == 1 else None
    if inner is None or len(inner.operands) != 1 or not r.is_read_once(inner.result):
        return None
    extents, below = extents_of(node), extents_of(inner)
    read = _axes(maps_of(node)[0], inner.result.dims, extents)
    written = _axes(_out(inner), inner.result.dims, below)
    if read is None or written is None or len(read) != len(written):
        return None
    by_axis = {axis: name for name, axis in read.items()}
    renamed: dict[str, Dim] = {name: symbol(by_axis[axis]) for name, axis in written.items()}
    taken = set(extents)
    merged = dict(extents)
    for name, extent in below.items():
        if name not in written:
            new = _fresh(name, taken | set(below))
            taken.add(new)
            renamed[name], merged[new] = symbol(new), extent
    at = tuple(substitute(e, renamed) for e in maps_of(inner)[0])
    attrs = spec(merged, (at,), _out(node), node.result.dims)
    return r.make("contract", inner.operands, attrs)


def transpose_of_contract(r: Rewriter, node: Node) -> Value | None:
    """transpose (contract x, y) -> contract x, y, for a contraction with one reader"""
    inner = r.maker(node.operands[0], "contract")
    if inner is None or not r.is_read_once(inner.result):
        return None
    order, out = ints_attr(node, "order"), _out(inner)
    attrs = spec(
        extents_of(inner), maps_of(inner), tuple(out[axis] for axis in order), node.result.dims
    )
    return r.make("contract", inner.operands, attrs)


# How an operand that only moves elements is read directly: its node, the map, the extents -> a map.

def _through_broadcast(maker: Node, at: Map, extents: dict[str, Dim]) -> Map | None:
    x, dims, axes = maker.operands[0], maker.result.dims, ints_attr(maker, "axes")
    kept = {axis for axis, dim in zip(axes, x.dims, strict=True) if dim == dims[axis]}
    # Where the broadcast is gone, nothing says any more that reads outside of it are 0.
    if any(not _inside(e, dims[i], extents) for i, e in enumerate(at) if i not in kept):
        return None
    return tuple(at[axis] if axis in kept else 0 for axis in axes)


def _through_transpose(maker: Node, at: Map, extents: dict[str, Dim]) -> Map | None:
    order = ints_attr(maker, "order")
    return tuple(at[order.index(axis)] for axis in range(len(order)))


def _through_reshape(maker: Node, at: Map, extents: dict[str, Dim]) -> Map | None:
    """Only where the reshape adds or drops axes of extent 1."""
    source, target = maker.operands[0].dims, maker.result.dims
    wide = [e for e, dim in zip(at, target, strict=True) if dim != 1]
    if [d for d in source if d != 1] != [d for d in target if d != 1]:
        return None
    ones = [e for e, dim in zip(at, target, strict=True) if dim == 1]
    if not all(_inside(e, 1, extents) for e in ones):
        return None
    return tuple(0 if dim == 1 else wide.pop(0) for dim in source)


def _through_slice(maker: Node, at: Map, extents: dict[str, Dim]) -> Map | None:
    if not all(_inside(e, dim, extents) for e, dim in zip(at, maker.result.dims, strict=True)):
        return None
    start, step = dims_attr(maker, "start"), ints_attr(maker, "step")
    if not all(isinstance(first, int) for first in start):
        return None
    return tuple(first + e * by for e, first, by in zip(at, start, step, strict=True))


def _through_pad(maker: Node, at: Map, extents: dict[str, Dim]) -> Map | None:
    low, high = dims_attr(maker, "low"), dims_attr(maker, "high")
    if maker.attr("value") != 0 or not all(isinstance(a, int) and a >= 0 for a in low):
        return None
    if not all(at_least(b, 0) for b in high):
        return None
    return tuple(e - a for e, a in zip(at, low, strict=True))


def _out(node: Node) -> Map:
    return dims_attr(node, "out")


def _names(*maps: Map) -> frozenset[str]:
    return frozenset[str]().union(*(symbols(e) for at in maps for e in at))


def _fresh(name: str, taken: set[str]) -> str:
    """A name for an index, not in `taken`: its first letter and a number."""
    number = 0
    while f"{name[0]}{number}" in taken:
        number += 1
    return f"{name[0]}{number}"


def _inside(e: Dim, dim: Dim, extents: dict[str, Dim]) -> bool:
    """Whether `e` is seen to stay within `dim`: an index of that extent, or a number."""
    if isinstance(e, int):
        return e >= 0 and at_least(dim, e + 1)
    return str(e) in extents and extents[str(e)] == dim


def _without_units(at: Map, extents: dict[str, Dim]) -> Map:
    """A map in which indices of extent 1 are 0."""
    units: dict[str, Dim] = {name: 0 for name, extent in extents.items() if extent == 1}
    return tuple(substitute(e, units) for e in at) if units else at


def _axes(at: Map, dims: tuple[Dim, ...], extents: dict[str, Dim]) -> dict[str, int] | None:
    """The axis that each index runs over, all of it; None if the map is not so simple.

    An axis of extent 1 at place 0 has none.
    """
    found: dict[str, int] = {}
    for axis, (e, dim) in enumerate(zip(at, dims, strict=True)):
        if e == 0 and dim == 1:
            continue
        name = str(e)
        if not isinstance(e, Poly) or extents.get(name) != dim or name in found:
            return None
        found[name] = axis
    return found


_LOOK_THROUGH = (
    ("broadcast", _through_broadcast), ("transpose", _through_transpose),
    ("reshape", _through_reshape), ("slice", _through_slice), ("pad", _through_pad),
)

CONTRACT: Final = (
    Rule(("contract",), contract_through_moves),
    Rule(("contract",), sum_of_repeats),
    Rule(("contract",), drop_operand_one),
    Rule(("contract",), contract_nothing),
    Rule(("contract",), merge_sums),
    Rule(("transpose",), transpose_of_contract),
)
