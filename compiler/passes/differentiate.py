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

from collections.abc import Iterable
from dataclasses import replace

from dlc.compiler.passes.inline import inline, names
from dlc.ir.diagnostics import Diagnostic, InternalError, Span, UserError
from dlc.ir.graph import Builder, Graph, Loc, Node, Value, producers
from dlc.ir.ops import OPS
from dlc.ir.ops.op import NotDifferentiable
from dlc.ir.types import TensorType

FLAT = "derivative is 0"  # in the reason of an op whose gradient is zero where it exists


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
    changed = False
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.regions:
            for region in node.regions:
                if id(region) not in done:
                    done[id(region)] = _differentiate(region, done)
            regions = tuple(done[id(region)] for region in node.regions)
            if any(a is not b for a, b in zip(regions, node.regions, strict=True)):
                changed, node = True, replace(node, regions=regions)
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes)) if changed else graph


def _calls_on_the_way(graph: Graph) -> list[Node]:
    """The calls that lie between a loss and a value that a gradient is asked for."""
    if not any(node.op == "call" for node in graph.nodes):
        return []
    found: list[Node] = []
    made = producers(graph.nodes)
    order = {id(node): at for at, node in enumerate(graph.nodes)}
    for gradient in graph.nodes:
        if gradient.op == "gradient":
            loss, *wrt = gradient.operands
            active = set(wrt)
            for node in _slice(loss, made, order):
                if not active.isdisjoint(node.operands):
                    active.update(node.results)
                    found += [node] if node.op == "call" else []
    return found


def _slice(loss: Value, made: dict[Value, Node], order: dict[int, int]) -> list[Node]:
    """The nodes that `loss` is computed by, in the order of the program."""
    seen: dict[int, Node] = {}
    stack = [loss]
    while stack:
        node = made.get(stack.pop())
        if node is not None and id(node) not in seen:
            seen[id(node)] = node
            stack.extend(node.operands)
    return sorted(seen.values(), key=lambda node: order[id(node)])


