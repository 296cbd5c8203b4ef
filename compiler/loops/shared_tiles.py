"""Applying a GPU's schedule: products of matrices, by way of shared memory.

A contraction of any form is a product here: outer indices that the left factor alone has are its
rows, those of the right factor its columns, each group counted through as one, and so are the
reduced indices. A block makes a tile of the result. Turn by turn its threads copy `depth` places of
both factors into shared memory, with all that is computed of them before the product, and each
thread multiplies what its own few rows and columns need of them into registers.

    for turn in 0 … inner // 16:
      barrier;  left[k, r] = …  right[k, c] = …     each thread copies some of both
      barrier;  sum[i, j] += left[k, ty + 16 i] * right[k, tx + 16 j]
    y = …                                           what follows, at each of the thread's places
"""

from __future__ import annotations

from collections.abc import Sequence

from dlc.compiler.kernels.accesses import stride
from dlc.compiler.kernels.products import Factors, factors_of
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.reduce import State
from dlc.compiler.loops.threads import OnThreads
from dlc.ir.dims import Dim, ceildiv, floordiv, minimum, mod, product, symbol
from dlc.ir.kernel import Access, Arg, Compute, Index, Kernel
from dlc.ir.loops import Let
from dlc.ir.schedule import Schedule, SharedTile
from dlc.ir.types import BOOL, DType

