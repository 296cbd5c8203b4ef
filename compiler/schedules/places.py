"""Sums over places as products: tiles of the weights' two channels, panels for all taps."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, prod

from dlc.compiler.kernels.places import Places
from dlc.compiler.options import Options
from dlc.compiler.schedules.blocks import PANEL_BYTES, SUMS_BYTES, number_of_blocks
from dlc.compiler.schedules.chunks import CYCLES_PER_NS, size_of, split
from dlc.compiler.schedules.tiles import TileSearch
from dlc.ir.dims import Dim, ceildiv, floordiv, product
from dlc.ir.kernel import Access, Index
from dlc.ir.schedule import Schedule

LEAST_PRODUCTS = 12  # of a tile, to keep the multipliers busy
LEAST_PLACES = 256  # for which a panel is worth filling
PLACES_OF_A_TAP = 16  # there are more places than taps, or it is no gradient of weights
LEAST_ROWS = 48  # rows and taps of a block; fewer do not pay for the copy
SHARED_ROWS = 96  # of a block, if there are several for the sake of threads alone
LEAST_USE = 0.7  # of the lanes
AHEAD = 2  # pixels: their channels lie far apart, where the CPU foresees little


def place_schedule(
    places: Places, options: Options, extent: Callable[[Index], int]
) -> Schedule | None:
    """The schedule of a sum over places; None where there is too little to share."""
    lanes, rows, taps = places.lanes, places.rows, prod(extent(i) for i in places.taps)
    over = places.sum.over
    width = ceil(extent(lanes) / options.lanes) * options.lanes
    number = prod(map(extent, over))
    if extent(lanes) < LEAST_USE * width or extent(rows) * taps < LEAST_ROWS or (
            number < max(LEAST_PLACES, PLACES_OF_A_TAP * taps)):
        return None
    (op,) = places.sum.body
    reads = tuple(a for a in op.args if isinstance(a, Access))
    tiles = TileSearch(reads, (False,) * len(reads), (rows,), lanes, options.lanes,
                       options.registers, extent, folds=options.lanes > 4,
                       of=options.registers).best()
    if prod(t.size for t in tiles) < LEAST_PRODUCTS:
        return None
    sizes = {t.index: t.size for t in tiles}
    wide, down = options.lanes * sizes.get(lanes.name, 1), sizes.get(rows.name, 1)
    item = op.dtype.size
    most = max(1, SUMS_BYTES // (wide * down * item * taps))
    if isinstance(rows.high, int):
        most = min(ceil(rows.high / down), most)
    others = product(tuple(size_of(places.kernel, i, extent) for i in places.shared)) * ceildiv(
        size_of(places.kernel, lanes, extent), wide)
    if product((others, ceildiv(size_of(places.kernel, rows, extent), down))) == 1:
        return None  # all of it would be one thread's
    blocks = number_of_blocks(
        size_of(places.kernel, rows, extent), down, others, most, max(1, SHARED_ROWS // taps))
    loops = [*((i, 1) for i in places.shared), (lanes, wide), (rows, most * down)]
    total: Dim = ceil(1000 / (options.lanes * CYCLES_PER_NS)) * taps
    for index in (*places.shared, lanes, rows, *over):
        total = total * size_of(places.kernel, index, extent)
    total = floordiv(total, 1000)
    count, chunks = split(places.kernel, loops, extent, total, blocks)
    return Schedule(
        options.target, tuple(i.name for i in (*places.shared, lanes, rows, *places.taps)),
        count, chunks, lanes.name, options.lanes, tiles, places.reduced, block=most, blocks=blocks,
        within=len(places.taps), panel=places.panel.buffer,
        depth=PANEL_BYTES // (wide * item) // options.lanes * options.lanes,
        ahead=AHEAD if places.split else 0,
        edge=((lanes.name, "mask"), *((t.index, "clamp") for t in tiles if t.index == rows.name)),
        cost=total)
