"""Checks that a Program is well formed: what its steps may name, and in which order they stand.

It is run on what passes give. A fault found here is one of the compiler, never of a user's program.
"""

from __future__ import annotations

from typing import NoReturn

from dlc.ir.dims import Dim, mod, symbol, symbols
from dlc.ir.kernel_rules import KernelError
from dlc.ir.program import (
    Branch,
    Check,
    Commit,
    Comparison,
    Launch,
    Loop,
    Parallel,
    Print,
    Program,
    ProgramBuffer,
    Step,
    Variant,
    each_step,
)
from dlc.ir.schedule import Multiples
from dlc.ir.types import BOOL, I64, DType


def check_program(program: Program) -> None:
    """KernelError if `program` breaks a rule.

    Names are unique; an alias names memory of its own element type; steps name buffers and kernels
    that there are, as many and of the types that the kernel takes; dims and offsets are over
    symbols, and over variables of loops around the step, or of loops that ended before it. There is
    one commit at most, in no loop, with no check or print after it and no write of a variable
    before it. What runs in parallel are launches and counted loops. Checks and prints are numbered
    from 1. A variant is a kernel of the same parameters and symbols as the one in whose place it
    runs, which is no variant; sizes decide over it. A schedule for multiples is a variant's that
    asks for them. A loop whose blocks are resident has nothing but launches, whose dims know
    nothing of its turns, and says for each of them its kernel or a variant of it.
    """
    _Checker(program).run()


