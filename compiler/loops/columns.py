"""Applying a GPU's schedule: sums down columns, whose neighbours lie along memory.

A block has `beside` places side by side, and `group` threads for each: neighbouring threads read
neighbours in memory, and each its part of the rows. What the threads of a place have found comes
together in a fixed order: within a warp by shuffles, then warp after warp through shared memory.

    place = chunk * 32 + thread % 32,  part = thread // 32       32 columns, 8 threads for each
    s = sum k: x[k, place]             k = part, and each 8th after it; then 8 sums, the first first

A tree over a column (`tree_sum`) has the pairs that it has on a CPU: each thread adds up a few
neighbours, then neighbouring threads. What is missing at the end counts as -0, to which any number
may be added. Columns of more rows than all threads take at a time leave the sums of such pieces in
their memory, whose tree is then added up in place.
"""

from __future__ import annotations

from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.threads import WARP, OnThreads
from dlc.ir.dims import Dim, at_least, ceildiv, floordiv, minimum, mod, product, symbol
from dlc.ir.kernel import Access, Compute
from dlc.ir.loops import LaneOp, Let
from dlc.ir.types import BOOL

NEIGHBOURS = 8  # rows that a thread adds up before others join in


class InColumns(OnThreads):
    """Applies a schedule that has places beside each other."""

    def body_of_block(self) -> None:
        """What the threads of one block do; those past the last place do it there, unwritten."""
        outer = [next(i for i in self.kernel.outer if i.name == n) for n in self.schedule.order]
        turns = [(i.name, self._turns(i)) for i in outer]
        self.total = product(tuple(count for _, count in turns))
        self.beside = self.schedule.beside
        thread = symbol("thread")
        self.out.add(Let("part", floordiv(thread, self.beside)))
        self.span("part", 0, self.group - 1)
        self.part = symbol("part")
        self.first = symbol("chunk") * self.beside + mod(thread, self.beside)
        self.all_live = mod(self.total, self.beside) == 0
        self.out.add(Let("place", self.first if self.all_live else minimum(
            self.first, self.total - 1)))
        self.span("place", 0, self.total - 1)
        self.number(turns, symbol("place"))
        self.sequence(self.kernel.body)

    def write(self, target: Access, value: Register) -> None:
        """Stores a value at the target's place, if this thread's is one."""
        if self.all_live or self.kernel.buffer(target.buffer).role == "local":
            super().write(target, value)
            return
        offset = self._offset(self.resolved(target))
        live = self.out.mask(self.first, self.total, 1)
        self.out.store(target.buffer, offset, value, live)

    def _meet(self) -> None:
        self.out.barrier()
        self.before = []

    def _sweep(self, run: list[Compute]) -> None:
        if run[0].combine is not None and run[0].combine.tree:
            self.locals[run[0].target.buffer] = self._tree(run[0])
        else:
            super()._sweep(run)

    # What the threads of a place have found, together

    @property
    def in_warp(self) -> list[int]:
        """How far apart the threads of a place are that lie in one warp, next ones first."""
        return [n for n in (1, 2, 4, 8, 16) if n >= self.beside]

    def over_row(self, op: LaneOp, value: Register, inner: bool) -> Register:
        """What all threads of the group have found, in a fixed order, for each of them."""
        for distance in reversed(self.in_warp):
            value = self._merged(op, value, self.out.shuffle(value, distance))
        found, *rest = self.of_warps(value)
        for other in rest:
            found = self._merged(op, found, other)
        return found

    def of_warps(self, value: Register) -> list[Register]:
        """What each warp has found for the place of this thread, the first warp's first."""
        wide = max(WARP, self.beside)  # threads of which one of each place tells it
        rows, thread = self.schedule.threads // wide, symbol("thread")
        if rows == 1:
            return [value]
        if value.dtype not in self.spare:
            self.spare[value.dtype] = self.out.alloc(
                "warps.", value.dtype, rows * self.beside, shared=True)
        memory = self.spare[value.dtype]
        column = mod(thread, self.beside)
        with self.out.block() as statements:
            self.out.store(memory, floordiv(thread, wide) * self.beside + column, value)
        self.out.when((self.beside - 1 - mod(thread, wide),), statements)
        self.out.barrier()
        found = [self.out.load(memory, row * self.beside + column, value.dtype)
                 for row in range(rows)]
        self.out.barrier()  # before the memory is used again
        self.before = []
        return found

    # Trees

    def _tree(self, compute: Compute) -> Register:
        """Adds up neighbours, then neighbours of neighbours, and so on."""
        (index,) = compute.over
        access = compute.value
        assert isinstance(access, Access)
        count = self._bound(index.high, self.point)
        piece = self.group * NEIGHBOURS
        if at_least(piece - count, 0):
            return self._tree_of_piece(access, index.name, 0, count)
        var = self.out.fresh("b")
        self.span(var, 0, ceildiv(count, piece) - 1)
        with self.out.block() as statements:
            first = symbol(var) * piece
            found = self._tree_of_piece(access, index.name, first, count)
            with self.out.block() as one:
                self._at(index.name, first)
                self.write(access, found)
            self.out.when((0 - self.part,), one)
        self.out.loop(var, 0, ceildiv(count, piece), statements)
        with self.out.block() as pieces:
            self._tree_in_place(access, index.name, piece, count)
        live = () if self.all_live else (self.total - 1 - self.first,)
        self.out.when((0 - self.part, *live), pieces)
        self._meet()
        self._at(index.name, 0)
        return self.read(access)

    def _at(self, name: str, place: Dim) -> None:
        self.point[name] = place
        self.offsets.clear()

    def _tree_of_piece(self, access: Access, name: str, first: Dim, count: Dim) -> Register:
        """The tree over as many rows as all threads of a place have together."""
        dtype = self.kernel.buffer(access.buffer).dtype
        values = []
        for k in range(NEIGHBOURS):
            at = first + self.part * NEIGHBOURS + k
            self._at(name, at)
            inside = self.out.mask(at, count, 1)
            value = self.out.load(access.buffer, self._offset(access), dtype, 1, inside)
            if dtype.is_float:  # of other numbers it is 0 already
                value = self._filled(value, [Register(inside, BOOL)], -0.0)
            values.append(value)
        value = self._pairs(values)
        for distance in self.in_warp:
            value = self._merged("add", value, self.out.shuffle(value, distance))
        return self._pairs(self.of_warps(value))

    def _pairs(self, values: list[Register]) -> Register:
        while len(values) > 1:
            values = [self._merged("add", a, b)
                      for a, b in zip(values[::2], values[1::2], strict=True)]
        return values[0]
