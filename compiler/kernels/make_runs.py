"""Makes the Kernels of sorts and scatters whose work many threads share, in an order that is fixed.

A row of keys is cut into runs. One pass of a sort by a digit counts the digits of each run, sums up
the counts of all runs (`cumsum`, in an order by digits, then by runs), and puts the elements of
each run in their places: so equal digits stay in their order. Of a scatter, the numbers of updates
are sorted by the place that they are for; then each place takes its updates, the first one first.
"""

from __future__ import annotations

from dataclasses import replace

from dlc.compiler.kernels.make_kernel import At
from dlc.compiler.kernels.make_sequence import SequenceMaker
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, ceildiv, minimum, product, symbol
from dlc.ir.graph import Value
from dlc.ir.kernel import (
    Access,
    Arg,
    Buffer,
    Compute,
    Index,
    IndexValue,
    Kernel,
    Number,
    ScalarOp,
    Seq,
)
from dlc.ir.types import BOOL, I32

RUN = 32  # keys that a thread goes through
BITS = 4  # of a digit: its counts for all threads of a block lie in shared memory
VALUES = 2**BITS
MOST_STEPS = 31  # of a search: elements have numbers of i32


@dataclass(slots=True)
class RunMaker(SequenceMaker):
    """Builds one kernel; all values that it is given lie in memory."""

    def counts(self, keys: Value, order: Value, out: Value, shift: int) -> Kernel:
        """How often each digit comes up in each run: out[row, digit, run]."""
        outer, row, loop = self._runs(keys)
        count, one = Access("count", (Access("digit"),)), Number(I32, 1)
        at = (*row[:-1], symbol("k0"), row[-1])
        body = (
            Compute(Access("count", (symbol("k0"),)), (), Number(I32, 0), (Index("k0", VALUES),)),
            Seq(loop, ("count",), (
                self.digit(self._key(keys, order, row), keys, shift, BITS),
                Compute(count, (ScalarOp("more", "add", (count, one), I32),), "more"))),
            Compute(Access(self._param(out, "out"), _in(out, at)), (),
                    Access("count", (symbol("k0"),)), (Index("k0", VALUES),)))
        return self.kernel(outer, self._locals(keys, "count"), body)

    def places(
        self, keys: Value, order: Value, counts: tuple[Value, Value], out: Value, shift: int
    ) -> Kernel:
        """Each element of `order` in its place; `counts` are those of digits, and of all up to it.
        """
        outer, row, loop = self._runs(keys)
        here, ends = (Access(self._param(v, "in"), _in(v, (*row[:-1], symbol("k0"), row[-1])))
                      for v in counts)
        following = Access("next", (Access("digit"),))
        digit = self.digit(self._key(keys, order, row), keys, shift, BITS)
        self.ops = []
        element = self._element(order, self._place(row))
        put = Access(self._param(out, "out"), (*row[:-1], Access("place")))
        self.params[-1] = replace(self.params[-1], role="placed")
        body = (
            Compute(Access("next", (symbol("k0"),)), (
                ScalarOp("first", "sub", (ends, here), I32),), "first", (Index("k0", VALUES),)),
            Seq(loop, ("next",), (
                digit,
                Compute(Access("place"), (), following),
                Compute(put, tuple(self.ops), element),
                Compute(following, (
                    ScalarOp("then", "add", (Access("place"), Number(I32, 1)), I32),), "then"))))
        place = Buffer("place", I32, (), "local")
        return self.kernel(outer, (*self._locals(keys, "next"), place), body)

    def _runs(self, keys: Value) -> tuple[tuple[Index, ...], At, Index]:
        """Outer indices of rows and runs, their place, and the loop along a run."""
        *rows, length = keys.dims
        outer, row = self._outer((*rows, ceildiv(length, RUN)))
        self.ranges["j0"] = (0, RUN - 1)
        return outer, row, Index("j0", minimum(RUN, length - row[-1] * RUN))

    def _place(self, row: At) -> At:
        return (*row[:-1], row[-1] * RUN + symbol("j0"))

    def _key(self, keys: Value, order: Value, row: At) -> Access:
        moved = self.index(order, self._place(row))
        return Access(self._param(keys, "in"), (*row[:-1], moved))

    def _locals(self, keys: Value, table: str) -> tuple[Buffer, ...]:
        return (Buffer(table, I32, (VALUES,), "local"), Buffer("digit", keys.dtype, (), "local"))

    def targets(self, ids: tuple[Value, ...], extents: tuple[Dim, ...], out: Value) -> Kernel:
        """The number of the place that each of some indices stands for, in row-major order."""
        outer, at = self._outer(out.dims)
        total: Arg = Number(I32, 0)
        for value, extent in zip(ids, extents, strict=True):
            index = self._cast(self._element(value, at), value.dtype, I32)
            total = self._op("mul", (total, IndexValue(I32, extent)), I32)
            total = self._op("add", (total, index), I32)
        target = Access(self._param(out, "out"), at)
        return self.kernel(outer, (), (Compute(target, tuple(self.ops), total),))

    def bounds(
        self, keys: Value, order: Value, outs: tuple[Value, Value, Value], last: bool
    ) -> Kernel:
        """Of each place: its first update in `order` (the `last` one alone, if so), the one after
        the last, and 1 where it has any."""
        (count,) = keys.dims
        (places,) = outs[0].dims
        outer, (place,) = self._outer((places,))
        steps = min(count.bit_length(), MOST_STEPS) if isinstance(count, int) else MOST_STEPS
        first, after, step = Access("first"), Access("after"), Access("step")
        halved = self._op("lshr", (step, Number(I32, 1)), I32)
        half, self.ops = tuple(self.ops), []
        turn = (*self._search(keys, order, first, place),
                *self._search(keys, order, after, place + 1), Compute(step, half, halved))
        body: list[Compute | Seq] = [
            Compute(first, (), Number(I32, 0)), Compute(after, (), Number(I32, 0)),
            Compute(step, (), Number(I32, 2 ** (steps - 1))),
            Seq(Index("j0", minimum(steps, count * steps)), ("first", "after", "step"), turn)]
        only = (ScalarOp("one", "sub", (after, Number(I32, 1)), I32),
                ScalarOp("low", "maximum", (first, "one"), I32))
        some = (ScalarOp("all", "sub", (after, first), I32),
                ScalarOp("any", "minimum", ("all", Number(I32, 1)), I32))
        values: tuple[tuple[tuple[ScalarOp, ...], Arg], ...] = (
            (only, "low") if last else ((), first), ((), after), (some, "any"))
        body += [Compute(Access(self._param(out, "out"), (place,)), ops, value)
                 for out, (ops, value) in zip(outs, values, strict=True)]
        local = tuple(Buffer(n, I32, (), "local") for n in ("first", "after", "step", "seen"))
        return self.kernel(outer, local, tuple(body))

    def _search(
        self, keys: Value, order: Value, found: Access, target: Dim
    ) -> tuple[Compute, ...]:
        """One step: `found` keys are below the target, and more if the one `step` further is."""
        (count,) = keys.dims
        step, seen = Access("step"), Access("seen")
        self.ops = []
        further = self._op("add", (found, step), I32)
        inside = self._op("minimum", (further, IndexValue(I32, count)), I32)
        last = self._op("sub", (inside, Number(I32, 1)), I32)
        look, self.ops = Compute(seen, tuple(self.ops), last), []
        moved = Access(self._param(order, "in"), (seen,))
        key = Access(self._param(keys, "in"), (moved,))
        further = self._op("add", (found, step), I32)
        below = self._op("lt", (key, IndexValue(I32, target)), BOOL)
        fits = self._op("le", (further, IndexValue(I32, count)), BOOL)
        both = self._op("and", (below, fits), BOOL)
        taken = self._op("select", (both, further, found), I32)
        move, self.ops = Compute(found, tuple(self.ops), taken), []
        return look, move

    def gathered(
        self, updates: Value, order: Value, bounds: tuple[Value, Value, Value], out: Value,
        axes: tuple[int, int], mode: str,
    ) -> Kernel:
        """The updates of each place, one after the other, added to what is there or put there.

        `axes` are the first indexed one of `out` and the one after the last.
        """
        start, end = axes
        outer, at = self._outer(out.dims)
        place: Dim = 0
        for e, extent in zip(at[start:end], out.dims[start:end], strict=True):
            place = place * extent + e
        first, after, some = (
            Access(self._param(v, "in"), (0 if product(v.dims) == 1 else place,)) for v in bounds)
        moved = Access(self._param(order, "in"), (symbol("j1"),))
        update: Arg = Access(self._param(updates, "in"), _in(
            updates, (*at[:start], moved, *at[end:])))
        target, acc = Access(self._param(out, "out"), at), Access("acc")
        self._param(out, "in")
        self.ops = []
        if mode == "add":
            update = self._op("add", (acc, update), out.dtype)
        body = (Seq(Index("j0", some), (), (
            Compute(acc, (), target),
            Seq(Index("j1", after, first), ("acc",), (Compute(acc, tuple(self.ops), update),)),
            Compute(target, (), acc))),)
        return self.kernel(outer, (Buffer("acc", out.dtype, (), "local"),), body)


def _in(value: Value, at: tuple[Dim | Access, ...]) -> tuple[Dim | Access, ...]:
    """An index into a value, 0 along axes of extent 1."""
    return tuple(0 if d == 1 else e for e, d in zip(at, value.dims, strict=True))
