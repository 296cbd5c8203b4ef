"""Applying a schedule: where the elements, sums and numbers of a chain of products lie.

All of it is memory of the tile: lines of as many vectors as rows of the tile lie in. What products
read of the rows themselves is transposed into such lines too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from math import ceil

from dlc.compiler.kernels.accesses import LANE, uses
from dlc.compiler.kernels.chain_parts import ChainParts
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.reduce import VECTOR_PLACE
from dlc.compiler.loops.turns import Turning
from dlc.ir.dims import Dim, ceildiv, coefficient, minimum, symbol
from dlc.ir.kernel import Access, Compute, Index


class ChainMemory(Turning):
    """The memory of a tile, and where in it what a chain reads and writes lies."""

    parts: ChainParts
    panels: dict[Access, str] = {}  # noqa: RUF012  where what was turned lies
    length: Dim = 0  # of a row
    first: Dim = 0  # the rows in the lanes of the tile's first vector
    vectors = 0  # of a tile
    wide = 0  # lanes of a line: of all vectors
    live: Dim = 0  # the vectors of this tile in which rows lie
    part_low: Dim = 0  # the first element of the part
    blocks: dict[str, tuple[Dim, Dim]] = {}  # noqa: RUF012  values of products' own indices, here
    place: Dim = 0  # the vector of the tile, here

    def each(
        self, name: str, high: Dim, body: Callable[[Dim], None], low: Dim = 0
    ) -> None:
        """A loop in which memory changes."""
        self.span(name, low, high - 1)
        self.out.forget_memory()
        with self.out.block() as statements:
            body(symbol(name))
        self.out.loop(name, low, high, statements)
        self.out.forget_memory()

    def at_vector(self, place: Dim) -> None:
        """Goes to a vector of the tile."""
        self.place = place
        self.point[self.schedule.vector] = self.first + place * self.schedule.lanes

    # Memory

    def allocate(self) -> None:
        """Memory for elements of a part, for numbers of rows and for sums so far."""
        sums = {c.target.buffer for c in self.parts.last}
        for local in self.kernel.locals:
            if local.dims:
                lines = self._most_lines(local.name) if local.name in sums else self.schedule.part
                self.arrays[local.name] = self.out.alloc(
                    f"{local.name}.", local.dtype, lines * self.wide)
        for compute in self.parts.sums:
            empty = self._empty(compute, self.schedule.lanes)[0]
            self.arrays[compute.target.buffer] = self.out.alloc(
                f"{compute.target.buffer}.", empty.dtype, self.wide)

    def clear(self) -> None:
        """Sets sums and maxima to those of no elements."""
        for compute in self.parts.sums:
            empty = self._empty(compute, self.schedule.lanes)[0]
            for k in range(self.vectors):
                self.out.store(
                    self.arrays[compute.target.buffer], k * self.schedule.lanes, empty)
        for compute in self.parts.last:
            self.each("z", self.lines_of(compute.target.buffer) * self.vectors,
                      partial(self.zeroed, compute))

    def zeroed(self, compute: Compute, number: Dim) -> None:
        """One vector of the sums of a product."""
        zero = self._empty(compute, self.schedule.lanes)[0]
        self.out.store(self.arrays[compute.target.buffer], number * self.schedule.lanes, zero)

    def lines_of(self, name: str) -> Dim:
        """The sums of a last product that are there now, filled up to whole tiles."""
        own = self._own_of(name)
        low, high = self.block(own)
        side = self.schedule.tile(own.name)
        return self.simple(ceildiv(high - low, side) * side)

    def _most_lines(self, name: str) -> int:
        own = self._own_of(name)
        side = self.schedule.tile(own.name)
        return ceil(self.most(own) / side) * side

    def _own_of(self, name: str) -> Index:
        return self.own_index(next(c for c in self.parts.last if c.target.buffer == name))

    def most(self, own: Index) -> int:
        """How many values of a product's own index are there at a time, at most."""
        return own.high if isinstance(own.high, int) else self.schedule.depth

    def block(self, own: Index) -> tuple[Dim, Dim]:
        """Which values of a product's own index are there now."""
        assert not isinstance(own.high, Access)
        return self.blocks.get(own.name, (0, own.high))

    def enter_block(self, own: Index, number: Dim) -> None:
        """Goes to a block of values of a product's own index, of as many as are there at a time."""
        low = number * self.schedule.depth
        assert not isinstance(own.high, Access)
        high = self.named(own.name, minimum(low + self.schedule.depth, own.high), own.high, 0)
        self.blocks = {**self.blocks, own.name: (low, high)}

    def own_index(self, compute: Compute) -> Index:
        """The index of a product besides the row's."""
        return next(i for i in compute.over if i != self.parts.row)

    def allocate_panels(self) -> None:
        """Panels for what inner products read along the rows' index."""
        self.panels, lanes = {}, self.schedule.lanes
        for compute in self.parts.inner:
            for access in self._turned(compute):
                if access not in self.panels:
                    lines = ceil(self.most(self.own_index(compute)) / lanes) * lanes
                    self.panels[access] = self.out.alloc(
                        "panel", self.kernel.buffer(access.buffer).dtype, lines * self.wide)

    def fill_panels(self, computes: Iterable[Compute]) -> None:
        """Copies what inner products read along the rows' index, for the values that are there."""
        name = self.schedule.vector
        wanted = {a: self.own_index(c) for c in computes for a in self._turned(c)}
        for access, own in wanted.items():
            self.each(f"{name}.v", self.live, partial(self._fill, access, own))

    def _turned(self, compute: Compute) -> list[Access]:
        return [a for a in compute.args
                if isinstance(a, Access) and uses(a, self.schedule.vector)]

    def _fill(self, access: Access, own: Index, place: Dim) -> None:
        """One vector of the tile's rows, for all values of the product's own index."""
        lanes, panel, (low, high) = self.schedule.lanes, self.panels[access], self.block(own)
        self.at_vector(place)
        self.point[own.name] = symbol(own.name)
        rows, offset = self.row_points(), self._offset(access)
        across = coefficient(offset, LANE) != 1 and coefficient(offset, own.name) == 1

        def turn(at: Dim) -> None:
            for lane, column in enumerate(self.load_turned(
                    access, own.name, (low + at * lanes, high), rows)):
                self.out.store(panel, (at * lanes + lane) * self.wide + place * lanes, column)

        def copy(at: Dim) -> None:
            self.point[own.name] = low + at
            value = self.out.widen(super(ChainMemory, self).read(access), lanes)
            self.out.store(panel, at * self.wide + place * lanes, value)

        count = self.simple(ceildiv(high - low, lanes) if across else high - low)
        self.each(own.name, count, turn if across else copy)

    def read(self, access: Access) -> Register:
        """An element or a vector; of panels, elements, sums and numbers where they lie."""
        if not self.schedule.part or (
                access not in self.panels and access.buffer not in self.arrays):
            return super().read(access)
        if access in self.panels:
            own = next(i for c in self.parts.inner if access in c.args for i in c.over
                       if i != self.parts.row)
            name, buffer = self.panels[access], access.buffer
            line = self.point[own.name] - self.block(own)[0]
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
        low = self.blocks.get(str(at), (0, 0))[0]
        return value - (self.part_low if str(at) == self.parts.row.name else low)

    def write(self, target: Access, value: Register) -> None:
        """Stores a value; elements in their array."""
        if self.schedule.part and target.at and target.buffer in self.arrays:
            at = self._line(target) * self.wide + self.place * self.schedule.lanes
            self.out.store(self.arrays[target.buffer], self.simple(at),
                           self.out.widen(value, self.schedule.lanes))
        else:
            super().write(target, value)

    def vector_points(self, here: dict[str, Dim]) -> list[dict[str, Dim]]:
        """A place of all indices for each vector of the tile."""
        lanes, name = self.schedule.lanes, self.schedule.vector
        return [self.point | here | {name: self.first + k * lanes, VECTOR_PLACE: k}
                for k in range(self.vectors)]
