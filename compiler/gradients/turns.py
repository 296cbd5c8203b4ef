"""Sums over all turns of a scan that need no loop: one contraction with the turn as an index.

What a turn gives to the adjoint of a weight is `contract %x, %dy`; the sum over the turns is that
contraction, of the stacks of all `x` and all `dy`, summed over the turn too. So a weight's adjoint
is not carried from turn to turn. In the same way what turns add to a table (`scatter`) is added at
once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dlc.compiler.rewriting.bodies import operands_first
from dlc.compiler.rewriting.over_turns import contract_turns
from dlc.ir.dims import Dim
from dlc.ir.graph import Builder, Node, Value
from dlc.ir.ops import OPS
from dlc.ir.ops.indices import axis_attr


class Turns:
    """Parts of adjoints that are summed after the loop.

    `made` says which node makes a value of a turn, forward or backward. `invariant` are the values
    of a body that are the same in all turns, with the values around that they are; `stacked` those
    with stacks that are there already; `kept` those that the forward scan may yield. All else that
    is needed the scan back yields.
    """

    def __init__(
        self, builder: Builder, length: Dim, made: Mapping[Value, Node],
        invariant: dict[Value, Value], stacked: dict[Value, Value], kept: set[Value],
    ) -> None:
        self.builder = builder
        self.length = length
        self.made = made
        self.invariant = invariant
        self.stacked = stacked
        self.kept = kept
        self.same = _same_in_all(made, set(invariant))
        self.wanted: list[Value] = []
        self.yields: list[Value] = []
        self.parts: list[tuple[Value, Value]] = []

    def takes(self, param: Value, part: Value) -> bool:
        """Whether the sum over the turns of `part`, for `param`, is taken after the loop."""
        node = self.made.get(part)
        if part in self.stacked:
            operands: tuple[Value, ...] = (part,)
        elif node is not None and node.op == "contract":
            operands = node.operands
        elif node is not None and node.op == "scatter" and self.adds_to_zeros(node):
            operands = node.operands[1:]
        else:
            return False
        for operand in operands:
            self.request(operand)
        self.parts.append((param, part))
        return True

    def adds_to_zeros(self, node: Node) -> bool:
        """Whether `node` is the adjoint of a table: updates added to zeros."""
        base = self.made.get(node.operands[0])
        if base is not None and base.op == "broadcast":
            base = self.made.get(base.operands[0])
        return (node.attr("mode") == "add" and base is not None and base.op == "constant"
                and base.attr("value") == 0)

    def request(self, value: Value) -> None:
        """Sees to it that `value` is there for all turns."""
        if self.outside(value) is not None or value in self.stacked:
            return
        (self.wanted if value in self.kept else self.yields).append(value)

    def outside(self, value: Value) -> Value | None:
        """What `value` is outside of the loop, if it is the same in all turns; else None."""
        if value not in self.same:
            return None
        for node in operands_first(value, self.made, self.invariant.__contains__):
            results = self.builder.copy(node, tuple(self.invariant[v] for v in node.operands))
            self.invariant.update(zip(node.results, results, strict=True))
        return self.invariant[value]

    def sums(self, stacks: Mapping[Value, Value]) -> Iterator[tuple[Value, Value]]:
        """For each part that was taken: for which value, and its sum over the turns."""
        for param, part in self.parts:
            if part in self.stacked:
                yield param, self.builder.sum(stacks[part], (0,))
                continue
            node = self.made[part]
            with self.builder.located(node.locs, node.path):
                make = self.contraction if node.op == "contract" else self.scattering
                yield param, make(node, stacks)

    def contraction(self, node: Node, stacks: Mapping[Value, Value]) -> Value:
        """The sum over the turns of a contraction."""
        operands = [(self.invariant[v], False) if v in self.invariant else (stacks[v], True)
                    for v in node.operands]
        return contract_turns(self.builder, node, self.length, operands, summed=True)

    def scattering(self, node: Node, stacks: Mapping[Value, Value]) -> Value:
        """What all turns add to a table of zeros: the turn is the first axis of the indices."""
        updates, *ids = (self.whole(v, stacks) for v in node.operands[1:])
        axis = axis_attr(node)
        order = (*range(1, axis + 1), 0, *range(axis + 1, len(updates.dims)))
        if axis:
            updates = self.builder.op("transpose", updates, order=order)
        base = self.builder.zeros(node.result.type)
        return self.builder.op("scatter", base, updates, *ids, hint=node.result.name,
                               axis=axis, mode="add")

    def whole(self, value: Value, stacks: Mapping[Value, Value]) -> Value:
        """`value` of all turns, also where it is the same in all."""
        if value not in self.invariant:
            return stacks[value]
        same = self.invariant[value]
        return self.builder.broadcast(same, (self.length, *same.dims))


def _same_in_all(made: Mapping[Value, Node], same: set[Value]) -> set[Value]:
    """`same`, and what cheap nodes compute from it alone. `made` is in the order of the program."""
    for value, node in made.items():
        if OPS[node.op].kernel in ("", "constant", "index") and same.issuperset(node.operands):
            same.add(value)
    return same
