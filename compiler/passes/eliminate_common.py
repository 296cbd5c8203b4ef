"""Computes once what is computed twice: value numbering over the whole graph.

    %a = mul %x, %y                 →      %a = mul %x, %y
    %b = mul %y, %x                        %c = add %a, %a
    %c = add %a, %b

Requires valid IR; ensures that no two nodes have the same op, operands, attributes, bodies and
phase. The phase counts, because a node of the backward phase may be a deliberate copy of a
forward one, made so that its value need not be kept; only constants (one number all over a tensor
too), which cost nothing, are shared between phases. Random draws are functions of their operands,
and merge like all others; what has an effect never does.
"""

from __future__ import annotations

from typing import Final

from dlc.compiler.passes.eliminate_dead import has_effect
from dlc.compiler.rewriting.bodies import in_bodies
from dlc.compiler.rewriting.rewrite import with_nodes, with_operands
from dlc.ir.graph import Attr, Graph, Node, Value
from dlc.ir.ops import OPS

COMMUTATIVE: Final = frozenset({"add", "mul", "eq", "ne", "and", "or"})


def eliminate_common(graph: Graph) -> Graph:
    """`graph` with equal nodes merged into the first, in bodies too; itself if no two are equal."""
    return _eliminate(graph, {}, {})


def _eliminate(graph: Graph, bodies: dict[int, Graph], effects: dict[int, bool]) -> Graph:
    first: dict[object, tuple[Value, ...]] = {}
    replaced: dict[Value, Value] = {}
    nodes: list[Node] = []
    constants: set[str] = set()
    changed = False
    for node in graph.nodes:
        if replaced and any(v in replaced for v in node.operands):
            node = with_operands(node, tuple(replaced.get(v, v) for v in node.operands))
        inside = in_bodies(node, bodies, lambda body: _eliminate(body, bodies, effects))
        changed |= inside is not node
        node = inside
        if _may_merge(node, effects):
            found = first.setdefault(_key(node, constants), node.results)
            if found is not node.results:
                replaced.update(zip(node.results, found, strict=True))
                continue
        nodes.append(node)
    return with_nodes(graph, nodes, replaced) if changed or replaced else graph


def _may_merge(node: Node, effects: dict[int, bool]) -> bool:
    return bool(node.results) and OPS[node.op].kernel != "effect" and not has_effect(node, effects)


def _key(node: Node, constants: set[str]) -> object:
    """What equal nodes have in common. Names of constants are added to `constants`."""
    operands = [v.name for v in node.operands]
    if node.op in COMMUTATIVE:
        operands.sort()
    phase: str = node.phase
    if OPS[node.op].kernel == "constant" or (node.op == "broadcast" and operands[0] in constants):
        constants.add(node.results[0].name)
        phase = ""
    attrs = tuple([(name, _exact(value)) for name, value in node.attrs])
    bodies = tuple([id(region) for region in node.regions])
    return node.op, phase, tuple(operands), attrs, bodies, node.results[0].type


def _exact(value: Attr) -> object:
    """A key for an attribute: tells -0.0 from 0.0 and True from 1, finds nan equal to nan."""
    if isinstance(value, float | bool):
        return repr(value)
    if isinstance(value, tuple):
        return tuple([_exact(item) for item in value])
    return value


__all__ = ["COMMUTATIVE", "eliminate_common"]
