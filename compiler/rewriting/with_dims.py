"""Symbols of dims replaced in values, nodes and whole graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from dlc.ir.dims import Dim, Poly, substitute
from dlc.ir.graph import Attr, Graph, Node, Value
from dlc.ir.ops import OPS
from dlc.ir.types import substitute_type

Attrs = tuple[tuple[str, Attr], ...]
_MAPS: Final = ("maps", "out")  # expressions in which a contraction's own indices hide symbols


class WithDims:
    """Puts dims in the place of symbols. Bodies that many nodes share stay shared."""

    def __init__(self, dims: Mapping[str, Dim]) -> None:
        self.dims = dims
        self._bodies: dict[int, Graph] = {}

    def value(self, value: Value) -> Value:
        """A value of the type that the dims make of its type."""
        kind = substitute_type(value.type, self.dims)
        return value if kind is value.type else Value(value.name, kind)

    def node(
        self, node: Node, operands: tuple[Value, ...], results: tuple[Value, ...]
    ) -> Node:
        """A node on other operands; open bodies see the dims, others have symbols of their own."""
        regions = node.regions
        if OPS[node.op].kernel == "control":
            regions = tuple(map(self.body, regions))
        return replace(node, operands=operands, results=results, regions=regions,
                       attrs=self._attrs(node))

    def body(self, body: Graph) -> Graph:
        """An open body, or a graph but for its updates and conditions."""
        if id(body) not in self._bodies:
            value = self.value
            self._bodies[id(body)] = replace(
                body,
                params=tuple(replace(p, value=value(p.value)) for p in body.params),
                nodes=tuple(
                    self.node(n, tuple(map(value, n.operands)), tuple(map(value, n.results)))
                    for n in body.nodes),
                results=tuple(map(value, body.results)))
        return self._bodies[id(body)]

    def _attrs(self, node: Node) -> Attrs:
        """The attributes with the dims in them replaced."""
        if not self.dims:
            return node.attrs
        own = {str(name) for name in _items(dict(node.attrs).get("indices", ()))}
        free = {name: dim for name, dim in self.dims.items() if name not in own}
        return tuple((name, _replaced(value, free if name in _MAPS else self.dims))
                     for name, value in node.attrs)


def _items(value: Attr) -> tuple[Attr, ...]:
    return value if isinstance(value, tuple) else ()


def _replaced(value: Attr, dims: Mapping[str, Dim]) -> Attr:
    if isinstance(value, Poly):
        return substitute(value, dims)
    if isinstance(value, tuple):
        return tuple(_replaced(item, dims) for item in value)
    return value
