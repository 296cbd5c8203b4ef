"""Schedules of chains of products: rows lie in the lanes, and are gone along part by part.

What is read for a part of the rows serves all rows of a tile, and their elements stay in the
nearest caches. With rows in the lanes nothing is ever combined over lanes, and what all rows share
(keys, values) is read as it lies, one number for all lanes.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from dlc.compiler.kernels.accesses import uses
from dlc.compiler.kernels.chain_parts import ChainParts, chain_parts
from dlc.compiler.kernels.chains import MOST_INSIDE
from dlc.compiler.options import Options
from dlc.compiler.schedules.chunks import CYCLES_PER_NS, size_of, split
from dlc.ir.dims import Dim, floordiv
from dlc.ir.kernel import Access, Compute, Index, Kernel
from dlc.ir.ops import OPS
from dlc.ir.schedule import Schedule, Tile
from dlc.ir.types import F32

PART = 64  # elements of a row at a time: with four vectors of rows, 16 KB for each matrix
VECTORS = {4: 1.0, 3: 1.05, 2: 1.25, 1: 2.0}  # of rows in a tile, and what a multiplication costs
SIDES = (8, 6, 5, 4, 3, 2)  # sums side by side, for each vector


def chain_schedule(
    kernel: Kernel, options: Options, extent: Callable[[Index], int]
) -> Schedule | None:
    """The schedule of a kernel that is a chain of products; None for any other."""
    parts = chain_parts(kernel)
    if parts is None:
        return None
    vector = rows_of(kernel, parts)
    lanes = options.lanes
    vectors = _vectors(ceil(extent(vector) / lanes))
    registers = options.registers * F32.size // max(b.dtype.size for b in kernel.locals)
    side = [s for s in SIDES if (s + 1) * vectors + 1 <= registers - 2] or [1]
    part = PART
    if isinstance(parts.row.high, int):
        part = min(part, parts.row.high)
    rows = _side(part, side)
    tiles = [Tile(vector.name, vectors), Tile(parts.row.name, rows)]
    for compute in parts.last:
        own = next(i for i in compute.over if i != parts.row)
        tiles.append(Tile(own.name, _side(extent(own), side)))
    order = (*(i for i in kernel.outer if i != vector), vector)
    reduced = tuple(i.name for c in parts.inner for i in c.over if i != parts.row)
    total = _total(kernel, parts, lanes, extent)
    # All outer loops are split: one text alone has tiles enough.
    loops, chunks = split(
        kernel, [(i, vectors * lanes if i is vector else 1) for i in order], lambda _: 1, total)
    return Schedule(
        options.target, tuple(i.name for i in order), loops, chunks, vector.name, lanes,
        tuple(tiles), (*reduced, parts.row.name), edge=((vector.name, "mask"),), cost=total,
        part=ceil(part / rows) * rows, depth=_depth(parts))


def _depth(parts: ChainParts) -> int:
    """How many values of a product's own index are there at a time, if its extent is a symbol."""
    own = [i for c in (*parts.inner, *parts.last) for i in c.over if i != parts.row]
    return 0 if all(isinstance(i.high, int) for i in own) else MOST_INSIDE


def rows_of(kernel: Kernel, parts: ChainParts) -> Index:
    """The outer index whose rows are done together: along it the last products read nothing but
    elements."""
    shared = [a for c in parts.last for a in c.args if isinstance(a, Access)]
    found = [i for i in kernel.outer if not any(uses(a, i.name) for a in shared) and any(
        uses(a, i.name) for c in parts.inner for a in c.args if isinstance(a, Access))]
    return found[-1]


def _vectors(count: int) -> int:
    """How many vectors of rows make a tile, if there are `count` of them."""
    return min((v for v in VECTORS if v <= max(count, 1)),
               key=lambda v: ceil(count / v) * v * VECTORS[v])


def _side(extent: int, sides: list[int]) -> int:
    """How many sums of `extent` lie side by side: the fewest in vain, the most of these."""
    return min(sides, key=lambda s: (ceil(extent / s) * s * (1 + 0.25 / s), -s))


def _total(
    kernel: Kernel, parts: ChainParts, lanes: int, extent: Callable[[Index], int]
) -> Dim:
    """Nanoseconds of all."""
    cycles = 0.0
    for compute in (*parts.inner, *parts.last):
        own = next(i for i in compute.over if i != parts.row)
        cycles += extent(own) / 2
    cycles += sum(_work(c) for c in parts.along)
    total: Dim = ceil(cycles / lanes * 1000 / CYCLES_PER_NS)
    for index in (*kernel.outer, parts.row):
        total = total * size_of(kernel, index, extent)
    return floordiv(total, 1000)


def _work(compute: Compute) -> float:
    return 2.0 + sum(OPS[op.op].cost for op in compute.body if op.op in OPS)
