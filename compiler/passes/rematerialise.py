"""rematerialise: the backward pass computes again what is cheaper computed than kept.

    %a = mul %x, %half                  %a = mul %x, %half
    %e = erf %s                         %e = erf %s
    …                             →     …
    %d = mul %g, %e @backward           %e.again = erf %s @backward
                                        %d = mul %g, %e.again @backward

Forward values that are read by elementwise nodes of later phases alone would lie in memory for
these. The fewest bytes, at likely sizes, from which they all can be computed again are found by a
minimum cut between what can't be (results of reductions) and them: of gelu it is its
argument. What lies in memory anyhow (a product reads it, it is a result) costs nothing. Draws have
numbers and no state: dropout draws again, and keeps no mask.

Requires: gradients expanded, and no later pass that merges equal nodes. Ensures: the same bits, for
copies have the same formulas; copies are of the phase of their reader. What had no other reader is
left behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Final

from dlc.compiler.kernels.shapes import is_numbering, is_unit_reshape
from dlc.compiler.options import Options
from dlc.compiler.passes.plan_memory import at_sizes
from dlc.compiler.rewriting.min_cut import ENDLESS, MinCut
from dlc.ir.graph import Builder, Graph, Node, Phase, Value, names, producers
from dlc.ir.ops import OPS
from dlc.ir.types import TensorType

DEAREST: Final = 20.0  # an op that costs more (a power) is kept
DRAWS: Final = ("random_uniform", "random_normal")  # by number: no state, and no mask to be kept


def rematerialise(graph: Graph, options: Options) -> Graph:
    """`graph` with copies of cheap forward nodes for those that read them later."""
    region = _Region(graph, options)
    wanted = [value for value in region.made if region.is_wanted(value)]
    if not wanted:
        return graph
    again = region.again(wanted)
    return _with_copies(graph, region.made, again) if again else graph


class _Region:
    """What each forward value is: cheap to compute again, in memory anyhow, or neither."""

    def __init__(self, graph: Graph, options: Options) -> None:
        self.options = options
        self.made = producers(graph.nodes)
        self.results = set(graph.outputs)
        self.users: dict[Value, list[Node]] = {}
        for node in graph.nodes:
            for value in node.operands:
                self.users.setdefault(value, []).append(node)

    def is_wanted(self, value: Value) -> bool:
        """Whether a forward value would lie in memory only for what comes later."""
        node = self.made[value]
        return (node.phase == "forward" and _is_map(node) and not self._is_stored(value)
                and any(user.phase != "forward" for user in self.users.get(value, ())))

    def _is_stored(self, value: Value) -> bool:
        """Whether a value lies in memory whatever is computed again."""
        if value in self.results:
            return True
        forward = [u for u in self.users.get(value, ()) if u.phase == "forward"]
        later = [u for u in self.users.get(value, ()) if u.phase != "forward"]
        if any(not _is_map(user) and not _is_moved(user) for user in later):
            return True
        if len(forward) == 1 and OPS[forward[0].op].kernel in ("contract", "reduce") and (
                len(forward[0].operands) == 1):
            return False  # it becomes part of the sum
        return any(not _is_map(user) for user in forward)

    def again(self, wanted: list[Value]) -> set[Value]:
        """The values that are computed again, so that the fewest bytes are kept."""
        cut = MinCut[Value]()
        waiting, inner = list(wanted), set(wanted)
        for value in wanted:
            cut.value(value, self._bytes(value))
            cut.end(value)
        while waiting:
            value = waiting.pop()
            node = self.made.get(value)
            if node is None or not self._is_cheap(node) or self._is_stored(value):
                cut.begin(value)
                continue
            for operand in node.operands:
                if self._is_free(operand):
                    continue
                if operand not in inner:
                    inner.add(operand)
                    waiting.append(operand)
                    cut.value(operand, self._bytes(operand))
                cut.read(operand, value)
        return cut.solve()[1]

    def _is_cheap(self, node: Node) -> bool:
        return node.phase == "forward" and (
            _is_moved(node) or (_is_map(node) and (
                OPS[node.op].cost <= DEAREST or node.op in DRAWS)))

    def _is_free(self, value: Value) -> bool:
        """Whether a value needs no memory: it is a number, or one number all over a tensor."""
        node = self.made.get(value)
        if node is not None and (node.op == "broadcast" or is_numbering(node, self.made)):
            return self._is_free(node.operands[0])
        return node is not None and node.op in ("constant", "iota", "dim")

    def _bytes(self, value: Value) -> int:
        """What keeping a value costs; nothing where it is kept anyhow."""
        node = self.made.get(value)
        if node is None or self._is_stored(value):
            return 0
        if _is_moved(node):
            return ENDLESS  # what it moves is kept
        assert isinstance(value.type, TensorType)
        size = prod(at_sizes(d, self.options.hints) for d in value.dims)
        return size * value.dtype.size


def _is_map(node: Node) -> bool:
    return OPS[node.op].formula is not None


def _is_moved(node: Node) -> bool:
    """Whether a node only moves elements, and so is computed where it is read."""
    if node.op == "reshape":
        return is_unit_reshape(node)
    return OPS[node.op].access is not None and node.op != "pad"


def _with_copies(graph: Graph, made: dict[Value, Node], again: set[Value]) -> Graph:
    """The graph in which later phases read copies of the values in `again`."""
    builder = Builder(names(graph))
    copies: dict[Value, Value] = {}
    for node in graph.nodes:
        if node.phase != "forward" and any(v in again for v in node.operands):
            for value in node.operands:
                for copied in _missing(value, made, again, copies):
                    copies[copied] = builder.fresh(f"{copied.name}.again", copied.type)
                    builder.nodes.append(_copy(made[copied], node.phase, copies))
            node = replace(node, operands=tuple(copies.get(v, v) for v in node.operands))
        builder.nodes.append(node)
    return replace(graph, nodes=tuple(builder.nodes))


def _copy(node: Node, phase: Phase, copies: dict[Value, Value]) -> Node:
    operands = tuple(copies.get(v, v) for v in node.operands)
    return replace(node, operands=operands, results=(copies[node.result],), phase=phase)


def _missing(
    value: Value, made: dict[Value, Node], again: set[Value], copies: dict[Value, Value]
) -> Iterator[Value]:
    """What has to be copied for a value to be, what it needs first; chains may be long."""
    stack = [value] if value in again else []
    while stack:
        needs = [v for v in made[stack[-1]].operands if v in again and v not in copies]
        if needs and stack[-1] not in copies:
            stack += needs
        elif (last := stack.pop()) not in copies:
            yield last
