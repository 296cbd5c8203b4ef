"""Meanings said to a user: what was written, its documentation, the type that was found."""

from __future__ import annotations

import re
from typing import Final

from dlc.frontend.elaborate.builtins import BUILTINS
from dlc.frontend.elaborate.modules import Program
from dlc.frontend.elaborate.values import (
    Listing,
    Many,
    Number,
    Tensor,
    Text,
    Truth,
    Value,
    describe,
)
from dlc.frontend.server.analysis import Analysis, Seen
from dlc.frontend.server.names import Meaning, Names
from dlc.frontend.server.places import Point, end, holds, start
from dlc.frontend.server.pointed import Pointed, pointed_at
from dlc.frontend.server.reference import BUILTIN_DOCS, KEYWORDS, NAMED, SETTINGS, TYPES
from dlc.frontend.server.tree import nodes
from dlc.frontend.text import syntax
from dlc.frontend.text.recovery import without_texts
from dlc.ir.diagnostics import SourceFile, Span
from dlc.ir.dims import Poly
from dlc.ir.ops import OPS

_WORD: Final = re.compile(r"[A-Za-z_]\w*")
_OPERATIONS: Final = (syntax.Unary, syntax.Binary, syntax.Comparison, syntax.Choice, syntax.Call,
                      syntax.Subscript, syntax.Field, syntax.Cast, syntax.List, syntax.Tuple,
                      syntax.Comprehension)


def hover(analysis: Analysis, point: Point) -> tuple[str, Span] | None:
    """A text in Markdown about what stands at a point, and the stretch that it is about."""
    program = analysis.program
    if program is None:
        return None
    names = Names(program)
    found = pointed_at(names, program.main, point)
    if found.meaning is not None:
        seen = _seen(analysis, names, found)
        return _page(analysis, found, seen), found.leaf.span
    source = program.sources[program.main.tree.span.file]
    word = _word(source, point)
    if word is not None:
        return word
    if isinstance(found.leaf, syntax.String):
        return _in_braces(analysis, program, found.leaf.span, point)
    above = found.path[-2:-1]
    leaf = above[0] if above and isinstance(above[0], syntax.Field) else found.leaf  # `x.T`
    if isinstance(leaf, _OPERATIONS) and leaf.span in analysis.seen:
        return code(kind_text(analysis.seen[leaf.span])), leaf.span
    return None


def _word(source: SourceFile, point: Point) -> tuple[str, Span] | None:
    """A word of the language at a point, unless it stands in a string or in a comment."""
    code = without_texts(source.text).split("\n")[point[0] - 1]
    for match in _WORD.finditer(code):
        span = Span(source.name, point[0], match.start() + 1, point[0], match.end() + 1)
        if holds(span, point) and match[0] in {**KEYWORDS, **TYPES}:
            return f"`{match[0]}`: {KEYWORDS.get(match[0]) or TYPES[match[0]]}", span
    return None


def _in_braces(
    analysis: Analysis, program: Program, string: Span, point: Point
) -> tuple[str, Span] | None:
    """What an expression in a string is, which stands in braces: `print("{x}")`."""
    found = [s for s in analysis.seen if s.file == string.file and holds(s, point) and s != string
             and start(string) <= start(s) and end(s) <= end(string)]
    if not found:
        return None
    span = max(found, key=lambda s: (start(s), [-n for n in end(s)]))
    return code(f"{program.text_of(span)}: {kind_text(analysis.seen[span])}"), span


def code(text: str) -> str:
    """Text of the language in Markdown."""
    return f"```dl\n{text}\n```"


# Types


def _seen(analysis: Analysis, names: Names, found: Pointed) -> Seen | None:
    """What was found of a name: at its place, else at another place of the same name."""
    leaf, parent = found.leaf, found.path[-2] if len(found.path) > 1 else None
    if isinstance(parent, syntax.Field) and parent.name is leaf:
        return analysis.seen.get(parent.span)
    here = analysis.seen.get(leaf.span)
    meaning, body = found.meaning, found.scope.body
    if here is not None or meaning is None or meaning.kind not in ("local", "size") or body is None:
        return here
    for path in nodes(body):
        other = path[-1]
        if isinstance(other, syntax.Name) and other.text == meaning.name:
            if other.span in analysis.seen:
                return analysis.seen[other.span]
    return None


def kind_text(seen: Seen) -> str:
    """What a value is, in the words of its function: `*S` for a dim that stands for many."""
    text = value_text(seen.value)
    for each in _rests(seen.function):
        text = re.sub(rf"(?<=[\[ ]){re.escape(each)}(?=[,\]])", f"*{each}", text)
    return text


def value_text(value: Value) -> str:
    """What a value is: its type, or the number that it is."""
    match value:
        case Number(number) if isinstance(number, Poly):
            return f"int = {number}"
        case Number(number):
            return f"{'int' if isinstance(number, int) else 'number'} = {number}"
        case Truth(truth):
            return f"bool = {str(truth).lower()}"
        case Text(text):
            return f'"{text}"'
        case Tensor(_, True):
            return "number"
        case Many(items):
            return f"({', '.join(map(value_text, items))})"
        case Listing(items, known):
            many = f"list of {len(items)}" if known else "list"
            return f"{many}: {value_text(items[0])}" if items else many
    return describe(value)


