"""The CUDA C of a program, and what there is to do with it, as data.

The steps say which kernel runs on how many blocks, on which buffers, with which numbers; sizes are
expressions over the symbols of the call and the variables of loops, as everywhere in a manifest. A
launch that has `variants` runs the first of them at whose sizes all of its `where` holds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dlc.compiler.cuda.kernels import emit_kernel, kernel_names, shared_memory
from dlc.compiler.cuda.variants import cases
from dlc.compiler.passes.plan_memory import byte_size, planned
from dlc.ir.dims import Dim, substitute, symbols
from dlc.ir.kernel import storage_size
from dlc.ir.loops import LoopFunction
from dlc.ir.program import (
    Branch,
    Check,
    Commit,
    Launch,
    Loop,
    Print,
    Program,
    ProgramBuffer,
    Step,
    each_step,
)
from dlc.ir.program_text import variant_text

Json = dict[str, object]
NARROW = 1 << 30  # elements, with room for what is rounded up or doubled
PRELUDE, TENSOR = (Path(__file__).with_name(f"{name}.cu") for name in ("prelude", "tensor"))
STATE = "<state>"  # where a check that failed is noted: its code, and the value that it tells
NOTE = """\
extern "C" __global__ void note_failure(
    const unsigned char *held, const Wide *value, Wide *state, Wide code, Wide tells) {
  if (*held || *state) return;
  state[1] = tells ? *value : 0;
  state[0] = code;
}
"""


def launched(program: Program) -> tuple[LoopFunction, ...]:
    """The loop functions that a program runs."""
    used = {case.kernel for s in each_step(program.steps) if isinstance(s, Launch)
            for case in cases(program, s)}
    return tuple(f for f in program.loops if f.name in used)


def emit_text(program: Program) -> str:
    """The translation unit: what primitives mean, then the kernels."""
    functions = launched(program)
    names = kernel_names(functions)
    told = {v.kernel: f"// {variant_text(v)}\n" for v in program.variants}
    guarded = has_checks(program)
    kernels = [told.get(f.name, "") + emit_kernel(f, names[f.name], guarded) for f in functions]
    parts = [PRELUDE, *([TENSOR] if any("= multiply_" in k for k in kernels) else [])]
    return "\n".join((*(part.read_text() for part in parts), *[NOTE] * guarded, *kernels))


def has_checks(program: Program) -> bool:
    """Whether a call of it may fail on the device."""
    return any(isinstance(step, Check) for step in each_step(program.steps))


class Steps:
    """Says the steps of a program; `say` writes down a dim."""

    def __init__(self, program: Program, say: Callable[[Dim], object]) -> None:
        self.say = say
        self.program = program
        self.dims = {b.name: b.dims for b in program.buffers}
        self.functions = {f.name: f for f in launched(program)}
        self.names = kernel_names(tuple(self.functions.values()))
        self.state = [STATE] * has_checks(program)

    def describe(self) -> Json:
        """Buffers, their places in the arena, the steps, and where indices of 32 bits do: where
        all counts of `narrow` are below its bound."""
        buffers = {b.name: self._buffer(b) for b in self.program.buffers}
        return {
            "buffers": buffers | {name: {"kind": "state", "dtype": "i64"} for name in self.state},
            "arena": [{"name": b.name, "bytes": self.say(byte_size(b)), "above": list(b.above)}
                      for b in planned(self.program)],
            "narrow": {"below": NARROW, "counts": [self.say(n) for n in self._counts()]},
            "steps": self.steps(self.program.steps),
        }

    def _counts(self) -> list[Dim]:
        """The elements of each piece of memory: no index is larger than all of them."""
        roots = [storage_size(b.layout, b.dims) for b in self.program.buffers if not b.alias_of]
        known = set(self.program.symbols)
        return list(dict.fromkeys(n for n in roots if symbols(n) and symbols(n) <= known))

    def _buffer(self, buffer: ProgramBuffer) -> Json:
        found: Json = {"kind": buffer.kind, "dtype": buffer.dtype.name}
        if buffer.alias_of:
            found |= {"part_of": buffer.alias_of, "offset": self.say(buffer.offset)}
        if buffer.kind == "const":
            found["values"] = list(buffer.values)
        return found

    def steps(self, steps: tuple[Step, ...]) -> list[Json]:
        """Steps in order."""
        return [self._step(step) for step in steps]

    def _step(self, step: Step) -> Json:
        match step:
            case Launch():
                return self._launch(step)
            case Check():
                return self._check(step)
            case Print():
                return {"step": "print", "buffers": list(step.buffers), "code": step.code,
                        "shapes": [[self.say(dim) for dim in self.dims[name]]
                                   for name in step.buffers]}
            case Commit():
                return {"step": "commit"}
            case Loop():
                return {"step": "loop", "var": step.var, "count": self.say(step.count),
                        "test": self.steps(step.test), "condition": step.condition,
                        "body": self.steps(step.body)}
            case Branch():
                return {"step": "branch", "condition": step.condition,
                        "then": self.steps(step.then), "otherwise": self.steps(step.otherwise)}

    def _check(self, check: Check) -> Json:
        """A check, and the launch that notes it where nobody waits for it."""
        buffers = [check.buffer, check.value or check.buffer, STATE]
        note = {"step": "launch", "kernel": "note_failure", "blocks": 1, "threads": 1,
                "buffers": buffers, "dims": [check.code, int(bool(check.value))]}
        return {"step": "check", "buffer": check.buffer, "code": check.code, "value": check.value,
                "note": note}

    def _launch(self, launch: Launch) -> Json:
        *variants, (kernel, _) = cases(self.program, launch)
        made = {"step": "launch", **self._run(launch, kernel),
                "buffers": [*launch.buffers, *self.state],
                "dims": [self.say(dim) for dim in launch.dims]}
        if variants:
            made["variants"] = [
                {"where": [[self.say(c.left), c.relation, self.say(c.right)] for c in case.where],
                 **self._run(launch, case.kernel)} for case in variants]
        return made

    def _run(self, launch: Launch, kernel: str) -> Json:
        """A kernel, with its blocks and threads for the dims of a launch, and the bytes of shared
        memory of a block, where it asks for more than every kernel may have."""
        function = self.functions[kernel]
        dims = dict(zip(function.symbols, launch.dims, strict=True))
        return {"kernel": self.names[kernel], "threads": function.threads,
                "shared": shared_memory(function)[1],
                "blocks": self.say(substitute(function.chunks, dims))}
