"""Applying a GPU's schedule: products that warp groups make from what is copied in bulk.

A block makes a tile of the result. One thread of the last group copies boxes of both factors into
stages of shared memory, as soon as these are empty; the other groups multiply what is there:

    the last group:                        each other group:
      for turn in 0 … turns:                 for turn in 0 … turns:
        wait until the stage is empty          wait until the stage is full
        copy boxes of both factors             start: sums += left * right
                                               wait for the products of the turn before
                                               its stage is empty: a lane of each warp says so
                                             y = …      what follows, at the thread's places

What lies outside of a factor is copied as 0, so a sum needs no edges. The reduced indices outside
are counted through by the same loop.
"""

from __future__ import annotations

from dlc.compiler.kernels.boxes import Boxes, boxes_of
from dlc.compiler.loops.panel_copies import narrow
from dlc.compiler.loops.product_tiles import AnyTile, MatrixPlaces, ProductTiles, Side
from dlc.compiler.loops.threads import WARP
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, floordiv, minimum, mod, symbol
from dlc.ir.group_loops import (
    GROUP,
    ROWS,
    Arrive,
    Await,
    CopyBox,
    Factor,
    Multiplied,
    Multiply,
    Registers,
    Signals,
    View,
)
from dlc.ir.kernel import Access, Kernel
from dlc.ir.schedule import GroupTile, Schedule
from dlc.ir.types import F32

FEW, MANY = 40, 232  # registers of threads that copy, and of those that multiply


@dataclass(frozen=True, slots=True)
class Stages:
    """A factor as it is copied, and where: so many elements are a stage."""

    side: Side
    boxes: Boxes
    view: View
    memory: str

    @property
    def elements(self) -> int:
        """Those of a stage."""
        return self.side.size * self.view.box[0]


