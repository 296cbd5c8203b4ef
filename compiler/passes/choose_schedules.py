"""choose_schedules: decides, for each kernel, how it is carried out.

An analytic score over a few candidates, at the hint sizes: which index lies in the lanes of
vectors, which register tile saves loads, what is unrolled, and which loops are split over
threads. Nothing is measured, and nothing depends on the sizes of the first call.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil, log2

from dlc.compiler.kernels.accesses import loads_by, stride, uses
from dlc.compiler.options import Options
from dlc.ir.dims import Dim, evaluate, symbols
from dlc.ir.kernel import Access, Compute, Index, Kernel, Opaque, Seq
from dlc.ir.ops import OPS
from dlc.ir.program import Launch, Program, each_step
from dlc.ir.schedule import Edge, Schedule, Tile

TILE_SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)
CHUNKS = 8  # enough for a few threads; more only cost claims
SERIAL_NS = 3000  # a kernel that takes less is not split
CYCLES_PER_NS = 3.0
LOADS_PER_CYCLE = 2.0
UNROLLED = 160  # multiply-adds in an unrolled body: code generation costs some 25 us a line


def choose_schedules(program: Program, options: Options) -> Program:
    """Adds a schedule for every kernel."""
    hints = {step.kernel: step for step in each_step(program.steps) if isinstance(step, Launch)}
    schedules = []
    for kernel in program.kernels:
        sizes = _sizes(kernel, hints.get(kernel.name), options)
        schedules.append((kernel.name, Chooser(kernel, sizes, options).choose()))
    return replace(program, schedules=tuple(schedules))


def _sizes(kernel: Kernel, launch: Launch | None, options: Options) -> dict[str, int]:
    """Likely sizes of a kernel's symbols, from the first launch of it."""
    if launch is None:
        return {name: options.hint(name) for name in kernel.symbols}
    return {name: evaluate(dim, {s: options.hint(s) for s in symbols(dim)})
            for name, dim in zip(kernel.symbols, launch.dims, strict=True)}


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
        computes = [c for c in kernel.body if isinstance(c, Compute)]
        reduction = next((c for c in computes if c.combine is not None), None)
        if len(computes) < len(kernel.body):
            self._count_turns(kernel.body, 1.0)
            computes = list(self.turns)
        vector = self._vector(computes, reduction)
        lanes = self.options.lanes if vector else 1
        tiles = self._tiles(reduction, vector, lanes) if reduction else ()
        reduce = tuple(i.name for i in reduction.over) if reduction else ()
        schedule = Schedule(
            self.options.target, tuple(i.name for i in kernel.outer), 0, vector, lanes, tiles,
            reduce, self._unroll(reduction, vector, tiles), self._edges(vector, tiles))
        return self._parallel(schedule, computes, reduction)

    def extent(self, index: Index) -> int:
        """The likely number of values of an index."""
        if isinstance(index.high, Access) or isinstance(index.low, Access):
            return 8
        if index not in self.extents:
            self.extents[index] = max(1, self.number(index.high) - self.number(index.low))
        return self.extents[index]

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
                cost += self._access_cost(access, index if wide else None, lanes)
                if wide and index is not None and access is compute.target and loads_by(
                        access, index.name):
                    cost = float("inf")
            total += weight * cost / (lanes * useful if wide else 1)
        if inner:
            total += 2 * log2(lanes) / turns
        return total

    def _access_cost(self, access: Access, index: Index | None, lanes: int) -> float:
        if access.buffer == "acc":
            return 0.0
        if index is None:
            return 1.0
        if loads_by(access, index.name):
            return 4.0 * lanes  # lane by lane
        step = stride(self.kernel, access, index, lanes)
        return {0: 0.5, 1: 1.0}.get(step, 3.0 * lanes) if step is not None else 3.0 * lanes

    def _tiles(self, reduction: Compute, vector: str, lanes: int) -> tuple[Tile, ...]:
        """The register tile that needs the fewest cycles a multiply-add."""
        combine = reduction.combine
        if combine is None or combine.kind != "sum" or combine.tree or not reduction.over:
            return ()
        if len([c for c in self.kernel.body if isinstance(c, Compute) and c.combine]) > 1:
            return ()
        reads = list(accesses(reduction))
        free = [i for i in self.kernel.outer
                if i.name != vector and not self._bounds_use(reduction, i.name)
                and self.extent(i) > 1 and not isinstance(i.high, Access)]
        free = [i for i in free if any(not uses(a, i.name) for a in reads)]
        limit = self.options.registers - 8
        reuse = {i: [uses(a, i.name) for a in reads] for i in free}
        best: tuple[float, tuple[Tile, ...]] = (float("inf"), ())
        for a, b in [(None, None), *((i, None) for i in free),
                     *((i, j) for n, i in enumerate(free) for j in free[n + 1:])]:
            for s in TILE_SIZES if a else (1,):
                for t in TILE_SIZES if b else (1,):
                    if s * t <= limit and not (a and s == 1) and not (b and t == 1):
                        chosen = [(i, n) for i, n in ((a, s), (b, t)) if i is not None]
                        score = self._tile_cost(chosen, reuse)
                        if score < best[0]:
                            best = score, tuple(Tile(i.name, n) for i, n in chosen)
        return best[1]

    def _tile_cost(
        self, chosen: list[tuple[Index, int]], reuse: dict[Index, list[bool]]
    ) -> float:
        """Cycles a useful multiply-add; `reuse` says which reads depend on which index."""
        products, waste = 1, 1.0
        for index, size in chosen:
            products *= size
            extent = self.extent(index)
            waste *= ceil(extent / size) * size / extent
            if not isinstance(index.high, int):
                waste *= 1.05  # the edge is clamped at run time
        counts = [1] * len(next(iter(reuse.values()), [True]))
        for index, size in chosen:
            counts = [n * size if used else n
                      for n, used in zip(counts, reuse[index], strict=True)]
        loads = sum(counts)
        latency = max(1.0, 8 / products)
        cycles = max(products / LOADS_PER_CYCLE * latency, loads / LOADS_PER_CYCLE)
        return (cycles + 0.02 * loads) * waste / products

    def _unroll(
        self, reduction: Compute | None, vector: str, tiles: tuple[Tile, ...]
    ) -> tuple[str, ...]:
        if reduction is None or not reduction.over:
            return ()
        last = reduction.over[-1]
        products = 1
        for tile in tiles:
            products *= tile.size
        if last.name == vector or not isinstance(last.high, int) or last.low != 0:
            return ()
        return (last.name,) if last.high <= 8 and last.high * products <= UNROLLED else ()

    def _edges(self, vector: str, tiles: tuple[Tile, ...]) -> tuple[tuple[str, Edge], ...]:
        edges: list[tuple[str, Edge]] = [(vector, "mask")] if vector else []
        return (*edges, *((tile.index, "clamp") for tile in tiles))

    def _parallel(
        self, schedule: Schedule, computes: list[Compute], reduction: Compute | None
    ) -> Schedule:
        """How many of the outer loops are split over threads, and what a chunk costs."""
        total = self.work
        for index in self.kernel.outer:
            total *= self.extent(index)
        for index in reduction.over if reduction else ():
            total *= self.extent(index)
        lanes = next((i for i in (*self.kernel.outer, *(reduction.over if reduction else ()))
                      if i.name == schedule.vector), None)
        inner = lanes is not None and lanes not in self.kernel.outer
        cost = total * self._cost(computes, reduction, lanes, inner) / CYCLES_PER_NS / 2
        chunks, loops = 1, 0
        if cost >= SERIAL_NS:
            for index in self.kernel.outer:
                vector = index.name == schedule.vector
                step = schedule.lanes if vector else schedule.tile(index.name)
                trips = ceil(self.extent(index) / step)
                if chunks >= CHUNKS or (chunks >= CHUNKS // 2 and chunks * trips > 8 * CHUNKS):
                    break
                chunks, loops = chunks * trips, loops + 1
        return replace(schedule, parallel=loops, cost=int(cost / chunks))


def accesses(compute: Compute) -> list[Access]:
    """All reads and the write of a compute, each place once."""
    found = [a for a in compute.args if isinstance(a, Access)]
    if compute.combine is None:
        found.append(compute.target)
    return list(dict.fromkeys(found))

