"""Documents: text with places where a line may be broken, and the widest layout that fits.

A `Group` is written on one line if that fits; otherwise each `Line` that stands in it directly is a
new line, and the groups inside are tried one by one. (After Wadler, "A prettier printer", 2003.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dlc.ir.dataclass import dataclass

WIDTH: Final = 100
INDENT: Final = 4


@dataclass(frozen=True, slots=True)
class Text:
    """What is written as it stands."""

    text: str


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment. It may be as long as it likes: no line is broken for its sake."""

    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """`flat`, or a new line; always a new line if `flat` is None, after an empty one if `blank`."""

    flat: str | None = None
    blank: bool = False


@dataclass(frozen=True, slots=True)
class IfBroken:
    """What is written only if the group round it is broken."""

    text: str


@dataclass(frozen=True, slots=True)
class Parts:
    """One after another; `broken` if there is always a new line in it."""

    parts: tuple[Document, ...]
    broken: bool


@dataclass(frozen=True, slots=True)
class Group(Parts):
    """Parts on one line, if they fit. One that is `late` is broken after all others."""

    late: bool = False


@dataclass(frozen=True, slots=True)
class Indent(Parts):
    """Parts whose new lines stand further in."""


@dataclass(frozen=True, slots=True)
class Next(Parts):
    """A separator and what follows it, which begins a new line only if it does not fit on this."""


Document = Text | Comment | Line | IfBroken | Parts
Pending = tuple[int, bool, Document]  # indentation, whether lines are new ones, what


def parts(*inside: Document) -> Parts:
    """One after another."""
    return Parts(inside, _broken(inside))


def group(*inside: Document, broken: bool = False, late: bool = False) -> Group:
    """On one line if that fits, unless it is to be `broken` in any case."""
    return Group(inside, broken or _broken(inside), late)


def indent(*inside: Document) -> Indent:
    """Further in."""
    return Indent(inside, _broken(inside))


def following(separator: Document, *inside: Document) -> Next:
    """A part that is on the line before it if it fits."""
    return Next((separator, *inside), _broken((separator, *inside)))


def _broken(inside: Sequence[Document]) -> bool:
    return any(
        each.broken if isinstance(each, Parts) else isinstance(each, Line) and each.flat is None
        for each in inside
    )


def render(document: Document, indentation: int = 0) -> str:
    """The text; its first line is taken to begin at `indentation`, which is not written."""
    writer = _Writer(indentation)
    writer.waiting.append((indentation, True, document))
    while writer.waiting:
        writer.write(*writer.waiting.pop())
    return "".join(writer.written)


class _Writer:
    """What is written, and what is still to be; no recursion, for trees may be deep."""

    def __init__(self, column: int) -> None:
        self.written: list[str] = []
        self.column = column
        self.waiting: list[Pending] = []

    def write(self, indentation: int, broken: bool, document: Document) -> None:
        match document:
            case Text(text) | Comment(text):
                self._text(text)
            case IfBroken(text):
                self._text(text if broken else "")
            case Line(flat, blank):
                if flat is not None and not broken:
                    self._text(flat)
                else:
                    self._text("\n\n" if blank else "\n")
                    self._text(" " * indentation)
            case Parts():
                self._parts(indentation, broken, document)

    def _text(self, text: str) -> None:
        self.written.append(text)
        _, newline, last = text.rpartition("\n")
        self.column = len(last) if newline else self.column + len(last)

    def _parts(self, indentation: int, broken: bool, document: Parts) -> None:
        first, *others = document.parts or (Text(""),)
        if isinstance(document, Group):
            broken = document.broken or not self._fits(indentation, document)
        elif isinstance(document, Indent):
            indentation += INDENT
        separated = broken
        if isinstance(document, Next) and broken:
            separated = document.broken or not self._fits(indentation, document)
        self.waiting += [(indentation, broken, each) for each in reversed(others)]
        self.waiting.append((indentation, separated, first))

    def _fits(self, indentation: int, document: Parts) -> bool:
        """Whether this line has room for all of it, and for what is tied to its end."""
        room, behind = WIDTH - self.column, len(self.waiting)
        tried: list[Pending] = [(indentation, False, document)]
        while room >= 0:
            if not tried:
                if not behind:
                    return True
                behind -= 1
                tried.append(self.waiting[behind])
            _, broken, each = tried.pop()
            if isinstance(each, Parts):
                tied = isinstance(each, Group) and each.late and not each.broken
                tried += [(0, broken and not tied, part) for part in reversed(each.parts)]
                continue
            width, ends = _line_of(each, broken)
            room -= width
            if ends:
                return room >= 0
        return False


def _line_of(document: Text | Comment | Line | IfBroken, broken: bool) -> tuple[int, bool]:
    """How much of a line it takes, and whether the line ends there."""
    match document:
        case Text(text):
            return len(text.partition("\n")[0]), "\n" in text
        case IfBroken(text):
            return len(text) if broken else 0, False
        case Comment():
            return 0, True
        case Line(flat, _):
            ends = broken or flat is None
            return 0 if ends else len(flat or ""), ends
