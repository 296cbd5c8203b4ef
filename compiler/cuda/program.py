"""The CUDA C of a program, and what there is to do with it, as data.

The steps say which kernel runs on how many blocks, on which buffers, with which numbers; sizes are
expressions over the symbols of the call and the variables of loops, as everywhere in a manifest. A
launch that has `variants` runs the first of them at whose sizes all of its `where` holds. Launches
beside each other are one, of a kernel whose blocks call functions. A loop that has `resident` is
one launch, of the first of them `of` the kernels that its steps run, where the GPU has room for its
blocks at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path

from dlc.compiler.cuda.groups import groups_text
from dlc.compiler.cuda.kernels import (
    emit_kernel,
    emit_part,
    emit_together,
    kernel_names,
    shared_memory,
    views,
)
from dlc.compiler.cuda.resident import Part, Turns
from dlc.compiler.cuda.variants import cases
from dlc.compiler.passes.plan_memory import byte_size, planned
from dlc.ir.dims import Dim, maximum, substitute, symbol, symbols
from dlc.ir.kernel import storage_size
from dlc.ir.loops import LoopFunction
from dlc.ir.program import (
    Branch,
    Check,
    Commit,
    Launch,
    Loop,
    Parallel,
    Print,
    Program,
    ProgramBuffer,
    Step,
    each_step,
)
from dlc.ir.program_text import variant_text

Json = dict[str, object]
NARROW = 1 << 30  # elements, with room for what is rounded up or doubled
PRELUDE, TENSOR, MEETING = (
    Path(__file__).with_name(f"{name}.cu").read_text() for name in ("prelude", "tensor", "meeting"))
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


def runs(steps: tuple[Step, ...]) -> Iterator[Step | tuple[Launch, ...]]:
    """Steps in order, those that stand in others not; launches with those beside them."""
    beside: list[Launch] = []
    for step in (*steps, None):
        if beside and not (isinstance(step, Launch) and step.beside):
            yield tuple(beside)
            beside = []
        if isinstance(step, Launch):
            beside.append(step)
        elif step is not None:
            yield step


def launches_together(program: Program) -> dict[tuple[str, ...], str]:
    """The names of kernels for launches beside each other, by the functions that these run."""
    found: dict[tuple[str, ...], str] = {}
    for steps in _each_body(program.steps):
        for run in runs(steps):
            if isinstance(run, tuple) and len(run) > 1:
                found.setdefault(tuple(launch.kernel for launch in run), f"together {len(found)}")
    return found


def _each_body(steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    yield steps
    for step in steps:
        if isinstance(step, Loop):
            yield from (*_each_body(step.test), *_each_body(step.body))
        elif isinstance(step, Branch):
            yield from (*_each_body(step.then), *_each_body(step.otherwise))


def resident_turns(program: Program) -> dict[str, Turns]:
    """Loops as kernels whose blocks stay, by the names of these."""
    functions = {f.name: f for f in program.loops}
    buffers = {b.name: b for b in program.buffers}
    names = kernel_names(tuple(functions))
    found: dict[str, Turns] = {}
    loops = [step for step in each_step(program.steps) if isinstance(step, Loop)]
    for loop in loops:
        for kernels in loop.resident:
            launches = [step for step in loop.body if isinstance(step, Launch)]
            parts = [Part(launch, functions[name], f"{names[name]}_turn")
                     for launch, name in zip(launches, kernels, strict=True)]
            found[f"turns {len(found)}"] = Turns(loop, parts, buffers)
    return found


def _alone(program: Program) -> set[str]:
    """The functions of launches that are beside none."""
    return {case.kernel for steps in _each_body(program.steps) for run in runs(steps)
            if isinstance(run, tuple) and len(run) == 1 for case in cases(program, run[0])}


def emit_text(program: Program) -> str:
    """The translation unit: what primitives mean, then the kernels."""
    functions = {f.name: f for f in launched(program)}
    together, alone, turns = launches_together(program), _alone(program), resident_turns(program)
    names = kernel_names((*functions, *together.values(), *turns))
    guarded = has_checks(program)
    inside = {name for key in together for name in key}
    kernels = [_told(program, f.name) + emit_kernel(f, names[f.name], guarded)
               for f in functions.values() if f.name in alone]
    kernels += [emit_part(f, f"{names[f.name]}_part")
                for f in functions.values() if f.name in inside]
    kernels += [emit_together([functions[n] for n in key], [f"{names[n]}_part" for n in key],
                              names[name], guarded) for key, name in together.items()]
    staying = {part.name: (part.function, each.calls)
               for each in turns.values() for part in each.parts}
    kernels += [emit_part(f, name, 0, calls) for name, (f, calls) in staying.items()]
    kernels += [each.emit(names[name], guarded) for name, each in turns.items()]
    tensor = any(word in k for k in kernels for word in ("= multiply_", "DYNAMIC_SHARED"))
    groups = groups_text(kernels)
    return "\n".join((PRELUDE, *[TENSOR] * tensor, *[groups] * bool(groups),
                      *[MEETING] * bool(turns), *[NOTE] * guarded, *kernels))


def launches_by_kernel(program: Program) -> dict[str, list[tuple[Launch, ...]]]:
    """By their names in C, the launches that kernels stand for: all of a tuple at once, any of
    several."""
    functions, together = launched(program), launches_together(program)
    turns = resident_turns(program)
    names = kernel_names((*(f.name for f in functions), *together.values(), *turns))
    found: dict[str, list[tuple[Launch, ...]]] = {
        names[name]: [tuple(part.launch for part in each.parts)] for name, each in turns.items()}
    for steps in _each_body(program.steps):
        for run in runs(steps):
            if isinstance(run, tuple):
                key = tuple(launch.kernel for launch in run)
                kernels = [together[key]] if key in together else [
                    case.kernel for case in cases(program, run[0])]
                for kernel in kernels:
                    found.setdefault(names[kernel], []).append(run)
    return found


def has_checks(program: Program) -> bool:
    """Whether a call of it may fail on the device."""
    return any(isinstance(step, Check) for step in each_step(program.steps))


def _told(program: Program, kernel: str) -> str:
    """Of which sizes a kernel is the one, as a comment."""
    return "".join(f"// {variant_text(v)}\n" for v in program.variants if v.kernel == kernel)


class Steps:
    """Says the steps of a program; `say` writes down a dim."""

    def __init__(self, program: Program, say: Callable[[Dim], object]) -> None:
        self.say = say
        self.program = program
        self.dims = {b.name: b.dims for b in program.buffers}
        self.functions = {f.name: f for f in launched(program)}
        self.together = launches_together(program)
        self.turns = resident_turns(program)
        self.names = kernel_names((*self.functions, *self.together.values(), *self.turns))
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
        return [self._launches(run) if isinstance(run, tuple) else self._step(run)
                for run in runs(steps)]

    def _step(self, step: Step) -> Json:
        match step:
            case Launch():
                return self._launches((step,))
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
                        "body": self.steps(step.body), **self._resident(step)}
            case Branch():
                return {"step": "branch", "condition": step.condition,
                        "then": self.steps(step.then), "otherwise": self.steps(step.otherwise)}
            case Parallel():
                raise ValueError(f"{step.var}: a GPU has no pieces")

    def _resident(self, loop: Loop) -> Json:
        """The kernels that are all turns of a loop, and of which kernels of its steps they are.
        A launch is of as many blocks as the largest of the steps."""
        found: list[Json] = []
        for name, turns in self.turns.items():
            if turns.loop is loop:
                blocks = [self._blocks(part.launch, part.function.name) for part in turns.parts]
                own = [dim for part, count in zip(turns.parts, blocks, strict=True)
                       for dim in (*part.launch.dims, count)]
                numbers = (*map(symbol, turns.symbols), loop.count, *own)
                kernels, sums = zip(*self._stages(turns, blocks), strict=True)
                most = self.say(reduce(maximum, sums))
                found.append({
                    "of": kernels, "kernel": self.names[name], "threads": turns.threads,
                    "shared": turns.shared, "buffers": [*turns.roots, *self.state],
                    "dims": list(map(self.say, numbers)), "blocks": most})
        return {"resident": found} if found else {}

    def _stages(self, turns: Turns, blocks: list[Dim]) -> Iterator[tuple[str, Dim]]:
        """The kernel and the blocks of each step that is a part of a turn."""
        at = 0
        for run in runs(turns.loop.body):
            assert isinstance(run, tuple)
            functions = [part.function.name for part in turns.parts[at:at + len(run)]]
            together = self.together.get(tuple(launch.kernel for launch in run))
            yield self.names[together or functions[0]], sum(blocks[at:at + len(run)])
            at += len(run)

    def _check(self, check: Check) -> Json:
        """A check, and the launch that notes it where nobody waits for it."""
        buffers = [check.buffer, check.value or check.buffer, STATE]
        note = {"step": "launch", "kernel": "note_failure", "blocks": 1, "threads": 1,
                "buffers": buffers, "dims": [check.code, int(bool(check.value))]}
        return {"step": "check", "buffer": check.buffer, "code": check.code, "value": check.value,
                "note": note}

    def _launches(self, run: tuple[Launch, ...]) -> Json:
        if len(run) == 1:
            return self._launch(run[0])
        kernel = self.together[tuple(launch.kernel for launch in run)]
        blocks = [self._blocks(launch, launch.kernel) for launch in run]
        dims = [dim for launch in run for dim in launch.dims]
        return {"step": "launch", "kernel": self.names[kernel],
                "threads": self.functions[run[0].kernel].threads, "shared": 0,
                "blocks": self.say(sum(blocks)),
                "buffers": [*(n for launch in run for n in launch.buffers), *self.state],
                "dims": [self.say(dim) for dim in (*dims, *blocks)]}

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
        """A kernel, with its blocks and threads for the dims of a launch, the bytes of shared
        memory of a block, where it asks for more than every kernel may have, and what it copies
        boxes of."""
        made: Json = {"kernel": self.names[kernel], "threads": self.functions[kernel].threads,
                      "shared": shared_memory(self.functions[kernel])[1],
                      "blocks": self.say(self._blocks(launch, kernel))}
        maps = self._maps(launch, self.functions[kernel])
        return made | {"maps": maps} if maps else made

    def _maps(self, launch: Launch, function: LoopFunction) -> list[Json]:
        """The views of a function, of the buffers of a launch."""
        buffers = dict(zip((p.name for p in function.pointers), launch.buffers, strict=True))
        known = dict(zip(function.symbols, launch.dims, strict=True))

        def say(dims: tuple[Dim, ...]) -> list[object]:
            return [self.say(substitute(dim, known)) for dim in dims]

        return [{"buffer": buffers[v.buffer], "dtype": v.dtype.name, "offset": say((v.offset,))[0],
                 "sizes": say(v.sizes), "steps": say(v.steps), "box": list(v.box)}
                for v in views(function)]

    def _blocks(self, launch: Launch, kernel: str) -> Dim:
        function = self.functions[kernel]
        return substitute(
            function.chunks, dict(zip(function.symbols, launch.dims, strict=True)))
