"""Which values of a body are kept for the way back, and which are computed again.

What is costly (products, sums, sorts, draws, loops) is kept, what is cheap (elementwise, moves of
elements, casts) is computed again: reading it back would cost about as much, and the memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from typing import Final

from dlc.ir.graph import Graph, Node, Value
from dlc.ir.ops import OPS
from dlc.ir.ops.contract import sums

DRAW: Final = 60
"""What the cheapest random draw costs: ten rounds of multiplications an element."""

CHEAP_KERNELS: Final = frozenset({"", "constant", "index", "gather"})


def is_costly(node: Node) -> bool:
    """Whether to keep what `node` gives is better than to compute it again."""
    op = OPS[node.op]
    if op.kernel == "contract":
        return len(node.operands) > 1 or sums(node)
    return op.kernel not in CHEAP_KERNELS or op.decompose is not None or op.cost >= DRAW


def recipe(
    nodes: Sequence[Node], needed: Iterable[Value], kept: Container[Value]
) -> tuple[list[Node], list[Value]]:
    """How to have `needed` again: nodes to run once more, and values that must be there.

    These are parameters, and results of nodes that are among `kept`.
    """
    wanted = dict.fromkeys(needed)
    again: list[Node] = []
    made: set[Value] = set()
    for node in reversed(nodes):
        if not all(v in kept for v in node.results if v in wanted):
            again.append(without_effects(node))
            made.update(node.results)
            wanted.update(dict.fromkeys(node.operands))
    return again[::-1], [v for v in wanted if v not in made]


def keep_later(
    nodes: Sequence[Node], needed: Sequence[Value], kept: set[Value], dear: set[Value]
) -> set[Value]:
    """`kept` with values of `dear` replaced by what alone is computed from them.

    Where all that is needed of a product is `product + bias`, that is kept in its place.
    """
    kept, dear = set(kept), set(dear)
    while True:
        again, free = recipe(nodes, needed, kept)
        readers = Counter(v for node in again for v in set(node.operands))
        readers.update(needed)
        there, changed = set(free), False
        for node in again:
            replaced = [v for v in node.operands if v in dear and v in there and readers[v] == 1]
            if replaced and all(_no_larger(node, v) for v in replaced):
                kept.difference_update(replaced)
                for known in (kept, dear, there):
                    known.add(node.result)
                changed = True
        if not changed:  # else some values may have lost a reader
            return kept


def _no_larger(node: Node, value: Value) -> bool:
    """Whether an elementwise node gives no more bytes than `value` has."""
    return (OPS[node.op].formula is not None and node.result.dims == value.dims
            and node.result.dtype.size <= value.dtype.size)


def without_effects(node: Node) -> Node:
    """`node` as it is run once more: a check or a print in its bodies has had its effect."""
    regions = node.regions
    if node.op != "call":
        regions = tuple(_silent(region) for region in regions)
    return replace(node, regions=regions, phase="backward")


def _silent(body: Graph) -> Graph:
    nodes = tuple(without_effects(node) for node in body.nodes if node.results)
    return replace(body, nodes=nodes)


def live(nodes: Sequence[Node], outputs: Iterable[Value]) -> tuple[list[Node], list[Value]]:
    """The nodes that `outputs` need, and the values that those need and none of them makes."""
    wanted = dict.fromkeys(outputs)
    kept: list[Node] = []
    for node in reversed(nodes):
        if any(v in wanted for v in node.results):
            kept.append(node)
            wanted.update(dict.fromkeys(node.operands))
    made = {v for node in kept for v in node.results}
    return kept[::-1], [v for v in wanted if v not in made]
