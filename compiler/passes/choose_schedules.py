"""choose_schedules: decides, for each kernel, how it is carried out.

An analytic score over a few candidates, at the hint sizes: which index lies in the lanes of
vectors, which register tile saves loads, what is unrolled, and which loops are split over
threads. Nothing is measured, and nothing depends on the sizes of the first call.
"""

from __future__ import annotations

from dataclasses import field, replace
from math import ceil, log2, prod

from dlc.compiler.kernels.accesses import accesses, loads_by, stride, uses
from dlc.compiler.kernels.formulas import needs, places_at_a_time
from dlc.compiler.kernels.places import places_of
from dlc.compiler.options import Options
from dlc.compiler.schedules.blocks import can_turn, in_blocks
from dlc.compiler.schedules.chains import chain_schedule
from dlc.compiler.schedules.chunks import CYCLES_PER_NS, idle, size_of, split
from dlc.compiler.schedules.pieces import piece_schedule
from dlc.compiler.schedules.places import place_schedule
from dlc.compiler.schedules.rows import row_schedule
from dlc.compiler.schedules.sizes import likely_sizes
from dlc.compiler.schedules.tiles import (
    FEW_THREADS,
    SPARE,
    TileSearch,
    loop_order,
    sets_apart,
    windows,
)
from dlc.compiler.schedules.turns import turned_indices
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, evaluate, floordiv, symbols
from dlc.ir.kernel import Access, Compute, Index, Kernel, Opaque, Seq
from dlc.ir.ops import OPS
from dlc.ir.program import Launch, Program, each_step
from dlc.ir.schedule import Edge, Schedule, Tile
from dlc.ir.types import F32

MANY = 16  # lanes: with AVX-512, constants lie in memory, and registers do for two vectors
LEAST_REGISTERS = 14  # that are worth sharing
LONG = 16  # cost of a formula that needs many registers itself
MOST_UNROLLED = 8  # turns
UNEVEN = 0.05  # of the work of threads, that they wait for each other
UNROLLED = 160  # multiply-adds in an unrolled body: code generation costs some 25 us a line


def choose_schedules(program: Program, options: Options) -> Program:
    """Adds a schedule for every kernel."""
    hints = {step.kernel: step for step in each_step(program.steps) if isinstance(step, Launch)}
    chosen = [_chosen(kernel, likely_sizes(kernel, hints.get(kernel.name), options), options)
              for kernel in program.kernels]
    return replace(program, kernels=tuple(kernel for kernel, _ in chosen),
                   schedules=tuple((kernel.name, schedule) for kernel, schedule in chosen))


def _chosen(
    kernel: Kernel, sizes: dict[str, int], options: Options
) -> tuple[Kernel, Schedule]:
    """A kernel, in the form in which its schedule carries it out, and that schedule."""
    places = places_of(kernel, options.lanes)
    if places is not None:
        found = place_schedule(places, options, Chooser(places.kernel, sizes, options).extent)
        if found is not None:
            return places.kernel, found
    return kernel, Chooser(kernel, sizes, options).choose()


