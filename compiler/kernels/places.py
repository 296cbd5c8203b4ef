"""Sums over places as products: gradients with respect to the weights of convolutions.

    dw[o, c, r, s] = sum n, v, u:  g[n, o, v, u] * x[n, c, v + r - 1, u + s - 1]

`g` does not depend on the taps r and s: what of it all taps need is copied once, o in the lanes.
`x` is read element by element, so it may lie in any order. For that no element may lie outside:
the sum of each tap goes over the places at which it is inside.
"""

from __future__ import annotations

from dataclasses import replace

from dlc.compiler.kernels.accesses import uses
from dlc.compiler.kernels.ranges import index_ranges, nonnegative
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import (
    Dim,
    ceildiv,
    coefficient,
    floordiv,
    maximum,
    minimum,
    substitute,
    symbol,
    symbols,
)
from dlc.ir.kernel import Access, Compute, Index, Kernel


@dataclass(frozen=True, slots=True)
class Places:
    """A kernel whose sum goes over places, in the form in which it is carried out as a product.

    panel:   the operand that does not depend on the taps.
    lanes:   the outer index of that operand alone.
    rows:    the outer index, no tap, of the other operand alone.
    taps:    the other outer indices of that operand alone: the bounds of the sum depend on them.
    shared:  the outer indices that are left.
    reduced: the places, as they lie in the memory of `panel`, outermost first.
    split:   whether the last is the lanes of an index whose blocks are one of the others.
    """

    kernel: Kernel
    panel: Access
    lanes: Index
    rows: Index
    taps: tuple[Index, ...]
    shared: tuple[Index, ...]
    reduced: tuple[str, ...]
    split: bool

    @property
    def sum(self) -> Compute:
        """The sum itself."""
        first = self.kernel.body[0]
        assert isinstance(first, Compute)
        return first


def places_of(kernel: Kernel, lanes: int) -> Places | None:
    """A kernel as a sum over places, with vectors of so many lanes; None for all others."""
    first = kernel.body[0]
    operands = operands_of(kernel, first) if isinstance(first, Compute) else None
    if operands is None or any(
            not isinstance(c, Compute) or c.combine or c.over for c in kernel.body[1:]):
        return None
    assert isinstance(first, Compute)
    for panel, other in (operands, operands[::-1]):
        clipped = _clipped(kernel, first, other) if panel.fill is None else None
        if clipped is not None:
            compute, moved = _split(kernel, clipped, panel, lanes)
            places = _places(replace(kernel, body=(compute, *kernel.body[1:])), compute, moved,
                             compute is not clipped)
            if places is not None:
                return places
    return None


def operands_of(kernel: Kernel, compute: Compute) -> tuple[Access, Access] | None:
    """What a sum of products of two elements reads; the sum is a register."""
    combine = compute.combine
    if combine is None or combine.kind != "sum" or combine.tree or compute.where or (
            len(compute.body) != 1 or len(compute.over) < 2 or compute.target.at):
        return None
    (op,) = compute.body
    if op.op != "mul" or op.name != compute.value or op.dtype is not combine.dtype or (
            not op.dtype.is_float):
        return None
    left, right = op.args
    if not isinstance(left, Access) or not isinstance(right, Access) or any(
            isinstance(e, Access) for e in (*left.at, *right.at)) or any(
            isinstance(b, Access) for i in compute.over for b in (i.low, i.high)):
        return None
    return None if left == right else (left, right)  # a sum of squares has one factor


def _clipped(kernel: Kernel, compute: Compute, access: Access) -> Compute | None:
    """The sum over those places alone at which an operand lies inside; elsewhere it is 0."""
    if access.fill is None:
        return compute
    if access.fill != 0:
        return None
    over = {i.name: i for i in compute.over}
    ranges = index_ranges(kernel)
    for at, extent in zip(access.at, kernel.buffer(access.buffer).dims, strict=True):
        assert not isinstance(at, Access)
        if nonnegative(at, ranges) and nonnegative(extent - 1 - at, ranges):
            continue
        names = [n for n in over if n in symbols(at)]
        step = coefficient(at, names[0]) if len(names) == 1 else None
        if not isinstance(step, int) or step < 1:
            return None
        index, rest = over[names[0]], at - symbol(names[0]) * step
        assert not isinstance(index.low, Access)
        assert not isinstance(index.high, Access)
        low, high = ceildiv(-rest, step), floordiv(extent - 1 - rest, step) + 1
        over[names[0]] = Index(
            index.name, index.high if nonnegative(high - index.high, ranges) else minimum(
                index.high, high),
            index.low if nonnegative(index.low - low, ranges) else maximum(index.low, low))
    plain = Access(access.buffer, access.at)
    (op,) = compute.body
    args = tuple(plain if a == access else a for a in op.args)
    return replace(compute, over=tuple(over.values()), body=(replace(op, args=args),))


