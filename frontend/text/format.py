"""The one layout of a program: what `dlc fmt` writes, checked to mean what was written."""

from __future__ import annotations

from dataclasses import fields

from dlc.frontend.stack import on_a_deep_stack
from dlc.frontend.text import syntax
from dlc.frontend.text.by_lark import concrete_tree
from dlc.frontend.text.format_document import render
from dlc.frontend.text.format_gaps import Gaps, tokens_of
from dlc.frontend.text.format_layout import document_of
from dlc.frontend.text.parse import parse_source
from dlc.ir.diagnostics import InternalError, SourceFile, Span, UserError


@on_a_deep_stack
def format_source(source: SourceFile) -> str:
    """The text in its layout; `UserError` with all syntax errors if it is no program.

    `InternalError` if the new text would not have the same syntax tree and the same comments.
    """
    tree = parse_source(source)
    text = render(document_of(source.text, concrete_tree(source)))
    problem = _difference(tree, source, SourceFile(source.name, text))
    if problem:
        raise InternalError(f"{source.name}: {problem}", "fmt", text)
    return text


def same_meaning(first: syntax.Syntax, second: syntax.Syntax) -> bool:
    """Whether two syntax trees are equal but for the places of their nodes."""
    waiting: list[tuple[object, object]] = [(first, second)]
    while waiting:
        left, right = waiting.pop()
        if type(left) is not type(right):
            return False
        if isinstance(left, syntax.Syntax):
            names = [field.name for field in fields(left)]
            waiting += [(getattr(left, name), getattr(right, name)) for name in names]
        elif isinstance(left, tuple) and isinstance(right, tuple):
            if len(left) != len(right):
                return False
            waiting += zip(left, right, strict=True)
        elif left != right and not isinstance(left, Span):
            return False
    return True


def _difference(tree: syntax.File, source: SourceFile, made: SourceFile) -> str:
    """What the new text has lost; empty if nothing."""
    try:
        if not same_meaning(tree, parse_source(made)):
            return "the formatted text would have another syntax tree"
    except UserError as error:
        return f"the formatted text would not parse: {error}"
    if _comments(source) != _comments(made):
        return "the formatted text would not have the same comments"
    return ""


def _comments(source: SourceFile) -> list[str]:
    return Gaps(source.text, tokens_of(concrete_tree(source))).comments()
