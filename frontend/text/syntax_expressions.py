"""The syntax tree of .dl: expressions, indices and types. `syntax` gives them on with the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Span


@dataclass(frozen=True, slots=True)
class Syntax:
    """Any node."""

    span: Span


# Expressions


@dataclass(frozen=True, slots=True)
class Name(Syntax):
    """A name, where it is read or where it is given."""

    text: str


@dataclass(frozen=True, slots=True)
class Number(Syntax):
    """A number: an int, or a float if it was written with a point or an exponent."""

    value: int | float


@dataclass(frozen=True, slots=True)
class String(Syntax):
    """A text."""

    value: str


@dataclass(frozen=True, slots=True)
class Boolean(Syntax):
    """`true` or `false`."""

    value: bool


@dataclass(frozen=True, slots=True)
class Tuple(Syntax):
    """`(a, b)`: several values."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class List(Syntax):
    """`[a, b]`: a tensor, a list of models or of values."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Comprehension(Syntax):
    """`[item for targets in source]`."""

    item: Expr
    targets: tuple[Name, ...]
    source: Expr


@dataclass(frozen=True, slots=True)
class Unary(Syntax):
    """`-x`, `+x`, `not x`."""

    operator: str
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary(Syntax):
    """`a + b` and its like, `and`, `or`; `at` is the place of the operator."""

    operator: str
    left: Expr
    right: Expr
    at: Span


@dataclass(frozen=True, slots=True)
class Comparison(Syntax):
    """`a < b <= c`: operators between operands, with their places."""

    operands: tuple[Expr, ...]
    operators: tuple[str, ...]
    ats: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Choice(Syntax):
    """`then if condition else otherwise`."""

    condition: Expr
    then: Expr
    otherwise: Expr


@dataclass(frozen=True, slots=True)
class Argument(Syntax):
    """What a call passes, by place or by name."""

    name: Name | None
    value: Expr


@dataclass(frozen=True, slots=True)
class Call(Syntax):
    """`function(arguments)`; if `piped`, the first argument stood before a `|>`."""

    function: Expr
    arguments: tuple[Argument, ...]
    piped: bool = False


@dataclass(frozen=True, slots=True)
class Slice(Syntax):
    """`start:stop:step` in an index."""

    start: Expr | None
    stop: Expr | None
    step: Expr | None


@dataclass(frozen=True, slots=True)
class Ellipsis(Syntax):
    """`...` in an index."""


@dataclass(frozen=True, slots=True)
class NewAxis(Syntax):
    """`None` in an index."""


@dataclass(frozen=True, slots=True)
class Subscript(Syntax):
    """`value[indices]`."""

    value: Expr
    indices: tuple[Index, ...]


@dataclass(frozen=True, slots=True)
class Field(Syntax):
    """`value.name`."""

    value: Expr
    name: Name


@dataclass(frozen=True, slots=True)
class Cast(Syntax):
    """`f32(value)`."""

    dtype: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Host(Syntax):
    """What is worked out by Python: a value that is known already, or the body of a function.

    No text has it; the Python face makes it. `run` gets the frame of the elaborator, and gives one
    of its values; `differentiates` says whether `minimize` or `grad` stands in it.
    """

    run: Callable[[Any], Any]
    differentiates: bool = False


Expr = (
    Name | Number | String | Boolean | Tuple | List | Comprehension | Unary | Binary | Comparison
    | Choice | Call | Subscript | Field | Cast | Host
)
Index = Expr | Slice | Ellipsis | NewAxis


# Types


@dataclass(frozen=True, slots=True)
class Rest(Syntax):
    """`*S`: any number of dims."""

    name: Name


@dataclass(frozen=True, slots=True)
class TypeExpr(Syntax):
    """`f32[N, 10]`, `sparse f32[N, M]`, `float[*S]`, `int`."""

    dtype: str
    dims: tuple[Expr | Rest, ...]
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class TupleTypeExpr(Syntax):
    """`(f32[N], i32[N])`: the type of several results."""

    items: tuple[TypeExpr, ...]


@dataclass(frozen=True, slots=True)
class Parameter(Syntax):
    """`name: type = default`."""

    name: Name
    type: TypeExpr
    default: Expr | None
