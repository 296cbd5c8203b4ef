"""Applying a GPU's schedule: chains of products, a part of the rows of a tile at a time.

A block has a tile of rows, and goes along them part by part. Each thread has a few of the rows, and
of the part a few elements of each of these, in registers; the threads that have the same rows are
neighbours in a warp, and find maxima and sums of a row by shuffles. What products read comes by way
of shared memory, and so do the elements that the last products read, of all threads of a row.

    for the parts of the rows:
        rows[i, j] = …                inner products, by pieces of both factors in shared memory
        for this thread's rows:
            elements, maxima and sums of the part, which are added to those so far
            weights[k, i] = rows[i, j]                       for the last products
        sums[i, e] += weights[k, i] * …                      last products
    for this thread's rows: numbers, results

Where a row has a maximum m by which x is shifted in exp (x - m), each part may raise it. All sums
so far are then multiplied by exp (m before - m now).
"""

from __future__ import annotations

from dlc.compiler.kernels.accesses import stride
from dlc.compiler.kernels.products import reads
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.copies import PAD, in_packs
from dlc.compiler.loops.reduce import State
from dlc.compiler.loops.rescaling import Rescaling
from dlc.compiler.loops.shared_chain_memory import (
    Own,
    SharedChainMemory,
    extent_of,
    pack_of,
)
from dlc.ir.dims import Dim, ceildiv, floordiv, minimum, mod, symbol
from dlc.ir.kernel import Access, Arg, Compute, Index
from dlc.ir.types import BOOL


