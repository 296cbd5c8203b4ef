"""The LLVM module of a program: its loop functions, `dlc_entry` and `dlc_layout`.

`dlc_entry(ctx)` runs the steps in order. The context is a struct of 8-byte fields; see `FIELDS`.
`dlc_layout(dims, offsets)` writes the size of the arena, then the offset of each temp in it.
"""

from __future__ import annotations

from math import inf
from typing import Final

from dlc.compiler.llvm.index import Indices, Name
from dlc.compiler.llvm.loops import emit_function, function_name
from dlc.compiler.llvm.target import Target
from dlc.compiler.llvm.text import Writer, mangle, number, stored
from dlc.compiler.passes.plan_memory import ALIGNMENT, byte_size, planned
from dlc.ir.dims import Dim, substitute
from dlc.ir.loops import LoopFunction
from dlc.ir.program import BufferKind, Check, Launch, Program, ProgramBuffer

FIELDS: Final = ("version", "dims", "pointers", "strides", "arena", "pool", "random", "status",
                 "offsets")
POINTER_KINDS: Final[tuple[BufferKind, ...]] = ("in", "out", "var")

_LAUNCH = """
define internal void @launch(ptr %pool, ptr %fn, ptr %args, i64 %chunks, i64 %cost) #0 {
  %none = icmp eq ptr %pool, null
  %few = icmp sle i64 %chunks, 1
  %alone = or i1 %none, %few
  br i1 %alone, label %serial, label %threads
threads:
  %parallel = load ptr, ptr %pool
  %total = mul i64 %chunks, %cost
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


def emit_module(program: Program, target: Target) -> str:
    """The module of a program whose memory is planned and whose loops are made."""
    used = {step.kernel for step in program.steps if isinstance(step, Launch)}
    functions = [emit_function(f, target) for f in program.loops if f.name in used]
    constants = [_constant(b) for b in program.buffers if b.kind == "const" and not b.alias_of]
    return "\n".join((
        f'target triple = "{target.triple}"\n', *constants, *functions, _LAUNCH,
        EntryEmitter(program, target).emit(), emit_layout(program),
        f"attributes #0 = {{ {target.attributes} }}\n"))


def pointer_buffers(program: Program) -> list[ProgramBuffer]:
    """The buffers that the caller gives, in the order of the context's pointers."""
    return [b for kind in POINTER_KINDS for b in program.buffers
            if b.kind == kind and not b.alias_of]


def _global(buffer: ProgramBuffer) -> str:
    """The name of the table of a constant buffer."""
    return f"@table.{mangle(buffer.name)}"


def _constant(buffer: ProgramBuffer) -> str:
    kind = stored(buffer.dtype)
    values = ", ".join(f"{kind} {_stored_number(buffer, v)}" for v in buffer.values)
    return (f"{_global(buffer)} = private unnamed_addr constant [{len(buffer.values)} x {kind}]"
            f" [{values}], align {ALIGNMENT}\n")


def _stored_number(buffer: ProgramBuffer, value: float) -> str:
    return str(int(bool(value))) if buffer.dtype.kind == "bool" else number(buffer.dtype, value)


