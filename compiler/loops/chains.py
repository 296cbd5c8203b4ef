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

Where the number of values that an inner product adds up is a symbol, blocks of them are turned and
added up one after another; where that of the results of a row is one, all is done for one block of
them after another. Mostly one block holds all.

Parts in which comparisons of indices hide all elements of the tile's rows are left out.

Where a row has a maximum m by which x is shifted in exp (x - m), each part may raise it. All sums
so far are then multiplied by exp (m before - m now).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dlc.compiler.kernels.accesses import LANE, offset_of
from dlc.compiler.kernels.chain_parts import chain_parts
from dlc.compiler.kernels.hidden import counted
from dlc.compiler.kernels.ranges import bind
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.chain_memory import ChainMemory
from dlc.compiler.loops.reduce import VECTOR_PLACE, State
from dlc.compiler.loops.rescaling import Rescaling
from dlc.compiler.loops.sweep import States, Sweeping
from dlc.ir.dims import (
    Dim,
    ceildiv,
    coefficient,
    floordiv,
    maximum,
    minimum,
    mod,
    substitute,
    symbol,
)
from dlc.ir.kernel import Access, Compute, Index


class Chaining(Rescaling, Sweeping, ChainMemory):
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
        self.allocate_panels()
        self.blocks = {}
        self.fill_panels(c for c in parts.inner if not self._in_blocks(c))
        results = [self.own_index(c) for c in parts.last if self._in_blocks(c)]
        if not results:
            self._blocks_of_results([], 0)
        else:
            count: Dim = 1
            for own in results:
                count = maximum(count, self._block_count(own))
            self.each("block", count, partial(self._blocks_of_results, results))

    def _in_blocks(self, compute: Compute) -> bool:
        """Whether a product's own index has a symbol for its extent: it is cut into blocks."""
        return not isinstance(self.own_index(compute).high, int)

    def _block_count(self, own: Index) -> Dim:
        assert not isinstance(own.high, Access)
        return ceildiv(own.high, self.schedule.depth)

    def _blocks_of_results(self, results: list[Index], number: Dim) -> None:
        """All of the kernel for one block of the results of each row."""
        for own in results:
            self.enter_block(own, number)
        self.clear()
        part = self.schedule.part
        low, high = self._counted()
        self.first_part = self.simple(floordiv(low, part))
        self.each(f"{self.parts.row.name}.p", self.simple(ceildiv(high, part)), self._part,
                  self.first_part)
        self.each(f"{self.schedule.vector}.v", self.live, self._finish)
        self.point[self.schedule.vector] = self.first

    def _counted(self) -> tuple[Dim, Dim]:
        """Which elements may count, of any of the tile's rows."""
        first = substitute(self.first, {LANE: 0})
        last = minimum(first + self.wide, self.vector_bound) - 1
        rows = next(i for i in self.kernel.outer if i.name == self.schedule.vector)
        low, high = counted(self.kernel, self.parts, rows, (first, last))
        return bind(low, self.point, self.ranges), bind(high, self.point, self.ranges)

    def _part(self, number: Dim) -> None:
        """All that is done for a part of the rows."""
        row, schedule, low = self.parts.row, self.schedule, number * self.schedule.part
        high = self.named(row.name, minimum(low + schedule.part, self.length), self.length, 1)
        self.part_low, self.part_high = low, high
        for compute in self.parts.inner:
            if self._in_blocks(compute):
                self._inner_in_blocks(compute, number)
            else:
                self._inner(compute)
        self.each(f"{schedule.vector}.v", self.live, self._rows)
        for compute in self.parts.last:
            self._last(compute)

    def _inner_in_blocks(self, compute: Compute, part: Dim) -> None:
        """Elements of the part, of one block after another of what is multiplied.

        One block that holds all is turned once for all parts.
        """
        own, before = self.own_index(compute), self.blocks
        count = self._block_count(own)
        self.each("z", self.schedule.part * self.vectors, partial(self.zeroed, compute))

        def block(number: Dim) -> None:
            self.enter_block(own, number)
            with self.out.block() as body:
                self.fill_panels([compute])
            self.out.when((maximum(count - 2, self.first_part - part),), body)
            self._inner(compute, more=True)

        self.each(f"{own.name}.b", count, block)
        self.blocks = before

    def _inner(self, compute: Compute, more: bool = False) -> None:
        """Elements of the part, a tile of them and of vectors at a time.

        `more`: they are added to those that are there.
        """
        row, own = self.parts.row, self.own_index(compute)
        (low, high), lanes = self.block(own), self.schedule.lanes
        array, over = self.arrays[compute.target.buffer], Index(own.name, high, low)
        side = self.schedule.tile(row.name)

        def tile(at: Dim) -> None:
            points = []
            for k in range(side):  # past the end, the last one again
                here = minimum(self.part_low + at * side + k, self.part_high - 1)
                points += self.vector_points({row.name: self.named(
                    row.name, here, self.length - 1)})
            places = [(at * side + k // self.vectors) * self.wide + k % self.vectors * lanes
                      for k in range(len(points))]
            dtype = self._empty(compute, lanes)[0].dtype
            before: list[State] | None = [
                (self.out.load(array, p, dtype, lanes),) for p in places] if more else None
            states = self._products(compute, points, over, before)
            for place, (register,) in zip(places, states, strict=True):
                self.out.store(array, place, register)

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
        side, (low, high) = self.schedule.tile(own.name), self.block(own)
        array, lanes = self.arrays[compute.target.buffer], self.schedule.lanes

        def tile(at: Dim) -> None:
            points, places = [], []
            for k in range(side):
                line = at * side + k
                value = low + line if mod(high, side) == 0 else self.named(
                    own.name, minimum(low + line, high - 1), high - 1)
                points += self.vector_points({own.name: value})
                places += [line * self.wide + v * lanes for v in range(self.vectors)]
            dtype = self._empty(compute, lanes)[0].dtype
            states: list[State] = [(self.out.load(array, p, dtype, lanes),) for p in places]
            part = Index(row.name, self.part_high, self.part_low)
            for place, (register,) in zip(
                    places, self._products(compute, points, part, states), strict=True):
                self.out.store(array, place, register)

        self.each(f"{own.name}.t", self.simple(ceildiv(high - low, side)), tile)

    # Elements and numbers of rows

    def _rows(self, place: Dim) -> None:
        """Elements, maxima and sums of the part, for one vector of the tile."""
        self.at_vector(place)
        self.along_part()

    def numbers_so_far(self) -> None:
        """Loads the sums of the rows, and computes what follows from them."""
        self._load_sums()
        self._row_numbers()

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

    def sweep_part(self, run: list[Compute]) -> None:
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

    def scale_sums(self, scale: Register) -> None:
        """Multiplies the sums so far of the vector of rows."""
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
        low, high = self.block(own)
        self.point[own.name] = symbol(own.name)
        offset = self._offset(compute.target)
        if coefficient(offset, LANE) == 1 or coefficient(offset, own.name) != 1:

            def one(at: Dim) -> None:
                self.point[own.name] = low + at
                self.here(compute)

            self.each(own.name, self.simple(high - low), one)
        else:
            self._turned_results(compute, own, (low, high))

    def _turned_results(self, compute: Compute, own: Index, block: tuple[Dim, Dim]) -> None:
        """As many results as there are lanes at a time; what sticks out apart, under a mask."""
        low, high = block
        lanes = self.schedule.lanes
        whole, ragged = floordiv(high - low, lanes), mod(high - low, lanes)
        if whole != 0:
            self.each(own.name, self.simple(whole), lambda at: self._turned_result(
                compute, own.name, low + at * lanes, low + (at + 1) * lanes))
        if ragged != 0:
            with self.out.block() as body:
                self._turned_result(compute, own.name, low + whole * lanes, high)
            self.out.when((ragged - 1,), body)

    def _turned_result(self, compute: Compute, name: str, low: Dim, high: Dim) -> None:
        """As many values as there are lanes, of each row in the lanes."""
        lanes, vector = self.schedule.lanes, self.schedule.vector
        columns, even = [], high - low == lanes
        for k in range(lanes):
            self.point[name] = low + k if even else self.named(
                name, minimum(low + k, high - 1), high - 1)
            columns.append(self.out.widen(self.value(compute), lanes))
        mask = "" if even else self.out.mask(low, high, lanes)
        before, first = dict(self.point), self.vector_base
        rows = self.out.transpose(columns)
        left = self.simple(self.vector_bound - first)

        def put(at: Dim, row: Register) -> None:
            self.point[name], self.point[vector] = low, first + at
            offset = offset_of(self.kernel, compute.target, self.point, self.ranges)
            self.out.store(compute.target.buffer, offset, row, mask)

        with self.out.block() as all_rows:
            for lane, row in enumerate(rows):
                put(lane, row)
        self.out.when((left - lanes,), all_rows)
        with self.out.block() as some_rows:
            self._some_rows(rows, left, put)
        self.out.when((lanes - 1 - left,), some_rows)
        self.point = before

    def _some_rows(
        self, rows: list[Register], left: Dim, put: Callable[[Dim, Register], None]
    ) -> None:
        """The first rows, one after another, by way of the stack: with a branch for each, LLVM
        makes each row in its branch, and holds twice as much for it."""
        lanes, dtype = self.schedule.lanes, rows[0].dtype
        stack = self.out.alloc("square", dtype, lanes * lanes)
        for lane, row in enumerate(rows):
            self.out.store(stack, lane * lanes, row)
        self.each(f"{self.schedule.vector}.t", left, lambda at: put(
            at, self.out.load(stack, at * lanes, dtype, lanes)))