class InGroupTiles(ProductTiles):
    """Applies a schedule that has tiles of warp groups."""

    def __init__(self, kernel: Kernel, schedule: Schedule) -> None:
        super().__init__(kernel, schedule)
        assert schedule.grouped is not None
        self.tile: GroupTile = schedule.grouped

    def body_of_block(self) -> None:
        """What the threads of one block do."""
        tile, thread = self.tile, symbol("thread")
        left, right = self.sides(tile)
        self.begin_turns(tile)
        factors = self._stages("left", left), self._stages("right", right)
        self.out.add(Signals("full", tile.stages, 1))
        self.out.add(Signals("empty", tile.stages, tile.groups * (GROUP // WARP)))
        self.out.barrier()
        self.let("group", floordiv(thread, GROUP), tile.groups + 1)
        self.let("in.warp", mod(thread, WARP), WARP)
        with self.out.block() as copying:
            self._copy(factors)
        self.out.when((symbol("group") - tile.groups,), copying)
        with self.out.block() as multiplying:
            self._multiply(factors)
        self.out.when((tile.groups - 1 - symbol("group"),), multiplying)

    def stand_at_tile(
        self, tile: AnyTile, counts: tuple[Dim, Dim], tiles: tuple[Dim, Dim]
    ) -> None:
        """Tiles that follow each other need few rows and columns of the factors, which stay near.
        """
        down, across = tiles
        band, within = self.tile.band, mod(symbol("chunk"), down * across)
        if band == 1:
            super().stand_at_tile(tile, counts, tiles)
            return
        self.let("band", floordiv(within, band * across), counts[0])
        self.let("in.band", within - symbol("band") * (band * across), band * across)
        self.let("rows.band", minimum(band, down - symbol("band") * band), band + 1)
        self.let("first.c", floordiv(symbol("in.band"), symbol("rows.band")) * tile.width,
                 counts[1])
        row = symbol("band") * band + mod(symbol("in.band"), symbol("rows.band"))
        self.let("first.r", row * tile.height, counts[0])

    def _stages(self, name: str, side: Side) -> Stages:
        tile = self.tile
        memory = self.out.alloc(name, tile.dtype, tile.stages * side.size * tile.depth, shared=True)
        access = narrow(self.factors.compute, side.value, tile.dtype)
        assert isinstance(access, Access)
        found = boxes_of(self.kernel, access, self.outer | self.over, side.names, self.inner)
        assert found is not None, f"{access.buffer} has no boxes"
        sides = (tile.depth, tile.depth) if found.turned else (tile.depth, side.size)
        view = View(f"{name}.view", access.buffer, found.offset, tile.dtype, found.sizes,
                    found.steps, (*sides, *(1 for _ in found.rest)))
        self.out.add(view)
        return Stages(side, found, view, memory)

    # The group that copies

    def _copy(self, factors: tuple[Stages, Stages]) -> None:
        tile = self.tile
        self.out.add(Registers(FEW, more=False))
        self.span("turn", 0, self.turns - 1)
        with self.out.block() as turn:
            stage = self._stage()
            self.out.add(Await("empty", stage, floordiv(symbol("turn"), tile.stages) - 1))
            elements = sum(f.elements for f in factors)
            self.out.add(Arrive("full", stage, elements * tile.dtype.size))
            first = self.at_turn(symbol("turn"))
            for factor in factors:
                self._copy_boxes(factor, stage, first)
        with self.out.block() as one:
            self.out.loop("turn", 0, self.turns, turn)
        self.out.when((tile.groups * GROUP - symbol("thread"),), one)

    def _stage(self) -> Dim:
        self.let("stage", mod(symbol("turn"), self.tile.stages), self.tile.stages)
        return symbol("stage")

    def _copy_boxes(self, factor: Stages, stage: Dim, first: Dim) -> None:
        """All boxes of one factor for a turn; the first place of the sum is given."""
        row, rest = symbol(factor.side.first), [self.point[n] for n in factor.boxes.rest]
        start = stage * factor.elements
        if not factor.boxes.turned:
            places: list[tuple[Dim, tuple[Dim, ...]]] = [(start, (first, row))]
        else:
            line = self.tile.depth
            places = [(start + m * line, (row + m, first))
                      for m in range(0, factor.side.size, line)]
        for at, place in places:
            self.out.add(CopyBox(factor.memory, at, factor.view.name, (*place, *rest), "full",
                                 stage))

    # The groups that multiply

    def _multiply(self, factors: tuple[Stages, Stages]) -> None:
        tile = self.tile
        left, right = factors
        self.out.add(Registers(MANY, more=True))
        sums = self.out.alloc("sums", F32, tile.down * tile.width // 2, zeroed=True)
        self.span("turn", 0, self.turns - 1)
        with self.out.block() as turn:
            stage = self._stage()
            self.out.add(Await("full", stage, floordiv(symbol("turn"), tile.stages)))
            for i in range(tile.down):
                row = (symbol("group") * tile.down + i) * (ROWS * tile.depth)
                self.out.add(Multiply(
                    sums, i * tile.width // 2,
                    Factor(left.memory, stage * left.elements + row, left.boxes.turned),
                    Factor(right.memory, stage * right.elements, right.boxes.turned),
                    tile.width, tile.depth, tile.dtype))
            self.out.add(Multiplied(tile.down))
            self._give_back()
        self.out.loop("turn", 0, self.turns, turn)
        self.out.add(Multiplied(0))
        self._finish(sums, (left.side.count, right.side.count))

    def _give_back(self) -> None:
        """The stage of the turn before is empty."""
        before = symbol("turn") - 1
        with self.out.block() as told:
            self.out.add(Arrive("empty", mod(before, self.tile.stages)))
        self.out.when((before, 0 - symbol("in.warp")), told)

    def _finish(self, sums: str, counts: tuple[Dim, Dim]) -> None:
        tile = self.tile
        warp = floordiv(mod(symbol("thread"), GROUP), WARP)
        row = symbol("first.r") + symbol("group") * (tile.down * ROWS) + 16 * warp
        places = MatrixPlaces(row, symbol("first.c"), tile.down, tile.width // 8, ROWS)
        self.finish_matrices(tile, sums, places, counts)
