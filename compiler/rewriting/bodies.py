"""Passes inside the bodies of nodes: a shared body is treated once, and stays shared."""

from __future__ import annotations

from collections.abc import Callable

from dlc.ir.graph import Graph, Node


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


def with_regions(node: Node, regions: tuple[Graph, ...]) -> Node:
    """`node` with other bodies."""
    return Node(node.op, node.operands, node.attrs, node.results, regions, node.phase, node.path,
                node.locs)
