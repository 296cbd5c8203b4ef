"""pack_inputs: gives an input that products read again and again a copy of its own.

A caller's arrays lie in row-major order. Where the batch is to lie in the lanes, what a contraction
of several operands reads of them along it is copied first, so that choose_layouts may store the
copy as suits the contraction.

    %y = contract %x, %w   ->   %p = pack %x
                                %y = contract %p, %w

A variable that becomes what another one was gets a copy too: the other may be written first. And
so do parts that a tree_sum, which adds them up in place, does not have to itself.
"""

from __future__ import annotations

from dataclasses import replace

from dlc.compiler.kernels.batches import batch_in_lanes
from dlc.compiler.options import Options
from dlc.ir.graph import Builder, Graph, Loc, Node, Value, names, producers, use_counts
from dlc.ir.ops.contract import sums
from dlc.ir.types import TensorType, type_symbols


def pack_inputs(graph: Graph, options: Options) -> Graph:
    """Packs every input along the batch that a product reads, and old values that move on."""
    batch = batch_in_lanes(graph.nodes, options)
    inputs = {p.value for p in graph.params if p.role == "in" and batch is not None
              and isinstance(p.value.type, TensorType) and batch in type_symbols(p.value.type)
              and p.value.type.rank > 1}
    return _pack(graph, [
        v for node in graph.nodes if _is_product(node) for v in node.operands if v in inputs])


def pack_in_body(graph: Graph) -> Graph:
    """The same for a graph inside another, which reads its inputs where they lie, in row-major
    order: a copy in each turn of a loop would cost more than it saves."""
    return _pack(graph, [])


def _pack(graph: Graph, wanted: list[Value]) -> Graph:
    old, shared = _old_values(graph), _shared_parts(graph)
    if not wanted and not old and not shared:
        return graph
    b = Builder(names(graph))
    packed = {}
    for value in dict.fromkeys(wanted):
        with b.located(_readers(graph, value)):
            packed[value] = b.op("pack", value, hint=f"{value.name}.packed")
    for node in graph.nodes:
        if _is_product(node):
            node = replace(node, operands=tuple(packed.get(v, v) for v in node.operands))
        elif node in shared:
            node = replace(node, operands=(b.op("pack", *node.operands),))
        b.nodes.append(node)
    kept = {v: b.op("pack", v, hint=f"{v.name}.old") for v in dict.fromkeys(old)}
    updates = tuple((name, kept.get(v, v)) for name, v in graph.updates)
    return replace(graph, nodes=tuple(b.nodes), updates=updates)


def _readers(graph: Graph, value: Value) -> tuple[Loc, ...]:
    """The places of the products that read an input."""
    return tuple(dict.fromkeys(loc for node in graph.nodes if _is_product(node)
                               and value in node.operands for loc in node.locs))


def _is_product(node: Node) -> bool:
    return node.op == "contract" and len(node.operands) > 1


def _old_values(graph: Graph) -> list[Value]:
    """New values of variables that are the memory of another variable."""
    variables = {p.value for p in graph.params if p.role == "var"}
    made = producers(graph.nodes)
    found: list[Value] = []
    for name, value in graph.updates:
        source = value
        while source in made and made[source].op == "reshape":
            source = made[source].operands[0]
        if source in variables and source.name != name:
            found.append(value)
    return found


def _shared_parts(graph: Graph) -> list[Node]:
    """The tree_sums of what is not a sum that they alone read."""
    found = [node for node in graph.nodes if node.op == "tree_sum"]
    if not found:
        return found
    made, counts = producers(graph.nodes), use_counts(graph)
    return [node for node in found if counts[node.operands[0]] > 1
            or not _is_sum(made.get(node.operands[0]))]


def _is_sum(node: Node | None) -> bool:
    return node is not None and node.op == "contract" and sums(node)
