"""Applying a schedule: rows that lie side by side, a stripe of vectors of them at a time.

Where the lanes lie across the rows, neighbours along a row are far apart in memory. A turn along
the row then goes over all vectors of a stripe, so that memory is read and written in long pieces.
What is known of each row (its sums, and what is made of them) lies in an array for the stripe:

    for k along the rows:
        for t, the vectors of the stripe:
            sums[t] += x[k, t]
    for t, the vectors of the stripe:
        mean[t] = sums[t] / n
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.sweep import Sweeping, sweeps
from dlc.ir.dims import Dim, ceildiv, floordiv, minimum, symbol
from dlc.ir.kernel import Access, Compute, Opaque, Seq


class Striping(Sweeping):
    """Carries out the body of a kernel whose schedule has sweeps over stripes."""

    striped = False
    kept: dict[str, list[tuple[str, Register]]]  # arrays of a local, with what they hold

    def sequence(self, body: tuple[Compute | Seq | Opaque, ...]) -> None:
        """The statements in order; in sweeps over a stripe if the schedule says so."""
        if not self.schedule.sweep or not self.schedule.tiles:
            super().sequence(body)
            return
        self.kept, self.striped, before = {}, True, dict(self.point)
        runs = sweeps([c for c in body if isinstance(c, Compute)])
        for along, group in groupby(runs, lambda run: bool(run[0].over)):
            if along:
                for run in group:
                    self._sweep_stripe(run)
            else:
                alone = [c for run in group for c in run]
                self._each_vector(lambda alone=alone: self._here(alone))  # type: ignore[misc]
        self.point, self.striped = before, False

    @property
    def number(self) -> Dim:
        """The number of the vector in the stripe, where there is a loop over them."""
        return symbol(f"{self.schedule.vector}.s")

    def _here(self, computes: list[Compute]) -> None:
        for compute in computes:
            self.here(compute)

    def _sweep_stripe(self, run: list[Compute]) -> None:
        """One sweep along the rows of a stripe."""
        sums = [c for c in run if c.combine is not None]
        for compute in sums:
            self._begin(compute)
        order = self.schedule.reduce
        over = sorted(run[0].over, key=lambda i: order.index(i.name) if i.name in order else -1)
        before = dict(self.point)
        self._along_rows(run, [i.name for i in over], 0)
        self.point = before

    def _begin(self, compute: Compute) -> None:
        """Arrays for the accumulators of a reduction, empty."""
        empty = self._empty(compute, self.schedule.lanes)
        name = compute.target.buffer
        self.kept[name] = [(self._array_of(name, r), r) for r in empty]

        def fill() -> None:
            for (array, _), register in zip(
                    self.kept[name], self._empty(compute, self.schedule.lanes), strict=True):
                self.out.store(array, self.number * self.schedule.lanes, register)

        self._each_vector(fill)

    def _array_of(self, name: str, like: Register) -> str:
        size = self.schedule.tile(self.schedule.vector) * self.schedule.lanes
        return self.out.alloc(f"{name}.", like.dtype, size)

    def _along_rows(self, run: list[Compute], names: list[str], depth: int) -> None:
        """The loops along the rows, the last one several places a turn."""
        index = next(i for i in run[0].over if i.name == names[depth])
        low, high = (self._bound(b, self.point) for b in (index.low, index.high))
        if depth + 1 < len(names):
            self.span(index.name, low, high - 1)
            self.point[index.name] = symbol(index.name)
            with self.out.block() as body:
                self._along_rows(run, names, depth + 1)
            self.out.loop(index.name, low, high, body)
            return
        side = self.schedule.sweep
        whole = self.simple(floordiv(high - low, side))
        self._turns(run, index.name, (f"{index.name}.b", 0, whole), low, side)
        first = low + whole * side
        self._turns(run, index.name, (f"{index.name}.t", first, high), 0, 1)

    def _turns(
        self, run: list[Compute], name: str, loop: tuple[str, Dim, Dim], low: Dim, side: int
    ) -> None:
        """A loop along the rows that takes `side` places a turn."""
        var, first, last = loop
        if self.simple(last - first) == 0:
            return
        self.span(var, first, last - 1)

        def vector() -> None:
            states = {c.target.buffer: self._loaded(c.target.buffer) for c in run if c.combine}
            for k in range(side):
                self.point[name] = low + symbol(var) * side + k
                for compute in run:
                    if compute.combine is None:
                        self.here(compute)
                    else:
                        key = compute.target.buffer
                        states[key] = self._step(compute, dict(self.point), states[key])
            for key, state in states.items():
                self._keep(key, state)

        with self.out.block() as body:
            self._each_vector(vector)
        self.out.loop(var, first, last, body)

    def _loaded(self, name: str) -> tuple[Register, ...]:
        """What is known of the rows of the vector here."""
        at, lanes = self.number * self.schedule.lanes, self.schedule.lanes
        return tuple(self.out.load(array, at, like.dtype, lanes)
                     for array, like in self.kept[name])

    def _keep(self, name: str, state: tuple[Register, ...]) -> None:
        at, lanes = self.number * self.schedule.lanes, self.schedule.lanes
        if name not in self.kept:
            self.kept[name] = [(self._array_of(name, r), r) for r in state]
        for (array, _), register in zip(self.kept[name], state, strict=True):
            self.out.store(array, at, self.out.widen(register, lanes))

    def read(self, access: Access) -> Register:
        """An element or a vector; of what is known of the rows here, from its array."""
        if self.striped and access.buffer in self.kept and not access.at:
            return self._loaded(access.buffer)[-1]
        return super().read(access)

    def write(self, target: Access, value: Register) -> None:
        """Stores a value, in its array if it is a number of the rows here."""
        if self.striped and not target.at and self.kernel.buffer(target.buffer).role == "local":
            self._keep(target.buffer, (value,))
        else:
            super().write(target, value)

    def _each_vector(self, fill: Callable[[], None]) -> None:
        """What `fill` makes for each vector of the stripe; the last of all may be ragged."""
        name, lanes = self.schedule.vector, self.schedule.lanes
        size = self.schedule.tile(name)
        first = symbol(f"{name}.b") * size
        before = self.point[name]
        count = self.simple(minimum(size, ceildiv(self.vector_bound, lanes) - first))
        whole = self.simple(minimum(size, floordiv(self.vector_bound, lanes) - first))
        self.span(str(self.number), 0, size - 1)
        for self.whole, low, high in ((True, 0, whole), (False, whole, count)):
            if self.simple(high - low) == 0:
                continue
            with self.out.block() as body:
                self.out.forget_memory()
                self.point[name] = before + self.number * lanes
                fill()
            self.out.loop(str(self.number), low, high, body)
        self.point[name], self.whole = before, False
