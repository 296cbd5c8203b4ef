"""Makes the Kernel of what goes through its operands in order: cumsum, scatter, radix_pass."""

from __future__ import annotations

from dlc.compiler.kernels.make_kernel import At, KernelMaker
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, symbol, symbols
from dlc.ir.graph import Node, Value
from dlc.ir.kernel import (
    Access,
    Arg,
    Buffer,
    Compute,
    Index,
    Kernel,
    Number,
    ScalarOp,
    Seq,
    computes,
)
from dlc.ir.ops.indices import axis_attr
from dlc.ir.ops.sort import DIGIT
from dlc.ir.types import I32

Body = tuple[Compute | Seq, ...]
Parts = tuple[tuple[Index, ...], tuple[Buffer, ...], Body]  # outer indices, locals, what is done
VALUES = 2**DIGIT


@dataclass(slots=True)
class SequenceMaker(KernelMaker):
    """Builds the kernel of one node of `SEQUENCES`. Ordered loops have the indices j0, j1, …"""

    def make_sequence(self) -> Kernel:
        """The kernel. A scatter finds its base in the memory of its result."""
        (node,) = self.group.nodes
        made = {"cumsum": self._cumsum, "scatter": self._scatter, "radix_pass": self._radix_pass}
        return self.kernel(*made[node.op](node))

    def kernel(
        self, outer: tuple[Index, ...], local: tuple[Buffer, ...], body: Body
    ) -> Kernel:
        """The kernel of all parameters so far."""
        used = {s for b in self.params for d in b.dims for s in symbols(d)}
        indices = (*outer, *_indices(body))
        bounds = (b for i in indices for b in (i.low, i.high) if not isinstance(b, Access))
        used = used.union(*map(symbols, bounds))
        for compute in computes(body):
            used |= compute.names
        own = {i.name for i in indices}
        return Kernel("", tuple(sorted(used - own)), tuple(self.params), local, outer, body)

    def _range(self, name: str, extent: Dim) -> Dim:
        """A new index below `extent`; the only place of an axis of extent 1 is 0."""
        self.ranges[name] = (0, extent - 1)
        return 0 if extent == 1 else symbol(name)

    def _outer(self, extents: tuple[Dim, ...]) -> tuple[tuple[Index, ...], At]:
        """Outer indices, and the place that they stand for."""
        indices = tuple(Index(f"i{k}", extent) for k, extent in enumerate(extents))
        return indices, tuple(self._range(f"i{k}", d) for k, d in enumerate(extents))

    def _cumsum(self, node: Node) -> Parts:
        (x,), axis, dtype = node.operands, axis_attr(node), node.result.dtype
        dims = node.result.dims
        outer, rest = self._outer(dims[:axis] + dims[axis + 1:])
        at = (*rest[:axis], self._range("j0", dims[axis]), *rest[axis:])
        value = self._cast(self._element(x, at), x.dtype, dtype)
        total = self._op("add", (Access("acc"), value), dtype)
        turn = (Compute(Access("acc"), tuple(self.ops), total),
                Compute(Access(self._param(node.result, "out"), at), (), Access("acc")))
        # Nothing changes when it is added to -0.0; 0.0 would change the sign of a first -0.0.
        start = Compute(Access("acc"), (), Number(dtype, -0.0 if dtype.is_float else 0))
        seq = Seq(Index("j0", dims[axis]), ("acc",), turn, node.attr("reverse") is True)
        return outer, (Buffer("acc", dtype, (), "local"),), (start, seq)

    def _scatter(self, node: Node) -> Parts:
        base, updates, *ids = node.operands
        axis, dims = axis_attr(node), base.dims
        outer, rest = self._outer(dims[:axis] + dims[axis + len(ids):])
        inner = tuple(self._range(f"j{k}", d) for k, d in enumerate(ids[0].dims))
        places = tuple(self.index(v, inner) for v in ids)
        self.ops = []
        value = self._element(updates, (*rest[:axis], *inner, *rest[axis:]))
        name = self._param(node.result, "out")
        self._param(node.result, "in")  # what is not indexed keeps its value
        index = (*rest[:axis], *places, *rest[axis:])
        place = Access(name, tuple(0 if d == 1 else e for e, d in zip(index, dims, strict=True)))
        if node.attr("mode") == "add":
            value = self._op("add", (place, value), base.dtype)
        body: Body = (Compute(place, tuple(self.ops), value),)
        for k, extent in reversed(list(enumerate(ids[0].dims))):
            body = (Seq(Index(f"j{k}", extent), (), body),)
        return outer, (), body

    def _radix_pass(self, node: Node) -> Parts:
        """Counts the digits of a row, sums the counts up, and puts each element in its place."""
        keys, order = node.operands
        *rows, length = keys.dims
        outer, row = self._outer(tuple(rows))
        here = (*row, self._range("j0", length))
        moved = self.index(order, here)
        shift = node.attr("shift")
        assert isinstance(shift, int)
        key = Access(self._param(keys, "in"), (*row, 0 if length == 1 else moved))
        out = self._param(node.result, "out")
        count, one = Access("count", (Access("digit"),)), Number(I32, 1)
        element = self._element(order, here)
        put = Access(out, (*row, 0 if length == 1 else Access("place")))
        b = symbol("j1")
        body: Body = (
            Compute(Access("count", (symbol("k0"),)), (), Number(I32, 0), (Index("k0", VALUES),)),
            Seq(Index("j0", length), ("count",), (
                self.digit(key, keys, shift),
                Compute(count, (ScalarOp("more", "add", (count, one), I32),), "more"))),
            Compute(Access("total"), (), Number(I32, 0)),
            Seq(Index("j1", VALUES), ("count", "total"), (
                Compute(Access("place"), (), Access("count", (b,))),
                Compute(Access("count", (b,)), (), Access("total")),
                Compute(Access("total"), (
                    ScalarOp("sum", "add", (Access("total"), Access("place")), I32),), "sum"))),
            Seq(Index("j0", length), ("count",), (
                self.digit(key, keys, shift),
                Compute(Access("place"), (), count),
                Compute(put, (), element),
                Compute(count, (ScalarOp("next", "add", (Access("place"), one), I32),), "next"))),
        )
        local = (Buffer("count", I32, (VALUES,), "local"), Buffer("digit", keys.dtype, (), "local"),
                 Buffer("place", I32, (), "local"), Buffer("total", I32, (), "local"))
        return outer, local, body

    def digit(self, key: Access, keys: Value, shift: int, bits: int = DIGIT) -> Compute:
        """digit = (key >> shift) & 255 (of 8 bits), by two shifts"""
        self.ops = []
        width = 8 * keys.dtype.size
        value: Arg = key
        for op, by in (("shl", width - bits - shift), ("lshr", width - bits)):
            if by:
                value = self._op(op, (value, Number(keys.dtype, by)), keys.dtype)
        return Compute(Access("digit"), tuple(self.ops), value)


def _indices(body: Body) -> list[Index]:
    """The indices of ordered loops and of computes."""
    found: list[Index] = []
    for step in body:
        found += [step.index, *_indices(step.body)] if isinstance(step, Seq) else step.over
    return found
