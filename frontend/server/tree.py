"""Ways through a syntax tree: the nodes at a place, all nodes, where local names are given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from typing import Any

from dlc.frontend.server.places import Point, end, holds, start
from dlc.frontend.text import syntax
from dlc.ir.dataclass import dataclass


@cache
def _parts_of(kind: type[Any]) -> tuple[str, ...]:
    """The fields of a kind of node that hold nodes, among others."""
    return tuple(each.name for each in fields(kind) if each.name not in ("span", "at", "ats"))


def children(node: syntax.Syntax) -> Iterator[syntax.Syntax]:
    """The nodes right below one."""
    kind: Any = type(node)  # mypy does not take a class for something to be hashed
    for name in _parts_of(kind):
        value = getattr(node, name)
        if isinstance(value, syntax.Syntax):
            yield value
        elif isinstance(value, tuple):
            yield from (item for item in value if isinstance(item, syntax.Syntax))


def nodes(node: syntax.Syntax) -> Iterator[tuple[syntax.Syntax, ...]]:
    """All nodes below one and itself, each with those that it stands in: a path that ends in it."""
    waiting: list[tuple[syntax.Syntax, ...]] = [(node,)]
    while waiting:
        path = waiting.pop()
        yield path
        waiting += [(*path, child) for child in children(path[-1])]


def path_to(tree: syntax.File, point: Point) -> tuple[syntax.Syntax, ...]:
    """The nodes that hold a point, from the file to the innermost. Right behind a name counts as
    in it, unless something else begins there."""
    path = _path(tree, point)
    if not isinstance(path[-1], syntax.Name) and point[1] > 1:
        before = _path(tree, (point[0], point[1] - 1))
        if isinstance(before[-1], syntax.Name | syntax.Import):
            return before
    return path


def _path(tree: syntax.File, point: Point) -> tuple[syntax.Syntax, ...]:
    path: list[syntax.Syntax] = [tree]
    while True:
        inner = [child for child in children(path[-1]) if _reaches(child, point)]
        if not inner:
            return tuple(path)
        path.append(inner[-1])


def _reaches(node: syntax.Syntax, point: Point) -> bool:
    """Whether a node, or one below it, holds a point: what is piped stands before its call."""
    return holds(node.span, point) or (
        isinstance(node, syntax.Argument) and holds(node.value.span, point))


@dataclass(frozen=True, slots=True)
class Binding:
    """A local name: where it is given, from where to where it counts, and what it is given."""

    name: syntax.Name
    first: Point
    last: Point | None = None
    value: syntax.Expr | None = None
    item: bool = False  # whether it is one item of `value`

    def reaches(self, point: Point) -> bool:
        """Whether it still counts at a point."""
        return self.last is None or point < self.last


def bindings(body: syntax.Syntax) -> Iterator[Binding]:
    """All names that are given in a body, in no order."""
    for path in nodes(body):
        node = path[-1]
        match node:
            case syntax.Assign(_, targets, values):
                alone = values if len(values) == len(targets) else (None,) * len(targets)
                for target, value in zip(targets, alone, strict=True):
                    yield Binding(target, end(node.span), None, value)
            case syntax.For(_, targets, source, inner):
                last = end(inner.span)
                yield from (Binding(t, start(inner.span), last, source, True) for t in targets)
            case syntax.Comprehension(span, _, targets, source):
                yield from (Binding(t, start(span), end(span), source, True) for t in targets)
            case syntax.Scan(_, targets, _, _, inner):
                yield from (Binding(t, start(inner.span), end(inner.span)) for t in targets)
            case syntax.Carried(_, name):
                yield Binding(name, start(node.span))
            case syntax.Yield(_, _, name):
                yield Binding(name, end(node.span))
