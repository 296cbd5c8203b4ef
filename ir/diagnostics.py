"""Errors of the user, said in the user's words: places, diagnostics, their one renderer.

A `Diagnostic` names a code, says what is wrong, and where. Checkers add what they find to a
`Diagnostics` and raise all of it together as one `UserError`. A fault of ours is an
`InternalError`: another class, so that nobody mistakes one for the other.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Final

from dlc.ir.dataclass import dataclass

CAP: Final = 20  # diagnostics shown at once
_LONGEST: Final = 60  # characters of a name that is held against others
WIDTH: Final = 160  # characters of a source line shown


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A stretch of a file's text: lines and columns count from 1, the end is exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def to(self, end: Span) -> Span:
        """From the start of this one to the end of `end`."""
        return Span(self.file, self.line, self.column, end.end_line, end.end_column)


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing that is wrong. `notes` are lines of evidence, `help` says what to do instead.

    A diagnostic without a span is about no place in a text (a missing folder, a weights file).
    """

    code: str
    message: str
    span: Span | None = None
    notes: tuple[str, ...] = ()
    help: str = ""

    def as_json(self) -> dict[str, object]:
        """What a program reads in place of the rendered text."""
        place: dict[str, object] = {}
        if self.span is not None:
            place = {
                "file": self.span.file,
                "line": self.span.line,
                "column": self.span.column,
                "end_line": self.span.end_line,
                "end_column": self.span.end_column,
            }
        return {
            "code": self.code,
            "message": self.message,
            **place,
            "notes": list(self.notes),
            "help": self.help,
        }


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A text and the name under which messages speak of it. Line ends are `\\n`."""

    name: str
    text: str
    _lines: list[str] = field(default_factory=list, repr=False, compare=False)

    def line(self, number: int) -> str:
        """Line `number`, counted from 1, without its end; empty if there is no such line."""
        if not self._lines:
            self._lines.extend(self.text.split("\n"))
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""


Sources = Mapping[str, SourceFile]


class UserError(Exception):
    """What the user has to mend. `str` of it is the rendered text."""

    def __init__(self, diagnostics: Iterable[Diagnostic], sources: Sources | None = None) -> None:
        self.diagnostics = tuple(diagnostics)
        self.sources: Sources = sources or {}
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        shown = [render(d, self.sources) for d in self.diagnostics[:CAP]]
        left = len(self.diagnostics) - CAP
        if left > 0:
            shown.append(f"and {plural(left, 'more error')}")
        return "\n\n".join(shown)


class InternalError(Exception):
    """A fault of the compiler itself: `stage` is the pass that had it, `dump` a text to attach."""

    def __init__(self, message: str, stage: str = "", dump: str = "") -> None:
        self.stage = stage
        self.dump = dump
        where = f" (in {stage})" if stage else ""
        super().__init__(f"internal error{where}: {message}\nThis is a fault of dlc, not yours.")


class Diagnostics:
    """Collects what is wrong, so that all independent errors of a program are told together."""

    def __init__(self, sources: Sources | None = None) -> None:
        self.sources: Sources = sources if sources is not None else {}
        self._found: dict[tuple[str, Span | str], Diagnostic] = {}

    def add(self, diagnostic: Diagnostic) -> None:
        """Keeps one; a place is blamed once for one thing, by whatever way it was reached."""
        self._found.setdefault((diagnostic.code, diagnostic.span or diagnostic.message), diagnostic)

    def error(
        self, code: str, message: str, span: Span | None = None, notes: Iterable[str] = (),
        help: str = "",
    ) -> None:
        """Makes one and keeps it."""
        self.add(Diagnostic(code, message, span, tuple(notes), help))

    def __len__(self) -> int:
        return len(self._found)

    def sorted(self) -> tuple[Diagnostic, ...]:
        """All that was found, by place; what has no place comes first."""
        empty = Span("", 0, 0, 0, 0)
        found = self._found.values()
        return tuple(sorted(found, key=lambda d: (d.span or empty, d.code, d.message)))

    def raise_if_any(self) -> None:
        """Raises `UserError` with all that was found, if anything was."""
        if self._found:
            raise UserError(self.sorted(), self.sources)


def render(diagnostic: Diagnostic, sources: Sources) -> str:
    """The text that a user reads: what is wrong, the place, the line, carets, notes, help."""
    head = f"error[{diagnostic.code}]: {diagnostic.message}"
    span = diagnostic.span
    number = "" if span is None else str(span.line)
    bar = " " * (len(number) + 1) + "|"
    lines = [head]
    if span is not None:
        lines.append(f"{' ' * len(number)}--> {span}")
        if span.file in sources:
            text, carets = _mark(sources[span.file].line(span.line), span)
            lines += [bar, f"{number} | {text}".rstrip(), f"{bar} {carets}"]
    notes = [*diagnostic.notes, *([f"help: {diagnostic.help}"] if diagnostic.help else [])]
    indent = " " * (len(number) + 1)
    for note in notes:
        first, *rest = note.split("\n")
        lines.append(f"{indent}= {first}")
        lines += [f"{indent}  {line}" for line in rest]
    return "\n".join(lines)


def _mark(line: str, span: Span) -> tuple[str, str]:
    """The line as it can be shown, and the carets under it."""
    start = min(span.column - 1, len(line))
    end = span.end_column - 1 if span.end_line == span.line else len(line)
    end = max(min(end, len(line)), start)
    first = 0
    if len(line) > WIDTH:
        first = max(0, min(start - WIDTH // 4, len(line) - WIDTH))
        end = min(end, first + WIDTH)
        line = line[first : first + WIDTH]
    pad = "".join("\t" if c == "\t" else " " * _cells(c) for c in line[: start - first])
    carets = sum(_cells(c) for c in line[start - first : end - first])
    shown = [c if c == "\t" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line]
    return "".join(shown), pad + "^" * max(carets, 1)


def _cells(char: str) -> int:
    """How many columns of a terminal a character takes."""
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be, if there is one."""
    if len(name) > _LONGEST:
        return None
    best, least = None, max(1, len(name) // 3) + (len(name) > 1)
    for candidate in sorted(known):
        if abs(len(candidate) - len(name)) >= least:
            continue
        distance = _distance(name.lower(), candidate.lower())
        if distance < least:
            best, least = candidate, distance
    return best


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A help line that names the nearest known name; empty if none is near."""
    found = nearest(name, known)
    return f"did you mean `{found}`?" if found else ""


def plural(count: int, one: str, many: str = "") -> str:
    """`1 dim`, `2 dims`; `many` where an `s` does not make it."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def _distance(a: str, b: str) -> int:
    """Edits (insert, delete, replace, swap neighbours) that make `a` into `b`."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
