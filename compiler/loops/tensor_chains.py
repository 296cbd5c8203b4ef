"""Applying a GPU's schedule: chains of products on tensor cores.

As in `block_chains.py`, a block goes along a tile of rows part by part. A warp has 16 rows, or
twice as many, and all elements of a part: what a thread has of the matrices that one product gives
is what it needs of the left matrices of the next one (Dao 2023, FlashAttention-2). So elements
never leave registers between the products. What products read of the rows themselves is in shared
memory all the time, and what they read of the parts in a few stages: while one is multiplied,
copies of the next ones are on their way.

    copies of what is read of the rows, and of the first parts
    for the parts of the rows:
      wait for the copies of this part;  barrier
      start the copies of a later part, into the stage that was read last
      rows[i, j] = …              matrices of 16 x 8, a step of the sum after another
      elements, maxima and sums
      sums[i, e] += …
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from dlc.compiler.kernels.chain_parts import ChainRead, chain_reads
from dlc.compiler.loops.block_chain_memory import Own, extent_of
from dlc.compiler.loops.block_chains import InBlockChains
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.panel_copies import OnPanels, Source
from dlc.compiler.loops.tensor_panels import Panel, chain_panel
from dlc.compiler.loops.threads import WARP
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, floordiv, mod, symbol
from dlc.ir.kernel import Access, Compute, Kernel
from dlc.ir.schedule import ChainTile, Schedule
from dlc.ir.types import F32

ROWS, COLUMNS = 16, 8  # of a matrix of sums
BESIDE = 4  # threads that have the same rows of a matrix


@dataclass(frozen=True, slots=True)
class InMatrices:
    """Warps stand below each other; a thread has two rows of each matrix of sums, and two numbers
    of each row: its registers of one matrix follow each other."""

    tile: ChainTile

    @property
    def height(self) -> int:
        """The rows of the tile."""
        return self.tile.height

    @property
    def down(self) -> int:
        """The rows of a thread."""
        return 2 * self.tile.down

    @property
    def beside(self) -> int:
        """The threads that have the same rows."""
        return BESIDE

    def across(self, columns: int) -> int:
        """How many of so many numbers of a row a thread has, of pairs of matrices."""
        return -(-columns // (2 * COLUMNS)) * 4

    def row(self, i: Dim) -> Dim:
        """The row of the tile."""
        group = symbol("ty")
        return (floordiv(group, COLUMNS) * (self.tile.down * ROWS) + floordiv(i, 2) * ROWS
                + mod(i, 2) * 8 + mod(group, COLUMNS))

    def column(self, j: Dim, across: int) -> Dim:
        """The number in the row."""
        return floordiv(j, 2) * COLUMNS + symbol("tx") * 2 + mod(j, 2)

    def place(self, i: Dim, j: Dim, across: int) -> Dim:
        """Where it lies: matrices one after another."""
        return (floordiv(i, 2) * (across // 2) + floordiv(j, 2)) * 4 + mod(i, 2) * 2 + mod(j, 2)


@dataclass(frozen=True, slots=True)
class Held:
    """A panel, what of a product it holds, and how many elements are copied at once."""

    panel: Panel
    read: ChainRead
    lanes: int


class InTensorChains(OnPanels, InBlockChains):
    """Applies a schedule that has rows of a chain on tensor cores."""

    def __init__(self, kernel: Kernel, schedule: Schedule) -> None:
        assert schedule.chain is not None
        self.tile: ChainTile = schedule.chain
        super().__init__(kernel, schedule, self.tile.rows, InMatrices(self.tile))
        self.held: list[Held] = []
        self.direct = any(self.tile.copied)

    def allocate_shared(self) -> None:
        """Panels: of the rows one each, of the parts a few stages."""
        reads = chain_reads(self.kernel, self.parts, self.row_index)
        for read, lanes in zip(reads, self.tile.copied, strict=True):
            along = lanes == 0 or self.lies_along(read.compute, read.value, read.over)
            name = read.value.buffer if isinstance(read.value, Access) else "panel"
            like = chain_panel("", read, self.parts, self.schedule, along)
            stages = 1 if read.lines is self.row_index else self.tile.stages
            memory = self.out.alloc(f"{name}.", like.dtype, stages * like.room, shared=True)
            self.held.append(Held(replace(like, memory=memory), read, lanes))
        self.let("in.warp", mod(symbol("thread"), WARP), WARP)

    # Copies

    def begin_parts(self, low: Dim) -> None:
        """Starts the copies of what is read of the rows, and of all parts that there is room for
        but one."""
        for held in self.held:
            if held.read.lines is self.row_index:
                self._copy(held, 0, 0)
        for number in range(self.tile.stages - 1):
            self._copy_part(low + number * self.wide)

    def begin_part(self) -> None:
        """Waits for the copies of this part, and starts those of a later one."""
        if self.direct:
            self.out.wait_for_copies(self.tile.stages - 2)
        self.out.barrier()
        self.let("stage", self._stage(self.low), self.tile.stages)
        self._copy_part(self.low + (self.tile.stages - 1) * self.wide)

    def _stage(self, low: Dim) -> Dim:
        """The stage of the part that begins there."""
        return mod(floordiv(low, self.wide), self.tile.stages)

    def _copy_part(self, low: Dim) -> None:
        """Starts the copies of a part, if there is one."""
        with self.out.block() as body:
            for held in self.held:
                if held.read.lines is not self.row_index:
                    self._copy(held, low, self._stage(low))
        self.out.when((self.seen - 1 - low,), body)
        if self.direct:
            self.out.end_copies()

    def _copy(self, held: Held, low: Dim, stage: Dim) -> None:
        read, panel = held.read, held.panel
        source = Source(read.compute, read.value, partial(self._stand, held, low), held.lanes,
                        self.lies_along(read.compute, read.value, read.over))
        if held.lanes:
            self.start_copies(panel, source, stage, rolled=True)
        else:
            self.copy_pieces(panel, source, stage)

    def _stand(self, held: Held, low: Dim, m: Dim, k: Dim) -> None:
        """The indices stand at a place of a panel, of the part that begins at `low`."""
        below = []
        for index, at, size in ((held.read.lines, m, held.panel.size),
                                (held.read.over, k, held.panel.depth)):
            if index is self.row_index:
                at = symbol("first.r") + at
            elif index == self.parts.row:
                at = low + at
            self.point[index.name] = at
            below.append((at, extent_of(index), size))
        self.keep_below(*below)

    # Products

    def inner(self, compute: Compute) -> None:
        """This thread's elements of a product."""
        made = self.elements[compute.target.buffer]
        left, right = (h.panel for h in self.held if h.read.compute is compute)
        first = floordiv(symbol("ty"), COLUMNS) * (self.tile.down * ROWS)
        self.fill(made, self.out.constant(F32, 0.0))

        def step(k: Dim) -> None:
            rows = [self.matrices(left, (0, first + ROWS * i, k), True)
                    for i in range(self.tile.down)]
            self._multiply(rows, right, k, made)

        self._each_step(left.depth, step, unrolled=False)

    def last(self, compute: Compute) -> None:
        """Adds the part to this thread's sums of a last product."""
        made = self.results[compute.target.buffer]
        (right,) = (h.panel for h in self.held if h.read.compute is compute)

        def step(k: Dim) -> None:
            rows = [self._fragments(compute, i, k) for i in range(self.tile.down)]
            self._multiply(rows, right, k, made, of_sums=True)

        self._each_step(self.wide, step, unrolled=True)

    def _each_step(self, places: int, body: Callable[[Dim], None], unrolled: bool) -> None:
        """A loop over the steps of a sum; the first place of each is known to be a multiple."""
        step = self.tile.step
        self.each("in.k", places // step, lambda k: body(k * step), unrolled=unrolled)

    def _multiply(
        self, rows: list[Register], right: Panel, k: Dim, made: Own, of_sums: bool = False
    ) -> None:
        """Adds one step of a sum: of 16 columns at a time, which are two matrices."""
        pairs = made.across // 4

        def both(n: Dim) -> None:
            at = symbol("stage"), 2 * COLUMNS * n, k
            columns = self.matrices(right, at, False, of_sums)
            for i, left in enumerate(rows):
                for second in (False, True):
                    place = ((i * pairs + n) * 2 + second) * 4
                    sums = self.out.load(made.name, place, F32, 4)
                    sums = self.out.tensor(left, columns, second, sums, self.tile.dtype)
                    self.out.store(made.name, place, sums)

        self.each("in.n", pairs, both, unrolled=True)

    def _fragments(self, compute: Compute, number: int, k: Dim) -> Register:
        """This thread's part of 16 rows of elements, at one step of the sum."""
        half = self.tile.step // COLUMNS  # numbers of the thread in a row of half a step
        values = [self._weight(compute, 2 * number + below, floordiv(k, 4) + half * right + at)
                  for right in range(2) for below in range(2) for at in range(half)]
        return self.out.fragments(values, self.tile.dtype)

    def _weight(self, compute: Compute, i: Dim, j: Dim) -> Register:
        """An element as a factor; 0 where there is none."""
        value, _ = self.factors(compute)
        if isinstance(value, Access):
            self.i = i
        else:
            self.go_to_row(i)
        inside = self.go_to_element(j)
        return self.where_inside(inside, self.kept(compute, value), self.out.constant(F32, 0.0))
