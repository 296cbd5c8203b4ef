"""What can be written at a place: members behind a point, settings, arguments, names in reach.

The text is wrong most of the time while it is typed. What stands before the place is therefore read
as text, and the names around it are those of the text without the line that is being written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from dlc.frontend.elaborate.builtins import BUILTINS
from dlc.frontend.elaborate.modules import LIBRARY, Module, Program
from dlc.frontend.inputs import KEYS
from dlc.frontend.server.analysis import read
from dlc.frontend.server.names import Meaning, Names, Scope, scope_of
from dlc.frontend.server.places import Point
from dlc.frontend.server.pointed import settable
from dlc.frontend.server.reference import KEYWORDS, SETTINGS, TYPES
from dlc.frontend.server.texts import Texts
from dlc.frontend.server.told import document, signature
from dlc.frontend.server.tree import path_to
from dlc.frontend.text import syntax
from dlc.frontend.text.parse import parse_expression
from dlc.frontend.text.recovery import without_texts
from dlc.frontend.text.words import values
from dlc.frontend.training.data import DATA_SETS
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import UserError

_CHAIN: Final = r"[A-Za-z_]\w*(?:\[[^\[\]]*\]|\.[A-Za-z_]\w*)*"
_BEHIND: Final = re.compile(rf"({_CHAIN})\.\w*$")
_CALLED: Final = re.compile(rf"({_CHAIN})[ \t]*$")
_WORD: Final = re.compile(r"\w*$")
_DATA: Final = re.compile(r"\bdata[ \t]*=[ \t]*\"[^\"\n]*$")
_IMPORT: Final = re.compile(r"[ \t]*import[ \t]+\w*$")
_SETTING: Final = re.compile(r"(?:^|[{,])[ \t]*\w*$")
_GIVEN: Final = re.compile(r"(\w+)[ \t]*=(?!=)")
_FARTHEST: Final = 4000  # characters back to the bracket of a call


@dataclass(frozen=True, slots=True)
class Proposal:
    """One thing that can be written: its kind, what it is, what is said of it, what is put."""

    name: str
    kind: str
    detail: str = ""
    document: str = ""
    text: str = ""


class _Place:
    """A place in a text that is being written."""

    def __init__(self, path: Path, texts: Texts, point: Point) -> None:
        self.source = texts.whole(path)
        self.point = point
        self.code = without_texts(self.source.text)
        lines = self.source.text.split("\n")
        self.offset = sum(len(line) + 1 for line in lines[: point[0] - 1]) + point[1] - 1
        self.line = self.source.line(point[0])[: point[1] - 1]
        program, module = _whole(path, texts, point, self.source.text)
        self.names = Names(program) if program is not None else None
        self.scope = scope_of(module, path_to(module.tree, point), point) if module else None

    @property
    def in_text(self) -> bool:
        """Whether it stands in a string or in a comment."""
        quiet = without_texts(self.source.text[: self.offset] + "§")
        return not quiet.endswith("§")

    def before(self) -> str:
        """The code before the place, for as far as a call may reach."""
        return self.code[max(0, self.offset - _FARTHEST) : self.offset]


def _whole(
    path: Path, texts: Texts, point: Point, text: str
) -> tuple[Program | None, Module | None]:
    """The program, read so that the definition at the point is in it if there is a way."""
    lines = text.split("\n")
    best: Program | None = None
    for line in (lines[point[0] - 1], ""):
        tried = texts.copy()
        tried.put(path, "\n".join([*lines[: point[0] - 1], line, *lines[point[0] :]]))
        try:
            program = read(path, tried)
        except UserError:
            continue
        best = best or program
        if len(path_to(program.main.tree, point)) > 1:
            return program, program.main
    return best, best.main if best is not None else None


def complete(path: Path, texts: Texts, point: Point) -> list[Proposal]:
    """What can be written at a point, the nearest first; each name once."""
    found: dict[str, Proposal] = {}
    for each in _proposals(_Place(path, texts, point)):
        found.setdefault(each.name, each)
    return list(found.values())


def _proposals(place: _Place) -> Iterator[Proposal]:
    if _DATA.search(place.line):
        yield from (Proposal(name, "text") for name in DATA_SETS)
        return
    if place.in_text:
        return
    if _IMPORT.match(place.line):
        yield from (Proposal(p.stem, "module") for p in sorted(LIBRARY.glob("*.dl"))
                    if p.stem != "prelude")
        return
    behind = _BEHIND.search(place.line)
    if behind is not None:
        yield from _members(place, behind[1])
        return
    if re.search(r"[\d)\]]\.\w*$", place.line):
        if not re.search(r"\d\.\w*$", place.line):
            yield from _TENSOR
        return
    if place.names is not None and place.scope is not None:
        yield from _arguments(place, place.names, place.scope)
        yield from _settings(place, place.names, place.scope)
        for meaning in place.names.in_reach(place.scope):
            yield _proposal(place.names.program, meaning)
    yield from _words()


_TENSOR: Final = (
    Proposal("T", "field", "the last two dims, the other way round"),
    Proposal("shape", "field", "the dims, as integers"),
)


def _words() -> Iterator[Proposal]:
    for word, line in KEYWORDS.items():
        yield Proposal(word, "value" if word in values() else "keyword", "", line)
    for word, line in TYPES.items():
        yield Proposal(word, "type", "", line)


def _members(place: _Place, chain: str) -> Iterator[Proposal]:
    """What stands behind a point."""
    expr = _parsed(place, chain)
    if place.names is None or place.scope is None or expr is None:
        return
    owner = place.names.made(place.scope, expr)
    if owner is None:
        yield from _TENSOR
    for meaning in place.names.within(owner):
        if not meaning.name.startswith("_"):
            yield _proposal(place.names.program, meaning)


def _parsed(place: _Place, text: str) -> syntax.Expr | None:
    try:
        return parse_expression(text, place.source.name, *place.point)
    except UserError:
        return None


def _arguments(place: _Place, names: Names, scope: Scope) -> Iterator[Proposal]:
    """The parameters of the call that the place stands in, but for those that are given."""
    before = place.before()
    opened = _open_bracket(before)
    called = _CALLED.search(before[:opened]) if opened is not None else None
    expr = _parsed(place, called[1]) if called is not None else None
    if opened is None or expr is None or not isinstance(expr, syntax.Name | syntax.Field):
        return
    given = set(_GIVEN.findall(before[opened:]))
    for name, detail in _parameters(names, scope, expr):
        if name not in given:
            yield Proposal(f"{name}=", "argument", detail)


def _parameters(names: Names, scope: Scope, expr: syntax.Expr) -> Iterator[tuple[str, str]]:
    meaning = names.meaning(scope, expr)
    if meaning is not None and meaning.kind == "builtin":
        yield from ((name, "") for name in BUILTINS[meaning.name].parameters)
        return
    for each in names.parameters(scope, expr):
        yield each.name, _line(signature(names.program, each))


def _open_bracket(code: str) -> int | None:
    """Where the innermost `(` stands that is open at the end."""
    depth = 0
    for at in range(len(code) - 1, -1, -1):
        char = code[at]
        if char in ")]}":
            depth += 1
        elif char in "([{":
            if not depth:
                return at if char == "(" else None
            depth -= 1
    return None


def _settings(place: _Place, names: Names, scope: Scope) -> Iterator[Proposal]:
    """The settings of a `train` block."""
    if not isinstance(scope.outer, syntax.Train) or not _SETTING.search(place.line):
        return
    given = {setting.name.text for setting in scope.outer.settings}
    for name in KEYS:
        if name not in given:
            yield Proposal(name, "setting", "", SETTINGS[name], f"{name} = ")
    for each in settable(names, scope):
        if each.name not in given:
            yield replace(_proposal(names.program, each), kind="setting", text=f"{each.name} = ")


def _proposal(program: Program, meaning: Meaning) -> Proposal:
    detail = "" if meaning.kind in ("local", "size") else _line(signature(program, meaning))
    return Proposal(meaning.name, meaning.kind, detail, document(program, meaning))


def _line(text: str) -> str:
    return " ".join(text.split())
