"""keep_resident: the turns of a loop become one launch of a GPU, whose blocks stay.

    loop t < T {                               loop t < T resident (product, gates) {
      launch product<N>(h, w, a)         →       launch product<N>(h, w, a)
      launch gates<N>(a, c, h)                   launch gates<N>(a, c, h)
    }                                          }

A launch takes some microseconds to begin and to end, which is more than most launches of a scan
compute in. Blocks that stay wait for each other in less, and a turn after another one needs nothing
from the host. All of them have to have their place on a processor at once: so it is done for the
kernels that run at likely sizes at which each processor has one block at most. Of what a card holds
the runtime asks its driver; where it is less, and at larger sizes, turns are launched one by one.

Requires: launches in their last order, with schedules. Ensures: kernels of one number of threads,
at sizes that are the same in all turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dlc.compiler.cuda.variants import Case, cases
from dlc.compiler.options import Options
from dlc.compiler.passes.launch_together import MOST_ARGUMENTS
from dlc.compiler.schedules.product_tiles import processors
from dlc.compiler.schedules.variants import Sizes, sizes_of_symbols
from dlc.ir.dims import evaluate, substitute, symbols
from dlc.ir.program import Branch, Launch, Loop, Program, Step

SIZES = 64  # at which blocks are counted


def keep_resident(program: Program, options: Options) -> Program:
    """The program with loops whose blocks are resident; itself if there are none."""
    found = _Loops(program, options)
    steps = found.steps(program.steps)
    return program if steps == program.steps else replace(program, steps=steps)


class _Loops:
    """The loops of one program."""

    def __init__(self, program: Program, options: Options) -> None:
        self.program, self.options = program, options
        self.kernels = {k.name: k for k in program.kernels}
        self.schedules = dict(program.schedules)
        self.roots = {b.name: b.alias_of or b.name for b in program.buffers}

    def steps(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """Steps in order, those in loops and branches too."""
        return tuple(map(self._step, steps))

    def _step(self, step: Step) -> Step:
        if isinstance(step, Branch):
            return replace(step, then=self.steps(step.then), otherwise=self.steps(step.otherwise))
        if not isinstance(step, Loop):
            return step
        launches = [each for each in step.body if isinstance(each, Launch)]
        if launches and len(launches) == len(step.body) and self._may_stay(step, launches):
            return replace(step, resident=tuple(self._resident(launches)))
        return replace(step, test=self.steps(step.test), body=self.steps(step.body))

    def _may_stay(self, loop: Loop, launches: list[Launch]) -> bool:
        """Whether all turns do the same, and a kernel may have the arguments of all launches."""
        same = not any(loop.var in symbols(dim) for launch in launches for dim in launch.dims)
        roots = {self.roots[name] for launch in launches for name in launch.buffers}
        numbers = sum(len(launch.dims) + 1 for launch in launches) + len(self.program.symbols)
        return same and not loop.condition and len(roots) + numbers + 2 <= MOST_ARGUMENTS

    def _resident(self, launches: list[Launch]) -> Iterator[tuple[str, ...]]:
        """The kernels that run at some likely sizes at which it is better that they stay."""
        each = [cases(self.program, launch) for launch in launches]
        names = {name for launch in launches for dim in launch.dims for name in symbols(dim)}
        found = dict[tuple[str, ...], None]()
        for sizes in sizes_of_symbols(sorted(names), self.options, SIZES):
            kernels = tuple(_runs(some, sizes) for some in each)
            if self._blocks(launches, kernels, sizes) <= processors(self.options.target):
                found[kernels] = None
        for kernels in found:
            each_of = [self.schedules[name] for name in kernels]
            if len({s.threads for s in each_of}) == 1 and all(s.grouped is None for s in each_of):
                yield kernels

    def _blocks(self, launches: list[Launch], kernels: tuple[str, ...], sizes: Sizes) -> int:
        """Of the largest launch, or of the largest that are beside each other."""
        most = here = 0
        for launch, name in zip(launches, kernels, strict=True):
            dims = dict(zip(self.kernels[name].symbols, launch.dims, strict=True))
            own = evaluate(substitute(self.schedules[name].chunks, dims), sizes)
            here = own + (here if launch.beside else 0)
            most = max(most, here)
        return most


def _runs(found: list[Case], sizes: Sizes) -> str:
    """The kernel that runs at some sizes."""
    return next(case.kernel for case in found if all(c.holds(sizes) for c in case.where))
