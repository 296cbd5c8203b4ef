"""Schedules of chains of products on tensor cores, by an analytic model.

A block has as many rows as give every processor a block, and each part of them is as long as the
registers of a thread allow, in which elements and sums lie. A part takes as long as the slowest of
three does, the tensor cores, shared memory, and memory, and what is computed of its elements
besides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product as choices
from math import ceil, prod

from dlc.compiler.kernels.chain_parts import (
    ChainParts,
    ChainRead,
    chain_parts,
    chain_reads,
    factors,
)
from dlc.compiler.loops.panel_copies import narrow
from dlc.compiler.loops.tensor_panels import Panel, chain_panel
from dlc.compiler.options import Options
from dlc.compiler.schedules.chain_tiles import ELEMENT, chain_cycles, chain_tiles, own_of
from dlc.compiler.schedules.chains import rows_of
from dlc.compiler.schedules.product_tiles import (
    BYTES,
    COPY,
    LATENCY,
    REGISTERS,
    SHARED_BYTES,
    WARP,
    processors,
)
from dlc.compiler.schedules.tensor_operands import (
    Alignment,
    has_tensor_cores,
    line_of,
    short,
)
from dlc.compiler.schedules.tensor_tiles import (
    BLOCK_BYTES,
    COPIES,
    LATE,
    MEET,
    MOST_MULTIPLIED,
    MULTIPLIED,
    SHARED,
    UNITS,
)
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import ceildiv, product
from dlc.ir.kernel import Access, Arg, Compute, Index, Kernel
from dlc.ir.schedule import ChainTile, Schedule
from dlc.ir.types import F32, DType

WARPS, DOWN = (1, 2, 4, 8), (1, 2)
PARTS = (16, 32, 64, 128)
STAGES = (2, 3)
BASE = 60  # registers of a thread for places, and for what is multiplied
MOST_REGISTERS = 244  # of a thread, so that none is spilled


def best_chain(
    kernel: Kernel, options: Options, extent: Callable[[Index], int], memory: Alignment
) -> Schedule | None:
    """The best schedule of a kernel that is a chain; None for any other."""
    found = [s for s in (chain_tiles(kernel, options, extent),
                         tensor_chain(kernel, options, extent, memory)) if s is not None]
    return min(found, key=lambda s: cycles_of_chain(kernel, s, options, extent), default=None)


def cycles_of_chain(
    kernel: Kernel, schedule: Schedule, options: Options, extent: Callable[[Index], int]
) -> float:
    """The estimated cycles of a chain with a schedule."""
    if schedule.shared is not None:
        return chain_cycles(kernel, schedule.shared, options, extent)
    return tensor_chain_cycles(kernel, schedule, options, extent)


def tensor_chain(
    kernel: Kernel, options: Options, extent: Callable[[Index], int], memory: Alignment
) -> Schedule | None:
    """The best schedule of a chain on tensor cores; None if they do not multiply its numbers, or
    registers do not hold them."""
    parts = chain_parts(kernel)
    if parts is None or not has_tensor_cores(options.target):
        return None
    rows = rows_of(kernel, parts)
    dtype = _multiplied(kernel, parts, rows, options)
    if dtype is None:
        return None
    reads = chain_reads(kernel, parts, rows)
    copied = tuple(_copied(kernel, read, dtype, memory) for read in reads)
    found = [s for s in _schedules(kernel, parts, rows, ChainTile(
        (rows.name,), dtype, 1, 1, 2, copied), options) if _fits(kernel, parts, s)]
    return min(found, key=lambda s: tensor_chain_cycles(kernel, s, options, extent), default=None)


def _schedules(
    kernel: Kernel, parts: ChainParts, rows: Index, like: ChainTile, options: Options
) -> Iterator[Schedule]:
    order = (*(i for i in kernel.outer if i is not rows), rows)
    reduced = tuple(own_of(c, parts).name for c in parts.inner)
    for warps, down, stages, part in choices(WARPS, DOWN, STAGES, PARTS):
        tile = ChainTile(like.rows, like.dtype, warps, down, stages, like.copied)
        chunks = product(tuple(
            ceildiv(i.high, tile.height) if i is rows else i.high  # type: ignore[arg-type, misc]
            for i in order))
        yield Schedule(
            options.target, tuple(i.name for i in order), len(order), chunks,
            reduce=(*reduced, parts.row.name), part=part, threads=tile.threads, chain=tile)


def _multiplied(
    kernel: Kernel, parts: ChainParts, rows: Index, options: Options
) -> DType | None:
    """The type of elements that all products multiply."""
    products = (*parts.inner, *parts.last)
    if any(c.combine is None or c.combine.dtype is not F32 for c in products):
        return None
    arrays = {b.name for b in kernel.locals if b.dims}
    kinds = {_short(kernel, parts, c, value) for c in products
             for value in factors(c, rows.name, arrays)}
    if len(kinds) == 1 and None not in kinds:
        return kinds.pop()
    return F32 if options.precision == "tf32" else None


def _short(kernel: Kernel, parts: ChainParts, compute: Compute, value: Arg) -> DType | None:
    """The type of 16 bits that a factor is made f32 of: where it is read, or where it is kept."""
    if isinstance(value, Access) and kernel.buffer(value.buffer).role == "local":
        compute = [c for c in (*parts.inner, *parts.along) if c.target.buffer == value.buffer][-1]
        value = compute.value
    return short(kernel, compute, value)


def _copied(kernel: Kernel, read: ChainRead, dtype: DType, memory: Alignment) -> int:
    """How many elements of a factor are copied at once."""
    value = narrow(read.compute, read.value, dtype)
    last = line_of(kernel, value, read.over, read.lines)
    return memory.at_once(value, last, dtype)


# The model


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What a chain with a schedule is, in numbers.

    `held` are the panels of rows, and `staged` those of a part, with how much is copied at once.
    """

    held: tuple[tuple[Panel, int], ...]
    staged: tuple[tuple[Panel, int], ...]
    depth: int  # places of all sums of inner products
    columns: int  # results of all last products
    arrays: int  # of elements


