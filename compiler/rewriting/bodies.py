"""Passes inside the bodies of nodes: a shared body is treated once, and stays shared.

Also what leaves a body: nodes in the order in which they can be made elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from dlc.ir.graph import Graph, Node, Value


def in_bodies(node: Node, known: dict[int, Graph], change: Callable[[Graph], Graph]) -> Node:
    """`node` with its bodies changed; `node` itself if none of them is.

    `known` are the bodies that were met, changed, by the identity of what they were.
    """
    if not node.regions:
        return node
    for region in node.regions:
        if id(region) not in known:
            known[id(region)] = change(region)
    regions = tuple(known[id(region)] for region in node.regions)
    if all(a is b for a, b in zip(regions, node.regions, strict=True)):
        return node
    return with_regions(node, regions)


def operands_first(
    value: Value, made: Mapping[Value, Node], is_there: Callable[[Value], bool]
) -> Iterator[Node]:
    """The nodes by which `value` is computed from values that are there, operands first.

    Whoever takes a node sees to it that its results are there before taking the next one.
    """
    stack = [value]
    while stack:
        if is_there(stack[-1]):
            stack.pop()
            continue
        node = made[stack[-1]]
        missing = [v for v in node.operands if not is_there(v)]
        if not missing:
            yield node
        stack += reversed(missing)


def with_regions(node: Node, regions: tuple[Graph, ...]) -> Node:
    """`node` with other bodies."""
    return Node(node.op, node.operands, node.attrs, node.results, regions, node.phase, node.path,
                node.locs)
