"""split_reductions: cuts long sums over a symbolic dim into chunks of a constant size.

Only where there are few results, whatever the sizes: many are shared by threads as they are, and
each is summed from first to last.

The parts are summed in a binary tree over the chunk's number. So the result does not depend on the
number of threads, and a batch spread over devices in shards of whole chunks gives the same bits.

    %g = contract %x, %y  (sum over n < N)
    ->                                    (`kernels/rows.py` joins what goes along the same chunks)
    %p = contract %x, %y  (sum over m < 64, a row of %p for each z < ceil(N / 64), at n = 64 z + m)
    %g = tree_sum %p
"""

from __future__ import annotations

from dlc.compiler.options import Options
from dlc.compiler.rewriting.bodies import in_bodies
from dlc.compiler.rewriting.rewrite import with_nodes, with_operands
from dlc.ir.dims import (
    Dim,
    at_least,
    ceildiv,
    maximum,
    product,
    substitute,
    symbol,
    symbols,
)
from dlc.ir.graph import Builder, Graph, Node, Value
from dlc.ir.ops.contract import Spec, extents_of, maps_of, spec

CHUNK = 64
MANY_VECTORS = 64  # of results: enough for some threads


def split_reductions(graph: Graph, options: Options) -> Graph:
    """Splits contractions of few results that sum over a symbol alone, in bodies too."""
    return _split_in(graph, options, {})


def _split_in(graph: Graph, options: Options, bodies: dict[int, Graph]) -> Graph:
    if not any(node.regions or _split_index(node, options) for node in graph.nodes):
        return graph
    b = Builder(v.name for v in (*graph.inputs, *(r for n in graph.nodes for r in n.results)))
    renamed: dict[Value, Value] = {}
    changed = False
    for node in graph.nodes:
        inside = in_bodies(node, bodies, lambda body: _split_in(body, options, bodies))
        changed |= inside is not node
        operands = tuple(renamed.get(v, v) for v in node.operands)
        name = _split_index(node, options)
        if name is None:
            b.nodes.append(
                inside if operands == node.operands else with_operands(inside, operands))
            continue
        with b.located(node.locs, node.path, node.phase):
            partial = b.op("contract", *operands, hint=f"{node.result.name}.part",
                           **_split(node, name))
            renamed[node.result] = b.op("tree_sum", partial, hint=node.result.name)
    return with_nodes(graph, b.nodes, renamed) if changed or renamed else graph


def _split_index(node: Node, options: Options) -> str | None:
    """The index of a contraction of few results that is summed over a symbol, if there is one."""
    if node.op != "contract":
        return None
    results = product(node.result.dims)
    if not isinstance(results, int) or results >= MANY_VECTORS * options.lanes:
        return None
    out = node.attr("out")
    assert isinstance(out, tuple)
    kept = frozenset[str]().union(*(symbols(e) for e in out))  # type: ignore[arg-type]
    for name, extent in extents_of(node).items():
        # Reads past the end give 0, so some operand must have the index as an axis of that extent.
        ends = any(e is symbol(name) and d == extent
                   for operand, at in zip(node.operands, maps_of(node), strict=True)
                   for e, d in zip(at, operand.dims, strict=True))
        if name not in kept and ends and str(extent) in symbols(extent):
            return name
    return None


def _split(node: Node, name: str) -> Spec:
    extents = extents_of(node)
    chunk, inner = "zz", "mm"
    at: dict[str, Dim] = {name: symbol(chunk) * CHUNK + symbol(inner)}
    count = ceildiv(extents[name], CHUNK)
    if not at_least(count, 1):
        count = maximum(count, 1)  # a sum over nothing has one part, which is 0
    inside: dict[str, Dim] = {chunk: count}
    inside |= {inner if k == name else k: CHUNK if k == name else e for k, e in extents.items()}
    maps = tuple(tuple(substitute(e, at) for e in m) for m in maps_of(node))
    out = node.attr("out")
    assert isinstance(out, tuple)
    at_chunk = (symbol(chunk), *out)
    return spec(inside, maps, at_chunk, (count, *node.result.dims))  # type: ignore[arg-type]
