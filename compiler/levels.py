"""The stages of a program below the Graph: how each is verified and printed."""

from __future__ import annotations

from dlc.compiler.runner import Level
from dlc.ir.dataclass import dataclass
from dlc.ir.fused import FusedGraph
from dlc.ir.program import Program


@dataclass(frozen=True, slots=True)
class Compiled:
    """A module of LLVM IR, and the manifest that says how its function is called.

    A large one is there as several modules too, which do the same together: `parts`. The last of
    them has no kernels, but calls them.
    """

    text: str
    manifest: dict[str, object]
    parts: tuple[str, ...] = ()


def _verify_program(program: Program) -> None:
    from dlc.ir.check_kernel import check_kernel, check_schedule
    from dlc.ir.check_program import check_program

    check_program(program)
    schedules = dict(program.schedules)
    for kernel in program.kernels:
        check_kernel(kernel)
        if kernel.name in schedules:
            check_schedule(kernel, schedules[kernel.name])


def _verify_loops(program: Program) -> None:
    from dlc.ir.check_kernel import check_loops

    for function in program.loops:
        check_loops(function)


def _program_text(program: Program) -> str:
    from dlc.ir.program_text import print_program

    return print_program(program)


def _module_text(module: Compiled) -> str:
    return module.text


FUSED = Level("fused", lambda program: None, FusedGraph.print)
PROGRAM = Level("program", _verify_program, _program_text)
LOOPS = Level("loops", _verify_loops, _program_text)
MODULE = Level("module", lambda module: None, _module_text)
