"""Applying a GPU's schedule: chains of products, a part of the rows of a tile at a time.

A block has a tile of rows, and goes along them part by part. Each thread has a few of the rows, and
of the part a few elements of each of these, in registers; the threads that have the same rows are
neighbours in a warp, and find maxima and sums of a row by shuffles. How products are made is for
`shared_chains.py` and `tensor_chains.py` to say.

    for the parts of the rows:
        rows[i, j] = …                inner products
        for this thread's rows:
            elements, maxima and sums of the part, which are added to those so far
        sums[i, e] += …               last products, of elements
    for this thread's rows: numbers, results

Parts in which comparisons of indices hide all elements of the tile's rows are left out.

Where a row has a maximum m by which x is shifted in exp (x - m), each part may raise it. All sums
so far are then multiplied by exp (m before - m now).
"""

from __future__ import annotations

from abc import abstractmethod
from functools import partial

from dlc.compiler.kernels.hidden import counted
from dlc.compiler.kernels.ranges import bind
from dlc.compiler.loops.block_chain_memory import BlockChainMemory, Own, extent_of
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.reduce import State
from dlc.compiler.loops.rescaling import Rescaling
from dlc.ir.dims import Dim, ceildiv, floordiv, minimum, mod, symbol
from dlc.ir.kernel import Access, Compute, Index
from dlc.ir.types import BOOL


