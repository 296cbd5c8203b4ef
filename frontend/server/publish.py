"""Diagnostics as the protocol has them: ranges, notes that lead to their places, explanations."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from lsprotocol import types

from dlc.frontend.elaborate.modules import Module
from dlc.frontend.explanations import FOLDER, HEAD
from dlc.frontend.server.analysis import Analysis
from dlc.frontend.server.places import Places
from dlc.frontend.text import syntax
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Diagnostic, SourceFile, Span

UriOf = Callable[[Path], str]


@dataclass(frozen=True, slots=True)
class Publisher:
    """Says what was found of a text; `related` is whether the editor shows places of notes."""

    analysis: Analysis
    uri_of: UriOf
    encoding: str
    related: bool

    @property
    def main(self) -> str:
        """The name under which the text itself is spoken of."""
        return self.analysis.path.name

    def all(self) -> list[types.Diagnostic]:
        """All that is wrong with the text, and with what it imports."""
        return [self._told(each) for each in self.analysis.diagnostics]

    def location(self, span: Span) -> types.Location:
        """A span as a file and a range."""
        return types.Location(uri=self.uri_of(self._path(span.file)), range=self.range(span))

    def range(self, span: Span) -> types.Range:
        """A span as a range of its file."""
        source = self.analysis.sources.get(span.file) or SourceFile(span.file, "")
        return range_of(Places(source, self.encoding).ends(span))

    def _path(self, name: str) -> Path:
        program = self.analysis.program
        for module in program.modules if program is not None else ():
            if module.tree.span.file == name:
                return module.path
        return self.analysis.path.parent / name

    def _told(self, found: Diagnostic) -> types.Diagnostic:
        lines, related = [found.message], []
        for note in found.notes:
            place = self._place(note) if self.related else None
            if place is None:
                lines.append(note)
            else:
                related.append(types.DiagnosticRelatedInformation(self.location(place), note))
        lines += [f"help: {found.help}"] if found.help else []
        span = found.span
        if span is not None and span.file != self.main:
            lines[0] = f"in {span}: {lines[0]}"
            related.append(types.DiagnosticRelatedInformation(self.location(span), found.message))
            span = self._import(span.file)
        link = explained(found.code)
        return types.Diagnostic(
            range=self.range(_visible(span or Span(self.main, 1, 1, 1, 1))),
            message="\n".join(lines), severity=types.DiagnosticSeverity.Error, code=found.code,
            code_description=types.CodeDescription(link) if link else None, source="dlc",
            related_information=related or None, data={"explain": f"dlc explain {found.code}"})

    def _place(self, note: str) -> Span | None:
        """The place that a note ends with, `first at net.dl:3:5`."""
        for name in self.analysis.sources:
            found = re.search(rf"(?:^|\s){re.escape(name)}:(\d+):(\d+)", note)
            if found is not None:
                line, column = int(found[1]), int(found[2])
                return _visible(Span(name, line, column, line, column))
        return None

    def _import(self, file: str) -> Span:
        """The import that leads to a file; the beginning of the text if none can be found."""
        program = self.analysis.program
        imports = [] if program is None else [
            d for d in program.main.tree.definitions if isinstance(d, syntax.Import) and d.quoted]
        for statement in imports:
            path = self.analysis.path.parent / statement.name
            assert program is not None
            through = next((m for m in program.main.imported if m.path == path), None)
            if through is not None and any(m.tree.span.file == file for m in _reached(through)):
                return statement.span
        unread = [d.span for d in imports if d.name == file]
        return (unread or [d.span for d in imports] or [Span(self.main, 1, 1, 1, 1)])[0]


def range_of(ends: tuple[tuple[int, int], tuple[int, int]]) -> types.Range:
    """Two places as a range."""
    return types.Range(*(types.Position(*place) for place in ends))


def _visible(span: Span) -> Span:
    """At least one character."""
    if (span.line, span.column) < (span.end_line, span.end_column):
        return span
    return Span(span.file, span.line, span.column, span.line, span.column + 1)


def _reached(module: Module) -> list[Module]:
    found = [module]
    for each in found:
        found += [m for m in each.imported if m not in found]
    return found


@cache
def _places() -> dict[str, str]:
    """Where each error is explained: a line of a file."""
    found = {}
    for path in sorted(FOLDER.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        for head in HEAD.finditer(text):
            line = text.count("\n", 0, head.start()) + 1
            found[head[1]] = f"{path.resolve().as_uri()}#L{line}"
    return found


def explained(code: str) -> str | None:
    """Where the text stands that `dlc explain CODE` prints."""
    return _places().get(code)
