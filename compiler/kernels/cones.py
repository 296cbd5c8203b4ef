"""What a product of a matrix is computed from along its rows, and whether that goes part by part.

Numbers of a row that depend on all of it (its maximum m, a sum) may be among what is computed if
the sums are linear in one exp (x - m): when a larger maximum is found they are multiplied by
exp (m before - m now) (Milakov and Gimelshein 2018, Online normalizer calculation for softmax;
Dao et al. 2022, FlashAttention).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field

from dlc.ir.dataclass import dataclass
from dlc.ir.fused import Row
from dlc.ir.graph import Node, Value
from dlc.ir.ops.contract import maps_of
from dlc.ir.ops.shape import dims_attr
from dlc.ir.types import DType


@dataclass(slots=True)
class Cone:
    """What one product of a matrix is computed from, as far as it lies along the rows.

    `lanes` is the name of the axis (in `row`) along which one operand of each product is the same.
    `rest` is the matrix without the numbers that it is divided by, before it is rounded, if it is:
    to the types `casts`, one after another.
    """

    row: Row
    product: Node
    matrix: Value
    lanes: str
    nodes: dict[Value, Node]
    rest: Value
    factors: list[tuple[str, Value]] = field(default_factory=list)
    casts: tuple[DType, ...] = ()

    @property
    def has_numbers(self) -> bool:
        """Whether numbers of rows are computed too."""
        return any(not self.row.is_element(v) for v in self.nodes)

    def elements(self) -> Iterator[Value]:
        """The matrices."""
        return (v for v in self.nodes if self.row.is_element(v))


class Linear:
    """Whether the parts of a row can be put together, and what of a matrix comes after the sum."""

    def __init__(self, made: Mapping[Value, Node], cone: Cone, reductions: list[Node]) -> None:
        self.made, self.cone, self.reductions = made, cone, reductions
        self.known: dict[Value, frozenset[str]] = {}

    def fits(self) -> bool:
        """Also parts the matrix into `rest` and the numbers of rows."""
        rounded, casts = self._rounded(self.cone.matrix)
        rest, factors = self._parted(rounded)
        if factors:
            self.cone.rest, self.cone.factors, self.cone.casts = rest, factors, casts
        if not self.reductions:
            return True
        kinds = [n.op for n in self.reductions]
        if kinds.count("reduce_max") > 1 or any(
                k not in ("reduce_max", "contract") for k in kinds):
            return False
        sums = [n.operands for n in self.reductions if n.op == "contract"]
        if any(len(operands) != 1 for operands in sums):
            return False
        ends = [*(operands[0] for operands in sums), self.cone.rest]
        exps = {self._exp(value) for value in ends}
        tops = [n.operands[0] for n in self.reductions if n.op == "reduce_max"]
        return len(exps) == 1 and None not in exps and not any(self._needs(v) for v in tops)

    def _rounded(self, value: Value) -> tuple[Value, tuple[DType, ...]]:
        """What a matrix is rounded from, and to which types: numbers that are divided afterwards
        lose as few digits."""
        casts: tuple[DType, ...] = ()
        while (node := self.made.get(value)) is not None and node.op == "cast" and (
                node.operands[0].dtype.is_float):
            casts = value.dtype, *casts
            value = node.operands[0]
        return value, casts

    def _parted(self, value: Value) -> tuple[Value, list[tuple[str, Value]]]:
        """A matrix without what it is divided by, outermost first: numbers of rows that come of
        the matrix itself, and numbers that are the same everywhere."""
        factors: list[tuple[str, Value]] = []
        while (node := self.made.get(value)) is not None and node.op == "div":
            maker = self.made.get(node.operands[1])
            if maker is None or maker.op != "broadcast":
                break
            number = maker.operands[0]
            if number.dims and (
                    number not in self.cone.nodes or axes_of(self.cone, number) is None):
                break
            factors.append((node.op, number))
            value = node.operands[0]
        return value, factors

    def _needs(self, value: Value) -> frozenset[str]:
        """The kinds of reductions along the row that a value depends on."""
        if value not in self.known:
            node = self.made.get(value)
            found = frozenset[str]()
            if node is not None and (value in self.cone.nodes or node.op == "broadcast"):
                found = found.union(*map(self._needs, node.operands))
                if node in self.reductions:
                    found |= {node.op}
            self.known[value] = found
        return self.known[value]

    def _exp(self, value: Value) -> Value | None:
        """The exp (x - m) in which a value is linear, but for rounding."""
        node = self.made.get(value)
        if node is None or value not in self.cone.nodes:
            return None
        if node.op == "exp":
            apart = self.made.get(node.operands[0])
            if apart is None or apart.op != "sub" or self._needs(apart.operands[0]):
                return None
            top = self._needs(apart.operands[1])
            return value if top <= {"reduce_max"} else None
        if node.op == "mul":
            plain = [v for v in node.operands if not self._needs(v)]
            return self._exp(next(v for v in node.operands if v not in plain)) if (
                len(plain) == 1) else None
        if node.op == "cast" or (node.op == "div" and not self._needs(node.operands[1])):
            return self._exp(node.operands[0])
        return None


def axes_of(cone: Cone, number: Value) -> tuple[int, ...] | None:
    """The axes of the product along which those of a row's number lie; None if they don't."""
    if not number.dims:
        return ()
    node = cone.product
    at, out = maps_of(node)[node.operands.index(cone.matrix)], dims_attr(node, "out")
    places = {str(e): a for a, e in enumerate(out)}
    kept = [str(e) for e in at if str(e) in places]
    return tuple(places[name] for name in kept) if len(kept) == len(number.dims) else None
