"""Convolutions whose lanes lie along maps: whether that pays, and the schedule.

Both ways to carry them out are told by the model of register tiles; copies of operands, and sums
that are transposed, come on top. How many lanes and places are computed for nothing decides most
of it: if that is not known, a call decides by its sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil, inf

from dlc.compiler.kernels.accesses import accesses
from dlc.compiler.kernels.maps import PADDED, TURNED_SUM, Maps, Packed
from dlc.compiler.options import Options
from dlc.compiler.schedules.chunks import size_of, split
from dlc.compiler.schedules.tiles import SIZES, Choice, TileSearch, windows
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, ceildiv, evaluate, product
from dlc.ir.kernel import Compute, Index, Kernel
from dlc.ir.schedule import PART, Schedule, Tile, places_along

TURNED = 3.5  # cycles to copy a weight
MARGIN = 1.1  # times as long as with copies it has to take without them
MOST_VECTORS = 4  # of maps
LIKELY_VECTORS = 2  # of them, if it is not known how many there are
PARTS = 100  # of a cycle: sizes are multiplied with whole numbers


@dataclass(frozen=True, slots=True)
class MapSearch:
    """Decides whether the lanes of a convolution's sums lie along its maps.

    `kernel` is the convolution as it was, `schedule` what is done otherwise; `sizes` are likely,
    and `extent` says how many values an index has at them.
    """

    maps: Maps
    kernel: Kernel
    schedule: Schedule
    options: Options
    sizes: dict[str, int]
    extent: Callable[[Index], int]

    def choose(self) -> tuple[Packed, Schedule, Dim] | None:
        """The kernel and its schedule with the lanes along maps; and what is not negative at the
        sizes at which that pays. None if it never does."""
        maps, along = self.maps.maps, self.maps.along
        search = self._search(self.maps.kernel, maps, along)
        best = min(self._choices(search.most), key=search.cycles, default=None)
        if best is None:
            return None
        packed = self.maps.packed(self._places(along, dict(best)), self.options.lanes)
        gain = self._gain(search.cycles(best, useful=False), dict(best), packed)
        if isinstance(maps.high, int) and isinstance(along.high, int):
            gain = evaluate(gain, self.sizes)
        if isinstance(gain, int) and gain < 0:
            return None
        return packed, self._schedule(packed.kernel, dict(best)), gain

    def _choices(self, limit: int) -> Iterator[Choice]:
        maps, along = self.maps.maps, self.maps.along
        most = MOST_VECTORS if isinstance(maps.high, int) else LIKELY_VECTORS
        for vectors in range(1, min(most, ceil(self.extent(maps) / self.options.lanes)) + 1):
            for size in SIZES:
                known = isinstance(along.high, int) or size % PART == 0
                if known and size * vectors <= limit and size <= self.extent(along):
                    yield ((along, size), (maps, vectors))

    def _search(self, kernel: Kernel, vector: Index | None, parted: Index | None) -> TileSearch:
        compute = kernel.body[0]
        assert isinstance(compute, Compute)
        options = self.options
        return TileSearch(
            tuple(accesses(compute)), windows(compute, vector.name if vector else ""), (), vector,
            options.lanes, options.registers, self.extent, folds=options.lanes > 4,
            of=options.registers, parted=parted)

    def _gain(self, cycles: float, sizes: dict[Index, int], packed: Packed) -> Dim:
        """How much longer it takes now than with so many cycles for each vector of multiply-adds,
        and copies: in parts of a cycle, and times the lanes."""
        now = self._cycles()
        if now == inf:
            return 0
        kernel, lanes = self.maps.kernel, self.options.lanes
        turns = product(tuple(size_of(kernel, i, self.extent) for i in self.maps.sum.over))
        others: Dim = round(PARTS * TURNED_SUM) * product(tuple(
            size_of(kernel, i, self.extent) for i in kernel.outer))
        for copy in packed.copies:
            param = copy.kernel.params[-1]
            cost = PADDED if param.layout.is_row_major else TURNED
            others = others + round(PARTS * cost) * product(param.dims)
        places, before = (product(tuple(each(i) for i in kernel.outer)) for each in (
            lambda i: self._places(i, sizes), self._places_now))
        longer = turns * places * round(PARTS * MARGIN * cycles) + others * round(MARGIN * lanes)
        return turns * before * round(PARTS * now) - longer

    def _cycles(self) -> float:
        """What a vector of multiply-adds takes now; of the lanes of a sum, one that is full."""
        outer, schedule = {i.name: i for i in self.kernel.outer}, self.schedule
        vector, lanes = outer.get(schedule.vector), self.options.lanes
        if schedule.panel:
            return 0.0  # an operand is copied already
        choice = tuple((outer[t.index], t.size) for t in schedule.tiles)
        if vector and schedule.tile(vector.name) == 1:
            choice = (*choice, (vector, 1))
        found = self._search(self.kernel, vector, None).cycles(choice, useful=False)
        if vector or not schedule.vector:
            return found if vector else found * lanes
        summed = next(self.extent(i) for i in self.maps.sum.over if i.name == schedule.vector)
        return found * ceil(summed / lanes) * lanes / summed

    def _places_now(self, index: Index) -> Dim:
        """How many places of an outer index are computed now."""
        wide = self.options.lanes if index.name == self.schedule.vector else 1
        step = self.schedule.tile(index.name) * wide
        return ceildiv(size_of(self.kernel, index, self.extent), step) * step

    def _places(self, index: Index, sizes: dict[Index, int]) -> Dim:
        """How many places of an outer index are computed with such tiles."""
        size = size_of(self.kernel, index, self.extent)
        if index is self.maps.along:
            return places_along(size, sizes[index])
        step = sizes.get(index, 1) * (self.options.lanes if index is self.maps.maps else 1)
        return ceildiv(size, step) * step

    def _schedule(self, kernel: Kernel, sizes: dict[Index, int]) -> Schedule:
        maps, along, lanes = self.maps.maps, self.maps.along, self.options.lanes
        order = (*(i for i in kernel.outer if i is not along), along)
        steps = [(i, sizes.get(i, 1) * (lanes if i is maps else 1)) for i in order]
        cost = self.schedule.cost
        # However few pictures there are, threads have rows to share.
        loops, chunks = split(kernel, steps[:-1], lambda i: self.extent(i) if isinstance(
            i.high, int) else 1, cost)
        tiles = tuple(Tile(i.name, sizes[i]) for i in (along, maps))
        return Schedule(
            self.options.target, tuple(i.name for i in order), loops, chunks, maps.name, lanes,
            tiles, tuple(i.name for i in self.maps.sum.over), along=along.name,
            edge=((maps.name, "mask"),), cost=cost)
