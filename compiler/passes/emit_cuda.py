"""emit_cuda: prints a program as CUDA C, and the manifest that says what to launch.

The manifest is a CPU's, with `cuda` in the place of what is an entry there: the architecture, the
buffers with their places in the arena, and the steps (`cuda/program.py`).
"""

from __future__ import annotations

from dlc.compiler.cuda.program import Steps, emit_text
from dlc.compiler.levels import Compiled
from dlc.compiler.options import GPU, Options
from dlc.compiler.passes.emit import dim_json, manifest, names_of_callers
from dlc.ir.dims import Dim, substitute
from dlc.ir.program import Program

CPU_ONLY = ("entry", "layout", "offsets", "watched")


def emit_cuda(program: Program, options: Options) -> Compiled:
    """The text and the manifest."""
    known = names_of_callers(program)

    def say(dim: Dim) -> object:
        return dim_json(substitute(dim, known))

    made = {k: v for k, v in manifest(program, options).items() if k not in CPU_ONLY}
    arch = options.target.removeprefix(GPU)
    return Compiled(emit_text(program), {
        **made, "cuda": {"arch": arch, **Steps(program, say).describe()}})
