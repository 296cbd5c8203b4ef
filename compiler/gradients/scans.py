"""The way back through a scan: a scan in the opposite direction.

    %h, %hs = scan %h0, %xs, %w with turn        %h, %hs, %h.all, %p.all = scan … with turn
                                            →    %d, %d.1, %d.2 = scan %dh, %dhs, … with d_turn
                                                 %dw = contract %xs, %d.2     # over all turns

The scan itself comes to yield what the way back needs: what it carried at the start of each turn,
and the values that `saving` keeps. The scan back carries the adjoints of what is carried, goes
over what was kept, over the items and over the adjoints of what was yielded, and yields the
adjoints of the items. What a captured value gets is summed over the turns: after the loop where
that is one contraction (see `turns.py`), else in a carried value.
"""

from __future__ import annotations

from dataclasses import replace

from dlc.compiler.gradients.activity import Marks, body_marks, floats, live_carried
from dlc.compiler.gradients.bodies import WayBack
from dlc.compiler.gradients.saving import is_costly, keep_later, live, recipe
from dlc.compiler.gradients.sweep import Sweep
from dlc.compiler.gradients.turns import Turns
from dlc.ir.dataclass import dataclass
from dlc.ir.graph import Graph, Node, Param, Value, producers
from dlc.ir.ops.loops import counts, length_of, stacked_type


def pull_scan(sweep: Sweep, node: Node, active: Marks) -> None:
    """Gives the operands of a scan what its results pass on."""
    _ScanBack(sweep, node, active).run()


@dataclass(frozen=True, slots=True)
class _Carry:
    """A value that the scan back carries: at the start, in a turn, and after it; for whom."""

    start: Value
    param: Value
    after: Value
    operand: Value


