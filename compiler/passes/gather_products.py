"""gather_products: where a table has far fewer rows than are gathered, rows of its product are
gathered, not the product taken of gathered rows.

    %e = gather %table, %ids       # f32[T, N, 128] of f32[96, 128]
    %y = contract %e, %w           # f32[T, N, 512]
    ->
    %p = contract %table, %w       # f32[96, 512]
    %y = gather %p, %ids

So the gradients of both are small products too, of a sum over all places that a row was taken for.

Before differentiate, which then gives these. After hoist_from_loops, which makes one product of
those of all turns. Stays where the gathered rows are asked a gradient of.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from dlc.compiler.options import Options
from dlc.compiler.rewriting.rewrite import with_nodes, with_operands
from dlc.ir.dims import Dim, Poly, symbols
from dlc.ir.graph import Builder, Graph, Node, Value, names, producers
from dlc.ir.ops.contract import Map, extents_of, map_of, maps_of, spec
from dlc.ir.ops.indices import axis_attr

FEWER = 8  # times: sizes that are symbols may be smaller than is likely
LEAST_SUMMED = 16  # products for each result: gathering results costs a pass over them


def gather_products(graph: Graph, options: Options) -> Graph:
    """`graph` with results gathered; `graph` itself if no product of gathered rows is in it."""
    made = producers(graph.nodes)
    wanted = {v for node in graph.nodes if node.op == "gradient" for v in node.operands}
    found: dict[Value, tuple[int, Node]] = {}
    for node in graph.nodes:
        for k, operand in enumerate(node.operands if node.op == "contract" else ()):
            maker = made.get(operand)
            if maker is not None and maker.op == "gather" and operand not in wanted and _pays(
                    node, k, maker, options):
                found[node.result] = k, maker
    return _gathered(graph, found) if found else graph


def _gathered(graph: Graph, found: Mapping[Value, tuple[int, Node]]) -> Graph:
    b = Builder(names(graph))
    renamed: dict[Value, Value] = {}
    for node in graph.nodes:
        operands = tuple(renamed.get(v, v) for v in node.operands)
        node = node if operands == node.operands else with_operands(node, operands)
        if not node.results or node.results[0] not in found:
            b.nodes.append(node)
            continue
        k, gather = found[node.result]
        with b.located(node.locs, node.path, node.phase):
            renamed[node.result] = _of_table(b, node, k, gather)
    return with_nodes(graph, b.nodes, renamed)


def _of_table(b: Builder, node: Node, k: int, gather: Node) -> Value:
    """The product of the whole table, of which rows are gathered."""
    maps, out, dims = maps_of(node), map_of(node.attr("out")), node.result.dims
    at, axis = maps[k], axis_attr(gather)
    count = len(gather.operands[1].dims)
    rows = at[axis:axis + count]
    place = out.index(rows[0])
    row, table = rows[0], gather.operands[0]
    left = {n: e for n, e in extents_of(node).items() if n not in map(str, rows)}
    attrs = spec(
        {**left, str(row): table.dims[axis]},
        (*maps[:k], (*at[:axis], row, *at[axis + count:]), *maps[k + 1:]),
        (*out[:place], row, *out[place + count:]),
        (*dims[:place], table.dims[axis], *dims[place + count:]))
    operands = (*node.operands[:k], table, *node.operands[k + 1:])
    product = b.op("contract", *operands, hint=f"{node.result.name}.rows", **attrs)
    return b.op("gather", product, *gather.operands[1:], hint=node.result.name, axis=place)


def _pays(node: Node, k: int, gather: Node, options: Options) -> bool:
    """Whether a product keeps the axes of gathered rows as they are, and a table has few rows."""
    ids, axis = gather.operands[1:], axis_attr(gather)
    if len(ids) != 1 or not ids[0].dims:
        return False
    extents, maps = extents_of(node), maps_of(node)
    rows = maps[k][axis:axis + len(ids[0].dims)]
    if not _stands_alone(rows, k, maps, map_of(node.attr("out"))):
        return False
    if any(extents[str(row)] != dim for row, dim in zip(rows, ids[0].dims, strict=True)):
        return False
    kept = {n for e in map_of(node.attr("out")) for n in symbols(e)}
    summed = prod(options.likely(e) for n, e in extents.items() if n not in kept)
    few = FEWER * options.likely(gather.operands[0].dims[axis])
    return summed >= LEAST_SUMMED and few <= prod(map(options.likely, ids[0].dims))


def _stands_alone(rows: Map, k: int, maps: tuple[Map, ...], out: Map) -> bool:
    """Whether each of these places is an index that stands there, in a row in the result, and
    nowhere else."""
    if not all(isinstance(e, Poly) and symbols(e) == {str(e)} for e in rows):
        return False
    if len(set(rows)) < len(rows) or rows[0] not in out:
        return False
    place = out.index(rows[0])
    if out[place:place + len(rows)] != rows:
        return False
    names_of = frozenset(map(str, rows))
    elsewhere: list[Dim] = [e for j, at in enumerate(maps) if j != k for e in at]
    elsewhere += [e for e in maps[k] if e not in rows]
    elsewhere += [*out[:place], *out[place + len(rows):]]
    return maps[k].count(rows[0]) == 1 and not any(names_of & symbols(e) for e in elsewhere)
