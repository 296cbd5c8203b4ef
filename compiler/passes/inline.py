"""Puts the body of a called graph in the place of each `call`.

    %y = call %x @square            →      %y = mul %x, %x

Requires valid IR; ensures that no `call` is left for which `wanted` holds, in bodies of other
nodes too. The types of the body take on the dims of the call, also inside the loops and branches
in it. Nodes of the body remember the call: in their locations, in their paths, and by its phase if
that is not the forward one. What must hold of the dims is asked of the caller, so that bodies of
loops and branches are left without conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from dlc.compiler.rewriting.with_dims import WithDims
from dlc.ir.dims import Dim, substitute
from dlc.ir.graph import Builder, Condition, Graph, Loc, Node, Value, names
from dlc.ir.ops import OPS
from dlc.ir.ops.control import bind_symbols

Wanted = Callable[[Node], bool]


def all_calls(node: Node) -> bool:
    """Every call is wanted."""
    return True


def inline(graph: Graph, wanted: Wanted = all_calls) -> Graph:
    """`graph` with the calls that are `wanted` expanded; `graph` itself if there are none."""
    if not any(node.regions for node in graph.nodes):
        return graph
    inliner = _Inliner(graph, wanted)
    inliner.add(graph.nodes, {})
    return inliner.finish()


def is_elementwise(graph: Graph) -> bool:
    """Whether a graph only computes element by element, so that one kernel can run all of it."""
    return all(
        OPS[node.op].formula is not None
        or OPS[node.op].kernel in ("constant", "index")
        or node.op in ("broadcast", "stop_gradient")
        for node in graph.nodes
    )


def inline_structure(graph: Graph) -> Graph:
    """Expands all calls but those that one kernel can run, as optimizers are."""
    return inline(graph, lambda node: not is_elementwise(node.regions[0]))


class _Inliner:
    """Collects the nodes of one graph."""

    def __init__(self, graph: Graph, wanted: Wanted) -> None:
        self.graph = graph
        self.wanted = wanted
        self.builder = Builder(names(graph))
        self.replaced: dict[Value, Value] = {}
        self.conditions = list(graph.conditions)
        self.bodies: dict[int, Graph] = {}
        self.changed = False

    def add(self, nodes: Iterable[Node], dims: dict[str, Dim]) -> None:
        """Appends nodes of the graph itself."""
        for node in nodes:
            operands = tuple(self.replaced.get(v, v) for v in node.operands)
            if node.op == "call" and self.wanted(node):
                self.changed = True
                results = self.expand(node, operands)
                self.replaced.update(zip(node.results, results, strict=True))
                continue
            regions = tuple(self.body(region, node) for region in node.regions)
            if operands != node.operands or regions != node.regions:
                node = replace(node, operands=operands, regions=regions)
            self.builder.nodes.append(node)

    def body(self, region: Graph, holder: Node) -> Graph:
        """The body of a node, with its calls expanded; what is shared stays shared.

        The conditions of open bodies become those of the graph.
        """
        if id(region) not in self.bodies:
            body = inline(region, self.wanted)
            if body.conditions and OPS[holder.op].kernel == "control":
                self.conditions += body.conditions
                body = replace(body, conditions=())
            self.bodies[id(region)] = body
            self.changed |= body is not region
        return self.bodies[id(region)]

    def expand(self, call: Node, operands: tuple[Value, ...]) -> tuple[Value, ...]:
        """Appends the body of `call`, and returns what stands for its results."""
        body = self.body(call.regions[0], call)
        bound = bind_symbols(
            tuple(v.type for v in body.inputs), tuple(v.type for v in operands)
        )
        called = _Called(call, {name: dim for name, dim in bound.items() if str(dim) != name})
        env = dict(zip(body.inputs, operands, strict=True))
        for node in body.nodes:
            results = tuple(
                self.builder.fresh(v.name, called.value(v).type) for v in node.results)
            inner = called.node(node, tuple(env[v] for v in node.operands), results)
            env.update(zip(node.results, results, strict=True))
            self.builder.nodes.append(inner)
        self.conditions += [
            made for c in body.conditions
            if not _holds(made := _condition(c, called.dims, call))
        ]
        return tuple(env[v] for v in body.results)

    def finish(self) -> Graph:
        """The new graph."""
        if not self.changed:
            return self.graph
        get = self.replaced.get
        return replace(
            self.graph,
            nodes=tuple(self.builder.nodes),
            results=tuple(get(v, v) for v in self.graph.results),
            updates=tuple((name, get(v, v)) for name, v in self.graph.updates),
            conditions=tuple(dict.fromkeys(self.conditions)),
        )


class _Called(WithDims):
    """The nodes of a called graph as one call makes them: with its dims, and reached through it."""

    def __init__(self, call: Node, dims: dict[str, Dim]) -> None:
        super().__init__(dims)
        self.call = call

    def node(
        self, node: Node, operands: tuple[Value, ...], results: tuple[Value, ...]
    ) -> Node:
        """A node on other operands, that tells of the call."""
        return super().node(_called(node, self.call), operands, results)


def _called(node: Node, call: Node) -> Node:
    """A node of a body as the call makes it: places, path and phase."""
    caller = call.locs[0] if call.locs else None
    phase = node.phase if call.phase == "forward" else call.phase
    path = f"{call.path}.{node.path}" if call.path and node.path else call.path or node.path
    locs = tuple(_reached(loc, caller) for loc in node.locs) or call.locs
    return replace(node, phase=phase, path=path, locs=locs)


def _reached(loc: Loc, caller: Loc | None) -> Loc:
    """`loc`, reached through `caller` (at the end of the calls it was reached through already)."""
    if caller is None:
        return loc
    return replace(loc, caller=caller if loc.caller is None else _reached(loc.caller, caller))


def _condition(condition: Condition, dims: Mapping[str, Dim], call: Node) -> Condition:
    return replace(
        condition,
        left=substitute(condition.left, dims),
        right=substitute(condition.right, dims),
        locs=condition.locs + call.locs,
    )


def _holds(condition: Condition) -> bool:
    """Whether a condition is known to hold already."""
    left, right = condition.left, condition.right
    if not (isinstance(left, int) and isinstance(right, int)):
        return left == right and condition.relation in ("==", ">=", "<=")
    return {
        "==": left == right, ">=": left >= right, ">": left > right,
        "<=": left <= right, "<": left < right,
    }[condition.relation]
