"""Schedules of kernels that go along rows: softmax, norms, plain reductions, with what follows.

All that is read in memory is read once a sweep, so there is nothing to keep in register tiles:
what counts is that vectors lie along memory, and that enough sums run side by side to hide how long
an addition takes. Rows that lie side by side go in stripes of several vectors: so memory is read in
long pieces.
"""

from __future__ import annotations

from math import ceil, log2, prod

from dlc.compiler.kernels.accesses import accesses, loads_by, stride
from dlc.compiler.kernels.formulas import needs, places_at_a_time
from dlc.compiler.kernels.moments import moments_of
from dlc.compiler.kernels.sweeps import sweeps
from dlc.compiler.options import Options
from dlc.compiler.schedules.chunks import CYCLES_PER_NS, size_of, split
from dlc.ir.dims import Dim, evaluate, floordiv, symbols
from dlc.ir.kernel import Access, Compute, Index, Kernel
from dlc.ir.ops import OPS
from dlc.ir.schedule import Schedule, Tile
from dlc.ir.types import F32

KINDS = ("sum", "max", "argmax")
SHORT = 16  # rows of fewer elements keep the schedules of windows
WIDEST = 16  # vectors of a stripe of rows that lie side by side
NARROWEST = 4
ENOUGH = 8  # stripes that keep a few threads busy
NEAR_BYTES = 512 * 1024  # of rows that a near cache holds from sweep to sweep
CHUNK_BYTES = 64 * 1024  # of rows whose mean and variance are added up in one sweep
LEAST_BYTES = 4 * 1024  # of a chunk that is worth its divisions
GATHERED = 3.0  # cycles for each lane that is loaded alone


def row_schedule(kernel: Kernel, sizes: dict[str, int], options: Options) -> Schedule | None:
    """The schedule of a kernel that goes along rows; None for any other."""
    computes = [c for c in kernel.body if isinstance(c, Compute)]
    row = row_of(kernel, computes)
    if row is None:
        return None
    rows = _Rows(kernel, computes, row, sizes, options)
    schedule = rows.schedule()
    alone = rows.length < SHORT or schedule.vector not in schedule.reduce
    return None if alone and not _is_sequence(kernel, computes) else schedule


def _is_sequence(kernel: Kernel, computes: list[Compute]) -> bool:
    """Whether it is more than a reduction with what follows it."""
    return sum(1 for c in computes if c.over) > 1 or len(kernel.locals) > 1


def row_of(kernel: Kernel, computes: list[Compute]) -> tuple[Index, ...] | None:
    """The indices of the row, if all computes go along the same one and read it once.

    A row in a local array is passed from one compute to the next as a whole: it has no sweeps.
    """
    if any(local.dims for local in kernel.locals):
        return None
    rows = {c.over for c in computes if c.over}
    if len(computes) != len(kernel.body) or len(rows) != 1:
        return None
    (row,) = rows
    names = {i.name for i in (*row, *kernel.outer) if i.high != 1}
    if any(c.where or (c.combine and (c.combine.tree or c.combine.kind not in KINDS))
           for c in computes) or not any(c.combine for c in computes):
        return None
    if any(isinstance(bound, Access) for i in row for bound in (i.low, i.high)):
        return None
    along = [c for c in computes if c.over]
    if not _is_sequence(kernel, computes) and not _reads_once(along[0], names):
        return None
    return row


def _reads_once(compute: Compute, names: set[str]) -> bool:
    """Whether what it reads differs from place to place, so that no register tile would help."""
    reads = [a for a in compute.args if isinstance(a, Access) and a.at]
    whole = [a for a in reads if names <= _names(a)]
    last = compute.body[-1] if compute.body else None
    return bool(whole) and not (
        last is not None and last.op == "mul" and len(whole) < len(reads))


def _names(access: Access) -> set[str]:
    return {n for e in access.at if not isinstance(e, Access) for n in symbols(e)}


