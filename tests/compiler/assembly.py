"""Assembly as text: the innermost loops of each function, and what they keep on the stack."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from dlc.compiler.llvm.library import library_file
from dlc.compiler.llvm.module import Context, Module
from dlc.compiler.llvm.target import Target, new_machine, target
from dlc.compiler.pipeline import dump_graph
from dlc.frontend.build import Built
from dlc.frontend.driver import load

_FUNCTION = re.compile(r'^"?([A-Za-z_][\w.$]*)"?:')
_BLOCK = re.compile(r"^(?:\.?L(\w+):|\W*%bb\.\d+:)")
_INNER = re.compile(r"^\W*This Inner Loop Header")
_MEMBER = re.compile(r"\bin Loop: Header=(\w+)")
_SPILL = re.compile(r"(\d+)-byte (?:Folded )?Spill")
_GENERAL = re.compile(r"\bstp\s+[xw]\d")  # two registers of ARM that are no vectors
TARGETS = ("x86-64-v4", "haswell", "aarch64")
EXAMPLES = Path(__file__).parents[2] / "examples"
VECTOR = 16  # bytes of the smallest vector register


@dataclass(frozen=True, slots=True)
class InnerLoop:
    """A loop without loops in it: its function and its lines."""

    function: str
    lines: tuple[str, ...]

    @property
    def vector_spills(self) -> tuple[str, ...]:
        """The lines that put a vector register on the stack, as LLVM says.

        What is only taken from there has not changed in the loop: constants, for the most part.
        """
        return tuple(line.strip() for line in self.lines
                     if (m := _SPILL.search(line)) and int(m[1]) >= VECTOR
                     and not _GENERAL.search(line))


def assembly(text: str, kind: Target) -> str:
    """Assembly of IR text, with remarks on what lies on the stack."""
    machine = new_machine(kind)
    library = ctypes.CDLL(str(library_file()))
    library.LLVMPY_SetTargetMachineAsmVerbosity(ctypes.c_void_p(machine.pointer), 1)
    with Module(text, Context()) as module:
        return module.assembly(machine)


def functions(text: str) -> Iterator[tuple[str, list[str]]]:
    """The functions of assembly, and their lines."""
    lines = text.splitlines()
    starts = [at for at, line in enumerate(lines) if _FUNCTION.match(line)
              and not line.startswith((".L", "L"))]
    for first, last in pairwise((*starts, len(lines))):
        found = _FUNCTION.match(lines[first])
        assert found is not None
        yield found[1], lines[first:last]


def inner_loops(text: str) -> list[InnerLoop]:
    """All innermost loops, as LLVM's remarks tell them: their blocks may stand anywhere."""
    found = []
    for name, lines in functions(text):
        loops: dict[str, list[str]] = {}
        blocks = list(_blocks(lines))
        for label, block in blocks:
            if label and any(_INNER.match(line.partition(":")[2] if _BLOCK.match(line) else line)
                             for line in block):
                loops[label] = list(block)
        for _, block in blocks:
            member = next((m[1] for line in block if (m := _MEMBER.search(line))), "")
            if member in loops:
                loops[member] += block
        found += [InnerLoop(name, tuple(each)) for each in loops.values()]
    return found


def _blocks(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The blocks of a function: labels, where they have one, and lines."""
    starts = [at for at, line in enumerate(lines) if _BLOCK.match(line)]
    for first, last in pairwise((*starts, len(lines))):
        found = _BLOCK.match(lines[first])
        yield (found[1] or "" if found else ""), lines[first:last]


def spilling(text: str, kind: Target) -> Iterator[InnerLoop]:
    """The innermost loops of kernels in which vector registers lie on the stack."""
    for loop in inner_loops(assembly(text, kind)):
        if loop.function.startswith("kernel.") and loop.vector_spills:
            yield loop


def example_models() -> Iterator[tuple[str, Built]]:
    """The models of the examples; those that need sizes are within others that give them."""
    for file in sorted(EXAMPLES.rglob("*.dl")):
        program = load(file)
        for model, parameters in program.models.items():
            if all(p.has_default for p in parameters):
                yield f"{file.name} {model}", program.model(model).built


def main(arguments: list[str]) -> int:
    """Lists what spills in the examples: `python -m tests.compiler.assembly [TARGET...]`."""
    for cpu in arguments or TARGETS:
        for place, built in example_models():
            for function in built.record.functions:
                options = replace(built.options(function), target=cpu)
                text = dump_graph(built.graph(function), "llvm", options)
                for loop in spilling(text, target(cpu)):
                    print(cpu, place, function, loop.function, len(loop.lines), "lines,",
                          len(loop.vector_spills), "of vectors on the stack", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
