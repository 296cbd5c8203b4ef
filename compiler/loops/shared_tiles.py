"""Applying a GPU's schedule: products of matrices, by way of shared memory.

A contraction of any form is a product here: outer indices that one factor alone has are its rows,
those of the other its columns, each group counted through as one, and so are reduced indices, but
for those that are loops outside. A block makes a tile of the result. Turn by turn its threads copy
`depth` places of both factors into shared memory, with all that is computed of them before the
product and 0 where a place does not count, and each thread multiplies what its own few rows and
columns need of them into registers.

    for the reduced indices outside, for turn in 0 … inner // 16:
      barrier;  left[k, r] = …  right[k, c] = …     each thread copies some of both
      barrier;  sum[i, j] += left[k, 4 ty + i] * right[k, 4 tx + j]     k of this thread's slice
    parts[slice, r, c] = sum;  barrier              if there is more than one slice
    y = …                                           what follows, at each of the thread's places
"""

from __future__ import annotations

from collections.abc import Sequence

from dlc.compiler.kernels.accesses import stride
from dlc.compiler.kernels.products import Factors, factors_of
from dlc.compiler.kernels.ranges import bind
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.reduce import State
from dlc.compiler.loops.threads import OnThreads
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, ceildiv, floordiv, mod, product, symbol
from dlc.ir.kernel import Access, Arg, Compute, Index, Kernel
from dlc.ir.loops import Let
from dlc.ir.schedule import Schedule, SharedTile
from dlc.ir.types import BOOL, DType

PAD = 4  # elements after each line: those that stand in a column lie in different banks
PACK = 4  # elements that a thread has side by side, and reads at once


@dataclass(frozen=True, slots=True)
class _Side:
    """One factor, and what of a tile goes along it."""

    value: Arg
    names: tuple[str, ...]  # its outer indices
    where: tuple[Dim, ...]  # what holds of places that count
    first: str  # the name of the tile's first row (or column)
    count: Dim  # of rows
    size: int  # of the tile


