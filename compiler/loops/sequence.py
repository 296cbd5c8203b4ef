"""Applying a schedule: computes one after another, ordered loops between them, arrays as locals."""

from __future__ import annotations

from dataclasses import replace

from dlc.compiler.kernels.accesses import uses
from dlc.compiler.kernels.ranges import bind
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.compute import Computing
from dlc.compiler.loops.reduce import Reducing
from dlc.ir.dims import Dim, evaluate, symbol
from dlc.ir.kernel import Access, Buffer, Compute, Opaque, Seq, address, storage_size


class Sequencing(Reducing, Computing):
    """Carries out the body of a kernel at one place of the outer loops.

    A local with dims is an array on the stack, with an element for each lane of the vector index.
    """

    def sequence(self, body: tuple[Compute | Seq | Opaque, ...]) -> None:
        """The statements in order."""
        for item in body:
            if isinstance(item, Opaque):
                raise ValueError("an opaque kernel is printed, not scheduled")
            if isinstance(item, Seq):
                self._ordered(item)
            else:
                self.compute(item)

    def compute(self, compute: Compute) -> None:
        """A compute; the indices of its own that its target has are loops around it."""
        if compute.where and compute.combine is None and not compute.over:
            conditions = tuple(bind(e, self.point, self.ranges) for e in compute.where)
            with self.out.block() as statements:
                self._one(replace(compute, where=()))
            self.out.when(conditions, statements)
            return
        free = [i for i in compute.over if uses(compute.target, i.name)]
        if not free:
            self._one(compute)
            return
        index, rest = free[0], tuple(i for i in compute.over if i is not free[0])
        low, high = (self._bound(b, self.point) for b in (index.low, index.high))
        self.span(index.name, low, high - 1)
        before = dict(self.point)
        self.point[index.name] = symbol(index.name)
        with self.out.block() as statements:
            self.compute(replace(compute, over=rest))
        self.out.loop(index.name, low, high, statements)
        self.point = before

    def _one(self, compute: Compute) -> None:
        local = self._array(compute.target.buffer)
        if local is None:
            super().compute(compute)
            return
        if compute.combine is not None:
            value = self.reduce_here(compute)
        else:
            value = self.value(compute)
        wide = self.out.widen(value, self.width)
        self.out.store(self.arrays[local.name], self._place(local, compute.target), wide)

    @property
    def width(self) -> int:
        """The lanes of a local: those of the vector index, if it is an outer one."""
        return self.schedule.lanes if self._outer_vector() else 1

    def _array(self, name: str) -> Buffer | None:
        """The local array called `name`, allocated at its first use."""
        buffer = self.kernel.buffer(name)
        if buffer.role != "local" or not buffer.dims:
            return None
        if name not in self.arrays:
            size = evaluate(storage_size(buffer.layout, buffer.dims), {})
            self.arrays[name] = self.out.alloc(f"{name}.", buffer.dtype, size * self.width)
        return buffer

    def _place(self, local: Buffer, access: Access) -> Dim:
        index = tuple(bind(e, self.point, self.ranges) for e in self.resolved(access).at
                      if not isinstance(e, Access))
        return self.simple(address(local.layout, local.dims, index)) * self.width

    def read(self, access: Access) -> Register:
        """An element of a buffer, of a local array, or a local register."""
        local = self._array(access.buffer)
        if local is None:
            return super().read(access)
        return self.out.load(
            self.arrays[local.name], self._place(local, access), local.dtype, self.width)

    def _ordered(self, seq: Seq) -> None:
        """An ordered loop; registers that it carries keep their values from turn to turn."""
        low, high = (self._bound(b, self.point) for b in (seq.index.low, seq.index.high))
        name = seq.index.name
        self.span(name, low, high - 1)
        before = dict(self.point)
        at = symbol(name)
        self.point[name] = low + high - 1 - at if seq.reverse else at
        carried = tuple(c for c in seq.carried if not self.kernel.buffer(c).dims)
        state = tuple(self.out.widen(self.locals[c], self.width) for c in carried)

        def body(inside: list[tuple[Register, ...]]) -> list[tuple[Register, ...]]:
            self.out.forget_memory()  # a turn may read what the one before has written
            self.locals |= dict(zip(carried, inside[0], strict=True))
            self.sequence(seq.body)
            return [tuple(self.out.widen(self.locals[c], self.width) for c in carried)]

        if carried:
            (after,) = self._loop(name, low, high, [state], body)
            self.locals |= dict(zip(carried, after, strict=True))
        else:
            with self.out.block() as statements:
                self.out.forget_memory()
                self.sequence(seq.body)
            self.out.loop(name, low, high, statements)
        self.point = before
