"""What an expression is while a program is elaborated: numbers, tensors of the graph, models, …"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from dlc.frontend.text import syntax
from dlc.ir import graph as ir
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Span
from dlc.ir.dims import Dim, Poly
from dlc.ir.types import SparseType, TensorType, sparse

if TYPE_CHECKING:
    from dlc.frontend.elaborate.modules import Module


@dataclass(frozen=True, slots=True)
class Number:
    """A number without a type: written in the text, a dim, an `int`, and what is made of these."""

    value: int | float | Poly


@dataclass(frozen=True, slots=True)
class Truth:
    """`true` or `false`, known as the program is compiled."""

    value: bool


@dataclass(frozen=True, slots=True)
class Text:
    """A text."""

    value: str


@dataclass(frozen=True, slots=True)
class Table:
    """A typed constant; its numbers in row-major order."""

    kind: TensorType
    numbers: tuple[int | float | bool, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of the graph. If `untyped`, it is an f64 that takes the type that it meets."""

    value: ir.Value
    untyped: bool = False


@dataclass(frozen=True, slots=True)
class Sparse:
    """A sparse matrix: three values of the graph, an element for each entry."""

    rows: ir.Value
    columns: ir.Value
    values: ir.Value
    dims: tuple[Dim, Dim]

    @property
    def kind(self) -> SparseType:
        """Its type."""
        return sparse(self.values.dtype, self.dims)


@dataclass(frozen=True, slots=True)
class Many:
    """Several values."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """A list. If not `known`, its length is a symbol, and `items` holds the first alone; it stands
    for all others if they are `alike`."""

    items: tuple[Value, ...]
    known: bool = True
    alike: bool = True

    def place(self, at: int | None) -> Value:
        """An item of a list that is not known; None for a place that is not known either."""
        return self.items[0] if self.items and (self.alike or at == 0) else Poisoned()


@dataclass(frozen=True, slots=True)
class Package:
    """A module that was imported by name."""

    module: Module


@dataclass(frozen=True, slots=True)
class Maker:
    """A model that can be built."""

    model: syntax.Model
    module: Module


@dataclass(frozen=True, slots=True)
class Callee:
    """A function of the language; `owner` is the model that it belongs to."""

    function: syntax.Function
    module: Module
    owner: Instance | None = None


@dataclass(frozen=True, slots=True)
class Optimizer:
    """An optimizer, to stand after `with`."""

    definition: syntax.Optimizer
    module: Module


@dataclass(frozen=True, slots=True)
class Builtin:
    """A function that the compiler knows."""

    name: str


@dataclass(frozen=True, slots=True)
class Poisoned:
    """What an error left: using it says nothing more."""


@dataclass(frozen=True, slots=True, eq=False)
class Variable:
    """A param or state: its name in the program, its type, and what makes its initial value."""

    name: str
    kind: TensorType
    role: Literal["param", "state", "optimizer"]
    span: Span
    owner: Instance | None  # None for what an optimizer's body reads
    module: Module
    initial: syntax.Expr

    @property
    def trained(self) -> bool:
        """Whether it is a `param`."""
        return self.role == "param"


@dataclass(slots=True, eq=False)
class Instance:
    """A model that was built: its parameters' values, the symbols bound by them, its members."""

    model: syntax.Model
    module: Module
    path: str
    span: Span
    parameters: dict[str, Value] = field(default_factory=dict)
    symbols: dict[str, Dim] = field(default_factory=dict)
    members: dict[str, Value] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.model.name.text

    def within(self, name: str) -> str:
        """The path of a member."""
        return f"{self.path}.{name}" if self.path else name

    def function(self, name: str) -> syntax.Function | None:
        """The function called `name`, if the model has one."""
        for member in self.model.members:
            if isinstance(member, syntax.Function) and member.name.text == name:
                return member
        return None

    def variables(self) -> Iterator[Variable]:
        """Its own and its submodels' variables, in the order of the text, each once."""
        yield from dict.fromkeys(_variables(tuple(self.members.values())))


Value = (
    Number | Truth | Text | Table | Tensor | Sparse | Many | Listing | Package | Maker | Callee
    | Optimizer | Builtin | Poisoned | Variable | Instance
)


def _variables(values: tuple[Value, ...]) -> Iterator[Variable]:
    for value in values:
        if isinstance(value, Variable):
            yield value
        elif isinstance(value, Instance):
            yield from value.variables()
        elif isinstance(value, Listing | Many):
            yield from _variables(value.items)


def describe(value: Value) -> str:
    """What a value is, for messages."""
    return _describe_data(value) or _describe_definition(value)


def _describe_data(value: Value) -> str:
    match value:
        case Number(n):
            return f"the {'number' if isinstance(n, int | float) else 'integer'} {n}"
        case Truth(b):
            return str(b).lower()
        case Text(text):
            return f'the text "{text}"'
        case Table(kind):
            return str(kind)
        case Tensor(v, untyped):
            return "a number" if untyped else str(v.type)
        case Variable() | Sparse():
            return str(value.kind)
        case Many(items):
            return f"({', '.join(describe(item) for item in items)})"
        case Listing(items):
            return f"a list of {len(items)}"
    return ""


def _describe_definition(value: Value) -> str:
    match value:
        case Package(module):
            return f"the module `{module.name}`"
        case Maker(model):
            return f"the model `{model.name.text}`"
        case Instance():
            return f"a model `{value.name}`"
        case Callee(function):
            return f"the function `{function.name.text}`"
        case Optimizer(definition):
            return f"the optimizer `{definition.name.text}`"
        case Builtin(name):
            return f"the function `{name}`"
    return "nothing"


def dim_help(value: Value) -> str:
    """What to do where a number of a tensor stands for a dim."""
    if not isinstance(value, Tensor) or value.value.dims or not value.value.dtype.is_integer:
        return ""
    return "no shape depends on data: an `int` parameter may be a dim"
