"""Register tiles: which outer indices a reduction's accumulators cover, by an analytic score.

Each turn of the reduction loads one element, or vector, for every value of the tile's indices that
a read depends on, and uses it for all the others. The score is the cycles a useful multiply-add
takes: the larger of what the multipliers and the loads need, and of what sticks out at the edges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import permutations, product
from math import ceil, gcd, inf, prod

from dlc.compiler.kernels.accesses import accesses, stride, uses
from dlc.compiler.schedules.chunks import idle
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import symbols
from dlc.ir.kernel import Access, Buffer, Compute, Index, Kernel, storage_size
from dlc.ir.schedule import PART, Tile, in_parts

SIZES = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)
VECTORS = (1, 2, 3, 4, 6, 8, 12, 16)
LOADS_PER_CYCLE = 2.0
PRODUCTS_PER_CYCLE = 2.0
LINE_CYCLES = 2.0  # a vector from the second cache: few panels fit into the first
WINDOW_CYCLES = 4.0  # a line of vectors that begin anywhere: far from those before
LINE_LANES = 16  # of a cache line
LOOP_CYCLES = 1.0  # of a turn, beside its work
IN_FLIGHT = 8  # accumulators that keep the multipliers busy: latency times products a cycle
FAST_ELEMENTS = 65536  # of an operand that may be read again and again at no cost
FEW_TURNS = 32  # of a reduction that does little with what it reads
FEW_THREADS = (2, 4)  # for which vectors are to come out even: more have rows to share as well
FEW_REGISTERS = 16
FREE_REGISTERS = 8  # for what is loaded; of 16 half as many, beside an operand of single numbers
SPARE_REGISTERS = 3  # beside sums and vectors: an element, and what a loop keeps; of 16 one less
SPARE = 2  # registers that LLVM needs beside all that is in use
WAYS = 8  # lines of the same place in a page that the first cache holds
PAGE = 4096  # bytes after which addresses fall into the same set of the first cache again

Choice = tuple[tuple[Index, int], ...]


@dataclass(frozen=True, slots=True)
class TileSearch:
    """The tiles of one reduction.

    reads:     what each turn reads.
    windows:   which of them shift along the vector index from turn to turn.
    free:      the outer indices that may have tiles, the vector's left out.
    vector:    the vector index, if it is an outer one.
    extent:    the likely number of values of an index.
    apart:     of each read in vectors along a reduced index: how many neighbours of an index lie in
               different sets of the first cache.
    streams:   whether rows along the vector index are read once, from memory: long pieces of them
               are best, whatever sticks out.
    folds:     whether multiply-adds take an operand from memory; else all is loaded before.
    of:        the registers of the CPU: if few, what a loop keeps lies on the stack meanwhile.
    even:      whether threads share the tiles along the vector index alone, which are to come out
               even for them then.
    blocks:    whether the vector index is a batch that lies in blocks of lanes: where it is one
               block, all other vectors of a tile are computed for nothing.
    parted:    a free index, of whose tiles those that stick out are made in parts.
    """

    reads: tuple[Access, ...]
    windows: tuple[bool, ...]
    free: tuple[Index, ...]
    vector: Index | None
    lanes: int
    registers: int
    extent: Callable[[Index], int]
    apart: tuple[dict[Index, int], ...] = ()
    streams: bool = False
    folds: bool = True
    of: int = 32
    even: bool = False
    blocks: bool = False
    parted: Index | None = None

    def best(self) -> tuple[Tile, ...]:
        """The tiles that need the fewest cycles a multiply-add."""
        reuse = {i: [uses(a, i.name) for a in self.reads]
                 for i in (*self.free, *([self.vector] if self.vector else []))}
        waste = cache(self._waste)
        best = min(self._choices(), key=lambda c: self._cost(c, reuse, waste))
        tiles = tuple(Tile(i.name, n) for i, n in best if n > 1)
        if self.folds and prod(t.size for t in tiles) + held(
                self.reads, tiles) + SPARE <= self.registers:
            return tiles
        return min(permutations(tiles), key=lambda each: held(self.reads, each))

    @property
    def _few(self) -> bool:
        return self.of <= FEW_REGISTERS

    def cycles(self, choice: Choice, useful: bool = True) -> float:
        """The cycles that a multiply-add takes with some tiles: one that is `useful`, or each."""
        indices = {i for i, _ in choice} | ({self.vector} if self.vector else set())
        reuse = {i: [uses(a, i.name) for a in self.reads] for i in indices}
        return self._cost(choice, reuse, self._waste if useful else lambda *_: 1.0)

    @property
    def most(self) -> int:
        """How many sums a tile has at most."""
        half = self._few and self.vector is not None
        return max(1, self.registers - (FREE_REGISTERS // 2 if half else FREE_REGISTERS))

    def _choices(self) -> Iterator[Choice]:
        limit = self.most
        most = ceil(self.extent(self.vector) / self.lanes) if self.vector else 1
        if self.streams and self.vector and not isinstance(self.vector.high, int):
            most = limit
        for vectors in VECTORS:
            if vectors > min(most, limit):
                break
            own = ((self.vector, vectors),) if self.vector else ()
            yield own
            for at, a in enumerate(self.free):
                for size in self._sizes(a, limit // vectors):
                    yield ((a, size), *own)
                    for b in self.free[at + 1:]:
                        for other in self._sizes(b, limit // (vectors * size)):
                            yield ((a, size), (b, other), *own)

    def _sizes(self, index: Index, limit: int) -> Iterator[int]:
        extent = self.extent(index)
        for size in SIZES:
            if size > limit or size > extent:
                break
            yield size

    def _cost(
        self, choice: Choice, reuse: dict[Index, list[bool]],
        waste_of: Callable[[Index, int], float],
    ) -> float:
        if not self._held_near(choice):
            return inf
        products, waste = 1, 1.0
        counts = [1] * len(self.reads)
        for index, size in choice:
            products *= size
            waste *= waste_of(index, size)
            counts = [n * size if used else n
                      for n, used in zip(counts, reuse[index], strict=True)]
        vectors = next((n for i, n in choice if i is self.vector), 1)
        spare = SPARE_REGISTERS - self._few
        least = sum(counts) - max(counts) if self._few else vectors
        if products > vectors and products + least + spare > self.registers:
            return inf  # they stay loaded from row to row
        loads = sum(counts)
        if not self.folds and products + loads * (1 if self.vector else 2) + SPARE > self.registers:
            # All is loaded first; lanes past the end of a reduced index one by one, so that what is
            # made of them takes a register more.
            return inf
        anywhere = self._window_cycles(vectors)
        wide = sum(n * (anywhere if window else LINE_CYCLES) for n, used, window in zip(
            counts, reuse[self.vector], self.windows, strict=True) if used) if self.vector else 0
        latency = max(1.0, IN_FLIGHT / products)
        cycles = max(products / PRODUCTS_PER_CYCLE * latency, loads / LOADS_PER_CYCLE,
                     wide)
        if self.even and self.vector:
            waste *= 1 + idle(ceil(self.extent(self.vector) / (vectors * self.lanes)), FEW_THREADS)
        return (cycles + LOOP_CYCLES + 0.08 * loads) * waste / products

    def _held_near(self, choice: Choice) -> bool:
        """Whether the first cache keeps a line of each row until the next turn.

        A vector that does not begin with a line ends in the one that the next turn begins with. Of
        many rows that are whole pages apart it would be fetched for both.
        """
        return all(prod(ceil(size / apart[i]) for i, size in choice if i in apart) <= WAYS
                   for apart in self.apart)

    def _window_cycles(self, vectors: int) -> float:
        """Those of each of so many vectors side by side that begin anywhere: they touch a line more
        than they fill."""
        part = self.lanes / LINE_LANES  # short vectors do less with a line, which then costs less
        return WINDOW_CYCLES * part * (vectors * part + 1) / vectors

    def _waste(self, index: Index, size: int) -> float:
        """How much is computed for each useful value."""
        extent = self.extent(index)
        step = size * self.lanes if index is self.vector else size
        if index is self.parted:
            step = PART if in_parts(index.high, size) else size  # type: ignore[arg-type]
        if isinstance(index.high, int):
            return ceil(extent / step) * step / extent
        if index is self.vector and self.streams:
            return 1.0
        # Beside weights, whose sizes are numbers, a symbol is likely the size of a batch.
        batch = index is not self.vector and self.vector and isinstance(self.vector.high, int)
        if batch:
            near = [max(extent // 2, 1), extent, 2 * extent]
        elif index is self.vector and self.blocks:
            near = [self.lanes, extent, 2 * extent]
        elif index is self.vector and any(self.windows):  # along a picture, which becomes smaller
            near = [max(extent // 2, 1), extent, 2 * extent]
        else:
            near = [extent, 2 * extent, 4 * extent]
        return sum(ceil(e / step) * step / e for e in near) / len(near)


def sets_apart(
    kernel: Kernel, reads: Sequence[Access], indices: tuple[Index, ...], vector: str, lanes: int
) -> tuple[dict[Index, int], ...]:
    """How many neighbours of each index lie in different sets of the first cache, for each read of
    vectors along a reduced index; a distance that is not known may be whole pages."""
    found = []
    for access in reads:
        if vector and uses(access, vector):
            size = kernel.buffer(access.buffer).dtype.size
            steps = {i: stride(kernel, access, i, lanes) for i in indices if uses(access, i.name)}
            found.append({i: 1 if step is None else PAGE // gcd(step * size, PAGE)
                          for i, step in steps.items()})
    return tuple(found)


def windows(reduction: Compute, vector: str) -> tuple[bool, ...]:
    """Which reads of a reduction shift along the vector index from turn to turn."""
    over = {i.name for i in reduction.over}
    return tuple(any(vector in symbols(at) and over & symbols(at) for at in a.at
                     if not isinstance(at, Access)) for a in accesses(reduction))


def held(reads: tuple[Access, ...], tiles: tuple[Tile, ...]) -> int:
    """How many registers hold what is read, at most, where the places of a tile follow one another,
    the last index first: each from its first use to its last."""
    places = list(product(*(range(t.size) for t in tiles)))
    last: dict[tuple[int, ...], int] = {}
    loaded: dict[tuple[int, ...], int] = {}
    for at, place in enumerate(places):
        for number, read in enumerate(reads):
            key = (number, *(k for k, t in zip(place, tiles, strict=True) if uses(read, t.index)))
            loaded.setdefault(key, at)
            last[key] = at
    return max(sum(loaded[key] <= at <= last[key] for key in last) for at in range(len(places)))


def loop_order(
    kernel: Kernel, reads: Sequence[Access], tiles: dict[str, int],
    extent: Callable[[Index], int], across: Callable[[Access], bool], vector: str,
) -> tuple[str, ...]:
    """The outer loops, innermost the one whose turns read the least anew of large operands, and of
    those that lie `across` the lanes, which are to be turned: for them the loop along `vector` goes
    round the others.

    `tiles` says how many values of each index one turn covers. What a loop's turn does not change
    stays in a cache: the wider operand should. Of loops that are alike in this the longest comes
    last; or, where a result takes few turns, that over neighbours in memory.
    """
    turns = 1
    reduced = [i for c in kernel.body if isinstance(c, Compute) for i in c.over]
    for index in reduced:
        turns *= extent(index)
    large = [a for a in reads if _is_large(kernel.buffer(a.buffer)) or across(a)]
    places = _places_written(kernel)

    turned = any(map(across, reads))

    def rank(index: Index) -> tuple[bool, bool, int, int, int]:
        anew = 0
        for access in large:
            if uses(access, index.name) or any(
                    uses(access, i.name) and _bounded_by(i, index.name) for i in reduced):
                part = 1
                for name, size in tiles.items():
                    part *= size if uses(access, name) else 1
                anew += part
        trips = ceil(extent(index) / tiles[index.name])
        place = places.get(index.name, -1) if turns <= FEW_TURNS else 0
        return not turned or index.name != vector, trips > 1, -anew, place, trips

    return tuple(i.name for i in sorted(kernel.outer, key=rank))


def _bounded_by(index: Index, name: str) -> bool:
    """Whether another index says where one begins or ends."""
    return any(name in symbols(b) for b in (index.low, index.high) if not isinstance(b, Access))


def _is_large(buffer: Buffer) -> bool:
    """Whether no fast cache may hold all of a buffer."""
    size = storage_size(buffer.layout, buffer.dims)
    return not isinstance(size, int) or size > FAST_ELEMENTS


def _places_written(kernel: Kernel) -> dict[str, int]:
    """Where the digits of each outer index stand in memory that is written, outermost first."""
    found: dict[str, int] = {}
    for compute in kernel.body:
        if isinstance(compute, Compute) and compute.target.at:
            buffer = kernel.buffer(compute.target.buffer)
            for place, (axis, _) in enumerate(buffer.layout.full(len(buffer.dims))):
                at = compute.target.at[axis]
                for name in symbols(at) if not isinstance(at, Access) else ():
                    found.setdefault(name, place)
    return found
