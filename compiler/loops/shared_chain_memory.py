"""Applying a GPU's schedule: where the elements, sums and numbers of a chain of products lie.

What is a thread's own lies in arrays that the compiler of CUDA C keeps in registers: all indices in
them are constants, once loops are unrolled. What threads share lies in shared memory: pieces of
the factors of a product, and the elements of rows that the last products read.
"""

from __future__ import annotations

from collections.abc import Callable

from dlc.compiler.kernels.accesses import uses
from dlc.compiler.kernels.chain_parts import ChainParts, chain_parts
from dlc.compiler.kernels.products import needed, reads
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.copies import PAD, Copying, in_packs
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, symbol
from dlc.ir.kernel import Access, Arg, Compute, Index, Kernel
from dlc.ir.loops import Let
from dlc.ir.schedule import Schedule, SharedTile
from dlc.ir.types import DType


@dataclass(frozen=True, slots=True)
class Own:
    """Numbers of a thread for its rows: `across` for each, in registers."""

    name: str
    dtype: DType
    across: int


class SharedChainMemory(Copying):
    """The memory of a block that carries out a chain, and products of what is in it."""

    def __init__(self, kernel: Kernel, schedule: Schedule) -> None:
        super().__init__(kernel, schedule)
        assert schedule.shared is not None
        self.tile: SharedTile = schedule.shared
        parts = chain_parts(kernel)
        assert parts is not None
        self.parts: ChainParts = parts
        (self.vector,) = self.tile.rows
        self.rows = extent_of(next(i for i in kernel.outer if i.name == self.vector))
        self.length = extent_of(parts.row)
        self.elements: dict[str, Own] = {}  # local arrays of rows
        self.numbers: dict[str, Own] = {}  # sums and maxima so far
        self.results: dict[str, Own] = {}  # sums of last products
        self.weights: dict[tuple[object, ...], str] = {}  # what last products read of the rows
        self.i: Dim = 0  # the row, among this thread's own
        self.j: Dim = 0  # the element, or the number of a result, among those of this thread
        self.low: Dim = 0  # the first element of the part

    def let(self, name: str, value: Dim, turns: Dim) -> None:
        """From here on `name` stands for an index expression that lies below `turns`."""
        self.out.add(Let(name, value))
        self.span(name, 0, turns - 1)

    def each(
        self, name: str, high: Dim, body: Callable[[Dim], None], step: int = 1,
        unrolled: bool = False,
    ) -> None:
        """A loop in which memory changes."""
        self.span(name, 0, high - 1)
        self.out.forget_memory()
        with self.out.block() as statements:
            body(symbol(name))
        self.out.loop(name, 0, high, statements, step, unrolled=unrolled)
        self.out.forget_memory()

    # Memory

    def allocate(self) -> None:
        """Registers and shared memory, and what sums and maxima begin with."""
        tile, last = self.tile, self.parts.last
        dtype = _dtype(last[0])
        for local in self.kernel.locals:
            own = next((c for c in last if c.target.buffer == local.name), None)
            if own is not None:
                self.results[local.name] = self._own(
                    local.name, local.dtype, -(-_few(self.own_index(own))
                                               // tile.columns_of_threads))
            elif local.dims:
                self.elements[local.name] = self._own(local.name, local.dtype, tile.across)
        for compute in self.parts.sums:
            (first,) = self._empty(compute, 1)
            own_ = self.numbers[compute.target.buffer] = self._own(
                compute.target.buffer, first.dtype, 1)
            self.fill(own_, first)
        for result in self.results.values():
            self.fill(result, self.out.constant(result.dtype, 0.0))
        wide = max(tile.width, *(self.wide(r) for r in self.results.values()))
        self.left = self.out.alloc("left", dtype, tile.depth * (tile.height + PAD), shared=True)
        self.right = self.out.alloc("right", dtype, tile.depth * (wide + PAD), shared=True)
        for compute in last:
            key = self.weight(compute)
            if key not in self.weights:
                self.weights[key] = self.out.alloc(
                    "weights", _dtype(compute), tile.width * (tile.height + PAD), shared=True)
        packs = max(tile.down, tile.across, *(r.across for r in self.results.values()))
        self.packs = [self.out.alloc(name, dtype, packs) for name in ("a", "b")]

    def _own(self, name: str, dtype: DType, across: int) -> Own:
        return Own(self.out.alloc(f"{name}.", dtype, self.tile.down * across), dtype, across)

    def wide(self, own: Own) -> int:
        """The columns of all threads, filled up."""
        return own.across * self.tile.columns_of_threads

    def fill(self, own: Own, value: Register) -> None:
        self.each("in.f", self.tile.down * own.across,
                   lambda at: self.out.store(own.name, at, value), unrolled=True)

    def weight(self, compute: Compute) -> tuple[object, ...]:
        """The factor of a last product that is made of elements."""
        element, _ = self.factors(compute)
        return (element, *needed(compute, element))

    def factors(self, compute: Compute) -> tuple[Arg, Arg]:
        """The factor that is of the tile's rows, and the other one."""
        one, two = compute.body[-1].args
        return (one, two) if self._is_of_rows(compute, one) else (two, one)

    def _is_of_rows(self, compute: Compute, value: Arg) -> bool:
        return any(uses(a, self.vector) or a.buffer in self.elements
                   for a in reads(compute, value))

    def own_index(self, compute: Compute) -> Index:
        """The index of a product besides the row's."""
        return next(i for i in compute.over if i != self.parts.row)

    def multiply(self, left: tuple[str, Dim], right: tuple[str, int], made: Own) -> None:
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


def extent_of(index: Index) -> Dim:
    assert not isinstance(index.high, Access)
    return index.high


def _few(index: Index) -> int:
    assert isinstance(index.high, int)
    return index.high


def _dtype(compute: Compute) -> DType:
    assert compute.combine is not None
    return compute.combine.dtype
