"""Makes what costs nothing where it is read: inside the bodies of loops and branches.

    %zeros = broadcast %zero …                     %s = scan %h with body'
    %s = scan %h, %zeros with body           →     # body' makes %zeros itself

A constant, a number of a dim, an index and what is spread over a tensor are moved into the bodies
that capture them; there they become part of kernels, and fold. What a loop carries and never
changes is captured instead, and what is captured twice is captured once.

Requires valid IR; ensures that no body captures a value that such an op makes. A body that many
nodes share stays shared where they capture the same constants.
"""

from __future__ import annotations

from dataclasses import field, replace
from typing import Final

from dlc.compiler.rewriting.bodies import in_bodies
from dlc.compiler.rewriting.rewrite import with_nodes, with_operands
from dlc.ir.dataclass import dataclass
from dlc.ir.graph import Builder, Graph, Node, Param, Value, names
from dlc.ir.ops import OPS
from dlc.ir.ops.loops import carried_of, counts, first_given

FREE: Final = frozenset({"constant", "dim", "iota", "broadcast"})


def sink_constants(graph: Graph) -> Graph:
    """`graph` with constants inside the bodies that read them; itself if no body captures any."""
    return _sink(graph, _Known())


@dataclass(frozen=True, slots=True)
class _Known:
    """Bodies that were met, by identity, and what became of those of control nodes."""

    bodies: dict[int, Graph] = field(default_factory=dict)
    sunk: dict[object, tuple[Graph, ...]] = field(default_factory=dict)


def _sink(graph: Graph, known: _Known) -> Graph:
    if not any(node.regions for node in graph.nodes):
        return graph
    made: dict[Value, Node] = {}
    replaced: dict[Value, Value] = {}
    nodes: list[Node] = []
    changed = False
    for node in graph.nodes:
        before = node
        if any(v in replaced for v in node.operands):
            node = with_operands(node, tuple(replaced.get(v, v) for v in node.operands))
        if OPS[node.op].kernel == "control":
            captures = _Captures(node, made)
            replaced.update(captures.unchanged())
            node = captures.node(known)
        node = in_bodies(node, known.bodies, lambda body: _sink(body, known))
        changed |= node is not before
        made.update(dict.fromkeys(node.results, node))
        nodes.append(node)
    return with_nodes(graph, nodes, replaced) if changed else graph


@dataclass(frozen=True, slots=True)
class _Made:
    """A captured value: number `leaf` of what is still captured, or made by a node in the body."""

    leaf: int = -1
    node: Node | None = None
    parts: tuple[_Made, ...] = ()

    def key(self) -> object:
        """Equal for values that are made alike."""
        if self.node is None:
            return self.leaf
        return self.node.op, repr(self.node.attrs), tuple(part.key() for part in self.parts)


class _Captures:
    """What one control node gets, and what it will get."""

    def __init__(self, node: Node, made: dict[Value, Node]) -> None:
        self.old, self.made = node, made
        self.first = first_given(node)
        carried = carried_of(node)
        items = counts(dict(node.attrs))[1] if node.op == "scan" else 0
        body = node.regions[-1]
        self.constant = tuple(k for k in range(carried) if body.results[k] == body.inputs[k])
        self.kept = tuple(k for k in range(carried) if k not in self.constant)
        self.items = tuple(range(carried, carried + items))
        captured: tuple[int, ...] = (*self.constant, *range(carried + items, len(body.params)))
        self.places: dict[Value, int] = {}
        self.makers = {k: self._maker(self._operand(k)) for k in captured}
        self.leaves = list(self.places)

    def _operand(self, place: int) -> Value:
        return self.old.operands[self.first + place]

    def _maker(self, value: Value) -> _Made:
        node = self.made.get(value)
        if node is not None and node.op in FREE:
            return _Made(node=node, parts=tuple(map(self._maker, node.operands)))
        return _Made(self.places.setdefault(value, len(self.places)))

    def unchanged(self) -> dict[Value, Value]:
        """The results that are initial values."""
        return {self.old.results[k]: self._operand(k) for k in self.constant}

    def node(self, known: _Known) -> Node:
        """The node with what it still captures; the old one if that is the same."""
        places = (*self.kept, *self.items)
        operands = (*self.old.operands[:self.first], *map(self._operand, places), *self.leaves)
        if operands == self.old.operands:
            return self.old
        key = (self.old.op, *map(id, self.old.regions), self.constant, len(self.leaves),
               tuple(maker.key() for maker in self.makers.values()))
        if key not in known.sunk:
            known.sunk[key] = tuple(map(self._body, self.old.regions))
        attrs = tuple((name, len(self.kept) if name == "carried" else value)
                      for name, value in self.old.attrs)
        results = tuple(v for k, v in enumerate(self.old.results) if k not in self.constant)
        return replace(self.old, operands=operands, attrs=attrs, results=results,
                       regions=known.sunk[key])

    def _body(self, body: Graph) -> Graph:
        b = Builder(names(body))
        old = {maker.leaf: body.inputs[k] for k, maker in reversed(self.makers.items())}
        leaves = [old.get(at) or b.fresh(leaf.name, leaf.type)
                  for at, leaf in enumerate(self.leaves)]
        env = {body.inputs[k]: _make(maker, leaves, b) for k, maker in self.makers.items()}
        for node in body.nodes:
            b.nodes.append(with_operands(node, tuple(env.get(v, v) for v in node.operands))
                           if any(v in env for v in node.operands) else node)
        results = body.results
        if len(results) == len(self.old.results):  # not the condition of a `while`
            results = tuple(v for k, v in enumerate(results) if k not in self.constant)
        params = (*(body.params[k] for k in (*self.kept, *self.items)), *map(Param, leaves))
        return replace(body, params=params, nodes=tuple(b.nodes),
                       results=tuple(env.get(v, v) for v in results))


def _make(maker: _Made, leaves: list[Value], b: Builder) -> Value:
    """A captured value, inside the body."""
    if maker.node is None:
        return leaves[maker.leaf]
    parts = tuple(_make(part, leaves, b) for part in maker.parts)
    (value,) = b.copy(maker.node, parts)
    return value
