"""Factors of a product as arrays of which boxes can be copied in bulk.

Such an array has an axis for the rows (or columns) of the product, one for the reduced indices that
are counted through together, and one for each other index, each with one step in memory. One of the
first two has neighbours in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dlc.compiler.kernels.accesses import offset_of
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, coefficient, mod, product, substitute, symbol, symbols
from dlc.ir.group_loops import MOST_AXES
from dlc.ir.kernel import Access, Index, Kernel


@dataclass(frozen=True, slots=True)
class Boxes:
    """An access as such an array: its first two axes are of the sum and of the rows (or columns),
    or (`turned`) the other way round; `rest` are the indices of the others."""

    offset: Dim
    sizes: tuple[Dim, ...]
    steps: tuple[Dim, ...]
    rest: tuple[str, ...]
    turned: bool

    def aligned(self, pack: int, starts: Sequence[Dim], known: Mapping[str, Dim]) -> bool:
        """Whether it begins, and its lines do, at multiples of so many elements, if its memory
        begins at one of `starts`; `known` says how sizes are made of others."""
        return all(mod(substitute(dim, known), pack) == 0
                   for dim in (self.offset, *self.steps, *starts))


def boxes_of(
    kernel: Kernel, access: Access, indices: Mapping[str, Index], rows: Sequence[str],
    inner: Sequence[str],
) -> Boxes | None:
    """An access as an array of boxes; None if it is none, or if that is not certain. `indices` are
    all that it may depend on."""
    if access.fill is not None or any(isinstance(e, Access) for e in access.at):
        return None
    offset = offset_of(kernel, access, {}, {})
    names = [name for name in indices if name in symbols(offset)]
    steps = dict[str, Dim]()
    for name in names:
        step = coefficient(offset, name)
        if step is None:
            return None
        steps[name] = step
    for name in names:
        offset = offset - steps[name] * symbol(name)
    if any(symbols(dim) & set(indices) for dim in (offset, *steps.values())):
        return None
    two = [_axis(group, indices, steps) for group in (inner, rows)]
    rest = [name for name in names if name not in (*inner, *rows)]
    others = [_axis((name,), indices, steps) for name in rest]
    first, second = two
    if first is None or second is None or None in others or 1 not in (first[1], second[1]):
        return None
    turned = first[1] != 1
    axes = [axis for axis in (*(reversed(two) if turned else two), *others) if axis is not None]
    if len(axes) > MOST_AXES:
        return None
    return Boxes(offset, tuple(n for n, _ in axes), tuple(s for _, s in axes[1:]), tuple(rest),
                 turned)


def _axis(
    group: Sequence[str], indices: Mapping[str, Index], steps: Mapping[str, Dim]
) -> tuple[Dim, Dim] | None:
    """How many values some indices have that are counted through together, and the step of one in
    memory; None if there is none."""
    size: Dim = 1
    step: Dim | None = None
    for name in reversed(group):
        high = indices[name].high
        if high == 1:
            continue
        if isinstance(high, Access) or symbols(high) & set(indices) or name not in steps:
            return None
        if step is not None and steps[name] != step * size:
            return None
        step = steps[name] if step is None else step
        size = product((size, high))
    return None if step is None else (size, step)
