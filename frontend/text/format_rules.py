"""How each rule of the grammar is laid out: where a line may be broken, where no space stands.

A rule that is not in `STYLES` is not formatted: tests hold the table against the grammar.
"""

from __future__ import annotations

from typing import Final

from lark import Token, Tree

from dlc.ir.dataclass import dataclass

Node = Tree[Token] | Token


@dataclass(frozen=True, slots=True)
class Style:
    """The layout of one rule. Its parts are named by their rule or terminal."""

    tight: bool = False  # no spaces between its parts
    before: frozenset[str] = frozenset()  # a line may be broken before these
    after: frozenset[str] = frozenset()  # and after these
    level: frozenset[str] = frozenset()  # what stands no further in on its new line
    late: bool = False  # broken only when what stands round it is
    heads: bool = False  # each break by itself: only if what follows does not fit on the line
    commas: bool = False  # its brackets may hold a comma after the last item
    fills: bool = False  # its items fill lines; else all are on one, or each on its own
    rows: bool = False  # its items stand in the lines that they were written in


def style(before: str = "", after: str = "", level: str = "", heads: bool = False) -> Style:
    """The style of a rule whose lines may be broken at these parts."""
    first, second, third = (frozenset(names.split()) for names in (before, after, level))
    return Style(before=first, after=second, level=third, heads=heads)


_PLAIN: Final = Style()
_TIGHT: Final = Style(tight=True)
_LIST: Final = style(after="COMMA")
_OPERATION: Final = style(before="OR AND COMPARE PLUS MINUS STAR DIVIDE PIPE")
_FUNCTION: Final = style(before="ARROW where", after="EQUAL", heads=True)
_LOOP: Final = style(before="carry", after="COMMA", level="carry", heads=True)
_LATE: Final = Style(after=frozenset(("COMMA",)), late=True, fills=True)
STYLES: Final = {
    "file": _PLAIN, "import_": _PLAIN, "const": _PLAIN, "fn": _FUNCTION, "step": _FUNCTION,
    "model": style(before="where", heads=True), "optimizer": _PLAIN, "train": _PLAIN,
    "test": _PLAIN,
    "parameter": _PLAIN, "where": _LIST, "param": _PLAIN, "state": _PLAIN, "member": _PLAIN,
    "setting": _PLAIN, "phase": _PLAIN, "type": _LATE, "tuple_type": _LATE, "rest": _TIGHT,
    "parameters": Style(after=frozenset(("COMMA",)), late=True, commas=True, fills=True),
    "arguments": Style(after=frozenset(("COMMA",)), commas=True),
    "block": _PLAIN, "assign": _PLAIN, "update": _PLAIN, "return_": _PLAIN, "yield_": _PLAIN,
    "for_": _PLAIN, "if_": style(level="ELSE"), "scan": _LOOP, "while_": _LOOP,
    "carry": _LIST, "carried": _PLAIN, "minimize": _LIST, "optimizer_call": _PLAIN,
    "assert_": _LIST, "print_": _PLAIN, "on": _PLAIN, "targets": _LATE,
    "expressions": _LIST, "field": _TIGHT, "subscript": _LATE, "choice": style(before="ELSE"),
    "pipe": _OPERATION, "binary": _OPERATION, "unary": _TIGHT, "comparison": _OPERATION,
    "call": _PLAIN, "positional": _PLAIN, "named": _TIGHT, "slice": _TIGHT, "ellipsis": _PLAIN,
    "new_axis": _PLAIN, "name": _PLAIN, "number": _PLAIN, "string": _PLAIN, "true": _PLAIN,
    "false": _PLAIN, "cast": _PLAIN, "comprehension": style(before="FOR"),
    "paren": Style(commas=True), "list": Style(commas=True, fills=True, rows=True),
}  # fmt: skip
# What groups the items of brackets, and is nothing of its own there.
CONTAINERS: Final = frozenset(("arguments", "parameters", "expressions"))
_LEVELS: Final = {"PLUS": "sum", "MINUS": "sum", "STAR": "term", "DIVIDE": "term"}


def name_of(node: Node) -> str:
    """The rule or the terminal."""
    return node.type if isinstance(node, Token) else str(node.data)


def space(rule: str, left: Node, right: Node) -> str:
    """What stands between two parts of a rule on the same line."""
    before, after = name_of(left), name_of(right)
    if after in ("COLON", "COMMA"):
        return ""
    if rule == "unary":
        return " " if before == "NOT" else ""
    if after == "DOT":
        # `1 .T`: a number takes a point that stands close to it for its own.
        return " " if before == "number" else ""
    return "" if STYLES[rule].tight else " "


def is_operation(node: Node) -> bool:
    """Whether lines are broken before the operators of a subtree."""
    return STYLES.get(name_of(node)) is _OPERATION


def level(tree: Tree[Token]) -> str:
    """Operations of one level that stand in a row are broken all together or not at all."""
    rule = str(tree.data)
    if rule == "pipe":
        return rule
    operator = name_of(tree.children[1]) if rule == "binary" else ""
    return _LEVELS.get(operator, operator)
