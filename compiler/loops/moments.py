"""Applying a schedule: mean and sum of squares about it in one sweep along a row.

    for the chunks of the row:
        s, n = sum and number of the chunk's elements
        c    = s / n                                    as near to its mean as can be said
        r, q = sums of x - c and of (x - c)^2           the chunk is near by now
        q, d = q - r * r / n,  c - shift + r / n        about the mean, and where it lies
        Q, S, N = Q + q + (d - S / N)^2 * n * N / (n + N),  S + d * n,  N + n

The shift is the c of the first chunk: so means are apart by little, however far from 0 they lie.
Where the lanes lie along the row each has moments of its own, which are put together in the end.
"""

from __future__ import annotations

from dataclasses import replace

from dlc.compiler.kernels.moments import Moments, moments_of
from dlc.compiler.kernels.sweeps import sweeps
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.reduce import State
from dlc.compiler.loops.sweep import States, Sweeping
from dlc.ir.dims import Dim, ceildiv, minimum, symbol
from dlc.ir.kernel import Access, Combine, Compute, Index, Number, Opaque, Seq
from dlc.ir.types import BOOL


class SweepingMoments(Sweeping):
    """Carries out the body of a kernel whose schedule has chunks for the moments of its rows."""

    moments: Moments | None = None
    so_far: State = ()  # as `merged` has them, if no stripe keeps them

    def sequence(self, body: tuple[Compute | Seq | Opaque, ...]) -> None:
        """The statements in order, a sum and the squares about its mean in one sweep."""
        if not self.schedule.moments:
            super().sequence(body)
            return
        runs = sweeps([c for c in body if isinstance(c, Compute)])
        found = self.moments = moments_of(runs)
        assert found is not None, "a schedule with moments is of a kernel that has them"
        for run in runs:
            if found.sum in run:
                self._sweep_chunks(run, found)
            elif run == [found.squares]:
                self.locals[found.squares.target.buffer] = self._squares(found)
            elif run[0].over:
                self._sweep(run)
            else:
                self.compute(run[0])

    def count_of(self, compute: Compute) -> Compute:
        """How many elements a sum is of."""
        assert compute.combine is not None
        dtype = compute.combine.dtype
        return Compute(Access("count"), (), Number(dtype, 1.0), compute.over, (),
                       Combine("sum", dtype))

    def parted(self, index: Index, low: Dim, high: Dim) -> tuple[str, Dim, Dim, Dim]:
        """A loop over chunks of an index: its name and turns, and where a chunk begins and ends."""
        name, chunk = f"{index.name}.c", self.schedule.moments
        count = self.simple(ceildiv(high - low, chunk))
        self.span(name, 0, count - 1)
        first = low + symbol(name) * chunk
        return name, count, first, minimum(first + chunk, high)

    def _sweep_chunks(self, run: list[Compute], found: Moments) -> None:
        order, lanes = self.schedule.reduce, self._lanes_of(run)
        over = sorted(run[0].over, key=lambda i: order.index(i.name))
        before, whole, bound = dict(self.point), self.whole, self.vector_bound
        sums = [c for c in run if c.combine is not None and c is not found.sum]
        empty = self._empty(found.sum, lanes)[0]
        states: States = [[self._empty(c, lanes)] * self.schedule.sweep for c in sums]
        *states, (self.so_far,) = self._chunks(run, over, [*states, [(empty,) * 5]])
        self.point, self.whole, self.vector_bound = before, whole, bound
        inner = over[-1].name == self.schedule.vector
        for compute, parts in zip(sums, states, strict=True):
            self.locals[compute.target.buffer] = self._together(compute, parts, inner)
        self.locals[found.sum.target.buffer] = self.over_row(
            "add", self.so_far[4], inner)

    def _lanes_of(self, run: list[Compute]) -> int:
        inner = any(i.name == self.schedule.vector for i in run[0].over)
        return self.schedule.lanes if inner or self._outer_vector() else 1

    def _chunks(self, run: list[Compute], over: list[Index], states: States) -> States:
        """The loops over all indices of the row; the last one chunk by chunk."""
        index, rest = over[0], over[1:]
        low, high = (self._bound(b, self.point) for b in (index.low, index.high))
        if rest:
            self.span(index.name, low, high - 1)

            def turn(states: States) -> States:
                self.point[index.name] = symbol(index.name)
                return self._chunks(run, rest, states)

            return self._carrying(index.name, low, high, states, turn)
        name, count, first, last = self.parted(index, low, high)
        return self._carrying(name, 0, count, states, lambda inside: self._chunk(
            run, index, (first, self.named(index.name, last, high)), inside))

    def _chunk(
        self, run: list[Compute], index: Index, bounds: tuple[Dim, Dim], states: States
    ) -> States:
        """The moments of one chunk, put to those so far; other sums go on."""
        found = self.moments
        assert found is not None
        *others, (so_far,) = states
        count, like = self.count_of(found.sum), so_far[0]
        empty = [self._empty(found.sum, like.lanes)] * self.schedule.sweep
        at = [c for c in run if c.combine is not None].index(found.sum)
        made = self._along([*run, count], index, bounds, [*others[:at], empty, *others[at:],
                                                          empty])
        total, number = (self._together(found.sum, made.pop(k), False) for k in (at, -1))
        self.locals[found.mean.target.buffer] = self.mean(total, number)
        sums = self._along(
            [self.rest_of(found.squares), found.squares], index, bounds, [empty, empty])
        rest, squares = (self._together(found.squares, parts, False) for parts in sums)
        return [*made, [self.merged(so_far, (total, number, rest, squares))]]

    def rest_of(self, squares: Compute) -> Compute:
        """What is left of a sum of elements less their mean, which is rounded."""
        return replace(squares, body=squares.body[:-1], value=squares.body[-2].name)

    def mean(self, total: Register, number: Register) -> Register:
        """A sum divided by how many elements it is of; 0 of none."""
        one = self.out.constant(total.dtype, 1.0)
        number = self.out.apply("maximum", (number, one), total.dtype)
        return self.out.apply("div", (total, number), total.dtype)

    def merged(self, before: State, chunk: State) -> State:
        """The moments of what came before and of a chunk, as those of all of it.

        Of a chunk these are its sum, its number, and the sums of its elements less their mean and
        of the squares; of all so far the sum less the shift, the number, the squares, the shift,
        and the sum itself.
        """
        (total, number, rest, squares), dtype = chunk, chunk[0].dtype

        def apply(op: str, *args: Register) -> Register:
            return self.out.apply(op, args, dtype)

        centre, away = self.mean(total, number), self.mean(rest, number)
        none = self.out.apply("eq", (before[1], self.out.constant(dtype, 0.0)), BOOL)
        shift = apply("select", none, centre, before[3])
        mean = apply("add", apply("sub", centre, shift), away)
        apart = apply("sub", mean, self.mean(*before[:2]))
        count = apply("add", before[1], number)
        weight = self.mean(apply("mul", before[1], number), count)
        squares = apply("sub", squares, apply("mul", rest, away))
        squares = apply("add", squares, apply("mul", apply("mul", apart, apart), weight))
        return (apply("add", before[0], apply("mul", mean, number)), count,
                apply("add", before[2], squares), shift, apply("add", before[4], total))

    def about(self, moments: State, mean: Register) -> Register:
        """The squares of all lanes about their mean, which `mean` is but for rounding."""
        total, number, squares, shift, _ = moments
        dtype = total.dtype

        def apply(op: str, *args: Register) -> Register:
            return self.out.apply(op, args, dtype)

        away = apply("sub", self.out.widen(mean, total.lanes), shift)
        apart = apply("sub", self.mean(total, number), away)
        rest = apply("mul", apart, number)
        squares = apply("add", squares, apply("mul", rest, apart))
        squares, rest, number = (
            self.over_row("add", each, True) for each in (squares, rest, number))
        return apply("sub", squares, apply("mul", rest, self.mean(rest, number)))

    def _squares(self, found: Moments) -> Register:
        """The sum of squares about the mean of the row."""
        if not any(i.name == self.schedule.vector for i in found.squares.over):
            return self.so_far[2]
        return self.about(self.so_far, self.locals[found.mean.target.buffer])
