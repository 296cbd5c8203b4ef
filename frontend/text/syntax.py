"""The syntax tree of .dl: what was written, each node with its place.

Nodes are frozen; `dump` prints any of them. What is sugar is kept only where it costs nothing:
`x |> f(a)` is the call `f(x, a)` with `piped` set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Literal

from dlc.frontend.text.syntax_expressions import (
    Argument,
    Binary,
    Boolean,
    Call,
    Cast,
    Choice,
    Comparison,
    Comprehension,
    Ellipsis,
    Expr,
    Field,
    Host,
    Index,
    List,
    Name,
    NewAxis,
    Number,
    Parameter,
    Rest,
    Slice,
    String,
    Subscript,
    Syntax,
    Tuple,
    TupleTypeExpr,
    TypeExpr,
    Unary,
)
from dlc.ir.dataclass import dataclass

__all__ = [
    "Argument", "Assert", "Assign", "Binary", "Block", "Boolean", "Call", "Carried", "Cast",
    "Choice", "Comparison", "Comprehension", "Const", "Definition", "Ellipsis", "Expr", "Field",
    "File", "For", "Function", "Host", "If", "Import", "Index", "List", "Member", "Minimize",
    "Model", "Name", "NewAxis", "Number", "On", "Optimizer", "Parameter", "Phase", "Print",
    "Rest", "Return", "Scan", "Setting", "Slice", "Statement", "String", "Subscript", "Syntax",
    "Test", "Train", "Tuple", "TupleTypeExpr", "TypeExpr", "Unary", "Update", "Variable",
    "While", "Yield", "dump",
]


# Statements


@dataclass(frozen=True, slots=True)
class Block(Syntax):
    """`{ … }`, with a documentation string if one stands first."""

    doc: str | None
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Assign(Syntax):
    """`a, b = values`."""

    targets: tuple[Name, ...]
    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Update(Syntax):
    """`target := value`, `target += value`."""

    target: Name | Field | Subscript
    operator: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Return(Syntax):
    """`return values`."""

    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Yield(Syntax):
    """`yield value as name`."""

    value: Expr
    name: Name


@dataclass(frozen=True, slots=True)
class For(Syntax):
    """`for targets in source { … }`, unrolled."""

    targets: tuple[Name, ...]
    source: Expr
    body: Block


@dataclass(frozen=True, slots=True)
class If(Syntax):
    """`if condition { … } else { … }`."""

    condition: Expr
    then: Block
    otherwise: Block | None


@dataclass(frozen=True, slots=True)
class Carried(Syntax):
    """`name = initial` after `carry`."""

    name: Name
    value: Expr


@dataclass(frozen=True, slots=True)
class Scan(Syntax):
    """`scan targets in sources, reverse=true carry … { … }`."""

    targets: tuple[Name, ...]
    sources: tuple[Expr, ...]
    carries: tuple[Carried, ...]
    body: Block
    options: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True)
class While(Syntax):
    """`while condition carry … { … }`."""

    condition: Expr
    carries: tuple[Carried, ...]
    body: Block


@dataclass(frozen=True, slots=True)
class Minimize(Syntax):
    """`minimize loss with optimizer, over=(…), clip_norm=…`."""

    loss: Expr
    optimizer: Call
    options: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Assert(Syntax):
    """`assert condition, "text"`."""

    condition: Expr
    text: str


@dataclass(frozen=True, slots=True)
class Print(Syntax):
    """`print("text {value}")`."""

    value: Expr


@dataclass(frozen=True, slots=True)
class On(Syntax):
    """`on "cuda:0" { … }`."""

    device: str
    body: Block


Statement = (
    Assign | Update | Return | Yield | For | If | Scan | While | Minimize | Assert | Print | On
)


# Definitions


@dataclass(frozen=True, slots=True)
class Import(Syntax):
    """`import nn`, or `import "file.dl"` (then `quoted`)."""

    name: str
    quoted: bool


@dataclass(frozen=True, slots=True)
class Const(Syntax):
    """`const NAME: type = value`."""

    name: Name
    type: TypeExpr
    value: Expr


@dataclass(frozen=True, slots=True)
class Function(Syntax):
    """A `fn` or a `step`, with a block or a single expression as its body."""

    kind: Literal["fn", "step"]
    name: Name
    parameters: tuple[Parameter, ...]
    result: TypeExpr | TupleTypeExpr | None
    where: tuple[Expr, ...]
    body: Block | Expr


@dataclass(frozen=True, slots=True)
class Variable(Syntax):
    """`param name: type = initial`, or `state`."""

    kind: Literal["param", "state"]
    name: Name
    type: TypeExpr
    value: Expr


@dataclass(frozen=True, slots=True)
class Member(Syntax):
    """`name = value` in a model: a submodel, a list of them, a constant."""

    name: Name
    value: Expr


@dataclass(frozen=True, slots=True)
class Model(Syntax):
    """`model Name(parameters) where … { … }`."""

    name: Name
    parameters: tuple[Parameter, ...]
    where: tuple[Expr, ...]
    doc: str | None
    members: tuple[Variable | Member | Function, ...]


@dataclass(frozen=True, slots=True)
class Optimizer(Syntax):
    """`optimizer name(parameters) for p: …, g: … { … }`."""

    name: Name
    parameters: tuple[Parameter, ...]
    operands: tuple[Parameter, ...]
    doc: str | None
    states: tuple[Variable, ...]
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Setting(Syntax):
    """`name = value` in a `train` block."""

    name: Name
    value: Expr


@dataclass(frozen=True, slots=True)
class Phase(Syntax):
    """`phase name { … }` in a `train` block."""

    name: Name
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class Train(Syntax):
    """`train Model(arguments) { … }`."""

    model: Name
    arguments: tuple[Argument, ...]
    settings: tuple[Setting, ...]
    phases: tuple[Phase, ...]


@dataclass(frozen=True, slots=True)
class Test(Syntax):
    """`test "name" { … }`."""

    name: str
    body: Block


Definition = Import | Const | Function | Model | Optimizer | Train | Test


@dataclass(frozen=True, slots=True)
class File(Syntax):
    """A whole file."""

    doc: str | None
    definitions: tuple[Definition, ...]


def reads(node: Syntax, name: str) -> bool:
    """Whether a name stands anywhere in a tree."""
    waiting: list[object] = [node]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Name) and each.text == name:
            return True
        if isinstance(each, tuple):
            waiting += each
        elif isinstance(each, Syntax):
            waiting += [getattr(each, spec.name) for spec in fields(each)]
    return False


def dump(node: Syntax) -> str:
    """The tree as text, a node a line, children indented; the same text for the same tree."""
    return "\n".join(_dump(node, "", 0)) + "\n"


def _dump(node: Syntax, label: str, depth: int) -> Iterator[str]:
    words, children = [], []
    for spec in fields(node):
        value = getattr(node, spec.name)
        if spec.name in ("span", "at", "ats") or value is None or value == ():
            continue
        if isinstance(value, Name) and spec.name == "name":
            words.append(value.text)
        elif isinstance(value, Syntax):
            children.append((spec.name, value))
        elif isinstance(value, tuple) and isinstance(value[0], Syntax):
            children += [(f"{spec.name}[{i}]", item) for i, item in enumerate(value)]
        elif isinstance(value, bool) and spec.name != "value":
            words += [spec.name] if value else []
        else:
            words.append(_word(value))
    place = f"@{node.span.line}:{node.span.column}"
    head = " ".join([f"{label}:"] * bool(label) + [type(node).__name__, *words, place])
    yield "  " * depth + head
    for name, child in children:
        yield from _dump(child, name, depth + 1)


def _word(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return repr(value) if isinstance(value, str) and not value.isidentifier() else str(value)
