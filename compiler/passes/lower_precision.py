"""lower_precision: products of f32 take operands that are rounded to bf16 or f16.

    %y = contract %x, %w    ->    %x.bf16 = cast %x {to = bf16}
                                  %x.f32 = cast %x.bf16 {to = f32}
                                  …                                   # and %w alike
                                  %y = contract %x.f32, %w.f32

Only by `Options.precision`. A product is a contraction of two operands or more: matrix products,
convolutions, einsum, and the gradients of all of them. It adds up in f32 and gives f32; the product
of two such numbers is exact there. Sums, pools and all that goes element by element stay as they
are, and so do variables: what is rounded is a copy, made once for all products of a graph.

Requires: gradients are expanded, so that theirs are rounded too. What a type of 16 bits holds
anyway (labels, pixels) is not rounded. A second run changes nothing.
"""

from __future__ import annotations

from dlc.compiler.options import Options
from dlc.compiler.rewriting.arithmetic import HOLDS
from dlc.compiler.rewriting.bodies import in_bodies
from dlc.compiler.rewriting.rewrite import with_nodes, with_operands
from dlc.ir.graph import Builder, Graph, Node, Value, names, producers
from dlc.ir.types import BOOL, DTYPES, F32, DType


def lower_precision(graph: Graph, options: Options) -> Graph:
    """`graph` with rounded operands of products, in bodies too; itself where precision is f32."""
    if options.precision == "f32":
        return graph
    return _lower(graph, DTYPES[options.precision], {})


def _lower(graph: Graph, to: DType, bodies: dict[int, Graph]) -> Graph:
    if not any(node.regions or _is_product(node) for node in graph.nodes):
        return graph
    rounding = _Rounding(graph, to)
    changed = False
    for node in graph.nodes:
        inside = in_bodies(node, bodies, lambda body: _lower(body, to, bodies))
        if _is_product(inside):
            inside = rounding.product(inside)
        changed |= inside is not node
        rounding.builder.nodes.append(inside)
    return with_nodes(graph, rounding.builder.nodes, {}) if changed else graph


def _is_product(node: Node) -> bool:
    return node.op == "contract" and len(node.operands) > 1 and node.result.dtype is F32


class _Rounding:
    """A graph in the making, and which of its values are rounded to what."""

    def __init__(self, graph: Graph, to: DType) -> None:
        self.to = to
        self.made = producers(graph.nodes)
        self.rounded: dict[Value, Value] = {}
        self.builder = Builder(names(graph))

    def product(self, node: Node) -> Node:
        """A product of rounded operands; the node itself if they are that already."""
        with self.builder.located(node.locs, node.path, node.phase):
            operands = tuple(map(self.round, node.operands))
        return node if operands == node.operands else with_operands(node, operands)

    def round(self, value: Value) -> Value:
        """`value` as the type with fewer digits has it, in f32."""
        if value not in self.rounded:
            self.rounded[value] = value if self._is_exact(value) else self._copy(value)
        return self.rounded[value]

    def _copy(self, value: Value) -> Value:
        short = self.builder.op("cast", value, hint=f"{value.name}.{self.to}", to=self.to)
        return self.builder.op("cast", short, hint=f"{value.name}.{F32}", to=F32)

    def _is_exact(self, value: Value) -> bool:
        """Whether a value was made from one that the type holds."""
        maker = self.made.get(value)
        if maker is None or maker.op != "cast":
            return False
        source = maker.operands[0].dtype
        return source is self.to or source is BOOL or source in HOLDS[self.to]
