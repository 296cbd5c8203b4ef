"""Applying a schedule: sums whose lanes lie along another index than what follows them.

The lanes of a convolution's sums lie along its maps, results lie in memory along the places of a
row. So the sums of a tile, places by maps, go over the stack, and are transposed there: what
follows them, a bias or a function, is done for all places of a tile at once, map by map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from dlc.compiler.kernels.accesses import LANE
from dlc.compiler.loops.blocks import Blocks
from dlc.compiler.loops.builder import Register
from dlc.ir.dims import Dim, ceildiv, minimum, symbol
from dlc.ir.kernel import Access, Compute, Index
from dlc.ir.schedule import PART, in_parts


class TurnedSums(Blocks):
    """Carries out a register tile, and what follows it along `schedule.along`."""

    def turned_tile(self, compute: Compute, after: list[Compute]) -> None:
        """A register tile, the first of whose indices is `along`, and what comes after it."""
        schedule, like = self.schedule, self._empty(compute, self.schedule.lanes)[0]
        name = schedule.along
        base, size, high = self.point[name], schedule.tile(name), self._index_along().high
        assert not isinstance(high, Access)
        stack = self.out.alloc(
            "acc", like.dtype, prod(t.size for t in schedule.tiles) * schedule.lanes)
        if in_parts(high, size):
            self._in_parts_of_tile(compute, stack, self.simple(high - base))
        else:
            self._store_sums(compute, stack, 0, size)
        self.point[name] = base
        self.out.forget_memory()
        self._after_sums(after, stack, like)

    def _index_along(self) -> Index:
        return next(i for i in self.kernel.outer if i.name == self.schedule.along)

    def _in_parts_of_tile(self, compute: Compute, stack: str, left: Dim) -> None:
        """The sums of a whole tile; of one that sticks out, of as many parts as are `left`."""
        name = self.schedule.along
        base, size = self.point[name], self.schedule.tile(name)
        with self.out.block() as body:
            self._store_sums(compute, stack, 0, size)
        self.out.when((left - size,), body)
        part = self.out.fresh("part")
        self.span(part, 0, ceildiv(size, PART) - 1)
        with self.out.block() as body:
            self.point[name] = base + symbol(part) * PART
            self._store_sums(compute, stack, symbol(part) * PART, PART)
        with self.out.block() as ragged:
            self.out.loop(part, 0, ceildiv(left, PART), body)
        self.out.when((size - 1 - left,), ragged)

    def _store_sums(self, compute: Compute, stack: str, first: Dim, places: int) -> None:
        """Puts the sums of some places of a tile on the stack."""
        vectors = prod(t.size for t in self.schedule.tiles[1:])
        sums = self.reduce(compute, self.tile_points()[:places * vectors])
        for k, register in enumerate(sums):
            at = (first * vectors + k) * self.schedule.lanes
            self.out.store(stack, self.simple(at), register)

    def _after_sums(self, after: list[Compute], stack: str, like: Register) -> None:
        """What follows the sums, for one map after another."""
        schedule, before, bound = self.schedule, dict(self.point), self.vector_bound
        size, first = schedule.tile(schedule.along), self.vector_base
        square = self.out.alloc("square", like.dtype, schedule.lanes * schedule.lanes)
        vector, lane = self.out.fresh("v"), self.out.fresh("l")
        self.span(vector, 0, schedule.tile(schedule.vector) - 1)
        self.span(lane, 0, schedule.lanes - 1)
        with self.out.block() as vectors:
            here = first + symbol(vector) * schedule.lanes
            live = self.simple(minimum(schedule.lanes, bound - here))
            for low in range(0, size, schedule.lanes):
                self._turn_sums(stack, square, symbol(vector), range(low, size), like)
                with self.out.block() as body:
                    self.point[schedule.vector] = here + symbol(lane)
                    self._along_places(after, before[schedule.along], low, (square, lane), like)
                self.out.loop(lane, 0, live, body)
                self.point = dict(before)
                self.out.forget_memory()
        self.out.loop(vector, 0, self.vectors_left_in_tile(), vectors)

    def vectors_left_in_tile(self) -> Dim:
        """How many vectors of the tile here are not past the end."""
        return self.simple(minimum(self.schedule.tile(self.schedule.vector), self.vectors_left()))

    def _turn_sums(
        self, stack: str, square: str, vector: Dim, places: range, like: Register
    ) -> None:
        """Transposes the sums of as many places as there are lanes; of the last one again, where
        there are fewer."""
        lanes = self.schedule.lanes
        vectors = prod(t.size for t in self.schedule.tiles[1:])
        rows = [self.out.load(stack, self.simple((place * vectors + vector) * lanes), like.dtype,
                              lanes)
                for place in _first(places, lanes)]
        for k, column in enumerate(self.out.transpose(rows)):
            self.out.store(square, k * lanes, column)

    def _along_places(
        self, after: list[Compute], base: Dim, low: int, turned: tuple[str, str], like: Register
    ) -> None:
        """What follows the sums of one map, whose lanes are places from the tile's `low` one on."""
        schedule, bound = self.schedule, self.vector_bound
        (square, lane), high = turned, self._index_along().high
        assert not isinstance(high, Access)
        self.schedule = replace(schedule, vector=schedule.along)
        self.offsets.clear()
        self.vector_bound = self.simple(minimum(high, base + schedule.tile(schedule.along)))
        self.point[schedule.along] = base + low + symbol(LANE)
        self.locals["acc"] = self.out.load(
            square, symbol(lane) * like.lanes, like.dtype, like.lanes)
        for compute in after:
            self.compute(compute)
        self.schedule, self.vector_bound = schedule, bound
        self.offsets.clear()


def _first(places: range, count: int) -> Iterator[int]:
    """So many places, the last one again where there are fewer."""
    return (places[min(k, len(places) - 1)] for k in range(count))
