"""decompose: expands the ops that are said in terms of other ops (softmax, log_softmax).

Comes after differentiate, so that such an op keeps the gradient of its own, which is shorter and
more exact than that of its parts.
"""

from __future__ import annotations

from dataclasses import replace

from dlc.ir.graph import Builder, Graph, Node, Value
from dlc.ir.ops import OPS


def decompose(graph: Graph) -> Graph:
    """Expands until nothing is left to expand."""
    if all(OPS[node.op].decompose is None for node in graph.nodes):
        return graph
    b = Builder(v.name for v in (*graph.inputs, *(r for n in graph.nodes for r in n.results)))
    renamed: dict[Value, Value] = {}
    for node in graph.nodes:
        _expand(b, node, renamed)
    return replace(
        graph, nodes=tuple(b.nodes), results=tuple(renamed.get(v, v) for v in graph.results),
        updates=tuple((name, renamed.get(v, v)) for name, v in graph.updates))


def _expand(b: Builder, node: Node, renamed: dict[Value, Value]) -> None:
    node = replace(node, operands=tuple(renamed.get(v, v) for v in node.operands))
    rule = OPS[node.op].decompose
    if rule is None:
        b.nodes.append(node)
        return
    with b.located(node.locs, node.path, node.phase):
        renamed.update(zip(node.results, rule(b, node), strict=True))
