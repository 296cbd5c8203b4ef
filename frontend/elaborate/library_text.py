"""The definitions of a file of the library, each parsed when it is first asked for.

A program uses few of them, and to parse them all takes longer than to parse most programs. They
are found by their first lines: the library is in canonical layout, and a test holds that what is
parsed alone is what is parsed with the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any, Final

from dlc.frontend.text import syntax
from dlc.frontend.text.parse import parse_source
from dlc.ir.diagnostics import SourceFile
from dlc.ir.types import F32, DType

Named = syntax.Const | syntax.Function | syntax.Model | syntax.Optimizer
_BEGIN: Final = re.compile(r"^(?:fn|model|optimizer|const) +(\w+)", re.MULTILINE)


class LibraryDefinitions(Mapping[str, Named]):
    """By name. `float` is f32 where it says f32, unless another type is the default."""

    def __init__(self, source: SourceFile, default_float: DType) -> None:
        self._source = source
        self._default_float = default_float
        begins = list(_BEGIN.finditer(source.text))
        ends = [*(each.start() for each in begins[1:]), len(source.text)]
        self._places = {
            each[1]: (each.start(), end) for each, end in zip(begins, ends, strict=True)}
        self._made: dict[str, Named] = {}

    def __getitem__(self, name: str) -> Named:
        if name not in self._made:
            self._made.setdefault(name, self._parse(*self._places[name]))
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _parse(self, start: int, end: int) -> Named:
        """One definition, at its place in the file."""
        text = self._source.text
        alone = "\n" * text.count("\n", 0, start) + text[start:end]
        tree = parse_source(SourceFile(self._source.name, alone))
        (made,) = with_float(tree, self._default_float).definitions
        assert isinstance(made, Named)
        return made


@lru_cache(8)
def library_definitions(source: SourceFile, default_float: DType) -> LibraryDefinitions:
    """They are shared by all programs of a process: no pass changes a tree."""
    return LibraryDefinitions(source, default_float)


def with_float(tree: syntax.File, default_float: DType) -> syntax.File:
    """A file with `float` in the place of f32, in types and casts, if that is another type."""
    if default_float is F32:
        return tree
    changed = _with_float(tree, default_float)
    assert isinstance(changed, syntax.File)
    return changed


def _with_float(node: object, default_float: DType) -> object:
    if isinstance(node, tuple):
        return tuple(_with_float(each, default_float) for each in node)
    if not isinstance(node, syntax.Syntax):
        return node
    parts: dict[str, Any] = {
        each.name: _with_float(getattr(node, each.name), default_float)
        for each in fields(node)}
    if isinstance(node, syntax.TypeExpr | syntax.Cast) and node.dtype == F32.name:
        parts["dtype"] = default_float.name
    return type(node)(**parts)
