"""Where a gradient flows: which values depend on others, also by way of scans, loops and branches.

A control node is looked into: what it gives depends on what it gets only as far as its bodies say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from dlc.ir.dims import at_least
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.ops import OPS
from dlc.ir.ops.loops import carried_of, first_given, length_of
from dlc.ir.ops.op import NotDifferentiable
from dlc.ir.types import TensorType

Marks = set[Value]
Step = Callable[[Node], Iterable[Value]]
"""Which results of a node without bodies depend on an operand."""

FLAT = "derivative is 0"  # in the reason of an op whose gradient is zero where it exists


def is_float(value: Value) -> bool:
    """Whether `value` is a tensor of floats: only such values have adjoints."""
    return isinstance(value.type, TensorType) and value.type.dtype.is_float


def passes(node: Node) -> bool:
    """Whether a gradient flows through a node, or is stopped by an error; not where it is zero."""
    vjp = OPS[node.op].vjp
    return node.op != "stop_gradient" and not (
        isinstance(vjp, NotDifferentiable) and FLAT in vjp.reason)


def floats(node: Node) -> list[Value]:
    """The results of `node` that a gradient reaches from any of its float operands."""
    return list(filter(is_float, node.results)) if passes(node) else []


def everything(node: Node) -> tuple[Value, ...]:
    """All results: what is computed from an operand, whatever the gradient."""
    return node.results


def mark(nodes: Iterable[Node], marks: Marks, step: Step) -> list[Node]:
    """Adds to `marks` all that depends on them; returns the nodes on the way, in order."""
    found: list[Node] = []
    for node in nodes:
        if not marks.isdisjoint(node.operands):
            results = marked_results(node, marks, step)
            if results:
                marks.update(results)
                found.append(node)
    return found


def marked_results(node: Node, marks: Marks, step: Step) -> list[Value]:
    """The results of `node` that depend on marked operands."""
    if node.op == "call" or not node.regions:
        return list(step(node))
    if step is floats and not passes_through(node):
        return floats(node)
    inside = body_marks(node, marks, step)
    if node.op == "if":
        if node.operands[0] in marks:
            return list(everything(node))
        bodies = list(zip(node.regions, inside, strict=True))
        return [v for i, v in enumerate(node.results)
                if any(body.results[i] in known for body, known in bodies)]
    if node.op == "while" and node.regions[0].results[0] in inside[0]:
        return list(everything(node))
    carried = carried_of(node)
    return [v for i, v in enumerate(node.results)
            if node.regions[-1].results[i] in inside[-1]
            or (i < carried and node.operands[i] in marks and may_not_turn(node))]


def may_not_turn(node: Node) -> bool:
    """Whether a loop may end before its first turn, and give the values it starts with."""
    if node.op == "while":
        return True
    return not at_least(length_of(node), 1)


def passes_through(node: Node) -> bool:
    """Whether the bodies of a control node have gradients: not those of a `while`."""
    return not isinstance(OPS[node.op].vjp, NotDifferentiable)


def body_marks(node: Node, marks: Marks, step: Step) -> list[Marks]:
    """For each body of a control node the values in it that depend on marked operands."""
    given = [v in marks for v in node.operands[first_given(node):]]
    carried = carried_of(node)
    while True:
        inside = [{v for v, known in zip(body.inputs, given, strict=True) if known}
                  for body in node.regions]
        for body, known in zip(node.regions, inside, strict=True):
            mark(body.nodes, known, step)
        turned = [i for i in range(carried)
                  if not given[i] and node.regions[-1].results[i] in inside[-1]]
        if not turned:
            return inside
        for i in turned:
            given[i] = True


def reach(nodes: Sequence[Node], live: Marks, active: Marks) -> Marks:
    """Adds to `live` the active values that a gradient flows back to from them."""
    for node in reversed(nodes):
        if not live.isdisjoint(node.results):
            live.update(reached_operands(node, live, active))
    return live


def reached_operands(node: Node, live: Marks, active: Marks) -> list[Value]:
    """The active operands of a node that a gradient flows back to from its live results."""
    if node.op == "call" or not node.regions or not passes_through(node):
        return [v for v in node.operands if v in active]
    wanted = [i for i, v in enumerate(node.results) if v in live]
    marks = body_marks(node, active, floats)
    if node.op == "if":
        ends = [reach_back(body, wanted, known)
                for body, known in zip(node.regions, marks, strict=True)]
        captured = node.operands[1:]
        return [v for i, v in enumerate(captured) if v in active
                and any(body.inputs[i] in end
                        for body, end in zip(node.regions, ends, strict=True))]
    (body,) = node.regions
    turns = live_carried(node, wanted, marks[0])
    end = reach_back(body, turns, marks[0])
    if may_not_turn(node):
        end.update(body.inputs[i] for i in turns if i < carried_of(node))
    return [v for v, param in zip(node.operands, body.inputs, strict=True)
            if v in active and param in end]


def reach_back(body: Graph, wanted: Iterable[int], active: Marks) -> Marks:
    """The active values of a body that a gradient flows back to from its results `wanted`."""
    live = {body.results[i] for i in wanted} & active
    return reach(body.nodes, live, active)


def live_carried(node: Node, wanted: Sequence[int], active: Marks) -> list[int]:
    """Which results of a scan's body have adjoints, if results `wanted` of the scan have them.

    What a turn carries on gets one too if a later turn uses it for a result.
    """
    (body,) = node.regions
    carried = carried_of(node)
    live = {i for i in wanted if (body.inputs[i] if i < carried else body.results[i]) in active}
    while True:
        end = reach_back(body, live, active)
        more = {i for i in range(carried) if body.inputs[i] in end} - live
        if not more:
            return sorted(live)
        live |= more
