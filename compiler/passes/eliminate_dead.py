"""Drops the nodes that nothing depends on.

    %a = exp %x                     →      %b = neg %x
    %b = neg %x                            return %b
    return %b

Requires valid IR; ensures that every node is needed for an output, or has an effect (a `check`,
here or in a body); that a control node gives nothing that nobody reads, but for what it needs
itself in a later turn; and that its bodies read what it gets. Parameters of the graph itself stay,
and of calls: they are the signature.
"""

from __future__ import annotations

from dataclasses import field, replace

from dlc.compiler.rewriting.bodies import in_bodies
from dlc.ir.dataclass import dataclass
from dlc.ir.graph import Attr, Graph, Node
from dlc.ir.ops import OPS
from dlc.ir.ops.loops import carried_of, counts, first_given


def eliminate_dead(graph: Graph) -> Graph:
    """`graph` without dead nodes, in bodies too; `graph` itself if there are none."""
    return _eliminate(graph, _Known())


@dataclass(frozen=True, slots=True)
class _Slim:
    """A control node's bodies without what is dead, and which results and operands it keeps."""

    regions: tuple[Graph, ...]
    results: tuple[int, ...]
    operands: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of bodies, by identity, so that shared ones are done once and stay shared."""

    bodies: dict[int, Graph] = field(default_factory=dict)
    effects: dict[int, bool] = field(default_factory=dict)
    slim: dict[object, _Slim] = field(default_factory=dict)


def _eliminate(graph: Graph, known: _Known) -> Graph:
    needed = {value.name for value in graph.outputs}
    kept: list[Node] = []
    changed = False
    for node in reversed(graph.nodes):
        if not any(v.name in needed for v in node.results) and not has_effect(node, known.effects):
            changed = True
            continue
        if node.regions:
            before, node = node, _in_bodies(node, needed, known)
            changed |= node is not before
        needed.update([v.name for v in node.operands])
        kept.append(node)
    return replace(graph, nodes=tuple(reversed(kept))) if changed else graph


def has_effect(node: Node, known: dict[int, bool]) -> bool:
    """Whether a node does something besides giving values; `known` remembers bodies by identity."""
    if OPS[node.op].kernel == "effect":
        return not node.results
    for region in node.regions:
        if id(region) not in known:
            known[id(region)] = any(has_effect(inner, known) for inner in region.nodes)
    return any(known[id(region)] for region in node.regions)


def _in_bodies(node: Node, needed: set[str], known: _Known) -> Node:
    """`node` without what is dead in its bodies; itself if nothing is."""
    if OPS[node.op].kernel == "control":
        return _slimmed(node, needed, known)
    return in_bodies(node, known.bodies, lambda body: _eliminate(body, known))


def _slimmed(node: Node, needed: set[str], known: _Known) -> Node:
    """A control node that gives only what is needed, and gets only what its bodies read."""
    wanted = tuple(i for i, v in enumerate(node.results) if v.name in needed)
    key = (node.op, *map(id, node.regions), wanted, node.attrs)
    if key not in known.slim:
        known.slim[key] = _slim(node, wanted, known)
    slim = known.slim[key]
    if (len(slim.operands) == len(node.operands) and len(slim.results) == len(node.results)
            and all(a is b for a, b in zip(slim.regions, node.regions, strict=True))):
        return node
    return replace(
        node, regions=slim.regions, attrs=_counted(node, slim),
        operands=tuple(node.operands[i] for i in slim.operands),
        results=tuple(node.results[i] for i in slim.results))


def _counted(node: Node, slim: _Slim) -> tuple[tuple[str, Attr], ...]:
    """The attributes of a control node, its carried values and its items counted again."""
    if node.op == "if":
        return node.attrs
    carried = carried_of(node)
    attrs = dict(node.attrs)
    attrs["carried"] = sum(i < carried for i in slim.operands)
    if node.op == "scan":
        _, items = counts(attrs)
        attrs["items"] = sum(carried <= i < carried + items for i in slim.operands)
    return tuple(attrs.items())


def _slim(node: Node, wanted: tuple[int, ...], known: _Known) -> _Slim:
    """What is left of a control node of which only the results `wanted` are needed."""
    carried = carried_of(node)
    keep = set(wanted)
    while True:
        results = tuple(sorted(keep))
        regions = tuple(_with_results(node, at, results, known) for at in range(len(node.regions)))
        read = _read_places(regions)
        more = {i for i in read if i < carried} - keep
        if not more:
            break
        keep |= more
    places = sorted(read | {i for i in keep if i < carried})
    if len(places) < len(regions[0].params):
        regions = tuple(_with_params(region, places) for region in regions)
    first = first_given(node)
    return _Slim(regions, results, (*range(first), *(i + first for i in places)))


def _with_results(node: Node, at: int, results: tuple[int, ...], known: _Known) -> Graph:
    """Body `at` of a control node, giving `results` alone; the condition of a `while` as it is."""
    region = node.regions[at]
    if (node.op != "while" or at == 1) and len(results) < len(region.results):
        region = replace(region, results=tuple(region.results[i] for i in results))
    return _eliminate(region, known)


def _with_params(region: Graph, places: list[int]) -> Graph:
    return replace(region, params=tuple(region.params[i] for i in places))


def _read_places(regions: tuple[Graph, ...]) -> set[int]:
    """The places of the parameters that one of the bodies reads or gives."""
    found: set[int] = set()
    for region in regions:
        read = {v.name for node in region.nodes for v in node.operands}
        read.update(v.name for v in region.results)
        found.update(i for i, v in enumerate(region.inputs) if v.name in read)
    return found
