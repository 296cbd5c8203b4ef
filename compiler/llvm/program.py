"""The LLVM module of a program: its loop functions, `dlc_entry` and `dlc_layout`.

`dlc_entry(ctx)` runs the steps in order; see `entry.py`.
`dlc_layout(dims, offsets)` writes the size of the arena, then the offset of each temp in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dlc.compiler.llvm.entry import EntryEmitter, table_name
from dlc.compiler.llvm.index import Indices, load_symbols
from dlc.compiler.llvm.loops import emit_function, function_name
from dlc.compiler.llvm.sharing import LAUNCH, TOGETHER
from dlc.compiler.llvm.target import Target
from dlc.compiler.llvm.text import Writer, number, stored
from dlc.compiler.passes.plan_memory import ALIGNMENT, byte_size, planned
from dlc.ir.dims import Dim
from dlc.ir.loops import LoopFunction
from dlc.ir.program import Launch, Program, ProgramBuffer, each_step

Begin = Callable[[str], object]
PART: Final = 1500
"""Lines of a module that are compiled as one: LLVM takes some 20 µs a line."""

class Functions:
    """The texts of loop functions, `brief` or not, one added after the other; of many, parts of a
    module are made, each of which is told to `begin` as soon as it is there."""

    def __init__(
        self, target: Target, begin: Begin = lambda part: None, brief: bool = False
    ) -> None:
        self._target, self._begin, self._brief = target, begin, brief
        self.texts: dict[str, str] = {}  # by name
        self.parts: list[str] = []
        self._waiting: list[str] = []  # of no part yet

    def add(self, loop: LoopFunction) -> None:
        """One more, if it is not there."""
        if loop.name in self.texts:
            return
        text = self.texts[loop.name] = emit_function(loop, self._target, self._brief)
        self._waiting.append(text.replace("define internal", "define", 1))
        if _lines(self._waiting) >= PART:
            self.end_part()
            self._begin(self.parts[-1])

    def end_part(self) -> None:
        """Makes a part of what is in none."""
        if self._waiting:
            self.parts.append("\n".join((self.head, *self._waiting, self.end)))
            self._waiting = []

    @property
    def head(self) -> str:
        """The first line of a module."""
        return f'target triple = "{self._target.triple}"\n'

    @property
    def end(self) -> str:
        """Its last line."""
        return f"attributes #0 = {{ {self._target.attributes} }}\n"


def emit_module(
    program: Program, target: Target, functions: Functions, timed: bool = False
) -> tuple[str, tuple[str, ...]]:
    """The module of a program whose memory is planned and whose loops are made; if `timed`, one
    that takes the time of each launch. A large one is there in parts too. Some of its `functions`
    may be there."""
    loops = launched(program)
    for loop in loops:
        functions.add(loop)
    constants = [_constant(b) for b in program.buffers if b.kind == "const" and not b.alias_of]
    glue = "\n".join((
        *constants, LAUNCH, *([TOGETHER] if any(f.together > 1 for f in loops) else []),
        _timed(program, target) if timed else EntryEmitter(program, target).emit(),
        emit_layout(program), functions.end))
    whole = "\n".join((functions.head, *functions.texts.values(), glue))
    if timed or (not functions.parts and _lines([whole]) <= PART):
        return whole, ()
    functions.end_part()
    declared = "".join(f"declare void {function_name(f)}(ptr, i64)\n" for f in loops)
    return whole, (*functions.parts, "\n".join((functions.head, declared, glue)))


def _timed(program: Program, target: Target) -> str:
    from dlc.compiler.llvm.timed import emit_timed

    return emit_timed(program, target)


def launched(program: Program) -> list[LoopFunction]:
    """The loop functions of a program that it launches."""
    used = {step.kernel for step in each_step(program.steps) if isinstance(step, Launch)}
    return [f for f in program.loops if f.name in used]


def _lines(texts: list[str]) -> int:
    return sum(text.count("\n") for text in texts)


def _constant(buffer: ProgramBuffer) -> str:
    kind = stored(buffer.dtype)
    values = ", ".join(f"{kind} {_stored_number(buffer, v)}" for v in buffer.values)
    return (f"{table_name(buffer)} = private unnamed_addr constant [{len(buffer.values)} x {kind}]"
            f" [{values}], align {ALIGNMENT}\n")


def _stored_number(buffer: ProgramBuffer, value: float) -> str:
    return str(int(bool(value))) if buffer.dtype.kind == "bool" else number(buffer.dtype, value)


def emit_layout(program: Program) -> str:
    """The definition of `dlc_layout`."""
    writer = Writer()
    indices = Indices(writer)
    load_symbols(indices, program.symbols, "%dims")
    ends: dict[str, str] = {}
    for at, temp in enumerate(planned(program), 1):
        offset = _largest(writer, [ends[name] for name in temp.above])
        _write(indices, at, offset)
        ends[temp.name] = _end(indices, offset, byte_size(temp))
    _write(indices, 0, _largest(writer, list(ends.values())))
    writer.line("ret void")
    head = "define void @dlc_layout(ptr %dims, ptr noalias %offsets) #0"
    return f"{head} {{\n{writer.text()}\n}}\n"


def _write(indices: Indices, at: int, value: str) -> None:
    place = indices.address("%offsets", "i64", at)
    indices.writer.line(f"store i64 {value}, ptr {place}")


def _end(indices: Indices, offset: str, size: Dim) -> str:
    """`offset + size`, rounded up."""
    if isinstance(size, int) and offset.isdigit():
        return str(-(-(int(offset) + size) // ALIGNMENT) * ALIGNMENT)
    padded = indices.value(size + ALIGNMENT - 1)
    writer = indices.writer
    end = padded if offset == "0" else writer.once(
        ("+", offset, padded), f"add nsw i64 {offset}, {padded}")
    return writer.once(("align", end), f"and i64 {end}, {-ALIGNMENT}")


def _largest(writer: Writer, values: list[str]) -> str:
    """The largest of registers and numbers."""
    numbers = [int(value) for value in values if value.isdigit()]
    registers = list(dict.fromkeys(value for value in values if not value.isdigit()))
    fixed = max(numbers, default=0)
    if not registers:
        return str(fixed)
    if fixed:
        registers.append(str(fixed))
    best = registers[0]
    for other in registers[1:]:
        best = writer.once(("max", best, other),
                           f"call i64 @llvm.smax.i64(i64 {best}, i64 {other})")
    return best


