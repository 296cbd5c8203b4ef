"""lower_precision: sums of 16 bits are in f32; operands of products of f32 may be rounded first.

    %y = contract %x, %w    ->    %x.f32 = cast %x {to = f32}           # of bf16 or f16
                                  %y.f32 = contract %x.f32, %w.f32
                                  %y = cast %y.f32 {to = bf16}

By `Options.precision` bf16 or f16, products of f32 take operands that are rounded to it:

    %y = contract %x, %w    ->    %x.bf16 = cast %x {to = bf16}
                                  %x.f32 = cast %x.bf16 {to = f32}
                                  …                                   # and %w alike
                                  %y = contract %x.f32, %w.f32

A product is a contraction of two operands or more: matrix products, convolutions, einsum, and the
gradients of all of them. The product of two such numbers is exact in f32. Sums, pools and all that
goes element by element stay as they are, and so do variables: what is rounded is a copy, made once
for all products of a graph.

Requires: gradients are expanded, so that theirs are rounded too. What a type of 16 bits holds
anyway (labels, pixels) is not rounded. A second run changes nothing.
"""

from __future__ import annotations

from dataclasses import replace

from dlc.compiler.options import Options
from dlc.compiler.rewriting.arithmetic import HOLDS
from dlc.compiler.rewriting.bodies import in_bodies
from dlc.compiler.rewriting.rewrite import with_nodes, with_operands
from dlc.ir.graph import Builder, Graph, Node, Value, names, producers
from dlc.ir.types import BF16, BOOL, DTYPES, F16, F32, DType, tensor

SHORT = (BF16, F16)  # types of 16 bits


def lower_precision(graph: Graph, options: Options) -> Graph:
    """`graph` with sums in f32 and rounded operands of products, in bodies too; itself where there
    is nothing to change."""
    to = DTYPES.get(options.precision, F32)  # tf32 is no type: the instructions round to it
    return _lower(graph, to, {})


def _lower(graph: Graph, to: DType, bodies: dict[int, Graph]) -> Graph:
    if not any(n.regions or _is_short(n) or (to is not F32 and _is_product(n))
               for n in graph.nodes):
        return graph
    rounding = _Rounding(graph, to)
    changed = False
    for node in graph.nodes:
        inside = in_bodies(node, bodies, lambda body: _lower(body, to, bodies))
        changed |= inside is not node or _is_short(node)
        if _is_short(inside):
            rounding.in_f32(inside)
            continue
        if to is not F32 and _is_product(inside):
            inside = rounding.product(inside)
            changed |= inside is not node
        rounding.builder.nodes.append(inside)
    return with_nodes(graph, rounding.builder.nodes, {}) if changed else graph


def _is_short(node: Node) -> bool:
    return node.op == "contract" and node.result.dtype in SHORT


def _is_product(node: Node) -> bool:
    return node.op == "contract" and len(node.operands) > 1 and node.result.dtype is F32


class _Rounding:
    """A graph in the making, and which of its values are rounded to what."""

    def __init__(self, graph: Graph, to: DType) -> None:
        self.to = to
        self.made = producers(graph.nodes)
        self.rounded: dict[Value, Value] = {}
        self.widened: dict[Value, Value] = {}
        self.builder = Builder(names(graph))

    def product(self, node: Node) -> Node:
        """A product of rounded operands; the node itself if they are that already."""
        with self.builder.located(node.locs, node.path, node.phase):
            operands = tuple(map(self.round, node.operands))
        return node if operands == node.operands else with_operands(node, operands)

    def in_f32(self, node: Node) -> None:
        """Appends a contraction of numbers of 16 bits, which adds up in f32."""
        with self.builder.located(node.locs, node.path, node.phase):
            operands = tuple(map(self._widen, node.operands))
            wide = self.builder.fresh(f"{node.result.name}.{F32}", tensor(F32, node.result.dims))
        self.builder.nodes += [
            replace(node, operands=operands, results=(wide,)),
            replace(node, op="cast", operands=(wide,), attrs=(("to", node.result.dtype),))]

    def _widen(self, value: Value) -> Value:
        if value not in self.widened:
            self.widened[value] = self.builder.op(
                "cast", value, hint=f"{value.name}.{F32}", to=F32)
        return self.widened[value]

    def round(self, value: Value) -> Value:
        """`value` as the type with fewer digits has it, in f32."""
        if value not in self.rounded:
            self.rounded[value] = value if self._is_exact(value) else self._copy(value)
        return self.rounded[value]

    def _copy(self, value: Value) -> Value:
        short = self.builder.op("cast", value, hint=f"{value.name}.{self.to}", to=self.to)
        return self.builder.op("cast", short, hint=f"{value.name}.{F32}", to=F32)

    def _is_exact(self, value: Value) -> bool:
        """Whether a value was made from one that the type, or another one of 16 bits, holds."""
        maker = self.made.get(value)
        if maker is None or maker.op != "cast":
            return False
        source = maker.operands[0].dtype
        return source in SHORT or source is BOOL or source in HOLDS[self.to]
