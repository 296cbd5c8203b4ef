"""Applying a GPU's schedule: products of matrices, by way of shared memory.

A contraction of any form is a product here: outer indices that one factor alone has are its rows,
those of the other its columns, each group counted through as one, and so are reduced indices, but
for those that are loops outside. A block makes a tile of the result. Turn by turn its threads copy
`depth` places of both factors into shared memory, with all that is computed of them before the
product and 0 where a place does not count, and each thread multiplies what its own few rows and
columns need of them into registers.

    for turn in 0 … inner // 16, for all the reduced indices outside:
      barrier;  left[k, r] = …  right[k, c] = …     each thread copies some of both
      barrier;  sum[i, j] += left[k, 4 ty + i] * right[k, 4 tx + j]     k of this thread's slice
    parts[slice, r, c] = sum;  barrier              if there is more than one slice
    y = …                                           what follows, at each of the thread's places

Of two stages, what the next turn needs is loaded before the products and stored after them, into
the other stage: then memory has time to answer, and threads meet once a turn.
"""

from __future__ import annotations

from functools import partial

from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.copies import PAD, in_packs
from dlc.compiler.loops.product_tiles import ProductTiles, Side
from dlc.compiler.loops.reduce import State
from dlc.ir.dims import Dim, ceildiv, floordiv, mod, symbol
from dlc.ir.kernel import Kernel
from dlc.ir.schedule import Schedule, SharedTile
from dlc.ir.types import DType

PACK = 4  # elements that a thread has side by side, and reads at once


