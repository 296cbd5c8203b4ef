"""The pool's emitted LLVM IR, read as what a thread does: a flat list of instructions.

Calls of functions in the text are unfolded, so that a thread has one place and one set of
registers. What is not in the text (system calls, threads, pauses) stays a call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

CALL = re.compile(r"call \S+(?: \(.*?\))? (@[\w.]+|%[\w.]+)\((.*)\)")
REGISTER = re.compile(r"%[\w.]+")
FUNCTION = re.compile(r"^define (?:internal )?\S+ (@\w+)\((.*?)\)[^\n]*\{\n(.*?)^\}", re.M | re.S)
OPAQUE = frozenset({"@now", "@leave"})
"""Not unfolded though they are in the text: what time it is, is open."""


@dataclass(slots=True)
class Instruction:
    """`result = text`; a branch's targets and a phi's ways are labels."""

    text: str
    result: str = ""
    uses: tuple[str, ...] = ()

    @property
    def op(self) -> str:
        """Its first word."""
        return self.text.split(maxsplit=1)[0]


@dataclass(slots=True)
class Block:
    """Instructions in a row; `origin` is the label that phis know it by."""

    label: str
    origin: str
    body: list[Instruction] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Function:
    """A function as it is written."""

    parameters: tuple[str, ...]
    blocks: tuple[Block, ...]


def read(text: str) -> dict[str, Function]:
    """All functions that a text defines."""
    found = {}
    for name, parameters, body in FUNCTION.findall(re.sub(r";[^\n]*", "", text)):
        whole = re.sub(r",\n\s+", ", ", body)
        found[name] = Function(tuple(REGISTER.findall(parameters)), tuple(_blocks(whole)))
    return found


def _blocks(body: str) -> Iterator[Block]:
    block = Block("entry", "entry")
    for line in filter(None, map(str.strip, body.splitlines())):
        if line.endswith(":"):
            if block.body:
                yield block
            block = Block(line[:-1], line[:-1])
        else:
            block.body.append(_instruction(line))
    yield block


def _instruction(line: str) -> Instruction:
    result, _, text = line.rpartition(" = ") if re.match(r"%[\w.]+ = ", line) else ("", "", line)
    labels = set(re.findall(r"label (%[\w.]+)", text))
    if text.startswith("phi"):
        labels |= set(re.findall(r", (%[\w.]+)\]", text))
    return Instruction(text, result, tuple(r for r in REGISTER.findall(text) if r not in labels))


class Flat:
    """What a thread runs from `root` on.

    `code` is the instructions, `blocks` the place of each label, `origin` the label that phis know
    each place by, `live` the registers that are needed when an instruction is to run, and `inside`
    the functions around each.
    """

    def __init__(self, functions: dict[str, Function], root: str) -> None:
        self._functions, self._copies = functions, 0
        self.code: list[Instruction] = []
        self.blocks: dict[str, int] = {}
        self.origin: list[str] = []
        self.inside: list[tuple[str, ...]] = []
        self.parameters = functions[root].parameters
        self._unfold(root, "", {name: name for name in self.parameters}, "", "", (root,))
        self.live = _live(self)

    def _unfold(self, name: str, mark: str, known: dict[str, str], result: str, after: str,
                inside: tuple[str, ...]) -> None:
        """Appends a function; it gives `result` and goes on at `after`."""
        for block in self._functions[name].blocks:
            origin = mark + block.origin
            self.blocks[mark + block.label] = len(self.code)
            for each in block.body:
                line = _renamed(each, mark, known)
                called = CALL.match(line.text)
                if called and called[1] in self._functions and called[1] not in OPAQUE:
                    self._call(line, called, origin, inside)
                elif line.op == "ret" and after:
                    self._return(line, result, after, origin, inside)
                else:
                    self._append(line, origin, inside)

    def _append(self, line: Instruction, origin: str, inside: tuple[str, ...]) -> None:
        self.code.append(line)
        self.origin.append(origin)
        self.inside.append(inside)

    def _call(self, line: Instruction, called: re.Match[str], origin: str,
              inside: tuple[str, ...]) -> None:
        self._copies += 1
        mark = f"{self._copies}/"
        given = [argument.split()[-1] for argument in called[2].split(", ")]
        names = self._functions[called[1]].parameters
        following = f"{mark}after"
        self._append(Instruction(f"br label %{mark}{self._functions[called[1]].blocks[0].label}"),
                     origin, inside)
        self._unfold(called[1], mark, dict(zip(names, given, strict=True)), line.result, following,
                     (*inside, called[1]))
        self.blocks[following] = len(self.code)

    def _return(self, line: Instruction, result: str, after: str, origin: str,
                inside: tuple[str, ...]) -> None:
        if result:
            value = line.text.split()[-1]
            uses = (value,) if value.startswith("%") else ()
            self._append(Instruction(f"set {value}", result, uses), origin, inside)
        self._append(Instruction(f"br label %{after}"), origin, inside)


def _renamed(line: Instruction, mark: str, known: dict[str, str]) -> Instruction:
    """With registers and labels of one copy of a function."""
    text = REGISTER.sub(lambda found: known.get(found[0], f"%{mark}{found[0][1:]}"), line.text)
    result = f"%{mark}{line.result[1:]}" if line.result else ""
    uses = tuple(known.get(name, f"%{mark}{name[1:]}") for name in line.uses)
    return replace(line, text=text, result=result,
                   uses=tuple(name for name in uses if name.startswith("%")))


def ways(line: Instruction) -> list[tuple[str, str]]:
    """Value and label of each way into a phi."""
    return re.findall(r"\[(\S+), %([\w./]+)\]", line.text)


def targets(line: Instruction) -> list[str]:
    """The labels that a branch may go to."""
    return re.findall(r"label %([\w./]+)", line.text)


def _successors(flat: Flat, at: int) -> list[int]:
    line = flat.code[at]
    if line.op == "br":
        return [flat.blocks[label] for label in targets(line)]
    return [] if line.op == "ret" else [at + 1]


def _phis(flat: Flat, at: int) -> Iterator[Instruction]:
    while flat.code[at].op == "phi":
        yield flat.code[at]
        at += 1


def _needed(flat: Flat, at: int, target: int, live: list[frozenset[str]]) -> set[str]:
    """What must be known to go from an instruction to the next one."""
    needed = set(live[target])
    if flat.code[at].op == "br":
        phis = list(_phis(flat, target))
        needed -= {phi.result for phi in phis}
        needed |= {value for phi in phis for value, label in ways(phi)
                   if label == flat.origin[at] and value.startswith("%")}
    return needed


def _live(flat: Flat) -> list[frozenset[str]]:
    """For each instruction the registers that are used there or later."""
    live: list[frozenset[str]] = [frozenset()] * len(flat.code)
    changed = True
    while changed:
        changed = False
        for at in reversed(range(len(flat.code))):
            line = flat.code[at]
            after = set().union(*(_needed(flat, at, to, live) for to in _successors(flat, at)))
            found = frozenset(after - {line.result} | set(line.uses if line.op != "phi" else ()))
            if found != live[at]:
                live[at], changed = found, True
    return live