class _Expander:
    """One graph on its way to one without gradients."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.builder = Builder(names(graph))
        self.replaced: dict[Value, Value] = {}
        self.made: dict[Value, Node] = {}
        self.order: dict[int, int] = {}

    def run(self) -> Graph:
        """The graph, every gradient expanded."""
        nodes = self.builder.nodes
        for node in self.graph.nodes:
            if any(v in self.replaced for v in node.operands):
                operands = tuple(self.replaced.get(v, v) for v in node.operands)
                node = replace(node, operands=operands)
            if node.op == "gradient":
                results = self.expand(node)
                self.replaced.update(zip(node.results, results, strict=True))
            else:
                nodes.append(node)
        get = self.replaced.get
        return replace(
            self.graph,
            nodes=tuple(nodes),
            results=tuple(get(v, v) for v in self.graph.results),
            updates=tuple((name, get(v, v)) for name, v in self.graph.updates),
        )

    def index(self) -> None:
        """Takes note of the nodes appended since the last time."""
        nodes = self.builder.nodes
        for at in range(len(self.order), len(nodes)):
            self.order[id(nodes[at])] = at
            self.made.update(dict.fromkeys(nodes[at].results, nodes[at]))

    def expand(self, gradient: Node) -> tuple[Value, ...]:
        """Appends what computes `gradient` (already in terms of new values)."""
        self.index()
        loss, *wrt = gradient.operands
        way = _Way(_slice(loss, self.made, self.order), wrt)
        way.demand(loss, gradient)
        builder = self.builder
        adjoints: dict[Value, Value] = {}
        with builder.located(gradient.locs, gradient.path, "backward"):
            adjoints[loss] = builder.constant(1.0, loss.type, "one")
        for node in reversed(way.nodes):
            with builder.located(node.locs, node.path, "backward"):
                self.pull(node, adjoints, way.active)
        with builder.located(gradient.locs, gradient.path, "backward"):
            return tuple(adjoints.get(v) or builder.zeros(v.type) for v in wrt)

    def pull(self, node: Node, adjoints: dict[Value, Value], active: set[Value]) -> None:
        """Adds to the adjoints of the operands of `node` what its results pass on."""
        if not any(v in adjoints for v in node.results):
            return
        vjp = OPS[node.op].vjp
        assert not isinstance(vjp, NotDifferentiable)
        builder = self.builder
        given = tuple(adjoints.get(v) or builder.zeros(v.type) for v in node.results)
        for operand, part in zip(node.operands, vjp(builder, node, given), strict=True):
            if part is None or operand not in active:
                continue
            if part.type is not operand.type:
                raise InternalError(
                    f"the gradient of {node.op} gives {part.type} for an operand {operand.type}"
                )
            before = adjoints.get(operand)
            adjoints[operand] = part if before is None else builder.op("add", before, part)


class _Way:
    """What lies between a loss and the values that its gradient is asked for.

    `active` are the values that a gradient flows to, `nodes` what it flows through, in the order
    of the program; `upstream` is all that the loss is computed by.
    """

    def __init__(self, upstream: Iterable[Node], wrt: Iterable[Value]) -> None:
        self.wrt = tuple(wrt)
        self.active = set(self.wrt)
        self.nodes: list[Node] = []
        self.upstream = tuple(upstream)
        for node in self.upstream:
            if self.active.isdisjoint(node.operands):
                continue
            if _passes(node) and any(_is_float(v) for v in node.results):
                self.nodes.append(node)
                self.active.update(v for v in node.results if _is_float(v))

    def demand(self, loss: Value, gradient: Node) -> None:
        """A `UserError` if the gradient of `loss` asks for what no gradient flows to or through."""
        for node in self.upstream:
            vjp = OPS[node.op].vjp
            if isinstance(vjp, NotDifferentiable) and FLAT not in vjp.reason:
                if any(map(_is_float, node.results)) and not self.active.isdisjoint(node.operands):
                    raise _no_gradient(node, gradient)
        if any(node.phase == "backward" for node in self.upstream):
            return  # what is flat in a gradient (of `abs`, of a maximum), the user has not written
        reached = _reached({loss}, self.nodes)
        for value in self.wrt:
            stop = self.obstacle(value) if value not in reached else None
            if stop is not None:
                raise _no_gradient(stop, gradient)

    def obstacle(self, value: Value) -> Node | None:
        """What keeps the gradient from `value`, which no gradient reaches.

        None if the loss does not depend on it, or if a `stop_gradient` stands there too.
        """
        behind = {value}
        stop: Node | None = None
        for node in self.upstream:
            if not behind.isdisjoint(node.operands):
                if node.op == "stop_gradient":
                    return None
                behind.update(node.results)
                if stop is None and not (_passes(node) and any(map(_is_float, node.results))):
                    stop = node
        return stop


def _reached(values: set[Value], nodes: list[Node]) -> set[Value]:
    """All that a gradient flows back to from `values` through `nodes`."""
    for node in reversed(nodes):
        if not values.isdisjoint(node.results):
            values.update(node.operands)
    return values


def _passes(node: Node) -> bool:
    return node.op != "stop_gradient" and not isinstance(OPS[node.op].vjp, NotDifferentiable)


def _is_float(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype.is_float


def _no_gradient(node: Node, gradient: Node) -> UserError:
    vjp = OPS[node.op].vjp
    reason = vjp.reason if isinstance(vjp, NotDifferentiable) else f"it gives {node.result.type}"
    notes = [f"the gradient is asked for at {loc}" for loc in gradient.locs[:1]]
    return UserError([
        Diagnostic(
            "no-gradient",
            f"no gradient flows through `{node.op}`: {reason}",
            _span(node.locs or gradient.locs),
            tuple(notes),
            "`stop_gradient` says that none is meant to",
        )
    ])


def _span(locs: tuple[Loc, ...]) -> Span | None:
    if not locs:
        return None
    loc = locs[0]
    return Span(loc.file, loc.line, loc.column, loc.line, loc.column + 1)
