"""Schedules of chains of products on a GPU: tiles of rows, of whose elements a part is there.

A block has as many rows as give every processor a block, and as fit its registers and shared
memory; each part of them is as long as shared memory allows.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from dlc.compiler.kernels.chain_parts import ChainParts, chain_parts
from dlc.compiler.loops.copies import PAD
from dlc.compiler.options import Options
from dlc.compiler.schedules.chains import rows_of
from dlc.compiler.schedules.product_tiles import (
    BLOCK_BYTES,
    COPY,
    FMAS,
    LATENCY,
    REGISTERS,
    SHARED_BYTES,
    THREADS,
    processors,
)
from dlc.ir.dims import ceildiv, product
from dlc.ir.kernel import Access, Compute, Index, Kernel
from dlc.ir.schedule import Schedule, SharedTile

GRID = 16  # rows of threads, and threads of a row
HEIGHTS, WIDTHS = (64, 32, 16), (64, 32, 16)
DEPTH = 16  # places of a product at a time
ELEMENT = 40 / FMAS  # what is done for an element, in cycles of a processor
MOST_OWN = 136  # numbers that a thread has in registers


def chain_tiles(
    kernel: Kernel, options: Options, extent: Callable[[Index], int]
) -> Schedule | None:
    """The schedule of a kernel that is a chain of products; None for any other."""
    parts = chain_parts(kernel)
    if parts is None:
        return None
    rows = rows_of(kernel, parts)
    fitting = [t for h in HEIGHTS for w in WIDTHS if _fits(
        kernel, parts, t := SharedTile(
            (rows.name,), (), GRID, GRID, h // GRID, w // GRID, DEPTH))]
    tile = min(fitting, key=lambda t: _cycles(
        kernel, parts, t, _blocks(kernel, parts, t, extent), options))
    order = (*(i for i in kernel.outer if i is not rows), rows)
    reduced = tuple(own_of(c, parts).name for c in parts.inner)
    chunks = product(tuple(
        ceildiv(i.high, tile.height) if i is rows else i.high  # type: ignore[arg-type, misc]
        for i in order))
    return Schedule(
        options.target, tuple(i.name for i in order), len(order), chunks,
        reduce=(*reduced, parts.row.name), part=tile.width, threads=THREADS, shared=tile)


def chain_cycles(
    kernel: Kernel, tile: SharedTile, options: Options, extent: Callable[[Index], int]
) -> float:
    """The estimated cycles of a chain of products that is made in these tiles."""
    parts = chain_parts(kernel)
    assert parts is not None
    blocks = _blocks(kernel, parts, tile, extent)
    return extent(parts.row) * _cycles(kernel, parts, tile, blocks, options)


def _blocks(
    kernel: Kernel, parts: ChainParts, tile: SharedTile, extent: Callable[[Index], int]
) -> int:
    rows = rows_of(kernel, parts)
    others = prod(extent(i) for i in kernel.outer if i is not rows)
    return others * -(-extent(rows) // tile.height)


def own_of(compute: Compute, parts: ChainParts) -> Index:
    """The index of a product besides the row's."""
    return next(i for i in compute.over if i != parts.row)


def _columns(parts: ChainParts) -> list[int]:
    """The results of each last product for a row, filled up."""
    found = []
    for compute in parts.last:
        high = own_of(compute, parts).high
        assert isinstance(high, int)
        found.append(-(-high // GRID) * GRID)
    return found


def _bytes(kernel: Kernel, parts: ChainParts, tile: SharedTile) -> int:
    """Shared memory of a block; each last product may read elements of its own."""
    wide = max(tile.width, *_columns(parts))
    lines = tile.depth * (tile.height + wide + 2 * PAD)
    weights = len(parts.last) * tile.width * (tile.height + PAD)
    return (lines + weights) * max(b.dtype.size for b in kernel.locals)


def _own_numbers(kernel: Kernel, parts: ChainParts, tile: SharedTile) -> int:
    """The registers of a thread for elements and results."""
    arrays = sum(b.dtype.size // 4 for b in kernel.locals if b.dims) - len(parts.last)
    size = max(b.dtype.size for b in kernel.locals) // 4
    return tile.down * (arrays * tile.across + size * sum(_columns(parts)) // GRID)


def _fits(kernel: Kernel, parts: ChainParts, tile: SharedTile) -> bool:
    least = tile.height == HEIGHTS[-1] and tile.width == WIDTHS[-1]
    return least or (_bytes(kernel, parts, tile) <= BLOCK_BYTES
                     and _own_numbers(kernel, parts, tile) <= MOST_OWN)


def _cycles(
    kernel: Kernel, parts: ChainParts, tile: SharedTile, blocks: int, options: Options
) -> float:
    """Of a processor, for a part of the rows of all its blocks, as if rows had one element."""
    depth = sum(i.high for c in parts.inner for i in [own_of(c, parts)]
                if not isinstance(i.high, Access) and isinstance(i.high, int))
    columns = sum(_columns(parts))
    high, wide = tile.height, tile.width
    fmas = high * wide * (depth + columns) / FMAS
    copies = ((high + wide) * depth + wide * columns) * COPY
    work = fmas + copies + high * wide * ELEMENT
    turns = -(-depth // DEPTH) + len(parts.last) * -(-wide // DEPTH)
    each = -(-blocks // processors(options.target))
    registers = 48 + _own_numbers(kernel, parts, tile)
    beside = max(1, min(each, 2048 // THREADS, REGISTERS // (registers * THREADS),
                        SHARED_BYTES // _bytes(kernel, parts, tile)))
    return -(-each // beside) * max(turns * LATENCY, beside * work) / wide
