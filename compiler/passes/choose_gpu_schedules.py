"""choose_gpu_schedules: decides, for each kernel, how the threads of a GPU share it.

Each thread has a place of the outer indices (or four side by side, which it reads and writes at
once), so that neighbouring threads lie along memory. Where a kernel goes along rows and memory lies
along them too, a warp or a block has a row together. What is a product, or can be written as one
(`kernels/implicit_products.py`), is made in tiles. Nothing is measured, and nothing depends on
the sizes of the first call.
"""

from __future__ import annotations

from dataclasses import replace

from dlc.compiler.options import Options
from dlc.compiler.schedules.gpu import ThreadSearch
from dlc.ir.kernel import Kernel
from dlc.ir.program import Launch, Program, each_step
from dlc.ir.schedule import Schedule


def choose_gpu_schedules(program: Program, options: Options) -> Program:
    """Adds a schedule for every kernel."""
    launches: dict[str, list[Launch]] = {}
    for step in each_step(program.steps):
        if isinstance(step, Launch):
            launches.setdefault(step.kernel, []).append(step)
    chosen = [_choose(program, kernel, launches.get(kernel.name, []), options)
              for kernel in program.kernels]
    return replace(program, kernels=tuple(k for k, _ in chosen),
                   schedules=tuple((k.name, s) for k, s in chosen))


def _choose(
    program: Program, kernel: Kernel, launches: list[Launch], options: Options
) -> tuple[Kernel, Schedule]:
    """One kernel and its schedule, at the likely sizes of its first launch."""
    sizes = {name: options.hint(name) for name in kernel.symbols}
    for launch in launches[:1]:
        sizes = {name: options.likely(dim)
                 for name, dim in zip(kernel.symbols, launch.dims, strict=True)}
    starts = {param.name: [program.buffer(launch.buffers[at]).offset for launch in launches]
              for at, param in enumerate(kernel.params)}
    return ThreadSearch(kernel, sizes, options, starts).choose()
