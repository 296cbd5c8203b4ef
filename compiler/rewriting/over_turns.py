"""One node for all turns of a loop: the turn becomes a first axis, or an index that is summed over.

    %p = contract %x, %w        # f32[N, 4], a turn    →    %ps = contract %xs, %w   # f32[T, N, 4]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from dlc.ir.dims import Dim, symbol, symbols
from dlc.ir.graph import Attr, Builder, Node, Value
from dlc.ir.ops import OPS
from dlc.ir.ops.contract import extents_of, map_of, maps_of, spec
from dlc.ir.ops.indices import axis_attr
from dlc.ir.ops.shape import dims_attr, ints_attr

Attrs = dict[str, Attr]
Rule = Callable[[Node, Dim], Attrs]


def has_rule(node: Node) -> bool:
    """Whether `on_all_turns` knows what `node` is for all turns at once."""
    return node.op in _RULES or OPS[node.op].kernel == "contract" or _is_elementwise(node)


def _is_elementwise(node: Node) -> bool:
    return OPS[node.op].formula is not None


def on_all_turns(
    builder: Builder, node: Node, length: Dim, operands: Sequence[tuple[Value, bool]]
) -> Value:
    """What `node` gives in all turns, stacked.

    `operands` stand for its own, each with whether it is a stack or the same in all turns; one of
    them is a stack.
    """
    if node.op == "contract":
        return contract_turns(builder, node, length, operands, summed=False)
    if _is_elementwise(node):
        wide = (length, *node.result.dims)
        whole = [v if stacked else builder.broadcast(v, wide) for v, stacked in operands]
        return builder.op(node.op, *whole, hint=node.result.name, **dict(node.attrs))
    ((operand, _),) = operands
    attrs: Attrs = dict(node.attrs) | _RULES[node.op](node, length)
    return builder.op(node.op, operand, hint=node.result.name, **attrs)


def contract_turns(
    builder: Builder, node: Node, length: Dim, operands: Sequence[tuple[Value, bool]],
    summed: bool,
) -> Value:
    """A contraction in all turns: stacked, or summed over the turns. `operands` as above."""
    name = _turn_index(node, length)
    turn: tuple[Dim, ...] = (symbol(name),)
    first = ((), ()) if summed else (turn, (length,))
    maps = tuple((*turn, *at) if stacked else at
                 for (_, stacked), at in zip(operands, maps_of(node), strict=True))
    attrs = spec({name: length, **extents_of(node)}, maps,
                 (*first[0], *map_of(node.attr("out"))), (*first[1], *node.result.dims))
    return builder.op("contract", *(v for v, _ in operands), hint=node.result.name, **attrs)


def _turn_index(node: Node, length: Dim) -> str:
    """A name for the turn as an index of a contraction: no index, nor symbol of a dim, of it."""
    extents = extents_of(node)
    dims = [length, *extents.values(), *(d for v in (*node.operands, node.result) for d in v.dims)]
    taken = set(extents).union(*map(symbols, dims))
    names = ("t", *(f"t{k}" for k in range(len(taken))))
    return next(name for name in names if name not in taken)


def _moved(name: str) -> Rule:
    """Axes by number: each is one further."""
    return lambda node, length: {name: tuple(axis + 1 for axis in ints_attr(node, name))}


def _axis(node: Node, length: Dim) -> Attrs:
    return {"axis": axis_attr(node) + 1}


def _broadcast(node: Node, length: Dim) -> Attrs:
    return {"dims": (length, *node.result.dims), "axes": _whole(node, "axes")}


def _reshape(node: Node, length: Dim) -> Attrs:
    return {"dims": (length, *node.result.dims)}


def _transpose(node: Node, length: Dim) -> Attrs:
    return {"order": _whole(node, "order")}


def _slice(node: Node, length: Dim) -> Attrs:
    return {"start": (0, *dims_attr(node, "start")), "step": (1, *ints_attr(node, "step")),
            "dims": (length, *node.result.dims)}


def _pad(node: Node, length: Dim) -> Attrs:
    return {"low": (0, *dims_attr(node, "low")), "high": (0, *dims_attr(node, "high"))}


def _whole(node: Node, name: str) -> tuple[int, ...]:
    """Axes by number, after the one of the turn."""
    return (0, *(axis + 1 for axis in ints_attr(node, name)))


_RULES: Final[Mapping[str, Rule]] = {
    "broadcast": _broadcast, "reshape": _reshape, "transpose": _transpose, "slice": _slice,
    "pad": _pad, "flip": _moved("axes"), "reduce_max": _moved("axes"), "argmax": _axis,
    "softmax": _axis, "log_softmax": _axis, "cumsum": _axis,
    "stop_gradient": lambda node, length: {},
}
