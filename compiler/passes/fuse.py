"""fuse: gathers the nodes of a Graph into groups, each of which becomes one kernel.

A reduction starts a group; elementwise nodes over the same domain join the group of an operand,
as its epilogue. What only moves or makes elements is computed where it is read. A chain that is
read once, by a reduction of one operand or through a permutation or a pad, becomes part of its
reader. Calls, loops, branches and what has an effect are groups of their own, and so is what goes
through its operands in order (cumsum, scatter, radix_pass). A gather is computed where it is read,
which is never before a check that stands before it: its indices and its table lie in memory.
Reductions along the same rows, what they read and what is made of them are one group in the end,
where nothing stands between them (`kernels/join_rows.py`). Products of matrices that are themselves
made of products are one group with these (`kernels/chains.py`).

    %a = contract %x, %w          group g0 [N, 84] -> %y {
    %s = add %a, %b        ->       %a = contract %x, %w   # root
    %y = tanh %s                    %s = add %a, %b
                                    %y = tanh %s  }

Requires: gradients expanded, ops with `decompose` expanded. Ensures: every value that is read in
memory is an output of exactly one group, a parameter, or a view of one of these.
"""

from __future__ import annotations

from collections.abc import Container

from dlc.compiler.kernels.chains import Chain, chains
from dlc.compiler.kernels.grouping import Grouping
from dlc.compiler.kernels.join_rows import join_rows, rows_alone, with_stored
from dlc.compiler.kernels.shapes import SEQUENCES, Shapes, behind, stands_alone
from dlc.compiler.options import Options
from dlc.compiler.passes.eliminate_dead import has_effect
from dlc.ir.fused import FusedGraph, Group, Row
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.ops import OPS


def fuse(graph: Graph, options: Options) -> FusedGraph:
    """Groups the nodes of `graph`."""
    shapes = Shapes(graph, options)
    shapes.mark_inlined()
    grouping = Grouping(shapes)
    calls: dict[int, Node] = {}
    views: list[tuple[Value, Value]] = []
    effects = Effects(grouping)
    chained = Chained(grouping, chains(shapes, options))
    for node in graph.nodes:
        if chained.put(node):
            continue
        if stands_alone(node):
            group = grouping.open((), None)
            calls[group] = node
            grouping.put(node, group)
            effects.order(node, group)
        elif node.op == "table":
            grouping.put(node, grouping.open(node.result.dims, None))
        elif shapes.is_view(node):
            views.append((node.result, node.operands[0]))
        elif shapes.is_reduction(node) or node.op in SEQUENCES:
            group = grouping.open(node.result.dims, node)
            grouping.put(node, group)
            if node.op == "scatter":
                grouping.depend(group, effects.last)
        elif node.op == "gather":
            grouping.guards[node.result] = frozenset(effects.last)
        elif shapes.is_map(node) and node.result not in shapes.inlined:
            _place(node, grouping)
    return _finish(graph, grouping, calls, views, join_rows(
        grouping, options, chained.rows.keys()) | chained.rows, chained.rows.keys())


class Chained:
    """Puts the nodes of each chain of products into a group of their own."""

    def __init__(self, grouping: Grouping, found: list[Chain]) -> None:
        self.grouping = grouping
        self.chain = {n.result: k for k, one in enumerate(found) for n in one.nodes}
        self.found = found
        self.group: dict[int, int] = {}
        self.rows: dict[int, Row] = {}  # by the number of the group

    def put(self, node: Node) -> bool:
        """Puts a node of a chain where it belongs; False for any other."""
        at = self.chain.get(node.results[0]) if node.results else None
        if at is None:
            return False
        if at not in self.group:
            group = self.group[at] = self.grouping.open((), None)
            self.rows[group] = self.found[at].row
        self.grouping.put(node, self.group[at])
        return True


class Effects:
    """Keeps checks, prints and what holds them in the order of the program.

    Loops and branches come after the effects before them: they may need what a check makes sure of.
    """

    def __init__(self, grouping: Grouping) -> None:
        self.grouping = grouping
        self.last: set[int] = set()
        self.known: dict[int, bool] = {}

    def order(self, node: Node, group: int) -> None:
        """Puts the group of `node` behind the last effect."""
        effect = has_effect(node, self.known)
        if effect or OPS[node.op].kernel == "control":
            self.grouping.depend(group, self.last)
        if effect:
            self.last = {group}


