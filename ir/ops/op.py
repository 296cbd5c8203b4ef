"""What an op is: one value that holds all that is known of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Literal

from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, Env
from dlc.ir.scalar import Array, ScalarBuilder
from dlc.ir.types import TensorType, Type

if TYPE_CHECKING:
    from dlc.ir.graph import Attr, Builder, Graph, Node, Value

    Attrs = Mapping[str, Attr]
    Infer = Callable[[tuple[Type, ...], dict[str, Attr], tuple[Graph, ...]], tuple[Type, ...]]
    Eval = Callable[["EvalCall"], tuple[Array, ...]]
    Vjp = Callable[[Builder, Node, tuple[Value, ...]], tuple[Value | None, ...]]
    Decompose = Callable[[Builder, Node], tuple[Value, ...]]
    AccessRule = Callable[[Node, tuple[Dim, ...]], "Read"]

Formula = Callable[..., object]  # (builder: ScalarBuilder[T], attrs, *xs: T) -> T


class TypeRuleError(TypeError):
    """Operands or attributes that do not fit an op; the text says expected and found."""


@dataclass(frozen=True, slots=True)
class NotDifferentiable:
    """Stands in the place of a gradient, and says why there is none."""

    reason: str


class Structured:
    """Stands in the place of the gradient of an op with bodies, which is no list of nodes.

    For such a gradient the node itself must change (a scan yields more than it did), so the pass
    that differentiates does it.
    """


STRUCTURED: Final = Structured()


def not_differentiable(reason: str) -> NotDifferentiable:
    """An op without a gradient. Never leave a gradient out: say why."""
    return NotDifferentiable(reason)


@dataclass(frozen=True, slots=True)
class EvalCall:
    """What `eval` gets: operands as arrays, attributes, the sizes of symbols, the result types."""

    inputs: tuple[Array, ...]
    attrs: Attrs
    env: Env
    types: tuple[Type, ...]
    regions: tuple[Graph, ...] = ()


@dataclass(frozen=True, slots=True)
class Read:
    """Where an element of a result comes from: the index into the operand, and what stands outside.

    `fill` is None where the index can't lie outside.
    """

    index: tuple[Dim, ...]
    fill: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """Inputs for the tests that walk the registry: types as text, attributes, a range of values.

    `ranges` are operands with a range of their own, as indices have: (operand, lowest, highest).
    """

    types: tuple[str, ...]
    attrs: tuple[tuple[str, Attr], ...] = ()
    low: float = -2.0
    high: float = 2.0
    ranges: tuple[tuple[int, float, float], ...] = ()

    def range(self, operand: int) -> tuple[float, float]:
        """The lowest and the highest number for an operand."""
        own = {k: (low, high) for k, low, high in self.ranges}
        return own.get(operand, (self.low, self.high))


@dataclass(frozen=True, slots=True)
class Op:
    """An operation of the Graph.

    Exactly one of `formula` (elementwise), `access` (a map of indices), `decompose` (into other
    ops) and `kernel` (the name of a loop nest that the compiler knows) says how it is computed.
    `flags` are attributes that a node has (and they are true) or has not.
    """

    name: str
    doc: str
    infer: Infer
    eval: Eval
    vjp: Vjp | NotDifferentiable | Structured
    samples: tuple[Sample, ...]
    attrs: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    formula: Formula | None = None
    access: AccessRule | None = None
    decompose: Decompose | None = None
    kernel: Literal["contract", "reduce", "call", "control", "effect", "constant", "index",
                    "gather", "scatter", "scan", "sort", ""] = ""
    cost: float = 1.0

    def order_attrs(self, attrs: Mapping[str, Attr]) -> tuple[tuple[str, Attr], ...]:
        """`attrs` as a node keeps them, without flags that are false.

        TypeRuleError if one is missing or unknown.
        """
        if attrs.keys() - set(self.flags) != set(self.attrs):
            raise TypeRuleError(
                f"{self.name} has the attributes {', '.join(self.attrs) or '(none)'}, "
                f"not {', '.join(attrs) or '(none)'}"
            )
        flags = tuple((name, True) for name in self.flags if attrs.get(name, False))
        return tuple((name, _one_nan(attrs[name])) for name in self.attrs) + flags


def _one_nan(value: Attr) -> Attr:
    """`math.nan` for any nan: what is the same object compares equal, and nodes are compared."""
    return math.nan if isinstance(value, float) and math.isnan(value) else value


OPS: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Adds `op` to the registry; ValueError if its name is taken."""
    if op.name in OPS:
        raise ValueError(f"there is an op called {op.name} already")
    OPS[op.name] = op
    return op


def dense(kind: Type, what: str) -> TensorType:
    """`kind` as a dense tensor type, or a TypeRuleError that names the op."""
    if not isinstance(kind, TensorType):
        raise TypeRuleError(f"{what} takes dense tensors, not {kind}")
    return kind


def array_shape(kind: Type, env: Env) -> tuple[int, ...]:
    """The dims of a dense type as numbers."""
    from dlc.ir.dims import evaluate

    return tuple(evaluate(dim, env) for dim in dense(kind, "an array").dims)


__all__ = ["OPS", "STRUCTURED", "Array", "EvalCall", "NotDifferentiable", "Op", "Read", "Sample",
           "ScalarBuilder", "Structured", "TypeRuleError", "array_shape", "dense",
           "not_differentiable", "register"]
