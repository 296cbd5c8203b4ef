"""The text form of a Program, and back: `parse_program(print_program(p)) == p`.

    program fit<N> {
      require N >= 1 "a batch is not empty" @loc(net.dl:3:9)
      buffer x: u8[N, 28, 28] in
      buffer w: f32[6, 25] @ (0/16, 1, 0) var
      buffer y: f32[N, 10] temp alive 0 to 3 above h, g @path("Net.scores")
      buffer y.flat: f32[10*N] temp alias y
      launch dense<N, 2*N>(x, w, y) @path("Net.scores") @loc(net.dl:8:13)
      check ok 1 "labels are below 10" @loc(net.dl:9:3)
      commit
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
from dlc.ir.loops_text import print_loops, read_loops
from dlc.ir.notation import path_text, places_text, quoted, value_text
from dlc.ir.program import BufferKind, Check, Commit, Launch, Program, ProgramBuffer, Step
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
    for buffer in program.buffers:
        lines += _buffer(buffer, data)
    for step in program.steps:
        lines += _step(step)
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


def _buffer(buffer: ProgramBuffer, data: dict[str, list[str]]) -> list[str]:
    alias = f" alias {name_text(buffer.alias_of)}" if buffer.alias_of else ""
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


def _step(step: Step) -> list[str]:
    if isinstance(step, Commit):
        return ["  commit"]
    if isinstance(step, Check):
        return [f"  check {name_text(step.buffer)} {step.code} {quoted(step.text)}"
                f"{places_text(step.locs)}"]
    dims = f"<{', '.join(map(str, step.dims))}>" if step.dims else ""
    buffers = list(map(name_text, step.buffers))
    lines = joined(f"  launch {name_text(step.kernel)}{dims}(", buffers, ")", "      ")
    return [*lines[:-1], f"{lines[-1]}{path_text(step.path)}{places_text(step.locs)}"]


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
        conditions = self._conditions()
        buffers = []
        while scan.take("buffer"):
            buffers.append(self._buffer())
        steps = []
        while not scan.take("}"):
            steps.append(self._step())
        scan.at = end
        return Program(name, symbols, tuple(buffers), tuple(steps), tuple(self.kernels),
                       tuple(self.schedules), tuple(self.loops), conditions)

    def _skip_program(self) -> None:
        """Numbers stand after the buffers that hold them, so what follows is read first."""
        self.scan.expect("program")
        while self.scan.word != "}" and self.scan.kind != "end":
            self.scan.at += 1
        self.scan.expect("}")

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
            left = scan.dim()
            if scan.word not in _RELATIONS:
                scan.fail(f"expected one of {', '.join(_RELATIONS)}, found {scan.word!r}")
            relation = _RELATIONS[scan.next("sign")]
            right = scan.dim()
            found.append(Condition(left, relation, right, scan.string(), scan.places()))
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
                             values, default)

    def _values(self) -> tuple[float, ...]:
        scan = self.scan
        if scan.kind != "mark":
            return scan.bracketed("[", "]", scan.number)
        name = scan.word[1:]
        if name not in self.data:
            scan.fail(f"there is no data {name}")
        scan.next("mark")
        return self.data[name]

    def _step(self) -> Step:
        scan = self.scan
        if scan.take("commit"):
            return Commit()
        if scan.take("check"):
            return Check(scan.name(), scan.integer(), scan.string(), scan.places())
        scan.expect("launch")
        kernel = scan.name()
        dims = scan.bracketed("<", ">", scan.dim) if scan.word == "<" else ()
        buffers = scan.bracketed("(", ")", scan.name)
        return Launch(kernel, buffers, dims, scan.path(), scan.places())


__all__ = ["TextError", "parse_program", "print_program"]
