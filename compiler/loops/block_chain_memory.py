"""Applying a GPU's schedule: where the elements, sums and numbers of a chain of products lie.

What is a thread's own lies in arrays that the compiler of CUDA C keeps in registers: all indices in
them are constants, once loops are unrolled. Which rows, and which elements of them, these are, a
`Share` says.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol

from dlc.compiler.kernels.accesses import stride
from dlc.compiler.kernels.chain_parts import ChainParts, chain_parts, factors
from dlc.compiler.kernels.products import reads
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.copies import Copying
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, mod, symbol
from dlc.ir.kernel import Access, Arg, Compute, Index, Kernel
from dlc.ir.loops import Let
from dlc.ir.schedule import Schedule
from dlc.ir.types import DType


@dataclass(frozen=True, slots=True)
class Own:
    """Numbers of a thread for its rows: `across` for each, in registers."""

    name: str
    dtype: DType
    across: int


class Share(Protocol):
    """What of a tile a thread has: of `height` rows it has `down`, which it shares with `beside`
    threads, its neighbours. It is number `tx` of them, and they are the group with number `ty`."""

    @property
    def height(self) -> int:
        """The rows of the tile."""

    @property
    def down(self) -> int:
        """The rows of a thread."""

    @property
    def beside(self) -> int:
        """The threads that have the same rows."""

    def across(self, columns: int) -> int:
        """How many of so many numbers of a row a thread has."""

    def row(self, i: Dim) -> Dim:
        """Which row of the tile that with number `i` of this thread's own is."""

    def column(self, j: Dim, across: int) -> Dim:
        """Which number of a row that with number `j` of this thread's `across` own is."""

    def place(self, i: Dim, j: Dim, across: int) -> Dim:
        """Where number `j` of row `i` lies among all that a thread has."""


class BlockChainMemory(Copying):
    """The memory of a block that carries out a chain."""

    def __init__(
        self, kernel: Kernel, schedule: Schedule, rows: tuple[str, ...], share: Share
    ) -> None:
        super().__init__(kernel, schedule)
        parts = chain_parts(kernel)
        assert parts is not None
        self.parts: ChainParts = parts
        self.share, self.wide = share, schedule.part
        (self.vector,) = rows
        self.row_index = next(i for i in kernel.outer if i.name == self.vector)
        self.rows = extent_of(self.row_index)
        self.length = extent_of(parts.row)
        self.elements: dict[str, Own] = {}  # local arrays of rows
        self.numbers: dict[str, Own] = {}  # sums and maxima so far
        self.results: dict[str, Own] = {}  # sums of last products
        self.i: Dim = 0  # the row, among this thread's own
        self.j: Dim = 0  # the element, or the number of a result, among those of this thread
        self.low: Dim = 0  # the first element of the part
        self.seen: Dim = 0  # below where elements may count

    def let(self, name: str, value: Dim, turns: Dim) -> None:
        """From here on `name` stands for an index expression that lies below `turns`."""
        self.out.add(Let(name, value))
        self.span(name, 0, turns - 1)

    def each(
        self, name: str, high: Dim, body: Callable[[Dim], None], step: int = 1,
        unrolled: bool | None = None, low: Dim = 0,
    ) -> None:
        """A loop in which memory changes."""
        self.span(name, low, high - 1)
        self.out.forget_memory()
        with self.out.block() as statements:
            body(symbol(name))
        self.out.loop(name, low, high, statements, step, unrolled=unrolled)
        self.out.forget_memory()

    # Memory

    def allocate(self) -> None:
        """Registers, what sums and maxima begin with, and shared memory."""
        for local in self.kernel.locals:
            own = next((c for c in self.parts.last if c.target.buffer == local.name), None)
            if own is not None:
                self.results[local.name] = self._own(
                    local.name, local.dtype, self.share.across(few(self.own_index(own))))
            elif local.dims:
                self.elements[local.name] = self._own(
                    local.name, local.dtype, self.share.across(self.wide))
        for compute in self.parts.sums:
            (first,) = self._empty(compute, 1)
            own_ = self.numbers[compute.target.buffer] = self._own(
                compute.target.buffer, first.dtype, 1)
            self.fill(own_, first)
        for result in self.results.values():
            self.fill(result, self.out.constant(result.dtype, 0.0))
        self.allocate_shared()

    @abstractmethod
    def allocate_shared(self) -> None:
        """The memory that threads share."""

    def _own(self, name: str, dtype: DType, across: int) -> Own:
        return Own(self.out.alloc(f"{name}.", dtype, self.share.down * across), dtype, across)

    def fill(self, own: Own, value: Register) -> None:
        """All numbers of a thread."""
        self.each("in.f", self.share.down * own.across,
                  lambda at: self.out.store(own.name, at, value), unrolled=True)

    def place_of(self, own: Own, j: Dim) -> Dim:
        """Where number `j` of the row lies among this thread's own."""
        return self.share.place(self.i, j, own.across)

    # Products

    def factors(self, compute: Compute) -> tuple[Arg, Arg]:
        """The factor that is of the tile's rows, and the other one."""
        return factors(compute, self.vector, self.elements)

    def own_index(self, compute: Compute) -> Index:
        """The index of a product besides the row's."""
        return next(i for i in compute.over if i != self.parts.row)

    def lies_along(self, compute: Compute, value: Arg, index: Index) -> bool:
        """Whether neighbours in memory lie along an index."""
        return any(stride(self.kernel, a, index, 1) == 1 for a in reads(compute, value) if a.at)

    def keep_below(self, *each: tuple[Dim, Dim, int]) -> None:
        """A place counts where each of some numbers lies below a bound, if that is not known
        because it goes in whole steps."""
        self.keep_where([(at, bound) for at, bound, step in each
                         if mod(bound, step) != 0 or step == 1])


def extent_of(index: Index) -> Dim:
    """The extent of an index that no data bound."""
    assert not isinstance(index.high, Access)
    return index.high


def few(index: Index) -> int:
    """The extent of an index of a product besides the row's."""
    assert isinstance(index.high, int)
    return index.high