PAD = 1  # element after each row: threads that copy along the reduced index meet different banks


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

    def body_of_block(self) -> None:
        """What the threads of one block do."""
        tile, chunk = self.tile, symbol("chunk")
        rows, columns = (self._count(names) for names in (tile.rows, tile.columns))
        across, down = ceildiv(columns, tile.width), ceildiv(rows, tile.height)
        batch = [n for n in self.schedule.order if n not in (*tile.rows, *tile.columns)]
        self._let("first.c", mod(chunk, across) * tile.width, columns)
        self._let("first.r", mod(floordiv(chunk, across), down) * tile.height, rows)
        self._decode(batch, floordiv(chunk, across * down))
        self._let("tx", mod(symbol("thread"), tile.columns_of_threads), tile.columns_of_threads)
        self._let("ty", floordiv(symbol("thread"), tile.columns_of_threads), tile.rows_of_threads)
        sums = self._sums(rows, columns)
        self._finish(sums, rows, columns)

    def _count(self, names: tuple[str, ...]) -> Dim:
        return product(tuple(self._extent(n) for n in names))

    def _extent(self, name: str) -> Dim:
        index: Index = self.outer[name] if name in self.outer else self.over[name]
        assert not isinstance(index.high, Access)
        return index.high

    def _let(self, name: str, value: Dim, turns: Dim) -> None:
        """From here on `name` stands for an index expression that lies below `turns`."""
        self.out.add(Let(name, value))
        self.span(name, 0, turns - 1)

    def _decode(self, names: Sequence[str], number: Dim) -> None:
        """Gives indices their values at the place that has this number among all of theirs."""
        self.number([(name, self._extent(name)) for name in names], number)

    def _sums(self, rows: Dim, columns: Dim) -> list[Register]:
        """The sums of this thread, a row after another."""
        tile, compute = self.tile, self.factors.compute
        combine = compute.combine
        assert combine is not None
        inner, depth = self._count(self.schedule.reduce), tile.depth
        left = self.out.alloc("left", combine.dtype, depth * (tile.height + PAD), shared=True)
        right = self.out.alloc("right", combine.dtype, depth * (tile.width + PAD), shared=True)
        zero: State = (self.out.constant(combine.dtype, 0.0),)

        def turn(states: list[State]) -> list[State]:
            self.out.barrier()
            self._copy(left, self.factors.left, (tile.rows, "first.r", rows, tile.height), inner)
            self._copy(right, self.factors.right,
                       (tile.columns, "first.c", columns, tile.width), inner)
            self.out.barrier()
            self.span("in.k", 0, depth - 1)
            return self._loop("in.k", 0, depth, states,
                              lambda inside: self._multiply(left, right, combine.dtype, inside))

        self.span("first.k", 0, inner - 1)
        made = self._loop("first.k", 0, inner, [zero] * (tile.down * tile.across), turn, depth)
        return [state[0] for state in made]

    def _copy(
        self, memory: str, value: Arg, side: tuple[tuple[str, ...], str, Dim, int], inner: Dim
    ) -> None:
        """Each thread's part of `depth` places of a factor; past the last one it is 0."""
        (names, first, count, size), depth = side, self.tile.depth
        threads, var = self.schedule.threads, self.out.fresh("e")
        self.span(var, 0, size * depth // threads - 1)
        with self.out.block() as body:
            at = symbol(var) * threads + symbol("thread")
            along = self._lies_along(value)
            k = self.named("k", mod(at, depth) if along else floordiv(at, size), depth - 1)
            m = self.named("m", floordiv(at, depth) if along else mod(at, size), size - 1)
            self._decode(names, self.named(
                "p", minimum(symbol(first) + m, count - 1), count - 1))
            self._decode(self.schedule.reduce, self.named(
                "q", minimum(symbol("first.k") + k, inner - 1), inner - 1))
            found = self._factor(value)
            keep = Register(self.out.mask(symbol("first.k") + k, inner, 1), BOOL)
            zero = self.out.constant(found.dtype, 0.0)
            self.out.store(memory, k * (size + PAD) + m,
                           self.out.apply("select", (keep, found, zero), found.dtype))
        self.out.loop(var, 0, size * depth // threads, body, unrolled=True)

    def _lies_along(self, value: Arg) -> bool:
        """Whether neighbours in memory lie along the last reduced index."""
        last = self.over[self.schedule.reduce[-1]]
        return any(stride(self.kernel, a, last, 1) == 1 for a in self.factors.reads(value))

    def _factor(self, value: Arg) -> Register:
        """A factor at the place where the indices stand."""
        for op in self.factors.needed(value):
            self.names[op.name] = self.out.apply(
                op.op, tuple(self.arg(a) for a in op.args), op.dtype, op.attrs)
        return self.arg(value)

    def _multiply(
        self, left: str, right: str, dtype: DType, states: list[State]
    ) -> list[State]:
        tile, k = self.tile, symbol("in.k")
        rows = [self.out.load(
            left, k * (tile.height + PAD) + symbol("ty") + i * tile.rows_of_threads, dtype)
            for i in range(tile.down)]
        columns = [self.out.load(
            right, k * (tile.width + PAD) + symbol("tx") + j * tile.columns_of_threads, dtype)
            for j in range(tile.across)]
        return [(self.out.apply("fma", (a, b, states[i * tile.across + j][0]), dtype),)
                for i, a in enumerate(rows) for j, b in enumerate(columns)]

    def _finish(self, sums: list[Register], rows: Dim, columns: Dim) -> None:
        """What follows the sums, at each of this thread's places that there are."""
        tile, dtype = self.tile, sums[0].dtype
        stack = self.out.alloc("sums", dtype, len(sums))
        for at, value in enumerate(sums):
            self.out.store(stack, at, value)
        i, j = symbol("in.r"), symbol("in.c")
        self.span("in.r", 0, tile.down - 1)
        self.span("in.c", 0, tile.across - 1)
        row = symbol("first.r") + symbol("ty") + i * tile.rows_of_threads
        column = symbol("first.c") + symbol("tx") + j * tile.columns_of_threads
        with self.out.block() as outside:
            with self.out.block() as inside:
                with self.out.block() as place:
                    self._epilogue(row, column, self.out.load(stack, i * tile.across + j, dtype))
                self.out.when((rows - 1 - row, columns - 1 - column), place)
            self.out.loop("in.c", 0, tile.across, inside, unrolled=True)
        self.out.loop("in.r", 0, tile.down, outside, unrolled=True)

    def _epilogue(self, row: Dim, column: Dim, value: Register) -> None:
        self._decode(self.tile.rows, row)
        self._decode(self.tile.columns, column)
        reduction = self.factors.compute
        self.locals[reduction.target.buffer] = value
        for compute in self.kernel.body:
            if compute is not reduction:
                assert isinstance(compute, Compute)
                self.compute(compute)
