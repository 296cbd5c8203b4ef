"""Gives the sizes that are arguments names that no index has.

    graph f(%x: f32[N], %a: i64 size)  →  graph f(%x: f32[N], %a.size: i64 size)

Their names are the user's, and begin with a small letter like those of the indices that passes
make (`a`, `i0`, `chunk`). A name with a dot can't be taken for one of these. Symbols with a capital
can't either, and are left as they are; callers know sizes by their own names still.

Requires valid IR; ensures that every symbol begins with a capital or ends in `.size`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from dlc.compiler.rewriting.with_dims import WithDims
from dlc.ir.dims import substitute, symbol
from dlc.ir.graph import Graph, Param, Value

SUFFIX: Final = ".size"


def name_sizes(graph: Graph) -> Graph:
    """`graph` with its sizes renamed; `graph` itself if it has none."""
    dims = {p.value.name: symbol(p.value.name + SUFFIX) for p in graph.params if p.role == "size"}
    if not dims:
        return graph
    renaming = WithDims(dims)
    made = renaming.body(graph)
    return replace(
        made,
        params=tuple(map(_param, made.params)),
        updates=tuple((name, renaming.value(value)) for name, value in graph.updates),
        conditions=tuple(
            replace(c, left=substitute(c.left, dims), right=substitute(c.right, dims))
            for c in graph.conditions))


def _param(param: Param) -> Param:
    if param.role != "size":
        return param
    return replace(param, value=Value(param.value.name + SUFFIX, param.value.type))