class InBlockChains(Rescaling, BlockChainMemory):
    """Applies a schedule that has parts of rows, whose elements the threads of a block share."""

    def body_of_block(self) -> None:
        """What the threads of one block do."""
        share, chunk, thread = self.share, symbol("chunk"), symbol("thread")
        down = ceildiv(self.rows, share.height)
        batch = [n for n in self.schedule.order if n != self.vector]
        outer = {i.name: i for i in self.kernel.outer}
        self.let("first.r", mod(chunk, down) * share.height, self.rows)
        self.number([(n, extent_of(outer[n])) for n in batch], floordiv(chunk, down))
        self.let("tx", mod(thread, share.beside), share.beside)
        self.let("ty", floordiv(thread, share.beside), self.schedule.threads // share.beside)
        self.allocate()
        low, self.seen = self._counted()
        self.begin_parts(low)
        self.each("first.p", self.seen, self._part, self.wide, low=low)
        self.each("in.r", share.down, self._finish, unrolled=True)

    def _counted(self) -> tuple[Dim, Dim]:
        """The first part in which elements may count for any of the tile's rows, and below where
        they may."""
        first = symbol("first.r")
        last = minimum(first + self.share.height, self.rows) - 1
        low, high = (bind(end, self.point, self.ranges) for end in counted(
            self.kernel, self.parts, self.row_index, (first, last)))
        if (low, high) == (0, self.length):
            return low, high
        below = minimum(low, high)
        return (self.named("low", floordiv(below, self.wide) * self.wide, self.length),
                self.named("high", high, self.length))

    def _part(self, low: Dim) -> None:
        """All that is done for a part of the rows."""
        self.low = low
        self.begin_part()
        for compute in self.parts.inner:
            self.inner(compute)
        self.each("in.r", self.share.down, self._row, unrolled=True)
        for compute in self.parts.last:
            self.last(compute)

    def begin_parts(self, low: Dim) -> None:
        """What is done before the first part, which begins there."""

    def begin_part(self) -> None:
        """What is done before the products of a part."""

    @abstractmethod
    def inner(self, compute: Compute) -> None:
        """This thread's elements of a product."""

    @abstractmethod
    def last(self, compute: Compute) -> None:
        """Adds the part to this thread's sums of a last product."""

    # Elements and numbers of rows

    def go_to_row(self, i: Dim) -> Dim:
        """Goes to one of this thread's rows; past the last one, the last one is read again."""
        place = symbol("first.r") + self.share.row(i)
        self.i = i
        self.point[self.vector] = self.named("row", minimum(place, self.rows - 1), self.rows - 1)
        return place

    def _row(self, i: Dim) -> None:
        """Elements, maxima and sums of the part, for one row."""
        self.go_to_row(i)
        self.along_part()
        self.end_row()

    def end_row(self) -> None:
        """What is done when the elements of a row are there."""

    def numbers_so_far(self) -> None:
        """Loads the numbers of the row, and computes what follows from them."""
        self._load_numbers()
        for compute in self.parts.along:
            if not compute.over:
                self.compute(compute)

    def _load_numbers(self) -> None:
        for name, own in self.numbers.items():
            self.locals[name] = self.out.load(own.name, self.i, own.dtype)

    @property
    def across(self) -> int:
        """How many elements of the part a thread has of each of its rows."""
        return self.share.across(self.wide)

    def go_to_element(self, j: Dim) -> Register | None:
        """Goes to one of this thread's elements; whether there is such an element, if not always.
        """
        self.j = j
        at = self.low + self.share.column(j, self.across)
        if mod(self.length, self.wide) == 0:
            self.point[self.parts.row.name] = at
            return None
        self.point[self.parts.row.name] = self.named(
            "at", minimum(at, self.length - 1), self.length - 1)
        return Register(self.out.mask(at, self.length, 1), BOOL)

    def sweep_part(self, run: list[Compute]) -> None:
        """Computes side by side over this thread's elements; sums and maxima go to those so far."""
        sums = [c for c in run if c.combine is not None]

        def body(states: list[State]) -> list[State]:
            self.out.forget_memory()
            inside = self.go_to_element(symbol("in.j"))
            found, out = iter(states), list[State]()
            for compute in run:
                if compute.combine is None:
                    self.here(compute)
                else:
                    (neutral,) = self._empty(compute, 1)
                    value = self.where_inside(inside, self.value(compute), neutral)
                    out.append((self._both_of(compute, next(found)[0], value),))
            return out

        self.span("in.j", 0, self.across - 1)
        self.out.forget_memory()
        if not sums:
            self.each("in.j", self.across, lambda j: (body([]), None)[1], unrolled=True)
            return
        states = self._loop("in.j", 0, self.across, [self._empty(c, 1) for c in sums], body,
                            unrolled=True)
        self.out.forget_memory()
        for compute, (value,) in zip(sums, states, strict=True):
            self._put_to(compute, self._over_threads(compute, value))

    def where_inside(
        self, inside: Register | None, value: Register, other: Register
    ) -> Register:
        return value if inside is None else self.out.apply(
            "select", (inside, value, other), value.dtype)

    def _both_of(self, compute: Compute, one: Register, other: Register) -> Register:
        assert compute.combine is not None
        op = "add" if compute.combine.kind == "sum" else "maximum"
        return self.out.apply(op, (one, other), one.dtype)

    def _over_threads(self, compute: Compute, value: Register) -> Register:
        """What all threads of a row have found."""
        distance = self.share.beside // 2
        while distance:
            value = self._both_of(compute, value, self.out.shuffle(value, distance))
            distance //= 2
        return value

    def _put_to(self, compute: Compute, found: Register) -> None:
        """Puts the sum or maximum of a part to that so far."""
        own = self.numbers[compute.target.buffer]
        value = self._both_of(compute, self.out.load(own.name, self.i, own.dtype), found)
        self.out.store(own.name, self.i, value)
        self.locals[compute.target.buffer] = value

    def scale_sums(self, scale: Register) -> None:
        """Multiplies the sums so far of the row."""
        for compute in self.parts.sums:
            if compute is not self.parts.top:
                self._scale(self.numbers[compute.target.buffer], self.i, scale)
        for result in self.results.values():
            self.each("in.j", result.across, partial(self._scale_result, result, scale),
                      unrolled=True)

    def _scale_result(self, own: Own, scale: Register, j: Dim) -> None:
        self._scale(own, self.place_of(own, j), scale)

    def _scale(self, own: Own, place: Dim, scale: Register) -> None:
        value = self.out.load(own.name, place, own.dtype)
        self.out.store(own.name, place, self.out.apply("mul", (value, scale), own.dtype))

    def read(self, access: Access) -> Register:
        """An element of a buffer; of rows and of sums, this thread's own."""
        for owns in (self.elements, self.results):
            if access.buffer in owns:
                own = owns[access.buffer]
                return self.out.load(own.name, self.place_of(own, self.j), own.dtype)
        return super().read(access)

    def here(self, compute: Compute) -> None:
        """One compute without a reduction; elements go where they are kept."""
        own = self.elements.get(compute.target.buffer)
        if own is None:
            super().here(compute)
        else:
            self.out.store(own.name, self.place_of(own, self.j), self.value(compute))

    # Results

    def _finish(self, i: Dim) -> None:
        """The numbers and results of one row."""
        place = self.go_to_row(i)
        self._load_numbers()
        for compute in self.parts.after:
            if compute.over:
                self._result(compute, compute.over[0], place)
            elif self.kernel.buffer(compute.target.buffer).role == "local":
                self.compute(compute)
            else:
                value = self.value(compute)
                with self.out.block() as statements:
                    self.write(compute.target, value)
                self.out.when((0 - symbol("tx"), self.rows - 1 - place), statements)

    def _result(self, compute: Compute, own: Index, place: Dim) -> None:
        """What a last product gives, at this thread's places."""
        product = next(c for c in self.parts.last if own in c.over)
        across = self.results[product.target.buffer].across

        def one(j: Dim) -> None:
            self.j = j
            at = self.share.column(j, across)
            self.point[own.name] = at
            with self.out.block() as statements:
                self.here(compute)
            self.out.when((self.rows - 1 - place, extent_of(own) - 1 - at), statements)

        self.each("in.j", across, one, unrolled=True)
