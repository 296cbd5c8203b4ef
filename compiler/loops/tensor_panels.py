"""Where elements lie that tensor cores multiply: panels in shared memory, a few stages of them.

A line holds places of the sum, of one row of the tile (`along`), or rows of the tile, at one place
of the sum. It is cut into packs of 16 bytes, which go round in groups of eight from line to line:
so the eight that an instruction reads in a column lie in different banks, and so do those that are
written along lines.

    line 0:  0 1 2 3 4 5 6 7        line 1:  7 0 1 2 3 4 5 6        line 2:  6 7 0 1 2 3 4 5
"""

from __future__ import annotations

from dlc.compiler.kernels.chain_parts import ChainParts, ChainRead
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, floordiv, mod
from dlc.ir.schedule import Schedule
from dlc.ir.types import DType

BANKS = 8  # of 16 bytes


@dataclass(frozen=True, slots=True)
class Panel:
    """The part of a factor that the turns at hand need.

    `size` rows (or columns) of the tile, `depth` places of the sum; whether lines lie `along` the
    sum.
    """

    memory: str
    dtype: DType
    size: int
    depth: int
    along: bool

    @property
    def pack(self) -> int:
        """The elements of 16 bytes."""
        return 16 // self.dtype.size

    @property
    def used(self) -> int:
        """The elements of a line that are multiplied."""
        return self.depth if self.along else self.size

    @property
    def length(self) -> int:
        """The elements that a line has room for, so that some lines are a group, or one is some."""
        packs = -(-self.used // self.pack)
        room = next((n for n in (1, 2, 4, BANKS) if n >= packs), -(-packs // BANKS) * BANKS)
        return room * self.pack

    @property
    def room(self) -> int:
        """The elements of a stage."""
        return self.lines * self.length

    @property
    def lines(self) -> int:
        """How many there are."""
        return self.size if self.along else self.depth

    def place(self, stage: Dim, m: Dim, k: Dim) -> Dim:
        """Where row `m` of the tile has its element at place `k` of the sum."""
        line, at = (m, k) if self.along else (k, m)
        number, within = floordiv(at, self.pack), mod(at, self.pack)
        base = stage * self.room + within
        packs, group = self.length // self.pack, BANKS * self.pack
        if packs >= BANKS:
            # Elements of 4 bytes are read one by one across lines, two packs of each of four lines.
            turn = 1 if self.along or self.dtype.size == 2 else 2
            slot = mod(number + turn * line, BANKS)
            return base + line * self.length + floordiv(number, BANKS) * group + slot * self.pack
        lines = BANKS // packs  # that share a group
        slot = mod(number + mod(line, lines) * packs + floordiv(line, lines), BANKS)
        return base + floordiv(line, lines) * group + slot * self.pack


def chain_panel(
    memory: str, read: ChainRead, parts: ChainParts, schedule: Schedule, along: bool
) -> Panel:
    """The panel of what a product of a chain reads: of the rows of a tile, or of the elements of a
    part; and of the product's own index as many as instructions take."""
    tile = schedule.chain
    assert tile is not None
    sizes: list[int] = []
    for index, least in ((read.lines, 16), (read.over, tile.step)):
        if index.name in tile.rows:
            sizes.append(tile.height)
        elif index == parts.row:
            sizes.append(schedule.part)
        else:
            assert isinstance(index.high, int)
            sizes.append(-(-index.high // least) * least)
    size, depth = sizes
    return Panel(memory, tile.dtype, size, depth, along)
