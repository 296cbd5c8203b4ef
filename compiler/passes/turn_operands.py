"""turn_operands: what products in a loop would read across memory is turned once, before the loop.

    %ys = scan %h, %xs, %w with turn                 %w.turned = transpose %w {order = [1, 0]}
    # turn: %y = contract %x, %w                →    %ys = scan %h, %xs, %w.turned with turn'
    #   y[n, i] = sum k: x[n, k] * w[i, k]           #   y[n, i] = sum k: x[n, k] * w.turned[k, i]

The lanes of a product go along the last axis of its result. An operand that is captured, has the
index of that axis elsewhere, and a reduced index last would be turned again in each turn. So is
the matrix of a recurrent layer, in the loop that its gradient goes back through.

Requires: what is the same in all turns has left the loops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dlc.compiler.options import Options
from dlc.compiler.rewriting.bodies import in_bodies
from dlc.compiler.rewriting.rewrite import with_nodes
from dlc.ir.dims import symbols
from dlc.ir.graph import Builder, Graph, Node, Param, Value, names
from dlc.ir.ops.contract import map_of, maps_of, sums
from dlc.ir.ops.loops import carried_of, counts
from dlc.ir.types import tensor

Turn = tuple[Value, tuple[int, ...]]  # a parameter of a body, and the order of its axes


def turn_operands(graph: Graph, options: Options) -> Graph:
    """`graph` with such operands turned, in bodies too; itself if there are none. Tiles of a GPU
    are turned on their way through shared memory, at no cost."""
    return graph if options.is_gpu else _turn(graph, {})


def _turn(graph: Graph, bodies: dict[int, Graph]) -> Graph:
    if not any(node.regions for node in graph.nodes):
        return graph
    builder = Builder(names(graph))
    changed = False
    for old in graph.nodes:
        node = in_bodies(old, bodies, lambda body: _turn(body, bodies))
        if node.op in ("scan", "while"):
            node = _with_turned(builder, node)
        changed |= node is not old
        builder.nodes.append(node)
    return with_nodes(graph, builder.nodes, {}) if changed else graph


def _with_turned(builder: Builder, loop: Node) -> Node:
    """A loop that captures turned operands too; `builder` appends what turns them."""
    first = carried_of(loop) + (counts(dict(loop.attrs))[1] if loop.op == "scan" else 0)
    for at, body in enumerate(loop.regions):
        around = dict(zip(body.inputs[first:], loop.operands[first:], strict=True))
        inner = Builder(names(body))
        params: dict[Turn, Value] = {}
        nodes = tuple(_reading(node, around, inner, params) for node in body.nodes)
        if not params:
            continue
        with builder.located(loop.locs, loop.path, loop.phase):
            turned = [builder.op("transpose", around[value], hint=f"{around[value].name}.turned",
                                 order=order) for value, order in params]
        regions = []
        for k, region in enumerate(loop.regions):
            own = Builder(names(region))
            more = params.values() if k == at else [own.fresh(v.name, v.type) for v in turned]
            regions.append(replace(region, params=(*region.params, *map(Param, more)),
                                   nodes=nodes if k == at else region.nodes))
        loop = replace(loop, operands=(*loop.operands, *turned), regions=tuple(regions))
    return loop


def _reading(
    node: Node, captured: Mapping[Value, Value], inner: Builder, params: dict[Turn, Value]
) -> Node:
    """A node of a body that reads turned operands; what they are there is put into `params`."""
    turns = _turns(node, captured)
    if not turns:
        return node
    operands, maps = list(node.operands), list(maps_of(node))
    for k, (value, order) in turns.items():
        if (value, order) not in params:
            dims = tuple(value.dims[axis] for axis in order)
            params[value, order] = inner.fresh(f"{value.name}.turned", tensor(value.dtype, dims))
        operands[k] = params[value, order]
        maps[k] = tuple(maps[k][axis] for axis in order)
    attrs = dict(node.attrs) | {"maps": tuple(maps)}
    return replace(node, operands=tuple(operands), attrs=tuple(attrs.items()))


def _turns(node: Node, captured: Mapping[Value, Value]) -> dict[int, Turn]:
    """The operands of a product that are to be turned, by number."""
    if node.op != "contract" or len(node.operands) < 2 or not sums(node):
        return {}
    out = map_of(node.attr("out"))
    written = frozenset[str]().union(*map(symbols, out))
    found = {}
    for k, (value, at) in enumerate(zip(node.operands, maps_of(node), strict=True)):
        if value in captured and out and out[-1] in at and not written & symbols(at[-1]):
            axis = at.index(out[-1])
            found[k] = value, (*(a for a in range(len(at)) if a != axis), axis)
    return found
