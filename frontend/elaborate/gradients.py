"""What a loss depends on, and its `gradient` node: inside the bodies of loops and branches too.

A gradient that is asked for in a body may lead through what was computed outside of it. Those nodes
are then copied into the body, in front of its own, so that the body alone says what is
differentiated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dlc.frontend.elaborate.frames import Fault, Frame
from dlc.frontend.elaborate.values import Variable
from dlc.ir import graph as ir
from dlc.ir.diagnostics import Span
from dlc.ir.graph import Graph, Node
from dlc.ir.ops.loops import counts

Place = tuple[int, int]  # a level, and a node of it


@dataclass(slots=True)
class Reach:
    """The values that a loss depends on by a way on which a gradient may flow, and the nodes that
    make them, in the order of the program."""

    values: set[ir.Value]
    nodes: dict[Place, Node] = field(default_factory=dict)

    def between(self, targets: Iterable[ir.Value]) -> list[tuple[Place, Node]]:
        """Of the nodes those that depend on one of `targets`."""
        active, found = set(targets), list[tuple[Place, Node]]()
        for place in sorted(self.nodes):
            node = self.nodes[place]
            behind = [result for result in node.results
                      if not active.isdisjoint(flows(node, result))]
            if behind:
                active.update(behind)
                found.append((place, node))
        return found


def reach(frame: Frame, loss: ir.Value) -> Reach:
    """What `loss` depends on, in all levels that are open."""
    made: dict[ir.Value, tuple[Place, Node]] = {}
    for depth, level in enumerate(frame.context.store.level.chain()):
        for at, node in enumerate(level.nodes):
            made.update((result, ((depth, at), node)) for result in node.results)
    found = Reach({loss})
    waiting = [loss]
    while waiting:
        value = waiting.pop()
        if value not in made:
            continue
        place, node = made[value]
        operands = flows(node, value)
        if operands:
            found.nodes[place] = node
        waiting += [v for v in operands if v not in found.values]
        found.values.update(operands)
    return found


def flows(node: Node, result: ir.Value) -> tuple[ir.Value, ...]:
    """The operands that a gradient may flow to from one result of a node."""
    if node.op == "stop_gradient":
        return ()
    if node.op not in ("scan", "while", "if"):
        return node.operands
    return tuple(dict.fromkeys(_through(node, node.results.index(result))))


def _through(node: Node, place: int) -> Iterator[ir.Value]:
    """As `flows`, of a node that holds bodies."""
    if node.op == "if":
        for body in node.regions:
            needed = _needed(body, (body.results[place],))
            yield from (v for p, v in zip(body.inputs, node.operands[1:], strict=True)
                        if p in needed)
        return
    body = node.regions[-1]
    carried = counts(dict(node.attrs))[0] if node.op == "scan" else len(body.results)
    wanted = {place}
    while True:
        needed = _needed(body, [body.results[at] for at in wanted])
        more = {at for at in range(carried) if body.inputs[at] in needed} - wanted
        if not more:
            break
        wanted |= more
    initial = {body.inputs[at] for at in wanted if at < carried}
    yield from (v for p, v in zip(body.inputs, node.operands, strict=True)
                if p in needed or p in initial)


def _needed(body: Graph, results: Sequence[ir.Value]) -> set[ir.Value]:
    """What some results of a body depend on, in it."""
    needed = set(results)
    for node in reversed(body.nodes):
        for result in node.results:
            if result in needed:
                needed.update(flows(node, result))
    return needed


def gradients(
    frame: Frame, loss: ir.Value, targets: Sequence[ir.Value], span: Span
) -> tuple[ir.Value, ...]:
    """The derivative of `loss` by each of `targets`; `Fault` if there is none."""
    store = frame.context.store
    found = reach(frame, loss)
    depth = len(store.level.chain()) - 1
    for place, node in found.between(targets):
        if node.op == "while":
            raise _no_way_back(node, span)
        if place[0] < depth:
            store.level.sunk[place] = node
    builder = frame.place(span)
    with builder.located((), phase="backward"):
        return builder.emit("gradient", loss, *targets, hint="gradient")


def _no_way_back(node: Node, span: Span) -> Fault:
    notes = [f"the `while` stands at {loc}" for loc in node.locs[:1]]
    return Fault("no-gradient", "no gradient flows through a `while`: how often it turns is known "
                 "only when it ends", span, notes,
                 "`stop_gradient(…)` round what it gives says that none is meant to; `scan` has a "
                 "gradient")


def gradients_of(
    frame: Frame, loss: ir.Value, params: Sequence[Variable], span: Span
) -> list[ir.Value]:
    """The gradient for each param: the sum over the values that it had where the loss read it."""
    seen = reach(frame, loss).values
    reads = [(place, value) for place, param in enumerate(params)
             for value in frame.context.store.versions(param) if value in seen]
    made = gradients(frame, loss, [v for _, v in reads], span)
    builder = frame.place(span)
    sums: dict[int, ir.Value] = {}
    with builder.located((), phase="backward"):
        for (place, _), gradient in zip(reads, made, strict=True):
            before = sums.get(place)
            sums[place] = gradient if before is None else builder.op("add", before, gradient)
    return [sums[place] for place in range(len(params))]


def why_not(frame: Frame, loss: ir.Value, targets: Sequence[ir.Value]) -> tuple[str, ...]:
    """What keeps the gradient of a loss from some values on which it depends all the same."""
    behind = set(targets)
    for level in frame.context.store.level.chain():
        for node in level.nodes:
            if behind.isdisjoint(node.operands):
                continue
            if node.op == "stop_gradient" and node.locs:
                return (f"a `stop_gradient`, or an update, stands between, at {node.locs[0]}",)
            behind.update(node.results)
    return ()
