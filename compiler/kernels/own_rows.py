"""Whether the rows of a kernel are computed each by itself: then it may be run on some of them."""

from __future__ import annotations

from collections.abc import Iterator

from dlc.ir.dims import Dim, symbol, symbols
from dlc.ir.kernel import Access, Buffer, Compute, Index, IndexValue, Kernel, Seq


def row_index(kernel: Kernel, size: str) -> str:
    """The outer index that counts the rows, if `size`, a symbol, is how many there are; "" if one
    of them is not computed by itself.

    Then the kernel does, with a smaller size and operands that begin at a later row, for these
    rows what it does for them among all. So buffers with rows have them outermost and are read and
    written at the row of the index alone, and neither the size nor the index is a number anywhere.
    """
    counting = [i for i in kernel.outer if i.low == 0 and i.high is symbol(size)]
    if len(counting) != 1:
        return ""
    index = counting[0]
    names = frozenset((size, index.name))
    ranges = [d for i in kernel.outer if i is not index for d in _bounds(i)]
    if any(names & symbols(d) for d in ranges) or any(
            names & symbols(d) for b in kernel.locals for d in b.dims):
        return ""
    by_rows = {b.name for b in kernel.params if _has_rows(b, size)}
    others = [b for b in kernel.params if b.name not in by_rows]
    if any(names & symbols(d) for b in others for d in b.dims):
        return ""
    own = all(_is_own(part, index.name, names, by_rows) for part in _parts(kernel.body))
    return index.name if own else ""


def _has_rows(buffer: Buffer, size: str) -> bool:
    """Whether a buffer has the rows outermost, and nothing else in it depends on their number."""
    digits = buffer.layout.full(len(buffer.dims))
    return bool(digits) and digits[0] == (0, 1) and buffer.dims[0] is symbol(size) and all(
        axis != 0 and size not in symbols(buffer.dims[axis]) for axis, _ in digits[1:])


Part = Access | IndexValue | Dim | None


def _parts(body: tuple[object, ...]) -> Iterator[Part]:
    """All accesses, numbers made of indices, and bounds of a body; None for what can't be told."""
    for step in body:
        match step:
            case Compute():
                yield step.target
                yield from (a for a in step.args if isinstance(a, Access | IndexValue))
                yield from step.where
                yield from (d for i in step.over for d in _bounds(i))
            case Seq():
                yield from _bounds(step.index)
                yield from _parts(step.body)
            case _:
                yield None


def _bounds(index: Index) -> list[Dim]:
    return [d for d in (index.low, index.high) if not isinstance(d, Access)]


def _is_own(part: Part, index: str, names: frozenset[str], by_rows: set[str]) -> bool:
    """Whether a part of a body touches nothing of another row."""
    if isinstance(part, Access):
        at = part.at
        if part.buffer in by_rows:
            if at[0] is not symbol(index):
                return False
            at = at[1:]
        return all(_is_own(e, index, names, by_rows) for e in at)
    if isinstance(part, IndexValue):
        return not names & symbols(part.value)
    return part is not None and not names & symbols(part)
