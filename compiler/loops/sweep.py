"""Applying a schedule: computes along the same row in one loop, several vectors a turn.

Reductions over a row and what is written along it follow each other in a kernel. Those that do not
wait for one another's results are carried out together, in one sweep over the row:

    m = max k: x[i, k]                        sweep 1
    y[i, k] = exp(x[i, k] - m)                sweep 2, in which y is read from registers
    s = sum k: y[i, k]
    y[i, k] = y[i, k] / s                     sweep 3

A turn takes `schedule.sweep` places side by side: vectors, if the lanes lie along the row, else
elements. Each has accumulators of its own, which are combined in a tree after the loop; what is
left at the end of a row goes to the first one, one place a turn.
"""

from __future__ import annotations

from collections.abc import Callable

from dlc.compiler.kernels.sweeps import sweeps
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.reduce import State
from dlc.compiler.loops.sequence import Sequencing
from dlc.ir.dims import Dim, ceildiv, floordiv, symbol
from dlc.ir.kernel import Combine, Compute, Index, Opaque, Seq
from dlc.ir.loops import LaneOp
from dlc.ir.types import BOOL, I32

States = list[list[State]]  # for each reduction of a sweep, the accumulators of all places


class Sweeping(Sequencing):
    """Carries out the body of a kernel whose schedule has sweeps.

    `group` threads go along a row together; `part` is the number of this one among them.
    """

    group = 1
    part: Dim = 0

    def sequence(self, body: tuple[Compute | Seq | Opaque, ...]) -> None:
        """The statements in order, in sweeps if the schedule says so."""
        if not self.schedule.sweep:
            super().sequence(body)
            return
        for run in sweeps([c for c in body if isinstance(c, Compute)]):
            if run[0].over:
                self._sweep(run)
            else:
                self.compute(run[0])

    def _sweep(self, run: list[Compute]) -> None:
        order = self.schedule.reduce
        over = sorted(run[0].over, key=lambda i: order.index(i.name) if i.name in order else -1)
        sums = [c for c in run if c.combine is not None]
        inner = over[-1].name == self.schedule.vector
        lanes = self.schedule.lanes if inner or self._outer_vector() else 1
        before, whole, bound = dict(self.point), self.whole, self.vector_bound
        empty = [[self._empty(c, lanes)] * self.schedule.sweep for c in sums]
        states = self._around(run, over, empty)
        self.point, self.whole, self.vector_bound = before, whole, bound
        for compute, parts in zip(sums, states, strict=True):
            self.locals[compute.target.buffer] = self._together(compute, parts, inner)

    def _around(self, run: list[Compute], over: list[Index], states: States) -> States:
        """The loops over all indices of the row; the last one takes several places a turn."""
        index, rest = over[0], over[1:]
        low, high = (self._bound(b, self.point) for b in (index.low, index.high))
        if not rest:
            return self._along(run, index, (low, high), states)
        self.span(index.name, low, high - 1)

        def body(states: States) -> States:
            self.point[index.name] = symbol(index.name)
            return self._around(run, rest, states)

        return self._carrying(index.name, low, high, states, body)

    def _along(
        self, run: list[Compute], index: Index, bounds: tuple[Dim, Dim], states: States
    ) -> States:
        """The innermost loop: whole turns first, then place by place."""
        low, high = bounds
        inner, side = index.name == self.schedule.vector, self.schedule.sweep
        width = self.schedule.lanes if inner else 1
        if inner:
            self.vector_bound, self.whole = high, True
        turn = width * self.group  # what the group takes at a time
        whole = self.simple(floordiv(high - low, turn * side))
        main, tail = f"{index.name}.b", f"{index.name}.t"
        self.span(main, 0, whole - 1)

        def places(states: States) -> States:
            for k in range(side):
                at = low + symbol(main) * (turn * side) + k * turn + self.part * width
                states = self._one_place(run, index, at, k, states)
            return states

        states = self._carrying(main, 0, whole, states, places)
        if inner:
            self.whole = False
        first = whole * (side * self.group) + self.part
        last = self.simple(ceildiv(high - low, width))
        self.span(tail, whole * (side * self.group), last - 1)
        return self._carrying(tail, first, last, states, lambda s: self._one_place(
            run, index, low + symbol(tail) * width, 0, s), self.group)

    def _one_place(
        self, run: list[Compute], index: Index, at: Dim, place: int, states: States
    ) -> States:
        """All computes of a sweep at one vector (or element) of the row."""
        self.point[index.name] = at
        if index.name == self.schedule.vector:
            self.point[index.name] = at + symbol("lane")
        return self.computes_at(run, place, states)

    def computes_at(self, run: list[Compute], place: int, states: States) -> States:
        """All computes of a sweep, at the place of the row where all indices are."""
        found = iter(states)
        out: States = []
        for compute in run:
            if compute.combine is None:
                self.here(compute)
                continue
            own = list(next(found))
            own[place] = self._step(compute, dict(self.point), own[place])
            out.append(own)
        return out

    def _carrying(
        self, name: str, low: Dim, high: Dim, states: States, body: Callable[[States], States],
        step: Dim = 1,
    ) -> States:
        """A loop that carries all accumulators; nothing if it has no turn at any size."""
        if self.simple(high - low) == 0:
            return states
        flat = tuple(r for parts in states for state in parts for r in state)
        if not flat:
            with self.out.block() as statements:
                body(states)
            self.out.loop(name, low, high, statements, step)
            return states

        def packed(inside: list[State]) -> list[State]:
            after = body(_like(states, inside[0]))
            return [tuple(r for parts in after for state in parts for r in state)]

        return _like(states, self._loop(name, low, high, [flat], packed, step)[0])

    def _together(self, compute: Compute, parts: list[State], inner: bool) -> Register:
        """The accumulators of all places as one, and the lanes of that if they are of the row."""
        combine = compute.combine
        assert combine is not None
        if combine.kind == "argmax":
            return self._first_of(parts, inner)
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [self._both(combine, a, b) for a, b in pairs]
        return self.over_row(_op(combine), parts[0][0], inner)

    def over_row(self, op: LaneOp, value: Register, inner: bool) -> Register:
        """What the lanes have found, if they lie along the row, as one."""
        return self.out.over_lanes(op, value) if inner else value

    def _both(self, combine: Combine, a: State, b: State) -> State:
        return (self.out.apply(_op(combine), (a[0], b[0]), combine.dtype),)

    def _first_of(self, parts: list[State], inner: bool) -> Register:
        """The first index at which one of the accumulators has the largest value, or nan."""
        best = parts[0][0]
        for other, _ in parts[1:]:
            best = self.out.apply("maximum", (best, other), best.dtype)
        best = self.over_row("maximum", best, inner)
        last = self.out.constant(I32, 2**31 - 1)
        found: Register | None = None
        for value, at in parts:
            here = self.out.apply("eq", (value, best), BOOL)
            if value.dtype.is_float:
                nan = self.out.apply("ne", (value, value), BOOL)
                here = self.out.apply("or", (here, nan), BOOL)
            place = self.out.apply("select", (here, at, last), I32)
            found = place if found is None else self.out.apply("minimum", (found, place), I32)
        assert found is not None
        return self.over_row("minimum", found, inner)


def _op(combine: Combine) -> LaneOp:
    return "add" if combine.kind == "sum" else "maximum"


def _like(states: States, flat: State) -> States:
    """Registers in a row as the accumulators that `states` are."""
    found = iter(flat)
    return [[tuple(next(found) for _ in state) for state in parts] for parts in states]
