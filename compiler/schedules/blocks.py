"""Blocks of tiles: when an operand is copied into panels for them, or sums lie in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil, prod

from dlc.compiler.kernels.accesses import stride, uses
from dlc.compiler.schedules.chunks import idle, size_of
from dlc.ir.dims import Dim, ceildiv, floordiv, maximum, minimum, mod, product, symbols
from dlc.ir.kernel import Access, Compute, Index, Kernel
from dlc.ir.schedule import Schedule

PANEL_BYTES = 256 * 1024  # of the second cache, and of a thread's stack of 1 MB
DEPTH = 1024  # of a panel, at most
SUMS_BYTES = 384 * 1024  # of a block whose sums lie in memory between panels
MOST_TILES = 32  # of a block whose sums lie in memory between turns of outer reduced loops
LEAST_SHARED = 4  # tiles of a block, for which an operand is copied
LEAST_ROWS = 48  # of a block; fewer do not pay for the copy
TURNED_ROWS = 16  # with fewer, lanes along the reduced index cost less than turning an operand
LEAST_NESTED_DEPTH = 64  # inside other reduced loops, between which sums lie in memory
NEAR = 64  # elements from one reduced index to the next that a cache line or two hold
FAST_LINES = 704  # vectors that the first cache holds beside others
LEAST_TURNS = 12  # of the loops for which sums are loaded and stored
LEAST_DEPTH = 32  # of a reduction whose operand is worth copying
COPY_ROWS = 16.0  # what copying a panel costs, in rows of multiplications with it
FEW_TURNS = 8  # of loops do not come out even for threads
SHARED_ROWS = 192  # of a block, if there are several for the sake of threads alone


def in_blocks(
    kernel: Kernel, reduction: Compute, schedule: Schedule, extent: Callable[[Index], int]
) -> Schedule:
    """The schedule with blocks of tiles, if these pay."""
    if reduction.combine is None or reduction.combine.kind != "sum":
        return schedule
    panelled = with_panel(kernel, reduction, schedule, extent)
    if panelled.block:
        return panelled
    return with_shared(kernel, reduction, with_sums(kernel, reduction, schedule, extent))


def with_sums(
    kernel: Kernel, reduction: Compute, schedule: Schedule, extent: Callable[[Index], int]
) -> Schedule:
    """With the outer reduced loops round the tiles of a block, if what one tile reads is too much.

    The turns of the inner reduced loops read so little then that a fast cache holds it for all
    tiles of the block.
    """
    over = {i.name: i for i in reduction.over}
    reads = {a for a in reduction.args if isinstance(a, Access)}
    inside = {t.index for t in schedule.tiles} | {schedule.innermost}
    if reduction.where or len(over) < 2:
        return schedule
    sizes = {t.index: t.size for t in schedule.tiles}

    def lines(inner: tuple[str, ...]) -> int:
        """The vectors that one tile reads in the reduced loops `inner`."""
        total = 0
        for access in reads:
            count = 1
            for name in (*sizes, *inner):
                number = sizes.get(name) or ceil(extent(over[name]) / (
                    schedule.lanes if name == schedule.vector else 1))
                count *= number if uses(access, name) else 1
            total += count
        return total

    if lines(schedule.reduce) <= FAST_LINES or schedule.vector not in over:
        return schedule
    for outside in range(1, len(schedule.reduce)):
        inner = schedule.reduce[outside:]
        turns = 1
        for name in inner:
            turns *= ceil(extent(over[name]) / (schedule.lanes if name == schedule.vector else 1))
        bounds = [b for n in schedule.reduce[:outside] for b in (over[n].low, over[n].high)]
        if turns < LEAST_TURNS or any(isinstance(b, Access) or symbols(b) & inside for b in bounds):
            break
        if lines(inner) <= FAST_LINES:
            rows = next(i for i in kernel.outer if i.name == schedule.innermost)
            tiles = ceil(extent(rows) / schedule.tile(rows.name))
            return replace(schedule, block=min(tiles, MOST_TILES), outside=outside)
    return schedule


def with_shared(kernel: Kernel, reduction: Compute, schedule: Schedule) -> Schedule:
    """The schedule with a panel for the operand that all tiles of a block share, if it has one.

    Where the lanes lie along a reduced index, rows of it are far apart: what is read again and
    again shares few places of the fast cache.
    """
    if schedule.block < LEAST_SHARED or schedule.outside != len(schedule.reduce) - 1:
        return schedule
    inner = next(i for i in reduction.over if i.name == schedule.reduce[-1])
    reads = [a for a in reduction.args if isinstance(a, Access)]
    shared = [a for a in reads if not uses(a, schedule.innermost)]
    if len(shared) != 1 or len({a.buffer for a in reads}) < len(reads):
        return schedule
    (access,) = shared
    tiled = [t for t in schedule.tiles if uses(access, t.index)]
    plain = access.fill is None and not any(isinstance(e, Access) for e in access.at)
    if not plain or len(tiled) != 1 or inner.low != 0 or not isinstance(inner.high, int):
        return schedule
    if inner.name == schedule.vector or not (
            uses(access, inner.name) and uses(access, schedule.vector)):
        return schedule
    depth = ceil(inner.high / schedule.lanes) * schedule.lanes
    size = depth * tiled[0].size * schedule.lanes * kernel.buffer(access.buffer).dtype.size
    inside = {t.index for t in schedule.tiles} | {schedule.innermost}
    bounds = [b for i in reduction.over for b in (i.low, i.high)]
    if size > PANEL_BYTES or any(isinstance(b, Access) or symbols(b) & inside for b in bounds):
        return schedule
    return replace(schedule, panel=access.buffer, depth=depth)


def with_panel(
    kernel: Kernel, reduction: Compute, schedule: Schedule, extent: Callable[[Index], int]
) -> Schedule:
    """The schedule with a panel for the operand that the tile's vectors read, if that pays."""
    access = wide_operand(kernel, reduction, schedule)
    if access is None:
        return schedule
    rows = next(i for i in kernel.outer if i.name == schedule.innermost)
    last = next(i for i in reduction.over if i.name == schedule.reduce[-1])
    outer = next(i for i in kernel.outer if i.name == schedule.vector)
    across = stride(kernel, access, outer, schedule.lanes) != 1
    if len(reduction.over) > 1 and extent(last) < LEAST_NESTED_DEPTH:
        return schedule
    near = stride(kernel, access, last, schedule.lanes)
    if not across and near is not None and near <= NEAR:
        return schedule
    if not across and (extent(rows) < LEAST_ROWS or extent(last) < LEAST_DEPTH):
        return schedule
    row = schedule.lanes * schedule.tile(schedule.vector) * kernel.buffer(access.buffer).dtype.size
    depth, parts = _depth(last, schedule.lanes, min(DEPTH, PANEL_BYTES // row))
    made = replace(schedule, outside=len(reduction.over) - 1, panel=access.buffer, depth=depth)
    return _with_blocks(kernel, reduction, made, extent, parts == 1 and made.outside == 0)


def _with_blocks(
    kernel: Kernel, reduction: Compute, schedule: Schedule, extent: Callable[[Index], int],
    whole: bool,
) -> Schedule:
    """The schedule with blocks of as many tiles as are worth a panel, which come out even.

    `whole` says that one panel is known to hold all: then no sums lie in memory.
    """
    assert reduction.combine is not None
    rows = next(i for i in kernel.outer if i.name == schedule.innermost)
    places = prod(tile.size for tile in schedule.tiles) * schedule.lanes
    most = MOST_TILES if schedule.outside else (
        SUMS_BYTES // (places * reduction.combine.dtype.size))
    size = schedule.tile(rows.name)
    trips = [(i, schedule.tile(i.name) * (schedule.lanes if i.name == schedule.vector else 1))
             for i in kernel.outer if i is not rows]
    if not isinstance(rows.high, int):
        others = product(tuple(ceildiv(size_of(kernel, i, extent), step) for i, step in trips))
        count = number_of_blocks(size_of(kernel, rows, extent), size, others, most)
        return replace(schedule, block=most, blocks=count)
    tiles = ceil(extent(rows) / size)
    number = prod(ceil(extent(i) / step) for i, step in trips)
    least = min(tiles, ceil(LEAST_ROWS / size))
    most = tiles if whole else min(tiles, most)
    return replace(schedule, block=min(
        range(least, most + 1), key=lambda n: _overhead(n, size, tiles, number)))


def number_of_blocks(
    rows: Dim, size: int, others: Dim, most: int, least: int = SHARED_ROWS
) -> Dim:
    """Into how many blocks to cut rows in tiles of `size`, in each of `others` turns: few, for each
    copies a panel, and has `least` rows if it can; but so that there are enough turns for threads,
    and an even number of them."""
    shared = minimum(maximum(floordiv(rows, least), 1), maximum(
        ceildiv(FEW_TURNS, others), 1 + mod(others, 2)))
    return maximum(ceildiv(ceildiv(rows, size), most), maximum(1, shared - mod(shared, 2)))


def _depth(index: Index, lanes: int, limit: int) -> tuple[int, int]:
    """The values of a reduced index in a panel, at most `limit`, in whole vectors; and how many
    panels that makes (0: not known)."""
    limit = limit // lanes * lanes
    if not isinstance(index.high, int) or not isinstance(index.low, int):
        return limit, 0
    parts = ceil((index.high - index.low) / limit)
    return ceil(ceil((index.high - index.low) / parts) / lanes) * lanes, parts


def _overhead(block: int, size: int, tiles: int, others: int) -> float:
    """What blocks of so many tiles cost beside the multiplications, as a part of these."""
    turns = ceil(tiles / block) * others
    uneven = ceil(tiles / block) * block / tiles - 1
    return COPY_ROWS / (block * size) + idle(turns) + uneven


def can_turn(
    kernel: Kernel, reduction: Compute, access: Access, vector: Index, lanes: int,
    extent: Callable[[Index], int],
) -> bool:
    """Whether a panel may hold an operand whose rows run along the reduced index, turned."""
    last = reduction.over[-1] if reduction.over else None
    if last is None or not isinstance(last.low, int) or isinstance(last.high, Access):
        return False
    rows = [i for i in kernel.outer if not uses(access, i.name)]
    others = [a for a in reduction.args if isinstance(a, Access) and a != access]
    if any(uses(access, i.name) and not all(uses(a, i.name) for a in others)
           for i in kernel.outer if i is not vector):
        return False  # it would have a tile
    order = (*(i.name for i in kernel.outer if i not in rows), *(i.name for i in rows))
    made = Schedule("", order, vector=vector.name, lanes=lanes,
                    reduce=tuple(i.name for i in reduction.over))
    many = any(extent(i) >= TURNED_ROWS for i in rows)
    deep = len(reduction.over) == 1 or extent(last) >= LEAST_NESTED_DEPTH
    return many and deep and wide_operand(kernel, reduction, made) == access


def wide_operand(kernel: Kernel, reduction: Compute, schedule: Schedule) -> Access | None:
    """The only operand that varies along the vector index, if its parts can be copied."""
    outer = {i.name: i for i in kernel.outer}
    if schedule.vector not in outer or schedule.innermost == schedule.vector or reduction.where:
        return None
    bounds = [b for i in reduction.over for b in (i.low, i.high)]
    if any(isinstance(b, Access) or symbols(b) & outer.keys() for b in bounds):
        return None
    reads = {a for a in reduction.args if isinstance(a, Access)}
    wide = [a for a in reads if uses(a, schedule.vector)]
    if len(wide) != 1:
        return None
    (access,) = wide
    if any(uses(access, t.index) for t in schedule.tiles if t.index != schedule.vector):
        return None
    plain = access.fill is None and not any(isinstance(e, Access) for e in access.at)
    if not plain or uses(access, schedule.innermost) or not uses(access, schedule.reduce[-1]):
        return None
    last = next(i for i in reduction.over if i.name == schedule.reduce[-1])
    along = stride(kernel, access, outer[schedule.vector], schedule.lanes)
    down = stride(kernel, access, last, schedule.lanes)
    return access if along == 1 or down == 1 else None
