"""Expands each `gradient` node into the nodes that compute it: reverse mode, source to source.

    %y = mul %x, %x : f32                    →      %y = mul %x, %x : f32
    %dx = gradient %y, %x : f32                     %one = constant {value = 1.0} : f32
                                                    %d.1 = mul %one, %x      # backward
                                                    %d.2 = mul %one, %x
                                                    %dx = add %d.1, %d.2

Requires valid IR; ensures that no `gradient` is left, in bodies too. Gradients are taken in the
order of the program, so that a gradient of a gradient finds the inner one expanded. Only what
lies between the loss and the values asked for is visited. Calls that lie there are expanded
first. What is made carries the phase `backward`, and the place and path of the node whose
gradient it is.

A gradient that is zero by definition (of `floor`, of a comparison, of an index) stops quietly as
long as another way leads from the loss to the value; if none does, that is the user's error, told
with the op that stands in the way. `stop_gradient`, and a loss that does not depend on a value,
give zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from dlc.compiler.gradients.activity import (
    Marks,
    body_marks,
    everything,
    floats,
    mark,
    reach,
)
from dlc.compiler.gradients.branches import pull_branches
from dlc.compiler.gradients.errors import no_gradient
from dlc.compiler.gradients.scans import pull_scan
from dlc.compiler.gradients.sweep import Forward, Pull, Sweep
from dlc.compiler.passes.eliminate_dead import eliminate_dead
from dlc.compiler.passes.inline import inline
from dlc.compiler.rewriting.bodies import in_bodies
from dlc.compiler.rewriting.rewrite import with_nodes, with_operands
from dlc.ir.graph import Builder, Graph, Node, Value, names
from dlc.ir.ops import OPS

PULLS: Final[dict[str, Pull]] = {"scan": pull_scan, "if": pull_branches}
"""The ways back through the ops with bodies, one file each in `gradients/`."""


def differentiate(graph: Graph) -> Graph:
    """`graph` without `gradient` nodes; `UserError` where an op on the way has no gradient."""
    return _differentiate(graph, {})


def _differentiate(graph: Graph, done: dict[int, Graph]) -> Graph:
    """As `differentiate`; `done` remembers the bodies seen, so that shared ones stay shared."""
    if not any(node.regions or node.op == "gradient" for node in graph.nodes):
        return graph
    graph = _differentiate_bodies(graph, done)
    if not any(node.op == "gradient" for node in graph.nodes):
        return graph
    while calls := {id(node) for node in _calls_on_the_way(graph)}:
        graph = inline(graph, lambda node: id(node) in calls)
    return _Expander(graph).run()


def _differentiate_bodies(graph: Graph, done: dict[int, Graph]) -> Graph:
    nodes = [in_bodies(node, done, lambda body: _differentiate(body, done))
             for node in graph.nodes]
    if all(a is b for a, b in zip(nodes, graph.nodes, strict=True)):
        return graph
    return replace(graph, nodes=tuple(nodes))


def _calls_on_the_way(graph: Graph) -> list[Node]:
    """The calls that lie between a loss and a value that a gradient is asked for.

    All calls in the bodies of a control node that lies there are among them.
    """
    if not any(True for _ in _calls(graph.nodes)):
        return []
    found: list[Node] = []
    forward = Forward(list(graph.nodes))
    for gradient in graph.nodes:
        if gradient.op == "gradient":
            loss, *wrt = gradient.operands
            way = mark(forward.upstream([loss]), set(wrt), everything)
            found += _calls(way)
    return found


def _calls(nodes: Sequence[Node]) -> Iterator[Node]:
    """The calls among `nodes` and in the bodies of control nodes among them."""
    for node in nodes:
        if node.op == "call":
            yield node
        else:
            for region in node.regions:
                yield from _calls(region.nodes)


class _Expander:
    """One graph on its way to one without gradients."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.builder = Builder(names(graph))
        self.forward = Forward(self.builder.nodes)
        self.replaced: dict[Value, Value] = {}

    def run(self) -> Graph:
        """The graph, every gradient expanded."""
        nodes = self.builder.nodes
        for node in self.graph.nodes:
            if any(v in self.replaced for v in node.operands):
                node = with_operands(
                    node, tuple(self.replaced.get(v, v) for v in node.operands))
            if node.op == "gradient":
                results = self.expand(node)
                self.replaced.update(zip(node.results, results, strict=True))
            else:
                nodes.append(node)
        return with_nodes(self.graph, nodes, self.replaced)

    def expand(self, gradient: Node) -> tuple[Value, ...]:
        """Appends what computes `gradient` (already in terms of new values)."""
        loss, *wrt = gradient.operands
        upstream = self.forward.upstream([loss])
        active = set(wrt)
        way = mark(upstream, active, floats)
        _demand(gradient, upstream, reach(way, {loss} & active, active))
        sweep = Sweep(self.forward, self.builder, gradient, PULLS)
        with self.builder.located(gradient.locs, gradient.path, "backward"):
            sweep.adjoints[loss] = self.builder.constant(1.0, loss.type, "one")
        sweep.run(way, active)
        with self.builder.located(gradient.locs, gradient.path, "backward"):
            return sweep.given(wrt)


def _demand(gradient: Node, upstream: Sequence[Node], reached: Marks) -> None:
    """A `UserError` if `gradient` asks for the adjoint of what no gradient reaches.

    It is none if the loss does not depend on the value, or if a `stop_gradient` stands between.
    """
    loss, *wrt = gradient.operands
    missed = [value for value in wrt if value not in reached]
    if not missed or any(node.phase == "backward" for node in upstream):
        return  # what is flat in a gradient (of `abs`, of a maximum), the user has not written
    needed = _needed(upstream, loss)
    for value in missed:
        stops = list(_stops(needed, {value}))
        if stops and all(node.op != "stop_gradient" for node in stops):
            raise no_gradient(stops[0], gradient)


def _needed(upstream: Sequence[Node], loss: Value) -> Sequence[Node]:
    """What of `upstream` the loss needs: not what a body gets and leaves unused, or only checks.

    Such a thing may stand before a loop or in it, as `hoist_from_loops` has it.
    """
    graph = Graph("loss", (), tuple(upstream), (loss,))
    return eliminate_dead(_without_effects(graph, {})).nodes


def _without_effects(graph: Graph, done: dict[int, Graph]) -> Graph:
    """`graph` without its checks and prints, in bodies too."""
    nodes = [in_bodies(node, done, lambda body: _without_effects(body, done))
             for node in graph.nodes if OPS[node.op].kernel != "effect" or node.results]
    return replace(graph, nodes=tuple(nodes))


def _stops(nodes: Sequence[Node], behind: Marks) -> Iterator[Node]:
    """The nodes, also in bodies, that no gradient flows through to the values `behind`."""
    for node in mark(nodes, behind, everything):
        if node.op == "call" or not node.regions:
            if not floats(node):
                yield node
            continue
        for body, inside in zip(node.regions, body_marks(node, behind, everything), strict=True):
            yield from _stops(body.nodes, inside)
