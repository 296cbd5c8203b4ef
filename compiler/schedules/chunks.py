"""How the outer loops of a kernel are cut into chunks for threads, for any size of its symbols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

from dlc.ir.dims import Dim, ceildiv, floordiv, maximum, minimum, product, symbols
from dlc.ir.kernel import Access, Index, Kernel

SERIAL_NS = 3000  # a kernel that takes less is not split
CHUNK_NS = 1500  # a chunk should take at least as long
MOST_CHUNKS = 64  # enough to even out a few threads
CYCLES_PER_NS = 3.0
ENOUGH_TURNS = 16  # of the loops that are split
THREADS = (2, 4, 8)  # for which chunks are to come out even


def idle(chunks: int, threads: tuple[int, ...] = THREADS) -> float:
    """How long threads wait for the last of as many equal chunks, as a part of all their work."""
    return sum(ceil(chunks / n) * n / max(chunks, 1) - 1 for n in threads) / len(threads)


def size_of(kernel: Kernel, index: Index, extent: Callable[[Index], int]) -> Dim:
    """The number of values of an index; the likely one (`extent`) if only its loop tells."""
    if isinstance(index.high, Access) or isinstance(index.low, Access):
        return extent(index)
    size = index.high - index.low
    return size if symbols(size) <= set(kernel.symbols) else extent(index)


def split(
    kernel: Kernel, loops: Sequence[tuple[Index, int]], extent: Callable[[Index], int], total: Dim,
    blocks: Dim = 0,
) -> tuple[int, Dim]:
    """How many of the outer loops to split, into how many chunks.

    `loops` are their indices, outermost first, and how many values a turn covers; `extent` gives
    the likely number of values; `total` are the nanoseconds of all; `blocks` are the turns of the
    last loop, if it does not say so itself.
    """
    if isinstance(total, int) and total < SERIAL_NS:
        return 0, 1
    count, turns = 0, 1
    for index, step in loops:
        if turns >= ENOUGH_TURNS:
            break
        count, turns = count + 1, turns * ceil(extent(index) / step)
    if count == 0:
        return 0, 1
    trips = [ceildiv(size_of(kernel, i, extent), step) for i, step in loops[:count]]
    if blocks != 0 and count == len(loops):
        trips[-1] = blocks
    worth = minimum(maximum(floordiv(total, CHUNK_NS), 1), MOST_CHUNKS)
    return count, minimum(worth, product(tuple(trips)))
