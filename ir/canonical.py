"""The canonical form of a Kernel: one form for kernels that differ by names alone.

It is the key by which equal kernels are made once: across layers of one net, and across nets.
"""

from __future__ import annotations

import math
from dataclasses import replace
from operator import is_

from dlc.ir.dims import Dim, Poly, substitute, symbol
from dlc.ir.kernel import (
    Access,
    Arg,
    Buffer,
    Compute,
    Index,
    IndexValue,
    Kernel,
    Number,
    Opaque,
    ScalarOp,
    Seq,
)
from dlc.ir.types import BOOL, DType

Key = tuple[Kernel, tuple[int, ...]]


def canonical(kernel: Kernel) -> Kernel:
    """`kernel` with names in order of appearance, and without its own name and doc.

    Parameters become p0, p1, …, locals l0, symbols S0, indices i0 (outer), k0 (of computes) and j0
    (of ordered loops), ops t0; a name with a capital keeps one, for it says of a dim that it is at
    least 1. Numbers get the type of their dtype. A kernel with an opaque part keeps its names,
    which that part uses.
    """
    return kernel_key(kernel)[0]


def kernel_key(kernel: Kernel) -> Key:
    """The canonical form, and which of its numbers are -0.0: two kernels are equal if these are."""
    if any(isinstance(step, Opaque) for step in kernel.body):
        return replace(kernel, name="", doc=""), ()
    renamer = _Renamer()
    return renamer.kernel(kernel), tuple(renamer.negative_zeros)


class _Renamer:
    """Renames all of one kernel. What does not change is not made again."""

    __slots__ = ("buffers", "computes", "known", "moved", "negative_zeros", "numbers", "ops",
                 "sequences")

    def __init__(self) -> None:
        self.buffers: dict[str, str] = {}
        self.ops: dict[str, str] = {}
        self.moved: dict[str, Dim] = {}  # symbols and indices whose names change
        self.known: dict[Poly, Dim] = {}  # dims renamed by `moved`
        self.computes = self.sequences = self.numbers = 0
        self.negative_zeros: list[int] = []

    def kernel(self, kernel: Kernel) -> Kernel:
        symbols = tuple(self._bind(name, f"s{n}") for n, name in enumerate(kernel.symbols))
        params = tuple(self._buffer(b, f"p{n}") for n, b in enumerate(kernel.params))
        found = tuple(self._buffer(b, f"l{n}") for n, b in enumerate(kernel.locals))
        outer = tuple(self._index(i, f"i{n}") for n, i in enumerate(kernel.outer))
        body = tuple(map(self._step, kernel.body))
        return Kernel("", symbols, params, found, outer, body)

    def _bind(self, name: str, new: str) -> str:
        """Gives a symbol or an index its new name."""
        if name[:1].isupper():
            new = new.capitalize()
        value = None if new == name else symbol(new)
        if self.moved.get(name) is not value:
            self.known.clear()
            if value is None:
                del self.moved[name]
            else:
                self.moved[name] = value
        return new

    def _dim(self, dim: Dim) -> Dim:
        if isinstance(dim, int):
            return dim
        found = self.known.get(dim)
        if found is None:
            found = self.known[dim] = substitute(dim, self.moved)
        return found

    def _bound(self, bound: Dim | Access) -> Dim | Access:
        return self._access(bound) if isinstance(bound, Access) else self._dim(bound)

    def _buffer(self, buffer: Buffer, new: str) -> Buffer:
        self.buffers[buffer.name] = new
        dims = tuple(map(self._dim, buffer.dims))
        return Buffer(new, buffer.dtype, dims, buffer.role, buffer.layout)

    def _index(self, index: Index, new: str) -> Index:
        low, high = self._bound(index.low), self._bound(index.high)
        return Index(self._bind(index.name, new), high, low)

    def _access(self, access: Access) -> Access:
        name = self.buffers.get(access.buffer, access.buffer)
        at = tuple(map(self._bound, access.at))
        if access.fill is None:
            if name == access.buffer and all(map(is_, at, access.at)):
                return access
            return Access(name, at)
        return Access(name, at, self._number(access.fill, None))

    def _step(self, step: Compute | Seq | Opaque) -> Compute | Seq | Opaque:
        return step if isinstance(step, Opaque) else self._inner(step)

    def _inner(self, step: Compute | Seq) -> Compute | Seq:
        if isinstance(step, Compute):
            return self._compute(step)
        index = self._index(step.index, f"j{self.sequences}")
        self.sequences += 1
        carried = tuple(self.buffers.get(name, name) for name in step.carried)
        return Seq(index, carried, tuple(map(self._inner, step.body)), step.reverse)

    def _compute(self, compute: Compute) -> Compute:
        over = []
        for index in compute.over:
            over.append(self._index(index, f"k{self.computes}"))
            self.computes += 1
        where = tuple(map(self._dim, compute.where))
        body = tuple(map(self._op, compute.body))
        value, target = self._arg(compute.value), self._access(compute.target)
        return Compute(target, body, value, tuple(over), where, compute.combine)

    def _op(self, op: ScalarOp) -> ScalarOp:
        args = tuple(map(self._arg, op.args))
        new = self.ops[op.name] = f"t{len(self.ops)}"
        if new == op.name and all(map(is_, args, op.args)):
            return op
        return ScalarOp(new, op.op, args, op.dtype, op.attrs)

    def _arg(self, arg: Arg) -> Arg:
        if isinstance(arg, str):
            return self.ops.get(arg, arg)
        if isinstance(arg, Access):
            return self._access(arg)
        if isinstance(arg, Number):
            return Number(arg.dtype, self._number(arg.value, arg.dtype))
        value = self._dim(arg.value)
        return arg if value is arg.value else IndexValue(arg.dtype, value)

    def _number(self, value: float, dtype: DType | None) -> float:
        """A number as one of its dtype; nan as one object, and -0.0 remembered (it equals 0.0)."""
        self.numbers += 1
        if value == 0 and math.copysign(1, value) < 0:
            self.negative_zeros.append(self.numbers)
        if math.isnan(value):
            return math.nan
        if dtype is None or dtype.is_float:
            return float(value)
        if dtype is BOOL:
            return bool(value)
        return int(value) if math.isfinite(value) and value == int(value) else value


__all__ = ["Key", "canonical", "kernel_key"]
