"""Assembly as text: the innermost loops of each function, and what they keep on the stack."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from dlc.compiler.llvm.target import Target, new_machine, parse, target
from dlc.compiler.pipeline import dump_graph
from dlc.frontend.build import Built
from dlc.frontend.driver import load

_FUNCTION = re.compile(r'^"?([A-Za-z_][\w.$]*)"?:')
_LABEL = re.compile(r"^(\.?L\w+):")
_BRANCH = re.compile(
    r"^\s+(?:j\w+|b|b\.\w+|cbn?z\s+\w+,|tbn?z\s+\w+,\s*#\d+,)\s+(\.?L\w+)\s*(?:$|[#/;])")
_SPILL = re.compile(r"(\d+)-byte (?:Folded )?Spill")
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
                     if (m := _SPILL.search(line)) and int(m[1]) >= VECTOR)


def assembly(text: str, kind: Target) -> str:
    """Assembly of IR text, with remarks on what lies on the stack."""
    machine = new_machine(kind)
    machine.set_asm_verbosity(True)
    return str(machine.emit_assembly(parse(text)))


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
    """All innermost loops: from a label to the last branch back to it, no such pair within."""
    found = []
    for name, lines in functions(text):
        labels = {m[1]: at for at, line in enumerate(lines) if (m := _LABEL.match(line))}
        spans: dict[int, int] = {}
        for at, line in enumerate(lines):
            branch = _BRANCH.match(line)
            if branch and labels.get(branch[1], at) < at:
                spans[labels[branch[1]]] = at
        for first, last in spans.items():
            if not any(first <= a and b <= last and (a, b) != (first, last)
                       for a, b in spans.items()):
                found.append(InnerLoop(name, tuple(lines[first:last + 1])))
    return found


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
