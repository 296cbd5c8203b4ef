"""Applying a schedule: chains of products, a part of the rows of a tile at a time.

The rows of a tile lie in the lanes of some vectors; their elements lie in local arrays, an element
of all rows in each line. What the inner products read along the rows' index is transposed into
panels first.

    panels = what is read of the tile's rows, turned
    for the parts of the row:
        rows[k] = …                 inner products: tiles of elements and vectors
        for the vectors of the tile:
            elements, maxima and sums of the part, which are added to those so far
        sums[e] += …                last products: tiles of sums and vectors
    for the vectors of the tile:
        numbers, results            transposed where rows are not neighbours in memory

Where a row has a maximum m by which x is shifted in exp (x - m), each part may raise it. All sums
so far are then multiplied by exp (m before - m now).
"""

from __future__ import annotations

from functools import partial

from dlc.compiler.kernels.accesses import LANE, offset_of
from dlc.compiler.kernels.chain_parts import chain_parts
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.chain_memory import ChainMemory, extent_of
from dlc.compiler.loops.reduce import VECTOR_PLACE, State
from dlc.compiler.loops.sweep import States, Sweeping, sweeps
from dlc.ir.dims import Dim, ceildiv, coefficient, minimum, symbol
from dlc.ir.kernel import Access, Compute, Index
from dlc.ir.types import BOOL