class _Checker:
    """One program under inspection."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.buffers: dict[str, ProgramBuffer] = {}
        self.kernels = {kernel.name: kernel for kernel in program.kernels}
        self.known = set(program.symbols)
        self.seen: set[str] = set()  # variables of loops
        self.committed = False

    def run(self) -> None:
        """Checks all of it, in order."""
        for buffer in self.program.buffers:
            if buffer.name in self.buffers:
                self._fail(buffer.name, "there are two buffers of that name")
            self.buffers[buffer.name] = buffer
        for buffer in self.program.buffers:
            self._alias(buffer)
        steps = list(each_step(self.program.steps))
        for kind in (Check, Print):
            codes = sorted(s.code for s in steps if isinstance(s, kind))
            if codes != list(range(1, len(codes) + 1)):
                self._fail(kind.__name__.lower(), f"codes are {codes}")
        for variant in self.program.variants:
            self._variant(variant)
        for name, schedule in self.program.schedules:
            self._multiples(name, schedule.multiples)
        self._steps(self.program.steps, 0)

    def _variant(self, variant: Variant) -> None:
        kernel, first = (self.kernels.get(name) for name in (variant.kernel, variant.of))
        if kernel is None or first is None:
            self._fail(variant.kernel, f"is a variant of {variant.of}, and one is no kernel")
        if (kernel.symbols, kernel.params) != (first.symbols, first.params):
            self._fail(variant.kernel, f"does not take what {variant.of} takes")
        if any(v.kernel == variant.of != v.of for v in self.program.variants):
            self._fail(variant.of, "is a variant, and has some")
        named = {n for c in variant.where for dim in (c.left, c.right) for n in symbols(dim)}
        if not variant.where or not named <= set(kernel.symbols):
            self._fail(variant.kernel, "runs at sizes of what are none of its symbols")

    def _multiples(self, name: str, multiples: Multiples) -> None:
        """A kernel for multiples runs where they are asked for, and nowhere else."""
        asked = {Comparison(mod(symbol(n), number), "==", 0) for n, number in multiples}
        variants = [v for v in self.program.variants if v.kernel == name]
        if asked and (not variants or any(
                v.of == name or not asked <= set(v.where) for v in variants)):
            self._fail(name, "runs at sizes that are not the multiples that its schedule is for")

    def _alias(self, buffer: ProgramBuffer) -> None:
        if not buffer.alias_of:
            if buffer.offset != 0:
                self._fail(buffer.name, "an offset without memory that it is in")
            return
        root = self.buffers.get(buffer.alias_of)
        if root is None or root.alias_of:
            self._fail(buffer.name, f"{buffer.alias_of} is no buffer with memory of its own")
        elif root.dtype is not buffer.dtype or root.kind != buffer.kind:
            self._fail(buffer.name, f"is not stored as {root.name} is")

    def _steps(self, steps: tuple[Step, ...], depth: int) -> None:
        beside: list[Launch] = []
        for step in steps:
            beside = self._beside(step, beside)
            match step:
                case Launch():
                    self._launch(step)
                case Check() | Print():
                    self._effect(step)
                case Loop():
                    self._loop(step, depth)
                case Branch():
                    self._scalar(step.condition, BOOL)
                    self._steps(step.then, depth + 1)
                    self._steps(step.otherwise, depth + 1)
                case Parallel():
                    self._parallel(step, depth)
                case Commit():
                    if self.committed or depth:
                        self._fail("commit", "stands where no commit may")
                    self.committed = True

    def _beside(self, step: Step, before: list[Launch]) -> list[Launch]:
        """The launches that this one is beside, and itself; none for another step."""
        if not isinstance(step, Launch):
            return []
        if not step.beside:
            return [step]
        if not before:
            self._fail(step.kernel, "is beside no launch")
        for other in before:
            both = ((step, other), (other, step))
            if any(self._written(a) & self._touched(b) for a, b in both):
                self._fail(step.kernel, f"is beside {other.kernel}, and one needs the other's work")
        return [*before, step]

    def _touched(self, launch: Launch) -> set[str]:
        return {self._root(name) for name in launch.buffers}

    def _written(self, launch: Launch) -> set[str]:
        params = self.kernels[launch.kernel].params if launch.kernel in self.kernels else ()
        return {self._root(n) for p, n in zip(params, launch.buffers, strict=False)
                if p.role != "in"}

    def _root(self, name: str) -> str:
        buffer = self.buffers.get(name)
        return name if buffer is None else buffer.alias_of or name

    def _effect(self, step: Check | Print) -> None:
        if self.committed:
            self._fail(type(step).__name__.lower(), "stands behind the commit")
        if isinstance(step, Print):
            for name in step.buffers:
                self._buffer(name)
            return
        self._scalar(step.buffer, BOOL)
        if step.value:
            self._scalar(step.value, I64)

    def _loop(self, loop: Loop, depth: int) -> None:
        if loop.var in self.seen or loop.var in self.program.symbols:
            self._fail(loop.var, "is the variable of another loop, or a symbol")
        self._dim(loop.var, loop.count)
        self.seen.add(loop.var)
        before = set(self.known)
        self.known.add(loop.var)
        self._steps(loop.test, depth + 1)
        if loop.condition:
            self._scalar(loop.condition, BOOL)
        self._steps(loop.body, depth + 1)
        self.known = before | {loop.var}
        for kernels in loop.resident:
            self._resident(loop, kernels)

    def _resident(self, loop: Loop, kernels: tuple[str, ...]) -> None:
        launches = [step for step in loop.body if isinstance(step, Launch)]
        if loop.condition or len(launches) != len(loop.body):
            self._fail(loop.var, "has blocks that are resident, and more than launches")
        if any(loop.var in symbols(dim) for launch in launches for dim in launch.dims):
            self._fail(loop.var, "has blocks that are resident, and sizes of its turns")
        forms = {(v.kernel, v.of) for v in self.program.variants}
        own = [name == launch.kernel or (name, launch.kernel) in forms
               for name, launch in zip(kernels, launches, strict=False)]
        if len(kernels) != len(launches) or not all(own):
            self._fail(loop.var, f"has no launches of {', '.join(kernels)}")

    def _parallel(self, step: Parallel, depth: int) -> None:
        for inner in each_step(step.body):
            if not isinstance(inner, Launch | Loop) or (
                    isinstance(inner, Loop) and inner.condition):
                self._fail(step.var, "stands round what threads may not do at once")
        self._dim(step.var, step.cost)
        self._loop(Loop(step.var, step.count, step.body), depth)
        self.known.remove(step.var)

    def _launch(self, launch: Launch) -> None:
        kernel = self.kernels.get(launch.kernel)
        if kernel is None:
            self._fail(launch.kernel, "there is no such kernel")
        if len(launch.dims) != len(kernel.symbols):
            self._fail(launch.kernel, f"takes {len(kernel.symbols)} dims, not {len(launch.dims)}")
        if len(launch.buffers) != len(kernel.params):
            self._fail(launch.kernel,
                       f"takes {len(kernel.params)} buffers, not {len(launch.buffers)}")
        for dim in launch.dims:
            self._dim(launch.kernel, dim)
        for param, name in zip(kernel.params, launch.buffers, strict=True):
            buffer = self._buffer(name)
            if buffer.dtype is not param.dtype:
                self._fail(launch.kernel, f"{name} is of {buffer.dtype}, {param.name} of "
                           f"{param.dtype}")
            if param.role != "in" and buffer.kind == "var" and not self.committed:
                self._fail(launch.kernel, f"writes {name} before the commit")
            if param.role != "in" and buffer.kind in ("in", "const", "random"):
                self._fail(launch.kernel, f"writes {name}, which is of kind {buffer.kind}")

    def _buffer(self, name: str) -> ProgramBuffer:
        buffer = self.buffers.get(name)
        if buffer is None:
            self._fail(name, "there is no such buffer")
        for dim in (buffer.offset, *buffer.dims):
            self._dim(name, dim)
        return buffer

    def _scalar(self, name: str, dtype: DType) -> None:
        buffer = self._buffer(name)
        if buffer.dtype is not dtype or buffer.dims:
            self._fail(name, f"is no {dtype}")

    def _dim(self, place: str, dim: Dim) -> None:
        unknown = sorted(symbols(dim) - self.known)
        if unknown:
            self._fail(place, f"{', '.join(unknown)} is not known here")

    def _fail(self, place: str, message: str) -> NoReturn:
        raise KernelError(self.program.name, place, message)
