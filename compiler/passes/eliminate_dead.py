"""Drops the nodes that nothing depends on.

    %a = exp %x                     →      %b = neg %x
    %b = neg %x                            return %b
    return %b

Requires valid IR; ensures that every node is needed for an output, or has an effect (a `check`,
here or in a body). Parameters stay: they are the signature.
"""

from __future__ import annotations

from dataclasses import replace

from dlc.ir.graph import Graph, Node
from dlc.ir.ops import OPS


def eliminate_dead(graph: Graph) -> Graph:
    """`graph` without dead nodes, in bodies too; `graph` itself if there are none."""
    return _eliminate(graph, {}, {})


def _eliminate(graph: Graph, bodies: dict[int, Graph], effects: dict[int, bool]) -> Graph:
    needed = {value.name for value in graph.outputs}
    kept: list[Node] = []
    changed = False
    for node in reversed(graph.nodes):
        if not any(v.name in needed for v in node.results) and not has_effect(node, effects):
            changed = True
            continue
        if node.regions:
            for region in node.regions:
                if id(region) not in bodies:
                    bodies[id(region)] = _eliminate(region, bodies, effects)
            regions = tuple(bodies[id(region)] for region in node.regions)
            if any(a is not b for a, b in zip(regions, node.regions, strict=True)):
                changed, node = True, replace(node, regions=regions)
        needed.update([v.name for v in node.operands])
        kept.append(node)
    return replace(graph, nodes=tuple(reversed(kept))) if changed else graph


def has_effect(node: Node, known: dict[int, bool]) -> bool:
    """Whether a node does something besides giving values; `known` remembers bodies by identity."""
    if OPS[node.op].kernel == "effect":
        return not node.results
    for region in node.regions:
        if id(region) not in known:
            known[id(region)] = any(has_effect(inner, known) for inner in region.nodes)
    return any(known[id(region)] for region in node.regions)