class _Rows:
    """One kernel at likely sizes."""

    def __init__(
        self, kernel: Kernel, computes: list[Compute], row: tuple[Index, ...],
        sizes: dict[str, int], options: Options,
    ) -> None:
        self.kernel, self.computes, self.row, self.options = kernel, computes, row, options
        self.sizes = dict(sizes)
        for index in (*kernel.outer, *row):
            self.sizes[index.name] = max(0, self._number(index.high) // 2)
        self.length = 1
        for index in row:
            self.length *= self.extent(index)

    def _number(self, dim: Dim | Access) -> int:
        if isinstance(dim, Access):
            return 8
        env = {name: self.sizes.get(name, 1) for name in symbols(dim)}
        return evaluate(dim, env)

    def extent(self, index: Index) -> int:
        """The likely number of values of an index."""
        return max(1, self._number(index.high) - self._number(index.low))

    def schedule(self) -> Schedule:
        """The cheapest vector index, and what goes with it."""
        candidates = [*self.kernel.outer, *(i for i in self.row if i.low == 0)]
        usable = [i for i in candidates if self.extent(i) > 1 and not isinstance(i.high, Access)
                  and not self._bounds_use(i.name)]
        best: Index | None = None
        cost = self.cost(None)
        for index in usable:
            if (score := self.cost(index)) < cost:
                best, cost = index, score
        lanes = self.options.lanes if best is not None else 1
        stripe = self._stripe(best)
        steps = [stripe.size if stripe is not None and i.name == stripe.index else 1
                 for i in self.kernel.outer]
        steps = [n * lanes if i is best else n
                 for i, n in zip(self.kernel.outer, steps, strict=True)]
        total = self._total(cost)
        loops, chunks = split(
            self.kernel, tuple(zip(self.kernel.outer, steps, strict=True)), self.extent, total)
        name = best.name if best is not None else ""
        side, chunk = self._side(), self._chunk(best, stripe)
        return Schedule(
            self.options.target, tuple(i.name for i in self.kernel.outer), loops, chunks, name,
            lanes, (stripe,) if stripe is not None else (), self._order(best, stripe),
            edge=((name, "mask"),) if name else (), cost=total,
            sweep=side if stripe is None or chunk else max(side // 2, 1), moments=chunk)

    def _chunk(self, vector: Index | None, stripe: Tile | None) -> int:
        """How many places along a row are a chunk for its moments: as many as a near cache holds of
        what is read of a row, or a stripe; 0 where it is known to hold all, or there are no
        moments."""
        found = moments_of(sweeps(self.computes))
        if found is None or vector is None:
            return 0
        item = sum(self.kernel.buffer(a.buffer).dtype.size for a in set(accesses(found.sum))
                   if a.at)
        lanes = 1 if vector in self.row and stripe is None else self.options.lanes
        place = item * lanes * (stripe.size if stripe is not None else 1)
        inner = next(i for i in self.row if i.name == self._order(vector, stripe)[-1])
        near = all(isinstance(i.high, int) for i in self.row) and (
            place * self.length <= NEAR_BYTES)
        if near or self.extent(inner) * place < LEAST_BYTES or (
                stripe is not None and vector in self.row):
            return 0
        turn = self._side() * (self.options.lanes if inner is vector else 1)
        return max(CHUNK_BYTES // place // turn, 1) * turn

    def _order(self, vector: Index | None, stripe: Tile | None) -> tuple[str, ...]:
        """The loops along a row: the one in the lanes goes round the others, in stripes."""
        others = tuple(i.name for i in self.row if i is not vector)
        if vector is None or vector not in self.row:
            return others
        return (*others, vector.name) if stripe is None else (vector.name, *others)

    def _total(self, cycles: float) -> Dim:
        """Nanoseconds of all, of which one place of the outer loops takes `cycles`."""
        total: Dim = ceil(cycles / self.length * 1000 / CYCLES_PER_NS)
        for index in (*self.kernel.outer, *self.row):
            total = total * size_of(self.kernel, index, self.extent)
        return floordiv(total, 1000)

    def _bounds_use(self, name: str) -> bool:
        return any(name in symbols(b) for i in self.row for b in (i.low, i.high)
                   if not isinstance(b, Access))

    def _stripe(self, vector: Index | None) -> Tile | None:
        """How many rows, or vectors of them, that lie side by side are done together, if any."""
        outer = self.kernel.outer
        if vector is None or not outer:
            return None
        across = vector is not outer[-1]
        index = next((i for i in outer if self._beside(i)), None) if across else vector
        if index is None or (across and vector in outer):
            return None
        width = 1 if across else self.options.lanes
        if not isinstance(index.high, int):
            return Tile(index.name, WIDEST)
        count = ceil(index.high / width)
        others = prod(self.extent(i) for i in outer if i is not index)
        size = min(count, WIDEST, max(count * others // ENOUGH, NARROWEST))
        return Tile(index.name, size) if size > 1 else None

    def _beside(self, index: Index) -> bool:
        """Whether rows are neighbours in memory along an index, just outside of the lanes."""
        lanes = self.options.lanes
        along = [a for c in self.computes if c.over for a in accesses(c)
                 if any(i.name in _names(a) for i in self.row)]
        return not any(c.combine and c.combine.kind == "argmax" for c in self.computes) and all(
            not isinstance(index.high, Access) and not loads_by(a, index.name)
            and stride(self.kernel, a, index, lanes) == lanes for a in along)

    def _side(self) -> int:
        """Short bodies wait for their sums; long ones overlap by themselves, and want registers."""
        along = [c for c in self.computes if c.over]
        longest = max(map(_work, along))
        side = 8 if longest <= 2 else 4 if longest <= 10 else 2
        room = min(places_at_a_time(needs(self.kernel, [c]), self.options.registers, F32.size,
                                    1 if c.combine else 0) for c in along)
        while side > max(room, 1):
            side //= 2
        return side

    def cost(self, index: Index | None) -> float:
        """Cycles for one place of the outer loops: all sweeps over a row, or a vector of rows."""
        lanes = self.options.lanes if index is not None else 1
        along = index in self.row
        turns = float(self.length)
        if index is not None and along:
            extent = self.extent(index)
            turns = self.length / extent * ceil(extent / lanes)
        total = 0.0
        for compute in self.computes:
            work = _work(compute)
            for access in accesses(compute):
                work += self._access(access, index, lanes)
            total += work * (turns if compute.over else 1)
            if along and compute.combine is not None:
                total += 3 * log2(lanes)
        if index is not None and not along:  # a vector of rows at once
            extent = self.extent(index)
            total *= ceil(extent / lanes) / extent
        return total

    def _access(self, access: Access, index: Index | None, lanes: int) -> float:
        if not access.at:
            return 0.0
        if index is None or index.name not in _names(access):
            return 0.5
        if loads_by(access, index.name):
            return GATHERED * lanes
        step = stride(self.kernel, access, index, lanes)
        return {0: 0.5, 1: 1.0}.get(step, GATHERED * lanes) if step is not None else (
            GATHERED * lanes)


def _work(compute: Compute) -> float:
    own = 1.0 if compute.combine else 0.0
    return own + sum(OPS[op.op].cost for op in compute.body if op.op in OPS)
