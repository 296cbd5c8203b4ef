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

from collections.abc import Callable

from dlc.compiler.kernels.accesses import LANE, offset_of, uses
from dlc.compiler.kernels.chain_parts import ChainParts, chain_parts
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.reduce import State
from dlc.compiler.loops.sweep import sweeps
from dlc.compiler.loops.turns import Turning
from dlc.ir.dims import Dim, ceildiv, coefficient, minimum, symbol
from dlc.ir.kernel import Access, Compute, Index
from dlc.ir.loops import Let
from dlc.ir.types import BOOL


class Chaining(Turning):
    """Carries out a chain of products for the rows of one tile."""

    parts: ChainParts
    panels: dict[Access, str] = {}  # noqa: RUF012  where what was turned lies
    part_low: Dim = 0  # the first element of the part
    place: Dim = 0  # the vector of the tile, here

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
        self._allocate()
        self._fill_panels()
        count = self.simple(ceildiv(parts.row.high, schedule.part))  # type: ignore[arg-type]
        self._each(f"{parts.row.name}.p", count, self._part)
        self._each(f"{schedule.vector}.v", self.live, self._finish)
        self.point[schedule.vector] = self.first

    def _each(self, name: str, high: Dim, body: Callable[[Dim], None]) -> None:
        """A loop in which memory changes."""
        self.span(name, 0, high - 1)
        self.out.forget_memory()
        with self.out.block() as statements:
            body(symbol(name))
        self.out.loop(name, 0, high, statements)
        self.out.forget_memory()

    def _at_vector(self, place: Dim) -> None:
        """Goes to a vector of the tile."""
        self.place = place
        self.point[self.schedule.vector] = self.first + place * self.schedule.lanes

    # Memory

    def _allocate(self) -> None:
        """Memory for elements of a part, for numbers of rows and for sums so far."""
        for local in self.kernel.locals:
            if local.dims:
                lines = self.schedule.part if local.dims == (self.parts.row.high,) else 0
                self.arrays[local.name] = self.out.alloc(
                    f"{local.name}.", local.dtype, (lines or self._lines(local.name)) * self.wide)
        for compute in self.parts.sums:
            name = compute.target.buffer
            empty = self._empty(compute, self.schedule.lanes)[0]
            self.arrays[name] = self.out.alloc(f"{name}.", empty.dtype, self.wide)
            for k in range(self.vectors):
                self.out.store(self.arrays[name], k * self.schedule.lanes, empty)
        for compute in self.parts.last:
            zero = self._empty(compute, self.schedule.lanes)[0]
            name = compute.target.buffer
            self._each("z", self._lines(name) * self.vectors, lambda at, name=name, zero=zero: (
                self.out.store(self.arrays[name], at * self.schedule.lanes, zero)))

    def _lines(self, name: str) -> int:
        """The sums of a last product, filled up to whole tiles."""
        own = self._own(next(c for c in self.parts.last if c.target.buffer == name))
        side = self.schedule.tile(own.name)
        assert isinstance(own.high, int)
        return -(-own.high // side) * side

    def _own(self, compute: Compute) -> Index:
        """The index of a product besides the row's."""
        return next(i for i in compute.over if i != self.parts.row)

    def _fill_panels(self) -> None:
        """Copies what inner products read along the rows' index."""
        self.panels = {}
        for compute in self.parts.inner:
            own = self._own(compute)
            assert isinstance(own.high, int)
            for access in (a for a in compute.args if isinstance(a, Access)):
                if uses(access, self.schedule.vector) and access not in self.panels:
                    lanes = self.schedule.lanes
                    dtype = self.kernel.buffer(access.buffer).dtype
                    panel = self.out.alloc("panel", dtype, -(-own.high // lanes) * lanes * self.wide)
                    self._each(f"{self.schedule.vector}.v", self.vectors,
                               lambda at, access=access, own=own, panel=panel: (
                                   self._fill(access, own, panel, at)))
                    self.panels[access] = panel

    def _fill(self, access: Access, own: Index, panel: str, place: Dim) -> None:
        """One vector of the tile's rows, for all values of the product's own index."""
        lanes = self.schedule.lanes
        self._at_vector(place)
        self.point[own.name] = 0
        high = own.high
        assert isinstance(high, int)
        rows = self.row_points()
        across = coefficient(self._offset(access), LANE) != 1

        def turn(at: Dim) -> None:
            for lane, column in enumerate(self.load_turned(
                    access, own.name, (at * lanes, high), rows)):
                self.out.store(panel, (at * lanes + lane) * self.wide + place * lanes, column)

        def copy(at: Dim) -> None:
            self.point[own.name] = at
            value = self.out.widen(self.read(access), lanes)
            self.out.store(panel, at * self.wide + place * lanes, value)

        self._each(own.name, -(-high // lanes) if across else high, turn if across else copy)

    def read(self, access: Access) -> Register:
        """An element or a vector; of panels, elements, sums and numbers where they lie."""
        if not self.schedule.part or (
                access not in self.panels and access.buffer not in self.arrays):
            return super().read(access)
        if access in self.panels:
            own = next(i for c in self.parts.inner if access in c.args for i in c.over
                       if i != self.parts.row)
            name, line, buffer = self.panels[access], self.point[own.name], access.buffer
        elif not access.at:
            return super().read(access)
        else:
            name, buffer, line = self.arrays[access.buffer], access.buffer, self._line(access)
        at = self.simple(line * self.wide + self.place * self.schedule.lanes)
        return self.out.load(name, at, self.kernel.buffer(buffer).dtype, self.schedule.lanes)

    def _line(self, access: Access) -> Dim:
        (at,) = access.at
        assert not isinstance(at, Access)
        value = self.point[str(at)]
        return value - self.part_low if str(at) == self.parts.row.name else value

    def write(self, target: Access, value: Register) -> None:
        """Stores a value; elements in their array."""
        if self.schedule.part and target.at and target.buffer in self.arrays:
            at = self._line(target) * self.wide + self.place * self.schedule.lanes
            self.out.store(self.arrays[target.buffer], self.simple(at),
                           self.out.widen(value, self.schedule.lanes))
        else:
            super().write(target, value)

    # Parts

    def _part(self, number: Dim) -> None:
        """All that is done for a part of the rows."""
        row, schedule = self.parts.row, self.schedule
        low = number * schedule.part
        assert not isinstance(row.high, Access)
        high = self.out.fresh(f"{row.name}.")
        self.out.add(Let(high, minimum(low + schedule.part, row.high)))
        self.span(high, 1, row.high)
        self.part_low, self.part_high = low, symbol(high)
        for compute in self.parts.inner:
            self._inner(compute)
        self._each(f"{schedule.vector}.v", self.live, self._rows)
        for compute in self.parts.last:
            self._last(compute)

    def _inner(self, compute: Compute) -> None:
        """Elements of the part, a tile of them and of vectors at a time."""
        row, own = self.parts.row, self._own(compute)
        side = self.schedule.tile(row.name)

        def tile(at: Dim) -> None:
            points = []
            for k in range(side):
                let = self.out.fresh(f"{row.name}.")  # past the end, the last one again
                self.out.add(Let(let, minimum(
                    self.part_low + at * side + k, self.part_high - 1)))
                self.span(let, 0, row.high - 1)  # type: ignore[operator]
                points += self._points({row.name: symbol(let)})
            states = self._products(compute, points, own)
            for k, (register,) in enumerate(states):
                line = at * side + k // self.vectors
                place = line * self.wide + k % self.vectors * self.schedule.lanes
                self.out.store(self.arrays[compute.target.buffer], place, register)

        self._each(f"{row.name}.t", self.simple(
            ceildiv(self.part_high - self.part_low, side)), tile)

    def _points(self, here: dict[str, Dim]) -> list[dict[str, Dim]]:
        """A place of all indices for each vector of the tile."""
        lanes, name = self.schedule.lanes, self.schedule.vector
        return [self.point | here | {name: self.first + k * lanes, PLACE: k}
                for k in range(self.vectors)]

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
        if PLACE in point:
            self.place = point[PLACE]
        return super()._step(compute, point, state)

    def _last(self, compute: Compute) -> None:
        """Adds the part to the sums of a last product."""
        own, row = self._own(compute), self.parts.row
        side = self.schedule.tile(own.name)
        array, lanes = self.arrays[compute.target.buffer], self.schedule.lanes
        assert isinstance(own.high, int)

        def tile(at: Dim) -> None:
            points, places = [], []
            for k in range(side):
                line = at * side + k
                value: Dim = line
                if own.high % side:  # type: ignore[operator]
                    let = self.out.fresh(f"{own.name}.")
                    self.out.add(Let(let, minimum(line, own.high - 1)))  # type: ignore[operator]
                    self.span(let, 0, own.high - 1)  # type: ignore[operator]
                    value = symbol(let)
                points += self._points({own.name: value})
                places += [line * self.wide + v * lanes for v in range(self.vectors)]
            dtype = self._empty(compute, lanes)[0].dtype
            states: list[State] = [(self.out.load(array, p, dtype, lanes),) for p in places]
            part = Index(row.name, self.part_high, self.part_low)
            for place, (register,) in zip(
                    places, self._products(compute, points, part, states), strict=True):
                self.out.store(array, place, register)

        self._each(f"{own.name}.t", -(-own.high // side), tile)

    # Elements and numbers of rows

    def _rows(self, place: Dim) -> None:
        """Elements, maxima and sums of the part, for one vector of the tile."""
        self._at_vector(place)
        top, shift = self.parts.top, self.parts.shift
        before: tuple[Register, Register] | None = None
        if top is not None and shift is not None:
            self._load_sums()
            self._numbers()
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

    def _numbers(self) -> None:
        """The numbers of rows that elements need, by the sums so far."""
        for compute in self.parts.along:
            if not compute.over:
                self.compute(compute)

    def _sweep_part(self, run: list[Compute]) -> None:
        """Computes side by side over the part; sums and maxima go to those so far."""
        row, lanes = self.parts.row, self.schedule.lanes
        sums = [c for c in run if c.combine is not None]
        self.span(row.name, 0, row.high - 1)  # type: ignore[operator]
        name = f"{row.name}.s"

        def body(states: list[State]) -> list[State]:
            self.out.forget_memory()
            self.point[row.name] = symbol(name)
            found = iter(states)
            out = []
            for compute in run:
                if compute.combine is None:
                    self.here(compute)
                else:
                    out.append(self._step(compute, dict(self.point), next(found)))
            return out

        self.span(name, 0, row.high - 1)  # type: ignore[operator]
        if not sums:
            with self.out.block() as statements:
                body([])
            self.out.loop(name, self.part_low, self.part_high, statements)
            self.out.forget_memory()
            return
        states = [self._empty(c, lanes) for c in sums]
        for compute, (found,) in zip(sums, self._loop(
                name, self.part_low, self.part_high, states, body), strict=True):
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
                self._scale(compute, 0, scale)
        for compute in self.parts.last:
            self._each("z", self._lines(compute.target.buffer),
                       lambda line, compute=compute: self._scale(compute, line, scale))

    def _scale(self, compute: Compute, line: Dim, scale: Register) -> None:
        array = self.arrays[compute.target.buffer]
        at = line * self.wide + self.place * self.schedule.lanes
        value = self.out.load(array, at, scale.dtype, scale.lanes)
        self.out.store(array, at, self.out.apply("mul", (value, scale), scale.dtype))

    # Results

    def _finish(self, place: Dim) -> None:
        """The numbers and results of one vector of rows."""
        self._at_vector(place)
        self._load_sums()
        for compute in self.parts.after:
            if compute.over:
                self._result(compute, compute.over[0])
            else:
                self.compute(compute)

    def _result(self, compute: Compute, own: Index) -> None:
        """What a last product gives; transposed if its own index runs along memory."""
        lanes, high = self.schedule.lanes, own.high
        assert isinstance(high, int)
        self.point[own.name] = symbol(own.name)
        offset = self._offset(compute.target)
        if coefficient(offset, LANE) == 1 or coefficient(offset, own.name) != 1:

            def one(at: Dim) -> None:
                self.point[own.name] = at
                self.here(compute)

            self._each(own.name, high, one)
        else:
            self._each(own.name, -(-high // lanes),
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


PLACE = "place in tile"
