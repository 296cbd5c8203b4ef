"""The way back through a body of a control node: what becomes the body of another one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dlc.compiler.gradients.activity import Marks
from dlc.compiler.gradients.sweep import Forward, Sweep
from dlc.ir.graph import Builder, Graph, Value, names


class WayBack:
    """A body, and what computes the adjoints of its parameters from those of its results.

    `builder` makes nodes of the backward body; they read values of `body` by their names, so what
    is made anew has names that the body has not. `active` are the values of the body that have
    adjoints, `apart` as in `Sweep`.
    """

    def __init__(
        self, around: Sweep, body: Graph, active: Marks, apart: Sequence[Value] = ()
    ) -> None:
        self.body = body
        self.active = active
        self.forward = Forward(list(body.nodes))
        self.builder = Builder(names(body))
        outer = around.builder
        self.builder.locs, self.builder.path, self.builder.phase = (
            outer.locs, outer.path, outer.phase)
        self.sweep = Sweep(self.forward, self.builder, around.gradient, around.pulls, apart)
        self.seeds: dict[int, Value] = {}

    def go(self, live: Iterable[int]) -> None:
        """Goes back from the results `live`, whose adjoints are new parameters, `seeds`."""
        for i in live:
            result = self.body.results[i]
            self.seeds[i] = self.builder.fresh(f"d_{result.name}", result.type)
            if result in self.active:
                self.sweep.give(result, self.seeds[i])
        on_the_way = [node for node in self.forward.nodes
                      if not self.active.isdisjoint(node.operands)
                      and not self.active.isdisjoint(node.results)]
        self.sweep.run(on_the_way, self.active)
