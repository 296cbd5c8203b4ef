"""How many columns a block of a GPU has side by side, by an analytic model.

Threads of neighbouring columns read neighbours in memory; the other threads of a block share the
rows of these columns. It takes as long as memory needs to answer in all turns of a block, or to
give what the blocks of a processor ask for. Few columns in a block make more blocks, and a longer
way from the sums of threads to that of a column; less than memory gives at once is given for
nothing.
"""

from __future__ import annotations

from math import log2

from dlc.compiler.schedules.product_tiles import LATENCY, processors
from dlc.ir.dataclass import dataclass

THREADS = 256  # of a block
RESIDENT = 8  # blocks of a processor
BYTES = 16  # of far memory in a cycle of a processor
SECTOR = 32  # bytes that memory gives at once
TOGETHER, STEP = 120, 30  # cycles of threads that come together, and for each doubling
EMPTY = 1  # for each doubling of columns that there are not


@dataclass(frozen=True, slots=True)
class Columns:
    """So many columns of so many rows, of which a thread reads `side` elements in a turn.

    `run` columns are neighbours in memory; `size` are the bytes of an element.
    """

    places: int
    rows: int
    run: int
    size: int
    side: int

    def beside(self, target: str) -> int:
        """How many columns a block has; as many as threads, if each thread has one alone."""
        choices = [THREADS >> k for k in range(THREADS.bit_length())]
        return min(choices, key=lambda beside: self.cycles(beside, target))

    def best(self, target: str) -> float:
        """The cycles of the best choice."""
        return self.cycles(self.beside(target), target)

    def cycles(self, beside: int, target: str) -> float:
        """The cycles until all columns are done, with so many of them in a block."""
        cards = processors(target)
        group = THREADS // beside
        waves = -(-self.places // (beside * cards * RESIDENT))
        turns = -(-self.rows // (group * self.side))
        whole = self.run <= beside  # then what is read lies in one piece
        waste = 1.0 if whole else max(1.0, SECTOR / (beside * self.size))
        most = max(self.places / cards, min(self.places, beside))  # columns of a processor
        moved = most * self.rows * self.size * waste
        spare = EMPTY * max(0.0, log2(beside / max(1, self.places)))
        together = spare + (TOGETHER + STEP * log2(group) if group > 1 else 0)
        return max(waves * turns * LATENCY, moved / BYTES) + waves * together
