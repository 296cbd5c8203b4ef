"""Applying a schedule: rows that lie side by side, a stripe of them at a time.

Where the lanes lie across the rows, or where rows are neighbours just outside the lanes, neighbours
along a row are far apart in memory. A turn along the rows then goes over all rows of a stripe, so
that memory is read and written in long pieces. What is known of each row (its sums, and what is
made of them) lies in an array for the stripe, with a vector a row if the lanes lie along it:

    for k along the rows:
        for s, the vectors (or rows) of the stripe:
            sums[s] += x[k, s]
    for s, the vectors (or rows) of the stripe:
        mean[s] = sums[s] / n
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby

from dlc.compiler.kernels.accesses import LANE, accesses, uses
from dlc.compiler.kernels.moments import Moments, moments_of
from dlc.compiler.kernels.sweeps import sweeps
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.moments import SweepingMoments
from dlc.compiler.loops.reduce import State
from dlc.ir.dims import Dim, ceildiv, floordiv, maximum, minimum, symbol
from dlc.ir.kernel import Access, Compute, Index, Opaque, Seq

FEW_COLUMNS = 512  # of a row that is read from end to end before the next one begins
NEAR = 512 * 1024  # bytes that a near cache holds: there it is no matter
CHUNK = ("sum.c", "count.c", "rest.c", "squares.c")  # of a chunk of the rows of a stripe
SO_FAR = ("sum.f", "count.f", "squares.f", "shift.f", "whole.f")  # of all chunks so far


class Striping(SweepingMoments):
    """Carries out the body of a kernel whose schedule has sweeps over stripes."""

    kept: dict[str, list[tuple[str, Register]]]  # arrays of a local, with what they hold
    added: set[str]  # reductions whose accumulators were added up over the lanes
    striped = ""  # the index of the rows, while there is a stripe
    early: dict[tuple[Access, Dim], Register]  # what all rows of a stripe read, at some places
    along = ""  # the index of these places
    piece: tuple[Dim, Dim] | None = None  # the vectors of the stripe, if it is no whole tile

    def sequence(self, body: tuple[Compute | Seq | Opaque, ...]) -> None:
        """The statements in order; in sweeps over a stripe if the schedule says so."""
        if not self.schedule.sweep or not self.schedule.tiles:
            super().sequence(body)
            return
        self.added, self.early = set(), {}
        self.kept, self.striped, before = {}, self.schedule.tiles[0].index, dict(self.point)
        runs = sweeps([c for c in body if isinstance(c, Compute)])
        found = self.moments = moments_of(runs) if self.schedule.moments else None
        for along, group in groupby(runs, lambda run: bool(run[0].over)):
            if along:
                for run in group:
                    if found is not None and found.sum in run:
                        self._sweep_stripe_in_chunks(run, found)
                    elif found is None or run != [found.squares]:
                        self._sweep_stripe(run)
                    else:
                        self._each(lambda: self._keep(
                            found.squares.target.buffer, self._loaded(SO_FAR[2])))
            else:
                alone = [c for run in group for c in run]
                self._each(lambda alone=alone: self._here(alone))  # type: ignore[misc]
        self.point, self.striped = before, ""

    def pieces(self, index: Index, fill: Callable[[], None]) -> None:
        """What `fill` makes for each stripe of the vectors that this thread has: as few stripes as
        a tile is large enough for, and about as long."""
        size, lanes, chunks = self.schedule.tiles[0].size, self.schedule.lanes, self.schedule.chunks
        assert not isinstance(index.high, Access)
        vectors, name = ceildiv(index.high, lanes), f"{index.name}.b"
        first, after = (self.named(index.name, floordiv(symbol(at) * vectors, chunks), vectors)
                        for at in ("chunk", "chunk.after"))
        count = self.named(index.name, ceildiv(after - first, size), vectors)
        with self.out.block() as body:
            low, high = (self.named(index.name, first + floordiv(
                (symbol(name) + k) * (after - first), count), vectors) for k in (0, 1))
            self.piece = low, high
            self.vector_bound, self.point[index.name] = index.high, low * lanes + symbol(LANE)
            fill()
        self.out.loop(name, 0, count, body)

    @property
    def number(self) -> Dim:
        """The number of the vector in the stripe, where there is a loop over them."""
        return symbol(f"{self.striped}.s")

    def _here(self, computes: list[Compute]) -> None:
        for compute in computes:
            self.here(compute)

    def _sweep_stripe(self, run: list[Compute]) -> None:
        """One sweep along the rows of a stripe."""
        sums = [c for c in run if c.combine is not None]
        for compute in sums:
            self._begin(compute)
        order = self.schedule.reduce
        over = sorted(run[0].over, key=lambda i: order.index(i.name) if i.name in order else -1)
        before, bound = dict(self.point), self.vector_bound
        self._along_rows(over, lambda *last: self._along_last(run, *last))
        self.point = before
        self._end(sums, bound)

    def _end(self, sums: list[Compute], bound: Dim) -> None:
        """From the accumulators of a sweep to the numbers of the rows."""
        if self.striped != self.schedule.vector and self.schedule.lanes > 1:
            self.vector_bound = bound
            for compute in sums:
                self._each(lambda compute=compute: self._add_lanes(compute))  # type: ignore[misc]

    def _sweep_stripe_in_chunks(self, run: list[Compute], found: Moments) -> None:
        """One sweep along the rows, in which the squares about a mean are added up too; the lanes
        lie across the rows."""
        sums = [c for c in run if c.combine is not None and c is not found.sum]
        parts = {part: replace(found.sum, target=Access(part)) for part in (*CHUNK, *SO_FAR)}
        for compute in (*sums, *(parts[part] for part in SO_FAR)):
            self._begin(compute)
        order = self.schedule.reduce
        over = sorted(run[0].over, key=lambda i: order.index(i.name))
        before, bound = dict(self.point), self.vector_bound
        apart = [replace(self.rest_of(found.squares), target=Access(CHUNK[2])),
                 replace(found.squares, target=Access(CHUNK[3]))]
        chunked = [parts[CHUNK[0]] if c is found.sum else c for c in run]
        assert found.sum.combine is not None
        dtype = found.sum.combine.dtype

        def chunk(name: str, low: Dim, high: Dim) -> None:
            for part in CHUNK:
                self._begin(parts[part])
            self._each(lambda: self._keep(CHUNK[1], (self.out.index(dtype, high - low),)))
            self._along_last(chunked, name, low, high)
            self._each(lambda: self._mean_of_chunk(found))
            self._along_last(apart, name, low, high)
            self._each(self._merge)

        def last(name: str, low: Dim, high: Dim) -> None:
            index = next(i for i in over if i.name == name)
            loop, turns, first, after = self.parted(index, low, high)
            with self.out.block() as body:
                chunk(name, first, self.named(name, after, high))
            self.out.loop(loop, 0, turns, body)

        self._along_rows(over, last)
        self.point = before
        del self.kept[found.mean.target.buffer]  # it was that of a chunk
        self._begin(found.sum)
        self._each(lambda: self._keep(
            found.sum.target.buffer, self._loaded(SO_FAR[4])))
        self._end([*sums, found.sum], bound)

    def _moments(self, parts: tuple[str, ...]) -> State:
        """The moments of a chunk, or so far, of one vector of the stripe."""
        return tuple(self._loaded(part)[0] for part in parts)

    def _mean_of_chunk(self, found: Moments) -> None:
        total, number = self._moments(CHUNK[:2])
        name, mean = found.mean.target.buffer, self.mean(total, number)
        if name not in self.kept:
            self.kept[name] = [(self._array_of(name, mean), mean)]
        self._keep(name, (mean,))

    def _merge(self) -> None:
        """Puts the moments of a chunk to those so far, for one vector of the stripe."""
        merged = self.merged(self._moments(SO_FAR), self._moments(CHUNK))
        for part, value in zip(SO_FAR, merged, strict=True):
            self._keep(part, (value,))

    def _add_lanes(self, compute: Compute) -> None:
        """From the accumulators in the lanes to the number of the row here."""
        name, combine = compute.target.buffer, compute.combine
        assert combine is not None
        (value,) = self._lanes(combine, self._loaded(name))
        (array, _), *_ = self.kept[name]
        self.out.store(array, self.number * self.schedule.lanes, value)
        self.added.add(name)

    def _begin(self, compute: Compute) -> None:
        """Arrays for the accumulators of a reduction, empty."""
        name = compute.target.buffer
        self.kept[name] = [(self._array_of(name, r), r)
                           for r in self._empty(compute, self.schedule.lanes)]
        self.added.discard(name)

        def fill() -> None:
            empty = self._empty(compute, self.schedule.lanes)
            for (array, _), register in zip(self.kept[name], empty, strict=True):
                self.out.store(array, self.number * self.schedule.lanes, register)

        self._each(fill)

    def _array_of(self, name: str, like: Register) -> str:
        size = self.schedule.tile(self.striped) * self.schedule.lanes
        return self.out.alloc(f"{name}.", like.dtype, size)

    def _along_rows(self, over: list[Index], last: Callable[[str, Dim, Dim], None]) -> None:
        """The loops along the rows; `last` is given the index of the last one, and its bounds."""
        if not over:
            last("", 0, 1)
            return
        index, rest = over[0], over[1:]
        low, high = (self._bound(b, self.point) for b in (index.low, index.high))
        if index.name == self.schedule.vector:
            self._in_lanes(index.name, high, rest, last)
        elif rest:
            self.span(index.name, low, high - 1)
            self.point[index.name] = symbol(index.name)
            with self.out.block() as body:
                self._along_rows(rest, last)
            self.out.loop(index.name, low, high, body)
        else:
            last(index.name, low, high)

    def _along_last(self, run: list[Compute], name: str, low: Dim, high: Dim) -> None:
        """The places of the last index along the rows, several a turn."""
        if not name:
            self._turn(run, "", [0])
            return
        side = self.schedule.sweep
        whole = self.simple(floordiv(high - low, side))
        if self.piece is not None:
            whole = self.named(name, whole * self._several(run, high - low), whole)
        first = low + whole * side
        self._turns(run, name, (f"{name}.b", 0, whole), low, side)
        self._turns(run, name, (f"{name}.t", first, high), 0, 1)

    def _several(self, run: list[Compute], rows: Dim) -> Dim:
        """1 where several rows of far memory are read side by side, 0 where one after another: rows
        of few columns are one long piece then."""
        index = next(i for i in self.kernel.outer if i.name == self.striped)
        assert not isinstance(index.high, Access)
        size = max(self.kernel.buffer(a.buffer).dtype.size for c in run for a in accesses(c)
                   if uses(a, self.striped))
        near = floordiv(NEAR, maximum(rows * index.high * size, 1))
        return self.simple(minimum(floordiv(index.high, FEW_COLUMNS) + near, 1))

    def _in_lanes(
        self, name: str, high: Dim, rest: list[Index], inner: Callable[[str, Dim, Dim], None]
    ) -> None:
        """The loop along the rows whose index lies in the lanes; the last vector may be ragged."""
        lanes = self.schedule.lanes
        block, self.vector_bound = f"{name}.b", high
        whole, count = (self.simple(f(high, lanes)) for f in (floordiv, ceildiv))
        self.span(block, 0, count - 1)
        for self.whole, first, last in ((True, 0, whole), (False, whole, count)):
            if self.simple(last - first) == 0:
                continue
            self.point[name] = symbol(block) * lanes + symbol(LANE)
            with self.out.block() as body:
                self._along_rows(rest, inner)
            self.out.loop(block, first, last, body)
        self.whole = False

    def _turns(
        self, run: list[Compute], name: str, loop: tuple[str, Dim, Dim], low: Dim, side: int
    ) -> None:
        """A loop along the rows that takes `side` places a turn."""
        var, first, last = loop
        if self.simple(last - first) == 0:
            return
        self.span(var, first, last - 1)
        with self.out.block() as body:
            self._turn(run, name, [low + symbol(var) * side + k for k in range(side)])
        self.out.loop(var, first, last, body)

    def _turn(self, run: list[Compute], name: str, places: list[Dim]) -> None:
        """Some places along the rows, for all rows of the stripe."""
        if name:
            self._read_early(run, name, places)

        def fill() -> None:
            states = {c.target.buffer: self._loaded(c.target.buffer) for c in run if c.combine}
            for place in places:
                self.point[name] = place
                for compute in run:
                    if compute.combine is None:
                        self.here(compute)
                    else:
                        key = compute.target.buffer
                        states[key] = self._step(compute, dict(self.point), states[key])
            for key, state in states.items():
                self._keep(key, state)

        self._each(fill)
        self.early.clear()

    def _read_early(self, run: list[Compute], name: str, places: list[Dim]) -> None:
        """Reads what does not differ from row to row before the loop over them."""
        written = {c.target.buffer for c in run}
        shared = [a for c in run for a in c.args if isinstance(a, Access) and uses(a, name)
                  and a.buffer not in written and not uses(a, self.striped)
                  and a.fill is None and not any(isinstance(e, Access) for e in a.at)]
        self.along, lanes = name, self.schedule.lanes if self._outer_vector() else 1
        for place in places:
            self.point[name] = place
            for access in dict.fromkeys(shared):
                self.early[access, place] = self.out.widen(super().read(access), lanes)

    def _loaded(self, name: str) -> State:
        """What is known of the row, or the vector of rows, here."""
        at, lanes = self.number * self.schedule.lanes, self.schedule.lanes
        if name in self.added:
            lanes = 1
        return tuple(self.out.load(array, at, like.dtype, min(lanes, like.lanes))
                     for array, like in self.kept[name])

    def _keep(self, name: str, state: State) -> None:
        if name not in self.kept:
            lanes = self.schedule.lanes if self.striped == self.schedule.vector else 1
            self.kept[name] = [(self._array_of(name, r), replace(r, lanes=lanes)) for r in state]
        for (array, like), register in zip(self.kept[name], state, strict=True):
            self.out.store(array, self.number * self.schedule.lanes,
                           self.out.widen(register, like.lanes))

    def read(self, access: Access) -> Register:
        """An element or a vector; of what is known of the rows here, from its array."""
        if self.striped and access.buffer in self.kept and not access.at:
            return self._loaded(access.buffer)[-1]
        if self.striped and self.early:
            found = self.early.get((access, self.point[self.along]))
            if found is not None:
                return found
        return super().read(access)

    def write(self, target: Access, value: Register) -> None:
        """Stores a value, in its array if it is a number of the rows here."""
        if self.striped and not target.at and self.kernel.buffer(target.buffer).role == "local":
            self._keep(target.buffer, (value,))
        else:
            super().write(target, value)

    def _each(self, fill: Callable[[], None]) -> None:
        """What `fill` makes for each vector, or row, of the stripe; the last may be ragged."""
        name, size = self.striped, self.schedule.tile(self.striped)
        first, before = symbol(f"{name}.b") * size, self.point[name]
        self.span(str(self.number), 0, size - 1)
        index = next(i for i in self.kernel.outer if i.name == name)
        assert not isinstance(index.high, Access)
        if name != self.schedule.vector:
            self._some(fill, before + self.number, (0, minimum(size, index.high - first)))
        else:
            lanes, at = self.schedule.lanes, before + self.number * self.schedule.lanes
            whole, count = (self.simple(minimum(size, f(index.high, lanes) - first))
                            for f in (floordiv, ceildiv))
            if self.piece is not None:
                low, high = self.piece
                whole = self.simple(minimum(high, floordiv(index.high, lanes)) - low)
                count = high - low
            for self.whole, low, high in ((True, 0, whole), (False, whole, count)):
                self._some(fill, at, (low, high))
            self.whole = False
        self.point[name] = before

    def _some(self, fill: Callable[[], None], at: Dim, bounds: tuple[Dim, Dim]) -> None:
        low, high = map(self.simple, bounds)
        if self.simple(high - low) == 0:
            return
        with self.out.block() as body:
            self.out.forget_memory()
            self.point[self.striped] = at
            fill()
        self.out.loop(str(self.number), low, high, body)
