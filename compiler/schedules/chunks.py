"""How the outer loops of a kernel are cut into chunks for threads, for any size of its symbols."""

from __future__ import annotations

from dlc.ir.dims import Dim, floordiv, maximum, minimum, product

SERIAL_NS = 3000  # a kernel that takes less is not split
CHUNK_NS = 1500  # a chunk should take at least as long
MOST_CHUNKS = 64  # enough to even out a few threads
ENOUGH_TURNS = 16  # of the loops that are split


def split(trips: tuple[Dim, ...], likely: tuple[int, ...], total: Dim) -> tuple[int, Dim]:
    """How many of the loops to split, into how many chunks.

    `trips` are those of the loops, outermost first, `likely` their likely numbers; `total` are the
    nanoseconds of all.
    """
    if isinstance(total, int) and total < SERIAL_NS:
        return 0, 1
    loops, turns = 0, 1
    for count in likely:
        if turns >= ENOUGH_TURNS:
            break
        loops, turns = loops + 1, turns * count
    if loops == 0:
        return 0, 1
    worth = minimum(maximum(floordiv(total, CHUNK_NS), 1), MOST_CHUNKS)
    return loops, minimum(worth, product(trips[:loops]))
