"""Rows in the registers of a GPU's threads: how many threads have a row, by an analytic model.

What several sweeps over a row need (softmax reads it three times) is kept in registers, so memory
is read once. A warp that has a row waits for no other one; with more threads a row needs fewer
registers of each, more rows are on their way at a time, and few rows keep more of the GPU busy.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, prod

from dlc.compiler.kernels.accesses import accesses, uses
from dlc.compiler.kernels.sweeps import sweeps
from dlc.compiler.loops.threads import WARP
from dlc.compiler.schedules.product_tiles import LAST, processors
from dlc.ir.dataclass import dataclass
from dlc.ir.kernel import Access, Compute, Index, Kernel

GROUPS = (WARP, 128, 256, 512, 1024)  # threads that may have a row
REGISTERS = 65536  # of a processor, of 32 bits
ALWAYS = 48  # registers of a thread besides, at most
MOST_WORDS = 96  # registers of a thread for its part of a row: more would not fit with the rest
MOST_PLACES = 32  # of a row that a thread has
HELD_ROW = 16384  # places of a row that a block holds, whatever goes along it
RESIDENT = 2048  # threads of a processor
# Cycles of a processor
TURN = 600  # until memory has answered
BYTES = 15  # of memory, a cycle
MEETING = 150  # until a warp has one number of all its threads
MEETING_OF_BLOCK = 300  # until a block has
OF_WARP = 10  # of it for each of its warps
ISSUED = 4  # operations of warps in a cycle


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A row of `group` threads, each of which has `held` vectors of it."""

    group: int
    held: int


@dataclass(slots=True)
class HeldRowSearch:
    """Finds the best way to keep the rows of a kernel in registers.

    `row` has the indices of a row, the one along memory last; `lanes` of them are a vector;
    `extent` gives the likely number of values of an index.
    """

    kernel: Kernel
    row: tuple[Index, ...]
    lanes: int
    target: str
    extent: Callable[[Index], int]

    def choose(self) -> HeldRow | None:
        """The cheapest one; None if rows are too long for registers, or not only gone along."""
        if not self._is_held():
            return None
        found = [HeldRow(group, ceil(self._vectors() / group)) for group in GROUPS]
        found = [row for row in found if self._fits(row)]
        return min(found, key=self.cycles, default=None)

    def _fits(self, row: HeldRow) -> bool:
        places = row.held * self.lanes
        return places <= MOST_PLACES and places * self._words() <= min(
            MOST_WORDS, REGISTERS // row.group - ALWAYS)

    def _is_held(self) -> bool:
        """Whether all that is written along the row is touched at its own place alone, and no
        place of it is loaded."""
        computes = [c for c in self.kernel.body if isinstance(c, Compute)]
        written = {c.target.buffer: c.target for c in computes if c.over and c.combine is None}
        touched = [a for c in computes for a in accesses(c) if a.at]
        if any(a.at != written[a.buffer].at for a in touched if a.buffer in written):
            return False
        return not any(i.low != 0 for i in self.row) and not any(
            isinstance(e, Access) and uses(e, i.name)
            for a in touched for e in a.at for i in self.row)

    def _vectors(self) -> int:
        *rest, last = map(self.extent, self.row)
        return prod(rest) * ceil(last / self.lanes)

    def _words(self) -> int:
        """Registers for one place of the row: what is kept from one sweep to the next, at most."""
        runs = sweeps([c for c in self.kernel.body if isinstance(c, Compute)])
        first: dict[Access, int] = {}
        last: dict[Access, int] = {}
        for at, run in enumerate(runs):
            for access in (a for c in run if c.over for a in accesses(c) if self._is_along(a)):
                first.setdefault(access, at)
                last[access] = at
        kept = [sum(self._size(a) for a in first if first[a] <= at < last[a])
                for at in range(len(runs))]
        # Of the last sweep all results are there before one is stored.
        return max(1, *kept, sum(self._size(a) for a in first if last[a] == len(runs) - 1
                                 and a in {c.target for c in runs[-1]}))

    def _is_along(self, access: Access) -> bool:
        return bool(access.at) and any(uses(access, i.name) for i in self.row)

    def _size(self, access: Access) -> int:
        return max(1, self.kernel.buffer(access.buffer).dtype.size // 4)

    def cycles(self, row: HeldRow) -> float:
        """Cycles of all rows: the longer of memory and of operations, and what the first and the
        last ones wait."""
        rows = prod(map(self.extent, self.kernel.outer))
        places = row.held * self.lanes
        registers = ALWAYS + places * self._words()
        block = max(row.group, 256)
        resident = max(1, min(RESIDENT, REGISTERS // registers) // block) * block // row.group
        waves = ceil(rows / (resident * processors(self.target)))
        met = MEETING if row.group == WARP else MEETING_OF_BLOCK + OF_WARP * row.group // WARP
        computes = [c for c in self.kernel.body if isinstance(c, Compute)]
        work = sum(2 + 8 * len(c.body) for c in computes if c.over) * places
        meetings = sum(1 for c in computes if c.combine is not None)
        wait = TURN + met * meetings + work
        moved = {a for c in computes if c.over for a in accesses(c) if a.at}
        size = sum(self.kernel.buffer(a.buffer).dtype.size for a in moved if self._is_along(a))
        length = prod(map(self.extent, self.row))
        memory = rows * length * size / (processors(self.target) * BYTES)
        issued = rows * work * row.group / WARP / (ISSUED * processors(self.target))
        return max(memory, issued, waves * wait) + wait + LAST
