"""Applying a schedule: panels, copies of what the vectors of all tiles of a block read.

A panel holds a part of the places of the reduced indices that lie inside it, `schedule.depth` at
most, one after another; at each the vectors of a tile. Of an index there are as many values in a
panel as fit beside all values of those after it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from math import isfinite

from dlc.compiler.kernels.accesses import LANE, uses
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.reduce import VECTOR_PLACE, State
from dlc.compiler.loops.turns import Turning
from dlc.ir.dims import (
    Dim,
    ceildiv,
    coefficient,
    floordiv,
    lower_bound,
    maximum,
    minimum,
    mod,
    symbol,
    symbols,
)
from dlc.ir.kernel import Access, Compute, Index

Part = tuple[str, Dim, Dim, Dim]  # of a panel: an index, its values, how many have a place at most


class Panels(Turning):
    """Copies operands into panels, and reads them from there."""

    panel = ""  # the memory of the panel, while reads go there
    panel_parts: tuple[Part, ...] = ()  # what it then holds

    @abstractmethod
    def panel_place(self, place: Dim) -> Dim:
        """The index of a panel's vectors at a place of its tile here; past the end the last again.
        """

    @abstractmethod
    def vectors_left(self) -> Dim:
        """How many vectors there are from the first one of the register tile here on."""

    def each_panel(
        self, compute: Compute, inner: list[Index], inside: dict[str, Dim],
        use: Callable[[str, tuple[Part, ...]], None],
    ) -> None:
        """Loops over parts of the reduced indices `inner`, each of which fills a panel for `use`.
        """
        self._each_part(compute, self._sizes(compute, inner, inside), inside, (), use)

    def _sizes(
        self, compute: Compute, inner: list[Index], inside: dict[str, Dim]
    ) -> list[Part]:
        """All values of each index, and how many of them are in a panel."""
        left: Dim = self.schedule.depth
        found: list[Part] = []
        for index in reversed(inner):
            low, high = self._values(compute, index, inside)
            most, size = -lower_bound(low - high), left
            if index is not inner[0]:
                size = minimum(left, int(most) if isfinite(most) else high - low)
                size = size if isinstance(size, int) else self.named(
                    index.name, size, self.schedule.depth, 1)
                left = maximum(1, floordiv(left, size))
                left = left if isinstance(left, int) else self.named(
                    index.name, left, self.schedule.depth, 1)
            found.insert(0, (index.name, low, high, size))
        return found

    def _values(
        self, compute: Compute, index: Index, inside: dict[str, Dim]
    ) -> tuple[Dim, Dim]:
        """The values of a reduced index, whatever the indices are whose loops lie within a block.
        """
        bounds = [b for b in (index.low, index.high) if not isinstance(b, Access)]
        if any(symbols(b) & set(self.schedule.round_tiles) for b in bounds):
            access = self._wide(compute)
            return 0, self.kernel.buffer(access.buffer).dims[access.at.index(symbol(index.name))]
        low, high = (self._bound(b, self.point | inside) for b in (index.low, index.high))
        return low, high

    def _each_part(
        self, compute: Compute, rest: list[Part], inside: dict[str, Dim],
        parts: tuple[Part, ...], use: Callable[[str, tuple[Part, ...]], None],
    ) -> None:
        if not rest:
            use(self.filled_panel(compute, parts, inside), parts)
            return
        name, first, last, size = rest[0]
        part = f"{name}.p"
        count = self.simple(ceildiv(last - first, size))
        if len(rest) + len(parts) > 1 and (count == 1 or self._is_whole(last - first, size)):
            self._each_part(compute, rest[1:], inside, (*parts, rest[0]), use)
            return
        self.span(part, 0, count - 1)
        with self.out.block() as body:
            low = first + symbol(part) * size
            one = name, low, minimum(last, low + size), size
            self._each_part(compute, rest[1:], inside, (*parts, one), use)
        self.out.loop(part, 0, count, body)

    def _is_whole(self, extent: Dim, size: Dim) -> bool:
        """Whether all values of an index are in a part, as far as constants tell."""
        return isinstance(size, int) and -lower_bound(-extent) <= size

    def on_panel(
        self, compute: Compute, inner: list[Index], parts: tuple[Part, ...], panel: str,
        points: list[dict[str, Dim]], states: list[State], inside: dict[str, Dim],
    ) -> list[State]:
        """The reduced loops over one panel."""
        before, taps = dict(self.point), set(self.schedule.round_tiles)
        over = []
        for index, (name, low, high, _) in zip(inner, parts, strict=True):
            assert not isinstance(index.low, Access)
            assert not isinstance(index.high, Access)
            if (symbols(index.low) | symbols(index.high)) & taps:
                low, high = maximum(index.low, low), minimum(index.high, high)
            over.append(Index(name, high, low))
        self.panel, self.panel_parts = panel, parts
        states = self._loops(compute, points, over, states, inside)
        self.panel, self.point = "", before
        return states

    def _loops(
        self, compute: Compute, points: list[dict[str, Dim]], over: list[Index],
        states: list[State], inside: dict[str, Dim],
    ) -> list[State]:
        if self.panel and self.schedule.ahead and len(over) == 1:
            self._fetch_ahead(compute, points, inside)
        return super()._loops(compute, points, over, states, inside)

    def _fetch_ahead(
        self, compute: Compute, points: list[dict[str, Dim]], inside: dict[str, Dim]
    ) -> None:
        """Asks for what a later turn of the last loop but one reads beside the panel.

        There is no need to keep inside: what is past the end is not touched.
        """
        before, (name, *_), (last, low, *_) = self.point, *self.panel_parts[-2:]
        later = inside | {name: symbol(name) + self.schedule.ahead, last: low}
        for access in compute.args:
            if isinstance(access, Access) and not self._is_wide(access):
                dtype, offsets = self.kernel.buffer(access.buffer).dtype, []
                for point in points:
                    self.point = point | later
                    offsets.append(self._offset(access))
                for offset in dict.fromkeys(offsets):
                    self.out.fetch(access.buffer, offset, dtype)
        self.point = before

    def for_vectors(self, some: Callable[[Sequence[Dim]], None]) -> None:
        """Does `some` for the vectors of the register tile here; where it sticks out along an index
        whose extent is a symbol, for as many halves of it as are needed."""
        size = self.schedule.tile(self.panel_index)
        symbolic = any(i.name == self.schedule.vector and not isinstance(i.high, int)
                       for i in self.kernel.outer)
        if not self.schedule.panel or size == 1 or not symbolic:
            some(range(size))
            return
        left, half = self.vectors_left(), size // 2
        with self.out.block() as body:
            some(range(size))
        self.out.when((left - size,), body)
        turn = self.out.fresh("half")
        self.span(turn, 0, ceildiv(size - 1, half) - 1)
        with self.out.block() as body:
            some([symbol(turn) * half + k for k in range(half)])
        with self.out.block() as outer:
            self.out.loop(turn, 0, ceildiv(left, half), body)
        self.out.when((size - 1 - left,), outer)

    def read(self, access: Access) -> Register:
        """An element or a vector; from the panel, while there is one for it."""
        if not self.panel or not self._is_wide(access):
            return super().read(access)
        lanes, wide = self.schedule.lanes, self._panel_width()
        row = self._row({name: self.point[name] for name, *_ in self.panel_parts})
        at = row * wide + self.point.get(VECTOR_PLACE, 0) * lanes
        value = self.out.load(
            self.panel, self.simple(at), self.kernel.buffer(access.buffer).dtype, lanes)
        if self.schedule.vector in self.schedule.reduce:
            self.masked.add(value.name)  # as it was when it was copied
        return value

    def _row(self, point: dict[str, Dim]) -> Dim:
        """Where in the panel the vectors of a place lie."""
        row: Dim = 0
        for name, low, _, size in self.panel_parts:
            row = row * size + (point[name] - low)
        return row

    def _panel_width(self) -> int:
        return self.schedule.tile(self.panel_index) * self.schedule.lanes

    @property
    def panel_index(self) -> str:
        """The index whose places of a tile are the vectors of a panel's row."""
        schedule = self.schedule
        if schedule.vector not in schedule.reduce or not schedule.panel:
            return schedule.vector
        access = next(a for c in self.kernel.body if isinstance(c, Compute) for a in c.args
                      if isinstance(a, Access) and self._is_wide(a))
        return next(t.index for t in schedule.tiles if uses(access, t.index))

    def _wide(self, compute: Compute) -> Access:
        """What is copied into panels."""
        return next(a for a in compute.args if isinstance(a, Access) and self._is_wide(a))

    def _is_wide(self, access: Access) -> bool:
        """Whether it is the operand in the panel; one buffer may be both operands."""
        schedule = self.schedule
        return (access.buffer == schedule.panel and uses(access, schedule.vector)
                and not uses(access, schedule.innermost))

    def filled_panel(
        self, compute: Compute, parts: tuple[Part, ...], inside: dict[str, Dim]
    ) -> str:
        """Copies a part of the operand into the panel.

        Rows are turned as many at once as there are lanes: what is past the last one is written
        over by those of the next value of the other indices, or lies past the end.
        """
        access = self._wide(compute)
        dtype = self.kernel.buffer(access.buffer).dtype
        if "panel" not in self.arrays:
            past = self.schedule.lanes if len(parts) > 1 else 0
            size = (self.schedule.depth + past) * self._panel_width()
            self.arrays["panel"] = self.out.alloc("panel", dtype, size)
        before = dict(self.point)
        self.point |= inside
        self.panel_parts = parts
        fill = self._transposed if self._is_across(access) else self._copied
        self.for_vectors(lambda vectors: self._fill_rows(
            parts[:-1], lambda: fill(access, parts[-1], vectors)))
        self.point = before
        return self.arrays["panel"]

    def _fill_rows(self, parts: tuple[Part, ...], fill: Callable[[], None]) -> None:
        """The loops over all but the last of the indices of a panel."""
        if not parts:
            fill()
            return
        name, low, high, _ = parts[0]
        before = dict(self.point)
        self.span(name, low, high - 1)
        with self.out.block() as body:
            self.point[name] = symbol(name)
            self._fill_rows(parts[1:], fill)
        self.out.loop(name, low, high, body)
        self.point = before

    def _is_across(self, access: Access) -> bool:
        """Whether neighbours along the vector index are no neighbours in memory."""
        return coefficient(self._offset(access), LANE) != 1

    def _copied(self, access: Access, part: Part, vectors: Sequence[Dim]) -> None:
        name, low, high, _ = part
        wide, lanes, before = self._panel_width(), self.schedule.lanes, dict(self.point)
        places = [(k, self.panel_place(k)) for k in vectors]
        self.span(name, low, high - 1)
        with self.out.block() as body:
            self.point[name] = symbol(name)
            row = self._row(self.point) * wide
            for k, place in places:
                self.point[self.panel_index] = place
                value = self.out.widen(super().read(access), lanes)
                self.out.store(self.arrays["panel"], row + k * lanes, value)
        self.out.loop(name, low, high, body)
        self.point = before

    def _transposed(self, access: Access, along: Part, vectors: Sequence[Dim]) -> None:
        """Loads rows along the reduced index, as many as there are lanes, and stores columns.

        Only what sticks out is read under a mask: such memory is not fetched ahead.
        """
        name, low, high, _ = along
        wide, lanes = self._panel_width(), self.schedule.lanes
        first_row = self._row(self.point | {name: low}) * wide

        def turn(place: Dim) -> None:
            rows = self.row_points(self.panel_place(place))
            whole, ragged = floordiv(high - low, lanes), mod(high - low, lanes)
            part = self.out.fresh(f"{name}.")
            self.span(part, 0, whole - 1)
            if whole != 0:
                with self.out.block() as body:
                    square(place, rows, symbol(part), low + (symbol(part) + 1) * lanes)
                self.out.loop(part, 0, self.simple(whole), body)
            if ragged != 0:
                with self.out.block() as body:
                    square(place, rows, whole, high)
                self.out.when((self.simple(ragged) - 1,), body)

        def square(place: Dim, rows: list[Dim], number: Dim, bound: Dim) -> None:
            first = low + number * lanes
            for lane, column in enumerate(self.load_turned(access, name, (first, bound), rows)):
                row = first_row + number * (lanes * wide) + lane * wide
                self.out.store(self.arrays["panel"], row + place * lanes, column)

        if len(vectors) == 1:
            turn(vectors[0])
            return
        at = self.out.fresh("vector.")  # one code for all: it is long
        self.span(at, 0, len(vectors) - 1)
        with self.out.block() as body:
            turn(vectors[0] + symbol(at))
        self.out.loop(at, 0, len(vectors), body)
