"""Applying a schedule: where the elements, sums and numbers of a chain of products lie.

All of it is memory of the tile: lines of as many vectors as rows of the tile lie in. What products
read of the rows themselves is transposed into such lines too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dlc.compiler.kernels.accesses import LANE, uses
from dlc.compiler.kernels.chain_parts import ChainParts
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.reduce import VECTOR_PLACE
from dlc.compiler.loops.turns import Turning
from dlc.ir.dims import Dim, coefficient, symbol
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
    place: Dim = 0  # the vector of the tile, here

    def each(self, name: str, high: Dim, body: Callable[[Dim], None]) -> None:
        """A loop in which memory changes."""
        self.span(name, 0, high - 1)
        self.out.forget_memory()
        with self.out.block() as statements:
            body(symbol(name))
        self.out.loop(name, 0, high, statements)
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
                lines = self.lines_of(local.name) if local.name in sums else self.schedule.part
                self.arrays[local.name] = self.out.alloc(
                    f"{local.name}.", local.dtype, lines * self.wide)
        for compute in self.parts.sums:
            name = compute.target.buffer
            empty = self._empty(compute, self.schedule.lanes)[0]
            self.arrays[name] = self.out.alloc(f"{name}.", empty.dtype, self.wide)
            for k in range(self.vectors):
                self.out.store(self.arrays[name], k * self.schedule.lanes, empty)
        for compute in self.parts.last:
            self.each("z", self.lines_of(compute.target.buffer) * self.vectors,
                       partial(self._zeroed, compute))

    def _zeroed(self, compute: Compute, number: Dim) -> None:
        """One vector of the sums of a last product."""
        zero = self._empty(compute, self.schedule.lanes)[0]
        self.out.store(self.arrays[compute.target.buffer], number * self.schedule.lanes, zero)

    def lines_of(self, name: str) -> int:
        """The sums of a last product, filled up to whole tiles."""
        own = self.own_index(next(c for c in self.parts.last if c.target.buffer == name))
        side = self.schedule.tile(own.name)
        return -(-extent_of(own) // side) * side

    def own_index(self, compute: Compute) -> Index:
        """The index of a product besides the row's."""
        return next(i for i in compute.over if i != self.parts.row)

    def fill_panels(self) -> None:
        """Copies what inner products read along the rows' index."""
        self.panels = {}
        lanes, name = self.schedule.lanes, self.schedule.vector
        for compute in self.parts.inner:
            own = self.own_index(compute)
            for access in (a for a in compute.args if isinstance(a, Access)):
                if uses(access, name) and access not in self.panels:
                    dtype = self.kernel.buffer(access.buffer).dtype
                    lines = -(-extent_of(own) // lanes) * lanes
                    panel = self.out.alloc("panel", dtype, lines * self.wide)
                    self.each(f"{name}.v", self.live, partial(self._fill, access, own, panel))
                    self.panels[access] = panel

    def _fill(self, access: Access, own: Index, panel: str, place: Dim) -> None:
        """One vector of the tile's rows, for all values of the product's own index."""
        lanes, high = self.schedule.lanes, extent_of(own)
        self.at_vector(place)
        self.point[own.name] = symbol(own.name)
        rows, offset = self.row_points(), self._offset(access)
        across = coefficient(offset, LANE) != 1 and coefficient(offset, own.name) == 1

        def turn(at: Dim) -> None:
            for lane, column in enumerate(self.load_turned(
                    access, own.name, (at * lanes, high), rows)):
                self.out.store(panel, (at * lanes + lane) * self.wide + place * lanes, column)

        def copy(at: Dim) -> None:
            self.point[own.name] = at
            value = self.out.widen(self.read(access), lanes)
            self.out.store(panel, at * self.wide + place * lanes, value)

        self.each(own.name, -(-high // lanes) if across else high, turn if across else copy)

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

    def vector_points(self, here: dict[str, Dim]) -> list[dict[str, Dim]]:
        """A place of all indices for each vector of the tile."""
        lanes, name = self.schedule.lanes, self.schedule.vector
        return [self.point | here | {name: self.first + k * lanes, VECTOR_PLACE: k}
                for k in range(self.vectors)]


def extent_of(index: Index) -> int:
    """The number of values of a product's own index, which is constant."""
    assert isinstance(index.high, int)
    return index.high
