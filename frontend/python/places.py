"""Where in the user's Python text something stands: the nearest call that is not ours."""

from __future__ import annotations

import linecache
import os
import sys
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

import dlc
import dlc.compiler
import dlc.frontend
import dlc.ir
import dlc.runtime
from dlc.ir.diagnostics import SourceFile, Span

_OURS: Final = tuple(
    os.path.join(os.path.abspath(folder), "")
    for package in (dlc, dlc.compiler, dlc.frontend, dlc.ir, dlc.runtime)
    for folder in package.__path__
)


def here() -> Span:
    """The expression of the user's that is being evaluated."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_back and os.path.abspath(
        frame.f_code.co_filename
    ).startswith(_OURS):
        frame = frame.f_back
    assert frame is not None
    return _span(frame.f_code, frame.f_lasti, frame.f_lineno)


def of_code(code: CodeType) -> Span:
    """The line on which a function begins."""
    line = code.co_firstlineno
    for number in range(line, line + 50):  # below its decorators
        text = linecache.getline(code.co_filename, number)
        start = len(text) - len(text.lstrip())
        if text.lstrip().startswith(("def ", "class ", "async def ")):
            return Span(shown(code.co_filename), number, start + 1, number, len(text.rstrip()) + 1)
    return Span(shown(code.co_filename), line, 1, line, 2)


def _span(code: CodeType, instruction: int, line: int) -> Span:
    name = shown(code.co_filename)
    place = next(islice(code.co_positions(), max(instruction, 0) // 2, None), None)
    if place is None or None in place:
        return Span(name, line, 1, line, 2)
    first, last, start, end = (number or 0 for number in place)
    columns = _column(code.co_filename, first, start), _column(code.co_filename, last, end)
    return Span(name, first, columns[0], last, columns[1])


def _column(file: str, line: int, offset: int) -> int:
    """A column counted in characters from 1, of an offset in bytes."""
    text = linecache.getline(file, line).encode()
    return len(text[:offset].decode(errors="replace")) + 1 if text else offset + 1


_SHOWN: dict[str, str] = {}


def shown(file: str) -> str:
    """The name by which messages speak of a file: relative where it lies below the current folder.

    It stays the same while the process runs, so that places can be compared.
    """
    if file not in _SHOWN:
        path = Path(file)
        try:
            _SHOWN[file] = str(path.resolve().relative_to(Path.cwd().resolve()))
        except (ValueError, OSError):
            _SHOWN[file] = file
    return _SHOWN[file]


class PythonSources(dict[str, SourceFile]):
    """The texts of a program; those of Python files are found when a message quotes them."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and self._find(name))

    def __missing__(self, name: str) -> SourceFile:
        if not self._find(name):
            raise KeyError(name)
        return self[name]

    def _find(self, name: str) -> bool:
        file = next((file for file, text in _SHOWN.items() if text == name), name)
        lines = linecache.getlines(file)
        if lines:
            self[name] = SourceFile(name, "".join(lines))
        return bool(lines)
