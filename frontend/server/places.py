"""Places in a text, as an editor counts them: lines from 0, columns in units of an encoding.

A `Span` counts lines and columns from 1, columns in characters. The protocol's columns are units of
UTF-16, unless both sides agree on another encoding: a character beyond U+FFFF is two of them.
"""

from __future__ import annotations

from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import SourceFile, Span

Point = tuple[int, int]  # a line and a column, both from 1, in characters


def units(text: str, encoding: str = "utf-16") -> int:
    """How many units of an encoding a text takes."""
    if encoding == "utf-8":
        return len(text.encode(errors="surrogatepass"))
    return len(text) if encoding == "utf-32" else len(text) + sum(c > "\uffff" for c in text)


@dataclass(frozen=True, slots=True)
class Places:
    """Turns places of one text into an editor's, and back."""

    source: SourceFile
    encoding: str = "utf-16"

    def given(self, line: int, column: int) -> Point:
        """An editor's place as a point; past the end of a line, that end."""
        text, at = self.source.line(line + 1), 0
        for number, char in enumerate(text, 1):
            at += units(char, self.encoding)
            if at > column:
                return line + 1, number
        return line + 1, len(text) + 1

    def told(self, line: int, column: int) -> tuple[int, int]:
        """A point as the editor's place."""
        return line - 1, units(self.source.line(line)[: column - 1], self.encoding)

    def ends(self, span: Span) -> tuple[tuple[int, int], tuple[int, int]]:
        """Start and end of a span as the editor's places."""
        return self.told(span.line, span.column), self.told(span.end_line, span.end_column)

    def whole(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Start and end of the whole text."""
        last = self.source.text.count("\n") + 1
        return (0, 0), self.told(last, len(self.source.line(last)) + 1)


def start(span: Span) -> Point:
    """Where a span begins."""
    return span.line, span.column


def end(span: Span) -> Point:
    """Where a span ends."""
    return span.end_line, span.end_column


def holds(span: Span, point: Point) -> bool:
    """Whether a point stands in a span; its end is outside."""
    return start(span) <= point < end(span)
