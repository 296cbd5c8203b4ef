"""Schedules of reductions down columns of a matrix that no near cache holds.

Memory gives most where it is read on and on: a few rows at a time, from end to end; or one, where
rows are short. So the sums of all columns, or of as many as the first cache holds, lie in memory
meanwhile, and a turn adds some rows to them, as in sweeps along rows that lie side by side
(`loops/stripes.py`). Chunks are of columns, and a column is summed from first row to last whoever
does it; where there are few threads, each does many chunks as one.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from dlc.compiler.kernels.accesses import accesses, loads_by, stride, uses
from dlc.compiler.options import Options
from dlc.compiler.schedules.chunks import size_of, split
from dlc.ir.dims import floordiv, product, symbols
from dlc.ir.kernel import Access, Compute, Index, Kernel, storage_size
from dlc.ir.schedule import Schedule, Tile

ROWS = 8  # in a turn: memory and caches follow as many at once, and a sum is loaded once for all
NARROW = 16  # vectors that a register tile holds, of whole rows
SHORTEST = 16  # columns of as many rows or fewer: their sums would be most of the work
NEAR_BYTES = 512 * 1024  # that a near cache holds: register tiles need no memory for sums
SUM_BYTES = 16 * 1024  # of sums, in the first cache beside the rows
CHUNK_BYTES = 1024  # of a row
PS_PER_BYTE = 8  # of a near cache; memory takes longer


def piece_schedule(
    kernel: Kernel, options: Options, extent: Callable[[Index], int]
) -> Schedule | None:
    """The schedule of such a kernel; None for any other."""
    computes = [c for c in kernel.body if isinstance(c, Compute)]
    reduction = next((c for c in computes if c.combine is not None), None)
    if len(computes) < len(kernel.body) or reduction is None or not _is_plain(kernel, computes):
        return None
    lanes = options.lanes
    wide = [i for i in kernel.outer if not isinstance(i.high, Access) and extent(i) > 1]
    if len(wide) != 1 or not _goes_down(kernel, computes, reduction, wide[0], lanes):
        return None
    (index,) = wide
    size = reduction.combine.dtype.size if reduction.combine is not None else 0
    if _is_near(kernel, reduction, index, lanes):
        return None
    indices = (*kernel.outer, *reduction.over)
    total = product(tuple(size_of(kernel, i, extent) for i in indices))
    total = floordiv(total * (size * PS_PER_BYTE), 1000)
    loops, chunks = split(kernel, ((index, CHUNK_BYTES // size),), extent, total)
    most = SUM_BYTES // (lanes * size)
    others = tuple(i.name for i in kernel.outer if i is not index)
    return Schedule(
        options.target, (index.name, *others), loops, chunks, index.name, lanes,
        (Tile(index.name, most),), tuple(i.name for i in reduction.over),
        edge=((index.name, "mask"),), cost=total, sweep=ROWS,
        together=SUM_BYTES // CHUNK_BYTES if loops and chunks != 1 else 1)


def _is_plain(kernel: Kernel, computes: list[Compute]) -> bool:
    """Whether it is one reduction and what follows, place by place."""
    first, *rest = computes
    return (first.combine is not None and first.combine.kind in ("sum", "max")
            and not first.combine.tree and bool(first.over)
            and not any(c.combine or c.over for c in rest)
            and not any(c.where for c in computes)
            and not any(local.dims for local in kernel.locals)
            and not any(isinstance(b, Access) for i in first.over for b in (i.low, i.high)))


def _goes_down(
    kernel: Kernel, computes: list[Compute], reduction: Compute, index: Index, lanes: int
) -> bool:
    """Whether rows lie along `index`, each of which is read once, and all else along it as well."""
    rows = [a for a in accesses(reduction) if uses(a, index.name)]
    over = [i.name for i in reduction.over]
    bounds = [b for i in reduction.over for b in (i.low, i.high) if not isinstance(b, Access)]
    return bool(rows) and not any(index.name in symbols(b) for b in bounds) and all(
        all(uses(a, n) for n in over) and kernel.buffer(a.buffer).layout.is_row_major
        and stride(kernel, a, index, lanes) == 1 for a in rows) and all(
        not loads_by(a, index.name) and stride(kernel, a, index, lanes) in (0, 1)
        for c in computes for a in accesses(c))


def _is_near(kernel: Kernel, reduction: Compute, index: Index, lanes: int) -> bool:
    """Whether it is known to be small: in rows, in columns, or in all."""
    if isinstance(index.high, int) and index.high <= NARROW * lanes:
        return True
    extents = [i.high - i.low for i in reduction.over
               if not isinstance(i.high, Access) and not isinstance(i.low, Access)]
    known = [e for e in extents if isinstance(e, int)]
    if len(known) == len(extents) and prod(known) <= SHORTEST:
        return True
    sizes = [storage_size(b.layout, b.dims) * b.dtype.size for b in (
        kernel.buffer(a.buffer) for a in accesses(reduction) if uses(a, index.name))]
    return all(isinstance(s, int) and s <= NEAR_BYTES for s in sizes)
