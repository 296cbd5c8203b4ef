"""The text form of a Program, and back: `parse_program(print_program(p)) == p`.

    program fit<N> {
      require N >= 1 "a batch is not empty" @loc(net.dl:3:9)
      size count at 2 default 10
      buffer x: u8[N, 28, 28] in
      buffer w: f32[6, 25] @ (0/16, 1, 0) var
      buffer y: f32[N, 10] temp alive 0 to 3 above h, g @path("Net.scores")
      buffer y.flat: f32[10*N] temp alias y
      buffer y.row: f32[10] temp alias y + 10*t
      variant dense.large of dense where N >= 512, M % 4 == 0
      launch dense<N, 2*N>(x, w, y) @path("Net.scores") @loc(net.dl:8:13)
      check ok 1 "labels are below 10" @loc(net.dl:9:3)
      commit
      loop t < N {
        launch row(x, y.row)
      }
      loop t.1 < N resident (row), (row.1) {
        launch row(x, y.row)
      }
      parallel piece < (N + 7) // 8 cost 900*N {
        launch row(x.piece, y.piece)
      }
      while t.2 more {
        launch test(y, more)
      } do {
        print 1 ["y is ", ""](y)
      }
      if more {
        launch one(y)
      } else {
        check ok 2 "{value} is below 10" value bad
      }
    }

Kernels follow, each with its schedule and its loops, then the numbers of large constants (`data`),
by a hash of what they hold.
"""

from __future__ import annotations

import hashlib
from typing import Final, get_args

from dlc.ir.graph import Condition, Relation
from dlc.ir.kernel import Kernel
from dlc.ir.kernel_text import print_kernel, read_kernel, read_tensor, tensor_text
from dlc.ir.loops import LoopFunction
from dlc.ir.loops_parse import read_loops
from dlc.ir.loops_text import print_loops
from dlc.ir.notation import path_text, places_text, quoted, value_text
from dlc.ir.program import (
    Branch,
    BufferKind,
    Check,
    Commit,
    Comparison,
    Launch,
    Loop,
    Parallel,
    Print,
    Program,
    ProgramBuffer,
    Size,
    Step,
    Variant,
)
from dlc.ir.schedule import Schedule
from dlc.ir.schedule_text import print_schedule, read_schedule
from dlc.ir.text import BIG
from dlc.ir.tokens import Scanner, TextError, joined, name_text, names_text

_KINDS: Final[dict[str, BufferKind]] = {name: name for name in get_args(BufferKind)}
_RELATIONS: Final[dict[str, Relation]] = {name: name for name in get_args(Relation)}


def print_program(program: Program) -> str:
    """The text of a program with its kernels, schedules and loops."""
    data: dict[str, list[str]] = {}
    symbols = f"<{names_text(program.symbols)}>" if program.symbols else ""
    lines = [f"program {name_text(program.name)}{symbols} {{"]
    lines += [f"  {_condition(condition)}" for condition in program.conditions]
    lines += [f"  {_size(size)}" for size in program.sizes]
    for buffer in program.buffers:
        lines += _buffer(buffer, data)
    lines += [f"  {variant_text(variant)}" for variant in program.variants]
    lines += _steps(program.steps, "  ")
    blocks = ["\n".join([*lines, "}"]) + "\n", *_code(program)]
    for name, items in data.items():
        blocks.append("\n".join(joined(f"data {name} = [", items, "]", "  ")) + "\n")
    return "\n".join(blocks)


def _code(program: Program) -> list[str]:
    """Kernels, schedules and loops, those of the same place together."""
    blocks: list[str] = []
    lists = (program.kernels, program.schedules, program.loops)
    for at in range(max(map(len, lists))):
        if at < len(program.kernels):
            blocks.append(print_kernel(program.kernels[at]))
        if at < len(program.schedules):
            name, schedule = program.schedules[at]
            blocks.append(print_schedule(schedule, name))
        if at < len(program.loops):
            blocks.append(print_loops(program.loops[at]))
    return blocks


def _condition(condition: Condition) -> str:
    return (f"require {condition.left} {condition.relation} {condition.right} "
            f"{quoted(condition.text)}{places_text(condition.locs)}")


def _size(size: Size) -> str:
    default = "" if size.default is None else f" default {value_text(size.default)}"
    return f"size {name_text(size.name)} at {size.place}{default}"


def variant_text(variant: Variant) -> str:
    """`variant dense.large of dense where N >= 512`"""
    where = ", ".join(map(str, variant.where))
    return f"variant {name_text(variant.kernel)} of {name_text(variant.of)} where {where}"


