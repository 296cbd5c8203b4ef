"""The LLVM module of a program: its loop functions, `dlc_entry` and `dlc_layout`.

`dlc_entry(ctx)` runs the steps in order; see `entry.py`.
`dlc_layout(dims, offsets)` writes the size of the arena, then the offset of each temp in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dlc.compiler.llvm.entry import EntryEmitter, load_symbols, table_name
from dlc.compiler.llvm.index import Indices
from dlc.compiler.llvm.loops import emit_function, function_name
from dlc.compiler.llvm.target import Target
from dlc.compiler.llvm.text import Writer, number, stored
from dlc.compiler.llvm.timed import emit_timed
from dlc.compiler.passes.plan_memory import ALIGNMENT, byte_size, planned
from dlc.ir.dims import Dim
from dlc.ir.program import Launch, Program, ProgramBuffer, each_step

PART: Final = 1500
"""Lines of a module that are compiled as one: LLVM takes some 20 µs a line."""
_LAUNCH = """
define internal void @launch(ptr %pool, ptr %fn, ptr %args, i64 %chunks, i64 %total) #0 {
  %none = icmp eq ptr %pool, null
  %few = icmp sle i64 %chunks, 1
  %alone = or i1 %none, %few
  br i1 %alone, label %serial, label %threads
threads:
  %parallel = load ptr, ptr %pool
  call void %parallel(ptr %pool, ptr %fn, ptr %args, i64 %chunks, i64 %total)
  ret void
serial:
  %some = icmp sgt i64 %chunks, 0
  br i1 %some, label %each, label %done
each:
  %chunk = phi i64 [0, %serial], [%next, %each]
  call void %fn(ptr %args, i64 %chunk)
  %next = add nsw i64 %chunk, 1
  %more = icmp slt i64 %next, %chunks
  br i1 %more, label %each, label %done
done:
  ret void
}
"""


def emit_module(
    program: Program, target: Target, timed: bool = False
) -> tuple[str, tuple[str, ...]]:
    """The module of a program whose memory is planned and whose loops are made; if `timed`, one
    that takes the time of each launch. A large one is there in parts too."""
    used = {step.kernel for step in each_step(program.steps) if isinstance(step, Launch)}
    loops = [f for f in program.loops if f.name in used]
    functions = [emit_function(f, target) for f in loops]
    constants = [_constant(b) for b in program.buffers if b.kind == "const" and not b.alias_of]
    head = f'target triple = "{target.triple}"\n'
    entry = "\n".join((
        *constants, _LAUNCH,
        emit_timed(program, target) if timed else EntryEmitter(program, target).emit(),
        emit_layout(program), f"attributes #0 = {{ {target.attributes} }}\n"))
    whole = "\n".join((head, *functions, entry))
    if timed or whole.count("\n") <= PART:
        return whole, ()
    declared = "".join(f"declare void {function_name(f)}(ptr, i64)\n" for f in loops)
    return whole, (*_parts(functions, head, target), "\n".join((head, declared, entry)))


def _parts(functions: list[str], head: str, target: Target) -> Iterator[str]:
    """Modules with some of the functions each, which others may call."""
    end = f"attributes #0 = {{ {target.attributes} }}\n"
    part, lines = [head], 0
    for at, function in enumerate(functions, 1):
        part.append(function.replace("define internal", "define", 1))
        lines += function.count("\n")
        if lines >= PART or at == len(functions):
            yield "\n".join((*part, end))
            part, lines = [head], 0


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


