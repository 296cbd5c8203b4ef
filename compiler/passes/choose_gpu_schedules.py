"""choose_gpu_schedules: decides, for each kernel, how the threads of a GPU share it.

Each thread has a place of the outer indices (or four side by side, which it reads and writes at
once), so that neighbouring threads lie along memory. Where a kernel goes along rows and memory lies
along them too, a warp or a block has a row together. What is a product, or can be written as one
(`kernels/implicit_products.py`), is made in tiles. Nothing is measured, and nothing depends on
the sizes of the first call. Where no schedule is good at all sizes that are likely, the kernel gets
variants (`schedules/variants.py`), of which each call runs one by its sizes. So it does where lines
of memory begin at multiples of 16 bytes at some sizes only:

    product of bf16, M x K and K x N:  copies of 16 bytes where K % 8 == 0, N % 8 == 0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dlc.compiler.options import Options
from dlc.compiler.schedules.gpu import ThreadSearch
from dlc.compiler.schedules.variants import Case, Choice, cases, likely
from dlc.ir.dims import Dim, mod, substitute, symbol, symbols
from dlc.ir.kernel import Kernel
from dlc.ir.program import Comparison, Launch, Program, Variant, each_step
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
    """The schedules of one kernel, each with its form of it: first those for sizes that are
    multiples of what is copied at once, where this is not known and makes a difference."""
    plain = ThreadSearch(kernel, {}, options, _starts(program, kernel, launches, {}))
    found = cases(kernel, launches, options, lambda sizes: plain.at(sizes).choose())
    multiples = plain.at(likely(kernel, launches, options)).wished()
    if not multiples:
        return found
    wide = ThreadSearch(
        kernel, {}, options, _starts(program, kernel, launches, multiples), multiples)
    special = cases(kernel, launches, options, lambda sizes: wide.at(sizes).choose())
    special = [_bare(case, found) for case in special]
    if not any(case.schedule.multiples for case in special):
        return found
    held = tuple(Comparison(mod(symbol(name), number), "==", 0)
                 for name, number in sorted(multiples.items()))
    return [*(replace(case, where=(*held, *case.where)) for case in special), *found]


def _bare(case: Case, found: list[Case]) -> Case:
    """The case with a schedule that is for all sizes, if one that is the same else is there."""
    schedule = replace(case.schedule, multiples=())
    there = any((c.kernel, c.schedule) == (case.kernel, schedule) for c in found)
    return replace(case, schedule=schedule) if there else case


def _starts(
    program: Program, kernel: Kernel, launches: list[Launch], multiples: Mapping[str, int]
) -> dict[str, list[Dim]]:
    """Where the memory of each parameter begins in its buffer, if symbols of the kernel are such
    multiples: so are sizes of the program that they stand for."""
    known: list[dict[str, Dim]] = [
        {str(dim): multiples[name] * dim for name, dim in zip(
            kernel.symbols, launch.dims, strict=True)
         if name in multiples and symbols(dim) == {str(dim)}} for launch in launches]
    return {param.name: [substitute(program.buffer(launch.buffers[at]).offset, sizes)
                         for launch, sizes in zip(launches, known, strict=True)]
            for at, param in enumerate(kernel.params)}


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
