"""Which tiles of a product the blocks of a GPU make, by an analytic model.

A block's turn copies some places of both factors into shared memory and multiplies them. It takes
as long as memory needs to answer, or as all that the blocks of a processor have to do in it: copies
and multiplications of all of them. So small products are cut into small tiles, of which threads
share the sum (slices), and large ones into tiles as large as registers allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from itertools import product
from math import prod
from typing import Self

from dlc.compiler.kernels.accesses import stride
from dlc.compiler.kernels.implicit_products import likely
from dlc.compiler.kernels.products import factors_of
from dlc.compiler.loops.copies import PAD
from dlc.compiler.options import Options
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import symbols
from dlc.ir.kernel import Access, Index, Kernel
from dlc.ir.schedule import SharedTile

THREADS = 256  # of a block
WARP = 32
PROCESSORS = {"cuda:sm_80": 108}  # of the common card of an architecture
MOST_PROCESSORS = 132
REGISTERS, SHARED_BYTES, BLOCK_BYTES = 65536, 160 << 10, 48 << 10  # of a processor, of a block
SIDES = ((4, 4), (8, 8), (8, 4), (4, 8))  # results of a thread, down and across
GRID = (1, 2, 4, 8, 16)
DEPTHS = (8, 16, 32, 64, 128)
MOST_COPIED = 32  # elements of a thread in a turn
FULL = 0.8  # of the places of a turn that count, from which on one index is enough

# Cycles of a processor
LATENCY = 900  # until memory has answered and threads have met twice
FMAS, WORDS = 128, 32  # multiplications and words of shared memory in a cycle
COPY = 14 / 128  # of one element
DIVISION = 8 / 128  # more for each index that is counted through with others
BYTES = 40  # from memory that is near
ADD = 10  # until the sum of a slice is added to those before
HIDDEN = 0.05  # of the work of a turn is not done while another one waits
LAST = 1200  # what follows the sums
PLACE = 6 / 32  # of one place of the sum, where each thread has a result of its own
WAIT = 24  # between two places of the sum of such a thread


def processors(target: str) -> int:
    """The processors of a card."""
    return PROCESSORS.get(target, MOST_PROCESSORS)


def shared_bytes(tile: SharedTile, size: int) -> int:
    """Shared memory for a tile of elements of so many bytes."""
    copies = (tile.height + tile.width + 2 * PAD) * tile.depth * tile.stages
    sums = tile.slices * tile.height * tile.width if tile.slices > 1 else 0
    return (copies + sums) * size


@dataclass(frozen=True, slots=True)
class TileChoice:
    """A tile, the order of the reduced indices, and the estimated cycles."""

    tile: SharedTile
    reduce: tuple[str, ...]
    cycles: float


class TileSearch:
    """Chooses the tile of one product, which is a kernel that `factors_of` knows."""

    def __init__(self, kernel: Kernel, sizes: dict[str, int], options: Options) -> None:
        factors = factors_of(kernel)
        assert factors is not None
        self.kernel, self.factors, self.options = kernel, factors, options
        self.over = {i.name: i for i in factors.compute.over}
        combine = factors.compute.combine
        assert combine is not None
        self.bytes = combine.dtype.size
        self.preferred = sorted(self.over, key=self._preference, reverse=True)
        written = [c.target for c in kernel.body[1:]]  # type: ignore[union-attr]
        # How many accesses of what follows the sum lie along each index.
        self.along = {i.name: sum(stride(kernel, a, i, 1) == 1 for a in written)
                      for i in kernel.outer}
        self._set(sizes)

    def at(self, sizes: dict[str, int]) -> Self:
        """The same product at other sizes."""
        other = copy(self)
        other._set(sizes)
        return other

    def _set(self, sizes: dict[str, int]) -> None:
        outer = self.kernel.outer
        self.extents = {i.name: likely(i, sizes, self.kernel)
                        for i in (*outer, *self.over.values())}
        rows, columns = self.factors.rows, self.factors.columns
        if self._runs_along(rows) > self._runs_along(columns):
            rows, columns = columns, rows
        self.rows, self.columns = rows, columns
        self.batch = prod(self.extents[i.name] for i in outer if i.name not in (*rows, *columns))

    def choose(self) -> TileChoice | None:
        """The best tile; None if threads with a result each are as fast."""
        if not self.over:
            return None
        best = min(self._choices(), key=lambda c: c.cycles)
        return self._in_stages(best) if best.cycles < self._alone() else None

    def _in_stages(self, choice: TileChoice) -> TileChoice:
        """A large tile has two stages: no other block has work while it waits for memory."""
        tile = replace(choice.tile, stages=2)
        if tile.slices > 1 or self._registers(tile) * THREADS * 2 <= REGISTERS or (
                shared_bytes(tile, self.bytes) > BLOCK_BYTES):
            return choice
        return replace(choice, tile=tile)

    def cycles(self, tile: SharedTile, reduce: tuple[str, ...]) -> float:
        """The estimated cycles of a tile and an order of the reduced indices."""
        outside, inner = reduce[:tile.outside], reduce[tile.outside:]
        turns = self._count(outside) * -(-self._count(inner) // tile.depth)
        return self._cycles(tile, turns, len(inner))

    def _count(self, names: tuple[str, ...]) -> int:
        return prod(self.extents[n] for n in names)

    def _runs_along(self, names: tuple[str, ...]) -> int:
        """How many accesses of what follows the sum lie along the indices of one side."""
        return sum(self.along[n] for n in names if self.extents[n] > 1)

    def _alone(self) -> float:
        """The cycles of threads that have a result each."""
        places = self.batch * self._count(self.rows) * self._count(self.columns)
        inner = self._count(tuple(self.over))
        work = places * inner * PLACE / processors(self.options.target)
        return max(work, inner * WAIT) + LAST

    def _choices(self) -> Iterator[TileChoice]:
        orders = {depth: self._order(depth) for depth in DEPTHS}
        for (down, across), high, wide, depth in product(SIDES, GRID, GRID, DEPTHS):
            outside, inner = orders[depth]
            tile = SharedTile(self.rows, self.columns, high, wide, down, across, depth,
                              THREADS // (high * wide), len(outside))
            if self._fits(tile):
                order = (*outside, *inner)
                yield TileChoice(tile, order, self.cycles(tile, order))

    def _fits(self, tile: SharedTile) -> bool:
        high, wide, depth = tile.height, tile.width, tile.depth
        copied = (high + wide) * depth
        if depth % tile.slices:
            return False
        return copied <= MOST_COPIED * THREADS and shared_bytes(tile, self.bytes) <= BLOCK_BYTES

    def _order(self, depth: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The reduced indices that are loops, and those that are counted through together."""
        names = self.preferred
        inner: list[str] = []
        for name in names:
            alone = self.extents[name] / (-(-self.extents[name] // depth) * depth)
            if alone >= FULL:
                inner = [name]
                break
        while not inner or (len(inner) < len(names) and self._filled(inner, depth) < FULL):
            inner.append(next(n for n in names if n not in inner))
        over = list(self.over)
        return (tuple(n for n in over if n not in inner), tuple(n for n in over if n in inner))

    def _filled(self, names: list[str], depth: int) -> float:
        count = self._count(tuple(names))
        return count / (-(-count // depth) * depth)

    def _preference(self, name: str) -> tuple[int, int]:
        """What lies along memory is copied in long pieces; loops begin at the first index."""
        reads = [a for f in (self.factors.left, self.factors.right)
                 for a in self.factors.reads(f) if a.at]
        index = self.over[name]
        fixed = not symbols(index.high) if not isinstance(index.high, Access) else False
        along = sum(stride(self.kernel, a, Index(name, index.high), 1) == 1 for a in reads)
        return along, int(fixed)

    def _cycles(self, tile: SharedTile, turns: int, inner: int) -> float:
        """Waves of blocks, each of which takes its turns and what follows them."""
        down, across = self._count(tile.rows), self._count(tile.columns)
        blocks = self.batch * -(-down // tile.height) * -(-across // tile.width)
        each = -(-blocks // processors(self.options.target))
        most = min(2048 // THREADS, REGISTERS // (self._registers(tile) * THREADS),
                   SHARED_BYTES // shared_bytes(tile, self.bytes))
        beside = max(1, min(each, most))
        work = beside * self._work(tile, inner)
        turn = max(LATENCY, work) + HIDDEN * work
        return -(-each // beside) * (turns * turn + LAST + self._together(tile, beside))

    def _registers(self, tile: SharedTile) -> int:
        """The likely registers of a thread."""
        copied = (tile.height + tile.width) * tile.depth // THREADS if tile.stages > 1 else 0
        return 40 + ((tile.down + 1) * (tile.across + 1) + copied) * self.bytes // 4

    def _together(self, tile: SharedTile, beside: int) -> float:
        """Adding up the sums of slices, of so many blocks."""
        if tile.slices == 1:
            return 0
        places = tile.height * tile.width
        words = beside * places * tile.slices * 2 / WORDS
        return max(words, tile.slices * ADD * -(-places // THREADS))

    def _work(self, tile: SharedTile, inner: int) -> float:
        """What a block does in a turn."""
        high, wide, depth = tile.height, tile.width, tile.depth
        copied = (high + wide) * depth
        fmas = high * wide * depth / FMAS * (self.bytes / 4)
        warps = THREADS / WARP * depth / tile.slices
        loads = warps * (tile.down + tile.across * max(1, tile.columns_of_threads // 8)) / 4
        copy = COPY + DIVISION * (inner - 1)
        return max(fmas, loads * self.bytes / 4) + copied * copy + copied * self.bytes / BYTES

