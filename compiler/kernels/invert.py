"""A reduction seen from its result: which elements of the operands make up element (i0, i1, …).

A contraction may write through an affine map (`y[2*v + r]`, the gradient of a strided read). Here
the map is inverted: an index with coefficient 1 is expressed by the result's index, and what must
hold of it bounds the loops over the others. So every multiplication that is carried out is
needed: nothing is padded with zeros and no zeros are put in between.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

from dlc.compiler.kernels.ranges import bind, nonnegative, simplify
from dlc.compiler.options import Options
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import (
    Dim,
    ceildiv,
    coefficient,
    evaluate,
    floordiv,
    maximum,
    minimum,
    mod,
    substitute,
    symbol,
    symbols,
)
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.ops import OPS
from dlc.ir.ops.contract import extents_of, map_of, maps_of
from dlc.ir.ops.shape import ints_attr

MOSTLY = 0.8  # of the reads are inside, if an operand is also read outside
MOST_TAPS = 16  # of an index that is added to another, or taken from it
MOST_TRIED = 256


@dataclass(frozen=True, slots=True)
class Bounded:
    """A reduced index: low <= name < high, over outer indices and reduced ones before it."""

    name: str
    low: Dim
    high: Dim


@dataclass(frozen=True, slots=True)
class Inverse:
    """Element (i0, i1, …) of the result combines the operands at `reads`, over `over`.

    Where one of `where` is negative the result is the empty combination. Operands in `guarded` are
    also read outside, along their last axis, where they are 0.
    """

    domain: tuple[Dim, ...]
    reads: tuple[tuple[Dim, ...], ...]
    over: tuple[Bounded, ...]
    where: tuple[Dim, ...]
    guarded: tuple[int, ...] = ()

    @property
    def is_read(self) -> bool:
        """Whether nothing is combined: each element is one element (or product) of the operands."""
        return not self.over and not self.where


def outer_names(rank: int) -> tuple[str, ...]:
    """The names of the indices of a domain."""
    return tuple(f"i{k}" for k in range(rank))


def outer_extents(domain: tuple[Dim, ...]) -> dict[str, Dim]:
    """Their extents."""
    return {f"i{k}": extent for k, extent in enumerate(domain)}


def outer_ranges(domain: tuple[Dim, ...]) -> dict[str, tuple[Dim, Dim]]:
    """Their ranges."""
    return {f"i{k}": (0, extent - 1) for k, extent in enumerate(domain)}


def inverses(graph: Graph, options: Options) -> dict[Value, Inverse]:
    """The inverse of every reduction of a graph, by its result."""
    moved = {v for node in graph.nodes if node.op != "pack" and OPS[node.op].access is not None
             for v in node.results}
    return {node.result: invert(node, options, moved) for node in graph.nodes
            if OPS[node.op].kernel in ("contract", "reduce")}


def combines(node: Node, inverses: Mapping[Value, Inverse]) -> bool:
    """Whether a node makes one element of many."""
    inverse = inverses.get(node.results[0]) if node.results else None
    return inverse is not None and not inverse.is_read


def invert(node: Node, options: Options, moved: Container[Value] = ()) -> Inverse:
    """The inverse of a contraction, a maximum over axes or an argmax.

    `moved` are values that are parts of others: outside of them may be something else than 0.
    """
    if node.op == "contract":
        return _invert_contract(node, options, moved)
    axes = ints_attr(node, "axes") if node.op == "reduce_max" else (
        (0,) if node.op == "tree_sum" else (_axis(node),))
    kept = iter(outer_names(len(node.result.dims)))
    over: list[Bounded] = []
    read: list[Dim] = []
    for axis, extent in enumerate(node.operands[0].dims):
        if axis in axes:
            over.append(Bounded(f"k{len(over)}", 0, extent))
            read.append(symbol(over[-1].name))
        else:
            read.append(symbol(next(kept)))
    return Inverse(node.result.dims, (tuple(read),), tuple(over), ())


def _axis(node: Node) -> int:
    axis = node.attr("axis")
    assert isinstance(axis, int)
    return axis


def _invert_contract(node: Node, options: Options, moved: Container[Value]) -> Inverse:
    # The indices of a contraction may be called i0 too, like those of its result.
    own: dict[str, Dim] = {name: symbol(f"_{name}") for name in extents_of(node)}
    extents = {f"_{name}": extent for name, extent in extents_of(node).items()}
    out, *maps = (tuple(substitute(e, own) for e in m)
                  for m in (map_of(node.attr("out")), *maps_of(node)))
    domain = node.result.dims
    solved, limits = _solve(out, extents, options)
    names = {old: f"k{at}" for at, old in enumerate(n for n in extents if n not in solved)}
    fresh: dict[str, Dim] = {old: symbol(new) for old, new in names.items()}
    point = {old: substitute(value, fresh) for old, value in solved.items()} | fresh
    reads = tuple(tuple(substitute(e, point) for e in at) for at in maps)
    limits = [substitute(e, fresh) for e in limits]
    over = {names[n]: extents[n] for n in names}
    inside: list[Dim] = []  # what keeps reads within the operands that are not guarded
    guarded: list[int] = []
    for place, (operand, at) in enumerate(zip(node.operands, reads, strict=True)):
        for axis, (e, extent) in enumerate(zip(at, operand.dims, strict=True)):
            last = axis == len(at) - 1 and len(reads) > 1 and operand not in moved
            if last and _mostly_inside(e, extent, outer_extents(domain) | over, options):
                guarded.append(place)
                limits = [limit for limit in limits if limit not in (e, extent - 1 - e)]
            else:
                inside += [e, extent - 1 - e]
    return replace(_bounded(domain, reads, over, limits + inside), guarded=tuple(guarded))


def _mostly_inside(e: Dim, extent: Dim, extents: dict[str, Dim], options: Options) -> bool:
    """Whether an index, of an outer one and a constant range, is seldom outside of an axis.

    Then reading 0 there costs less than bounds that differ from place to place: tiles and vectors
    can go over what would be in the bounds. Neighbours in the axis are neighbours of the outer
    index; those of the range may be further apart.
    """
    names = sorted(symbols(e) & extents.keys())
    if len(names) != 2 or symbols(e) - set(names):
        return False
    env = {n: options.hint(n) for d in (extent, *extents.values()) for n in symbols(d)}
    ranges = [range(min(evaluate(extents[n], env), MOST_TRIED)) for n in names]
    if not any(isinstance(extents[tap], int) and len(taps) <= MOST_TAPS
               and coefficient(e, place) in (1, -1) and isinstance(coefficient(e, tap), int)
               for tap, taps, place in zip(names, ranges, reversed(names), strict=True)):
        return False
    size = evaluate(extent, env)
    if max(evaluate(extents[n], env) for n in names) > MOST_TRIED:
        return size > MOST_TRIED
    inside = [0 <= evaluate(e, {names[0]: a, names[1]: b}) < size
              for a in ranges[0] for b in ranges[1]]
    return not all(inside) and sum(inside) >= MOSTLY * len(inside)


def _solve(
    out: tuple[Dim, ...], extents: dict[str, Dim], options: Options
) -> tuple[dict[str, Dim], list[Dim]]:
    """Indices expressed by the result's, and what must be >= 0 for that to hold."""
    solved: dict[str, Dim] = {name: 0 for name, extent in extents.items() if extent == 1}
    limits: list[Dim] = []
    for name, e in zip(outer_names(len(out)), out, strict=True):
        at = substitute(e, solved)
        free = [n for n in extents if n in symbols(at)]
        if not free:
            limits += [at - symbol(name), symbol(name) - at]
            continue
        chosen = max(free, key=lambda n: (abs(_step(at, n)) == 1, options.likely(extents[n])))
        step = _step(at, chosen)
        rest = symbol(name) - (at - symbol(chosen) * step)
        if abs(step) != 1:
            limits.append(-mod(rest, abs(step)))
        value = floordiv(rest, step) if step > 0 else floordiv(-rest, -step)
        solved = {n: substitute(v, {chosen: value}) for n, v in solved.items()}
        limits = [substitute(v, {chosen: value}) for v in limits]
        solved[chosen] = value
        limits += [value, extents[chosen] - 1 - value]
    return solved, limits


