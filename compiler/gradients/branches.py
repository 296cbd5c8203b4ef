"""The way back through an `if`: an `if` whose branches go back through the branches.

    %y = if %c, %x with then, otherwise    →    %d = if %c, %x, %dy with d_then, d_otherwise

A branch computes again what it needs of the values of the branch it goes back through. It gives
the adjoint of every value that one of the two branches has an adjoint for: zeros where it is the
other one.
"""

from __future__ import annotations

from dlc.compiler.gradients.activity import Marks, body_marks, floats
from dlc.compiler.gradients.bodies import WayBack
from dlc.compiler.gradients.saving import live, recipe
from dlc.compiler.gradients.sweep import Sweep
from dlc.ir.graph import Graph, Node, Param, Value


def pull_branches(sweep: Sweep, node: Node, active: Marks) -> None:
    """Gives the operands of an `if` what its results pass on."""
    condition, *captured = node.operands
    wanted = [i for i, v in enumerate(node.results) if v in sweep.adjoints]
    ways = [WayBack(sweep, body, marks)
            for body, marks in zip(node.regions, body_marks(node, active, floats), strict=True)]
    for way in ways:
        way.go(wanted)
    reached = [k for k, v in enumerate(captured) if v in active
               and any(way.body.inputs[k] in way.sweep.adjoints for way in ways)]
    if not reached:
        return
    bodies = [_Branch(way, reached) for way in ways]
    used = [k for k in range(len(captured))
            if any(branch.way.body.inputs[k] in branch.needed for branch in bodies)]
    given = sweep.given([node.results[i] for i in wanted])
    made = sweep.builder.emit(
        "if", condition, *(captured[k] for k in used), *given,
        hint="d", regions=tuple(branch.graph(used) for branch in bodies))
    for k, adjoint in zip(reached, made, strict=True):
        sweep.give(captured[k], adjoint)


class _Branch:
    """One branch of the `if` that goes back."""

    def __init__(self, way: WayBack, reached: list[int]) -> None:
        self.way = way
        self.results = way.sweep.given([way.body.inputs[k] for k in reached])
        self.nodes, needed = live(way.builder.nodes, self.results)
        self.again, self.needed = recipe(way.forward.nodes, needed, ())

    def graph(self, used: list[int]) -> Graph:
        """Its graph, which gets the captured values `used` and the adjoints of the results."""
        params: list[Value] = [self.way.body.inputs[k] for k in used]
        params += self.way.seeds.values()
        return Graph(f"d_{self.way.body.name}", tuple(map(Param, params)),
                     (*self.again, *self.nodes), self.results)
