"""The types that numbers take, how shapes broadcast, and the nodes that come of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from dlc.frontend.elaborate.frames import Fault, Frame, Silent
from dlc.frontend.elaborate.proofs import put_off, renamed
from dlc.frontend.elaborate.values import (
    Listing,
    Number,
    Poisoned,
    Table,
    Tensor,
    Truth,
    Value,
    Variable,
    describe,
)
from dlc.ir import graph as ir
from dlc.ir.diagnostics import Span
from dlc.ir.dims import Dim, Poly
from dlc.ir.types import BOOL, F64, I32, DType, tensor

_BITS: Final = {"i8": (-(2**7), 2**7), "i16": (-(2**15), 2**15), "i32": (-(2**31), 2**31),
                "i64": (-(2**63), 2**63), "u8": (0, 2**8)}
_TOO_LARGE: Final = {  # what would round to infinity
    "f16": 2**16 - 2**4, "bf16": 2**128 - 2**119, "f32": 2**128 - 2**103}


# Values as values of the graph


def as_value(frame: Frame, value: Value, span: Span, dtype: DType | None = None) -> ir.Value:
    """A value of the graph; a number without a type takes `dtype`, or the default float, or i32 if
    whole."""
    if isinstance(value, Poisoned):
        raise Silent
    if isinstance(value, Variable):
        return frame.context.read(value)
    if isinstance(value, Tensor):
        if not value.untyped:
            return value.value
        wanted = dtype or frame.default_float
        if not wanted.is_float:
            raise Fault("float-to-integer", f"a number with a fraction can't become {wanted}", span)
        return frame.place(span).cast(value.value, wanted)
    if isinstance(value, Number):
        return _number_value(frame, value.value, span, dtype)
    if isinstance(value, Truth):
        return frame.place(span).constant(value.value, tensor(BOOL))
    if isinstance(value, Table):
        return _table_value(frame, value, span)
    if isinstance(value, Listing):
        return _table_value(frame, table_of(frame, value, span, dtype), span)
    raise Fault("not-a-tensor", f"expected a tensor, found {describe(value)}", span)


def _number_value(
    frame: Frame, number: int | float | Poly, span: Span, dtype: DType | None
) -> ir.Value:
    dtype = dtype or (frame.default_float if isinstance(number, float) else I32)
    builder = frame.place(span)
    if isinstance(number, Poly):
        check_number(0, dtype, span)
        return builder.op("dim", dtype=dtype, value=number)
    return builder.scalar(dtype, check_number(number, dtype, span))


def check_number(number: int | float, dtype: DType, span: Span) -> int | float:
    """`number` as `dtype` takes it."""
    if dtype is BOOL:
        raise Fault("number-for-bool", f"the number {number} is no bool", span)
    if dtype.is_float:
        if _TOO_LARGE.get(dtype.name, 2**1024) <= abs(number) < math.inf:
            raise Fault("integer-range", f"{number} does not fit {dtype}", span)
        return float(number)
    if isinstance(number, float):
        raise Fault("float-to-integer", f"the number {number} can't become {dtype}", span,
                    help=f"`f32(…)` makes floats of {dtype}")
    low, high = _BITS[dtype.name]
    if not low <= number < high:
        raise Fault("integer-range", f"{number} does not fit {dtype}", span)
    return number


def _table_value(frame: Frame, table: Table, span: Span) -> ir.Value:
    kind = table.kind
    if not kind.dims:
        return frame.place(span).constant(table.numbers[0], kind)
    if kind.rank == 1 and kind.dtype is I32 and table.numbers == tuple(range(len(table.numbers))):
        return frame.emit(span, "iota", dtype=I32, dims=kind.dims, axis=0)
    return frame.emit(span, "table", dtype=kind.dtype, dims=kind.dims, values=table.numbers)


def table_of(frame: Frame, value: Value, span: Span, dtype: DType | None = None) -> Table:
    """The constant tensor that nested lists of numbers are."""
    dims: list[int] = []
    level: list[Value] = [value]
    while level and isinstance(level[0], Listing):
        sizes = {len(v.items) if isinstance(v, Listing) else -1 for v in level}
        if len(sizes) > 1 or 0 in sizes:
            raise Fault("ragged-list", "the rows of this list are not equally long", span)
        dims.append(sizes.pop())
        level = [item for v in level if isinstance(v, Listing) for item in v.items]
    numbers: list[int | float | bool] = []
    for item in level:
        if isinstance(item, Truth):
            numbers.append(item.value)
        elif isinstance(item, Number) and not isinstance(item.value, Poly):
            numbers.append(item.value)
        else:
            raise Fault("mixed-list", f"{describe(item)} in a list of numbers", span,
                        help="`stack((a, b))` puts tensors side by side")
    dtype = dtype or (frame.default_float if any(isinstance(n, float) for n in numbers) else I32)
    if dtype is not BOOL:
        numbers = [check_number(n, dtype, span) for n in numbers]
    return Table(tensor(dtype, tuple(dims)), tuple(numbers))


def constant_of(value: Value) -> int | float | bool | None:
    """The number or truth that a value is known to be as the program is compiled."""
    if isinstance(value, Truth):
        return value.value
    if isinstance(value, Number) and not isinstance(value.value, Poly):
        return value.value
    if isinstance(value, Table) and not value.kind.dims:
        return value.numbers[0]
    return None


def integer_of(value: Value) -> int | None:
    """The integer that a value is known to be as the program is compiled."""
    found = constant_of(value)
    return None if isinstance(found, bool | float) else found


# Meeting


def is_untyped(value: Value) -> bool:
    """Whether a value takes the type that it meets."""
    return isinstance(value, Number) or (isinstance(value, Tensor) and value.untyped)


def element_type(frame: Frame, value: Value, span: Span) -> DType:
    """The element type of a value that has one, without a node for it."""
    if isinstance(value, Table | Variable):
        return value.kind.dtype
    if isinstance(value, Truth):
        return BOOL
    if isinstance(value, Listing):
        return table_of(frame, value, span).kind.dtype
    return as_value(frame, value, span).dtype


def untyped_value(frame: Frame, value: Value, span: Span) -> ir.Value:
    """A number without a type as an f64 of the graph."""
    return value.value if isinstance(value, Tensor) else as_value(frame, value, span, F64)


def meet(
    frame: Frame, values: Sequence[Value], what: str, span: Span
) -> tuple[list[ir.Value], bool]:
    """The values in one element type; whether that is none yet (all f64 that take what they meet).

    Numbers take the type of the others; two different types are an error.
    """
    typed = [v for v in values if not is_untyped(v)]
    if not typed:
        return [untyped_value(frame, v, span) for v in values], True
    made = [as_value(frame, v, span) for v in typed]
    kinds = {v.dtype for v in made}
    if len(kinds) > 1:
        notes = operand_notes(frame, made)
        help = "there are no implicit casts: `f32(x)` and its like convert"
        raise Fault("dtype-mismatch", f"element types differ in {what}: "
                    + " is not ".join(dict.fromkeys(str(v.dtype) for v in made)), span, notes, help)
    dtype = made[0].dtype
    ready = iter(made)
    return [as_value(frame, v, span, dtype) if is_untyped(v) else next(ready)
            for v in values], False


def operand_notes(frame: Frame, values: Sequence[ir.Value]) -> tuple[str, ...]:
    """The types of operands, and where those of them that are variables are declared."""
    labels = ("left:  ", "right: ") if len(values) == 2 else ("",) * len(values)
    origins = frame.context.store.origins
    return tuple(
        f"{label}{v.type}" + (f", declared at {origins[v].span}" if v in origins else "")
        for label, v in zip(labels, values, strict=True))


def broadcast_dims(
    frame: Frame, values: Sequence[ir.Value], what: str, span: Span
) -> tuple[Dim, ...]:
    """The dims of values that are worked on element by element."""
    rank = max(len(v.dims) for v in values)
    out: list[Dim] = []
    for axis in range(-rank, 0):
        present = [v for v in values if -axis <= len(v.dims)]
        widest: Dim = 1
        for value in present:
            dim = value.dims[axis]
            if dim == 1:
                continue
            if widest != 1 and dim != widest and not put_off(frame, dim, widest, span):
                raise _disagree(frame, values, (widest, dim), what, span)
            widest = dim if widest == 1 else widest
        for value in present:
            if len(value.dims) == rank and widest != value.dims[axis] == 1 and _lower(values, rank):
                raise Fault(
                    "rank-broadcast", f"shapes do not agree in {what}: {value.dims[axis]} is not "
                    f"{widest}", span, operand_notes(frame, values),
                    "of two ranks only the lower stretches: `[:, None]` or `[None]` says where "
                    "its dims belong")
        out.append(widest)
    return tuple(out)


def _disagree(
    frame: Frame, values: Sequence[ir.Value], dims: tuple[Dim, Dim], what: str, span: Span
) -> Fault:
    symbolic = any(isinstance(dim, Poly) for dim in dims)
    return Fault(
        "broadcast-symbol" if symbolic else "shape-mismatch",
        f"shapes do not agree in {what}: {dims[0]} is not {dims[1]}", span,
        operand_notes(frame, values),
        "a symbol may be any size: only a dim that is known as 1 stretches" if symbolic else "")


def _lower(values: Sequence[ir.Value], rank: int) -> bool:
    """Whether a value of a lower rank, other than a scalar, is among them."""
    return any(0 < len(v.dims) < rank for v in values)


def spread_to(
    frame: Frame, value: ir.Value, dims: tuple[Dim, ...], span: Span
) -> ir.Value:
    """A value with the dims that it was found to broadcast to."""
    last = dims[len(dims) - len(value.dims) :]
    own = tuple(1 if d == 1 else wanted for d, wanted in zip(value.dims, last, strict=True))
    return frame.place(span).broadcast(renamed(frame, value, own, span), dims)


def elementwise(
    frame: Frame, op: str, values: Sequence[Value], what: str, span: Span, **attrs: Any
) -> Tensor:
    """One op on values that meet and broadcast."""
    met, untyped = meet(frame, values, what, span)
    dims = broadcast_dims(frame, met, what, span)
    spread = [spread_to(frame, v, dims, span) for v in met]
    made = frame.emit(span, op, *spread, **attrs)
    return Tensor(made, untyped and made.dtype is F64)
