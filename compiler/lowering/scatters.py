"""Which scatters write over their base, where nobody needs the base any more."""

from __future__ import annotations

from dlc.compiler.lowering.updates import Updates
from dlc.ir.fused import FusedGraph, Group
from dlc.ir.graph import Node, Value


def scattered_over(fused: FusedGraph, updates: Updates) -> dict[Value, Value]:
    """The results of scatters that take the memory of their base, with that base.

    The base is a value that a kernel makes, and that is read by the scatter last, and there as the
    base alone.
    """
    owner = {v: group for group in fused.groups for v in group.outputs}
    order = {g.name: (g.name in updates.late, at) for at, g in enumerate(fused.groups)}
    last: dict[Value, tuple[bool, int]] = {}
    for group in fused.groups:
        for value in updates.reads(group):
            last[value] = max(order[group.name], last.get(value, order[group.name]))
    kept = {updates.base(v) for v in fused.graph.outputs} | set(updates.in_place)
    found: dict[Value, Value] = {}
    for group in fused.groups:
        node = group.root
        if node is None or node.op != "scatter" or node.result in updates.in_place:
            continue
        base = updates.base(node.operands[0])
        if base in kept or base not in owner or not _is_temp(owner[base]):
            continue
        if last[base] == order[group.name] and _reads_once(group, node, base, updates):
            found[node.result] = base
    return found


def _reads_once(group: Group, node: Node, base: Value, updates: Updates) -> bool:
    """Whether a scatter reads `base` as its base alone."""
    return base not in updates.reads(group, node.operands[1:])


def _is_temp(group: Group) -> bool:
    """Whether the outputs of a group lie in memory that is theirs alone, for a while."""
    return group.call is None and not any(node.op == "table" for node in group.nodes)
