"""Kernels: what is computed, in which buffers, but not in which order.

A kernel is a sequence of computes under shared outer indices. Reads and writes are affine in the
indices (quasi-affine: floor division and remainder by constants may occur), and an index or a bound
may itself be loaded. Index expressions are `Dim`s over index names and symbols. Layout is a
property of a buffer: accesses are logical.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from functools import lru_cache
from typing import Literal

from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, ceildiv, floordiv, mod, symbols
from dlc.ir.equality import equal_by_fields
from dlc.ir.types import DType

# What is "placed" is an "out" that is written at loaded indices, and not read: its maker knows that
# no two places of the outer indices write one element.
BufferRole = Literal["in", "out", "inout", "local", "placed"]
CombineKind = Literal["sum", "max", "min", "argmax", "argmin"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where elements lie: digits (axis, divisor), outermost first.

    Digit (a, d) of an axis is `index // d`, modulo the divisor of the axis's next digit outwards.
    `[(0, 16), (1, 1), (0, 1)]` of f32[N, C] is N // 16, C, N % 16: blocks of sixteen rows.
    An axis whose outermost digit has a divisor d is padded to a multiple of d. No digits:
    row-major.
    """

    digits: tuple[tuple[int, int], ...] = ()

    @property
    def is_row_major(self) -> bool:
        """Whether it is the plain order."""
        return not self.digits

    def full(self, rank: int) -> tuple[tuple[int, int], ...]:
        """The digits, those of the row-major order spelled out."""
        return self.digits or tuple((axis, 1) for axis in range(rank))


ROW_MAJOR = Layout()


def blocked(axis: int, rank: int, lanes: int) -> Layout:
    """Blocks of `lanes` along `axis`, the lanes innermost, all else in row-major order."""
    others = tuple((a, 1) for a in range(rank) if a != axis)
    return Layout(((axis, lanes), *others, (axis, 1)))


def channels_inside(axis: int, rank: int, lanes: int) -> Layout:
    """Like `blocked`, but with the axis after it just outside the lanes: pixels, then channels.

    The channels of a pixel lie side by side. Planes of pixels, whose sizes are often powers of two,
    would lie so far apart that a cache has few places for all of them.
    """
    others = tuple((a, 1) for a in range(rank) if a not in (axis, axis + 1))
    return Layout(((axis, lanes), *others, (axis + 1, 1), (axis, 1)))


