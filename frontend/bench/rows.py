"""What the times mean: for each kernel its share, its rates, and the lines that it came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

import numpy as np

from dlc.compiler.footprint import Footprint, footprint
from dlc.compiler.kernels.work import Work, work
from dlc.compiler.llvm.timed import TOTALS
from dlc.compiler.passes.emit import users_place
from dlc.compiler.passes.plan_memory import at_sizes, byte_size
from dlc.frontend.bench.measure import Times, launches_of, pieces_of
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import evaluate, symbols
from dlc.ir.graph import Loc
from dlc.ir.kernel import Kernel
from dlc.ir.program import Launch, Program
from dlc.runtime.pool import SERIAL_NS


@dataclass(frozen=True, slots=True)
class Site:
    """A launch of the program: what it does each time, and the lines that it came from.

    `shared`: whether its chunks are worth sharing out, so that threads meet after it. What is done
    in pieces, of which the last may be smaller, does their mean.
    """

    launch: Launch
    sizes: Mapping[str, int]
    chunks: int
    shared: bool
    work: Work
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A kernel, or a launch of one. Times are seconds a call, `busy` those of all threads; work is
    that of a call; `turns` says how often it is launched in one."""

    kernel: str
    seconds: float
    busy: float
    turns: float
    barriers: float
    operations: float
    moved: float
    lines: tuple[str, ...]
    sites: tuple[int, ...]

    @property
    def operation_rate(self) -> float:
        """Floating-point operations a second."""
        return self.operations / self.seconds if self.seconds else 0.0

    @property
    def byte_rate(self) -> float:
        """Bytes a second."""
        return self.moved / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Profile:
    """A function at some sizes: its rows, the slowest first; seconds of a call of either build.

    `seconds` and `fastest` are the median and the minimum of the usual build; `timed` is what the
    rows and `between` (launches, for the call itself too) add up to. `given` are the bytes of
    arguments, results and variables; `stages` are done in pieces.
    """

    rows: tuple[Row, ...]
    sites: tuple[Site, ...]
    seconds: float
    fastest: float
    timed: float
    memory: Footprint
    given: int
    stages: int

    @property
    def moved(self) -> float:
        """Bytes that all launches read and write, each once a launch."""
        return sum(row.moved for row in self.rows)

    @property
    def between(self) -> float:
        """What the timed call spends outside of its launches."""
        return self.timed - sum(row.seconds for row in self.rows)

    @property
    def launches(self) -> float:
        """Launches of a call, those in loops as often as they are run."""
        return sum(row.turns for row in self.rows)

    @property
    def barriers(self) -> float:
        """Launches, and what is done in pieces, after which threads wait for each other, where
        there are several."""
        return sum(row.barriers for row in self.rows) + self.stages


def profile(program: Program, sizes: Mapping[str, int], times: Times, apart: bool) -> Profile:
    """The rows of a program: one for each kernel, or for each launch if they are told `apart`."""
    sites = make_sites(program, sizes)
    groups: dict[object, list[int]] = {}
    for at, site in enumerate(sites):
        groups.setdefault(at if apart else site.launch.kernel, []).append(at)
    rows = [_row(sites, group, times) for group in groups.values()]
    rows.sort(key=lambda row: -row.seconds)
    timed = sum(times.timed) / len(times.timed)
    given = sum(at_sizes(byte_size(b), sizes) for b in program.buffers
                if b.kind in ("in", "out", "var") and not b.alias_of)
    stages = len({var for var, _ in _pieces(program, sizes).values()})
    return Profile(tuple(rows), tuple(sites), median(times.plain), min(times.plain), timed,
                   footprint(program, sizes), given, stages)


def make_sites(program: Program, sizes: Mapping[str, int]) -> list[Site]:
    """The launches of a program at some sizes."""
    kernels = {kernel.name: kernel for kernel in program.kernels}
    loops = {function.name: function for function in program.loops}
    costs = {name: schedule.cost for name, schedule in program.schedules}
    pieces = _pieces(program, sizes)
    sites = []
    for number, launch in enumerate(launches_of(program)):
        kernel = kernels[launch.kernel]
        own = _own(kernel, launch, sizes)
        chunks = evaluate(loops[launch.kernel].chunks, own)
        shared = chunks > 1 and evaluate(costs.get(launch.kernel, 0), own) >= SERIAL_NS
        done = work(kernel, own)
        if number in pieces:
            var, count = pieces[number]
            last = work(kernel, _own(kernel, launch, {**sizes, var: count - 1}))
            shared, done = False, done.mean(last, count)
        sites.append(Site(launch, own, chunks, shared, done, lines_of(launch.locs)))
    return sites


def _pieces(program: Program, sizes: Mapping[str, int]) -> dict[int, tuple[str, int]]:
    """The launches that are done in several pieces, by number: what counts these, and how many."""
    found: dict[int, tuple[str, int]] = {}
    for step, inside in pieces_of(program):
        count = evaluate(step.count, sizes)
        if count > 1:
            found |= dict.fromkeys(range(inside.start, inside.stop), (step.var, count))
    return found


def _own(kernel: Kernel, launch: Launch, sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes of a kernel; the variable of a loop counts as its first turn."""
    names = frozenset[str]().union(*map(symbols, launch.dims))
    known = dict.fromkeys(names, 0) | dict(sizes)
    return {name: evaluate(dim, known)
            for name, dim in zip(kernel.symbols, launch.dims, strict=True)}


def lines_of(locs: Iterable[Loc]) -> tuple[str, ...]:
    """`file:line` of the user's files, in order, each once."""
    places = {(place.file, place.line) for place in map(users_place, locs)}
    return tuple(f"{file}:{line}" for file, line in sorted(places))


def _row(sites: Sequence[Site], group: Sequence[int], times: Times) -> Row:
    found = [sites[at] for at in group]
    totals = np.asarray([times.launches[at] for at in group])
    spans, turns, busy = (totals[:, TOTALS.index(name)] for name in ("ns", "turns", "busy"))
    lines = {line for site in found for line in site.lines}

    def sum_of(numbers: Iterable[float]) -> float:
        return float(np.dot(turns, np.asarray(list(numbers), np.float64)))

    return Row(
        found[0].launch.kernel, float(spans.sum()) / 1e9,
        busy=float(np.where(busy > 0, busy, spans).sum()) / 1e9, turns=float(turns.sum()),
        barriers=sum_of(site.shared for site in found),
        operations=sum_of(site.work.operations for site in found),
        moved=sum_of(site.work.moved for site in found),
        lines=tuple(sorted(lines, key=_by_line)), sites=tuple(group))


def _by_line(line: str) -> tuple[str, int]:
    file, _, number = line.rpartition(":")
    return file, int(number)
