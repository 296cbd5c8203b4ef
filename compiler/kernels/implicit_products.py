"""Contractions of any form as products of matrices that never lie in memory.

The bounds of a convolution's sum differ from place to place, where it is padded or a gradient. Here
they are made the same for all places, by numbers outside of a tensor that are 0:

    y[v] = sum c, max(0, 1 - v) <= r < min(3, H + 1 - v): x[c, v + r - 1] * w[c, r]
    ->
    y[v] = sum c, r < 3: (x[c, v + r - 1] else 0) * w[c, r]

Where an index is divided (the gradient of a strided convolution, groups), it is parted into what is
divided and the rest: places of the same rest read the same weights.

    d[v] = sum o, v // 2 <= k < (v + 1) // 2 + 1: g[o, k] * w[o, v - 2*k + 1]
    ->
    d[2*v + p] = sum o, k < (p + 1) // 2 + 1: (g[o, v + k] else 0) * w[o, p - 2*k + 1]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from math import ceil, lcm, prod

from dlc.compiler.kernels.products import Factors, factors_of, is_read
from dlc.compiler.kernels.ranges import Ranges, bind, extreme, nonnegative, simplify
from dlc.compiler.kernels.with_indices import with_indices, with_reads
from dlc.ir.atoms import Atom
from dlc.ir.dims import (
    Dim,
    Poly,
    ceildiv,
    evaluate,
    maximum,
    minimum,
    mod,
    symbol,
    symbols,
)
from dlc.ir.kernel import Access, Arg, Compute, Index, IndexValue, Kernel

MOST_PARTS = 16  # values of an index that bounds depend on, of which the sum's places are counted
SIDE = 16  # rows and columns that a product has at the least, for what it costs
Sizes = Mapping[str, int]


def as_product(kernel: Kernel, sizes: Sizes) -> Kernel | None:
    """A kernel of the same results whose sum is a product (`factors_of`): the one that costs least
    at likely sizes; None if there is none."""
    first = kernel.body[0]
    if not isinstance(first, Compute) or first.combine is None or first.combine.kind != "sum" or (
            not first.body or first.body[-1].op != "mul" or _is_loaded(kernel)):
        return None
    divisors = _divisors(kernel, first)
    made = [_Making(kernel, {}, sizes).kernel()]
    if divisors:
        made += [_Making(kernel, divisors, sizes).kernel(apart) for apart in (False, True)]
    found = [(cost(k, sizes), n, k) for n, k in enumerate(made) if k is not None]
    return min(found, key=lambda each: each[:2])[2] if found else None


def cost(kernel: Kernel, sizes: Sizes) -> int:
    """About how many multiplications a product takes, in whole tiles."""
    factors = factors_of(kernel)
    assert factors is not None
    extents = {i.name: likely(i, sizes, kernel) for i in kernel.outer}
    total = ceil(prod(extents.values()) * _inner(kernel, factors.compute, sizes))
    for names in (factors.rows, factors.columns):
        side = prod(extents[n] for n in names)
        total = total // side * -(-side // SIDE) * SIDE
    return total


def _inner(kernel: Kernel, sum_of: Compute, sizes: Sizes) -> float:
    """The likely places of a sum, as a mean over the outer indices that bounds depend on."""
    bounds = [i.high for i in sum_of.over if not isinstance(i.high, Access)]
    names = {n for b in bounds for n in symbols(b)}
    outer = [i for i in kernel.outer if i.name in names]
    values = [range(min(likely(i, sizes, kernel), MOST_PARTS)) for i in outer]
    counts = []
    for point in product(*values):
        env = dict(zip((i.name for i in outer), point, strict=True))
        known = {n: sizes.get(n, 1) for n in names} | env
        counts.append(prod(max(0, evaluate(b, known)) for b in bounds))
    return sum(counts) / len(counts)


def likely(index: Index, sizes: Sizes, kernel: Kernel) -> int:
    """The likely extent of an index: the largest, where it differs from place to place."""
    assert not isinstance(index.high, Access)
    ranges: Ranges = {i.name: (0, i.high - 1) for i in kernel.outer
                      if not isinstance(i.high, Access)}
    high = extreme(index.high, ranges, 1)
    high = 1 if high is None else high
    return max(1, evaluate(high, {name: sizes.get(name, 1) for name in symbols(high)}))


def _is_loaded(kernel: Kernel) -> bool:
    return any(isinstance(i.high, Access) or i.low != 0 for i in kernel.outer) or any(
        isinstance(b, Access) for c in kernel.body if isinstance(c, Compute)
        for i in c.over for b in (i.low, i.high))


def _divisors(kernel: Kernel, sum_of: Compute) -> dict[str, int]:
    """By what outer indices are divided, in bounds and reads of the sum."""
    dims: list[Dim] = [b for i in sum_of.over for b in (i.low, i.high)
                       if not isinstance(b, Access)]
    dims += sum_of.where
    for arg in sum_of.args:
        if isinstance(arg, IndexValue):
            dims.append(arg.value)
        elif isinstance(arg, Access):
            dims += [e for e in arg.at if not isinstance(e, Access)]
    found: dict[str, int] = {}
    outer = {i.name for i in kernel.outer}
    for atom in (a for dim in dims for a in _atoms(dim)):
        if atom.kind in ("//", "%") and isinstance(atom.right, int) and atom.right > 1:
            for name in symbols(atom.left) & outer:
                found[name] = lcm(found.get(name, 1), atom.right)
    return found


def _atoms(dim: Dim) -> Iterator[Atom]:
    if isinstance(dim, Poly):
        for monomial, _ in dim.terms:
            for factor, _ in monomial:
                if isinstance(factor, Atom):
                    yield factor
                    yield from _atoms(factor.left)
                    yield from _atoms(factor.right)


class _Making:
    """One form of a kernel, in which outer indices are parted by their `divisors`."""

    def __init__(self, kernel: Kernel, divisors: Mapping[str, int], sizes: Sizes) -> None:
        self.before, self.sizes = kernel, sizes
        self.parted, self.parts = set(divisors), set[str]()
        self.outer: list[Index] = []
        self.ends: list[Dim] = []  # what holds of the places that there are
        self.point: dict[str, Dim] = {}
        taken = {i.name for c in kernel.body if isinstance(c, Compute) for i in c.over}
        taken |= {i.name for i in kernel.outer} | set(kernel.symbols)
        for index in kernel.outer:
            assert not isinstance(index.high, Access)
            by = divisors.get(index.name, 1)
            if by == 1:
                self.outer.append(index)
                continue
            part = next(f"i{k}" for k in range(len(taken) + 1) if f"i{k}" not in taken)
            taken.add(part)
            self.parts.add(part)
            self.point[index.name] = symbol(index.name) * by + symbol(part)
            self.outer += [Index(index.name, ceildiv(index.high, by)), Index(part, by)]
            if mod(index.high, by) != 0:
                self.ends.append(index.high - 1 - self.point[index.name])
        self.ranges = {i.name: (0, i.high - 1) for i in self.outer}  # type: ignore[operator]

    def kernel(self, apart: bool = False) -> Kernel | None:
        """The kernel; None if its sum is no product even so. Places of different rests may be
        products `apart`, with bounds of their own."""
        body = [with_indices(c, self.point, self.ranges) for c in self.before.body
                if isinstance(c, Compute)]
        if len(body) < len(self.before.body):
            return None
        first, rest = self._sum(body[0]), body[1:]
        if self.ends:
            if _share_ops(body):
                return None
            rest = [replace(c, where=(*c.where, *self.ends)) for c in rest]
        made = replace(self.before, outer=tuple(self.outer), body=(first, *rest))
        factors = factors_of(made)
        if factors is None:
            return None
        return replace(made, body=(self._tightened(first, factors, apart), *rest))

    def _sum(self, compute: Compute) -> Compute:
        """The sum with bounds that are the same at all places."""
        over: list[Index] = []
        point: dict[str, Dim] = {}
        where: list[Dim] = []
        for index in compute.over:
            low, high = (bind(b, point, self.ranges) for b in (index.low, index.high)
                         if not isinstance(b, Access))
            base, extent = self._span(low, high)
            here = point[index.name] = base + symbol(index.name)
            self.ranges[index.name] = (0, extent - 1)
            over.append(Index(index.name, extent))
            where += [here - e for e in _sides(low, "max")]
            where += [e - 1 - here for e in _sides(high, "min")]
        moved = with_indices(replace(compute, over=()), point, self.ranges)
        where = [*moved.where, *(simplify(e, self.ranges) for e in where)]
        where = [e for e in dict.fromkeys(where) if not nonnegative(e, self.ranges)]
        return replace(moved, over=tuple(over), where=tuple(where))

    def _span(self, low: Dim, high: Dim) -> tuple[Dim, Dim]:
        """From where on an index goes, and how far at the most at any place."""
        first, last = self._outermost(low, -1), self._outermost(high, 1)
        best = (self._likely(last - first), 1, first, last - first)
        for a in _sides(low, "max"):
            for b in _sides(high, "min"):
                extent = extreme(simplify(b - a, self.ranges), self.ranges, 1)
                if symbols(a) & self.ranges.keys() and extent is not None:
                    # As far as elsewhere, but where the divided index is, which the other factor
                    # then need not know.
                    found = (self._likely(extent), 0 if symbols(a) & self.parted else 2, a, extent)
                    best = min(best, found, key=lambda each: (each[0], each[1]))
        extent = best[3]
        return best[2], extent if nonnegative(extent, {}) else maximum(0, extent)

    def _outermost(self, bound: Dim, side: int) -> Dim:
        """The lowest value of a lower bound, or the highest of a higher one: a constant if one of
        its sides has one."""
        ends = [extreme(e, self.ranges, side) for e in _sides(bound, "min" if side > 0 else "max")]
        constant = [e for e in ends if isinstance(e, int)]
        if constant:
            return min(constant) if side > 0 else max(constant)
        found = extreme(bound, self.ranges, side)
        assert found is not None, "a bound by indices has a bound"
        return found

    def _likely(self, dim: Dim) -> int:
        return evaluate(dim, {name: self.sizes.get(name, 1) for name in symbols(dim)})

    def _tightened(self, compute: Compute, factors: Factors, apart: bool) -> Compute:
        """The sum with bounds by indices that rows and columns have in common, and without
        conditions that hold where both factors are read inside."""
        varying = {*factors.rows, *factors.columns} - (self.parts if apart else set())
        varying |= {i.name for i in compute.over}
        over, left = [], list(compute.where)
        for index in compute.over:
            high = index.high
            assert not isinstance(high, Access)
            for e in compute.where:
                rest = e + symbol(index.name)  # index <= rest
                if index.name not in symbols(rest) and not symbols(rest) & varying:
                    high = minimum(high, maximum(0, simplify(rest + 1, self.ranges)))
                    left.remove(e)
            high = simplify(high, self.ranges)
            self.ranges[index.name] = (0, high - 1)
            over.append(Index(index.name, high))
        filled = with_reads(compute, self._filled)
        factors = replace(factors, compute=filled, left=self._filled(factors.left),
                          right=self._filled(factors.right))
        guards = {g for f in (factors.left, factors.right) if is_read(filled, f)
                  for a in factors.reads(f) for g in self._guards(a)}
        return replace(filled, over=tuple(over), where=tuple(e for e in left if e not in guards))

    def _filled(self, arg: Arg) -> Arg:
        """A read that is 0 outside, if it may lie there within the new bounds."""
        if not isinstance(arg, Access) or arg.fill is not None or not arg.at:
            return arg
        dims = self.before.buffer(arg.buffer).dims
        inside = all(isinstance(e, Access) or (
            nonnegative(e, self.ranges) and nonnegative(extent - 1 - e, self.ranges))
            for e, extent in zip(arg.at, dims, strict=True))
        return arg if inside else replace(arg, fill=0.0)

    def _guards(self, access: Access) -> Iterator[Dim]:
        """What holds of a read that is inside, if it is 0 elsewhere."""
        if access.fill == 0.0:
            dims = self.before.buffer(access.buffer).dims
            for e, extent in zip(access.at, dims, strict=True):
                if not isinstance(e, Access):
                    yield e
                    yield simplify(extent - 1 - e, self.ranges)


def _sides(dim: Dim, kind: str) -> list[Dim]:
    """What a dim is the maximum (or minimum) of."""
    if isinstance(dim, Poly):
        for monomial, number in dim.terms:
            factor = monomial[0][0] if len(monomial) == 1 and monomial[0][1] == 1 else None
            if isinstance(factor, Atom) and factor.kind == kind and number == 1:
                make = maximum if kind == "max" else minimum
                rest = dim - make(factor.left, factor.right)
                return [e for side in (factor.left, factor.right)
                        for e in _sides(rest + side, kind)]
    return [dim]


def _share_ops(body: list[Compute]) -> bool:
    """Whether a compute after the sum uses ops of another one."""
    for compute in body[1:]:
        own = {op.name for op in compute.body}
        if any(isinstance(a, str) and a not in own for a in compute.args):
            return True
    return False
