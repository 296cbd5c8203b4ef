"""Two indices of a kernel as one, where they always stand side by side: rows of texts are rows.

    y[n, t, c] = sum k: x[n, t, k] * w[k, c]      with  x: [N, T, K]
    ->
    y[n, c] = sum k: x[n, k] * w[k, c]            with  x: [N*T, K], n < N*T
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from dlc.compiler.kernels.accesses import uses
from dlc.ir.dims import Dim, symbol, symbols
from dlc.ir.kernel import Access, Arg, Buffer, Compute, Index, IndexValue, Kernel


def collapse(kernel: Kernel) -> Kernel:
    """The kernel with as few indices as its buffers, all in row-major order, allow."""
    computes = [step for step in kernel.body if isinstance(step, Compute)]
    rows = {c.over for c in computes if c.over}
    if len(computes) < len(kernel.body) or len(rows) > 1 or any(b.dims for b in kernel.locals):
        return kernel
    chains = [kernel.outer]
    if all(c.combine is None or (c.combine.kind in ("sum", "max") and not c.combine.tree)
           for c in computes):
        chains += rows
    for chain in chains:
        for first, second in pairwise(chain):
            places = _places(kernel, computes, first, second)
            if places is not None:
                return collapse(_merged(kernel, first, second, places))
    return kernel


def _places(
    kernel: Kernel, computes: list[Compute], first: Index, second: Index
) -> dict[str, int] | None:
    """For each buffer that is read or written by two indices, the axis of the first; None if they
    do not always stand side by side."""
    names = {first.name, second.name}
    if not _is_plain(first) or not _is_plain(second) or _elsewhere(computes, names):
        return None
    buffers = {b.name: b for b in kernel.params}
    places: dict[str, int | None] = {}
    for access in (a for c in computes for a in _accesses(c)):
        if access.buffer not in buffers:
            continue
        place = _place(access, buffers[access.buffer], first, second)
        if place == -1 or places.setdefault(access.buffer, place) != place:
            return None
    return {name: place for name, place in places.items() if place is not None}


def _is_plain(index: Index) -> bool:
    return index.low == 0 and not isinstance(index.high, Access) and index.high != 1


def _elsewhere(computes: list[Compute], names: set[str]) -> bool:
    """Whether an index is used otherwise than in the place of a read or a write."""
    for compute in computes:
        bounds = [b for i in compute.over for b in (i.low, i.high)]
        dims = [*(b for b in bounds if not isinstance(b, Access)), *compute.where,
                *(a.value for a in _args(compute) if isinstance(a, IndexValue))]
        if any(symbols(d) & names for d in dims) or any(isinstance(b, Access) for b in bounds):
            return True
    return False


def _args(compute: Compute) -> list[Arg]:
    return [*(a for op in compute.body for a in op.args), compute.value]


def _accesses(compute: Compute) -> list[Access]:
    return [*(a for a in _args(compute) if isinstance(a, Access)), compute.target]


def _place(access: Access, buffer: Buffer, first: Index, second: Index) -> int | None:
    """The axis of the first index, with the second on the next one; None: it uses neither; -1: it
    uses them in another way."""
    used = [k for k, e in enumerate(access.at) if _uses(e, first.name) or _uses(e, second.name)]
    if not used:
        return None
    if len(used) != 2 or used[1] != used[0] + 1 or not buffer.layout.is_row_major:
        return -1
    at, following = access.at[used[0]], access.at[used[1]]
    side_by_side = at is symbol(first.name) and following is symbol(second.name)
    return used[0] if side_by_side and buffer.dims[used[1]] == second.high else -1


def _uses(e: Dim | Access, name: str) -> bool:
    return uses(e, name) if isinstance(e, Access) else name in symbols(e)


def _merged(kernel: Kernel, first: Index, second: Index, places: dict[str, int]) -> Kernel:
    def at(access: Access) -> Access:
        place = places.get(access.buffer)
        if place is None:
            return access
        return replace(access, at=(*access.at[:place + 1], *access.at[place + 2:]))

    def arg(given: Arg) -> Arg:
        return at(given) if isinstance(given, Access) else given

    assert not isinstance(first.high, Access)
    assert not isinstance(second.high, Access)
    one = Index(first.name, first.high * second.high)

    def indices(given: tuple[Index, ...]) -> tuple[Index, ...]:
        return tuple(one if i is first else i for i in given if i is not second)

    body = []
    for compute in kernel.body:
        assert isinstance(compute, Compute)
        ops = tuple(replace(op, args=tuple(map(arg, op.args))) for op in compute.body)
        body.append(replace(compute, target=at(compute.target), body=ops,
                            value=arg(compute.value), over=indices(compute.over)))
    params = tuple(_flattened(b, places.get(b.name)) for b in kernel.params)
    return replace(kernel, params=params, outer=indices(kernel.outer), body=tuple(body))


def _flattened(buffer: Buffer, place: int | None) -> Buffer:
    if place is None:
        return buffer
    dims = buffer.dims
    return replace(buffer, dims=(*dims[:place], dims[place] * dims[place + 1], *dims[place + 2:]))
