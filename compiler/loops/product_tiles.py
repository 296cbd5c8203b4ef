"""Applying a GPU's schedule: what tiles of products have in common, on tensor cores or without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dlc.compiler.kernels.accesses import LANE, stride
from dlc.compiler.kernels.products import Factors, factors_of
from dlc.compiler.kernels.ranges import bind
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.copies import Copying
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, ceildiv, floordiv, mod, product, symbol
from dlc.ir.kernel import Access, Arg, Compute, Index, Kernel
from dlc.ir.loops import Let, Statement
from dlc.ir.schedule import GroupTile, Schedule, SharedTile, TensorTile
from dlc.ir.types import F32

AnyTile = SharedTile | TensorTile | GroupTile


@dataclass(frozen=True, slots=True)
class Side:
    """One factor, and what of a tile goes along it."""

    value: Arg
    names: tuple[str, ...]  # its outer indices
    where: tuple[Dim, ...]  # what holds of places that count
    first: str  # the name of the tile's first row (or column)
    count: Dim  # of rows
    size: int  # of the tile


@dataclass(frozen=True, slots=True)
class MatrixPlaces:
    """Where the sums of a thread are that tensor cores make: at `row` and `column` begin `down`
    times `across` matrices of 8 columns and 16 rows of this warp, which lie `apart` rows apart."""

    row: Dim
    column: Dim
    down: int
    across: int
    apart: int


class ProductTiles(Copying):
    """Applies a schedule of which a block makes a tile of a product. What follows the sums is done
    for as many neighbours at once as it has lanes."""

    def __init__(self, kernel: Kernel, schedule: Schedule) -> None:
        super().__init__(kernel, replace(schedule, vector="", lanes=1))
        self.following = schedule
        found = factors_of(kernel)
        assert found is not None
        self.factors: Factors = found
        self.outer = {i.name: i for i in kernel.outer}
        self.over = {i.name: i for i in found.compute.over}
        self.inner: tuple[str, ...] = ()  # the reduced indices that a turn goes along
        self.outside: tuple[str, ...] = ()
        self.depth = 0
        self.turns: Dim = 0

    def sides(self, tile: AnyTile) -> tuple[Side, Side]:
        """The factor of the rows and that of the columns of this block's tile, which other outer
        indices go round."""
        chunk = symbol("chunk")
        rows, columns = (self.count(names) for names in (tile.rows, tile.columns))
        across, down = ceildiv(columns, tile.width), ceildiv(rows, tile.height)
        batch = [n for n in self.schedule.order if n not in (*tile.rows, *tile.columns)]
        self.stand_at_tile(tile, (rows, columns), (down, across))
        self.decode(batch, floordiv(chunk, across * down))
        found = [(self.factors.left, self.factors.rows, self.factors.left_where),
                 (self.factors.right, self.factors.columns, self.factors.right_where)]
        if tile.rows != self.factors.rows:
            found.reverse()
        return (Side(*found[0], "first.r", rows, tile.height),
                Side(*found[1], "first.c", columns, tile.width))

    def stand_at_tile(
        self, tile: AnyTile, counts: tuple[Dim, Dim], tiles: tuple[Dim, Dim]
    ) -> None:
        """Says where the tile of this block begins, of so many tiles down and across."""
        chunk, (down, across) = symbol("chunk"), tiles
        self.let("first.c", mod(chunk, across) * tile.width, counts[1])
        self.let("first.r", mod(floordiv(chunk, across), down) * tile.height, counts[0])

    def count(self, names: Sequence[str]) -> Dim:
        """How many places some indices have together."""
        return product(tuple(self.extent(n) for n in names))

    def extent(self, name: str) -> Dim:
        """How many values an index has here."""
        index: Index = self.outer[name] if name in self.outer else self.over[name]
        assert not isinstance(index.high, Access)
        return bind(index.high, self.point, self.ranges)

    def let(self, name: str, value: Dim, turns: Dim) -> None:
        """From here on `name` stands for an index expression that lies below `turns`."""
        self.out.add(Let(name, value))
        self.span(name, 0, turns - 1)

    def decode(self, names: Sequence[str], number: Dim) -> None:
        """Gives indices their values at the place that has this number among all of theirs."""
        self.number([(name, self.extent(name)) for name in names], number)

    def begin_turns(self, tile: AnyTile) -> None:
        """Counts the turns of this block, in which it goes along the reduced indices."""
        self.outside, self.inner = (self.schedule.reduce[:tile.outside],
                                    self.schedule.reduce[tile.outside:])
        self.depth = tile.depth
        self.turns = self.count(self.outside) * ceildiv(self.count(self.inner), tile.depth)

    def at_turn(self, turn: Dim) -> Dim:
        """The first place of the inner indices in a turn; gives those outside their values."""
        if not self.outside:
            return turn * self.depth
        inside = ceildiv(self.count(self.inner), self.depth)
        self.decode(self.outside, floordiv(turn, inside))
        return self.named("first.k", mod(turn, inside) * self.depth, self.count(self.inner))

    def stand(self, side: Side, at: tuple[Dim, Dim], m: Dim, k: Dim) -> None:
        """The indices stand at a row of the tile and a place of the turn (which, and where it
        begins), if it counts."""
        turn, place, inner = at[0], symbol(side.first) + m, self.count(self.inner)
        self.decode(side.names, self.named("p", place, side.count - 1))
        self.decode(self.inner, self.named("q", at[1] + k, inner - 1))
        below = [(place, side.count)] if sticks_out(side.count, side.size) else []
        ahead = turn != symbol("turn")  # it may be past the last one
        if self.outside and ahead:
            below.append((turn, self.turns))
        if (ahead and not self.outside) or mod(inner, self.depth) != 0:
            below.append((at[1] + k, inner))
        below += [(-1 - bind(e, self.point, self.ranges), 0) for e in side.where]
        self.keep_where(below)

    def lies_along(self, value: Arg, name: str) -> bool:
        """Whether neighbours in memory lie along an index."""
        index = self.outer[name] if name in self.outer else self.over[name]
        return any(stride(self.kernel, a, Index(index.name, index.high), 1) == 1
                   for a in self.factors.reads(value) if a.at)

    def finish_matrices(
        self, tile: TensorTile | GroupTile, sums: str, at: MatrixPlaces, counts: tuple[Dim, Dim]
    ) -> None:
        """What follows the sums, four of each matrix, at each of this thread's places that there
        are of so many rows and columns."""
        lanes, lane = self.following.lanes, symbol("in.warp")
        i, j = symbol("in.r"), symbol("in.c") * lanes
        self.span("in.r", 0, 2 * at.down - 1)
        self.span("in.c", 0, 2 * at.across // lanes - 1)
        place_of = (floordiv(i, 2) * at.across + floordiv(j, 2)) * 4 + mod(i, 2) * 2 + mod(j, 2)
        row = at.row + at.apart * floordiv(i, 2) + 8 * mod(i, 2) + floordiv(lane, 4)
        column = at.column + 8 * floordiv(j, 2) + 2 * mod(lane, 4) + mod(j, 2)
        with self.out.block() as outside:
            with self.out.block() as inside:
                with self.out.block() as place:
                    found = self.out.load(sums, place_of, F32, lanes)
                    self.epilogue(tile, row, column, found)
                self.when_inside(tile, (row, column), counts, place)
            self.out.loop("in.c", 0, 2 * at.across // lanes, inside, unrolled=True)
        self.out.loop("in.r", 0, 2 * at.down, outside, unrolled=True)

    def when_inside(
        self, tile: AnyTile, at: tuple[Dim, Dim], counts: tuple[Dim, Dim], body: list[Statement],
        more: tuple[Dim, ...] = (),
    ) -> None:
        """Appends what is done at a row and a column of the tile, if there are so many."""
        sizes = (tile.height, tile.width)
        tests = (*more, *(count - 1 - place for place, count, size in zip(
            at, counts, sizes, strict=True) if sticks_out(count, size)))
        if tests:
            self.out.when(tests, body)
        else:
            self.out.blocks[-1] += body

    def epilogue(
        self, tile: AnyTile, row: Dim, column: Dim, made: Register
    ) -> None:
        """What follows the sum, at one place, or at as many neighbours as there are lanes."""
        lanes = made.lanes
        self.decode(tile.rows, row)
        self.number([(name, floordiv(self.extent(name), lanes if name == tile.columns[-1] else 1))
                     for name in tile.columns], floordiv(column, lanes))
        if lanes > 1:
            self._stand_at_neighbours()
        reduction = self.factors.compute
        self.locals[reduction.target.buffer] = made
        for compute in self.kernel.body:
            if compute is not reduction:
                assert isinstance(compute, Compute)
                self.compute(compute)

    def _stand_at_neighbours(self) -> None:
        """The index along the columns stands for neighbours, of which none sticks out."""
        self.schedule = self.following
        name, lanes = self.schedule.vector, self.schedule.lanes
        self.span(LANE, 0, lanes - 1)
        self.point[name] = self.point[name] * lanes + symbol(LANE)
        self.whole = True


def sticks_out(count: Dim, size: int) -> bool:
    """Whether some of a tile's rows (or columns), of which it has `size`, may not be there."""
    return count == 0 or mod(count, size) != 0