@lru_cache(1 << 12)
def digit_extents(layout: Layout, dims: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """How many values each digit takes; the product is the size in elements, padding included."""
    digits = layout.full(len(dims))
    above: dict[int, int] = {}
    extents: list[Dim] = []
    for axis, divisor in digits:
        if axis in above:
            extents.append(above[axis] // divisor)
        else:
            extents.append(ceildiv(dims[axis], divisor))
        above[axis] = divisor
    return tuple(extents)


def storage_size(layout: Layout, dims: tuple[Dim, ...]) -> Dim:
    """The number of elements that are stored, padding included."""
    total: Dim = 1
    for extent in digit_extents(layout, dims):
        total = total * extent
    return total


def address(layout: Layout, dims: tuple[Dim, ...], index: tuple[Dim, ...]) -> Dim:
    """The offset in elements of a logical index."""
    offset: Dim = 0
    if layout.is_row_major:
        for extent, value in zip(dims, index, strict=True):
            offset = offset * extent + value
        return offset
    above: dict[int, int] = {}
    digits = layout.full(len(dims))
    for (axis, divisor), extent in zip(digits, digit_extents(layout, dims), strict=True):
        value = index[axis]
        if axis in above:
            value = mod(value, above[axis])
        offset = offset * extent + floordiv(value, divisor)
        above[axis] = divisor
    return offset


@dataclass(frozen=True, slots=True)
class Buffer:
    """A block of memory as a kernel sees it; a local with no dims is a register."""

    name: str
    dtype: DType
    dims: tuple[Dim, ...]
    role: BufferRole
    layout: Layout = ROW_MAJOR


@equal_by_fields
@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """An element of a buffer. An index may itself be loaded, from memory or from a local.

    `fill` is what a read gives outside the buffer (None: it can't lie outside).
    """

    buffer: str
    at: tuple[Dim | Access, ...] = ()
    fill: float | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """An index with its range low <= name < high; bounds may use outer indices, or be loaded."""

    name: str
    high: Dim | Access
    low: Dim | Access = 0


@equal_by_fields
@dataclass(frozen=True, slots=True, eq=False)
class Number:
    """A constant operand."""

    dtype: DType
    value: float


@dataclass(frozen=True, slots=True)
class IndexValue:
    """An index expression as a number."""

    dtype: DType
    value: Dim


Arg = str | Access | Number | IndexValue


@dataclass(frozen=True, slots=True)
class ScalarOp:
    """One elementwise op of the registry, on earlier ops (by name), reads and constants."""

    name: str
    op: str
    args: tuple[Arg, ...]
    dtype: DType
    attrs: tuple[tuple[str, int | DType], ...] = ()


@dataclass(frozen=True, slots=True)
class Combine:
    """How a reduction combines: the accumulator's type; `tree` in a binary tree over the index."""

    kind: CombineKind
    dtype: DType
    tree: bool = False


@dataclass(frozen=True, slots=True)
class Compute:
    """`target = value`, or `target = combine of value over indices`.

    `over` holds the indices besides the outer ones: those in the target are free, the others
    reduced. The last arg of `value` chain is `value`; ops in `body` come before.
    """

    target: Access
    body: tuple[ScalarOp, ...]
    value: Arg
    over: tuple[Index, ...] = ()
    where: tuple[Dim, ...] = ()  # each >= 0
    combine: Combine | None = None

    @property
    def args(self) -> tuple[Arg, ...]:
        """All that it reads: operands of ops, the value, bounds that are loaded."""
        bounds = (b for i in self.over for b in (i.low, i.high) if isinstance(b, Access))
        return (*(a for op in self.body for a in op.args), self.value, *bounds)

    @property
    def names(self) -> frozenset[str]:
        """The indices and symbols in all its expressions, the target's left out."""
        bounds = (b for i in self.over for b in (i.low, i.high) if not isinstance(b, Access))
        dims = (symbols(e) for e in (*bounds, *self.where))
        return frozenset[str]().union(*dims, *map(arg_names, self.args))


def arg_names(arg: Arg) -> frozenset[str]:
    """The indices and symbols in the expressions of an operand."""
    if isinstance(arg, IndexValue):
        return symbols(arg.value)
    if not isinstance(arg, Access):
        return frozenset()
    parts = (arg_names(e) if isinstance(e, Access) else symbols(e) for e in arg.at)
    return frozenset[str]().union(*parts)


@dataclass(frozen=True, slots=True)
class Seq:
    """An ordered loop; `carried` locals keep their values from turn to turn."""

    index: Index
    carried: tuple[str, ...]
    body: tuple[Compute | Seq, ...]
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Opaque:
    """A piece that no schedule touches: Loops text (sort, permutation)."""

    text: str


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel. Two kernels that differ by name alone are one: `body` and the rest decide."""

    name: str
    symbols: tuple[str, ...]
    params: tuple[Buffer, ...]
    locals: tuple[Buffer, ...]
    outer: tuple[Index, ...]
    body: tuple[Compute | Seq | Opaque, ...]
    doc: str = field(default="", compare=False)

    def buffer(self, name: str) -> Buffer:
        """The parameter or local called `name`."""
        for buffer in (*self.params, *self.locals):
            if buffer.name == name:
                return buffer
        raise KeyError(name)


def computes(body: tuple[object, ...]) -> Iterator[Compute]:
    """All computes, those in loops too, in order."""
    for step in body:
        if isinstance(step, Compute):
            yield step
        elif isinstance(step, Seq):
            yield from computes(step.body)