def _buffer(buffer: ProgramBuffer, data: dict[str, list[str]]) -> list[str]:
    alias = f" alias {name_text(buffer.alias_of)}" if buffer.alias_of else ""
    if buffer.offset != 0:
        alias += f" + {buffer.offset}"
    planned = buffer.first != -1 or buffer.last != -1
    alive = f" alive {buffer.first} to {buffer.last}" if planned else ""
    head = (f"  buffer {name_text(buffer.name)}: "
            f"{tensor_text(buffer.dtype, buffer.dims, buffer.layout)} {buffer.kind}{alias}{alive}")
    if buffer.default is not None:
        head += f" default {value_text(buffer.default)}"
    path = path_text(buffer.path)
    values = list(map(value_text, buffer.values))
    if len(values) > BIG:
        name = "h" + hashlib.sha256(",".join(values).encode()).hexdigest()[:16]
        data[name] = values
        path += f" = #{name}"
    elif values:
        path += f" = [{', '.join(values)}]"
    if not buffer.above:
        return [f"{head}{path}"]
    lines = joined(f"{head} above ", list(map(name_text, buffer.above)), "", "      ")
    return [*lines[:-1], lines[-1] + path]


def _steps(steps: tuple[Step, ...], indent: str) -> list[str]:
    return [line for step in steps for line in _step(step, indent)]


def _step(step: Step, indent: str) -> list[str]:
    match step:
        case Commit():
            return [f"{indent}commit"]
        case Check():
            value = f" value {name_text(step.value)}" if step.value else ""
            return [f"{indent}check {name_text(step.buffer)} {step.code} {quoted(step.text)}{value}"
                    f"{places_text(step.locs)}"]
        case Print():
            parts = ", ".join(map(quoted, step.parts))
            return [f"{indent}print {step.code} [{parts}]({names_text(step.buffers)})"
                    f"{places_text(step.locs)}"]
        case Loop():
            return _loop(step, indent)
        case Branch():
            return [f"{indent}if {name_text(step.condition)} {{",
                    *_steps(step.then, f"{indent}  "), f"{indent}}} else {{",
                    *_steps(step.otherwise, f"{indent}  "), f"{indent}}}"]
        case Parallel():
            return [f"{indent}parallel {name_text(step.var)} < {step.count} cost {step.cost} {{",
                    *_steps(step.body, f"{indent}  "), f"{indent}}}"]
        case Launch():
            return _launch(step, indent)


def _loop(loop: Loop, indent: str) -> list[str]:
    body = [*_steps(loop.body, f"{indent}  "), f"{indent}}}"]
    if not loop.condition:
        resident = ", ".join(f"({names_text(kernels)})" for kernels in loop.resident)
        resident = f" resident {resident}" if resident else ""
        return [f"{indent}loop {name_text(loop.var)} < {loop.count}{resident} {{", *body]
    return [f"{indent}while {name_text(loop.var)} {name_text(loop.condition)} {{",
            *_steps(loop.test, f"{indent}  "), f"{indent}}} do {{", *body]


def _launch(launch: Launch, indent: str) -> list[str]:
    dims = f"<{', '.join(map(str, launch.dims))}>" if launch.dims else ""
    buffers = list(map(name_text, launch.buffers))
    word = "beside" if launch.beside else "launch"
    lines = joined(f"{indent}{word} {name_text(launch.kernel)}{dims}(", buffers, ")",
                   f"{indent}    ")
    return [*lines[:-1], f"{lines[-1]}{path_text(launch.path)}{places_text(launch.locs)}"]


def parse_program(text: str) -> Program:
    """The program that `text` writes down; TextError for anything else."""
    scan = Scanner(text)
    return _ProgramParser(scan).program()


