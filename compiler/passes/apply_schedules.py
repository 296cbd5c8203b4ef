"""apply_schedules: makes Loops of each Kernel and its Schedule.

The outer indices become loops over tiles; the first ones are split into chunks. A reduction keeps
its accumulators, one for each place of the register tile, in registers over all its loops. What
follows it (the epilogue) is then done place by place: in a loop over the tile, which reads the
accumulators back from the stack, so that its code stands there once.

The schedules of a GPU have threads: `loops/threads.py` gives them the places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product as places

from dlc.compiler.kernels.accesses import LANE
from dlc.compiler.kernels.ranges import bind
from dlc.compiler.kernels.settle import parts_of, settled
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.chains import Chaining
from dlc.compiler.loops.edges import Edging
from dlc.compiler.loops.reduce import VECTOR_PLACE
from dlc.compiler.loops.stripes import Striping
from dlc.compiler.loops.turned_sums import TurnedSums
from dlc.ir.dims import Dim, ceildiv, floordiv, maximum, minimum, mod, product, substitute, symbol
from dlc.ir.kernel import Access, Compute, Index, Kernel
from dlc.ir.loops import Let, LoopFunction, Pointer
from dlc.ir.program import Launch, Program, each_step
from dlc.ir.schedule import Schedule

LINE = 64  # bytes of memory that come at once


def apply_schedules(
    program: Program, made: Callable[[LoopFunction], object] = lambda loops: None
) -> Program:
    """Adds the loops of every kernel; `made` is told those of a launched one at once."""
    schedules = dict(program.schedules)
    launched = {step.kernel for step in each_step(program.steps) if isinstance(step, Launch)}
    loops = []
    for kernel in program.kernels:
        loops.append(apply(kernel, schedules[kernel.name]))
        if kernel.name in launched:
            made(loops[-1])
    return replace(program, loops=tuple(loops))


def apply(kernel: Kernel, schedule: Schedule) -> LoopFunction:
    """The loops of one kernel."""
    if schedule.threads:
        from dlc.compiler.loops.on_gpu import apply_on_gpu  # nobody else waits for all this

        return apply_on_gpu(kernel, schedule)
    return Applying(kernel, schedule).function()


class Applying(Striping, TurnedSums, Chaining, Edging):
    """Applies a schedule: the loops over outer indices; the base classes fill them."""

    def function(self) -> LoopFunction:
        """The whole function."""
        outer = [next(i for i in self.kernel.outer if i.name == n) for n in self.schedule.order]
        for index in outer:
            self.span(self._loop_name(index), 0, self._trips(index) - 1)
        outer = outer[:len(outer) - self.schedule.within]
        split = self.schedule.parallel
        turns = product(tuple(self._trips(index) for index in outer[:split]))
        chunks, chunk = self.schedule.chunks, symbol("chunk")
        if self.schedule.together > 1:
            self.pieces(outer[0], lambda: self._outer(outer[1:], 0, 0))
        elif split == 0 or chunks == turns:
            self._numbered(outer, split, chunk)
        else:
            turn = self._loop_name(outer[0]) if split == 1 else "turn"
            first, after = (floordiv(number * turns, chunks) for number in (chunk, chunk + 1))
            self._outer_loop(
                outer[0] if split == 1 else None, turn, first, after,
                lambda: self._numbered(outer, split, symbol(turn)))
        pointers = tuple(
            Pointer(b.name, b.dtype, b.role != "in") for b in self.kernel.params)
        return LoopFunction(
            self.kernel.name, self.kernel.symbols, pointers, chunks,
            tuple(self.out.blocks[0]), together=self.schedule.together)

    def _numbered(self, outer: list[Index], split: int, number: Dim) -> None:
        """The loops after the first `split`, whose turns are counted through by `number`."""
        rest = number
        for index in reversed(outer[:split]):
            name = self._loop_name(index)
            if symbol(name) is not number:
                first = index is outer[0]
                self.out.add(Let(name, rest if first else mod(rest, self._trips(index))))
                rest = floordiv(rest, self._trips(index))
        self._outer(outer, 0, split)

    def _trips(self, index: Index) -> Dim:
        """The turns of a loop; that over blocks of tiles is the innermost."""
        if self._is_blocked(index.name):
            if self.schedule.blocks != 0:
                return self.schedule.blocks
            return ceildiv(self._tile_count(index), self.schedule.block)
        return self._tile_count(index)

    def _tile_count(self, index: Index) -> Dim:
        assert not isinstance(index.high, Access)
        return ceildiv(index.high, self._tile_size(index.name))

    def _is_blocked(self, name: str) -> bool:
        return self.schedule.block > 0 and name == self.schedule.innermost

    def _tile_size(self, name: str) -> int:
        wide = name in (self.schedule.vector, self.schedule.turn)
        return self.schedule.tile(name) * (self.schedule.lanes if wide else 1)

    def _loop_name(self, index: Index) -> str:
        blocked = self._is_blocked(index.name)
        return f"{index.name}.c" if blocked else self._tile_name(index.name)

    def _tile_name(self, name: str) -> str:
        """The name of the number of a tile of an index."""
        return f"{name}.b" if self._tile_size(name) > 1 else name

    def _outer(self, outer: list[Index], depth: int, split: int) -> None:
        """The loops from `depth` on; those before `split` have their values."""
        if depth == len(outer):
            self._body()
            return
        index = outer[depth]
        name, step = self._loop_name(index), self._tile_size(index.name)
        if index.name == self.schedule.vector:
            self.point[index.name] = symbol(name) * step + symbol("lane")
            self.vector_bound = index.high if not isinstance(index.high, Access) else 0
        else:
            self.point[index.name] = symbol(self._tile_name(index.name)) * step
        if depth >= split:
            self._loop_in_parts(index, name, lambda: self._outer(outer, depth + 1, split))
        elif self._peels(index) and split > 1:
            self._either(index, symbol(name), lambda: self._outer(outer, depth + 1, split))
        else:
            self._outer(outer, depth + 1, split)

    def _loop_in_parts(self, index: Index, name: str, fill: Callable[[], None]) -> None:
        """The loop of an index; in parts within which choices by it are known, if any are."""
        schedule = self.schedule
        computes = [c for c in self.kernel.body if isinstance(c, Compute) and not c.over]
        plain = len(computes) == len(self.kernel.body) and not schedule.turn
        parts = parts_of(index, computes, schedule.lanes) if (
            plain and index.name == schedule.vector) else []
        if not parts:
            self._outer_loop(index, name, 0, self._trips(index), fill)
            return
        before = self.index_ranges
        for low, after in parts:
            self.index_ranges = {**before, index.name: (low, after - 1)}
            self.settled = dict(zip(computes, settled(computes, self.index_ranges), strict=True))
            self.forget_ranges()
            first, last = low // schedule.lanes, ceildiv(after, schedule.lanes)
            self.span(name, first, last - 1)
            with self.out.block() as body:
                fill()
            self.out.loop(name, first, last, body)
        self.index_ranges, self.settled = before, {}
        self.forget_ranges()
        self.span(name, 0, self._trips(index) - 1)

    def _outer_loop(
        self, index: Index | None, name: str, low: Dim, high: Dim, fill: Callable[[], None]
    ) -> None:
        """A loop whose body is made by `fill`; whole vectors and the last, ragged one apart."""
        if index is None or not self._peels(index):
            with self.out.block() as body:
                fill()
            self.out.loop(name, low, high, body)
            return
        whole = self._whole_vectors(index)
        for self.whole in (True, False):
            with self.out.block() as body:
                fill()
            first, after = (low, whole) if self.whole else (whole, high)
            if low != 0:
                first, after = maximum(low, first), minimum(after, high)
            self.out.loop(name, first, after, body)

    def _either(self, index: Index, number: Dim, fill: Callable[[], None]) -> None:
        """What `fill` makes for a vector, for a whole and for a ragged one."""
        whole = self._whole_vectors(index)
        for self.whole in (True, False):
            with self.out.block() as body:
                fill()
            self.out.when((whole - 1 - number if self.whole else number - whole,), body)

    def _peels(self, index: Index) -> bool:
        """Whether the code for whole vectors of an index stands apart from that for the rest.

        Memory that is read under a mask is not fetched ahead of its use.
        """
        schedule = self.schedule
        if index.name != schedule.vector or schedule.tiles or schedule.block or schedule.turn:
            return False
        assert not isinstance(index.high, Access)
        return mod(index.high, schedule.lanes) != 0 and self._whole_vectors(index) != 0

    def _whole_vectors(self, index: Index) -> Dim:
        assert not isinstance(index.high, Access)
        return floordiv(index.high, self.schedule.lanes)

    def _body(self) -> None:
        """All computes at one place of the outer loops."""
        if self.schedule.part:
            self.chained()
            return
        if self.schedule.turn:
            index = next(i for i in self.kernel.outer if i.name == self.schedule.turn)
            assert not isinstance(index.high, Access)
            self.turned([c for c in self.kernel.body if isinstance(c, Compute)], index.high)
            return
        if self.schedule.sweep or not (self.schedule.tiles or self.schedule.block):
            self.sequence(self.kernel.body)
            return
        computes = [c for c in self.kernel.body if isinstance(c, Compute)]
        reduction = next(c for c in computes if c.combine is not None)
        after = computes[computes.index(reduction) + 1:]
        if self.schedule.block:
            self.blocked(reduction, after, self._tiles_of_block())
        elif self.schedule.along:
            self.turned_tile(reduction, after)
        else:
            self.in_fitting_tiles(lambda: self._tile(reduction, after))

    def _tile(self, reduction: Compute, after: list[Compute]) -> None:
        """A register tile that is in no block, and what comes after it."""
        self.fetch_tile()
        self._epilogue(after, self.reduce(reduction, self.tile_points()))

    def _tiles_of_block(self) -> Dim:
        """How many tiles the block here has."""
        index = self._innermost()
        turns = self._first_tile(1) - self._first_tile()
        if self.schedule.blocks == 0:
            turns = minimum(self.schedule.block, self._tile_count(index) - self._first_tile())
        return self.simple(turns)

    def _first_tile(self, later: int = 0) -> Dim:
        """The first tile of the block here, or of one `later`."""
        index, blocks = self._innermost(), self.schedule.blocks
        number = symbol(self._loop_name(index)) + later
        if blocks == 0:
            return number * self.schedule.block
        return floordiv(number * self._tile_count(index), blocks)

    def _innermost(self) -> Index:
        return next(i for i in self.kernel.outer if i.name == self.schedule.innermost)

    def enter_tile(self, number: Dim) -> None:
        """Moves the innermost outer loop to a tile of the block."""
        index = self._innermost()
        name = self._tile_name(index.name)
        self.out.add(Let(name, self._first_tile() + number))
        self.span(name, 0, self._tile_count(index) - 1)

    def fetch_tile(self) -> None:
        """Asks for the memory that what comes after the reduction of a tile reads.

        There is no need to keep inside: what is past the end is not touched.
        """
        reads = [a for c in self.kernel.body if isinstance(c, Compute) and c.combine is None
                 for a in c.args if isinstance(a, Access) and a.buffer in self.schedule.fetch]
        if not reads:
            return
        before = dict(self.point)
        others = [t for t in self.schedule.tiles if t.index != self.schedule.vector]
        with self.out.block() as body:
            for tile in others:
                self.point[tile.index] = before[tile.index] + symbol(f"{tile.index}.f")
                self.span(f"{tile.index}.f", 0, tile.size - 1)
            for access in dict.fromkeys(reads):
                self._fetch_along(access)
        for tile in reversed(others):
            inner = body
            with self.out.block() as body:
                self.out.loop(f"{tile.index}.f", 0, tile.size, inner)
        self.out.blocks[-1] += body
        self.point = before

    def _fetch_along(self, access: Access) -> None:
        """The lines of an access for all vectors of a tile, and that of their last element."""
        buffer = self.kernel.buffer(access.buffer)
        wide = self.schedule.lanes * self.schedule.tile(self.schedule.vector)
        first = bind(self._offset(access), {LANE: 0}, self.ranges)
        for at in (*range(0, wide, LINE // buffer.dtype.size), wide - 1):
            self.out.fetch(access.buffer, first + at, buffer.dtype)

    def panel_place(self, place: Dim) -> Dim:
        """The index of a panel's vectors at a place of its tile here; past the end the last again.
        """
        name = self.panel_index
        return self._clamped(name, self.schedule.tile(name), place)

    def vectors_left(self) -> Dim:
        """How many vectors there are from the first one of the register tile here on."""
        name = self.schedule.vector
        size = self.schedule.tile(name)
        return self.simple(self._places(name)[0] - symbol(self._tile_name(name)) * size)

    def tile_points(self, vectors: Sequence[Dim] | None = None) -> list[dict[str, Dim]]:
        """What each index is at each place of the register tile here, or of some of its vectors."""
        moves: list[list[dict[str, Dim]]] = []
        for tile in self.schedule.tiles:
            name, size = tile.index, tile.size
            if name != self.panel_index:
                moves.append([{name: self._clamped(name, size, k)} for k in range(size)])
            else:
                numbers = range(size) if vectors is None else vectors
                moves.append([{name: self.panel_place(k), VECTOR_PLACE: k} for k in numbers])
        points = []
        for chosen in places(*moves):
            moved = dict(self.point)
            for move in chosen:
                moved |= move
            points.append(moved)
        return points

    def _clamped(self, name: str, size: int, k: Dim) -> Dim:
        """Place k of a tile; past the end, the last index again (its result is dropped).

        Places of the vector index are vectors: the last one again, as a whole.
        """
        count, lanes = self._places(name)
        at = self.point[name] + k * lanes
        if k == 0 or (isinstance(count, int) and count % size == 0) or (
                self.whole and name == self.schedule.vector) or name == self.schedule.along:
            return at
        first = minimum(floordiv(substitute(self.point[name], {LANE: 0}), lanes) + k, count - 1)
        return self.named(name, first, count - 1) * lanes + (symbol("lane") if lanes > 1 else 0)

    def _places(self, name: str) -> tuple[Dim, int]:
        """How many places an outer index has for tiles, and how many of its values are one."""
        index = next(i for i in self.kernel.outer if i.name == name)
        assert not isinstance(index.high, Access)
        if name == self.schedule.vector:
            return ceildiv(index.high, self.schedule.lanes), self.schedule.lanes
        return index.high, 1

    def _epilogue(self, computes: list[Compute], sums: list[Register]) -> None:
        """Stores the results on the stack, and carries on place by place."""
        lanes, dtype = sums[0].lanes, sums[0].dtype
        stack = self.out.alloc("acc", dtype, len(sums) * lanes)
        for k, register in enumerate(sums):
            self.out.store(stack, k * lanes, register)
        self.tile_loops(computes, 0, stack, sums[0])

    def tile_loops(
        self, computes: list[Compute], at: Dim, stack: str, like: Register
    ) -> None:
        """What comes after the reduction, place by place, from accumulators on the stack.

        Where it goes over memory, tiles that do not stick out have code without masks.
        """
        tiles = [(t.index, t.size) for t in self.schedule.tiles]
        if self.schedule.fetch:
            self.in_whole_tiles(lambda: self._tile_loops(computes, tiles, at, stack, like))
        else:
            self._tile_loops(computes, tiles, at, stack, like)

    def _tile_loops(
        self, computes: list[Compute], tiles: list[tuple[str, int]], at: Dim, stack: str,
        like: Register,
    ) -> None:
        if not tiles:
            self.locals["acc"] = self.result(self.out.load(
                stack, at * like.lanes, like.dtype, like.lanes))
            for compute in computes:
                self.compute(compute)
            return
        (name, size), rest = tiles[0], tiles[1:]
        count, lanes = self._places(name)
        var, before = f"{name}.t", self.point[name]
        self.span(var, 0, size - 1)
        self.point[name] = before + symbol(var) * lanes
        high = minimum(size, count - symbol(self._tile_name(name)) * size)
        with self.out.block() as body:
            self._tile_loops(computes, rest, at * size + symbol(var), stack, like)
        self.out.loop(var, 0, self.simple(high), body)
        self.point[name] = before
