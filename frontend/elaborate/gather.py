"""Indices that are data: held against their axis as the program runs, then followed."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.frontend.elaborate.arithmetic import (
    as_value,
    broadcast_dims,
    is_untyped,
    spread_to,
    table_of,
)
from dlc.frontend.elaborate.frames import Fault, Frame
from dlc.frontend.elaborate.values import Listing, Number, Table, Value, describe
from dlc.ir import graph as ir
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Span
from dlc.ir.dims import Dim, at_least, product
from dlc.ir.graph import Builder
from dlc.ir.types import BOOL, I32, I64


@dataclass(frozen=True, slots=True)
class Place:
    """An index that stands for an axis of `extent` places: a tensor of integers in range."""

    value: ir.Value
    extent: Dim


def place_of(frame: Frame, value: Value, extent: Dim, span: Span) -> Place:
    """`value` as an index into an axis; what can't be proved is checked as the program runs."""
    if isinstance(value, Listing):
        value = table_of(frame, value, span)
    if isinstance(value, Table) and value.kind.dtype.is_integer:
        return Place(as_value(frame, _counted(frame, value, extent, span), span), extent)
    if is_untyped(value):
        raise Fault("index-type", f"an index is an integer, not {describe(value)}", span)
    ids = as_value(frame, value, span)
    if ids.dtype is BOOL:
        raise Fault("bool-index", f"an index is of integers, not {ids.type}", span,
                    help="the shape would depend on the data; `a if m else 0` chooses element by "
                    "element")
    if not ids.dtype.is_integer:
        raise Fault("index-type", f"an index is of integers, not {ids.type}", span,
                    help="`i32(x)` makes integers")
    if not _surely_inside(frame, ids, extent, span):
        check_range(frame, ids, extent, span, out_of_range("{value}", extent))
    return Place(ids, extent)


def out_of_range(index: object, extent: Dim) -> str:
    """What is said of an index that an axis does not have."""
    return f"index {index} is out of range for an axis of {extent}"


def _counted(frame: Frame, table: Table, extent: Dim, span: Span) -> Table:
    """Constant indices, counted from the front."""
    numbers = [int(n) for n in table.numbers]
    for number in {min(numbers), max(numbers)}:
        least = number + 1 if number >= 0 else -number
        frame.at_least(extent, least, f"{extent} >= {least}, for {number} is an index", span,
                       out_of_range(number, extent), "index-range")
    if min(numbers) < 0 and not isinstance(extent, int):
        raise Fault("index-range", "negative indices in a list need an axis of constant size", span)
    return Table(table.kind, tuple(
        n + extent if n < 0 and isinstance(extent, int) else n for n in numbers))


def _surely_inside(frame: Frame, ids: ir.Value, extent: Dim, span: Span) -> bool:
    """Whether the node that makes an index says that it is in range, or a condition of the call."""
    found = _made_below(frame.context.builder, ids)
    if found is None:
        return False
    op, bound = found
    if op == "iota":
        frame.at_least(extent - bound, 0, f"{bound} <= {extent}, for it bounds an index", span,
                       out_of_range(bound - 1, extent), "index-range")
        return True
    return at_least(extent - bound, 0)


def _made_below(builder: Builder, ids: ir.Value) -> tuple[str, Dim] | None:
    """The op that makes an index, and what all of its elements are below."""
    for node in reversed(builder.nodes):
        if ids not in node.results:
            continue
        if node.op in ("reshape", "broadcast", "transpose", "slice", "gather", "flip") or (
                node.op == "cast" and node.result.dtype in (I32, I64)
                and node.operands[0].dtype.is_integer):
            ids = node.operands[0]
            continue
        axis = node.attr("axis") if node.op in ("iota", "argmax") else -1
        assert isinstance(axis, int)
        if node.op == "iota":
            return "iota", node.result.dims[axis]
        if node.op in ("argmax", "argsort"):
            return node.op, node.operands[0].dims[axis]
        return None
    return None


def check_range(frame: Frame, ids: ir.Value, extent: Dim, span: Span, text: str) -> None:
    """Stops the program if an index is out of range; `{value}` in the text is one that is."""
    low, high = _ends(frame, ids, span)
    limit = as_value(frame, Number(extent), span, I64)
    builder = frame.place(span)
    wrong, shown = builder.op("ge", high, limit), high
    if low is not None:
        below = builder.op("lt", low, builder.zeros(low.type))
        wrong, shown = builder.op("or", below, wrong), builder.op("select", below, low, high)
    builder.emit("check", builder.op("not", wrong), shown, text=text)


def _ends(frame: Frame, ids: ir.Value, span: Span) -> tuple[ir.Value | None, ir.Value]:
    """The least and the greatest index, as i64; no least one of unsigned integers."""
    builder = frame.place(span)
    if not ids.dims:
        whole = builder.cast(ids, I64)
        return (whole if ids.dtype.kind == "int" else None), whole
    flat = builder.reshape(ids, (product(ids.dims),))
    if not at_least(flat.dims[0], 1):  # the greatest of nothing is not defined: a 0 beside it
        flat = builder.op("pad", flat, low=(0,), high=(1,), value=0.0)
    high = builder.cast(builder.op("reduce_max", flat, axes=(0,)), I64)
    if ids.dtype.kind != "int":
        return None, high
    return builder.cast(least(builder, flat, (0,)), I64), high


def least(builder: Builder, x: ir.Value, axes: tuple[int, ...]) -> ir.Value:
    """The smallest over axes: the greatest of what runs the other way (for integers -1 - x, which
    never overflows)."""
    if x.dtype.is_float:
        return builder.op("neg", builder.op("reduce_max", builder.op("neg", x), axes=axes))
    return complement(builder, builder.op("reduce_max", complement(builder, x), axes=axes))


def complement(builder: Builder, x: ir.Value) -> ir.Value:
    """-1 - x of integers: their order, reversed."""
    last = -1 if x.dtype.kind == "int" else 2 ** (8 * x.dtype.size) - 1
    return builder.op("sub", builder.constant(last, x.type), x)


def follow(
    frame: Frame, x: ir.Value, places: Sequence[Place], axis: int, span: Span
) -> ir.Value:
    """The elements of `x` at indices that stand for its axes from `axis` on."""
    return frame.emit(span, "gather", x, *side_by_side(frame, places, span), axis=axis)


def side_by_side(frame: Frame, places: Sequence[Place], span: Span) -> list[ir.Value]:
    """Indices broadcast to the same dims."""
    values = [p.value for p in places]
    dims = broadcast_dims(frame, values, "the indices", span)
    return [spread_to(frame, v, dims, span) for v in values]


def along(frame: Frame, x: ir.Value, order: ir.Value, span: Span) -> ir.Value:
    """`x` in an order of its last axis, given for each row: `x[…, order[…, i]]`."""
    builder = frame.place(span)
    rows = [builder.op("iota", dtype=I32, dims=order.dims, axis=a)
            for a in range(len(order.dims) - 1)]
    return builder.op("gather", x, *rows, order, axis=0)
