"""Takes out of loops what need not be computed turn by turn.

    %hs = scan %h, %xs, %w, %a, %b with turn    →    %c = exp %a
    # turn: %c = exp %a                              %ps = contract %xs, %w   # for all turns
    #       %p = contract %x, %w                     %hs = scan %h, %ps, %c with turn'

Of a scan or a while, what depends on captured values alone is computed once, before the loop. It
stays if it costs nothing: constants, what is spread over a tensor, and what is made of these.
Of a scan, a product that depends on the items of a turn and on captured values, not on what is
carried, becomes one product for all turns; what moves or computes elements on the way from the
items goes with it. Not where the scan is to keep little memory (`recompute`). What a scan would
yield that is there already (an item, a captured value) it does not yield; an item that is the same
in all turns is captured.

Only what has no effect leaves, since a loop may not turn at all; and nothing that reads memory at
indices that are data, which a check may stand before, nor a `while`, which might not end. Nothing
leaves a body with a `gradient` in it.

Requires valid IR. What is left in a body without readers goes too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from dlc.compiler.rewriting.bodies import in_bodies, operands_first
from dlc.compiler.rewriting.over_turns import has_rule, on_all_turns
from dlc.compiler.rewriting.rewrite import with_nodes, with_operands
from dlc.ir.graph import Builder, Graph, Node, Param, Value, names, producers
from dlc.ir.ops import OPS
from dlc.ir.ops.contract import sums
from dlc.ir.ops.loops import carried_of, counts, length_of
from dlc.ir.ops.shape import ints_attr

BOUND: Final = frozenset({"effect", "gather", "scatter"})
"""Kernels of ops that stay where they are: effects, and what a check may stand before."""


def hoist_from_loops(graph: Graph) -> Graph:
    """`graph` with less in its loops, in bodies too; `graph` itself if nothing leaves a loop."""
    return _hoist(graph, {})


def _hoist(graph: Graph, bodies: dict[int, Graph]) -> Graph:
    if not any(node.regions for node in graph.nodes):
        return graph
    builder = Builder(names(graph))
    replaced: dict[Value, Value] = {}
    changed = False
    for old in graph.nodes:
        node = old
        if any(v in replaced for v in node.operands):
            node = with_operands(node, tuple(replaced.get(v, v) for v in node.operands))
        node = in_bodies(node, bodies, lambda body: _hoist(body, bodies))
        if node.op in ("scan", "while") and not _has_gradients(node):
            loop = _Loop(builder, node)
            node = loop.run()
            replaced.update(loop.replaced)
        changed |= node is not old
        builder.nodes.append(node)
    return with_nodes(graph, builder.nodes, replaced) if changed else graph


class _Loop:
    """A loop, and what leaves it: `builder` appends before the loop."""

    def __init__(self, builder: Builder, node: Node) -> None:
        self.builder = builder
        self.node = node
        self.carried = carried_of(node)
        self.items = counts(dict(node.attrs))[1] if node.op == "scan" else 0
        self.replaced: dict[Value, Value] = {}

    def run(self) -> Node:
        """The loop without what leaves it."""
        if self.node.op == "scan":
            self.same_items()
        for at in range(len(self.node.regions)):
            self.leave(at)
        if self.node.op == "scan":
            self.known_yields()
        return self.node

    def same_items(self) -> None:
        """Captures what an item is spread from, where that is the same in all turns."""
        made = producers(self.builder.nodes)
        (body,) = self.node.regions
        for at in reversed(range(self.carried, self.carried + self.items)):
            maker = made.get(self.node.operands[at])
            if maker is None or maker.op != "broadcast" or 0 in ints_attr(maker, "axes"):
                continue
            source, inner = maker.operands[0], Builder(names(body))
            item = body.inputs[at]
            inner.locs, inner.path, inner.phase = maker.locs, maker.path, maker.phase
            param = inner.fresh(source.name, source.type)
            spread = inner.broadcast(
                param, item.dims, tuple(axis - 1 for axis in ints_attr(maker, "axes")))
            params = [*body.params[:at], *body.params[at + 1:], Param(param)]
            body = _renamed(replace(body, params=tuple(params)), inner.nodes, {item: spread})
            operands = self.node.operands
            self.items -= 1
            self.set((*operands[:at], *operands[at + 1:], source), (body,))

    def set(self, operands: tuple[Value, ...], regions: tuple[Graph, ...]) -> None:
        """Gives the loop other operands and bodies, and counts its items."""
        attrs = dict(self.node.attrs)
        if self.node.op == "scan":
            attrs["items"] = self.items
        self.node = replace(
            self.node, operands=operands, regions=regions, attrs=tuple(attrs.items()))

    def leave(self, at: int) -> None:
        """Moves what can out of body `at`."""
        body = self.node.regions[at]
        out = _Leaving(self, body)
        captured, items = out.invariants(), out.products()
        if not captured and not items:
            return
        gone = {v.name for v in (*captured, *items)}
        left = [n for n in body.nodes if not any(v.name in gone for v in n.results)]
        nodes = tuple(_needed(left, body))  # others may read what is gone, and was not captured
        first = self.carried + self.items
        regions = []
        for k, region in enumerate(self.node.regions):
            inner = Builder(names(region))
            more = captured if k == at else [inner.fresh(v.name, v.type) for v in captured]
            params = (*region.params[:first], *map(Param, items), *region.params[first:],
                      *map(Param, more))
            regions.append(replace(
                region, params=params, nodes=nodes if k == at else region.nodes))
        operands = self.node.operands
        self.items += len(items)
        self.set((*operands[:first], *(out.stacks[v] for v in items), *operands[first:],
                  *(out.outer[v] for v in captured)), tuple(regions))

    def known_yields(self) -> None:
        """Drops yields of values that are there without: items, and captured values."""
        (body,) = self.node.regions
        around = dict(zip(body.inputs, self.node.operands, strict=True))
        first = self.carried + self.items
        stacked, same = body.inputs[self.carried:first], set(body.inputs[first:])
        kept = list(range(self.carried))
        for at in range(self.carried, len(body.results)):
            value, result = body.results[at], self.node.results[at]
            if value in stacked:
                self.replaced[result] = around[value]
            elif value in same:
                axes = range(1, len(result.dims))
                with self.builder.located(self.node.locs, self.node.path, self.node.phase):
                    self.replaced[result] = self.builder.broadcast(
                        around[value], result.dims, tuple(axes))
            else:
                kept.append(at)
        if len(kept) < len(body.results):
            body = replace(body, results=tuple(body.results[at] for at in kept))
            results = tuple(self.node.results[at] for at in kept)
            self.node = replace(self.node, regions=(body,), results=results)


class _Leaving:
    """What leaves a body. `outer` and `stacks` are what its values are outside of the loop.

    `outer` has those that are the same in all turns, `stacks` the others, of all turns.
    """

    def __init__(self, loop: _Loop, body: Graph) -> None:
        self.builder = loop.builder
        self.loop = loop
        self.body = body
        self.made = producers(body.nodes)
        first = loop.carried + loop.items
        operands = loop.node.operands
        self.outer = dict(zip(body.inputs[first:], operands[first:], strict=True))
        self.stacks = dict(zip(
            body.inputs[loop.carried:first], operands[loop.carried:first], strict=True))
        self.same = set(self.outer)
        self.free: set[Value] = set()

    def invariants(self) -> list[Value]:
        """What the loop is to capture in place of what leaves it; makes that outside."""
        going: list[Value] = []
        for node in self.body.nodes:
            if not self.same.issuperset(node.operands) or not _may_leave(node):
                continue
            self.same.update(node.results)
            if node.op == "broadcast" or (
                    _is_free(node) and self.free.issuperset(node.operands)):
                self.free.update(node.results)
            else:
                going += node.results
        gone = {v.name for v in going}
        left = [n for n in self.body.nodes if not any(v.name in gone for v in n.results)]
        captured = _in_order(going, _read(_needed(left, self.body), self.body.results))
        for value in captured:
            self.outside(value)
        return captured

    def outside(self, value: Value) -> Value:
        """What `value`, the same in all turns, is outside."""
        for node in operands_first(value, self.made, self.outer.__contains__):
            operands = tuple(self.outer[v] for v in node.operands)
            self.outer.update(zip(
                node.results, self.builder.copy(node, operands), strict=True))
        return self.outer[value]

    def products(self) -> list[Value]:
        """The products that become items; makes those of all turns outside."""
        if self.loop.node.op != "scan" or ("recompute", True) in self.loop.node.attrs:
            return []
        by_turn = set(self.stacks)
        going: list[Value] = []
        for node in self.body.nodes:
            known = self.same | by_turn
            if (by_turn.isdisjoint(node.operands) or not known.issuperset(node.operands)
                    or not has_rule(node)):
                continue
            by_turn.update(node.results)
            if _is_product(node):
                going += node.results
        gone = {v.name for v in going}
        left = [n for n in self.body.nodes if n.results and n.results[0].name not in gone]
        items = _in_order(going, _read(_needed(left, self.body), self.body.results))
        for value in items:
            self.stack(value)
        return items

    def stack(self, value: Value) -> Value:
        """What `value` is in all turns."""
        def is_there(operand: Value) -> bool:
            return operand in self.same or operand in self.stacks

        for node in operands_first(value, self.made, is_there):
            operands = [(self.outside(v), False) if v in self.same else (self.stacks[v], True)
                        for v in node.operands]
            with self.builder.located(node.locs, node.path, node.phase):
                self.stacks[node.result] = on_all_turns(
                    self.builder, node, length_of(self.loop.node), operands)
        return self.stacks[value]


def _has_gradients(node: Node) -> bool:
    """Whether a body asks for gradients: what leaves it they would not see."""
    return any(inner.op == "gradient" for region in node.regions for inner in region.nodes)


def _may_leave(node: Node) -> bool:
    """Whether a node may run though the loop never turns, and before all effects in it."""
    return OPS[node.op].kernel not in BOUND and node.op != "while" and all(
        _may_leave(inner) for region in node.regions for inner in region.nodes)


def _is_free(node: Node) -> bool:
    """Whether a node costs nothing where it is read, if its operands do not."""
    op = OPS[node.op]
    return op.kernel in ("constant", "index") or op.formula is not None or op.access is not None


def _is_product(node: Node) -> bool:
    """Whether a node multiplies and sums."""
    return node.op == "contract" and len(node.operands) > 1 and sums(node)


def _needed(nodes: list[Node], body: Graph) -> list[Node]:
    """The nodes among `nodes` that the results of `body`, or effects, need."""
    wanted = set(body.results)
    kept: list[Node] = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.results) or not _may_leave(node):
            wanted.update(node.operands)
            kept.append(node)
    return kept[::-1]


def _read(nodes: Iterable[Node], results: Iterable[Value]) -> set[Value]:
    return {v for node in nodes for v in node.operands} | set(results)


def _in_order(values: Iterable[Value], chosen: set[Value]) -> list[Value]:
    return [v for v in values if v in chosen]


def _renamed(body: Graph, first: list[Node], values: dict[Value, Value]) -> Graph:
    """`body` with nodes before its own, and other values in the place of those in `values`."""
    nodes = [with_operands(n, tuple(values.get(v, v) for v in n.operands)) for n in body.nodes]
    return with_nodes(body, [*first, *nodes], values)
