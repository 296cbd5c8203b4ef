"""pack_inputs: gives an input that products read again and again a copy of its own.

A caller's arrays lie in row-major order. What a contraction of several operands reads of them along
the batch is copied first, so that choose_layouts may store the copy as suits the contraction.

    %y = contract %x, %w   ->   %p = pack %x
                                %y = contract %p, %w
"""

from __future__ import annotations

from dataclasses import replace

from dlc.compiler.options import Options
from dlc.ir.graph import Builder, Graph, Node, Value
from dlc.ir.types import TensorType, type_symbols


def run(graph: Graph, options: Options) -> Graph:
    """Packs every input with a symbolic dim that a product reads."""
    del options
    inputs = {p.value for p in graph.params if p.role == "in"
              and isinstance(p.value.type, TensorType) and type_symbols(p.value.type)
              and p.value.type.rank > 1}
    wanted = [v for node in graph.nodes if _is_product(node) for v in node.operands if v in inputs]
    if not wanted:
        return graph
    b = Builder(v.name for v in (*graph.inputs, *(r for n in graph.nodes for r in n.results)))
    packed = {v: b.op("pack", v, hint=f"{v.name}.packed") for v in dict.fromkeys(wanted)}
    for node in graph.nodes:
        if _is_product(node):
            node = replace(node, operands=tuple(_packed(v, packed) for v in node.operands))
        b.nodes.append(node)
    return replace(graph, nodes=tuple(b.nodes))


def _is_product(node: Node) -> bool:
    return node.op == "contract" and len(node.operands) > 1


def _packed(value: Value, packed: dict[Value, Value]) -> Value:
    return packed.get(value, value)
