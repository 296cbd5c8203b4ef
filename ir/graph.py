"""The Graph: a program in SSA form, one node a line.

Everything here is a frozen value; passes make new graphs with a `Builder`. A value is known by its
name, unique in its graph. State is explicit: variables come in as parameters of role `var`, and
their new values go out as `updates`. Locations are carried outside equality.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import field, replace
from typing import TYPE_CHECKING, Final, Literal

from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, Poly
from dlc.ir.types import DType, TensorType, Type, tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

Attr = bool | int | float | str | DType | Poly | tuple["Attr", ...]
Phase = Literal["forward", "backward", "update"]
Role = Literal["in", "var", "random", "size"]
Relation = Literal["==", ">=", ">", "<=", "<"]
RELATIONS: Final[dict[Relation, Callable[[int, int], bool]]] = {
    "==": operator.eq, ">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}


@dataclass(frozen=True, slots=True)
class Loc:
    """A place in a program's text, and the call through which it was reached."""

    file: str
    line: int
    column: int
    caller: Loc | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}"
        return f"{place} < {self.caller}" if self.caller else place


@dataclass(frozen=True, slots=True)
class Value:
    """What a node or a parameter gives. Names are unique in a graph, and may hold dots."""

    name: str
    type: Type

    def __hash__(self) -> int:
        """Of the name alone, which is nearly always enough: values are keys everywhere."""
        return hash(self.name)

    @property
    def tensor(self) -> TensorType:
        """Its type, where it is known to be a dense tensor; TypeError otherwise."""
        if not isinstance(self.type, TensorType):
            raise TypeError(f"%{self.name} is {self.type}, not a dense tensor")
        return self.type

    @property
    def dims(self) -> tuple[Dim, ...]:
        """The dims of a dense tensor."""
        return self.tensor.dims

    @property
    def dtype(self) -> DType:
        """The element type of a dense tensor."""
        return self.tensor.dtype


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. `path` names the value in the user's words (`LeNet5.scores.maps`)."""

    op: str
    operands: tuple[Value, ...]
    attrs: tuple[tuple[str, Attr], ...]
    results: tuple[Value, ...]
    regions: tuple[Graph, ...] = ()
    phase: Phase = "forward"
    path: str = ""
    locs: tuple[Loc, ...] = field(default=(), compare=False)

    @property
    def result(self) -> Value:
        """The only result."""
        return self.results[0]

    def attr(self, name: str) -> Attr:
        """The attribute called `name`; KeyError if there is none."""
        for key, value in self.attrs:
            if key == name:
                return value
        raise KeyError(f"{self.op} has no attribute {name}")


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a graph: an input, a variable, or the random state (`i64[2]`: seed, call).

    A `size` (an i64 scalar) is a number that is given at the call: the symbol of its name, which
    dims are made of. No node reads it as a value; the op `dim` gives it.
    """

    value: Value
    role: Role = "in"
    default: float | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of the dims at a call, checked before anything runs."""

    left: Dim
    relation: Relation
    right: Dim
    text: str
    locs: tuple[Loc, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Graph:
    """A function: parameters, nodes in an order that defines before it uses, results, updates."""

    name: str
    params: tuple[Param, ...]
    nodes: tuple[Node, ...]
    results: tuple[Value, ...]
    updates: tuple[tuple[str, Value], ...] = ()
    conditions: tuple[Condition, ...] = ()
    doc: str = field(default="", compare=False)

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The values of all parameters."""
        return tuple(p.value for p in self.params)

    @property
    def outputs(self) -> tuple[Value, ...]:
        """All that must be computed: results, then new values of variables."""
        return self.results + tuple(value for _, value in self.updates)


class Builder:
    """Appends nodes to a graph in the making. Type rules of the ops give the result types.

    `phase`, `path` and `locs` are stamped on every node made; `located` changes them for a block.
    """

    def __init__(self, used: Iterable[str] = ()) -> None:
        self.nodes: list[Node] = []
        self.phase: Phase = "forward"
        self.path = ""
        self.locs: tuple[Loc, ...] = ()
        self._used: dict[str, int] = dict.fromkeys(used, 0)

    def fresh(self, hint: str, kind: Type) -> Value:
        """A value with a name not used yet, after `hint`."""
        name = hint
        while name in self._used:
            self._used[hint] = self._used.get(hint, 0) + 1
            name = f"{hint}.{self._used[hint]}"
        self._used[name] = 0
        return Value(name, kind)

    def reserve(self, names: Iterable[str]) -> None:
        """Keeps names from being given by `fresh`."""
        self._used.update(dict.fromkeys(names, 0))

    def emit(
        self, op: str, *operands: Value, hint: str = "", regions: tuple[Graph, ...] = (),
        **attrs: Attr,
    ) -> tuple[Value, ...]:
        """Appends a node and returns its results; TypeRuleError if the types do not fit."""
        from dlc.ir.ops import OPS

        definition = OPS[op]
        ordered = definition.order_attrs(attrs)
        types = definition.infer(tuple(v.type for v in operands), dict(ordered), regions)
        results = tuple(self.fresh(hint or op, kind) for kind in types)
        self.nodes.append(
            Node(op, operands, ordered, results, regions, self.phase, self.path, self.locs)
        )
        return results

    def op(self, op: str, *operands: Value, hint: str = "", **attrs: Attr) -> Value:
        """Appends a node that has one result, and returns it."""
        return self.emit(op, *operands, hint=hint, regions=(), **attrs)[0]

    def copy(self, node: Node, operands: tuple[Value, ...]) -> tuple[Value, ...]:
        """Appends `node` with other operands; result types and names are kept where free."""
        results = tuple(self.fresh(v.name, v.type) for v in node.results)
        self.nodes.append(replace(node, operands=operands, results=results))
        return results

    @contextmanager
    def located(
        self, locs: tuple[Loc, ...], path: str | None = None, phase: Phase | None = None
    ) -> Iterator[None]:
        """Stamps what is made in the block with a place, a path and a phase."""
        before = self.locs, self.path, self.phase
        self.locs = locs or self.locs
        self.path = self.path if path is None else path
        self.phase = phase or self.phase
        try:
            yield
        finally:
            self.locs, self.path, self.phase = before

    # The few ops that every formula needs, by name.

    def constant(self, value: float, kind: Type, hint: str = "c") -> Value:
        """A constant of `kind`: a scalar, or one number all over a tensor."""
        assert isinstance(kind, TensorType)
        scalar = self.op("constant", hint=hint, dtype=kind.dtype, value=value)
        return self.broadcast(scalar, kind.dims)

    def broadcast(
        self, value: Value, dims: Sequence[Dim], axes: Sequence[int] | None = None
    ) -> Value:
        """`value` spread over `dims`; its axis i becomes axis `axes[i]` (the last ones if None)."""
        dims = tuple(dims)
        if value.dims == dims:
            return value
        first = len(dims) - len(value.dims)
        places = tuple(range(first, len(dims))) if axes is None else tuple(axes)
        return self.op("broadcast", value, dims=dims, axes=places)

    def reshape(self, value: Value, dims: Sequence[Dim]) -> Value:
        """`value` with other dims and the same elements in row-major order."""
        return value if value.dims == tuple(dims) else self.op("reshape", value, dims=tuple(dims))

    def sum(self, value: Value, axes: Sequence[int]) -> Value:
        """The sum over `axes`, which go away."""
        from dlc.ir.ops.contract import sum_spec

        axes = tuple(axes)
        if not axes:
            return value
        return self.op("contract", value, hint="sum", **sum_spec(value.dims, axes))

    def cast(self, value: Value, dtype: DType) -> Value:
        """`value` in another element type."""
        return value if value.dtype is dtype else self.op("cast", value, to=dtype)

    def zeros(self, kind: Type) -> Value:
        """Zero, all over."""
        return self.constant(0, kind, "zero")

    def scalar(self, dtype: DType, value: float) -> Value:
        """A scalar constant."""
        return self.constant(value, tensor(dtype))


def names(graph: Graph) -> list[str]:
    """The names of all values of a graph (not of the bodies in it)."""
    return [v.name for v in (*graph.inputs, *(v for node in graph.nodes for v in node.results))]


def producers(nodes: Iterable[Node]) -> dict[Value, Node]:
    """Which node makes each value."""
    return {value: node for node in nodes for value in node.results}


def use_counts(graph: Graph) -> dict[Value, int]:
    """How often each value is read, by nodes or as an output."""
    counts: dict[Value, int] = {}
    for value in (v for node in graph.nodes for v in node.operands):
        counts[value] = counts.get(value, 0) + 1
    for value in graph.outputs:
        counts[value] = counts.get(value, 0) + 1
    return counts
