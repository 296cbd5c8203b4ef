"""Applying a GPU's schedule: places of the outer indices to threads.

All places are counted through, and so are the threads of all blocks: each thread has one place (or
a vector of them), or a group of threads has one together and shares the places along its row. The
statements for a place are those of a CPU.

    place = chunk * 8 + thread // 32        8 warps a block, a warp for each row
    m = max k: x[place, k]                  k = thread % 32, and each 32nd after it; then shuffles
"""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign

from dlc.compiler.kernels.sweeps import sweeps
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.sweep import Sweeping
from dlc.ir.dims import (
    Dim,
    as_multiples,
    ceildiv,
    evaluate,
    floordiv,
    mod,
    product,
    substitute,
    symbol,
)
from dlc.ir.kernel import (
    Access,
    Buffer,
    Compute,
    Index,
    Kernel,
    Opaque,
    Seq,
    computes,
    storage_size,
)
from dlc.ir.loops import LaneOp, Let, LoopFunction, Pointer
from dlc.ir.schedule import Schedule
from dlc.ir.types import BOOL, DType

WARP = 32
TABLE = 32 << 10  # bytes of shared memory for the arrays of threads
Body = tuple[Compute | Seq | Opaque, ...]


class OnThreads(Sweeping):
    """Applies a schedule that has threads."""

    def __init__(self, kernel: Kernel, schedule: Schedule) -> None:
        super().__init__(kernel, schedule)
        self.group = schedule.group
        self.spare: dict[DType, str] = {}  # shared memory through which warps pass values
        self.tables: set[str] = set()  # local arrays in shared memory
        local = {b.name for b in kernel.locals if b.dims}
        self.looked_up = {a.buffer for c in computes(kernel.body) for a in (*c.args, c.target)
                          if isinstance(a, Access) and any(isinstance(e, Access) for e in a.at)
                          } & local
        self.before: list[Compute] = []  # what was computed since all threads last met

    def function(self) -> LoopFunction:
        """The whole function."""
        threads = self.schedule.threads
        self.span("thread", 0, threads - 1)
        self.body_of_block()
        pointers = tuple(
            Pointer(b.name, b.dtype, b.role != "in") for b in self.kernel.params)
        return LoopFunction(self.kernel.name, self.kernel.symbols, pointers, self.schedule.chunks,
                            tuple(self.out.blocks[0]), threads, self.schedule.multiples)

    def body_of_block(self) -> None:
        """What the threads of one block do."""
        outer = [next(i for i in self.kernel.outer if i.name == n) for n in self.schedule.order]
        total = product(tuple(map(self._turns, outer)))
        thread, chunk = symbol("thread"), symbol("chunk")
        groups = self.schedule.threads // self.group
        if groups == 1:
            self._place_of(outer, chunk)
            return
        self.out.add(Let("place", chunk * groups + floordiv(thread, self.group)))
        self.span("place", 0, total - 1)
        with self.out.block() as statements:
            self._place_of(outer, symbol("place"))
        self.out.when((total - 1 - symbol("place"),), statements)

    def _turns(self, index: Index) -> Dim:
        """How many places, or vectors of places, an outer index has."""
        assert not isinstance(index.high, Access)
        wide = index.name == self.schedule.vector
        return ceildiv(index.high, self.schedule.lanes) if wide else index.high

    def _place_of(self, outer: list[Index], number: Dim) -> None:
        """All computes at the place with this number."""
        if self.group > 1:
            self.out.add(Let("part", mod(symbol("thread"), self.group)))
            self.span("part", 0, self.group - 1)
            self.part = symbol("part")
        self.number([(i.name, self._turns(i)) for i in outer], number)
        wide = next((i for i in outer if i.name == self.schedule.vector), None)
        if wide is None:
            self.sequence(self.kernel.body)
            return
        at, lanes = self.point[wide.name], self.schedule.lanes
        assert not isinstance(wide.high, Access)
        self.point[wide.name] = at * lanes + symbol("lane")
        self.vector_bound = wide.high
        if self.comes_out_even:
            self.whole = True
            self.sequence(self.kernel.body)
            return
        whole = floordiv(wide.high, lanes)
        for self.whole in (True, False):
            with self.out.block() as statements:
                self.sequence(self.kernel.body)
            self.out.when((whole - 1 - at if self.whole else at - whole,), statements)

    @property
    def comes_out_even(self) -> bool:
        """Whether the vector index has whole vectors alone."""
        index = next(i for i in self.kernel.outer if i.name == self.schedule.vector)
        assert not isinstance(index.high, Access)
        known = as_multiples(dict(self.schedule.multiples))
        return mod(substitute(index.high, known), self.schedule.lanes) == 0

    def number(self, turns: Sequence[tuple[str, Dim]], number: Dim) -> None:
        """Gives indices, of so many values each, theirs at the place with this number."""
        counts = tuple(count for _, count in turns)
        for at, (name, count) in reversed(list(enumerate(turns))):
            value = 0 if count == 1 else number
            if at and not isinstance(count, int):  # one division, which takes long
                whole = self.named("whole", floordiv(number, count), product(counts[:at]) - 1)
                value, number = number - whole * count, whole
            elif at:
                value, number = mod(number, count), floordiv(number, count)
            self.point[name] = value if value == 0 else self.named(name, value, count - 1)

    def sequence(self, body: Body) -> None:
        """The statements in order; those of a group in sweeps, which threads go along together."""
        if self.group == 1:
            super().sequence(body)
            return
        for run in sweeps([c for c in body if isinstance(c, Compute)]):
            self._meet_before(run)
            if run[0].over:
                self._sweep(run)
            else:
                self._alone(run[0])
            self.before += run

    def _alone(self, compute: Compute) -> None:
        """A compute that is not along the row: all threads may need its values, one writes them."""
        name = compute.target.buffer
        if self.kernel.buffer(name).role == "local":
            self.compute(compute)
            return
        value = self.value(compute)
        if any(isinstance(a, Access) and a.buffer == name for a in compute.args):
            self._meet()
        with self.out.block() as statements:
            self.write(compute.target, value)
        self.out.when((0 - self.part,), statements)

    def _array(self, name: str) -> Buffer | None:
        """A local array; one that is indexed by data is a column of shared memory, if that holds
        it: registers have no addresses."""
        if name in self.looked_up and name not in self.arrays:
            buffer = self.kernel.buffer(name)
            size = evaluate(storage_size(buffer.layout, buffer.dims), {}) * self.schedule.threads
            if size * buffer.dtype.size <= TABLE and self.group == self.width == 1:
                self.arrays[name] = self.out.alloc(f"{name}.", buffer.dtype, size, shared=True)
                self.tables.add(name)
        return super()._array(name)

    def _place(self, local: Buffer, access: Access) -> Dim:
        place = super()._place(local, access)
        if local.name not in self.tables:
            return place
        return place * self.schedule.threads + symbol("thread")

    def _meet_before(self, run: list[Compute]) -> None:
        """A barrier, if a thread would touch what another one touches."""
        if any(_clash(one, other) for one in run for other in self.before):
            self._meet()

    def _meet(self) -> None:
        self.out.barrier(warp=self.group == WARP)
        self.before = []

    def _guarded(self, access: Access, original: Access, fill: float) -> Register:
        """One element is loaded where all its indices are inside, and not touched elsewhere."""
        if self.schedule.lanes > 1:
            return super()._guarded(access, original, fill)
        buffer, keep = self.kernel.buffer(access.buffer), []
        for e, was, extent in zip(access.at, original.at, buffer.dims, strict=True):
            assert not isinstance(e, Access)
            if not self._always_inside(was, extent):
                keep.append(Register(self.out.mask(e, extent, 1, 0), BOOL))
        offset, keep = self._offset(access), self._inside(keep)
        if not keep:
            return self.out.load(access.buffer, offset, buffer.dtype)
        inside = self._all(keep)
        value = self.out.load(access.buffer, offset, buffer.dtype, 1, inside.name)
        return self._filled(value, [inside], fill) if fill or copysign(1, fill) < 0 else value

    def _inside(self, keep: list[Register]) -> list[Register]:
        """What must hold besides of a place that is read."""
        return keep

    def over_row(self, op: LaneOp, value: Register, inner: bool) -> Register:
        """What all threads of the group have found, in a fixed order, for each of them."""
        value = super().over_row(op, value, inner)
        distance = min(self.group, WARP) // 2
        while distance:
            other = self.out.shuffle(value, distance)
            value = self._merged(op, value, other)
            distance //= 2
        return self._over_warps(op, value) if self.group > WARP else value

    def _merged(self, op: LaneOp, a: Register, b: Register) -> Register:
        return self.out.apply(op, (a, b), a.dtype)

    def _over_warps(self, op: LaneOp, value: Register) -> Register:
        """The values of all warps, through shared memory."""
        warps, dtype = self.group // WARP, value.dtype
        if dtype not in self.spare:
            self.spare[dtype] = self.out.alloc("warps.", dtype, warps, shared=True)
        memory = self.spare[dtype]
        with self.out.block() as statements:
            self.out.store(memory, floordiv(symbol("thread"), WARP), value)
        self.out.when((0 - mod(symbol("thread"), WARP),), statements)
        self.out.barrier()
        found = self.out.load(memory, 0, dtype)
        for warp in range(1, warps):
            found = self._merged(op, found, self.out.load(memory, warp, dtype))
        self.out.barrier()  # before the memory is used again
        self.before = []
        return found


def _clash(one: Compute, other: Compute) -> bool:
    """Whether a thread of `one` may touch what another thread of `other` writes, or the other way
    round. What two computes along the row touch at the same place, they touch in the same thread.
    """
    for first, second in ((one, other), (other, one)):
        touched = [a for a in (*second.args, second.target) if isinstance(a, Access)]
        for access in touched:
            same = access.at == first.target.at and one.over == other.over != ()
            if access.buffer == first.target.buffer and access.at and not same:
                return True
    return False

