"""What a loss depends on, and its `gradient` node: inside the bodies of loops and branches too.

A gradient that is asked for in a body may lead through what was computed outside of it. Those nodes
are then copied into the body, in front of its own, so that the body alone says what is
differentiated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field

from dlc.frontend.elaborate.frames import Fault, Frame
from dlc.frontend.elaborate.values import Variable
from dlc.ir import graph as ir
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Span
from dlc.ir.graph import Graph, Node
from dlc.ir.ops.loops import carried_of
from dlc.ir.types import TensorType

Place = tuple[int, int]  # a level, and a node of it


@dataclass(slots=True)
class Reach:
    """The values that a loss depends on by a way on which a gradient may flow, and the nodes that
    make them, in the order of the program."""

    values: set[ir.Value]
    nodes: dict[Place, Node] = field(default_factory=dict)
    by_floats: bool = False  # integers and bools have no gradients: not by way of them

    def between(self, targets: Iterable[ir.Value]) -> list[tuple[Place, Node]]:
        """Of the nodes those that depend on one of `targets`."""
        active, found = set(targets), list[tuple[Place, Node]]()
        for place in sorted(self.nodes):
            node = self.nodes[place]
            behind = [result for result in node.results
                      if not active.isdisjoint(flows(node, result, self.by_floats))]
            if behind:
                active.update(behind)
                found.append((place, node))
        return found

    def floats(self, loss: ir.Value) -> Reach:
        """What the loss depends on by way of floats alone."""
        found = Reach({loss}, by_floats=True)
        for place in sorted(self.nodes, reverse=True):
            node = self.nodes[place]
            operands = [v for result in node.results if result in found.values
                        for v in flows(node, result, by_floats=True)]
            if operands:
                found.nodes[place] = node
                found.values.update(operands)
        return found


def reach(frame: Frame, loss: ir.Value) -> Reach:
    """What `loss` depends on, in all levels that are open."""
    levels = list(enumerate(frame.context.store.level.chain()))[::-1]
    found = Reach({loss})
    waiting = [loss]
    while waiting:
        value = waiting.pop()
        for depth, level in levels:
            at = level.maker(value)
            if at is not None:
                node = level.nodes[at]
                operands = flows(node, value)
                if operands:
                    found.nodes[depth, at] = node
                waiting += [v for v in operands if v not in found.values]
                found.values.update(operands)
                break
    return found


def flows(node: Node, result: ir.Value, by_floats: bool = False) -> tuple[ir.Value, ...]:
    """The operands that a gradient may flow to from one result of a node."""
    if node.op == "stop_gradient" or (by_floats and not _is_float(result)):
        return ()
    if node.op not in ("scan", "while", "if"):
        return node.operands
    bodies = _needs(node, {node.results.index(result)}, by_floats)
    first = 1 if node.op == "if" else 0
    return tuple(dict.fromkeys(
        operand for body, needed in bodies
        for param, operand in zip(body.inputs, node.operands[first:], strict=True)
        if param in needed))


def _is_float(value: ir.Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype.is_float


def _needs(
    node: Node, places: set[int], by_floats: bool = False
) -> list[tuple[Graph, set[ir.Value]]]:
    """The bodies of a control node, each with what the results at `places` depend on in it."""
    if node.op == "if":
        return [(body, _needed(body, [body.results[at] for at in places], by_floats))
                for body in node.regions]
    body = node.regions[-1]
    carried, wanted = carried_of(node), set(places)
    while True:
        needed = _needed(body, [body.results[at] for at in wanted], by_floats)
        more = {at for at in range(carried) if body.inputs[at] in needed} - wanted
        if not more:
            # Where there is no turn, a carried value is what it was at first.
            return [(body, needed | {body.inputs[at] for at in wanted if at < carried})]
        wanted |= more


def _needed(body: Graph, results: Sequence[ir.Value], by_floats: bool) -> set[ir.Value]:
    """What some results of a body depend on, in it."""
    needed = set(results)
    for node in reversed(body.nodes):
        for result in node.results:
            if result in needed:
                needed.update(flows(node, result, by_floats))
    return needed


def gradients(
    frame: Frame, loss: ir.Value, targets: Sequence[ir.Value], span: Span
) -> tuple[ir.Value, ...]:
    """The derivative of `loss` by each of `targets`; `Fault` if there is none."""
    store = frame.context.store
    found = reach(frame, loss)
    depth = len(store.level.chain()) - 1
    for _, node in found.floats(loss).between(targets):
        if node.op == "while":
            raise _no_way_back(node, span)
    for place, node in found.between(targets):
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


def check_updates(frame: Frame, found: Reach, param: Variable, span: Span) -> None:
    """`Fault` where a loss reads, in a loop or branch that has ended, what was given there."""
    inner = frame.context.store.inside.get(param.name)
    for node in found.nodes.values() if inner else ():
        reached = {at for at, result in enumerate(node.results) if result in found.values}
        if inner and node.regions and _reads(node, reached, inner):
            raise Fault("gradient-of-update", f"the loss reads `{param.name}` where it is updated "
                        "too, in a block that has ended", span,
                        [f"the block stands at {loc}" for loc in node.locs[:1]],
                        "take the gradient in the block, or update after it")


def _reads(node: Node, places: set[int], values: set[ir.Value]) -> bool:
    """Whether results of a node depend on one of `values` in its bodies."""
    if node.op == "call":
        return False
    for body, needed in _needs(node, places):
        if needed & values:
            return True
        for each in body.nodes:
            reached = {at for at, result in enumerate(each.results) if result in needed}
            if reached and each.regions and _reads(each, reached, values):
                return True
    return False


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