def _sizes(kernel: Kernel, parts: ChainParts, schedule: Schedule) -> _Sizes:
    tile = schedule.chain
    assert tile is not None
    rows = rows_of(kernel, parts)
    reads = chain_reads(kernel, parts, rows)
    panels = [(chain_panel("", r, parts, schedule, True), lanes)
              for r, lanes in zip(reads, tile.copied, strict=True)]
    of_rows = tuple(p for p, r in zip(panels, reads, strict=True) if r.lines is rows)
    return _Sizes(
        of_rows, tuple(p for p, r in zip(panels, reads, strict=True) if r.lines is not rows),
        sum(panel.depth for panel, _ in of_rows),
        sum(panel.size for (panel, _), r in zip(panels, reads, strict=True)
            if r.over is parts.row),
        sum(bool(b.dims) for b in kernel.locals) - len(parts.last))


def _bytes(sizes: _Sizes, tile: ChainTile) -> int:
    """Shared memory of a block."""
    room = sum(panel.room for panel, _ in sizes.held)
    return (room + tile.stages * sum(panel.room for panel, _ in sizes.staged)) * tile.dtype.size


def _registers(sizes: _Sizes, schedule: Schedule) -> int:
    """The likely registers of a thread: elements and sums, and which of the elements there are; of
    what is read one by one also the places."""
    tile = schedule.chain
    assert tile is not None
    elements = sizes.arrays * schedule.part // 2
    places = sizes.columns // 2 if tile.dtype is F32 else 0
    return BASE + places + schedule.part + tile.down * (elements + sizes.columns // 2)


def _fits(kernel: Kernel, parts: ChainParts, schedule: Schedule) -> bool:
    tile, sizes = schedule.chain, _sizes(kernel, parts, schedule)
    assert tile is not None
    return (_bytes(sizes, tile) <= BLOCK_BYTES
            and _registers(sizes, schedule) <= MOST_REGISTERS)


def tensor_chain_cycles(
    kernel: Kernel, schedule: Schedule, options: Options, extent: Callable[[Index], int]
) -> float:
    """The estimated cycles of a chain on tensor cores."""
    parts, tile = chain_parts(kernel), schedule.chain
    assert parts is not None
    assert tile is not None
    rows, sizes = rows_of(kernel, parts), _sizes(kernel, parts, schedule)
    blocks = -(-extent(rows) // tile.height) * prod(
        extent(i) for i in kernel.outer if i is not rows)
    each = -(-blocks // processors(options.target))
    registers = _registers(sizes, schedule)
    beside = max(1, min(each, 2048 // tile.threads, REGISTERS // (registers * tile.threads),
                        SHARED_BYTES // _bytes(sizes, tile)))
    ahead = tile.stages - 1 if all(tile.copied) else 1
    turn = max(_part(sizes, schedule, beside, options), LATENCY / ahead) + MEET + LATE / ahead
    turns = -(-extent(parts.row) // schedule.part)
    return ceil(each / beside) * (LATENCY + turns * turn)


def _part(sizes: _Sizes, schedule: Schedule, beside: int, options: Options) -> float:
    """What the blocks of a processor do for a part."""
    tile, part = schedule.chain, schedule.part
    assert tile is not None
    size = tile.dtype.size
    rate = MULTIPLIED.get(options.target, MOST_MULTIPLIED) * 2 // size
    places = tile.height * part * (sizes.depth + sizes.columns)
    busy = min(1, tile.warps * beside / UNITS)  # of the processor's tensor cores
    multiplied = beside * places / (rate * busy)
    steps = sizes.depth / tile.step * (tile.down + part / 16) + (
        part / tile.step * sizes.columns / 16)
    read = tile.warps * steps * 16 * WARP
    copied, started = 0.0, 0.0
    for panel, lanes in sizes.staged:
        number = panel.lines * panel.used
        copied += number * size
        started += number * (COPIES / lanes if lanes else COPY)
    shared = beside * (read + copied) / SHARED
    elements = tile.height * part * ELEMENT / busy
    return max(multiplied, shared, beside * copied / BYTES) + beside * (elements + started)
