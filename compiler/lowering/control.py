"""Loops and branches: the steps of a body, on parts of the memory around it.

A turn's item and what it yields are parts of whole tensors: aliases whose offset depends on the
turn. A carried value has memory for two: a turn reads one and writes the other, so that nothing is
copied from turn to turn.

    %h, %ys = scan %h0, %xs with body        buffer h.turns: f32[2, 8] temp
                                       →     copy(h0, h.first)          # the first of the two
                                             loop turn < N {
                                               body(h.old, xs.part, h.new, ys.part)
                                             }
"""

from __future__ import annotations

from collections.abc import Callable

from dlc.compiler.lowering.splice import interface, splice
from dlc.compiler.lowering.storage import Storage
from dlc.ir.dims import Dim, mod, product, symbol
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.kernel import Layout
from dlc.ir.ops.loops import carried_of, length_of, scan_parts
from dlc.ir.program import Branch, Launch, Loop, Program, ProgramBuffer, Step
from dlc.ir.types import BOOL

Copy = Callable[[Value, str], Launch]


class Control:
    """Lowers the loops and branches of one graph.

    `lower_body` gives the program of a body, and `copy` a launch that copies a value into a buffer.
    """

    def __init__(
        self, storage: Storage, lower_body: Callable[[Graph], Program], copy: Copy
    ) -> None:
        self.storage, self.lower_body, self.copy = storage, lower_body, copy
        self.vars: dict[int, str] = {}  # by the identity of the node

    def declare(self, node: Node) -> None:
        """Gives the carried values of a loop their memory."""
        if node.op == "if":
            return  # its results are buffers like all others
        var = self.vars[id(node)] = self.storage.turn()
        turns: Dim = symbol(var) if node.op == "while" else length_of(node)
        for value in node.results[:carried_of(node)]:
            name = self.storage.fresh(f"{value.name}.turns")
            self.storage.buffers[name] = ProgramBuffer(
                name, value.dtype, (2, *value.dims), "temp", Layout(), path=node.path)
            self.storage.alias_value(value, name, _slot(turns, value))

    def kept(self, node: Node) -> tuple[Value, ...]:
        """The results of a node that lie in memory of its own: those that are carried."""
        return node.results[:carried_of(node)]

    def begin_in(self, node: Node, at: int) -> None:
        """Lets what makes the initial value number `at` write it where the first turn reads it."""
        initial = node.operands[at]
        self.storage.alias_value(initial, self._turns(node.results[at]))

    def _turns(self, final: Value) -> str:
        return self.storage.buffers[final.name].alias_of

    def steps(self, node: Node) -> list[Step]:
        """The steps of a scan, a while or an if."""
        return {"scan": self._scan, "while": self._while, "if": self._if}[node.op](node)

    def _scan(self, node: Node) -> list[Step]:
        initial, items, captured = scan_parts(node)
        var, length = self.vars[id(node)], length_of(node)
        turn: Dim = length - 1 - symbol(var) if node.attr("reverse") else symbol(var)
        copies, old, new = self._carry(node, initial, var)
        (body,) = node.regions
        inputs = (*old, *(self._part(v, body.inputs[len(initial) + k], turn)
                          for k, v in enumerate(items)), *self._places(captured))
        yields = zip(node.results[len(initial):], body.results[len(initial):], strict=True)
        results = (*new, *(self._part(stack, part, turn) for stack, part in yields))
        return [*copies, Loop(var, length, self._body(node, body, inputs, results))]

    def _while(self, node: Node) -> list[Step]:
        carried = carried_of(node)
        initial, captured = node.operands[:carried], self._places(node.operands[carried:])
        var = self.vars[id(node)]
        copies, old, new = self._carry(node, initial, var)
        test, body = node.regions
        more = self.storage.fresh(f"{var}.more")
        self.storage.buffers[more] = ProgramBuffer(more, BOOL, (), "temp", Layout())
        steps = self._body(node, test, (*old, *captured), (more,))
        return [*copies, Loop(var, 0, self._body(node, body, (*old, *captured), new), steps, more)]

    def _if(self, node: Node) -> list[Step]:
        condition, *inputs = self._places(node.operands)
        results = self._places(node.results)
        then, otherwise = (
            self._body(node, body, tuple(inputs), results) for body in node.regions)
        return [Branch(condition, then, otherwise)]

    def _carry(
        self, node: Node, initial: tuple[Value, ...], var: str
    ) -> tuple[list[Step], tuple[str, ...], tuple[str, ...]]:
        """Copies of initial values; where a turn finds each carried value, and leaves it."""
        copies: list[Step] = []
        old, new = [], []
        for value, final in zip(initial, node.results[:len(initial)], strict=True):
            turns = self._turns(final)
            if self.storage.buffers[self.storage.place[value]].alias_of != turns:
                first = self._alias(f"{final.name}.first", turns, final, 0)
                copies.append(self.copy(value, first))
            old.append(self._alias(f"{final.name}.old", turns, final, _slot(symbol(var), final)))
            new.append(self._alias(
                f"{final.name}.new", turns, final, _slot(symbol(var) + 1, final)))
        return copies, tuple(old), tuple(new)

    def _part(self, whole: Value, part: Value, turn: Dim) -> str:
        place = self.storage.place[whole]
        return self._alias(f"{whole.name}.part", place, part, turn * product(part.dims))

    def _alias(self, name: str, of: str, like: Value, offset: Dim) -> str:
        return self.storage.alias(self.storage.fresh(name), of, like, offset)

    def _places(self, values: tuple[Value, ...]) -> tuple[str, ...]:
        return tuple(self.storage.place[v] for v in values)

    def _body(
        self, node: Node, body: Graph, inputs: tuple[str, ...], results: tuple[str, ...]
    ) -> tuple[Step, ...]:
        lowered = self.lower_body(body)
        hint = node.results[0].name if node.results else body.name
        return splice(lowered, self.storage, interface(lowered, body, inputs, results), hint)


def _slot(turns: Dim, value: Value) -> Dim:
    """Where a carried value lies after `turns` turns, among the two places that it has."""
    return mod(turns, 2) * product(value.dims)
