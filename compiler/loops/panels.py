"""Applying a schedule: products whose wide operand is first copied into panels.

A panel holds what a tile's vectors need of one operand, for `depth` values of the innermost reduced
index, one after another: it serves all tiles of a block. So an operand is read from far memory once
a block, whatever its stride, and its columns may be its rows: then it is transposed on the way.

    for k.p, parts of the reduced index:
        panel[k, v] = operand[k, v]             for k of the part, v of the tile's vectors
        for the tiles of the block:
            sums[tile] += left[tile, k] * panel[k, v]   for k of the part
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from dlc.compiler.kernels.accesses import LANE, offset_of
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.reduce import State
from dlc.compiler.loops.sequence import Sequencing
from dlc.ir.dims import Dim, ceildiv, coefficient, minimum, substitute, symbol
from dlc.ir.kernel import Access, Compute, Index
from dlc.ir.loops import Let

VECTOR_PLACE = "vector place"


class Panels(Sequencing):
    """Carries out a reduction with panels at one place of the outer loops."""

    panel = ""  # the memory of the panel, while reads go there
    panel_low: Dim = 0  # the reduced index where it begins

    @abstractmethod
    def tile_points(self) -> list[dict[str, Dim]]:
        """What each index is at each place of the register tile here."""

    @abstractmethod
    def tile_loops(
        self, computes: list[Compute], at: Dim, stack: str, like: Register
    ) -> None:
        """What comes after the reduction, place by place, from accumulators on the stack."""

    @abstractmethod
    def enter_tile(self, number: Dim) -> None:
        """Moves the innermost outer loop to a tile of the block."""

    def panelled(self, compute: Compute, after: list[Compute], turns: Dim) -> None:
        """The reduction of `turns` tiles, at most `schedule.block`, and what follows it."""
        order = self.schedule.reduce
        over = sorted(compute.over, key=lambda i: order.index(i.name))
        outside, index = over[:-1], over[-1]
        low, high = (self._bound(b, self.point) for b in (index.low, index.high))
        span = self.simple(high - low)
        if not outside and isinstance(span, int) and span <= self.schedule.depth:
            self._whole(compute, after, turns, Index(index.name, high, low))
            return
        like = self._empty(compute.combine, self.schedule.lanes)[0]  # type: ignore[arg-type]
        size = self._tile_places() * like.lanes
        sums = self.out.alloc("sums", like.dtype, self.schedule.block * size)
        self._clear(sums, turns, like)
        self._parts(compute, turns, (outside, Index(index.name, high, low)), sums, {})
        self._each_tile(turns, lambda at: self.tile_loops(after, at, sums, like))

    def _tile_places(self) -> int:
        count = 1
        for tile in self.schedule.tiles:
            count *= tile.size
        return count

    def _whole(
        self, compute: Compute, after: list[Compute], turns: Dim, index: Index
    ) -> None:
        """One panel holds all: sums stay in registers from first to last."""
        panel = self._filled_panel(compute, index, {})
        like = self._empty(compute.combine, self.schedule.lanes)[0]  # type: ignore[arg-type]
        stack = self.out.alloc("acc", like.dtype, self._tile_places() * like.lanes)

        def one(at: Dim) -> None:
            points = self.tile_points()
            states = [self._empty(compute.combine, like.lanes) for _ in points]  # type: ignore
            states = self._on_panel(compute, index, panel, points, states, {})
            for k, (register,) in enumerate(states):
                self.out.store(stack, k * like.lanes, register)
            self.tile_loops(after, 0, stack, like)

        self._each_tile(turns, one)

    def _clear(self, sums: str, turns: Dim, like: Register) -> None:
        place = self.out.fresh("z")
        with self.out.block() as body:
            zero = self.out.constant(like.dtype, 0.0, like.lanes)
            self.out.store(sums, symbol(place) * like.lanes, zero)
        self.out.loop(place, 0, turns * self._tile_places(), body)

    def _parts(
        self, compute: Compute, turns: Dim, over: tuple[list[Index], Index], sums: str,
        inside: dict[str, Dim],
    ) -> None:
        """The outer reduced loops, then the parts of the innermost one, a panel each."""
        outside, index = over
        if outside:
            first, rest = outside[0], outside[1:]
            low, high = (self._bound(b, self.point) for b in (first.low, first.high))
            self.span(first.name, low, high - 1)
            with self.out.block() as body:
                self._parts(compute, turns, (rest, index), sums,
                            inside | {first.name: symbol(first.name)})
            self.out.loop(first.name, low, high, body)
            return
        assert not isinstance(index.low, Access)
        assert not isinstance(index.high, Access)
        part, depth = f"{index.name}.p", self.schedule.depth
        count = self.simple(ceildiv(index.high - index.low, depth))
        self.span(part, 0, count - 1)
        with self.out.block() as body:
            low = index.low + symbol(part) * depth
            self._part(compute, turns, Index(index.name, minimum(index.high, low + depth), low),
                       sums, inside)
        self.out.loop(part, 0, count, body)

    def _part(
        self, compute: Compute, turns: Dim, index: Index, sums: str, inside: dict[str, Dim]
    ) -> None:
        panel = self._filled_panel(compute, index, inside)
        assert compute.combine is not None
        dtype, lanes = compute.combine.dtype, self.schedule.lanes
        size = self._tile_places()

        def one(at: Dim) -> None:
            points = self.tile_points()
            places = [at * size * lanes + k * lanes for k in range(size)]
            states: list[State] = [(self.out.load(sums, p, dtype, lanes),) for p in places]
            states = self._on_panel(compute, index, panel, points, states, inside)
            for place, (register,) in zip(places, states, strict=True):
                self.out.store(sums, place, register)

        self._each_tile(turns, one)

    def _each_tile(self, turns: Dim, body: Callable[[Dim], None]) -> None:
        name = self.schedule.order[-1]
        turn = f"{name}.i"
        self.span(turn, 0, turns - 1)
        before = dict(self.point)
        with self.out.block() as statements:
            self.out.forget_memory()
            self.enter_tile(symbol(turn))
            body(symbol(turn))
        self.out.loop(turn, 0, turns, statements)
        self.point = before

    def _on_panel(
        self, compute: Compute, index: Index, panel: str, points: list[dict[str, Dim]],
        states: list[State], inside: dict[str, Dim],
    ) -> list[State]:
        """The reduced loop over one panel."""
        assert not isinstance(index.low, Access)
        before = dict(self.point)
        self.panel, self.panel_low = panel, index.low
        states = self._loops(compute, points, [index], states, inside)
        self.panel, self.point = "", before
        return states

    def read(self, access: Access) -> Register:
        """An element or a vector; from the panel, while there is one for it."""
        if not self.panel or access.buffer != self.schedule.panel:
            return super().read(access)
        lanes = self.schedule.lanes
        wide = self.schedule.tile(self.schedule.vector) * lanes
        row = self.point[self.schedule.reduce[-1]] - self.panel_low
        at = row * wide + self.point.get(VECTOR_PLACE, 0) * lanes
        return self.out.load(self.panel, self.simple(at), self.kernel.buffer(access.buffer).dtype,
                             lanes)

    def _filled_panel(self, compute: Compute, index: Index, inside: dict[str, Dim]) -> str:
        """Copies a part of the operand into the panel."""
        access = next(a for a in compute.args
                      if isinstance(a, Access) and a.buffer == self.schedule.panel)
        lanes = self.schedule.lanes
        wide = self.schedule.tile(self.schedule.vector) * lanes
        dtype = self.kernel.buffer(access.buffer).dtype
        if "panel" not in self.arrays:
            self.arrays["panel"] = self.out.alloc("panel", dtype, self.schedule.depth * wide)
        before = dict(self.point)
        self.point |= inside
        assert not isinstance(index.low, Access)
        assert not isinstance(index.high, Access)
        if self._is_across(access):
            self._transposed(access, index.name, (index.low, index.high), wide)
        else:
            self._copied(access, index.name, (index.low, index.high), wide)
        self.point = before
        return self.arrays["panel"]

    def _is_across(self, access: Access) -> bool:
        """Whether neighbours along the vector index are no neighbours in memory."""
        return coefficient(self._offset(access), LANE) != 1

    def _copied(
        self, access: Access, name: str, bounds: tuple[Dim, Dim], wide: int
    ) -> None:
        low, high = bounds
        vector, lanes = self.schedule.vector, self.schedule.lanes
        places = [self.vector_at(k) for k in range(wide // lanes)]
        self.span(name, low, high - 1)
        with self.out.block() as body:
            self.point[name] = symbol(name)
            for k, place in enumerate(places):
                self.point[vector] = place
                value = self.out.widen(super().read(access), lanes)
                self.out.store(self.arrays["panel"],
                               (symbol(name) - low) * wide + k * lanes, value)
        self.out.loop(name, low, high, body)

    @abstractmethod
    def vector_at(self, place: int) -> Dim:
        """The vector index at a place of its tile here."""

    def _transposed(
        self, access: Access, name: str, bounds: tuple[Dim, Dim], wide: int
    ) -> None:
        """Loads rows along the reduced index, as many as there are lanes, and stores columns."""
        low, high = bounds
        vector, lanes = self.schedule.vector, self.schedule.lanes
        for k in range(wide // lanes):
            rows = self._rows(self.vector_at(k))
            turn = self.out.fresh(f"{name}.")
            self.span(turn, 0, self.simple(ceildiv(high - low, lanes)) - 1)
            with self.out.block() as body:
                first = low + symbol(turn) * lanes
                mask = self.out.mask(first, high, lanes)
                loaded = []
                for row in rows:
                    point = self.point | {vector: row, name: first}
                    at = offset_of(self.kernel, access, point, self.ranges)
                    dtype = self.kernel.buffer(access.buffer).dtype
                    loaded.append(self.out.load(access.buffer, at, dtype, lanes, mask))
                for lane, column in enumerate(self.out.transpose(loaded)):
                    place = symbol(turn) * (lanes * wide) + lane * wide + k * lanes
                    self.out.store(self.arrays["panel"], place, column)
            self.out.loop(turn, 0, self.simple(ceildiv(high - low, lanes)), body)

    def _rows(self, place: Dim) -> list[Dim]:
        """The vector index in each lane; past the end the last one again, which is dropped."""
        rows: list[Dim] = []
        bound = self.vector_bound
        for lane in range(self.schedule.lanes):
            value = substitute(place, {LANE: lane})
            if not (isinstance(bound, int) and bound % self.schedule.lanes == 0):
                let = self.out.fresh("row")
                self.out.add(Let(let, minimum(value, bound - 1)))
                self.span(let, 0, bound - 1)
                value = symbol(let)
            rows.append(value)
        return rows