class _ProgramParser:
    """Reads a program, its kernels, schedules, loops and numbers."""

    def __init__(self, scanner: Scanner) -> None:
        self.scan = scanner
        self.data: dict[str, tuple[float, ...]] = {}
        self.kernels: list[Kernel] = []
        self.schedules: list[tuple[str, Schedule]] = []
        self.loops: list[LoopFunction] = []

    def program(self) -> Program:
        """`program name<symbols> { … }`, then kernels, schedules, loops and data."""
        scan = self.scan
        start = scan.at
        self._skip_program()
        while scan.kind != "end":
            self._block()
        end, scan.at = scan.at, start
        scan.expect("program")
        name = scan.name()
        symbols = scan.bracketed("<", ">", scan.name) if scan.word == "<" else ()
        scan.expect("{")
        conditions, sizes = self._conditions(), self._sizes()
        buffers = []
        while scan.take("buffer"):
            buffers.append(self._buffer())
        variants = []
        while scan.take("variant"):
            variants.append(self._variant())
        steps = self._steps()
        scan.at = end
        return Program(name, symbols, tuple(buffers), steps, tuple(self.kernels),
                       tuple(self.schedules), tuple(self.loops), conditions, sizes,
                       tuple(variants))

    def _skip_program(self) -> None:
        """Numbers stand after the buffers that hold them, so what follows is read first."""
        scan, depth = self.scan, 0
        scan.expect("program")
        while scan.kind != "end" and (scan.word != "}" or depth > 1):
            depth += (scan.word == "{") - (scan.word == "}")
            scan.at += 1
        scan.expect("}")

    def _block(self) -> None:
        scan = self.scan
        if scan.word == "kernel":
            self.kernels.append(read_kernel(scan))
        elif scan.word == "schedule":
            self.schedules.append(read_schedule(scan))
        elif scan.word == "loops":
            self.loops.append(read_loops(scan))
        else:
            scan.expect("data")
            name = scan.next("word")
            scan.expect("=")
            self.data[name] = scan.bracketed("[", "]", scan.number)

    def _conditions(self) -> tuple[Condition, ...]:
        scan = self.scan
        found = []
        while scan.take("require"):
            told = self._comparison()
            found.append(Condition(
                told.left, told.relation, told.right, scan.string(), scan.places()))
        return tuple(found)

    def _comparison(self) -> Comparison:
        scan = self.scan
        left = scan.dim()
        if scan.word not in _RELATIONS:
            scan.fail(f"expected one of {', '.join(_RELATIONS)}, found {scan.word!r}")
        return Comparison(left, _RELATIONS[scan.next("sign")], scan.dim())

    def _variant(self) -> Variant:
        scan = self.scan
        kernel = scan.name()
        scan.expect("of")
        of = scan.name()
        scan.expect("where")
        return Variant(kernel, of, scan.items(self._comparison))

    def _sizes(self) -> tuple[Size, ...]:
        scan = self.scan
        found = []
        while scan.take("size"):
            name = scan.name()
            scan.expect("at")
            place = scan.integer()
            found.append(Size(name, place, scan.number() if scan.take("default") else None))
        return tuple(found)

    def _buffer(self) -> ProgramBuffer:
        scan = self.scan
        name = scan.name()
        scan.expect(":")
        dtype, dims, layout = read_tensor(scan)
        if scan.word not in _KINDS:
            scan.fail(f"expected one of {', '.join(_KINDS)}, found {scan.word!r}")
        kind = _KINDS[scan.next("word")]
        alias = scan.name() if scan.take("alias") else ""
        offset = scan.dim() if alias and scan.take("+") else 0
        first = last = -1
        if scan.take("alive"):
            first = scan.integer()
            scan.expect("to")
            last = scan.integer()
        default = scan.number() if scan.take("default") else None
        above = scan.items(scan.name) if scan.take("above") else ()
        path = scan.path()
        values = self._values() if scan.take("=") else ()
        return ProgramBuffer(name, dtype, dims, kind, layout, alias, first, last, above, path,
                             values, default, offset)

    def _values(self) -> tuple[float, ...]:
        scan = self.scan
        if scan.kind != "mark":
            return scan.bracketed("[", "]", scan.number)
        name = scan.word[1:]
        if name not in self.data:
            scan.fail(f"there is no data {name}")
        scan.next("mark")
        return self.data[name]

    def _steps(self) -> tuple[Step, ...]:
        """Steps up to a closing brace, which is taken."""
        found = []
        while not self.scan.take("}"):
            found.append(self._step())
        return tuple(found)

    def _resident(self) -> tuple[tuple[str, ...], ...]:
        found = []
        more = self.scan.take("resident")
        while more:
            found.append(self.scan.bracketed("(", ")", self.scan.name))
            more = self.scan.take(",")
        return tuple(found)

    def _block_of_steps(self) -> tuple[Step, ...]:
        self.scan.expect("{")
        return self._steps()

    def _step(self) -> Step:
        scan = self.scan
        if scan.take("commit"):
            return Commit()
        if scan.take("check"):
            name, code, text = scan.name(), scan.integer(), scan.string()
            value = scan.name() if scan.take("value") else ""
            return Check(name, code, text, scan.places(), value)
        if scan.take("print"):
            code, parts = scan.integer(), scan.bracketed("[", "]", scan.string)
            return Print(scan.bracketed("(", ")", scan.name), code, parts, scan.places())
        if scan.take("loop"):
            name = scan.name()
            scan.expect("<")
            count, resident = scan.dim(), self._resident()
            return Loop(name, count, self._block_of_steps(), resident=resident)
        if scan.take("parallel"):
            name = scan.name()
            scan.expect("<")
            count = scan.dim()
            scan.expect("cost")
            return Parallel(name, count, scan.dim(), self._block_of_steps())
        if scan.take("while"):
            name, condition, test = scan.name(), scan.name(), self._block_of_steps()
            scan.expect("do")
            return Loop(name, 0, self._block_of_steps(), test, condition)
        if scan.take("if"):
            condition, then = scan.name(), self._block_of_steps()
            scan.expect("else")
            return Branch(condition, then, self._block_of_steps())
        beside = scan.take("beside")
        if not beside:
            scan.expect("launch")
        kernel = scan.name()
        dims = scan.bracketed("<", ">", scan.dim) if scan.word == "<" else ()
        buffers = scan.bracketed("(", ")", scan.name)
        return Launch(kernel, buffers, dims, scan.path(), scan.places(), beside)


__all__ = ["TextError", "parse_program", "print_program"]
