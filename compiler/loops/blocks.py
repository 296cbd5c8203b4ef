"""Applying a schedule: reductions of a block of tiles at a time.

The outer reduced loops go round the tiles of the block, whose sums lie in memory in the meantime:
what the inner loops read is then little enough for a fast cache, and serves all tiles.

    for the outer reduced loops:
        for the tiles of the block:
            sums[tile] += …                     over the inner reduced loops

The operand that a tile's vectors read may be copied into panels first. A panel holds what they need
of it, for `depth` values of the innermost reduced index, one after another. So it is read from far
memory once a block, whatever its stride, and its columns may be its rows: then it is transposed on
the way. Where the lanes lie along a reduced index, it is the operand that all tiles of the block
share, in vectors of the index of theirs that it has.

    for k.p, parts of the reduced index:
        panel[k, v] = operand[k, v]             for k of the part, v of the tile's vectors
        for the tiles of the block:
            sums[tile] += left[tile, k] * panel[k, v]   for k of the part
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

from dlc.compiler.kernels.accesses import LANE, uses
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.reduce import VECTOR_PLACE, State
from dlc.compiler.loops.turns import Turning
from dlc.ir.dims import Dim, ceildiv, coefficient, minimum, symbol
from dlc.ir.kernel import Access, Compute, Index


class Blocks(Turning):
    """Carries out a reduction for a block of tiles at one place of the outer loops."""

    panel = ""  # the memory of the panel, while reads go there
    panel_low: Dim = 0  # the reduced index where it begins

    @abstractmethod
    def tile_points(self, vectors: Sequence[Dim] | None = None) -> list[dict[str, Dim]]:
        """What each index is at each place of the register tile here, or of some of its vectors."""

    @abstractmethod
    def tile_loops(
        self, computes: list[Compute], at: Dim, stack: str, like: Register
    ) -> None:
        """What comes after the reduction, place by place, from accumulators on the stack."""

    @abstractmethod
    def fetch_tile(self) -> None:
        """Asks for the memory that what comes after the reduction of a tile reads."""

    @abstractmethod
    def enter_tile(self, number: Dim) -> None:
        """Moves the innermost outer loop to a tile of the block."""

    def blocked(self, compute: Compute, after: list[Compute], turns: Dim) -> None:
        """The reduction of `turns` tiles, at most `schedule.block`, and what follows it."""
        order = self.schedule.reduce
        over = sorted(compute.over, key=lambda i: order.index(i.name))
        outside, inner = over[:self.schedule.outside], over[self.schedule.outside:]
        if self.schedule.panel and not outside:
            low, high = (self._bound(b, self.point) for b in (inner[0].low, inner[0].high))
            left = self.simple(self.schedule.depth - (high - low))
            if not isinstance(left, int) or left >= 0:
                with self.out.block() as body:
                    self._whole(compute, after, turns, Index(inner[0].name, high, low))
                self.out.when((left,), body)
            if not isinstance(left, int) or left < 0:
                with self.out.block() as body:
                    self._in_parts(compute, after, turns, (outside, inner))
                self.out.when((-1 - left,), body)
        else:
            self._in_parts(compute, after, turns, (outside, inner))

    def _in_parts(
        self, compute: Compute, after: list[Compute], turns: Dim,
        over: tuple[list[Index], list[Index]],
    ) -> None:
        """Sums lie in memory between the turns of the outer reduced loops, and between panels."""
        assert compute.combine is not None
        like = self._empty(compute, self.schedule.lanes)[0]
        size = self._tile_places() * like.lanes
        sums = self.out.alloc("sums", like.dtype, self.schedule.block * size)
        self._clear(sums, turns, like)
        self._parts(compute, turns, over, sums, {})
        self._each_tile(turns, lambda at: self.tile_loops(after, at, sums, like))

    def result(self, sums: Register) -> Register:
        """The result at one place: if the vector index is reduced, the sum over the lanes."""
        if self.schedule.vector not in self.schedule.reduce or sums.lanes == 1:
            return sums
        return self.out.over_lanes("add", sums)

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
        like = self._empty(compute, self.schedule.lanes)[0]
        stack = self.out.alloc("acc", like.dtype, self._tile_places() * like.lanes)

        def some(vectors: Sequence[Dim]) -> None:
            points = self.tile_points(vectors)
            states = [self._empty(compute, like.lanes) for _ in points]
            states = self._on_panel(compute, index, panel, points, states, {})
            for k, (register,) in zip(self._numbers(vectors), states, strict=True):
                self.out.store(stack, k * like.lanes, register)

        def one(_: Dim) -> None:
            self.fetch_tile()
            self._for_vectors(some)
            self.tile_loops(after, 0, stack, like)

        self._each_tile(turns, one)

    def _clear(self, sums: str, turns: Dim, like: Register) -> None:
        place = self.out.fresh("z")
        with self.out.block() as body:
            zero = self.out.constant(like.dtype, 0.0, like.lanes)
            self.out.store(sums, symbol(place) * like.lanes, zero)
        self.out.loop(place, 0, turns * self._tile_places(), body)

    def _parts(
        self, compute: Compute, turns: Dim, over: tuple[list[Index], list[Index]], sums: str,
        inside: dict[str, Dim],
    ) -> None:
        """The outer reduced loops, and what is in them."""
        outside, inner = over
        if not outside:
            if self.schedule.panel:
                self._panels(compute, turns, inner[0], sums, inside)
            else:
                self._add_to(sums, turns, lambda points, states: self._loops(
                    compute, points, inner, states, inside), compute)
            return
        first, rest = outside[0], outside[1:]
        low, high = (self._bound(b, self.point | inside) for b in (first.low, first.high))
        name = first.name
        value: Dim = symbol(name)
        if first.name == self.schedule.vector:
            lanes = self.schedule.lanes
            name, self.vector_bound = f"{first.name}.b", high
            value, low, high = symbol(name) * lanes + symbol(LANE), 0, self.simple(
                ceildiv(high, lanes))
        self.span(name, low, high - 1)
        with self.out.block() as body:
            self._parts(compute, turns, (rest, inner), sums, inside | {first.name: value})
        self.out.loop(name, low, high, body)

    def _panels(
        self, compute: Compute, turns: Dim, index: Index, sums: str, inside: dict[str, Dim]
    ) -> None:
        """The innermost reduced loop in parts, for each of which there is a panel."""
        part, depth = f"{index.name}.p", self.schedule.depth
        first, last = (self._bound(b, self.point | inside) for b in (index.low, index.high))
        count = self.simple(ceildiv(last - first, depth))
        self.span(part, 0, count - 1)
        with self.out.block() as body:
            low = first + symbol(part) * depth
            one = Index(index.name, minimum(last, low + depth), low)
            panel = self._filled_panel(compute, one, inside)
            self._add_to(sums, turns, lambda points, states: self._on_panel(
                compute, one, panel, points, states, inside), compute)
        self.out.loop(part, 0, count, body)

    def _add_to(
        self, sums: str, turns: Dim,
        more: Callable[[list[dict[str, Dim]], list[State]], list[State]], compute: Compute,
    ) -> None:
        """Adds to the sums of each tile."""
        assert compute.combine is not None
        dtype, lanes = compute.combine.dtype, self.schedule.lanes
        size = self._tile_places()

        def some(at: Dim, vectors: Sequence[Dim]) -> None:
            places = [(at * size + k) * lanes for k in self._numbers(vectors)]
            states: list[State] = [(self.out.load(sums, p, dtype, lanes),) for p in places]
            states = more(self.tile_points(vectors), states)
            for place, (register,) in zip(places, states, strict=True):
                self.out.store(sums, place, register)

        self._each_tile(turns, lambda at: self._for_vectors(lambda vectors: some(at, vectors)))

    def _for_vectors(self, some: Callable[[Sequence[Dim]], None]) -> None:
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

    @abstractmethod
    def vectors_left(self) -> Dim:
        """How many vectors there are from the first one of the register tile here on."""

    def _numbers(self, vectors: Sequence[Dim]) -> list[Dim]:
        """The numbers of the places of the register tile that are in some of its vectors."""
        numbers: list[Dim] = [0]
        for tile in self.schedule.tiles:
            own = vectors if tile.index == self.panel_index else range(tile.size)
            numbers = [n * tile.size + k for n in numbers for k in own]
        return numbers

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
        if not self.panel or not self._is_wide(access):
            return super().read(access)
        lanes, wide = self.schedule.lanes, self._panel_width()
        row = self.point[self.schedule.reduce[-1]] - self.panel_low
        at = row * wide + self.point.get(VECTOR_PLACE, 0) * lanes
        value = self.out.load(
            self.panel, self.simple(at), self.kernel.buffer(access.buffer).dtype, lanes)
        if self.schedule.vector in self.schedule.reduce:
            self.masked.add(value.name)  # as it was when it was copied
        return value

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

    def _is_wide(self, access: Access) -> bool:
        """Whether it is the operand in the panel; one buffer may be both operands."""
        schedule = self.schedule
        return (access.buffer == schedule.panel and uses(access, schedule.vector)
                and not uses(access, schedule.order[-1]))

    def _filled_panel(self, compute: Compute, index: Index, inside: dict[str, Dim]) -> str:
        """Copies a part of the operand into the panel."""
        access = next(a for a in compute.args
                      if isinstance(a, Access) and self._is_wide(a))
        dtype = self.kernel.buffer(access.buffer).dtype
        if "panel" not in self.arrays:
            size = self.schedule.depth * self._panel_width()
            self.arrays["panel"] = self.out.alloc("panel", dtype, size)
        before = dict(self.point)
        self.point |= inside
        assert not isinstance(index.low, Access)
        assert not isinstance(index.high, Access)
        fill = self._transposed if self._is_across(access) else self._copied
        bounds = index.low, index.high
        self._for_vectors(lambda vectors: fill(access, index.name, bounds, vectors))
        self.point = before
        return self.arrays["panel"]

    def _is_across(self, access: Access) -> bool:
        """Whether neighbours along the vector index are no neighbours in memory."""
        return coefficient(self._offset(access), LANE) != 1

    def _copied(
        self, access: Access, name: str, bounds: tuple[Dim, Dim], vectors: Sequence[Dim]
    ) -> None:
        low, high = bounds
        wide, lanes, before = self._panel_width(), self.schedule.lanes, dict(self.point)
        places = [(k, self.panel_place(k)) for k in vectors]
        self.span(name, low, high - 1)
        with self.out.block() as body:
            self.point[name] = symbol(name)
            for k, place in places:
                self.point[self.panel_index] = place
                value = self.out.widen(super().read(access), lanes)
                self.out.store(self.arrays["panel"],
                               (symbol(name) - low) * wide + k * lanes, value)
        self.out.loop(name, low, high, body)
        self.point = before

    @abstractmethod
    def panel_place(self, place: Dim) -> Dim:
        """The index of a panel's vectors at a place of its tile here; past the end the last again.
        """

    def _transposed(
        self, access: Access, name: str, bounds: tuple[Dim, Dim], vectors: Sequence[Dim]
    ) -> None:
        """Loads rows along the reduced index, as many as there are lanes, and stores columns."""
        low, high = bounds
        wide, lanes = self._panel_width(), self.schedule.lanes
        count = self.simple(ceildiv(high - low, lanes))

        def turn(place: Dim) -> None:
            rows = self.row_points(self.panel_place(place))
            part = self.out.fresh(f"{name}.")
            self.span(part, 0, count - 1)
            with self.out.block() as body:
                first = low + symbol(part) * lanes
                for lane, column in enumerate(self.load_turned(access, name, (first, high), rows)):
                    row = symbol(part) * (lanes * wide) + lane * wide
                    self.out.store(self.arrays["panel"], row + place * lanes, column)
            self.out.loop(part, 0, count, body)

        if len(vectors) == 1:
            turn(vectors[0])
            return
        at = self.out.fresh("vector.")  # one code for all: it is long
        self.span(at, 0, len(vectors) - 1)
        with self.out.block() as body:
            turn(vectors[0] + symbol(at))
        self.out.loop(at, 0, len(vectors), body)
