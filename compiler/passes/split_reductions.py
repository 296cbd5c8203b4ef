"""split_reductions: cuts long sums over a symbolic dim into chunks of a constant size.

Only where there are few results, whatever the sizes: many are shared by threads as they are, and
each is summed from first to last. A GPU has many more threads: its products are cut into as many
chunks as give all of its processors a tile (`schedules/product_tiles.py`), along any index, and
its other sums into as many as a model says (`schedules/columns.py`), but for rows that one block
holds in registers (`schedules/held_rows.py`): what else goes along them is one kernel with them.

The parts are summed in a binary tree over the chunk's number. So the result does not depend on the
number of threads, and a batch spread over devices in shards of whole chunks gives the same bits.

    %g = contract %x, %y  (sum over n < N)
    ->                                    (`kernels/rows.py` joins what goes along the same chunks)
    %p = contract %x, %y  (sum over m < 64, a row of %p for each z < ceil(N / 64), at n = 64 z + m)
    %g = tree_sum %p
"""

from __future__ import annotations

from math import prod

from dlc.compiler.options import Options
from dlc.compiler.rewriting.bodies import in_bodies
from dlc.compiler.rewriting.rewrite import with_nodes, with_operands
from dlc.compiler.schedules.columns import Columns
from dlc.compiler.schedules.held_rows import HELD_ROW
from dlc.compiler.schedules.product_tiles import processors
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
TILE = 32 * 32  # results that a block makes
SHORT = 512  # places of a sum that are not worth a second pass
SIDE = 4  # places that a thread has at a time
LAUNCH = 3000  # cycles until another kernel has begun


def split_reductions(graph: Graph, options: Options) -> Graph:
    """Splits contractions of few results that sum over a symbol alone, in bodies too."""
    return _split_in(graph, options, {})


def _split_in(graph: Graph, options: Options, bodies: dict[int, Graph]) -> Graph:
    if not any(node.regions or _split_at(node, options) for node in graph.nodes):
        return graph
    b = Builder(v.name for v in (*graph.inputs, *(r for n in graph.nodes for r in n.results)))
    renamed: dict[Value, Value] = {}
    changed = False
    for node in graph.nodes:
        inside = in_bodies(node, bodies, lambda body: _split_in(body, options, bodies))
        changed |= inside is not node
        operands = tuple(renamed.get(v, v) for v in node.operands)
        found = _split_at(node, options)
        if found is None:
            b.nodes.append(
                inside if operands == node.operands else with_operands(inside, operands))
            continue
        with b.located(node.locs, node.path, node.phase):
            partial = b.op("contract", *operands, hint=f"{node.result.name}.part",
                           **_split(node, *found))
            renamed[node.result] = b.op("tree_sum", partial, hint=node.result.name)
    return with_nodes(graph, b.nodes, renamed) if changed or renamed else graph


def _split_at(node: Node, options: Options) -> tuple[str, int] | None:
    """The index by which a contraction of few results is split, and the size of chunks."""
    if node.op != "contract":
        return None
    if options.is_gpu and node.result.dtype.is_float and _is_product(node):
        return _split_of_product(node, options)
    if options.is_gpu and _are_told(node, options):
        return _split_of_sum(node, options)
    results = product(node.result.dims)
    if not isinstance(results, int) or results >= MANY_VECTORS * options.lanes:
        return None
    name = next((n for n, e in _summed(node).items() if str(e) in symbols(e)), None)
    return None if name is None else (name, CHUNK)


def _split_of_product(node: Node, options: Options) -> tuple[str, int] | None:
    """Chunks that give each processor of a GPU a tile or two, if they are long enough."""
    results = options.likely(product(node.result.dims))
    found = {n: options.likely(e) for n, e in _summed(node).items()}
    wanted = 2 * processors(options.target) // -(-results // TILE)
    parts = min(wanted, prod(found.values()) // SHORT)
    if parts < 2 or not found:
        return None
    name = max(found, key=found.__getitem__)
    chunk = 1 << max(0, (found[name] // parts).bit_length() - 1)
    return (name, chunk) if chunk < found[name] else None


def _is_product(node: Node) -> bool:
    """Whether factors differ in their indices, so that it may be made in tiles."""
    used = [frozenset[str]().union(*map(symbols, m)) for m in maps_of(node)]
    return len(set(used)) > 1


def _are_told(node: Node, options: Options) -> bool:
    """Whether the program tells the likely sizes of all that a sum goes over."""
    return all(s in options.hints for e in extents_of(node).values() for s in symbols(e))


def _split_of_sum(node: Node, options: Options) -> tuple[str, int] | None:
    """Chunks that take least time, with the second pass that adds them up."""
    summed = {n: options.likely(e) for n, e in _summed(node).items()}
    if not summed or (_is_along_memory(node) and prod(summed.values()) <= HELD_ROW):
        return None
    name = max(summed, key=summed.__getitem__)
    chunks = [1 << k for k in range(3, (summed[name] - 1).bit_length())]
    best = min((*chunks, 0), key=lambda chunk: _cycles(node, options, summed[name], chunk))
    return (name, best) if best else None


def _is_along_memory(node: Node) -> bool:
    """Whether neighbours of a sum are neighbours in memory: it goes along rows."""
    operand = maps_of(node)[0]
    return bool(operand and symbols(operand[-1]) & _summed(node).keys())


def _cycles(node: Node, options: Options, length: int, chunk: int) -> float:
    """Cycles of a sum whose longest index is cut into chunks (0: it is not)."""
    parts = -(-length // chunk) if chunk else 1
    extents = {n: options.likely(e) for n, e in extents_of(node).items()}
    results = options.likely(product(node.result.dims))
    rows = prod(extents.values()) // max(1, results) // parts
    run = 1 if _is_along_memory(node) else options.likely(node.result.dims[-1])
    size = node.operands[0].dtype.size
    first = Columns(results * parts, rows, run, size, SIDE).best(options.target)
    if parts == 1:
        return first
    return first + LAUNCH + Columns(results, parts, run, size, SIDE).best(options.target)


def _summed(node: Node) -> dict[str, Dim]:
    """The indices that are summed, along whose ends some operand ends: reads past them give 0."""
    out = node.attr("out")
    assert isinstance(out, tuple)
    kept = frozenset[str]().union(*(symbols(e) for e in out))  # type: ignore[arg-type]
    return {name: extent for name, extent in extents_of(node).items() if name not in kept and any(
        e is symbol(name) and d == extent
        for operand, at in zip(node.operands, maps_of(node), strict=True)
        for e, d in zip(at, operand.dims, strict=True))}


def _split(node: Node, name: str, size: int) -> Spec:
    extents = extents_of(node)
    chunk, inner = "zz", "mm"
    at: dict[str, Dim] = {name: symbol(chunk) * size + symbol(inner)}
    count = ceildiv(extents[name], size)
    if not at_least(count, 1):
        count = maximum(count, 1)  # a sum over nothing has one part, which is 0
    inside: dict[str, Dim] = {chunk: count}
    inside |= {inner if k == name else k: size if k == name else e for k, e in extents.items()}
    maps = tuple(tuple(substitute(e, at) for e in m) for m in maps_of(node))
    out = node.attr("out")
    assert isinstance(out, tuple)
    at_chunk = (symbol(chunk), *out)
    return spec(inside, maps, at_chunk, (count, *node.result.dims))  # type: ignore[arg-type]