def _split(
    kernel: Kernel, compute: Compute, panel: Access, lanes: int
) -> tuple[Compute, Access]:
    """With two indices for one along which the panel's operand lies in blocks of `lanes`."""
    blocks = [axis for axis, divisor in kernel.buffer(panel.buffer).layout.digits
              if divisor == lanes]
    names = [n for axis in blocks for n in symbols(_dim(panel.at[axis]))
             if any(i.name == n for i in compute.over)]
    if len(names) != 1:
        return compute, panel
    index = next(i for i in compute.over if i.name == names[0])
    assert not isinstance(index.high, Access)
    if index.low != 0:
        return compute, panel
    block, lane = symbol(f"{index.name}b"), symbol(f"{index.name}l")
    two = (Index(f"{index.name}b", ceildiv(index.high, lanes)),
           Index(f"{index.name}l", minimum(lanes, index.high - block * lanes)))
    value = {index.name: block * lanes + lane}

    def moved(access: Access) -> Access:
        return replace(access, at=tuple(substitute(_dim(e), value) for e in access.at))

    (op,) = compute.body
    args = tuple(moved(a) if isinstance(a, Access) else a for a in op.args)
    over = tuple(each for i in compute.over for each in (two if i is index else (i,)))
    return replace(compute, over=over, body=(replace(op, args=args),)), moved(panel)


def _dim(e: Dim | Access) -> Dim:
    assert not isinstance(e, Access)
    return e


def _places(
    kernel: Kernel, compute: Compute, panel: Access, split: bool
) -> Places | None:
    (op,) = compute.body
    other = next(a for a in op.args if isinstance(a, Access) and a != panel)
    bounds = frozenset[str]().union(*(
        symbols(_dim(b)) for i in compute.over for b in (i.low, i.high)))
    over = {i.name for i in compute.over}
    alone = [i for i in kernel.outer if uses(panel, i.name) and not uses(other, i.name)]
    others = [i for i in kernel.outer if uses(other, i.name) and not uses(panel, i.name)]
    taps = tuple(i for i in others if i.name in bounds or any(
        {i.name} < symbols(_dim(e)) and symbols(_dim(e)) & over for e in other.at))
    rows = [i for i in others if i not in taps]
    if len(alone) != 1 or len(rows) != 1 or alone[0].name in bounds or any(
            not isinstance(i.high, int) for i in taps):
        return None
    reduced = _in_memory(kernel, compute, panel, {i.name for i in taps})
    if reduced is None or not _is_last(kernel, panel, reduced[-1]):
        return None
    shared = tuple(i for i in kernel.outer if i not in (*alone, *others))
    return Places(kernel, panel, alone[0], rows[0], taps, shared, reduced, split)


def _is_last(kernel: Kernel, access: Access, name: str) -> bool:
    """Whether values of an index next to each other lie next to each other in memory."""
    buffer = kernel.buffer(access.buffer)
    axis, divisor = buffer.layout.full(len(buffer.dims))[-1]
    return divisor == 1 and coefficient(_dim(access.at[axis]), name) == 1


def _in_memory(
    kernel: Kernel, compute: Compute, panel: Access, taps: set[str]
) -> tuple[str, ...] | None:
    """The reduced indices as they lie in the memory of the panel's operand.

    Those whose bounds depend on taps must be the index of an axis: a panel has all of it.
    """
    buffer = kernel.buffer(panel.buffer)
    names: list[str] = []
    for axis, divisor in buffer.layout.full(len(buffer.dims)):
        at = _dim(panel.at[axis])
        found = [i.name for i in compute.over if i.name in symbols(at)]
        names += [n for n in found if n not in names][:1 if divisor > 1 else None]
    for index in compute.over:
        if index.name not in names or (
                (symbols(_dim(index.low)) | symbols(_dim(index.high))) & taps
                and symbol(index.name) not in panel.at):
            return None
    return tuple(names)