class InSharedTiles(OnThreads):
    """Applies a schedule that has tiles in shared memory."""

    def __init__(self, kernel: Kernel, schedule: Schedule) -> None:
        super().__init__(kernel, schedule)
        assert schedule.shared is not None
        self.tile: SharedTile = schedule.shared
        found = factors_of(kernel)
        assert found is not None
        self.factors: Factors = found
        self.outer = {i.name: i for i in kernel.outer}
        self.over = {i.name: i for i in found.compute.over}
        self.keep: Register | None = None  # whether the place counts that is read

    def body_of_block(self) -> None:
        """What the threads of one block do."""
        tile, chunk, thread = self.tile, symbol("chunk"), symbol("thread")
        rows, columns = (self._count(names) for names in (tile.rows, tile.columns))
        across, down = ceildiv(columns, tile.width), ceildiv(rows, tile.height)
        batch = [n for n in self.schedule.order if n not in (*tile.rows, *tile.columns)]
        self._let("first.c", mod(chunk, across) * tile.width, columns)
        self._let("first.r", mod(floordiv(chunk, across), down) * tile.height, rows)
        self._decode(batch, floordiv(chunk, across * down))
        self._let("tx", mod(thread, tile.columns_of_threads), tile.columns_of_threads)
        self._let("ty", mod(floordiv(thread, tile.columns_of_threads), tile.rows_of_threads),
                  tile.rows_of_threads)
        self._let("slice", floordiv(thread, tile.rows_of_threads * tile.columns_of_threads),
                  tile.slices)
        sides = [(self.factors.left, self.factors.rows, self.factors.left_where),
                 (self.factors.right, self.factors.columns, self.factors.right_where)]
        if tile.rows != self.factors.rows:
            sides.reverse()
        (a, b), dtype = sides, self._dtype()
        sums = self._sums(_Side(*a, "first.r", rows, tile.height),
                          _Side(*b, "first.c", columns, tile.width), dtype)
        if tile.slices > 1:
            self._finish_parts(sums, rows, columns, dtype)
        else:
            self._finish(sums, rows, columns, dtype)

    def _dtype(self) -> DType:
        combine = self.factors.compute.combine
        assert combine is not None
        return combine.dtype

    def _count(self, names: Sequence[str]) -> Dim:
        return product(tuple(self._extent(n) for n in names))

    def _extent(self, name: str) -> Dim:
        index: Index = self.outer[name] if name in self.outer else self.over[name]
        assert not isinstance(index.high, Access)
        return bind(index.high, self.point, self.ranges)

    def _let(self, name: str, value: Dim, turns: Dim) -> None:
        """From here on `name` stands for an index expression that lies below `turns`."""
        self.out.add(Let(name, value))
        self.span(name, 0, turns - 1)

    def _decode(self, names: Sequence[str], number: Dim) -> None:
        """Gives indices their values at the place that has this number among all of theirs."""
        self.number([(name, self._extent(name)) for name in names], number)

    # The sums

    def _sums(self, left: _Side, right: _Side, dtype: DType) -> list[Register]:
        """The sums of this thread, a row after another, in packs of columns."""
        tile, reduce = self.tile, self.schedule.reduce
        memory = [self.out.alloc(name, dtype, tile.depth * (side.size + PAD), shared=True)
                  for name, side in (("left", left), ("right", right))]
        zero: State = (self.out.constant(dtype, 0.0, PACK),)
        inner = reduce[tile.outside:]
        count = self._count(inner)

        def turn(states: list[State]) -> list[State]:
            self.out.barrier()
            for name, side in zip(memory, (left, right), strict=True):
                self._copy(name, side, inner, count)
            self.out.barrier()
            each = tile.depth // tile.slices
            self.span("in.k", 0, each - 1)
            return self._loop("in.k", 0, each, states,
                              lambda inside: self._multiply(memory, dtype, inside))

        def outside(names: tuple[str, ...], states: list[State]) -> list[State]:
            if not names:
                self.span("first.k", 0, count - 1)
                return self._loop("first.k", 0, count, states, turn, tile.depth)
            high = self._extent(names[0])
            self.span(names[0], 0, high - 1)
            self.point[names[0]] = symbol(names[0])
            return self._loop(names[0], 0, high, states,
                              lambda inside: outside(names[1:], inside))

        made = outside(reduce[:tile.outside], [zero] * (tile.down * tile.across // PACK))
        return [state[0] for state in made]

    def _copy(self, memory: str, side: _Side, inner: tuple[str, ...], count: Dim) -> None:
        """Each thread's part of `depth` places of a factor."""
        size, depth, threads = side.size, self.tile.depth, self.schedule.threads
        var = self.out.fresh("e")
        self.span(var, 0, size * depth // threads - 1)
        with self.out.block() as body:
            at = symbol(var) * threads + symbol("thread")
            along = self._lies_along(side.value, inner)
            k = self.named("k", mod(at, depth) if along else floordiv(at, size), depth - 1)
            m = self.named("m", floordiv(at, depth) if along else mod(at, size), size - 1)
            place, turn = symbol(side.first) + m, symbol("first.k") + k
            self._decode(side.names, self.named("p", place, side.count - 1))
            self._decode(inner, self.named("q", turn, count - 1))
            self._keep(side, place, (turn, count))
            self.out.store(memory, k * (size + PAD) + m, self._kept(side.value))
            self.keep = None
        self.out.loop(var, 0, size * depth // threads, body, unrolled=True)

    def _keep(self, side: _Side, place: Dim, turn: tuple[Dim, Dim]) -> None:
        """Decides whether a place counts: those past the end do not."""
        masks = []
        if mod(side.count, side.size) != 0:
            masks.append(self.out.mask(place, side.count, 1))
        if mod(turn[1], self.tile.depth) != 0:
            masks.append(self.out.mask(*turn, 1))
        masks += [self.out.mask(-1 - bind(e, self.point, self.ranges), 0, 1) for e in side.where]
        self.keep = self._all([Register(m, BOOL) for m in masks]) if masks else None

    def _kept(self, value: Arg) -> Register:
        """A factor where the indices stand; 0 where the place does not count."""
        found = self._factor(value)
        plain = self.factors.is_read(value) and not any(
            a.fill for a in self.factors.reads(value))
        if self.keep is None or plain:  # what is not read is 0
            return found
        zero = self.out.constant(found.dtype, 0.0)
        return self.out.apply("select", (self.keep, found, zero), found.dtype)

    def _load_at(self, name: str, offset: Dim) -> Register:
        """An element, which is not touched where the place does not count."""
        if self.keep is None:
            return super()._load_at(name, offset)
        return self.out.load(name, offset, self.kernel.buffer(name).dtype, 1, self.keep.name)

    def _inside(self, keep: list[Register]) -> list[Register]:
        return keep if self.keep is None else [self.keep, *keep]

    def _lies_along(self, value: Arg, inner: tuple[str, ...]) -> bool:
        """Whether neighbours in memory lie along the last reduced index."""
        last = self.over[inner[-1]]
        return any(stride(self.kernel, a, Index(last.name, last.high), 1) == 1
                   for a in self.factors.reads(value) if a.at)

    def _factor(self, value: Arg) -> Register:
        """A factor at the place where the indices stand."""
        for op in self.factors.needed(value):
            self.names[op.name] = self.out.apply(
                op.op, tuple(self.arg(a) for a in op.args), op.dtype, op.attrs)
        return self.arg(value)

    def _multiply(
        self, memory: list[str], dtype: DType, states: list[State]
    ) -> list[State]:
        tile = self.tile
        k = symbol("in.k") * tile.slices + symbol("slice")
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
        tile = self.tile
        stack = self.out.alloc("sums", dtype, len(sums) * PACK)
        for at, value in enumerate(sums):
            self.out.store(stack, at * PACK, value)
        i, j = symbol("in.r"), symbol("in.c")
        self.span("in.r", 0, tile.down - 1)
        self.span("in.c", 0, tile.across - 1)
        row = symbol("first.r") + _in_packs(i, symbol("ty"), tile.rows_of_threads)
        column = symbol("first.c") + _in_packs(j, symbol("tx"), tile.columns_of_threads)
        with self.out.block() as outside:
            with self.out.block() as inside:
                with self.out.block() as place:
                    self._epilogue(row, column, self.out.load(stack, i * tile.across + j, dtype))
                self.out.when((rows - 1 - row, columns - 1 - column), place)
            self.out.loop("in.c", 0, tile.across, inside, unrolled=True)
        self.out.loop("in.r", 0, tile.down, outside, unrolled=True)

    def _finish_parts(self, sums: list[Register], rows: Dim, columns: Dim, dtype: DType) -> None:
        """Adds up the sums of all slices, and does what follows at a few places of the tile."""
        tile, threads = self.tile, self.schedule.threads
        places = tile.height * tile.width
        parts = self.out.alloc("parts", dtype, tile.slices * places, shared=True)
        for n, value in enumerate(sums):
            i, j = divmod(n * PACK, tile.across)
            row = _in_packs(i, symbol("ty"), tile.rows_of_threads)
            column = _in_packs(j, symbol("tx"), tile.columns_of_threads)
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
                self._epilogue(row, column, found)
            self.out.when((places - 1 - at, rows - 1 - row, columns - 1 - column), place)
        self.out.loop(var, 0, ceildiv(places, threads), body, unrolled=True)

    def _epilogue(self, row: Dim, column: Dim, value: Register) -> None:
        self._decode(self.tile.rows, row)
        self._decode(self.tile.columns, column)
        reduction = self.factors.compute
        self.locals[reduction.target.buffer] = value
        for compute in self.kernel.body:
            if compute is not reduction:
                assert isinstance(compute, Compute)
                self.compute(compute)


def _in_packs(number: Dim, thread: Dim, threads: int) -> Dim:
    """Which row (or column) of a tile is that with this number of a thread's own."""
    return floordiv(number, PACK) * (PACK * threads) + thread * PACK + mod(number, PACK)
