"""Going on after a syntax error: what is wrong is blanked, and the rest is read.

A statement in which brackets match is blanked alone; a header (`if x = 1 {`) gives way to one that
can be read; else the whole definition goes. Lines keep their numbers, so that places stay true.
"""

from __future__ import annotations

import re
from typing import Final

from dlc.ir.diagnostics import Diagnostic

# A definition begins at a line's start: by its word, or by what looks like one that is misspelt.
_DEFINITION: Final = re.compile(
    r"^(?:(?:import|const|fn|step|model|optimizer|train|test|def|class|func|function)\b"
    r"(?![ \t]*[-+*/:]?=)"
    r"|(?!if\b|for\b|scan\b|while\b|return\b|on\b|else\b|yield\b|let\b|var\b|and\b|or\b|in\b)"
    r"[a-z]+[ \t]+[A-Za-z_]\w*[ \t]*[({])",
    re.MULTILINE,
)
_NAMED: Final = re.compile(r"^(?:[a-z]+[ \t]+)?([A-Za-z_]\w*)", re.MULTILINE)
_NO_CODE: Final = re.compile(r'"""[\s\S]*?(?:"""|\Z)|"[^"\n]*"?|#[^\n]*')
_HEADER: Final = re.compile(r"[ \t]*(?:if|for|while|scan|on)\b[^{}]*\{[ \t]*$")
_GOES_ON: Final = re.compile(r"(?:[-+*/%@=<>,|{(\[:]|\b(?:and|or|not|if|else|in|with))[ \t]*$")
_FARTHEST: Final = 200  # lines of one statement


class Blanked:
    """A text from which parts were taken away, and the names that those parts would define."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lost: set[str] = set()
        self.lines: set[int] = set()  # those of statements that were blanked
        self._code = without_texts(text).split("\n")

    def blank(self, fault: Diagnostic) -> None:
        """Takes away the statement, or the definition, that a fault lies in."""
        line = fault.span.line if fault.span is not None else 1
        first, last = self._definition(line)
        brackets = fault.code.endswith("-bracket")  # no telling where a statement ends
        statement = None if brackets else self._statement(line, first, last)
        if statement is None or line in self.lines:
            self.lost.update(_NAMED.findall("\n".join(self._code[first - 1 : last])))
            self._replace(first, last)
        else:
            self.lines.add(line)
            self._replace(*statement)

    def _replace(self, first: int, last: int, by: str = "") -> None:
        lines = self.text.split("\n")
        put = [by, *[""] * (last - first)]
        lines[first - 1 : last] = put
        self._code[first - 1 : last] = put
        self.text = "\n".join(lines)

    def _definition(self, line: int) -> tuple[int, int]:
        """The first and the last line of the definition that holds `line`."""
        starts = [n for n, text in enumerate(self._code, 1) if _DEFINITION.match(text)]
        first = max((n for n in starts if n <= line), default=1)
        last = min((n for n in starts if n > line), default=len(self._code) + 1) - 1
        return first, last

    def _statement(self, line: int, first: int, last: int) -> tuple[int, int, str] | None:
        """The lines of the statement at `line`, and what takes its place; None if there is no
        telling where it begins or ends."""
        if line == first or not 0 < line <= len(self._code):
            return None
        start = end = line
        while True:
            least, total = _balance("\n".join(self._code[start - 1 : end]))
            goes_on = _GOES_ON.search(self._code[start - 2]) and "{" != self._code[
                start - 2].rstrip()[-1:]
            if (least < 0 or goes_on) and start - 1 > first:
                start -= 1
            elif total > 0 and end < last and not self._is_header(start, end):
                end += 1
            else:
                break
            if end - start > _FARTHEST:
                return None
        if self._is_header(start, end):
            return start, end, "if true {"
        return (start, end, "") if least == total == 0 else None

    def _is_header(self, start: int, end: int) -> bool:
        text = " ".join(self._code[start - 1 : end])
        return _HEADER.fullmatch(text) is not None and _balance(text) == (0, 1)


def without_texts(text: str) -> str:
    """The text with all strings and comments blanked."""
    return _NO_CODE.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def _balance(text: str) -> tuple[int, int]:
    """Of open brackets: the least number on the way, and the number at the end."""
    total = least = 0
    for char in text:
        total += (char in "([{") - (char in ")]}")
        least = min(least, total)
    return least, total
