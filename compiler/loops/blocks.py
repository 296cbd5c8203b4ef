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
from math import prod

from dlc.compiler.kernels.accesses import LANE
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.panels import Panels, Part
from dlc.compiler.loops.reduce import State
from dlc.ir.dims import Dim, ceildiv, symbol
from dlc.ir.kernel import Access, Compute, Index


class Blocks(Panels):
    """Carries out a reduction for a block of tiles at one place of the outer loops."""

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
        left = self._left_in_panel(outside, inner)
        if left is None or (isinstance(left, int) and left < 0):
            self._in_parts(compute, after, turns, (outside, inner))
        elif isinstance(left, int):
            low, high = self._ends(inner[0])
            parts = ((inner[0].name, low, high, self.schedule.depth),)
            self._whole(compute, after, turns, parts, self.filled_panel(compute, parts, {}))
        else:
            self._one_or_more(compute, after, turns, inner[0], left)

    def _left_in_panel(self, outside: list[Index], inner: list[Index]) -> Dim | None:
        """How much room a panel has beside all of the operand; None if there is no such panel."""
        if not self.schedule.panel or outside or len(inner) != 1:
            return None
        low, high = self._ends(inner[0])
        return self.simple(self.schedule.depth - (high - low))

    def _ends(self, index: Index) -> tuple[Dim, Dim]:
        return self._bound(index.low, self.point), self._bound(index.high, self.point)

    def _one_or_more(
        self, compute: Compute, after: list[Compute], turns: Dim, index: Index, left: Dim
    ) -> None:
        """One panel holds all where `left` is not negative. Panels are filled by one code: it is
        long where rows become columns."""
        low, high = self._ends(index)
        one, more = (left,), (-1 - left,)
        sums, like = self._sums(compute)

        def on_panel(panel: str, parts: tuple[Part, ...]) -> None:
            with self.out.block() as body:
                whole = ((index.name, low, high, self.schedule.depth),)
                self._whole(compute, after, turns, whole, panel)
            self.out.when(one, body)
            with self.out.block() as body:
                self._add_panel(compute, turns, ([index], parts), panel, sums, {})
            self.out.when(more, body)

        with self.out.block() as body:
            self._clear_all(sums, turns, like)
        self.out.when(more, body)
        self.each_panel(compute, [index], {}, on_panel)
        with self.out.block() as body:
            self._each_tile(turns, lambda at: self.tile_loops(after, at, sums, like))
        self.out.when(more, body)

    def _in_parts(
        self, compute: Compute, after: list[Compute], turns: Dim,
        over: tuple[list[Index], list[Index]],
    ) -> None:
        """Sums lie in memory between the turns of the outer reduced loops, and between panels."""
        sums, like = self._sums(compute)
        self._clear_all(sums, turns, like)
        self._parts(compute, turns, over, sums, {})
        self._each_tile(turns, lambda at: self.tile_loops(after, at, sums, like))

    def _sums(self, compute: Compute) -> tuple[str, Register]:
        """Memory for the sums of all tiles of a block, and what a register of them is like."""
        like = self._empty(compute, self.schedule.lanes)[0]
        size = self._tile_places() * like.lanes
        return self.out.alloc(
            "sums", like.dtype, self._turns_within() * self.schedule.block * size), like

    def _clear_all(self, sums: str, turns: Dim, like: Register) -> None:
        if self.schedule.within:
            self._each_tile(turns, lambda at: self._clear(sums, at, 1, like))
        else:
            self._clear(sums, 0, turns, like)

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
        self, compute: Compute, after: list[Compute], turns: Dim, parts: tuple[Part, ...],
        panel: str,
    ) -> None:
        """One panel holds all: sums stay in registers from first to last."""
        ((name, low, high, _),) = parts
        like = self._empty(compute, self.schedule.lanes)[0]
        stack = self.out.alloc("acc", like.dtype, self._tile_places() * like.lanes)

        def some(vectors: Sequence[Dim]) -> None:
            points = self.tile_points(vectors)
            states = [self._empty(compute, like.lanes) for _ in points]
            states = self.on_panel(
                compute, [Index(name, high, low)], parts, panel, points, states, {})
            for k, (register,) in zip(self._numbers(vectors), states, strict=True):
                self.out.store(stack, k * like.lanes, register)

        def one(_: Dim) -> None:
            self.fetch_tile()
            self.for_vectors(some)
            self.tile_loops(after, 0, stack, like)

        self._each_tile(turns, one)

    def _clear(self, sums: str, first: Dim, tiles: Dim, like: Register) -> None:
        """Sets the sums of some tiles to 0."""
        place, size = self.out.fresh("z"), self._tile_places()
        with self.out.block() as body:
            zero = self.out.constant(like.dtype, 0.0, like.lanes)
            self.out.store(sums, (first * size + symbol(place)) * like.lanes, zero)
        self.out.loop(place, 0, tiles * size, body)

    def _parts(
        self, compute: Compute, turns: Dim, over: tuple[list[Index], list[Index]], sums: str,
        inside: dict[str, Dim],
    ) -> None:
        """The outer reduced loops, and what is in them."""
        outside, inner = over
        if not outside:
            if self.schedule.panel:
                self._panels(compute, turns, inner, sums, inside)
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
        self, compute: Compute, turns: Dim, inner: list[Index], sums: str, inside: dict[str, Dim]
    ) -> None:
        """The inner reduced loops in parts, for each of which there is a panel."""
        self.each_panel(compute, inner, inside, lambda panel, parts: self._add_panel(
            compute, turns, (inner, parts), panel, sums, inside))

    def _add_panel(
        self, compute: Compute, turns: Dim, over: tuple[list[Index], tuple[Part, ...]],
        panel: str, sums: str, inside: dict[str, Dim],
    ) -> None:
        """Adds what one panel holds, parts of some indices, to the sums of each tile."""
        inner, parts = over
        self._add_to(sums, turns, lambda points, states: self.on_panel(
            compute, inner, parts, panel, points, states, inside), compute)

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

        self._each_tile(turns, lambda at: self.for_vectors(lambda vectors: some(at, vectors)))

    def _numbers(self, vectors: Sequence[Dim]) -> list[Dim]:
        """The numbers of the places of the register tile that are in some of its vectors."""
        numbers: list[Dim] = [0]
        for tile in self.schedule.tiles:
            own = vectors if tile.index == self.panel_index else range(tile.size)
            numbers = [n * tile.size + k for n in numbers for k in own]
        return numbers

    def _each_tile(self, turns: Dim, body: Callable[[Dim], None]) -> None:
        """The tiles of a block, in all turns of the loops within it; `body` gets their numbers."""
        before = dict(self.point)
        self._each_within(self.schedule.round_tiles, 0, turns, body)
        self.point = before

    def _each_within(
        self, names: tuple[str, ...], number: Dim, turns: Dim, body: Callable[[Dim], None]
    ) -> None:
        index = next((i for i in self.kernel.outer if i.name in names[:1]), None)
        name = index.name if index else f"{self.schedule.innermost}.i"
        high = turns if index is None else index.high
        assert not isinstance(high, Access)
        self.span(name, 0, high - 1)
        with self.out.block() as statements:
            if index is not None:
                self.point[name] = symbol(name)
                self._each_within(names[1:], number * high + symbol(name), turns, body)
            else:
                self.out.forget_memory()
                self.enter_tile(symbol(name))
                body(number * self.schedule.block + symbol(name))
        self.out.loop(name, 0, high, statements)

    def _turns_within(self) -> int:
        """How often the tiles of a block are gone through."""
        sizes = [i.high for i in self.kernel.outer if i.name in self.schedule.round_tiles]
        return prod(size for size in sizes if isinstance(size, int))
