"""Applying a GPU's schedule: running sums along an axis, which the threads of a block share.

Piece by piece of the axis, each thread adds up a few neighbours, and then what lies before them:
in the threads of its warp, in the warps before, and in the pieces before.

    for piece b of 256 * 8 elements:
      sum[k] = x[at] + … + x[at + k]      at = 2048 b + 8 part, k = 0 … 7
      before = the sums of all threads below this one, in a tree over a warp, then warp by warp
      y[at + k] = (acc + before) + sum[k]
      acc = acc + the sum of all threads
"""

from __future__ import annotations

from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.columns import InColumns
from dlc.compiler.loops.reduce import State
from dlc.compiler.loops.threads import WARP, Body
from dlc.ir.dims import Dim, ceildiv, floordiv, minimum, mod, symbol
from dlc.ir.kernel import Access, Compute, Kernel, Seq
from dlc.ir.types import BOOL

NEIGHBOURS = 8  # elements of a thread in a piece


def running_sum(kernel: Kernel) -> Seq | None:
    """The ordered loop of a kernel that writes the sums up to each place of it, and does no more.

        acc = -0.0;  for j: acc = acc + …;  y[j] = acc
    """
    if len(kernel.body) != 2:
        return None
    start, loop = kernel.body
    if not isinstance(start, Compute) or not isinstance(loop, Seq) or len(loop.body) != 2:
        return None
    add, out = loop.body
    if not isinstance(add, Compute) or not isinstance(out, Compute) or not add.body:
        return None
    last, acc = add.body[-1], start.target
    known = loop.carried == (acc.buffer,) and add.target == acc and out.value == acc
    sums = last.op == "add" and last.args[0] == acc and add.value == last.name
    plain = not out.body and not any(c.over or c.where or c.combine for c in (start, add, out))
    again = sum(a == acc for a in add.args) > 1
    return loop if known and sums and plain and not again else None


class RunningSums(InColumns):
    """Applies a schedule of a kernel that `running_sum` knows."""

    def sequence(self, body: Body) -> None:
        """The pieces in order."""
        start, loop = body
        assert isinstance(start, Compute)
        assert isinstance(loop, Seq)
        self.compute(start)
        high, name = loop.index.high, loop.index.name
        assert not isinstance(high, Access)
        acc = self.locals[start.target.buffer]
        var = self.out.fresh("b")
        self.span(var, 0, ceildiv(high, self.group * NEIGHBOURS) - 1)
        self.out.constant(acc.dtype, self._nothing(acc))  # known inside and outside
        self._loop(var, 0, ceildiv(high, self.group * NEIGHBOURS), [(acc,)],
                   lambda states: [self._piece(loop, name, high, symbol(var), states[0])])

    def _nothing(self, like: Register) -> float:
        return -0.0 if like.dtype.is_float else 0

    def _piece(self, loop: Seq, name: str, high: Dim, piece: Dim, state: State) -> State:
        """One piece; the sum up to its end."""
        add, write = loop.body
        assert isinstance(add, Compute)
        assert isinstance(write, Compute)
        (acc,) = state
        first = (piece * self.group + self.part) * NEIGHBOURS
        places = [first + k for k in range(NEIGHBOURS)]
        sums: list[Register] = []
        for at in places:
            self._go_to(name, loop.reverse, minimum(at, high - 1), high)
            value = self._value_at(add, at, high)
            sums.append(self._merged("add", sums[-1], value) if sums else value)
        before, whole = self._before(sums[-1])
        before = self._merged("add", acc, before)
        for at, part in zip(places, sums, strict=True):
            with self.out.block() as statements:
                self._go_to(name, loop.reverse, at, high)
                self.write(write.target, self._merged("add", before, part))
            self.out.when((high - 1 - at,), statements)
        return (self._merged("add", acc, whole),)

    def _go_to(self, name: str, reverse: bool, at: Dim, high: Dim) -> None:
        self._at(name, high - 1 - at if reverse else at)

    def _value_at(self, add: Compute, at: Dim, high: Dim) -> Register:
        """What is added at a place; nothing past the end."""
        *ops, last = add.body
        for op in ops:
            self.names[op.name] = self.out.apply(
                op.op, tuple(self.arg(a) for a in op.args), op.dtype, op.attrs)
        value = self.arg(last.args[1])
        if mod(high, self.group * NEIGHBOURS) == 0:
            return value
        inside = Register(self.out.mask(at, high, 1), BOOL)
        return self._filled(value, [inside], self._nothing(value))

    def _before(self, value: Register) -> tuple[Register, Register]:
        """The sum of what the threads before this one have, and that of all."""
        thread = symbol("thread")
        before = self.out.constant(value.dtype, self._nothing(value))
        for distance in self.in_warp:
            other = self.out.shuffle(value, distance)
            upper = self._is(mod(floordiv(thread, distance), 2), 1)
            both = self._merged("add", other, before)
            before = self.out.apply("select", (upper, both, before), value.dtype)
            value = self._merged("add", value, other)
        whole = mine = self.out.constant(value.dtype, self._nothing(value))
        row = floordiv(thread, max(WARP, self.beside))
        for number, other in enumerate(self.of_warps(value)):
            mine = self.out.apply("select", (self._is(row, number), whole, mine), value.dtype)
            whole = self._merged("add", whole, other)
        return self._merged("add", mine, before), whole

    def _is(self, number: Dim, value: int) -> Register:
        return Register(self.out.mask(number, value + 1, 1, value), BOOL)
