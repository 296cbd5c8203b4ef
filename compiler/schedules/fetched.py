"""What a kernel reads of memory after a reduction, tile by tile: it is asked for before that.

Tiles go down columns, where the CPU foresees little, and each element is read once. Asked for
before the reduction, memory has the time of all its multiplications to come.
"""

from __future__ import annotations

from dlc.compiler.kernels.accesses import stride, uses
from dlc.ir.kernel import Access, Compute, Kernel
from dlc.ir.schedule import Schedule

LEAST_TURNS = 32  # of a reduction that leaves time to bring something near


def fetched(kernel: Kernel, schedule: Schedule) -> tuple[str, ...]:
    """The buffers of which every tile reads a part of its own, in vectors."""
    vector = next((i for i in kernel.outer if i.name == schedule.vector), None)
    computes = [c for c in kernel.body if isinstance(c, Compute)]
    reduction = next((c for c in computes if c.combine is not None), None)
    if vector is None or reduction is None or not schedule.tiles:
        return ()
    turns = 1
    for index in reduction.over:
        if isinstance(index.high, int) and isinstance(index.low, int):
            turns *= index.high - index.low
        else:
            turns = LEAST_TURNS
    outer = [i.name for i in kernel.outer if i.high != 1]
    reads = [a for c in computes if c.combine is None for a in c.args if isinstance(a, Access)]
    found = [a.buffer for a in reads if a.fill is None and all(uses(a, n) for n in outer)
             and not any(isinstance(e, Access) for e in a.at)
             and stride(kernel, a, vector, schedule.lanes) == 1]
    return tuple(dict.fromkeys(found)) if turns >= LEAST_TURNS else ()
