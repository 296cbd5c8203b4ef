"""Applying a GPU's schedule: chains of products that threads multiply out of shared memory.

As in `block_chains.py`, a block goes along a tile of rows part by part. What products read comes by
way of shared memory, and so do the elements that the last products read, of all threads of a row.

    rows[i, j] = …                by pieces of both factors in shared memory
    weights[k, i] = rows[i, j]
    sums[i, e] += weights[k, i] * …
"""

from __future__ import annotations

from dlc.compiler.kernels.products import needed
from dlc.compiler.loops.block_chain_memory import Own, extent_of
from dlc.compiler.loops.block_chains import InBlockChains
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.copies import PAD, in_packs
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, symbol
from dlc.ir.kernel import Arg, Compute, Kernel
from dlc.ir.schedule import Schedule, SharedTile
from dlc.ir.types import DType


@dataclass(frozen=True, slots=True)
class InPacks:
    """Threads stand in rows; each has packs of rows and columns, as far apart as threads stand."""

    tile: SharedTile

    @property
    def height(self) -> int:
        """The rows of the tile."""
        return self.tile.height

    @property
    def down(self) -> int:
        """The rows of a thread."""
        return self.tile.down

    @property
    def beside(self) -> int:
        """The threads that have the same rows."""
        return self.tile.columns_of_threads

    def across(self, columns: int) -> int:
        """How many of so many numbers of a row a thread has."""
        return -(-columns // self.beside)

    def row(self, i: Dim) -> Dim:
        """The row of the tile."""
        return in_packs(i, symbol("ty"), self.tile.rows_of_threads, pack_of(self.down))

    def column(self, j: Dim, across: int) -> Dim:
        """The number in the row."""
        return in_packs(j, symbol("tx"), self.beside, pack_of(across))

    def place(self, i: Dim, j: Dim, across: int) -> Dim:
        """Where it lies: rows one after another."""
        return i * across + j


class InSharedChains(InBlockChains):
    """Applies a schedule that has parts of rows, and tiles in shared memory."""

    def __init__(self, kernel: Kernel, schedule: Schedule) -> None:
        assert schedule.shared is not None
        self.tile: SharedTile = schedule.shared
        super().__init__(kernel, schedule, self.tile.rows, InPacks(self.tile))
        self.weights: dict[tuple[object, ...], str] = {}  # what last products read of the rows

    def allocate_shared(self) -> None:
        """Pieces of both factors, and the elements of rows that last products read."""
        tile, last = self.tile, self.parts.last
        dtype = _dtype(last[0])
        wide = max(tile.width, *(self._columns(r) for r in self.results.values()))
        self.left = self.out.alloc("left", dtype, tile.depth * (tile.height + PAD), shared=True)
        self.right = self.out.alloc("right", dtype, tile.depth * (wide + PAD), shared=True)
        for compute in last:
            key = self._weight(compute)
            if key not in self.weights:
                self.weights[key] = self.out.alloc(
                    "weights", _dtype(compute), tile.width * (tile.height + PAD), shared=True)
        packs = max(tile.down, tile.across, *(r.across for r in self.results.values()))
        self.packs = [self.out.alloc(name, dtype, packs) for name in ("a", "b")]

    def _columns(self, own: Own) -> int:
        """The columns of all threads, filled up."""
        return own.across * self.tile.columns_of_threads

    def _weight(self, compute: Compute) -> tuple[object, ...]:
        """The factor of a last product that is made of elements."""
        element, _ = self.factors(compute)
        return (element, *needed(compute, element))

    def inner(self, compute: Compute) -> None:
        """This thread's elements of a product."""
        own, made = self.own_index(compute), self.elements[compute.target.buffer]
        left, right = self.factors(compute)
        row, tile = self.parts.row, self.tile
        self.fill(made, self.out.constant(made.dtype, 0.0))

        def piece(first: Dim) -> None:
            def element(value: Arg, name: str, start: Dim, count: Dim, k: Dim, m: Dim) -> Register:
                self.point[own.name], self.point[name] = first + k, start + m
                self.keep_below((first + k, extent_of(own), tile.depth), (start + m, count, 1))
                return self.kept(compute, value)

            self.out.barrier()
            self.copy(self.left, tile.height, tile.depth, self.lies_along(compute, left, own),
                      lambda k, m: element(left, self.vector, symbol("first.r"), self.rows, k, m))
            self.copy(self.right, tile.width, tile.depth, self.lies_along(compute, right, own),
                      lambda k, m: element(right, row.name, self.low, self.length, k, m))
            self.out.barrier()
            self._multiply((self.left, 0), (self.right, tile.width), made)

        self.each("first.d", extent_of(own), piece, tile.depth)

    def last(self, compute: Compute) -> None:
        """Adds the part to this thread's sums of a last product."""
        own, made = self.own_index(compute), self.results[compute.target.buffer]
        _, other = self.factors(compute)
        row, tile = self.parts.row, self.tile
        wide, weights = self._columns(made), self.weights[self._weight(compute)]

        def piece(first: Dim) -> None:
            def element(k: Dim, m: Dim) -> Register:
                at = self.low + first + k
                self.point[own.name], self.point[row.name] = m, at
                self.keep_below((at, self.length, tile.width), (m, extent_of(own), wide))
                return self.kept(compute, other)

            self.out.barrier()
            self.copy(self.right, wide, tile.depth, self.lies_along(compute, other, row), element)
            self.out.barrier()
            self._multiply((weights, first), (self.right, wide), made)

        self.each("first.k", tile.width, piece, tile.depth)

    def end_row(self) -> None:
        """Gives the elements of a row to all threads that have last products to make of it."""
        tile, row = self.tile, self.share.row(self.i)
        made = {self._weight(c): c for c in self.parts.last}

        def one(j: Dim) -> None:
            inside = self.go_to_element(j)
            place = self.share.column(j, tile.across)
            for key, compute in made.items():
                value = self.kept(compute, self.factors(compute)[0])
                value = self.where_inside(inside, value, self.out.constant(value.dtype, 0.0))
                self.out.store(self.weights[key], place * (tile.height + PAD) + row, value)

        self.each("in.j", tile.across, one, unrolled=True)

    def _multiply(self, left: tuple[str, Dim], right: tuple[str, int], made: Own) -> None:
        """Adds `depth` lines of both factors to this thread's sums."""
        tile, (a, b) = self.tile, self.packs
        (one, first), (two, wide), down = left, right, tile.down

        def line(k: Dim) -> None:
            for memory, packed, start, count, thread, threads in (
                    (one, a, (first + k) * (tile.height + PAD), down, "ty", tile.rows_of_threads),
                    (two, b, k * (wide + PAD), made.across, "tx", tile.columns_of_threads)):
                pack = pack_of(count)
                for at in range(0, count, pack):
                    place = start + in_packs(at, symbol(thread), threads, pack)
                    self.out.store(packed, at, self.out.load(memory, place, made.dtype, pack))
            self.each("in.i", down, lambda i: self.each("in.j", made.across, lambda j: (
                self._add(made, i, j)), unrolled=True), unrolled=True)

        self.each("in.k", tile.depth, line)

    def _add(self, made: Own, i: Dim, j: Dim) -> None:
        a, b = (self.out.load(m, at, made.dtype) for m, at in zip(self.packs, (i, j), strict=True))
        place = i * made.across + j
        old = self.out.load(made.name, place, made.dtype)
        self.out.store(made.name, place, self.out.apply("fma", (a, b, old), made.dtype))


def pack_of(count: int) -> int:
    """How many of a thread's rows (or columns) lie side by side, to be read at once."""
    return next(p for p in (4, 2, 1) if count % p == 0)


def _dtype(compute: Compute) -> DType:
    assert compute.combine is not None
    return compute.combine.dtype
