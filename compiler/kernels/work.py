"""What a kernel has to do at given sizes: floating-point operations, and bytes of memory.

Counted from what the kernel says, not from how a schedule carries it out: no padding, no tails, no
value that is loaded twice. A multiply-add is 2 operations; an elementwise op has as many as its
formula (a polynomial's fma counts 2); comparisons, selections and integers count nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from math import prod
from typing import Final

from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, evaluate, symbols
from dlc.ir.kernel import Access, Arg, Compute, Index, Kernel, Opaque, Seq
from dlc.ir.ops import OPS
from dlc.ir.scalar import COMPARISONS, ScalarBuilder
from dlc.ir.types import BOOL, F32, DType

COUNTED: Final = 4096  # points at which coupled indices are counted; beyond, evenly spread ones
LOADED: Final = 8  # turns of an index whose bounds lie in memory
_COSTS: Final = {"fma": 2, **dict.fromkeys(
    ("add", "sub", "mul", "div", "maximum", "minimum", "sqrt", "floor", "round", "ldexp"), 1)}

Sizes = Mapping[str, int]
Nest = tuple[Index, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """Floating-point operations, and the bytes of memory that are read and written once."""

    operations: int
    read: int
    written: int

    @property
    def moved(self) -> int:
        """All bytes that pass between memory and the kernel."""
        return self.read + self.written

    def mean(self, last: Work, count: int) -> Work:
        """That of one of `count` launches, the last of which does `last`."""
        def mean(a: int, b: int) -> int:
            return (a * (count - 1) + b) // count

        return Work(mean(self.operations, last.operations), mean(self.read, last.read),
                    mean(self.written, last.written))


def work(kernel: Kernel, sizes: Sizes) -> Work:
    """The work of one launch, in which the kernel's symbols have these sizes."""
    total = 0.0
    touched: dict[tuple[str, bool], float] = {}
    types = {b.name: b.dtype for b in (*kernel.params, *kernel.locals)}
    for compute, nest in _computes(kernel.body, kernel.outer):
        points = count_points(nest, compute.where, sizes)
        total += points * operations(compute, types)
        for access, write in _accesses(compute):
            key = access.buffer, write
            touched[key] = touched.get(key, 0.0) + _places(access, nest, sizes)
    read, written = (_bytes(kernel, touched, sizes, write) for write in (False, True))
    return Work(round(total), read, written)


def _computes(
    body: tuple[Compute | Seq | Opaque, ...], nest: Nest
) -> Iterator[tuple[Compute, Nest]]:
    """The computes of a body with all indices round them; opaque pieces are left out."""
    for step in body:
        if isinstance(step, Seq):
            yield from _computes(step.body, (*nest, step.index))
        elif isinstance(step, Compute):
            yield step, (*nest, *step.over)


def operations(compute: Compute, types: Mapping[str, DType]) -> int:
    """Floating-point operations at one point of a compute; `types` are those of buffers."""
    known = dict(types)
    total = 0
    for op in compute.body:
        total += _operations(op.op, tuple(_dtype(a, known) for a in op.args), op.attrs)
        known[op.name] = op.dtype
    if compute.combine is not None and compute.combine.dtype.is_float:
        total += 1
    return total


def _dtype(arg: Arg, known: Mapping[str, DType]) -> DType:
    """The type of an operand; of results of ops that other computes hold, f32."""
    if isinstance(arg, Access):
        return known[arg.buffer]
    return known.get(arg, F32) if isinstance(arg, str) else arg.dtype


@cache
def _operations(op: str, operands: tuple[DType, ...], attrs: tuple[tuple[str, object], ...]) -> int:
    """Those of an op of the registry, by its formula, or of a primitive."""
    counter = _Counter()
    known = OPS.get(op)
    if known is None:
        counter.primitive(op, *operands)
    elif known.formula is not None:
        known.formula(counter, dict(attrs), *operands)
    return counter.total


class _Counter(ScalarBuilder[DType]):
    """Counts the operations of a formula; a value is its type."""

    def __init__(self) -> None:
        self.total = 0

    def primitive(self, op: str, *args: DType) -> DType:
        if args[0].is_float:
            self.total += _COSTS.get(op, 0)
        if op in COMPARISONS:
            return BOOL
        return args[1] if op == "select" else args[0]

    def const(self, dtype: DType, value: float) -> DType:
        return dtype

    def cast(self, x: DType, to: DType) -> DType:
        return to

    def bitcast(self, x: DType, to: DType) -> DType:
        return to

    def dtype(self, x: DType) -> DType:
        return x


def count_points(nest: Nest, where: Sequence[Dim], sizes: Sizes) -> float:
    """How many values the indices take together, under conditions that are each >= 0."""
    total = 1.0
    for group in _coupled(nest, where):
        names = {index.name for index in group}
        total *= _count(group, [e for e in where if names & symbols(e)], sizes)
    return total


