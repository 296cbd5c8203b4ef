"""How many cycles a GPU takes for a kernel with a schedule: an analytic model, at some sizes.

Nothing more is asked of it than which of two schedules is better, and by how much: what both have
to do is left out. Products and chains of them have models of their own (`product_tiles.py`,
`tensor_tiles.py`, `chain_tiles.py`).
"""

from __future__ import annotations

from functools import cached_property
from math import prod

from dlc.compiler.kernels.accesses import accesses
from dlc.compiler.kernels.implicit_products import likely
from dlc.compiler.loops.held_rows import LOOPED
from dlc.compiler.loops.threads import WARP
from dlc.compiler.options import Options
from dlc.compiler.schedules import held_rows
from dlc.compiler.schedules.columns import BYTES
from dlc.compiler.schedules.gpu import ThreadSearch
from dlc.compiler.schedules.group_tiles import GroupSearch
from dlc.compiler.schedules.held_rows import HeldRow, HeldRowSearch
from dlc.compiler.schedules.product_tiles import LAST, LATENCY, PLACE, WAIT, processors
from dlc.compiler.schedules.tensor_chains import cycles_of_chain
from dlc.ir.kernel import Access, Compute, Index, Kernel, computes
from dlc.ir.schedule import Schedule

# Cycles of a processor
SERIES = 40  # of each further place of a thread
MEETING, MEETING_OF_BLOCK = 150, 400  # until a warp, or a block, has one number of all threads
RESIDENT = 2048  # threads of a processor
FAR_APART = 4  # times as long take neighbours that go along rows of their own


class Cycles:
    """The model of one kernel at some sizes of its symbols."""

    def __init__(
        self, kernel: Kernel, sizes: dict[str, int], options: Options, other: Cycles | None = None
    ) -> None:
        self.kernel, self.sizes, self.options, self.other = kernel, sizes, options, other
        self.processors = processors(options.target)

    def at(self, sizes: dict[str, int]) -> Cycles:
        """The model of the same kernel at other sizes."""
        return Cycles(self.kernel, sizes, self.options, self)

    def of(self, schedule: Schedule) -> float:
        """The cycles of a schedule that is for this form of the kernel."""
        if schedule.part:
            return cycles_of_chain(self.kernel, schedule, self.options, self._extent)
        if schedule.shared is not None:
            return self._tiles.cycles(schedule.shared, schedule.reduce)
        if schedule.tensor is not None:
            return self._tiles.tensor_cycles(schedule.tensor, schedule.reduce)
        if schedule.grouped is not None:
            return self._tiles.grouped_cycles(schedule.grouped, schedule.reduce)
        if schedule.beside or (schedule.sweep and schedule.group == 1):
            search = ThreadSearch(self.kernel, self.sizes, self.options, {})
            times = FAR_APART if search.has_groups() else 1
            return times * search.columns_cycles(schedule) + LAST
        if schedule.sweep:
            return self._in_groups(schedule)
        return self._on_places(schedule)

    @cached_property
    def _tiles(self) -> GroupSearch:
        if self.other is not None:  # what does not depend on sizes is known there
            return self.other._tiles.at(self.sizes)
        return GroupSearch(self.kernel, self.sizes, self.options, {}, {})

    @cached_property
    def places(self) -> int:
        """Of the outer indices."""
        return prod(self._extent(i) for i in self.kernel.outer)

    def _extent(self, index: Index) -> int:
        return 1 if isinstance(index.high, Access) else likely(index, self.sizes, self.kernel)

    def _on_places(self, schedule: Schedule) -> float:
        """A thread for each place, or for a few side by side."""
        inner = sum(prod(map(self._extent, c.over)) for c in computes(self.kernel.body) if c.over)
        if inner:
            work = self.places * inner * PLACE / self.processors
            return max(work, inner * WAIT) + LAST
        moved = self.places * sum(map(self._bytes, computes(self.kernel.body)))
        own = schedule.lanes * schedule.places
        waves = -(-self.places // (own * self.processors * RESIDENT))
        wait = waves * (LATENCY + SERIES * (own - 1))
        return max(wait, moved / (self.processors * BYTES)) + LAST

    def _in_groups(self, schedule: Schedule) -> float:
        """Threads that go along rows together: in warps, or as a block."""
        along = [c for c in computes(self.kernel.body) if c.over]
        row = {i.name: i for c in along for i in c.over}
        length = prod(map(self._extent, row.values()))
        group = schedule.group
        if schedule.held and length <= schedule.held * schedule.lanes * group:
            held = HeldRowSearch(self.kernel, tuple(row[n] for n in schedule.reduce),
                                 schedule.lanes, self.options.target, self._extent)
            return held.cycles(HeldRow(group, schedule.held))
        waves = -(-self.places * group // (self.processors * RESIDENT))
        side = LOOPED if schedule.held else schedule.sweep  # what is not held is read again
        turns = -(-length // (group * side * schedule.lanes))
        met = MEETING if group == WARP else MEETING_OF_BLOCK
        wait = waves * len(along) * (turns * LATENCY + met)
        moved = sum(self._bytes(c) for c in along) * self.places * length
        return max(wait, moved / (self.processors * held_rows.BYTES)) + LAST

    def _bytes(self, compute: Compute) -> int:
        """What is read and written at a place."""
        return sum(self.kernel.buffer(a.buffer).dtype.size for a in accesses(compute) if a.at)
