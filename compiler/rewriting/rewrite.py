"""The one engine of rewrites: small named rules, applied wherever a node is made.

A rule looks at one node, and at the nodes that make its operands, and returns the value that
stands for the node's result, or None. What it makes on the way goes through the rules too.
Operands are rewritten before what uses them, so that one sweep over a graph leaves nothing to
rewrite.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

from dlc.compiler.rewriting.bodies import in_bodies
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import InternalError
from dlc.ir.graph import Attr, Builder, Graph, Node, Value, names, use_counts
from dlc.ir.ops import OPS

ELEMENTWISE = "elementwise"  # in the place of an op's name: all that have a formula
STEPS = 50  # rewrites that a node of the graph may set off


@dataclass(frozen=True, slots=True)
class Rule:
    """A rewrite of nodes of `ops`, named like its function. It decides before it makes a node."""

    ops: tuple[str, ...]
    rewrite: Callable[[Rewriter, Node], Value | None]

    @property
    def name(self) -> str:
        """The name under which hits are counted."""
        return self.rewrite.__name__


Rules = tuple[Rule, ...]


@cache
def _by_op(rules: Rules, known: int) -> dict[str, Rules]:
    """The rules for each op. `known`, the number of ops, is there for ops registered later."""
    return {
        name: tuple(
            rule for rule in rules
            if name in rule.ops or (ELEMENTWISE in rule.ops and op.formula is not None)
        )
        for name, op in OPS.items()
    }


class Rewriter(Builder):
    """A builder that applies rules to what it is given, and counts the hits of each."""

    def __init__(self, graph: Graph, rules: Rules) -> None:
        super().__init__(names(graph))
        self.rules = _by_op(rules, len(OPS))
        self.hits: Counter[str] = Counter()
        self.uses = use_counts(graph)
        self.has_gradients = any(node.op == "gradient" for node in graph.nodes)
        self._made: dict[Value, Node] = {}
        self._products: dict[Value, list[Node]] = {}
        self._hint = ""
        self._steps = 0

    def emit(
        self, op: str, *operands: Value, hint: str = "", regions: tuple[Graph, ...] = (),
        **attrs: Attr,
    ) -> tuple[Value, ...]:
        """As `Builder.emit`; what stands for the results may be older values."""
        return self._emit(op, operands, attrs, hint, regions)

    def make(self, op: str, operands: tuple[Value, ...], attrs: Mapping[str, Attr]) -> Value:
        """As `op`, with attributes that are at hand in a mapping."""
        return self._emit(op, operands, attrs, "", ())[0]

    def _emit(
        self, op: str, operands: tuple[Value, ...], attrs: Mapping[str, Attr], hint: str,
        regions: tuple[Graph, ...],
    ) -> tuple[Value, ...]:
        definition = OPS[op]
        ordered = definition.order_attrs(attrs)
        types = definition.infer(tuple(v.type for v in operands), dict(ordered), regions)
        results = tuple(self.fresh(hint or self._hint or op, kind) for kind in types)
        return self.push(
            Node(op, operands, ordered, results, regions, self.phase, self.path, self.locs)
        )

    def push(self, node: Node) -> tuple[Value, ...]:
        """Appends `node`, or what a rule puts in its place; returns what stands for its results."""
        for rule in self.rules.get(node.op, ()):
            name = node.results[0].name
            before, self._hint = self._hint, name
            taken = self._used.pop(name)
            value = rule.rewrite(self, node)
            self._hint = before
            if value is not None:
                self._count(rule, node, value)
                return (value,)
            self._used[name] = taken
        self.nodes.append(node)
        for result in node.results:
            self._made[result] = node
        if node.op == "contract" and len(node.operands) == 2:
            for operand in node.operands:
                self._products.setdefault(operand, []).append(node)
        return node.results

    def _count(self, rule: Rule, node: Node, value: Value) -> None:
        if value.type is not node.result.type:
            raise InternalError(f"{rule.name} turns {node.result.type} into {value.type}")
        self.hits[rule.name] += 1
        self._steps += 1
        if self._steps > STEPS:
            raise InternalError(f"the rule {rule.name} does not come to an end on {node.op}")
        if value != node.result:  # what is made in its place may have its name, and so be equal
            self.uses[value] = self.uses.get(value, 0) + self.uses.get(node.result, 0)

    def maker(self, value: Value, op: str) -> Node | None:
        """The node that makes `value`, if it is an `op`."""
        node = self._made.get(value)
        return node if node is not None and node.op == op else None

    def products(self, value: Value) -> list[Node]:
        """The contractions so far of `value` and another operand."""
        return self._products.get(value, [])

    def is_read_once(self, value: Value) -> bool:
        """Whether nothing else is known to read `value`."""
        return self.uses.get(value, 1) <= 1

    def splat(self, value: Value) -> float | None:
        """The number that `value` is all over; None where that is not known."""
        node = self._made.get(value)
        if node is not None and node.op == "broadcast":
            node = self._made.get(node.operands[0])
        if node is None or node.op != "constant":
            return None
        number = node.attr("value")
        assert isinstance(number, int | float)
        return number

    def start(self, node: Node) -> None:
        """Takes the place, path and phase of a node of the graph for what its rules make."""
        self.locs, self.path, self.phase = node.locs, node.path, node.phase
        self._steps = 0


def rewrite(graph: Graph, rules: Rules, hits: Counter[str] | None = None) -> Graph:
    """`graph` with `rules` applied, and the bodies in it; `graph` itself if none of them fits.

    `hits` is added to: how often each rule fitted.
    """
    return _rewrite(graph, rules, Counter() if hits is None else hits, {})


def _rewrite(graph: Graph, rules: Rules, hits: Counter[str], bodies: dict[int, Graph]) -> Graph:
    rewriter = Rewriter(graph, rules)
    replaced: dict[Value, Value] = {}
    changed = False
    for node in graph.nodes:
        inside = in_bodies(node, bodies, lambda body: _rewrite(body, rules, hits, bodies))
        changed |= inside is not node
        node = inside
        if replaced and any(v in replaced for v in node.operands):
            node = with_operands(node, tuple(replaced.get(v, v) for v in node.operands))
        rewriter.start(node)
        results = rewriter.push(node)
        if results is not node.results:
            replaced.update(zip(node.results, results, strict=True))
    hits.update(rewriter.hits)
    if not (changed or rewriter.hits):
        return graph
    return with_nodes(graph, rewriter.nodes, replaced)


def with_operands(node: Node, operands: tuple[Value, ...]) -> Node:
    """`node` with other operands (`dataclasses.replace` takes three times as long)."""
    return Node(
        node.op, operands, node.attrs, node.results, node.regions, node.phase, node.path, node.locs
    )


def with_nodes(graph: Graph, nodes: list[Node], replaced: dict[Value, Value]) -> Graph:
    """`graph` with other nodes, and other values in the place of those in `replaced`."""
    get = replaced.get
    return replace(
        graph,
        nodes=tuple(nodes),
        results=tuple(get(v, v) for v in graph.results),
        updates=tuple((name, get(v, v)) for name, v in graph.updates),
    )
