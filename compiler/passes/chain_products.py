"""chain_products: gives each product of a matrix that is made of products a matrix of its own.

    %s = contract %q, %k                        %s = contract %q, %k
    %p = exp (%s - %m)                          %p = exp (%s - %m)
    %w = %p / %l               ->               %y.1 = contract %p, %v
    %y = contract %w, %v                        %y = %y.1 / %l
    %d = contract %w, %g                        %s.1 = contract %q, %k
                                                …
                                                %d = contract %w.1, %g

So `fuse` can make one kernel of each, in which the matrices are computed part by part: again where
they are needed again, and never as a whole. What a row is divided by in the end comes after the
sum; where %w is rounded for the product, %p is instead. Only matrices that nothing else reads are
treated (`kernels/chains.py`).

Requires: gradients expanded, common subexpressions eliminated. Ensures: the nodes of a chain follow
each other.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from dlc.compiler.kernels.chains import Finder, products_of_matrices
from dlc.compiler.kernels.cones import Cone, axes_of
from dlc.compiler.kernels.shapes import Shapes
from dlc.compiler.options import Options
from dlc.compiler.passes.eliminate_dead import has_effect
from dlc.ir.graph import Builder, Graph, Node, Value, names


def chain_products(graph: Graph, options: Options) -> Graph:
    """The graph with chains apart; itself if it has none."""
    if not products_of_matrices(graph, options):
        return graph
    finder = Finder(Shapes(graph, options), options)
    # Numbers of rows are computed once.
    groups = finder.groups(finder.cones(), lambda cone: cone.has_numbers)
    counts = Counter(v for cones in groups for v in {v for c in cones for v in c.elements()})
    if max(counts.values(), default=1) == 1 and not any(
            cone.factors for cones in groups for cone in cones):
        return graph
    builder = Builder(names(graph))
    units: dict[Value, list[Node]] = {}
    for cones in groups:
        shared = any(counts[v] > 1 for cone in cones for v in cone.elements())
        nodes = _apart(cones, shared and not any(c.has_numbers for c in cones), builder)
        units |= {node.result: nodes for node in nodes}
    ordered = _ordered(graph, units)
    return graph if ordered is None else replace(graph, nodes=ordered)


def _ordered(graph: Graph, units: dict[Value, list[Node]]) -> tuple[Node, ...] | None:
    """The nodes in the order of the graph, those of a unit together; what reads a unit waits for
    it. None if something with an effect would have to wait: effects keep their order."""
    known, out, waiting = set(graph.inputs), list[Node](), list[list[Node]]()
    for node in graph.nodes:
        unit = units.get(node.results[0]) if node.results else None
        if unit is None or not any(unit is other for other in waiting):
            waiting.append(unit or [node])
        progress = True
        while progress:
            progress = False
            for one in list(waiting):
                made = {v for n in one for v in n.results}
                if made <= known and made:
                    waiting.remove(one)
                elif all(v in known or v in made for n in one for v in n.operands):
                    known |= made
                    out += one
                    waiting.remove(one)
                    progress = True
        if any(has_effect(n, {}) for one in waiting for n in one):
            return None
    assert not waiting, "a chain waits for itself"
    return tuple(out)


def _apart(cones: list[Cone], copied: bool, builder: Builder) -> list[Node]:
    """The nodes of a chain: copies, or (where numbers of rows are computed) those of the graph."""
    all_nodes = {v: n for cone in cones for v, n in cone.nodes.items()}
    copies: dict[Value, Value] = {}
    nodes: list[Node] = []
    for value, node in _in_order(all_nodes):
        if copied:
            copies[value] = builder.fresh(f"{value.name}.part", value.type)
            operands = tuple(copies.get(v, v) for v in node.operands)
            node = replace(node, operands=operands, results=(copies[value],),
                           phase=cones[0].product.phase)
        nodes.append(node)
    for cone in cones:
        nodes += _product(cone, copies, builder)
    return nodes


def _product(cone: Cone, copies: dict[Value, Value], builder: Builder) -> list[Node]:
    """The product at the end of a cone, and what is divided by afterwards."""
    node = cone.product
    rest = copies.get(cone.rest, cone.rest)
    operands = tuple(rest if v == cone.matrix else v for v in node.operands)
    if not cone.factors:
        return [replace(node, operands=operands)]
    value = builder.fresh(f"{node.result.name}.sum", node.result.type)
    start = len(builder.nodes)
    with builder.located(node.locs, node.path, node.phase):
        rounded = rest
        for dtype in cone.casts:
            made = [n.result for n in cone.nodes.values()
                    if n.op == "cast" and n.operands == (rounded,) and n.result.dtype is dtype]
            rounded = made[0] if made else builder.op("cast", rounded, to=dtype)
        operands = tuple(rounded if v == rest else v for v in operands)
        builder.nodes.append(replace(node, operands=operands, results=(value,)))
        for k, (op, factor) in enumerate(reversed(cone.factors)):
            axes = axes_of(cone, factor)
            assert axes is not None
            order = tuple(sorted(range(len(axes)), key=axes.__getitem__))
            if factor.dtype is not value.dtype:  # the sum of what was rounded: a number of the row
                factor = builder.op("cast", factor, to=value.dtype)
            if order != tuple(range(len(axes))):
                factor = builder.op("transpose", factor, order=order)
            wide = builder.op(
                "broadcast", factor, dims=node.result.dims, axes=tuple(sorted(axes)))
            last = k == len(cone.factors) - 1
            value = builder.op(op, value, wide)
            if last:
                builder.nodes[-1] = replace(builder.nodes[-1], results=(node.result,))
    added, builder.nodes[start:] = builder.nodes[start:], []
    return added


def _in_order(nodes: dict[Value, Node]) -> list[tuple[Value, Node]]:
    """Producers first."""
    found: dict[Value, Node] = {}
    stack = list(nodes)
    while stack:
        value = stack[-1]
        needs = [v for v in nodes[value].operands if v in nodes and v not in found]
        if value in found or not needs:
            found.setdefault(stack.pop(), nodes[value])
        else:
            stack += needs
    return list(found.items())
