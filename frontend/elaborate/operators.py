"""Operators: `+`, `@`, `**`, comparisons, `and`, `or`, `not`, `a if c else b`."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from dlc.frontend.elaborate import sparse
from dlc.frontend.elaborate.arithmetic import (
    as_value,
    broadcast_dims,
    check_number,
    constant_of,
    element_type,
    elementwise,
    is_untyped,
    meet,
    operand_notes,
    spread_to,
    untyped_value,
)
from dlc.frontend.elaborate.frames import Fault, Frame, Silent
from dlc.frontend.elaborate.proofs import put_off, renamed
from dlc.frontend.elaborate.values import (
    Listing,
    Number,
    Poisoned,
    Sparse,
    Table,
    Tensor,
    Truth,
    Value,
    describe,
)
from dlc.ir import graph as ir
from dlc.ir.diagnostics import Span
from dlc.ir.dims import Poly
from dlc.ir.ops import TypeRuleError
from dlc.ir.ops.contract import matmul_spec
from dlc.ir.types import BOOL

_OPS: Final = {
    "+": "add", "-": "sub", "*": "mul", "/": "div", "//": "floordiv", "%": "mod",
    "==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge",
    "and": "and", "or": "or",
}
_EXACT: Final[dict[str, Callable[..., int | float | Poly]]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv,
    "%": operator.mod,
}
_ROUNDED: Final[dict[str, Callable[..., Any]]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide,
}
_MOST_BITS: Final = 4096
_MOST_TERMS: Final = 100
_MOST_FACTORS: Final = 64  # of a power that is written as a float
_COMPARE: Final[dict[str, Callable[..., bool]]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge,
}


def binary(frame: Frame, sign: str, left: Value, right: Value, at: Span) -> Value:
    """`left sign right`."""
    if isinstance(left, Poisoned) or isinstance(right, Poisoned):
        raise Silent
    if isinstance(left, Sparse) or isinstance(right, Sparse):
        return sparse.binary(frame, sign, left, right, at)
    if isinstance(left, Number) and isinstance(right, Number):
        folded = _fold(sign, left.value, right.value, at)
        if folded is not None:
            return folded
    if isinstance(left, Table | Number) and isinstance(right, Table | Number) and sign in _ROUNDED:
        rounded = _fold_typed(sign, left, right, at)
        if rounded is not None:
            return rounded
    if isinstance(left, Listing) and isinstance(right, Listing) and sign == "+":
        if left.known and right.known:
            return Listing(left.items + right.items)
        return Listing((left if left.items else right).items[:1], known=False, alike=False)
    return _on_tensors(frame, sign, left, right, at)


def _on_tensors(frame: Frame, sign: str, left: Value, right: Value, at: Span) -> Value:
    if sign == "@":
        return Tensor(matmul(frame, as_value(frame, left, at), as_value(frame, right, at), at))
    if sign == "**":
        return power(frame, left, right, at)
    if sign in ("and", "or"):
        return _logic(frame, sign, left, right, at)
    if sign in _COMPARE:
        return _compare(frame, sign, left, right, at)
    _check_arithmetic(frame, sign, left, right, at)
    return elementwise(frame, _OPS[sign], (left, right), f"`{sign}`", at)


def _check_arithmetic(frame: Frame, sign: str, left: Value, right: Value, at: Span) -> None:
    for value in (left, right):
        if is_untyped(value):
            continue
        dtype = element_type(frame, value, at)
        if dtype is BOOL:
            raise Fault("bool-arithmetic", f"`{sign}` does not take bool", at,
                        help="`f32(x)` makes 0 and 1 of it; `and`, `or`, `not` work on bool")
        if sign == "/" and dtype.is_integer:
            raise Fault("integer-division", f"`/` does not take {dtype}", at,
                        help="`//` divides integers; `f32(x)` makes floats of them")


def _fold(
    sign: str, a: int | float | Poly, b: int | float | Poly, at: Span
) -> Number | Truth | None:
    """The exact result of an operator on numbers; None if it is known only as the program runs."""
    symbolic = isinstance(a, Poly) or isinstance(b, Poly)
    _check_size(sign, a, b, at)
    if sign in _COMPARE:
        if symbolic and not (sign in ("==", "!=") and a == b):
            return None
        return Truth(_COMPARE[sign](a, b))
    if symbolic and (isinstance(a, float) or isinstance(b, float) or sign not in _EXACT):
        if sign == "**" and isinstance(b, int) and b >= 0:
            return Number(math.prod([a] * b, start=1))
        return None
    if sign in ("//", "%", "/") and b == 0:
        raise Fault("division-by-zero", "a division by zero", at)
    try:
        if sign == "/":
            return Number(a / b)  # type: ignore[operator]
        if sign == "**":
            return _fold_power(a, b, at)
        if sign in _EXACT:
            return Number(_EXACT[sign](a, b))
    except OverflowError:
        raise Fault("number-range", "this number is too large", at) from None
    raise Fault("matmul-scalar" if sign == "@" else "needs-bool",
                f"`{sign}` does not take numbers", at)


def _fold_typed(sign: str, left: Table | Number, right: Table | Number, at: Span) -> Table | None:
    """The result of arithmetic on constant floats of one type, rounded as the program would; None
    if they are something else."""
    kinds = {value.kind for value in (left, right) if isinstance(value, Table)}
    a, b = constant_of(left), constant_of(right)
    if len(kinds) != 1 or a is None or b is None:
        return None
    (kind,) = kinds
    made = np.dtype(kind.dtype.numpy)
    if kind.dims or not kind.dtype.is_float or made.itemsize != kind.dtype.size:
        return None  # NumPy has no bf16
    with np.errstate(all="ignore"):
        one, other = (made.type(check_number(number, kind.dtype, at)) for number in (a, b))
        return Table(kind, (float(_ROUNDED[sign](one, other)),))


def _check_size(sign: str, a: object, b: object, at: Span) -> None:
    """Refuses what would take for ever to work out: huge integers, polynomials of many terms."""
    size = max((len(x.terms) for x in (a, b) if isinstance(x, Poly)), default=0)
    if sign == "**" and isinstance(b, int):
        bits = a.bit_length() if isinstance(a, int) else 0
        if abs(b) * bits > _MOST_BITS or (size and b > 4):
            raise Fault("number-range", "this number is too large", at)
    if size > _MOST_TERMS:
        raise Fault("too-large", f"this dim is a sum of more than {_MOST_TERMS} terms", at)


def _fold_power(a: object, b: object, at: Span) -> Number:
    assert isinstance(a, int | float)
    assert isinstance(b, int | float)
    if isinstance(a, int) and isinstance(b, int) and b < 0:
        raise Fault("negative-power", "an integer to a negative power", at,
                    help=f"write `{a}.0` for a float")
    made = a**b
    return Number(math.nan if isinstance(made, complex) else made)


def _compare(frame: Frame, sign: str, left: Value, right: Value, at: Span) -> Value:
    a, b = constant_of(left), constant_of(right)
    if a is not None and b is not None:
        return Truth(_COMPARE[sign](a, b))
    return elementwise(frame, _OPS[sign], (left, right), f"`{sign}`", at)


def _logic(frame: Frame, sign: str, left: Value, right: Value, at: Span) -> Value:
    if isinstance(left, Truth) and isinstance(right, Truth):
        return Truth(left.value and right.value if sign == "and" else left.value or right.value)
    for value in (left, right):
        if is_untyped(value) or element_type(frame, value, at) is not BOOL:
            raise Fault("needs-bool", f"`{sign}` takes bool, not {describe(value)}", at)
    return elementwise(frame, sign, (left, right), f"`{sign}`", at)


def negate(frame: Frame, value: Value, at: Span) -> Value:
    """`-value`."""
    if isinstance(value, Number):
        return Number(-value.value)
    if isinstance(value, Table) and not value.kind.dims and value.kind.dtype.is_float:
        return Table(value.kind, (-value.numbers[0],))
    made = value.value if isinstance(value, Tensor) else as_value(frame, value, at)
    if made.dtype is BOOL:
        raise Fault("bool-arithmetic", "`-` does not take bool", at)
    return Tensor(frame.emit(at, "neg", made), isinstance(value, Tensor) and value.untyped)


def invert(frame: Frame, value: Value, at: Span) -> Value:
    """`not value`."""
    if isinstance(value, Truth):
        return Truth(not value.value)
    made = as_value(frame, value, at)
    if made.dtype is not BOOL:
        raise Fault("needs-bool", f"`not` takes bool, not {describe(value)}", at)
    return Tensor(frame.emit(at, "not", made))


def matmul(frame: Frame, left: ir.Value, right: ir.Value, at: Span) -> ir.Value:
    """`left @ right`."""
    notes = operand_notes(frame, (left, right))
    if left.dtype is not right.dtype or left.dtype is BOOL:
        raise Fault("dtype-mismatch", f"element types differ in `@`: {left.dtype} is not "
                    f"{right.dtype}", at, notes)
    if not left.dims or not right.dims:
        raise Fault("matmul-scalar", "`@` does not take scalars", at, notes,
                    "`*` multiplies by a scalar")
    at_axis, inner = len(right.dims) - min(len(right.dims), 2), left.dims[-1]
    if right.dims[at_axis] != inner and put_off(frame, right.dims[at_axis], inner, at):
        dims = (*right.dims[:at_axis], inner, *right.dims[at_axis + 1 :])
        right = renamed(frame, right, dims, at)
    try:
        made = matmul_spec(left.dims, right.dims)
    except TypeRuleError as error:
        raise Fault("shape-mismatch", f"shapes do not agree in `@`: {error}", at, notes) from None
    return frame.emit(at, "contract", left, right, hint="matmul", **made)


def power(frame: Frame, base: Value, exponent: Value, at: Span) -> Value:
    """`base ** exponent`: multiplications where the exponent is a constant integer, or a constant
    like 2.0 of a base that is a float: logarithms would give nan below 0."""
    count = exponent.value if isinstance(exponent, Number) else None
    untyped = is_untyped(base)
    x = untyped_value(frame, base, at) if untyped else as_value(frame, base, at)
    if x.dtype is BOOL:
        raise Fault("bool-arithmetic", "`**` does not take bool", at)
    if isinstance(count, float) and count.is_integer() and (
            x.dtype.is_float and abs(count) <= _MOST_FACTORS):
        count = int(count)
    if isinstance(count, int):
        if count < 0 and not x.dtype.is_float:
            raise Fault("negative-power", f"{x.dtype} to a negative power", at)
        return Tensor(_repeated(frame, x, count, at), untyped)
    if not x.dtype.is_float:
        raise Fault("integer-power", f"{x.dtype} to a power that is no constant integer", at)
    return elementwise(frame, "pow", (base, exponent), "`**`", at)


def _repeated(frame: Frame, x: ir.Value, count: int, at: Span) -> ir.Value:
    """x to a whole power, by squaring."""
    builder = frame.place(at)
    result: ir.Value | None = None
    square, left = x, abs(count)
    while left:
        if left & 1:
            result = square if result is None else builder.op("mul", result, square)
        left >>= 1
        if left:
            square = builder.op("mul", square, square)
    if result is not None and count > 0:
        return result
    one = builder.constant(1, x.type, "one")
    return one if result is None else builder.op("div", one, result)


def choose(
    frame: Frame, condition: Value, then: Value, otherwise: Value, span: Span
) -> Value:
    """`then if condition else otherwise`, element by element."""
    chosen = as_value(frame, condition, span)
    if chosen.dtype is not BOOL:
        raise Fault("needs-bool", f"a choice needs bool, not {describe(condition)}", span)
    (a, b), untyped = meet(frame, (then, otherwise), "`if … else`", span)
    dims = broadcast_dims(frame, (chosen, a, b), "`if … else`", span)
    spread = [spread_to(frame, v, dims, span) for v in (chosen, a, b)]
    return Tensor(frame.emit(span, "select", *spread), untyped)