class InSharedChains(Rescaling, SharedChainMemory):
    """Applies a schedule that has parts of rows, whose elements the threads of a block share."""

    def body_of_block(self) -> None:
        """What the threads of one block do."""
        tile, chunk, thread = self.tile, symbol("chunk"), symbol("thread")
        down = ceildiv(self.rows, tile.height)
        batch = [n for n in self.schedule.order if n != self.vector]
        outer = {i.name: i for i in self.kernel.outer}
        self.let("first.r", mod(chunk, down) * tile.height, self.rows)
        self.number([(n, extent_of(outer[n])) for n in batch], floordiv(chunk, down))
        self.let("tx", mod(thread, tile.columns_of_threads), tile.columns_of_threads)
        self.let("ty", floordiv(thread, tile.columns_of_threads), tile.rows_of_threads)
        self.allocate()
        self.each("first.p", self.length, self._part, tile.width)
        self.each("in.r", tile.down, self._finish, unrolled=True)

    # Products

    def _part(self, low: Dim) -> None:
        """All that is done for a part of the rows."""
        self.low = low
        for compute in self.parts.inner:
            self._inner(compute)
        self.each("in.r", self.tile.down, self._row, unrolled=True)
        for compute in self.parts.last:
            self._last(compute)

    def _inner(self, compute: Compute) -> None:
        """This thread's elements of a product."""
        own, made = self.own_index(compute), self.elements[compute.target.buffer]
        left, right = self.factors(compute)
        row, tile = self.parts.row, self.tile
        self.fill(made, self.out.constant(made.dtype, 0.0))

        def piece(first: Dim) -> None:
            def element(value: Arg, name: str, start: Dim, count: Dim, k: Dim, m: Dim) -> Register:
                self.point[own.name], self.point[name] = first + k, start + m
                self.keep_where(self._below((first + k, extent_of(own), tile.depth),
                                            (start + m, count, 1)))
                return self.kept(compute, value)

            self.out.barrier()
            self.copy(self.left, tile.height, tile.depth, self._lies_along(compute, left, own),
                      lambda k, m: element(left, self.vector, symbol("first.r"), self.rows, k, m))
            self.copy(self.right, tile.width, tile.depth, self._lies_along(compute, right, own),
                      lambda k, m: element(right, row.name, self.low, self.length, k, m))
            self.out.barrier()
            self.multiply((self.left, 0), (self.right, tile.width), made)

        self.each("first.d", extent_of(own), piece, tile.depth)

    def _last(self, compute: Compute) -> None:
        """Adds the part to this thread's sums of a last product."""
        own, made = self.own_index(compute), self.results[compute.target.buffer]
        _, other = self.factors(compute)
        row, tile = self.parts.row, self.tile
        wide, weights = self.wide(made), self.weights[self.weight(compute)]

        def piece(first: Dim) -> None:
            def element(k: Dim, m: Dim) -> Register:
                at = self.low + first + k
                self.point[own.name], self.point[row.name] = m, at
                self.keep_where(self._below((at, self.length, tile.width),
                                            (m, extent_of(own), wide)))
                return self.kept(compute, other)

            self.out.barrier()
            self.copy(self.right, wide, tile.depth, self._lies_along(compute, other, row), element)
            self.out.barrier()
            self.multiply((weights, first), (self.right, wide), made)

        self.each("first.k", tile.width, piece, tile.depth)

    def _below(self, *each: tuple[Dim, Dim, int]) -> list[tuple[Dim, Dim]]:
        """What must be below what, where that is not known for it goes in whole steps."""
        return [(at, bound) for at, bound, step in each if mod(bound, step) != 0 or step == 1]

    def _lies_along(self, compute: Compute, value: Arg, index: Index) -> bool:
        """Whether neighbours in memory lie along an index."""
        return any(stride(self.kernel, a, index, 1) == 1 for a in reads(compute, value) if a.at)

    # Elements and numbers of rows

    def _go_to_row(self, i: Dim) -> Dim:
        """Goes to one of this thread's rows; past the last one, the last one is read again."""
        tile = self.tile
        place = symbol("first.r") + in_packs(
            i, symbol("ty"), tile.rows_of_threads, pack_of(tile.down))
        self.i = i
        self.point[self.vector] = self.named("row", minimum(place, self.rows - 1), self.rows - 1)
        return place

    def _row(self, i: Dim) -> None:
        """Elements, maxima and sums of the part, for one row."""
        self._go_to_row(i)
        self.along_part()
        self._store_weights()

    def numbers_so_far(self) -> None:
        """Loads the numbers of the row, and computes what follows from them."""
        self._load_numbers()
        for compute in self.parts.along:
            if not compute.over:
                self.compute(compute)

    def _load_numbers(self) -> None:
        for name, own in self.numbers.items():
            self.locals[name] = self.out.load(own.name, self.i, own.dtype)

    def _go_to_element(self, j: Dim) -> Register | None:
        """Goes to one of this thread's elements; whether there is such an element, if not always.
        """
        tile = self.tile
        self.j = j
        place = in_packs(j, symbol("tx"), tile.columns_of_threads, pack_of(tile.across))
        if mod(self.length, tile.width) == 0:
            self.point[self.parts.row.name] = self.low + place
            return None
        at = self.low + place
        self.point[self.parts.row.name] = self.named(
            "at", minimum(at, self.length - 1), self.length - 1)
        return Register(self.out.mask(at, self.length, 1), BOOL)

    def sweep_part(self, run: list[Compute]) -> None:
        """Computes side by side over this thread's elements; sums and maxima go to those so far."""
        sums = [c for c in run if c.combine is not None]

        def body(states: list[State]) -> list[State]:
            self.out.forget_memory()
            inside = self._go_to_element(symbol("in.j"))
            found, out = iter(states), list[State]()
            for compute in run:
                if compute.combine is None:
                    self.here(compute)
                else:
                    (neutral,) = self._empty(compute, 1)
                    value = self._where_inside(inside, self.value(compute), neutral)
                    out.append((self._both_of(compute, next(found)[0], value),))
            return out

        self.span("in.j", 0, self.tile.across - 1)
        self.out.forget_memory()
        if not sums:
            self.each("in.j", self.tile.across, lambda j: (body([]), None)[1], unrolled=True)
            return
        states = self._loop("in.j", 0, self.tile.across, [self._empty(c, 1) for c in sums], body,
                            unrolled=True)
        self.out.forget_memory()
        for compute, (value,) in zip(sums, states, strict=True):
            self._put_to(compute, self._over_threads(compute, value))

    def _where_inside(
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
        distance = self.tile.columns_of_threads // 2
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
                self._scale(self.numbers[compute.target.buffer], scale)
        for result in self.results.values():
            self._scale(result, scale)

    def _scale(self, own: Own, scale: Register) -> None:
        def one(j: Dim) -> None:
            place = self.i * own.across + j
            value = self.out.load(own.name, place, own.dtype)
            self.out.store(own.name, place, self.out.apply("mul", (value, scale), own.dtype))

        self.each("in.j", own.across, one, unrolled=True)

    def _store_weights(self) -> None:
        """Gives the elements of a row to all threads that have last products to make of it."""
        tile = self.tile
        row = in_packs(self.i, symbol("ty"), tile.rows_of_threads, pack_of(tile.down))
        made = {self.weight(c): c for c in self.parts.last}

        def one(j: Dim) -> None:
            inside = self._go_to_element(j)
            place = in_packs(j, symbol("tx"), tile.columns_of_threads, pack_of(tile.across))
            for key, compute in made.items():
                value = self.kept(compute, self.factors(compute)[0])
                value = self._where_inside(inside, value, self.out.constant(value.dtype, 0.0))
                self.out.store(self.weights[key], place * (tile.height + PAD) + row, value)

        self.each("in.j", tile.across, one, unrolled=True)

    def read(self, access: Access) -> Register:
        """An element of a buffer; of rows and of sums, this thread's own."""
        for owns in (self.elements, self.results):
            if access.buffer in owns:
                own = owns[access.buffer]
                return self.out.load(own.name, self.i * own.across + self.j, own.dtype)
        return super().read(access)

    def here(self, compute: Compute) -> None:
        """One compute without a reduction; elements go where they are kept."""
        own = self.elements.get(compute.target.buffer)
        if own is None:
            super().here(compute)
        else:
            self.out.store(own.name, self.i * own.across + self.j, self.value(compute))

    # Results

    def _finish(self, i: Dim) -> None:
        """The numbers and results of one row."""
        place = self._go_to_row(i)
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
            at = in_packs(j, symbol("tx"), self.tile.columns_of_threads, pack_of(across))
            self.point[own.name] = at
            with self.out.block() as statements:
                self.here(compute)
            self.out.when((self.rows - 1 - place, extent_of(own) - 1 - at), statements)

        self.each("in.j", across, one, unrolled=True)
