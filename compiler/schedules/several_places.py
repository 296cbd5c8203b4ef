"""How many places of elementwise work a GPU's thread has, by an analytic model.

Memory answers after a while. It is busy if, at any time, as much is asked for as it delivers in
that while: by as many threads as a processor holds, each of which asks for all of its places. More
places than that only make fewer blocks.
"""

from __future__ import annotations

from dlc.compiler.kernels.accesses import accesses, uses
from dlc.compiler.schedules.product_tiles import processors
from dlc.ir.kernel import Access, Compute, Kernel

PLACES = (1, 2, 4, 8)
ON_THEIR_WAY = 40960  # bytes that a processor's memory has to be asked for
RESIDENT = 2048  # threads of a processor
REGISTERS = 65536
ALWAYS = 24  # registers of a thread besides
MOST_WORDS = 64  # registers for what is read and written
BUSY = 4  # blocks for each processor
THREADS = 256
LINES = 400  # operations of all places: the text is as long


def places_of_thread(kernel: Kernel, lanes: int, places: int, target: str) -> int:
    """How many vectors of `lanes` places (1: places) each thread has, if there are `places`."""
    computes = [c for c in kernel.body if isinstance(c, Compute)]
    read = {a for c in computes for a in c.args if isinstance(a, Access) and a.at}
    whole = (a for a in read if all(uses(a, i.name) for i in kernel.outer if i.high != 1))
    size = sum(kernel.buffer(a.buffer).dtype.size for a in whole)  # what has fewer is in a cache
    touched = {a for c in computes for a in accesses(c) if a.at}
    words = sum(kernel.buffer(a.buffer).dtype.size for a in touched) * lanes // 4
    length = sum(1 + len(c.body) for c in computes) * lanes
    best = 1
    for count in PLACES:
        blocks = places // (count * THREADS)
        if count > 1 and (count * words > MOST_WORDS or count * length > LINES
                          or blocks < BUSY * processors(target)):
            break
        best = count
        threads = min(RESIDENT, REGISTERS // (ALWAYS + count * words))
        if threads * count * size * lanes >= ON_THEIR_WAY:
            break
    return best