def _coupled(nest: Nest, where: Sequence[Dim]) -> list[Nest]:
    """The indices in groups: those that stand in one bound or condition go together."""
    known = {index.name for index in nest}
    ties = [known & symbols(e) for e in where]
    ties += [known & ({i.name} | symbols(_plain(i.low)) | symbols(_plain(i.high))) for i in nest]
    groups: list[set[str]] = []
    for tie in ties:
        joined = set(tie).union(*(g for g in groups if g & tie))
        groups = [*(g for g in groups if not g & tie), joined]
    return [tuple(i for i in nest if i.name in group) for group in groups]


def _plain(bound: Dim | Access) -> Dim:
    return 0 if isinstance(bound, Access) else bound


def _count(group: Nest, where: Sequence[Dim], sizes: Sizes) -> float:
    """The points of a group, by looking at each or at evenly spread ones."""
    *outer, last = group
    if len(group) == 1 and not where:
        return float(_extent(last, sizes))
    per_index = max(2, int(COUNTED ** (1 / len(group))))
    found, share = 0.0, 1.0
    spread = [_spread(i, sizes, per_index) for i in outer]
    for values in product(*(chosen for chosen, _ in spread)):
        found += _inner(values, group, where, sizes, per_index)
    for _, part in spread:
        share *= part
    return found / share


def _inner(
    values: tuple[int, ...], group: Nest, where: Sequence[Dim], sizes: Sizes, limit: int
) -> float:
    """The values of a group's last index where the others have `values`."""
    *outer, last = group
    at = dict(sizes)
    for index, value in zip(outer, values, strict=True):
        if not _low(index, at) <= value < _high(index, at):
            return 0.0
        at[index.name] = value
    chosen, part = _spread(last, at, limit if where else 0)
    if not where:
        return float(len(chosen))
    return sum(all(evaluate(e, at | {last.name: v}) >= 0 for e in where) for v in chosen) / part


def _spread(index: Index, sizes: Sizes, limit: int) -> tuple[range | list[int], float]:
    """Values of an index, all or about `limit` of them evenly spread, and their share of all.

    Bounds that depend on indices without a value here are taken as wide as they may be.
    """
    low, high = _low(index, sizes), _high(index, sizes)
    every = range(low, max(low, high))
    if not limit or len(every) <= limit:
        return every, 1.0
    chosen = [every[k * len(every) // limit] for k in range(limit)]
    return chosen, limit / len(every)


def _low(index: Index, sizes: Sizes) -> int:
    if isinstance(index.low, Access):
        return 0
    return evaluate(index.low, sizes) if symbols(index.low) <= sizes.keys() else 0


def _high(index: Index, sizes: Sizes) -> int:
    if isinstance(index.high, Access):
        return _low(index, sizes) + LOADED
    return evaluate(index.high, sizes)


def _extent(index: Index, sizes: Sizes) -> int:
    return max(0, _high(index, sizes) - _low(index, sizes))


def _accesses(compute: Compute) -> Iterator[tuple[Access, bool]]:
    """What a compute reads, places included that give an index, and what it writes."""
    for arg in compute.args:
        if isinstance(arg, Access):
            yield from ((access, False) for access in _with_inner(arg))
    yield compute.target, True
    for inner in _with_inner(compute.target):
        if inner is not compute.target:
            yield inner, False


def _with_inner(access: Access) -> Iterator[Access]:
    yield access
    for each in access.at:
        if isinstance(each, Access):
            yield from _with_inner(each)


def _places(access: Access, nest: Nest, sizes: Sizes) -> float:
    """At most so many elements are touched: one for each value of the indices in the access."""
    names = frozenset[str]().union(*(
        symbols(e) for each in _with_inner(access) for e in each.at if not isinstance(e, Access)))
    return count_points(_closed(nest, names), (), sizes)


def _closed(nest: Nest, names: frozenset[str]) -> Nest:
    """The indices of these names, with those on which their bounds depend."""
    kept: list[Index] = []
    for index in reversed(nest):
        if index.name in names:
            kept.insert(0, index)
            names |= symbols(_plain(index.low)) | symbols(_plain(index.high))
    return tuple(kept)


def _bytes(
    kernel: Kernel, touched: Mapping[tuple[str, bool], float], sizes: Sizes, write: bool
) -> int:
    """The bytes of parameters that are read, or written: never more than a buffer has."""
    total = 0
    for buffer in kernel.params:
        places = touched.get((buffer.name, write), 0.0)
        whole = prod(evaluate(d, sizes) for d in buffer.dims)
        total += min(round(places), whole) * buffer.dtype.size
    return total


__all__ = ["Work", "count_points", "operations", "work"]
