"""`print("text {expression}")`: the text taken apart, its expressions parsed where they stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dlc.frontend.elaborate.arithmetic import as_value
from dlc.frontend.elaborate.expressions import evaluate
from dlc.frontend.elaborate.frames import Fault, Frame
from dlc.frontend.elaborate.values import (
    Listing,
    Many,
    Number,
    Table,
    Tensor,
    Text,
    Truth,
    Value,
    Variable,
    describe,
)
from dlc.frontend.text import syntax
from dlc.frontend.text.parse import parse_expression
from dlc.ir import graph as ir
from dlc.ir.diagnostics import Span, UserError
from dlc.ir.dims import Poly
from dlc.ir.types import I64

_HELP: Final = "`{{` and `}}` are braces"
_Piece = str | ir.Value


def print_(frame: Frame, statement: syntax.Print) -> None:
    """Prints, as the program runs."""
    value = statement.value
    if not isinstance(value, syntax.String):
        raise Fault("print-text", "`print` takes a text", value.span,
                    help='what is to be printed stands in braces in it: `print("x is {x}")`')
    pieces: list[_Piece] = []
    for piece in _pieces(frame, value):
        if isinstance(piece, str):
            pieces.append(piece)
        else:
            pieces += _shown(frame, evaluate(frame, piece), piece.span)
    parts, operands = [""], list[ir.Value]()
    for part in pieces:
        if isinstance(part, str):
            parts[-1] += part
        else:
            operands.append(part)
            parts.append("")
    frame.place(statement.span).emit("print", *operands, parts=tuple(parts))


def _pieces(frame: Frame, string: syntax.String) -> Iterator[str | syntax.Expr]:
    """The text between the braces, and the expressions in them."""
    text, at = string.value, 0
    while at < len(text):
        nearest = [p for p in (text.find("{", at), text.find("}", at)) if p >= 0]
        if not nearest:
            yield text[at:]
            return
        start = min(nearest)
        yield text[at:start]
        if text[start : start + 2] in ("{{", "}}"):
            yield text[start]
            at = start + 2
            continue
        end = text.find("}", start)
        if text[start] == "}" or end < 0:
            raise Fault("text-braces", f"this `{text[start]}` has no other brace",
                        _span(frame, string, start, start + 1), help=_HELP)
        yield _expression(frame, string, start + 1, end)
        at = end + 1


def _expression(frame: Frame, string: syntax.String, start: int, end: int) -> syntax.Expr:
    inner = string.value[start:end]
    span = _span(frame, string, start, end)
    if not inner.strip():
        raise Fault("text-braces", "there is nothing between these braces",
                    _span(frame, string, start - 1, end + 1), help=_HELP)
    try:
        return parse_expression(inner, span.file, span.line, span.column)
    except UserError as error:
        found = error.diagnostics[0]
        raise Fault(found.code, found.message, found.span or span, found.notes,
                    found.help) from None


def _span(frame: Frame, string: syntax.String, start: int, end: int) -> Span:
    """Where a part of a text stands in the file."""
    first = frame.context.program.sources[string.span.file].line(string.span.line)
    marks = 3 if first[string.span.column - 1 :].startswith('"""') else 1

    def place(at: int) -> tuple[int, int]:
        before = string.value[:at]
        line = before.count("\n")
        if not line:
            return string.span.line, string.span.column + marks + at
        return string.span.line + line, at - before.rfind("\n")

    return Span(string.span.file, *place(start), *place(end))


def _shown(frame: Frame, value: Value, span: Span) -> Iterator[_Piece]:
    """A value as texts, and tensors that are known as the program runs."""
    match value:
        case Number(number) if not isinstance(number, Poly):
            yield str(number)
        case Number():
            yield as_value(frame, value, span, I64)
        case Truth(truth):
            yield str(truth).lower()
        case Text(text):
            yield text
        case Tensor() | Table() | Variable():
            yield as_value(frame, value, span)
        case Many(items) | Listing(items):
            yield "(" if isinstance(value, Many) else "["
            for place, item in enumerate(items):
                yield ", " if place else ""
                yield from _shown(frame, item, span)
            yield ")" if isinstance(value, Many) else "]"
        case _:
            raise Fault("not-printable", f"{describe(value)} can't be printed", span)
