"""decompose: expands the ops that are said in terms of other ops (softmax, log_softmax).

Comes after differentiate, so that such an op keeps the gradient of its own, which is shorter and
more exact than that of its parts. Bodies of nodes are expanded too.
"""

from __future__ import annotations

from dataclasses import replace

from dlc.compiler.rewriting.bodies import in_bodies
from dlc.compiler.rewriting.rewrite import with_nodes
from dlc.ir.graph import Builder, Graph, Node, Value
from dlc.ir.ops import OPS


def decompose(graph: Graph) -> Graph:
    """Expands until nothing is left to expand; `graph` itself if there is nothing."""
    return _decompose(graph, {})


def _decompose(graph: Graph, bodies: dict[int, Graph]) -> Graph:
    if not any(node.regions or OPS[node.op].decompose for node in graph.nodes):
        return graph
    b = Builder(v.name for v in (*graph.inputs, *(r for n in graph.nodes for r in n.results)))
    renamed: dict[Value, Value] = {}
    changed = False
    for node in graph.nodes:
        inside = in_bodies(node, bodies, lambda body: _decompose(body, bodies))
        changed |= inside is not node or OPS[node.op].decompose is not None
        _expand(b, inside, renamed)
    return with_nodes(graph, b.nodes, renamed) if changed else graph


def _expand(b: Builder, node: Node, renamed: dict[Value, Value]) -> None:
    if renamed and any(v in renamed for v in node.operands):
        node = replace(node, operands=tuple(renamed.get(v, v) for v in node.operands))
    rule = OPS[node.op].decompose
    if rule is None:
        b.nodes.append(node)
        return
    start = len(b.nodes)
    with b.located(node.locs, node.path, node.phase):
        made = rule(b, node)
    inner = b.nodes[start:]
    if any(OPS[each.op].decompose is not None for each in inner):  # said in terms of such ops
        del b.nodes[start:]
        for each in inner:
            _expand(b, each, renamed)
        made = tuple(renamed.get(value, value) for value in made)
    renamed.update(zip(node.results, made, strict=True))
