"""Where in memory a kernel's accesses lie, seen from the lanes of a vector."""

from __future__ import annotations

from functools import lru_cache

from dlc.compiler.kernels.ranges import Ranges, bind, simplify
from dlc.ir.dims import Dim, ceildiv, coefficient, symbol, symbols
from dlc.ir.kernel import Access, Compute, Index, Kernel, Layout, address

LANE = "lane"
LOADED = "loaded"


def block_of(index: Index, lanes: int) -> tuple[str, Dim, dict[str, tuple[Dim, Dim]]]:
    """The block number's name of a vectorised index, the index by block and lane, their ranges."""
    block = f"{index.name}.b"
    assert not isinstance(index.high, Access)
    ranges: dict[str, tuple[Dim, Dim]] = {
        LANE: (0, lanes - 1), block: (0, ceildiv(index.high, lanes) - 1)}
    return block, symbol(block) * lanes + symbol(LANE), ranges


def offset_of(
    kernel: Kernel, access: Access, point: dict[str, Dim], ranges: Ranges
) -> Dim:
    """The offset in elements of an access at a point; loaded indices must be named in `point`."""
    buffer = kernel.buffer(access.buffer)
    index = tuple(bind(e, point, ranges) for e in access.at if not isinstance(e, Access))
    return simplify(address(buffer.layout, buffer.dims, index), ranges)


def stride(kernel: Kernel, access: Access, index: Index, lanes: int) -> int | None:
    """The elements between neighbouring lanes: 0 is one scalar, None is not constant."""
    at = tuple(symbol(LOADED) if isinstance(e, Access) else e for e in access.at)
    if not any(index.name in symbols(e) for e in at):
        return 0
    buffer = kernel.buffer(access.buffer)
    return _stride(buffer.layout, buffer.dims, at, index, lanes)


@lru_cache(1 << 12)  # each way to schedule a kernel asks the same
def _stride(
    layout: Layout, dims: tuple[Dim, ...], at: tuple[Dim, ...], index: Index, lanes: int
) -> int | None:
    _, value, ranges = block_of(index, lanes)
    place = tuple(bind(e, {index.name: value}, ranges) for e in at)
    step = coefficient(simplify(address(layout, dims, place), ranges), LANE)
    return step if isinstance(step, int) else None


def accesses(compute: Compute) -> list[Access]:
    """All reads of a compute, and its write if that is no sum's; each place once."""
    found = [a for a in compute.args if isinstance(a, Access)]
    if compute.combine is None:
        found.append(compute.target)
    return list(dict.fromkeys(found))


def uses(access: Access, name: str) -> bool:
    """Whether an index, or one that is loaded for it, depends on `name`."""
    return any(uses(e, name) if isinstance(e, Access) else name in symbols(e) for e in access.at)


def loads_by(access: Access, name: str) -> bool:
    """Whether an index that depends on `name` is itself loaded."""
    return any(isinstance(e, Access) and uses(e, name) for e in access.at)