class Chaining(Sweeping, ChainMemory):
    """Carries out a chain of products for the rows of one tile."""

    def chained(self) -> None:
        """All of the kernel for the rows of this tile."""
        parts = chain_parts(self.kernel)
        assert parts is not None
        self.parts, schedule = parts, self.schedule
        self.first = self.point[schedule.vector]
        self.vectors = schedule.tile(schedule.vector)
        self.wide = self.vectors * schedule.lanes
        self.live = self.simple(minimum(self.vectors, ceildiv(
            self.vector_bound - self.vector_base, schedule.lanes)))
        assert not isinstance(parts.row.high, Access)
        self.length = parts.row.high
        self.allocate()
        self.fill_panels()
        self.each(f"{parts.row.name}.p", self.simple(
            ceildiv(self.length, schedule.part)), self._part)
        self.each(f"{schedule.vector}.v", self.live, self._finish)
        self.point[schedule.vector] = self.first

    def _part(self, number: Dim) -> None:
        """All that is done for a part of the rows."""
        row, schedule, low = self.parts.row, self.schedule, number * self.schedule.part
        high = self.named(row.name, minimum(low + schedule.part, self.length), self.length, 1)
        self.part_low, self.part_high = low, high
        for compute in self.parts.inner:
            self._inner(compute)
        self.each(f"{schedule.vector}.v", self.live, self._rows)
        for compute in self.parts.last:
            self._last(compute)

    def _inner(self, compute: Compute) -> None:
        """Elements of the part, a tile of them and of vectors at a time."""
        row, own = self.parts.row, self.own_index(compute)
        side = self.schedule.tile(row.name)

        def tile(at: Dim) -> None:
            points = []
            for k in range(side):  # past the end, the last one again
                here = minimum(self.part_low + at * side + k, self.part_high - 1)
                points += self.vector_points({row.name: self.named(
                    row.name, here, self.length - 1)})
            states = self._products(compute, points, own)
            for k, (register,) in enumerate(states):
                line = at * side + k // self.vectors
                place = line * self.wide + k % self.vectors * self.schedule.lanes
                self.out.store(self.arrays[compute.target.buffer], place, register)

        self.each(f"{row.name}.t", self.simple(
            ceildiv(self.part_high - self.part_low, side)), tile)

    def _products(
        self, compute: Compute, points: list[dict[str, Dim]], own: Index,
        states: list[State] | None = None,
    ) -> list[State]:
        before = dict(self.point)
        empty = [self._empty(compute, self.schedule.lanes) for _ in points]
        states = self._loops(compute, points, [own], states or empty, {})
        self.point = before
        return states

    def _step(self, compute: Compute, point: dict[str, Dim], state: State) -> State:
        if VECTOR_PLACE in point:
            self.place = point[VECTOR_PLACE]
        return super()._step(compute, point, state)

    def _last(self, compute: Compute) -> None:
        """Adds the part to the sums of a last product."""
        own, row = self.own_index(compute), self.parts.row
        side, high = self.schedule.tile(own.name), extent_of(own)
        array, lanes = self.arrays[compute.target.buffer], self.schedule.lanes

        def tile(at: Dim) -> None:
            points, places = [], []
            for k in range(side):
                line = at * side + k
                value = line if high % side == 0 else self.named(
                    own.name, minimum(line, high - 1), high - 1)
                points += self.vector_points({own.name: value})
                places += [line * self.wide + v * lanes for v in range(self.vectors)]
            dtype = self._empty(compute, lanes)[0].dtype
            states: list[State] = [(self.out.load(array, p, dtype, lanes),) for p in places]
            part = Index(row.name, self.part_high, self.part_low)
            for place, (register,) in zip(
                    places, self._products(compute, points, part, states), strict=True):
                self.out.store(array, place, register)

        self.each(f"{own.name}.t", -(-high // side), tile)

    # Elements and numbers of rows

    def _rows(self, place: Dim) -> None:
        """Elements, maxima and sums of the part, for one vector of the tile."""
        self.at_vector(place)
        top, shift = self.parts.top, self.parts.shift
        before: tuple[Register, Register] | None = None
        if top is not None and shift is not None:
            self._load_sums()
            self._row_numbers()
            before = self.locals[top.target.buffer], self.locals[shift.buffer]
        for run in sweeps(list(self.parts.along)):
            if run[0].over:
                self._sweep_part(run)
            else:
                self.compute(run[0])
            if before is not None and any(c.target == shift for c in run):
                self._rescale(*before)

    def _load_sums(self) -> None:
        for compute in self.parts.sums:
            name = compute.target.buffer
            like = self._empty(compute, self.schedule.lanes)[0]
            self.locals[name] = self.out.load(
                self.arrays[name], self.place * self.schedule.lanes, like.dtype, like.lanes)

    def _row_numbers(self) -> None:
        """The numbers of rows that elements need, by the sums so far."""
        for compute in self.parts.along:
            if not compute.over:
                self.compute(compute)

    def _sweep_part(self, run: list[Compute]) -> None:
        """Computes side by side over the part; sums and maxima go to those so far."""
        row, name = self.parts.row, f"{self.parts.row.name}.s"
        sums = [c for c in run if c.combine is not None]
        self.span(row.name, 0, self.length - 1)
        self.span(name, 0, self.length - 1)

        def body(states: States) -> States:
            self.out.forget_memory()
            return self._one_place(run, row, symbol(name), 0, states)

        empty = [[self._empty(c, self.schedule.lanes)] for c in sums]
        states = self._carrying(name, self.part_low, self.part_high, empty, body)
        self.out.forget_memory()
        for compute, ((found,),) in zip(sums, states, strict=True):
            self._add(compute, found)

    def _add(self, compute: Compute, found: Register) -> None:
        """Puts the sum or maximum of a part to that so far."""
        assert compute.combine is not None
        array, at = self.arrays[compute.target.buffer], self.place * self.schedule.lanes
        self.out.forget_memory()
        old = self.out.load(array, at, found.dtype, found.lanes)
        op = "add" if compute.combine.kind == "sum" else "maximum"
        value = self.out.apply(op, (old, found), found.dtype)
        self.out.store(array, at, value)
        self.locals[compute.target.buffer] = value

    def _rescale(self, top: Register, before: Register) -> None:
        """Multiplies the sums so far by exp (m before - m now).

        `top` is the maximum so far; where it is -inf there are no sums yet.
        """
        assert self.parts.shift is not None
        now, dtype = self.locals[self.parts.shift.buffer], before.dtype
        scale = self.out.apply("exp", (self.out.apply("sub", (before, now), dtype),), dtype)
        for other, at, value in ((top, float("-inf"), 0.0), (before, now, 1.0)):
            known = at if isinstance(at, Register) else self.out.constant(dtype, at)
            same = self.out.apply("eq", (other, known), BOOL)
            scale = self.out.apply("select", (same, self.out.constant(dtype, value), scale), dtype)
        for compute in self.parts.sums:
            if compute is not self.parts.top:
                self._scale(compute, scale, 0)
        for compute in self.parts.last:
            self.each("z", self.lines_of(compute.target.buffer),
                       partial(self._scale, compute, scale))

    def _scale(self, compute: Compute, scale: Register, line: Dim) -> None:
        array = self.arrays[compute.target.buffer]
        at = line * self.wide + self.place * self.schedule.lanes
        value = self.out.load(array, at, scale.dtype, scale.lanes)
        self.out.store(array, at, self.out.apply("mul", (value, scale), scale.dtype))

    # Results

    def _finish(self, place: Dim) -> None:
        """The numbers and results of one vector of rows."""
        self.at_vector(place)
        self._load_sums()
        for compute in self.parts.after:
            if compute.over:
                self._result(compute, compute.over[0])
            else:
                self.compute(compute)

    def _result(self, compute: Compute, own: Index) -> None:
        """What a last product gives; transposed if its own index runs along memory."""
        lanes, high = self.schedule.lanes, extent_of(own)
        self.point[own.name] = symbol(own.name)
        offset = self._offset(compute.target)
        if coefficient(offset, LANE) == 1 or coefficient(offset, own.name) != 1:

            def one(at: Dim) -> None:
                self.point[own.name] = at
                self.here(compute)

            self.each(own.name, high, one)
        else:
            self.each(own.name, -(-high // lanes),
                       lambda at: self._turned_result(compute, own.name, at * lanes, high))

    def _turned_result(self, compute: Compute, name: str, low: Dim, high: int) -> None:
        """As many values as there are lanes, of each row in the lanes."""
        lanes, vector = self.schedule.lanes, self.schedule.vector
        columns = []
        for k in range(lanes):
            self.point[name] = low + k if high % lanes == 0 else minimum(low + k, high - 1)
            columns.append(self.out.widen(self.value(compute), lanes))
        mask = self.out.mask(low, high, lanes) if high % lanes else ""
        before = dict(self.point)
        first = self.vector_base
        for lane, row in enumerate(self.out.transpose(columns)):
            self.point[name], self.point[vector] = low, first + lane
            at = offset_of(self.kernel, compute.target, self.point, self.ranges)
            with self.out.block() as statements:
                self.out.store(compute.target.buffer, at, row, mask)
            self.out.when((self.vector_bound - 1 - first - lane,), statements)
        self.point = before
