"""Sorting: keys whose bits are in the order of the numbers, and radix sort by their digits.

The keys of floats: the bits, read as a signed integer b, are in order for positive numbers; for
negative ones INT_MIN - b is. That gives -0.0 the key of 0.0, 0. A key beyond that of inf or -inf is
a nan's, and becomes the largest. No comparison of floats is made, since a denormal may count as 0
in one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlc.ir.ops.op import (
    Array,
    EvalCall,
    Op,
    Sample,
    TypeRuleError,
    dense,
    not_differentiable,
    register,
)
from dlc.ir.types import F32, F64, I32, I64, Type, tensor

if TYPE_CHECKING:
    from dlc.ir.graph import Attr, Builder, Graph, Node, Value

DIGIT = 8  # bits of a digit
_INDICES = "its result is an index, whose derivative is 0"


def _infer_radix_pass(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    keys, order = (dense(kind, "radix_pass") for kind in kinds)
    shift = attrs["shift"]
    if keys.dtype not in (I32, I64) or not keys.dims or order is not tensor(I32, keys.dims):
        raise TypeRuleError(f"radix_pass takes keys of i32 or i64 and an i32 order of their dims, "
                            f"not {keys}, {order}")
    if not isinstance(shift, int) or shift not in range(0, 8 * keys.dtype.size, DIGIT):
        raise TypeRuleError(f"{shift} is not where a digit of {keys.dtype} starts")
    return (order,)


def _eval_radix_pass(call: EvalCall) -> tuple[Array, ...]:
    keys, order = call.inputs
    shift = call.attrs["shift"]
    assert isinstance(shift, int)
    unsigned = keys.view(f"uint{keys.dtype.itemsize * 8}")
    sorted_keys = np.take_along_axis(unsigned, order.astype(np.int64), -1)
    digits = (sorted_keys >> unsigned.dtype.type(shift)) & unsigned.dtype.type(2**DIGIT - 1)
    by_digit = np.argsort(digits, -1, kind="stable")
    return (np.take_along_axis(order, by_digit, -1),)


radix_pass = register(Op(
    "radix_pass", "an order of the elements along the last axis, sorted anew by one digit of their "
    "keys, `(keys[order] >> shift) & 255`; equal digits stay as they were",
    _infer_radix_pass, _eval_radix_pass, not_differentiable(_INDICES),
    tuple(Sample((f"{key}{dims}", f"i32{dims}"), (("shift", shift),), -2.0**30, 2.0**30,
                 ranges=((1, 0, high),))
          for key, shift in (("i32", 0), ("i32", 24), ("i64", 16))
          for dims, high in (("[3, 5]", 4), ("[300]", 299), ("[2, 3, 1]", 0))),
    attrs=("shift",), kernel="sort", cost=8,
))


def _infer_argsort(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    kind = dense(kinds[0], "argsort")
    if not kind.dims:
        raise TypeRuleError(f"argsort goes along the last axis, and {kind} has none")
    return (tensor(I32, kind.dims),)


def _eval_argsort(call: EvalCall) -> tuple[Array, ...]:
    return (np.argsort(call.inputs[0], -1, kind="stable").astype(np.int32),)


def _keys(b: Builder, x: Value) -> tuple[Value, int]:
    """Keys that sort, as bit patterns, like the numbers; and how many of their digits count."""
    if x.dtype.is_float:
        x = x if x.dtype is F64 else b.cast(x, F32)
        keys = _float_keys(b, b.op("bits", x), 52 if x.dtype is F64 else 23)
        low = -(2 ** (8 * keys.dtype.size - 1))
    elif x.dtype.kind == "int" and x.dtype is not I64:
        keys, low = b.cast(x, I32), -(2 ** (8 * x.dtype.size - 1))
    else:
        keys, low = (x, -2**63) if x.dtype is I64 else (b.cast(x, I32), 0)
    digits = keys.dtype.size if x.dtype.is_float else x.dtype.size
    # From the smallest number on; the sum wraps, so that the sign's bit turns over.
    return (b.op("sub", keys, b.constant(low, keys.type)) if low else keys), digits


def _float_keys(b: Builder, bits: Value, mantissa: int) -> Value:
    width = 8 * bits.dtype.size
    inf = ((1 << width - 1 - mantissa) - 1) << mantissa
    zero, lowest = b.zeros(bits.type), b.constant(-(2 ** (width - 1)), bits.type)
    keys = b.op("select", b.op("lt", bits, zero), b.op("sub", lowest, bits), bits)
    nan = b.constant(inf + 1, bits.type)
    below = b.op("lt", keys, b.constant(-inf, bits.type))
    return b.op("select", below, nan, b.op("minimum", keys, nan))


def _decompose_argsort(b: Builder, node: Node) -> tuple[Value, ...]:
    (x,) = node.operands
    keys, digits = _keys(b, x)
    order = b.op("iota", dtype=I32, dims=x.dims, axis=len(x.dims) - 1)
    for digit in range(digits):
        order = b.op("radix_pass", keys, order, shift=DIGIT * digit)
    return (order,)


argsort = register(Op(
    "argsort", "where the elements along the last axis stand that, put side by side, are in "
    "ascending order; equal ones, as 0.0 and -0.0 are, stay in their order; nan comes last",
    _infer_argsort, _eval_argsort, not_differentiable(_INDICES),
    tuple(Sample((kind,), (), -5, 5)
          for kind in ("f32[3, 5]", "f32[17]", "f32[2, 3, 1]", "i32[40]", "i8[300]", "i16[9]",
                       "u8[300]", "i64[17]", "bool[17]")),
    decompose=_decompose_argsort, cost=40,
))

__all__ = ["DIGIT"]
