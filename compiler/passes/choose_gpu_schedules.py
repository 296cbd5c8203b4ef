"""choose_gpu_schedules: decides, for each kernel, how the threads of a GPU share it.

Each thread has a place of the outer indices (or four side by side, which it reads and writes at
once), so that neighbouring threads lie along memory. Where a kernel goes along rows and memory lies
along them too, a warp or a block has a row together. What is a product, or can be written as one
(`kernels/implicit_products.py`), is made in tiles. Nothing is measured, and nothing depends on
the sizes of the first call. Where no schedule is good at all sizes that are likely, the kernel gets
variants (`schedules/variants.py`), of which each call runs one by its sizes.
"""

from __future__ import annotations

from dataclasses import replace

from dlc.compiler.options import Options
from dlc.compiler.schedules.gpu import ThreadSearch
from dlc.compiler.schedules.variants import Case, Choice, cases
from dlc.ir.kernel import Kernel
from dlc.ir.program import Launch, Program, Variant, each_step
from dlc.ir.schedule import Schedule


def choose_gpu_schedules(program: Program, options: Options) -> Program:
    """Adds a schedule for every kernel."""
    launches: dict[str, list[Launch]] = {}
    for step in each_step(program.steps):
        if isinstance(step, Launch):
            launches.setdefault(step.kernel, []).append(step)
    kernels: list[Kernel] = []
    schedules: list[tuple[str, Schedule]] = []
    variants: list[Variant] = []
    taken = {kernel.name for kernel in program.kernels}
    for kernel in program.kernels:
        found = _cases(program, kernel, launches.get(kernel.name, []), options)
        names = _names(kernel.name, found, taken)
        for (form, schedule), name in names.items():
            kernels.append(replace(form, name=name))
            schedules.append((name, schedule))
        variants += [Variant(names[case.kernel, case.schedule], kernel.name, case.where)
                     for case in found if case.where]
    return replace(program, kernels=tuple(kernels), schedules=tuple(schedules),
                   variants=tuple(variants))


def _cases(
    program: Program, kernel: Kernel, launches: list[Launch], options: Options
) -> list[Case]:
    """The schedules of one kernel, each with its form of it."""
    starts = {param.name: [program.buffer(launch.buffers[at]).offset for launch in launches]
              for at, param in enumerate(kernel.params)}
    search = ThreadSearch(kernel, {}, options, starts)
    return cases(kernel, launches, options, lambda sizes: search.at(sizes).choose())


def _names(name: str, found: list[Case], taken: set[str]) -> dict[Choice, str]:
    """The names of all schedules of a kernel; that which needs no conditions has the kernel's."""
    last = found[-1]
    names: dict[Choice, str] = {(last.kernel, last.schedule): name}
    for case in found:
        if (case.kernel, case.schedule) not in names:
            number = 1
            while f"{name}.{number}" in taken:
                number += 1
            taken.add(names.setdefault((case.kernel, case.schedule), f"{name}.{number}"))
    return names
