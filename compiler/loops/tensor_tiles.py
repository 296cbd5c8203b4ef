"""Applying a GPU's schedule: products of matrices on tensor cores.

As in `shared_tiles.py`, a block makes a tile of the result, turn by turn. A few stages of both
factors are in shared memory: while the warps multiply one, copies of the next ones are on their
way. What lies in memory as it is multiplied is copied without registers; what is computed first, or
lies there so that 16 bytes are no neighbours, is loaded before the products of a turn and stored
after them.

    copies of the first stages
    for turn in 0 … turns:
      wait for the copies of this turn's stage;  barrier
      start the copies of a later turn, into the stage that was multiplied last
      sums += left * right        each warp its matrices of 16 x 8, a step of the sum after another
    y = …                         what follows, at each of the thread's places

The reduced indices outside are counted through by the same loop. A place that does not count is 0.
"""

from __future__ import annotations

from functools import partial

from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.panel_copies import OnPanels, Piece, Source
from dlc.compiler.loops.product_tiles import MatrixPlaces, ProductTiles, Side
from dlc.compiler.loops.reduce import State
from dlc.compiler.loops.tensor_panels import Panel
from dlc.compiler.loops.threads import WARP
from dlc.ir.dims import Dim, floordiv, mod, symbol
from dlc.ir.kernel import Kernel
from dlc.ir.schedule import Schedule, TensorTile
from dlc.ir.types import F32


class InTensorTiles(OnPanels, ProductTiles):
    """Applies a schedule that has tiles on tensor cores."""

    def __init__(self, kernel: Kernel, schedule: Schedule) -> None:
        super().__init__(kernel, schedule)
        assert schedule.tensor is not None
        self.tile: TensorTile = schedule.tensor

    def body_of_block(self) -> None:
        """What the threads of one block do."""
        tile, thread = self.tile, symbol("thread")
        left, right = self.sides(tile)
        self.begin_turns(tile)
        warp = floordiv(thread, WARP)
        self.let("warp.r", floordiv(warp, tile.warps_across), tile.warps_down)
        self.let("warp.c", mod(warp, tile.warps_across), tile.warps_across)
        self.let("in.warp", mod(thread, WARP), WARP)
        sums = self._sums((left, self._panel("left", left, tile.left)),
                          (right, self._panel("right", right, tile.right)))
        stack = self.out.alloc("sums", F32, 4 * len(sums))
        for at, value in enumerate(sums):
            self.out.store(stack, 4 * at, value)
        row = symbol("first.r") + symbol("warp.r") * (16 * tile.down)
        column = symbol("first.c") + symbol("warp.c") * (8 * tile.across)
        self.finish_matrices(tile, stack, MatrixPlaces(row, column, tile.down, tile.across, 16),
                             (left.count, right.count))

    def _panel(self, name: str, side: Side, copied: int) -> Panel:
        tile = self.tile
        memory = self.out.alloc(name, tile.dtype, tile.stages * side.size * tile.depth, shared=True)
        along = copied == 0 or self.lies_along(side.value, self.inner[-1])
        return Panel(memory, tile.dtype, side.size, tile.depth, along)

    # The sums

    def _sums(self, left: tuple[Side, Panel], right: tuple[Side, Panel]) -> list[Register]:
        """The sums of this thread: for each matrix of 16 rows, one for each 8 columns."""
        tile, both, ahead = self.tile, (left, right), self.tile.stages - 1
        direct = tile.left > 0 or tile.right > 0
        for turn in range(ahead):
            self._store(self._copy(both, turn, turn), both)
            if direct:
                self.out.end_copies()

        def one(states: list[State]) -> list[State]:
            turn = symbol("turn")
            if direct:
                self.out.wait_for_copies(ahead - 1)
            self.out.barrier()
            self.let("stage", mod(turn, tile.stages), tile.stages)
            pieces = self._copy(both, turn + ahead, mod(turn + ahead, tile.stages))
            if direct:
                self.out.end_copies()
            states = self._multiply(left[1], right[1], states)
            self._store(pieces, both)
            return states

        self.span("turn", 0, self.turns - 1)
        zero: State = (self.out.constant(F32, 0.0, 4),)
        made = self._loop("turn", 0, self.turns, [zero] * (tile.down * tile.across), one)
        return [state[0] for state in made]

    def _copy(
        self, both: tuple[tuple[Side, Panel], ...], turn: Dim, stage: Dim
    ) -> list[list[Piece]]:
        """Starts all copies of a turn; gives what is loaded for it, to be stored later."""
        first = self.at_turn(turn)
        found: list[list[Piece]] = []
        for (side, panel), lanes in zip(both, (self.tile.left, self.tile.right), strict=True):
            source = Source(
                self.factors.compute, side.value, partial(self.stand, side, (turn, first)), lanes,
                self.lies_along(side.value, self.inner[-1]))
            if lanes:
                self.start_copies(panel, source, stage)
                found.append([])
            else:
                found.append(self.load_pieces(panel, source, stage))
        return found

    def _store(
        self, pieces: list[list[Piece]], both: tuple[tuple[Side, Panel], ...]
    ) -> None:
        for (_, panel), found in zip(both, pieces, strict=True):
            self.store_pieces(panel, found)

    # Products

    def _multiply(self, left: Panel, right: Panel, states: list[State]) -> list[State]:
        tile = self.tile
        for k in range(0, tile.depth, tile.step):
            rows = [self._matrices(left, ("warp.r", 16 * i), k, True) for i in range(tile.down)]
            columns = [self._matrices(right, ("warp.c", 16 * j), k, False)
                       for j in range(tile.across // 2)]
            found = iter(states)
            states = [(self.out.tensor(a, columns[j // 2], j % 2 == 1, next(found)[0], tile.dtype),)
                      for a in rows for j in range(tile.across)]
        return states

    def _matrices(self, panel: Panel, at: tuple[str, int], k: int, rows: bool) -> Register:
        first = symbol(at[0]) * (panel.size // self._warps(rows)) + at[1]
        return self.matrices(panel, (symbol("stage"), first, k), rows)

    def _warps(self, rows: bool) -> int:
        return self.tile.warps_down if rows else self.tile.warps_across
