"""Rules for ops whose indices are data: gather and scatter."""

from __future__ import annotations

from typing import Final

from dlc.compiler.rewriting.rewrite import Rewriter, Rule
from dlc.ir.graph import Node, Value


def index_before_cast(r: Rewriter, node: Node) -> Value | None:
    """gather x, (cast ids) -> gather x, ids, where the cast keeps each integer; scatter alike

    An index may have any integer type, and what is not cast need not be stored.
    """
    first = 2 if node.op == "scatter" else 1
    ids = tuple(_uncast(r, v) for v in node.operands[first:])
    if ids == node.operands[first:]:
        return None
    return r.make(node.op, (*node.operands[:first], *ids), dict(node.attrs))


def _uncast(r: Rewriter, value: Value) -> Value:
    inner = r.maker(value, "cast")
    if inner is None or not inner.operands[0].dtype.is_integer:
        return value
    old, new = inner.operands[0].dtype, value.dtype
    kept = new.size > old.size if new.kind == "int" else new is old
    return inner.operands[0] if kept else value


def scatter_onto_sum(r: Rewriter, node: Node) -> Value | None:
    """add x, (scatter 0, u, ids) -> scatter x, u, ids, where nothing else reads the scatter

    No zeros are written, and nothing is added to them. The updates are added to x one by one, so
    that the sum may differ in its last bits.
    """
    for x, other in (node.operands, node.operands[::-1]):
        inner = r.maker(other, "scatter")
        if (inner is not None and x != other and r.is_read_once(other)
                and inner.attr("mode") == "add" and r.splat(inner.operands[0]) == 0):
            return r.make("scatter", (x, *inner.operands[1:]), dict(inner.attrs))
    return None


INDICES: Final = (
    Rule(("gather", "scatter"), index_before_cast),
    Rule(("add",), scatter_onto_sum),
)