class InSharedTiles(ProductTiles):
    """Applies a schedule that has tiles in shared memory."""

    def __init__(self, kernel: Kernel, schedule: Schedule) -> None:
        super().__init__(kernel, schedule)
        assert schedule.shared is not None
        self.tile: SharedTile = schedule.shared

    def body_of_block(self) -> None:
        """What the threads of one block do."""
        tile, thread = self.tile, symbol("thread")
        left, right = self.sides(tile)
        self.let("tx", mod(thread, tile.columns_of_threads), tile.columns_of_threads)
        self.let("ty", mod(floordiv(thread, tile.columns_of_threads), tile.rows_of_threads),
                 tile.rows_of_threads)
        self.let("slice", floordiv(thread, tile.rows_of_threads * tile.columns_of_threads),
                 tile.slices)
        combine = self.factors.compute.combine
        assert combine is not None
        sums = self._sums(left, right, combine.dtype)
        if tile.slices > 1:
            self._finish_parts(sums, left.count, right.count, combine.dtype)
        else:
            self._finish(sums, left.count, right.count, combine.dtype)

    # The sums

    def _sums(self, left: Side, right: Side, dtype: DType) -> list[Register]:
        """The sums of this thread, a row after another, in packs of columns."""
        tile, both = self.tile, (left, right)
        memory = [self.out.alloc(
            name, dtype, tile.stages * tile.depth * (side.size + PAD), shared=True)
            for name, side in (("left", left), ("right", right))]
        zero: State = (self.out.constant(dtype, 0.0, PACK),)
        self.begin_turns(tile)
        if tile.stages == 2:
            self._put(self._hold(both, 0, dtype), both, memory, 0, dtype)
            self.out.barrier()

        def one(states: list[State]) -> list[State]:
            turn = symbol("turn")
            if tile.stages == 1:
                self.out.barrier()
                self._copy(both, memory, turn)
                self.out.barrier()
                return self._multiplied(memory, dtype, 0, states)
            self.let("stage", mod(turn, 2), 2)
            held = self._hold(both, turn + 1, dtype)
            states = self._multiplied(memory, dtype, symbol("stage"), states)
            self._put(held, both, memory, 1 - symbol("stage"), dtype)
            self.out.barrier()
            return states

        self.span("turn", 0, self.turns - 1)
        made = self._loop("turn", 0, self.turns, [zero] * (tile.down * tile.across // PACK), one)
        return [state[0] for state in made]

    def _copy(self, both: tuple[Side, Side], memory: list[str], turn: Dim) -> None:
        """Each thread's part of `depth` places of both factors."""
        first = self.at_turn(turn)
        for name, side in zip(memory, both, strict=True):
            self.copy(name, side.size, self.tile.depth, self._is_along(side),
                      partial(self._element, side, (turn, first)))

    def _hold(self, both: tuple[Side, Side], turn: Dim, dtype: DType) -> list[str]:
        """As `_copy`, into registers."""
        first = self.at_turn(turn)
        return [self.load(dtype, side.size, self.tile.depth, self._is_along(side),
                          partial(self._element, side, (turn, first))) for side in both]

    def _put(
        self, held: list[str], both: tuple[Side, Side], memory: list[str], stage: Dim, dtype: DType
    ) -> None:
        """What was loaded goes to its place."""
        depth = self.tile.depth
        for own, name, side in zip(held, memory, both, strict=True):
            place = name, stage * (depth * (side.size + PAD))
            self.put(own, dtype, place, side.size, depth, self._is_along(side))

    def _is_along(self, side: Side) -> bool:
        return self.lies_along(side.value, self.inner[-1])

    def _element(self, side: Side, at: tuple[Dim, Dim], k: Dim, m: Dim) -> Register:
        self.stand(side, at, m, k)
        return self.kept(self.factors.compute, side.value)

    def _multiplied(
        self, memory: list[str], dtype: DType, stage: Dim, states: list[State]
    ) -> list[State]:
        """Sums with the products of a turn."""
        each = self.tile.depth // self.tile.slices
        self.span("in.k", 0, each - 1)
        return self._loop("in.k", 0, each, states,
                          lambda inside: self._multiply(memory, dtype, stage, inside))

    def _multiply(
        self, memory: list[str], dtype: DType, stage: Dim, states: list[State]
    ) -> list[State]:
        tile = self.tile
        k = stage * tile.depth + symbol("in.k") * tile.slices + symbol("slice")
        left = k * (tile.height + PAD) + symbol("ty") * PACK
        rows = self.out.alloc("row", dtype, tile.down)  # where each of a pack is one register
        for i in range(0, tile.down, PACK):
            self.out.store(rows, i, self.out.load(
                memory[0], left + i * tile.rows_of_threads, dtype, PACK))
        right = k * (tile.width + PAD) + symbol("tx") * PACK
        columns = [self.out.load(memory[1], right + j * tile.columns_of_threads, dtype, PACK)
                   for j in range(0, tile.across, PACK)]
        found = iter(states)
        return [(self.out.apply("fma", (self.out.load(rows, i, dtype), b, next(found)[0]), dtype),)
                for i in range(tile.down) for b in columns]

    # What follows

    def _finish(self, sums: list[Register], rows: Dim, columns: Dim, dtype: DType) -> None:
        """What follows the sums, at each of this thread's places that there are."""
        tile, lanes = self.tile, self.following.lanes
        stack = self.out.alloc("sums", dtype, len(sums) * PACK)
        for at, value in enumerate(sums):
            self.out.store(stack, at * PACK, value)
        i, j = symbol("in.r"), symbol("in.c") * lanes
        self.span("in.r", 0, tile.down - 1)
        self.span("in.c", 0, tile.across // lanes - 1)
        row = symbol("first.r") + in_packs(i, symbol("ty"), tile.rows_of_threads, PACK)
        column = symbol("first.c") + in_packs(j, symbol("tx"), tile.columns_of_threads, PACK)
        with self.out.block() as outside:
            with self.out.block() as inside:
                with self.out.block() as place:
                    found = self.out.load(stack, i * tile.across + j, dtype, lanes)
                    self.epilogue(tile, row, column, found)
                self.when_inside(tile, (row, column), (rows, columns), place)
            self.out.loop("in.c", 0, tile.across // lanes, inside, unrolled=True)
        self.out.loop("in.r", 0, tile.down, outside, unrolled=True)

    def _finish_parts(self, sums: list[Register], rows: Dim, columns: Dim, dtype: DType) -> None:
        """Adds up the sums of all slices, and does what follows at a few places of the tile."""
        tile, threads = self.tile, self.schedule.threads
        places = tile.height * tile.width
        parts = self.out.alloc("parts", dtype, tile.slices * places, shared=True)
        for n, value in enumerate(sums):
            i, j = divmod(n * PACK, tile.across)
            row = in_packs(i, symbol("ty"), tile.rows_of_threads, PACK)
            column = in_packs(j, symbol("tx"), tile.columns_of_threads, PACK)
            self.out.store(parts, symbol("slice") * places + row * tile.width + column, value)
        self.out.barrier()
        var = self.out.fresh("e")
        self.span(var, 0, ceildiv(places, threads) - 1)
        with self.out.block() as body:
            at = self.named("at", symbol(var) * threads + symbol("thread"), places - 1)
            row = symbol("first.r") + floordiv(at, tile.width)
            column = symbol("first.c") + mod(at, tile.width)
            with self.out.block() as place:
                found = self.out.load(parts, at, dtype)
                for slice_ in range(1, tile.slices):
                    found = self.out.apply("add", (
                        found, self.out.load(parts, at + slice_ * places, dtype)), dtype)
                self.epilogue(tile, row, column, found)
            whole = places % threads == 0
            self.when_inside(tile, (row, column), (rows, columns), place,
                             () if whole else (places - 1 - at,))
        self.out.loop(var, 0, ceildiv(places, threads), body, unrolled=True)
