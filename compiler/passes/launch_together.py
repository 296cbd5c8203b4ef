"""launch_together: launches of a GPU that need not wait for each other become one.

    launch scale<10>(a, x)                    launch scale<10>(a, x)
    launch product<N>(x, y, z)        →       beside scale<20>(b, u)
    launch scale<20>(b, u)                    launch product<N>(x, y, z)

A launch takes some microseconds to begin and to end, which is more than a small kernel takes, and a
small kernel leaves most processors idle. So small launches (sums of biases, numbers that optimizers
need, updates) move to where others like them are: the blocks of all are one launch then.

Requires: launches in their last order, with schedules. Ensures: a launch is only moved over others
that touch nothing of what it writes and write nothing of what it reads, and over no check, print,
loop, branch or commit. Those that are `beside` each other touch nothing that one of them writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dlc.compiler.options import Options
from dlc.compiler.schedules.product_tiles import BLOCK_BYTES, processors, shared_bytes
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import substitute
from dlc.ir.kernel import Kernel, storage_size
from dlc.ir.program import Branch, Launch, Loop, Program, Step

WAVES = 2  # of blocks on all processors: a launch of more is no small one
MOST_BYTES = 1 << 20  # that a launch may keep alive for longer
LITTLE = 1 << 10  # bytes of shared memory, of a kernel without a tile
MOST_ARGUMENTS = 480  # of a kernel, of 8 bytes each, and 4096 in all


def launch_together(program: Program, options: Options) -> Program:
    """The program with small launches beside each other; itself if there are none."""
    together = _Together(program, options)
    steps = together.steps(program.steps)
    return program if steps == program.steps else replace(program, steps=steps)


@dataclass(slots=True)
class _Item:
    """A launch, or small ones beside each other."""

    launches: list[Launch]
    small: bool


class _Together:
    """One program."""

    def __init__(self, program: Program, options: Options) -> None:
        self.program, self.options = program, options
        self.kernels = {k.name: k for k in program.kernels}
        self.schedules = dict(program.schedules)
        self.roots = {b.name: b.alias_of or b.name for b in program.buffers}
        self.varied = {v.of for v in program.variants}
        self.bytes = {b.name: options.likely(storage_size(b.layout, b.dims)) * b.dtype.size
                      for b in program.buffers if b.kind == "temp"}

    def steps(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """Steps with launches beside each other, in loops and branches too."""
        found: list[Step] = []
        run: list[Launch] = []
        for step in steps:
            if isinstance(step, Launch):
                run.append(step)
                continue
            found += self._run(run)
            run = []
            if isinstance(step, Loop):
                step = replace(step, test=self.steps(step.test), body=self.steps(step.body))
            elif isinstance(step, Branch):
                step = replace(step, then=self.steps(step.then),
                               otherwise=self.steps(step.otherwise))
            found.append(step)
        return (*found, *self._run(run))

    def _run(self, launches: list[Launch]) -> Iterator[Launch]:
        """Launches that follow each other: small ones as late as they may be, beside others."""
        small = [self._is_small(launch) for launch in launches]
        after = self._order(launches)
        items = [_Item([launch], False)
                 for launch, is_small in zip(launches, small, strict=True) if not is_small]
        for at in reversed(range(len(launches))):
            if small[at]:
                self._place(launches, at, items, after)
        for item in items:
            first, *others = item.launches
            yield first
            yield from (replace(launch, beside=True) for launch in others)

    def _place(
        self, launches: list[Launch], at: int, items: list[_Item], after: list[set[int]]
    ) -> None:
        """Puts a small launch where it may stand; all that comes after it has its place."""
        place = {id(launch): k for k, item in enumerate(items) for launch in item.launches}
        low = max((place[id(launches[k])] + 1 for k in range(at)
                   if at in after[k] and id(launches[k]) in place), default=0)
        high = min((place[id(launches[k])] for k in after[at]), default=len(items))
        for item in reversed(items[low:high]):
            if item.small and self._fit(item.launches, launches[at]):
                item.launches.insert(0, launches[at])
                return
        items.insert(high, _Item([launches[at]], True))

    def _fit(self, together: list[Launch], launch: Launch) -> bool:
        """Whether a kernel may have the work of all: threads, arguments and shared memory."""
        each = [*together, launch]
        arguments = sum(len(one.buffers) + len(one.dims) + 1 for one in each)
        names = {one.kernel for one in each}
        threads = {self.schedules[name].threads for name in names}
        shared = sum(self._shared(self.kernels[name]) for name in names)
        return arguments <= MOST_ARGUMENTS and len(threads) == 1 and shared <= BLOCK_BYTES

    def _shared(self, kernel: Kernel) -> int:
        """The most shared memory of a kernel: numbers of warps, if it has no tile."""
        tile = self.schedules[kernel.name].shared
        size = max((b.dtype.size for b in kernel.locals), default=0)
        return LITTLE if tile is None else shared_bytes(tile, size)

    def _order(self, launches: list[Launch]) -> list[set[int]]:
        """For each launch the later ones that have to come after it, by way of others too."""
        touched = [{self.roots[n] for n in launch.buffers} for launch in launches]
        written = [{self.roots[n] for p, n in zip(
            self.kernels[launch.kernel].params, launch.buffers, strict=True) if p.role != "in"}
            for launch in launches]
        after: list[set[int]] = [set() for _ in launches]
        for k in reversed(range(len(launches))):
            for later in range(k + 1, len(launches)):
                if later not in after[k] and (
                        touched[k] & written[later] or written[k] & touched[later]):
                    after[k] |= {later} | after[later]
        return after

    def _is_small(self, launch: Launch) -> bool:
        """Whether a launch leaves processors idle, and keeps little alive."""
        kernel, schedule = self.kernels[launch.kernel], self.schedules[launch.kernel]
        dims = dict(zip(kernel.symbols, launch.dims, strict=True))
        blocks = self.options.likely(substitute(schedule.chunks, dims))
        held = sum(self.bytes.get(self.roots[n], 0) for n in launch.buffers)
        large = schedule.part or schedule.tensor is not None or schedule.grouped is not None
        if large or launch.kernel in self.varied:
            return False
        return blocks <= WAVES * processors(self.options.target) and held <= MOST_BYTES
