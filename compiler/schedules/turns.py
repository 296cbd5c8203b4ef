"""Which two indices of an elementwise kernel are turned: it reads along one, and writes along the
other."""

from __future__ import annotations

from collections.abc import Callable

from dlc.compiler.kernels.accesses import loads_by, stride, uses
from dlc.ir.kernel import Access, Compute, Index, Kernel


def turned_indices(
    kernel: Kernel, lanes: int, extent: Callable[[Index], int]
) -> tuple[str, str] | None:
    """The vector index, along which all is written, and the one along which the rest is read.

    None if one index serves for all, or if what is neither along the one nor along the other would
    be read lane by lane still.
    """
    computes = [c for c in kernel.body if isinstance(c, Compute)]
    if any(c.over or c.where for c in computes) or kernel.locals:
        return None
    reads = {a for c in computes for a in c.args if isinstance(a, Access)}
    writes = {c.target for c in computes}
    wide = [i for i in kernel.outer if not isinstance(i.high, Access) and extent(i) >= lanes // 2]
    for vector in wide:
        if not all(_along(kernel, a, vector, lanes) == 1 for a in writes):
            continue
        across = [a for a in reads if _along(kernel, a, vector, lanes) not in (0, 1)]
        if not across:
            return None
        for turn in wide:
            if turn is not vector and all(_turns(kernel, a, vector, turn, lanes) for a in across):
                return vector.name, turn.name
    return None


def _along(kernel: Kernel, access: Access, index: Index, lanes: int) -> int | None:
    return None if loads_by(access, index.name) else stride(kernel, access, index, lanes)


def _turns(kernel: Kernel, access: Access, vector: Index, turn: Index, lanes: int) -> bool:
    """Whether rows of an access run along `turn`, whole vectors of it side by side."""
    loaded = access.fill is not None or any(isinstance(e, Access) for e in access.at)
    plain = all(len(_used(e, (vector, turn))) < 2 for e in access.at)
    return (not loaded and plain and uses(access, vector.name)
            and _along(kernel, access, turn, lanes) == 1)


def _used(e: object, indices: tuple[Index, ...]) -> list[Index]:
    return [i for i in indices if uses(Access("", (e,)), i.name)]  # type: ignore[arg-type]