class EntryEmitter:
    """Emits `dlc_entry`."""

    def __init__(self, program: Program, target: Target) -> None:
        self.program, self.target = program, target
        self.writer = Writer()
        self.indices = Indices(self.writer)
        self.buffers = {b.name: b for b in program.buffers}
        self.slots = {b.name: at for at, b in enumerate(pointer_buffers(program))}
        self.temps = {b.name: at for at, b in enumerate(planned(program), 1)}
        self.places: dict[str, str] = {}
        self.mode = "%mode"  # where the caller's floating-point mode is kept
        self.costs = {name: schedule.cost for name, schedule in program.schedules}
        self.loops = {f.name: f for f in program.loops}
        self.args: dict[int, str] = {}  # what each slot of the block of arguments holds

    def emit(self) -> str:
        """The definition as text."""
        launches = [step for step in self.program.steps if isinstance(step, Launch)]
        slots = max((len(s.buffers) + len(s.dims) for s in launches), default=1)
        self.writer.allocas.append(
            f"  %args = alloca [{max(slots, 1)} x i64], align {ALIGNMENT}")
        _load_symbols(self.indices, self.program.symbols, self._field("dims"))
        self._flush_denormals()
        for step in self.program.steps:
            if isinstance(step, Launch):
                self._launch(step)
            elif isinstance(step, Check):
                self._check(step)
        self.writer.line("br label %leave")
        self.writer.start("leave")
        self._restore_mode()
        self.writer.line("ret void")
        return f"define void @dlc_entry(ptr %ctx) #0 {{\n{self.writer.text()}\n}}\n"

    def _field(self, name: str) -> str:
        """A field of the context, loaded once."""
        at = self.indices.address("%ctx", "i64", FIELDS.index(name))
        return self.writer.once(("field", name), f"load ptr, ptr {at}", name)

    def _place(self, name: str) -> str:
        """The address of a buffer."""
        root = self.buffers[name].alias_of or name
        if root not in self.places:
            self.places[root] = self._find(self.buffers[root])
        return self.places[root]

    def _find(self, buffer: ProgramBuffer) -> str:
        if buffer.kind == "random":
            return self._field("random")
        if buffer.kind == "const":
            return _global(buffer)
        if buffer.name in self.slots:
            at = self.indices.address(self._field("pointers"), "ptr", self.slots[buffer.name])
            return self.writer.emit(f"load ptr, ptr {at}", buffer.name)
        at = self.indices.address(self._field("offsets"), "i64", self.temps[buffer.name])
        offset = self.writer.emit(f"load i64, ptr {at}", "offset")
        return self.writer.emit(
            f"getelementptr i8, ptr {self._field('arena')}, i64 {offset}", buffer.name)

    def _launch(self, launch: Launch) -> None:
        function = self.loops[launch.kernel]
        dims = dict(zip(function.symbols, launch.dims, strict=True))
        if len(launch.buffers) != len(function.pointers):
            raise ValueError(f"{launch.kernel} takes {len(function.pointers)} buffers")
        for at, name in enumerate(launch.buffers):
            self._argument(at, "ptr", self._place(name))
        for at, dim in enumerate(launch.dims, len(launch.buffers)):
            self._argument(at, "i64", self.indices.value(dim))
        self._call(function, self.indices.value(substitute(function.chunks, dims)))

    def _argument(self, at: int, kind: str, value: str) -> None:
        """Fills a slot, unless it holds the value still."""
        if self.args.get(at) != value:
            self.args[at] = value
            place = self.indices.address("%args", "i64", at)
            self.writer.line(f"store {kind} {value}, ptr {place}")

    def _call(self, function: LoopFunction, chunks: str) -> None:
        name = function_name(function)
        if chunks == "1":
            self.writer.line(f"call void {name}(ptr %args, i64 0)")
            return
        self.writer.line(f"call void @launch(ptr {self._field('pool')}, ptr {name}, ptr %args,"
                         f" i64 {chunks}, i64 {self.costs.get(function.name, 0)})")

    def _check(self, check: Check) -> None:
        """Leaves with the check's code in the status if its bool is false."""
        well = self.writer.emit(f"load i8, ptr {self._place(check.buffer)}", "well")
        status = self._field("status")
        code, value = (self.indices.address(status, "i64", at) for at in (0, 1))
        failed = self.writer.emit(f"icmp eq i8 {well}, 0", "failed")
        stop, on = self.writer.label("stop"), self.writer.label("on")
        self.writer.line(f"br i1 {failed}, label %{stop}, label %{on}")
        self.writer.start(stop)
        self.writer.line(f"store i64 {check.code}, ptr {code}")
        self.writer.line(f"store i64 0, ptr {value}")
        self.writer.line("br label %leave")
        self.writer.start(on)

    def _flush_denormals(self) -> None:
        """Numbers too small to be normal count as 0: working on them takes a hundred cycles."""
        if self.target.is_arm:
            before = self.writer.emit("call i64 @llvm.aarch64.get.fpcr()", "fpcr")
            self.mode = before
            after = self.writer.emit(f"or i64 {before}, {1 << 24}", "fpcr")
            self.writer.line(f"call void @llvm.aarch64.set.fpcr(i64 {after})")
            return
        self.writer.allocas += ["  %mode = alloca i32", "  %flush = alloca i32"]
        self.writer.line("call void @llvm.x86.sse.stmxcsr(ptr %mode)")
        before = self.writer.emit("load i32, ptr %mode", "mxcsr")
        after = self.writer.emit(f"or i32 {before}, {0x8040}", "mxcsr")
        self.writer.line(f"store i32 {after}, ptr %flush")
        self.writer.line("call void @llvm.x86.sse.ldmxcsr(ptr %flush)")

    def _restore_mode(self) -> None:
        if self.target.is_arm:
            self.writer.line(f"call void @llvm.aarch64.set.fpcr(i64 {self.mode})")
        else:
            self.writer.line(f"call void @llvm.x86.sse.ldmxcsr(ptr {self.mode})")


def _load_symbols(indices: Indices, names: tuple[str, ...], dims: str) -> None:
    for at, name in enumerate(names):
        place = indices.address(dims, "i64", at)
        register = indices.writer.emit(f"load i64, ptr {place}", name)
        indices.define(name, Name(register, 0, (0, inf)))


def emit_layout(program: Program) -> str:
    """The definition of `dlc_layout`."""
    writer = Writer()
    indices = Indices(writer)
    _load_symbols(indices, program.symbols, "%dims")
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