def _rests(function: syntax.Function | None) -> set[str]:
    if function is None:
        return set()
    return {d.name.text for p in function.parameters for d in p.type.dims
            if isinstance(d, syntax.Rest)}


# Pages


def _page(analysis: Analysis, found: Pointed, seen: Seen | None) -> str:
    meaning, program = found.meaning, analysis.program
    assert meaning is not None
    assert program is not None
    parts = [code(line) for line in _declared(program, meaning, seen)]
    parts.append(document(program, meaning))
    call = _call(found)
    given = analysis.seen.get(call) if call is not None else None
    if given is not None:
        parts.append(f"Here it gives `{kind_text(given)}`.")
    return "\n\n".join(part for part in parts if part)


def _call(found: Pointed) -> Span | None:
    """The call whose function a name is, `relu(x)` or `nn.Dense(1, 2)`."""
    above = list(found.path[::-1])
    node = above.pop(0)
    if above and isinstance(above[0], syntax.Field) and above[0].name is node:
        node = above.pop(0)
    call = above[0] if above else None
    return call.span if isinstance(call, syntax.Call) and call.function is node else None


def _declared(program: Program, meaning: Meaning, seen: Seen | None) -> list[str]:
    """What declares a name, as it is written, and what it was found to be."""
    here = kind_text(seen) if seen is not None else ""
    match meaning.kind:
        case "local":
            return [f"{meaning.name}: {here}" if here else meaning.name]
        case "size":
            return [here.replace("int =", f"{meaning.name}: int =", 1) or meaning.name]
        case "param" | "state" | "const":
            written = _before_value(program, meaning)
            same = not here or here in written
            return [written] if same else [written, f"{meaning.name}: {here}"]
        case "parameter":
            assert meaning.node is not None
            return [program.text_of(meaning.node.span)]
        case "member":
            assert meaning.node is not None
            return [program.text_of(meaning.node.span)]
    return [signature(program, meaning)]


def _before_value(program: Program, meaning: Meaning) -> str:
    node = meaning.node
    assert isinstance(node, syntax.Variable | syntax.Const)
    written = program.text_of(node.span)
    value = program.text_of(node.value.span)
    return written if len(value) <= 40 else written[: -len(value)].rstrip(" =")


def signature(program: Program, meaning: Meaning) -> str:
    """The head of a definition, as it is written; a builtin's parameters."""
    node = meaning.node
    match meaning.kind:
        case "builtin":
            return _builtin(meaning.name)
        case "module":
            return f"import {meaning.name}"
        case "setting" | "constant":
            return meaning.name
    if node is None:
        return meaning.name
    return _head(program, node)


def _head(program: Program, node: syntax.Syntax) -> str:
    """The text of a definition up to its body."""
    text = program.text_of(node.span)
    if isinstance(node, syntax.Function):
        body = program.text_of(node.body.span)
        text = text[: len(text) - len(body)].rstrip().removesuffix("=")
    elif isinstance(node, syntax.Model | syntax.Optimizer):
        text = text.partition("{")[0]
    return text.rstrip()


def _builtin(name: str) -> str:
    rule = BUILTINS[name]
    words = [p if p in rule.needed else f"{p}?" for p in rule.parameters]
    if rule.shape:
        words.insert(len(rule.positional), "*shape")
    return f"{name}({', '.join(words)})"


def document(program: Program, meaning: Meaning) -> str:
    """What is said of a name where it is defined: its text, or the comment above it."""
    match meaning.kind:
        case "builtin":
            return BUILTIN_DOCS.get(meaning.name) or _op_document(meaning.name)
        case "constant":
            return NAMED[meaning.name]
        case "setting":
            return SETTINGS[meaning.name]
        case "module":
            return (meaning.module.tree.doc or "") if meaning.module is not None else ""
    node = meaning.node
    doc: str | None = None
    if isinstance(node, syntax.Model | syntax.Optimizer):
        doc = node.doc
    elif isinstance(node, syntax.Function) and isinstance(node.body, syntax.Block):
        doc = node.body.doc
    if doc is None and isinstance(node, syntax.Function | syntax.Model | syntax.Optimizer
                                  | syntax.Const | syntax.Variable | syntax.Member):
        doc = _comment(program.sources[node.span.file], node.span.line)
    return " ".join((doc or "").split())


def _op_document(name: str) -> str:
    doc = OPS[name].doc if name in OPS else BUILTINS[name].run.__doc__ or ""
    doc = " ".join(doc.split())
    return doc[:1].upper() + doc[1:] + ("" if doc.endswith(".") else ".") if doc else ""


def _comment(source: SourceFile, line: int) -> str:
    """The comment right above a line."""
    found: list[str] = []
    while (above := source.line(line - 1 - len(found)).strip()).startswith("#"):
        found.append(above.lstrip("# "))
    return " ".join(reversed(found))
