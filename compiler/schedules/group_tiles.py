"""Which tiles of a product warp groups make, by an analytic model.

There is one block on a processor, for its stages fill shared memory. A turn takes as long as the
slowest of three does: the tensor cores, shared memory, from which they read both factors, and the
memory that is near, from which boxes are copied. What copies does nothing else, so the turns of all
stages are on their way, and threads do not meet. Before the first turn, memory has to answer; what
follows the sums is done while nothing is multiplied.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import ceil

from dlc.compiler.kernels.boxes import boxes_of
from dlc.compiler.loops.panel_copies import narrow
from dlc.compiler.schedules.product_tiles import BYTES, LAST, LATENCY, processors
from dlc.compiler.schedules.tensor_operands import as_it_lies
from dlc.compiler.schedules.tensor_tiles import RESULT, SHARED, TensorSearch
from dlc.ir.dataclass import dataclass
from dlc.ir.group_loops import LINE, ROWS
from dlc.ir.kernel import Arg
from dlc.ir.schedule import GroupTile
from dlc.ir.types import F32

TARGET = "cuda:sm_90a"
TILES = tuple((groups, down, width) for groups, down, width in product(
    (1, 2), (1, 2), (64, 128, 192, 256)) if down * width <= 256)
MOST_STAGES, FEWEST_STAGES = 6, 3
BLOCK_BYTES = (227 << 10) - 1024  # of shared memory, but for signals
BAND = 8  # rows of tiles that follow each other

WIDE = 16  # bytes: what lines of a factor begin at multiples of

# Of a processor, in a cycle
MULTIPLIED = 2048 * 0.85  # products of 16 bits, as far as power lets it
TURN = 60  # cycles until a group has seen that a stage is full, and started


@dataclass(frozen=True, slots=True)
class GroupChoice:
    """A tile, the order of the reduced indices, and the estimated cycles."""

    tile: GroupTile
    reduce: tuple[str, ...]
    cycles: float


class GroupSearch(TensorSearch):
    """Chooses the tile of warp groups too."""

    def grouped(self) -> GroupChoice | None:
        """The best tile; None if warp groups can't make this product, or none of them can."""
        if self.options.target != TARGET or self.operands in (None, F32):
            return None
        found = self._boxed_order()
        if found is None:
            return None
        return min(self._group_choices(*found), key=lambda c: c.cycles)

    def grouped_cycles(self, tile: GroupTile, reduce: tuple[str, ...]) -> float:
        """The estimated cycles of a tile and an order of the reduced indices."""
        outside, inner = reduce[:tile.outside], reduce[tile.outside:]
        turns = self._count(outside) * -(-self._count(inner) // tile.depth)
        down, across = self._count(tile.rows), self._count(tile.columns)
        blocks = self.batch * -(-down // tile.height) * -(-across // tile.width)
        each = ceil(blocks / processors(self.options.target))
        last = LAST + tile.height * tile.width * RESULT
        return each * (LATENCY + turns * _turn(tile) + last)

    def _group_choices(
        self, outside: tuple[str, ...], inner: tuple[str, ...]
    ) -> Iterator[GroupChoice]:
        dtype = self.operands
        assert dtype is not None
        for groups, down, width in TILES:
            stages = min(MOST_STAGES, BLOCK_BYTES // ((groups * down * ROWS + width) * LINE))
            if stages >= FEWEST_STAGES:
                tile = GroupTile(self.rows, self.columns, dtype, groups, down, width, stages,
                                 len(outside), BAND)
                order = (*outside, *inner)
                yield GroupChoice(tile, order, self.grouped_cycles(tile, order))

    def _boxed_order(self) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Reduced indices that are loops, and those counted through together, so that both factors
        can be copied in boxes."""
        assert self.operands is not None
        first = self._order(LINE // self.operands.size)
        alone = [(tuple(n for n in self.over if n != name), (name,)) for name in self.preferred]
        return next((order for order in (first, *alone) if self._has_boxes(order[1])), None)

    def _has_boxes(self, inner: tuple[str, ...]) -> bool:
        factors = self.factors
        if factors.left_where or factors.right_where or not factors.rows or not factors.columns:
            return False
        return all(self._is_boxed(value, names, inner) for value, names in (
            (factors.left, factors.rows), (factors.right, factors.columns)))

    def _is_boxed(self, value: Arg, names: tuple[str, ...], inner: tuple[str, ...]) -> bool:
        assert self.operands is not None
        access = as_it_lies(narrow(self.factors.compute, value, self.operands))
        if access is None:
            return False
        indices = {i.name: i for i in (*self.kernel.outer, *self.over.values())}
        found = boxes_of(self.kernel, access, indices, names, inner)
        pack = WIDE // self.kernel.buffer(access.buffer).dtype.size
        return found is not None and found.aligned(
            pack, self.alignment.starts.get(access.buffer, ()), self.alignment.known)


def _turn(tile: GroupTile) -> float:
    """What a block does in a turn."""
    multiplied = tile.height * tile.width * tile.depth / MULTIPLIED
    read = tile.groups * tile.down * (ROWS + tile.width) * LINE / SHARED
    copied = (tile.height + tile.width) * LINE / BYTES
    return max(multiplied, read, copied) + TURN
