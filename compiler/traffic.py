"""How many stages a program has for threads to meet at, and how many bytes its kernels move.

Counted at likely sizes: what each launch reads and writes, each byte once a launch, turns of loops
as often as they run. A stage is a launch that threads share, or what they run in parallel: they
meet at its end. Of a branch the
side counts that moves more; a `while` counts as one turn.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.compiler.kernels.work import work
from dlc.compiler.passes.plan_memory import at_sizes, byte_size
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import evaluate
from dlc.ir.program import Branch, Launch, Loop, Parallel, Program, Step


@dataclass(frozen=True, slots=True)
class Traffic:
    """Launches of a program, the stages among them, the bytes moved by all, and how large what it
    is given and gives is: arguments, results and variables."""

    launches: int
    stages: int
    moved: int
    given: int


def traffic(program: Program, sizes: Mapping[str, int]) -> Traffic:
    """Of a program that has schedules."""
    launches, stages, moved = _Counting(program).steps(program.steps, dict(sizes))
    given = sum(at_sizes(byte_size(b), sizes) for b in program.buffers
                if b.kind in ("in", "out", "var") and not b.alias_of)
    return Traffic(launches, stages, moved, given)


def told(found: Traffic) -> str:
    """A line of text."""
    ratio = found.moved / max(found.given, 1)
    return (f"moved: {found.moved} bytes by {found.launches} launches, {found.stages} of them"
            f" shared by threads; {ratio:.2f} times what is given")


Counts = tuple[int, int, int]


class _Counting:
    """Counts the steps of one program."""

    def __init__(self, program: Program) -> None:
        self.kernels = {k.name: k for k in program.kernels}
        self.schedules = dict(program.schedules)

    def steps(self, steps: tuple[Step, ...], sizes: dict[str, int]) -> Counts:
        """Launches, stages and bytes of steps one after another."""
        total = (0, 0, 0)
        for step in steps:
            total = _sum(total, self._step(step, sizes))
        return total

    def _step(self, step: Step, sizes: dict[str, int]) -> Counts:
        match step:
            case Launch():
                return self._launch(step, sizes)
            case Branch():
                sides = (self.steps(step.then, sizes), self.steps(step.otherwise, sizes))
                return max(sides, key=lambda counts: counts[2])
            case Loop():
                turns = 1 if step.condition else evaluate(step.count, sizes)
                inside = sizes | {step.var: turns // 2}
                once = _sum(self.steps(step.test, inside), self.steps(step.body, inside))
                return once[0] * turns, once[1] * turns, once[2] * turns
            case Parallel():
                return self._parallel(step, sizes)
            case _:
                return 0, 0, 0

    def _parallel(self, step: Parallel, sizes: dict[str, int]) -> Counts:
        """A stage, if there are several pieces; else the body's own stages."""
        count = evaluate(step.count, sizes)
        total = (0, 0, 0)
        for at in range(count):
            total = _sum(total, self.steps(step.body, sizes | {step.var: at}))
        return total if count <= 1 else (total[0], 1, total[2])

    def _launch(self, launch: Launch, sizes: dict[str, int]) -> Counts:
        kernel, schedule = self.kernels[launch.kernel], self.schedules[launch.kernel]
        own = {name: evaluate(dim, sizes)
               for name, dim in zip(kernel.symbols, launch.dims, strict=True)}
        shared = schedule.parallel > 0 and evaluate(schedule.chunks, own) > 1
        return 1, int(shared), work(kernel, own).moved


def _sum(a: Counts, b: Counts) -> Counts:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]