@dataclass(slots=True)
class Chooser:
    """Chooses the schedule of one kernel at likely sizes."""

    kernel: Kernel
    sizes: dict[str, int]
    options: Options
    extents: dict[Index, int] = field(default_factory=dict)
    turns: dict[Compute, float] = field(default_factory=dict)  # of ordered loops round a compute

    def choose(self) -> Schedule:
        """The schedule with the best score."""
        kernel = self.kernel
        found = (row_schedule(kernel, self.sizes, self.options)
                 or piece_schedule(kernel, self.options, self.extent)
                 or chain_schedule(kernel, self.options, self.extent))
        if found is not None:
            return found
        computes = [c for c in kernel.body if isinstance(c, Compute)]
        reduction = next((c for c in computes if c.combine is not None), None)
        if len(computes) < len(kernel.body):
            self._count_turns(kernel.body, 1.0)
            computes = list(self.turns)
        if reduction is None and len(computes) == len(kernel.body):
            turned = turned_indices(kernel, self.options.lanes, self.extent)
            if turned is not None:
                return self._turned(*turned, computes)
        vector = self._vector(computes, reduction)
        lanes = self._lanes(vector, computes) if vector else 1
        found = self._with_tiles(computes, reduction, vector, lanes)
        if found.panel and self._idle(found) > UNEVEN:
            even = self._with_tiles(computes, reduction, vector, lanes, even=True)
            return min(found, even, key=self._idle) if even.panel else found
        return found

    def _idle(self, schedule: Schedule) -> float:
        """How long threads wait for each other; 0 if sizes that are not known decide over it."""
        wide = next((i for i in self.kernel.outer if i.name == schedule.vector), None)
        if wide is None or not isinstance(wide.high, int):
            return 0.0
        return idle(self.number(schedule.chunks), FEW_THREADS)

    def _with_tiles(
        self, computes: list[Compute], reduction: Compute | None, vector: str, lanes: int,
        even: bool = False,
    ) -> Schedule:
        """A schedule with the lanes along an index; `even`: tiles along it come out even."""
        tiles = self._tiles(reduction, vector, lanes, even) if reduction else ()
        reduce = tuple(i.name for i in reduction.over) if reduction else ()
        schedule = Schedule(
            self.options.target, self._order(reduction, vector, tiles), vector=vector, lanes=lanes,
            tiles=tiles, reduce=reduce, unroll=self._unroll(reduction, vector, tiles),
            edge=self._edges(vector, tiles))
        if reduction is not None and tiles:
            schedule = in_blocks(self.kernel, reduction, schedule, self.extent)
        return self._parallel(schedule, computes, reduction)

    def _turned(self, vector: str, turn: str, computes: list[Compute]) -> Schedule:
        """Squares of two indices, along one of which is read, along the other written."""
        names = tuple(i.name for i in self.kernel.outer)
        schedule = Schedule(self.options.target, names, vector=vector, lanes=self.options.lanes,
                            turn=turn, edge=self._edges(vector, ()))
        return self._parallel(schedule, computes, None)

    def _order(
        self, reduction: Compute | None, vector: str, tiles: tuple[Tile, ...]
    ) -> tuple[str, ...]:
        """The outer loops: in order of the indices, but for tiles, which reuse what they read."""
        if reduction is None or not tiles:
            return tuple(i.name for i in self.kernel.outer)
        sizes = {i.name: 1 for i in self.kernel.outer} | {t.index: t.size for t in tiles}
        if vector in sizes:
            sizes[vector] *= self.options.lanes
        wide = next((i for i in self.kernel.outer if i.name == vector), None)

        def across(access: Access) -> bool:
            return wide is not None and not loads_by(access, vector) and stride(
                self.kernel, access, wide, self.options.lanes) not in (0, 1)

        return loop_order(self.kernel, accesses(reduction), sizes, self.extent, across, vector)

    def extent(self, index: Index) -> int:
        """The likely number of values of an index."""
        if isinstance(index.high, Access) or isinstance(index.low, Access):
            return 8
        found = self.extents.get(index)
        if found is None:
            found = max(1, self.number(index.high) - self.number(index.low))
            self.extents[index] = found
        return found

    def number(self, dim: Dim) -> int:
        """A dim at the likely sizes; an outer index in it counts as half its extent."""
        env = dict(self.sizes)
        for index in self.kernel.outer:
            if not isinstance(index.high, Access):
                env[index.name] = evaluate(index.high, self.sizes) // 2
        for name in symbols(dim) - env.keys():
            env[name] = 1
        return evaluate(dim, env)

    def _count_turns(self, body: tuple[Compute | Seq | Opaque, ...], turns: float) -> None:
        """How often each compute is carried out at one place of the outer indices."""
        for step in body:
            if isinstance(step, Seq):
                self._count_turns(step.body, turns * self.extent(step.index))
            elif isinstance(step, Compute):
                own = turns
                for index in step.over:
                    own *= self.extent(index)
                self.turns[step] = self.turns.get(step, 0) + own

    @property
    def _masks(self) -> bool:
        """Whether the target has masks, and operands in memory: NEON has neither."""
        return self.options.lanes > 4

    @property
    def work(self) -> float:
        """How often the compute that comes most often is carried out, in ordered loops."""
        return max(self.turns.values(), default=1.0)

    def _vector(self, computes: list[Compute], reduction: Compute | None) -> str:
        """The index for the lanes: the cheapest, if any is cheaper than scalar code."""
        candidates = [(i, False) for i in self.kernel.outer]
        if reduction is not None and reduction.combine is not None and (
                reduction.combine.kind in ("sum", "max") and not reduction.combine.tree):
            candidates += [(i, True) for i in reduction.over if i.low == 0]
        best, cost = "", self._cost(computes, reduction, None, False)
        for index, reduced in candidates:
            if isinstance(index.high, Access) or self.extent(index) < 2:
                continue
            if self._picks(computes) or self._bounds_use(reduction, index.name) or any(
                    index.name in symbols(e) for c in computes for e in c.where):
                continue
            score = self._cost(computes, reduction, index, reduced)
            if score < cost:
                best, cost = index.name, score
        return best

    def _lanes(self, vector: str, computes: list[Compute]) -> int:
        """Those of a register, or of two where nothing is reduced: two vectors side by side hide
        the time that each step of a long formula takes. Half as many where formulas of wider
        elements want more registers than there are."""
        one, two = self.options.lanes, 2 * self.options.lanes
        index = next((i for i in self.kernel.outer if i.name == vector), None)
        if index is None or any(c.combine or c.over for c in computes):
            return one

        def along(lanes: int) -> bool:
            return all(stride(self.kernel, a, index, lanes) in (0, 1)
                       for c in computes for a in accesses(c) if a.at)

        if not places_at_a_time(needs(self.kernel, computes), self.options.registers, F32.size):
            return one // 2 if along(one // 2) else one
        wide = any(op.dtype.size > 4 or (op.op in OPS and OPS[op.op].cost >= LONG)
                   for c in computes for op in c.body)
        few = one < MANY or self.extent(index) <= one
        return one if few or wide or not along(two) else two

    def _picks(self, computes: list[Compute]) -> bool:
        """Whether an index is computed: each lane would have its own."""
        found = [a for c in computes for a in accesses(c)]
        local = {b.name for b in self.kernel.locals}
        return any(isinstance(e, Access) and e.buffer in local for a in found for e in a.at)

    def _bounds_use(self, reduction: Compute | None, name: str) -> bool:
        if reduction is None:
            return False
        bounds = [b for i in reduction.over for b in (i.low, i.high)]
        return any(uses(b, name) if isinstance(b, Access) else name in symbols(b)
                   for b in (*bounds, *reduction.where))

    def _cost(
        self, computes: list[Compute], reduction: Compute | None, index: Index | None, inner: bool
    ) -> float:
        """Cycles an element of the reduction's domain, roughly."""
        lanes = self.options.lanes if index else 1
        turns = self.work
        if reduction is not None:
            for i in reduction.over:
                turns *= self.extent(i)
        useful = 1.0
        if index is not None:
            extent = self.extent(index)
            useful = extent / (ceil(extent / lanes) * lanes)
        total = 0.0
        for compute in computes:
            weight = 1.0 if compute is reduction else self.turns.get(compute, 1.0) / turns
            wide = index is not None and not (inner and compute is not reduction)
            cost = sum(OPS[op.op].cost for op in compute.body if op.op in OPS)
            for access in accesses(compute):
                cost += self._access_cost(
                    access, index if wide else None, lanes,
                    reduction if compute is reduction and not inner else None)
                if wide and index is not None and access is compute.target and loads_by(
                        access, index.name):
                    cost = float("inf")
            total += weight * cost / (lanes * useful if wide else 1)
        if inner:
            total += 2 * log2(lanes) / turns
        return total

    def _access_cost(
        self, access: Access, index: Index | None, lanes: int, reduction: Compute | None
    ) -> float:
        if access.buffer == "acc":
            return 0.0
        if index is None:
            return 1.0
        if loads_by(access, index.name):
            return 4.0 * lanes  # lane by lane
        step = stride(self.kernel, access, index, lanes)
        if step in (0, 1):
            return 1.0 if step else 0.5
        turned = reduction is not None and can_turn(
            self.kernel, reduction, access, index, lanes, self.extent)
        return 1.5 if turned else 3.0 * lanes

    def _tiles(
        self, reduction: Compute, vector: str, lanes: int, even: bool
    ) -> tuple[Tile, ...]:
        """The register tile that needs the fewest cycles a multiply-add."""
        combine = reduction.combine
        masks = self._masks  # without, many vectors side by side would be too many
        kinds = ("sum", "max") if masks else ("sum",)
        if combine is None or combine.kind not in kinds or combine.tree or not reduction.over:
            return ()
        if len([c for c in self.kernel.body if isinstance(c, Compute) and c.combine]) > 1:
            return ()
        reads = tuple(accesses(reduction))
        free = tuple(i for i in self.kernel.outer if i.name != vector and self._may_tile(
            i, reduction) and (any(not uses(a, i.name) for a in reads)
                               or self._side_by_side(i, reduction, vector)))
        wide = next((i for i in self.kernel.outer if i.name == vector
                     and self._may_tile(i, reduction)), None)
        last = reduction.over[-1]
        taps = last.high if isinstance(last.high, int) and last.high <= MOST_UNROLLED else 1
        # Unrolled, neighbouring turns share what they read: it stays in registers meanwhile.
        each = max(1, self.kernel.buffer(reduction.target.buffer).dtype.size // F32.size)
        registers = self.options.registers // each - max(taps - 1, 0)  # a vector of f64 fills two
        in_rows = all(self.kernel.buffer(a.buffer).layout.is_row_major
                      for a in reads if uses(a, vector))
        summed = vector if any(i.name == vector for i in reduction.over) else ""
        apart = sets_apart(self.kernel, reads, free, summed, lanes)
        while True:
            found = TileSearch(reads, windows(reduction, vector), free, wide, lanes, registers,
                               self.extent, apart, masks and not free and in_rows, masks,
                               self.options.registers, even, not in_rows).best()
            registers -= 2
            if not masks or registers <= LEAST_REGISTERS or taps == 1 or self._fits(
                    reduction, vector, found):
                return found

    def _side_by_side(self, index: Index, reduction: Compute, vector: str) -> bool:
        """Whether neighbours of `index` read vectors along a reduced index side by side."""
        reads = [a for a in reduction.args if isinstance(a, Access)]
        lanes = self.options.lanes
        return len(reads) > 1 and any(i.name == vector for i in reduction.over) and all(
            stride(self.kernel, a, index, lanes) == lanes for a in reads)

    def _may_tile(self, index: Index, reduction: Compute) -> bool:
        return (self.extent(index) > 1 and not isinstance(index.high, Access)
                and not self._bounds_use(reduction, index.name))

    def _unroll(
        self, reduction: Compute | None, vector: str, tiles: tuple[Tile, ...]
    ) -> tuple[str, ...]:
        if reduction is None or not reduction.over:
            return ()
        last = reduction.over[-1]
        if last.name == vector or not isinstance(last.high, int) or last.low != 0:
            return ()
        few = last.high <= min(MOST_UNROLLED, UNROLLED // prod(tile.size for tile in tiles)) and (
            self._masks or all(i.name != vector for i in reduction.over))  # else lane by lane
        return (last.name,) if few and self._fits(reduction, vector, tiles) else ()

    def _fits(self, reduction: Compute, vector: str, tiles: tuple[Tile, ...]) -> bool:
        """Whether registers hold what a tile needs where the last loop is unrolled."""
        products = prod(tile.size for tile in tiles)
        read = self._registers_read(reduction, reduction.over[-1], vector, tiles)
        return products + read + SPARE <= self.options.registers

    def _registers_read(
        self, reduction: Compute, last: Index, vector: str, tiles: tuple[Tile, ...]
    ) -> int:
        """How many registers hold what all turns of the last loop read at the places of a tile.

        Turns share vectors, unless places past the end are those of the last one again. Numbers
        that a turn alone uses come from memory where multiply-adds take them from there.
        """
        turns, total = last.high, 0
        assert isinstance(turns, int)
        for access in accesses(reduction):
            count, shared = 1, False  # a number is in all lanes of a register
            for index in self.kernel.outer:
                size = next((t.size for t in tiles if t.index == index.name), 1)
                if index.name != vector and uses(access, index.name):
                    count *= size
                    shared |= isinstance(index.high, int) and index.high % size == 0
            if uses(access, last.name):
                count = count + turns - 1 if shared else count * turns
            alone = uses(access, last.name) and not uses(access, vector)
            total += 0 if alone and self._masks else count
        return total

    def _edges(self, vector: str, tiles: tuple[Tile, ...]) -> tuple[tuple[str, Edge], ...]:
        edges: list[tuple[str, Edge]] = [(vector, "mask")] if vector else []
        return (*edges, *((tile.index, "clamp") for tile in tiles if tile.index != vector))

    def _parallel(
        self, schedule: Schedule, computes: list[Compute], reduction: Compute | None
    ) -> Schedule:
        """How many of the outer loops are split over threads, and what a chunk costs."""
        total: Dim = ceil(self.work)
        indices = (*self.kernel.outer, *(reduction.over if reduction else ()))
        for index in indices:
            total = total * size_of(self.kernel, index, self.extent)
        lanes = next((i for i in indices if i.name == schedule.vector and not schedule.turn), None)
        inner = lanes is not None and lanes not in self.kernel.outer
        cycles = self._cost(computes, reduction, lanes, inner)
        total = floordiv(total * ceil(cycles * 1000 / CYCLES_PER_NS / 2), 1000)
        outer = {i.name: i for i in self.kernel.outer}
        wide = (schedule.vector, schedule.turn)
        steps = [schedule.tile(n) * (schedule.lanes if n in wide else 1) for n in schedule.order]
        steps[-1:] = [step * max(schedule.block, 1) for step in steps[-1:]]
        loops, chunks = split(
            self.kernel, [(outer[n], step) for n, step in zip(schedule.order, steps, strict=True)],
            self.extent, total, schedule.blocks)
        return replace(schedule, parallel=loops, chunks=chunks, cost=total)
