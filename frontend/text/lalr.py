"""Reads texts by lark's tables, without lark: to import it takes longer than to read most programs.

Tokens and trees are those that lark would make. Where there are none, the text is wrong: lark reads
it again then, for it knows what could have stood there (`by_lark.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

TABLES: Final = Path(__file__).parent / "lalr.json"


class Token(str):
    """A word or sign of a text: its terminal, and where it begins and ends."""

    __slots__ = ("column", "end_column", "end_line", "end_pos", "line", "start_pos", "type")
    type: str
    start_pos: int
    line: int
    column: int
    end_line: int
    end_column: int
    end_pos: int

    def __new__(
        cls, type: str, value: str, start_pos: int, line: int, column: int, end_line: int,
        end_column: int, end_pos: int,
    ) -> Token:
        """A token with these fields."""
        made = str.__new__(cls, value)
        made.type = type
        made.start_pos, made.line, made.column = start_pos, line, column
        made.end_line, made.end_column, made.end_pos = end_line, end_column, end_pos
        return made

    @classmethod
    def new_borrow_pos(cls, type: str, value: str, at: Token) -> Token:
        """One that stands where another does."""
        return cls(type, value, at.start_pos, at.line, at.column, at.end_line, at.end_column,
                   at.end_pos)


class Tree:
    """What a rule of the grammar was found to be; `line` is 0 if nothing stands in it."""

    __slots__ = ("children", "column", "data", "end_column", "end_line", "line")

    def __init__(self, data: str, children: list[Branch]) -> None:
        self.data = data
        self.children = children
        self.line = self.column = self.end_line = self.end_column = 0


Branch = Tree | Token | None
Filter = Callable[[Iterator[Token]], Iterator[Token]]


class Unread(Exception):
    """A text is not as the grammar says."""


class Rule(NamedTuple):
    """What becomes of `size` parts. `shape` says what a tree takes of them, in order: `2 * k` is
    part `k`, `2 * k + 1` all that it holds, -1 nothing; no shape: all parts as they are."""

    origin: str
    size: int
    data: str  # the name of the tree; empty for a rule that only passes its part on
    shape: list[int] | None
    alone: bool  # whether a tree of one part is that part


class Tables(NamedTuple):
    """What `lalr.json` holds; a number of an action is a state, or `~` a rule.

    `otherwise` is what most of a state's rules for tokens are: for a token that fits nowhere too,
    which is then found to before it is taken.
    """

    pattern: str
    words: dict[str, dict[str, str]]  # by terminal, texts that are another one
    ignored: list[str]
    lines: list[str]  # terminals that may hold the end of a line
    rules: list[Rule]
    rows: list[dict[str, int]]
    otherwise: list[int]  # 0 where there is none: no state leads back to the first one
    start: dict[str, int]
    end: dict[str, int]


@cache
def tables() -> Tables:
    """Those of the grammar."""
    made = Tables(*json.loads(TABLES.read_text()))
    return made._replace(rules=[Rule(*rule) for rule in made.rules])


def read(text: str, start: str, passing: Filter) -> Tree:
    """The tree of a text, whose tokens go through `passing`; `Unread` if it has none."""
    found = tables()
    rows, otherwise, rules, end = found.rows, found.otherwise, found.rules, found.end[start]
    states, values = [found.start[start]], list[Branch]()
    for token in _and_end(passing(_tokens(text, found))):
        kind = token.type
        while (action := rows[states[-1]].get(kind) or otherwise[states[-1]]) < 0:
            origin, size, data, shape, alone = rules[~action]
            if data or size != 1:
                parts = values[len(values) - size:]
                del values[len(values) - size:], states[len(states) - size:]
                values.append(_made(data, shape, alone, parts))
            else:
                del states[-1]
            states.append(rows[states[-1]][origin])
        if states[-1] == end and kind == "$END":
            break
        if not action:
            raise Unread
        states.append(action)
        values.append(token)
    tree = values[-1]
    assert isinstance(tree, Tree)
    return tree


def _made(data: str, shape: list[int] | None, alone: bool, parts: list[Branch]) -> Branch:
    """What a rule makes of its parts."""
    children = parts if shape is None else _shaped(shape, parts)
    if alone and len(children) == 1:
        return children[0]
    tree = Tree(data, children)
    for part in parts:
        if part is not None and part.line:
            tree.line, tree.column = part.line, part.column
            break
    for part in reversed(parts):
        if part is not None and part.line:
            tree.end_line, tree.end_column = part.end_line, part.end_column
            break
    return tree


def _shaped(shape: list[int], parts: list[Branch]) -> list[Branch]:
    children: list[Branch] = []
    for place in shape:
        if place < 0:
            children.append(None)
            continue
        part = parts[place >> 1]
        if not place & 1:
            children.append(part)
            continue
        assert isinstance(part, Tree)
        if children:
            children += part.children
        else:
            children = part.children  # nobody else has it: a list of many is not copied for each
    return children


def _tokens(text: str, found: Tables) -> Iterator[Token]:
    """The tokens of a text."""
    match = re.compile(found.pattern).match
    words, ignored, lines = found.words, found.ignored, found.lines
    at, line, begun, end = 0, 1, 0, len(text)  # `begun`: where the line begins
    while at < end:
        one = match(text, at)
        if one is None:
            raise Unread
        kind, value, stop = one.lastgroup or "", one.group(), one.end()
        first, column = line, at - begun + 1
        if kind in lines and "\n" in value:
            line += value.count("\n")
            begun = at + value.rindex("\n") + 1
        if kind not in ignored:
            kind = words[kind].get(value, kind) if kind in words else kind
            yield Token(kind, value, at, first, column, line, stop - begun + 1, stop)
        at = stop


def _and_end(tokens: Iterator[Token]) -> Iterator[Token]:
    yield from tokens
    yield Token("$END", "", 0, 0, 0, 0, 0, 0)