def _place(node: Node, grouping: Grouping) -> None:
    domain = node.result.dims
    near = [grouping.of[v] for v in node.operands
            if v in grouping.of and grouping.domains[grouping.of[v]] == domain]
    # What the backward pass needs of a forward value is cheaper computed again than stored.
    near = [g for g in near if not stands_alone(first := grouping.nodes[g][0])
            and first.op != "table" and first.op not in SEQUENCES and first.phase == node.phase]
    group = grouping.join(node, near)
    if group is None:
        group = grouping.open(domain, None)
    grouping.put(node, group)


def _finish(
    graph: Graph, grouping: Grouping, calls: dict[int, Node], views: list[tuple[Value, Value]],
    rows: dict[int, Row], chained: Container[int],
) -> FusedGraph:
    shapes = grouping.shapes
    place = {value: at for at, node in enumerate(graph.nodes) for value in node.results}
    needed = _needed(graph, shapes, grouping)
    needed -= rows_alone(grouping, rows)
    groups: list[Group] = []
    for g, nodes in enumerate(grouping.nodes):
        if not nodes:
            continue
        nodes.sort(key=lambda n: place[n.results[0]] if n.results else 0)
        outputs = tuple(v for n in nodes for v in n.results if v in needed or g in calls)
        row = rows.get(g)
        if row is not None and g not in chained:
            outputs = with_stored(grouping, row, nodes, outputs)
        groups.append(Group(f"g{g}", grouping.domains[g], tuple(nodes), outputs, grouping.roots[g],
                            calls.get(g), row, g in chained))
    groups = _ordered(groups, grouping)
    viewed = dict(views)
    copied = [Group(f"copy{k}", v.dims, (), (v,)) for k, v in enumerate(
        v for v in shapes.made if v in needed and v not in grouping.of and v not in viewed)]
    return FusedGraph(graph, (*_interleave(groups, copied, grouping),), tuple(views))


def _needed(graph: Graph, shapes: Shapes, grouping: Grouping) -> set[Value]:
    """The values that must lie in memory: read by another group, viewed, or given as a result."""
    needed = set(graph.outputs)
    for node in graph.nodes:
        owner = grouping.of.get(node.results[0]) if node.results else None
        for value in node.operands:
            same = owner is not None and grouping.of.get(value) == owner
            inside = same and grouping.roots[owner or 0] is not node and node.op != "pad"
            if shapes.is_view(node) or stands_alone(node):
                needed.add(value)
            elif value in grouping.of and not inside:
                needed.add(value)
        needed |= set(shapes.in_memory(node))
        if node.op == "pad":  # it also reads where its operand, and so an index, is not
            needed |= _gathered(node, grouping)
    return needed


def _gathered(node: Node, grouping: Grouping) -> set[Value]:
    """The gathers that a node would compute where it reads."""
    made = grouping.shapes.made

    def is_gather(value: Value) -> bool:
        return value in made and made[value].op == "gather"

    read = behind(node.operands, made, lambda v: is_gather(v) or v in grouping.of)
    return set(filter(is_gather, read))


def _ordered(groups: list[Group], grouping: Grouping) -> list[Group]:
    """Producers before consumers; otherwise as in the graph."""
    done = 0
    waiting = list(groups)
    live = sum(1 << int(g.name[1:]) for g in groups)
    out: list[Group] = []
    while waiting:
        for at, group in enumerate(waiting):
            if not grouping.before[int(group.name[1:])] & live & ~done:
                done |= 1 << int(group.name[1:])
                out.append(waiting.pop(at))
                break
        else:
            raise AssertionError("groups depend on each other in a circle")
    return out


def _interleave(groups: list[Group], copied: list[Group], grouping: Grouping) -> list[Group]:
    """Puts each copy behind the groups and the copies before it that it reads."""
    out = list(groups)
    made = grouping.shapes.made
    names = {v: f"g{g}" for v, g in grouping.of.items()}
    names |= {v: group.name for group in copied for v in group.outputs}
    for group in copied:
        sources = {f"g{g}" for g in grouping.guards.get(group.outputs[0], ())}
        for value in behind(made[group.outputs[0]].operands, made, names.__contains__):
            sources |= {f"g{g}" for g in grouping.guards.get(value, ())}
            if value in names:
                sources.add(names[value])
        at = max((k for k, g in enumerate(out) if g.name in sources), default=-1)
        out.insert(at + 1, group)
    return out