def _step(at: Dim, name: str) -> int:
    step = coefficient(at, name)
    assert isinstance(step, int)
    return step


def _bounded(
    domain: tuple[Dim, ...], reads: tuple[tuple[Dim, ...], ...], over: dict[str, Dim],
    limits: list[Dim],
) -> Inverse:
    ranges = outer_ranges(domain) | {k: (0, extent - 1) for k, extent in over.items()}
    low: dict[str, Dim] = dict.fromkeys(over, 0)
    high: dict[str, Dim] = dict(over)
    where: list[Dim] = []
    order = list(over)
    for limit in dict.fromkeys(limits):
        if nonnegative(limit, ranges):
            continue
        inside = [k for k in order if k in symbols(limit)]
        step = coefficient(limit, inside[-1]) if inside else None
        if not isinstance(step, int) or step == 0:
            where.append(limit)
            continue
        k = inside[-1]
        rest = limit - symbol(k) * step
        if step > 0:
            low[k] = maximum(low[k], ceildiv(-rest, step))
        else:
            high[k] = minimum(high[k], floordiv(rest, -step) + 1)
    fixed: dict[str, Dim] = {}
    kept: list[Bounded] = []
    for k in order:
        a, b = bind(low[k], fixed, ranges), bind(high[k], fixed, ranges)
        if simplify(b - a, ranges) == 1:
            fixed[k] = a
        else:
            kept.append(Bounded(k, a, b))
    reads = tuple(tuple(bind(e, fixed, ranges) for e in at) for at in reads)
    return Inverse(domain, reads, tuple(kept), tuple(bind(e, fixed, ranges) for e in where))