class _ScanBack:
    """The scan back in the making."""

    def __init__(self, sweep: Sweep, node: Node, active: Marks) -> None:
        self.sweep = sweep
        self.node = node
        self.active = active
        (self.body,) = node.regions
        self.carried, self.items = counts(dict(node.attrs))
        self.length = length_of(node)
        (marks,) = body_marks(node, active, floats)
        wanted = [i for i, v in enumerate(node.results) if v in sweep.adjoints]
        self.live = live_carried(node, wanted, marks)
        self.outer = dict(zip(self.body.inputs, node.operands, strict=True))
        captured = self.body.inputs[self.carried + self.items:]
        self.captured = [v for v in captured if self.outer[v] in active]
        self.way = WayBack(sweep, self.body, marks, self.captured)

    def run(self) -> None:
        """Makes it, and gives what it yields to the operands."""
        self.way.go(self.live)
        after = self.turns()
        carries = [self.carry(i) for i in self.live if i < self.carried]
        for param in self.captured:
            parts = [part for part in self.way.sweep.apart[param] if not after.takes(param, part)]
            if parts:
                carries.append(self.total(param, parts))
        items = self.body.inputs[self.carried:self.carried + self.items]
        adjoints = self.way.sweep.adjoints
        reached = [v for v in items if v in adjoints and self.outer[v] in self.active]
        yields = dict.fromkeys([*(adjoints[v] for v in reached), *after.yields])
        stacks = self.emit(carries, list(yields), after)
        for param in reached:
            self.sweep.give(self.outer[param], stacks[adjoints[param]])
        for param, part in after.sums(stacks):
            self.sweep.give(self.outer[param], part)

    def there(self) -> set[Value]:
        """The values of a turn that are carried, or yielded anyway."""
        return {*self.body.inputs[:self.carried], *self.body.results[self.carried:]}

    def kept(self) -> set[Value]:
        """The values of a turn that may be kept for the turn back."""
        kept = self.there()
        if ("recompute", True) not in self.node.attrs:
            for node in filter(is_costly, self.way.forward.nodes):
                kept.update(node.results)
        return kept.difference(self.body.inputs[self.carried:])

    def turns(self) -> Turns:
        """What the sums over all turns know of the values of a turn."""
        seeds = self.way.seeds
        stacks = {seeds[i]: self.node.results[i] for i in self.live if i >= self.carried}
        adjoints = self.sweep.given(list(stacks.values()))
        known = dict(zip(stacks, adjoints, strict=True))
        items = self.body.inputs[self.carried:self.carried + self.items]
        known |= {v: self.outer[v] for v in items}
        made = producers([*self.way.forward.nodes, *self.way.builder.nodes])
        invariant = {v: self.outer[v] for v in self.body.inputs[self.carried + self.items:]}
        return Turns(self.sweep.builder, self.length, made, invariant, known, self.kept())

    def carry(self, at: int) -> _Carry:
        """The adjoint of the carried value `at`, on its way from turn to turn."""
        (start,) = self.sweep.given([self.node.results[at]])
        (after,) = self.way.sweep.given([self.body.inputs[at]])
        return _Carry(start, self.way.seeds[at], after, self.node.operands[at])

    def total(self, param: Value, parts: list[Value]) -> _Carry:
        """The sum over the turns of `parts` of the adjoint of a captured value."""
        builder = self.way.builder
        before = total = builder.fresh(f"d_{param.name}", param.type)
        for part in parts:
            total = builder.op("add", total, part)
        return _Carry(self.sweep.builder.zeros(param.type), before, total, self.outer[param])

    def emit(
        self, carries: list[_Carry], yields: list[Value], after: Turns
    ) -> dict[Value, Value]:
        """Makes the scan back; returns the stacks of what it yields, and of what was kept."""
        results = [*(carry.after for carry in carries), *yields]
        nodes, free = live(self.way.builder.nodes, results)
        own = {carry.param for carry in carries}
        free = [v for v in free if v not in own]
        forward = self.way.forward.nodes
        dear = after.kept.difference(self.there(), after.wanted)
        kept_values = keep_later(forward, free, after.kept, dear)
        again, needed = recipe(forward, free, kept_values)
        kept = self.widen([v for v in needed if v in kept_values], after.wanted)
        stacks = {**after.stacked, **kept}
        items = [v for v in needed if v in stacks]
        captured = [v for v in needed if v not in stacks]
        params = [*(carry.param for carry in carries), *items, *captured]
        body = Graph(f"d_{self.body.name}", tuple(map(Param, params)), (*again, *nodes),
                     tuple(results))
        made = self.emit_scan(body, carries, [stacks[v] for v in items],
                              [self.outer[v] for v in captured])
        for carry, adjoint in zip(carries, made, strict=False):
            if carry.operand in self.active:
                self.sweep.give(carry.operand, adjoint)
        return stacks | dict(zip(yields, made[len(carries):], strict=True))

    def emit_scan(
        self, body: Graph, carries: list[_Carry], items: list[Value], captured: list[Value]
    ) -> tuple[Value, ...]:
        """The node of the scan back; none if nothing is wanted of it."""
        if not body.results:
            return ()
        attrs = dict(self.node.attrs)
        attrs |= {"carried": len(carries), "items": len(items), "reverse": not attrs["reverse"]}
        return self.sweep.builder.emit(
            "scan", *(carry.start for carry in carries), *items, *captured,
            hint="d", regions=(body,), **attrs)

    def widen(self, needed: list[Value], summed: list[Value]) -> dict[Value, Value]:
        """Has the scan yield values of its turns; returns the stack of each.

        What another gradient has had it yield is there already.
        """
        values = list(dict.fromkeys([*needed, *summed]))
        known = dict(zip(
            self.body.results[self.carried:], self.node.results[self.carried:], strict=True))
        fresh = {v: self.sweep.builder.fresh(f"{v.name}.all", stacked_type(v.type, self.length))
                 for v in values if v not in known}
        body = replace(self.body, nodes=tuple(self.way.forward.nodes),
                       results=(*self.body.results, *fresh))
        self.sweep.forward.replace(self.node, replace(
            self.node, regions=(body,), results=(*self.node.results, *fresh.values())))
        return {v: known.get(v) or fresh[v] for v in values}
