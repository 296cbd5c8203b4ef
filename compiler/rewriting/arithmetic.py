"""Rules for elementwise ops.

They keep every bit of a result, nan payloads aside, with two exceptions. A zero added to a
gradient is dropped, although -0.0 + 0.0 is 0.0. Two constant factors become one if one of them is
a power of two, which rounds alike unless a product on the way leaves the range of normal numbers.
"""

from __future__ import annotations

import math
from typing import Final

from dlc.compiler.rewriting.rewrite import ELEMENTWISE, Rewriter, Rule
from dlc.ir.graph import Node, Value
from dlc.ir.types import BF16, BOOL, F16, F32, F64, I8, I16, I32, I64, U8, DType

# What a cast to each of these types keeps exactly, so that a second cast sees the same number.
HOLDS: Final[dict[DType, tuple[DType, ...]]] = {
    I16: (U8, I8), I32: (U8, I8, I16), I64: (U8, I8, I16, I32),
    F16: (U8, I8), BF16: (U8, I8), F32: (U8, I8, I16, F16, BF16),
    F64: (U8, I8, I16, I32, F16, BF16, F32),
}
_SMALLEST: Final = {F16: 2.0**-14, BF16: 2.0**-126, F32: 2.0**-126, F64: 2.0**-1022}


def drop_factor_one(r: Rewriter, node: Node) -> Value | None:
    """x * 1 -> x"""
    x, y = node.operands
    if r.splat(y) == 1:
        return x
    return y if r.splat(x) == 1 else None


def factor_minus_one(r: Rewriter, node: Node) -> Value | None:
    """x * -1 -> neg x"""
    x, y = node.operands
    if r.splat(y) == -1:
        return r.op("neg", x)
    return r.op("neg", y) if r.splat(x) == -1 else None


def merge_factors(r: Rewriter, node: Node) -> Value | None:
    """(x * c) * d -> x * (c * d), for a power of two among c and d"""
    if node.result.dtype is not F32 and node.result.dtype is not F64:
        return None
    for inner, d in (node.operands, node.operands[::-1]):
        second, product = r.splat(d), r.maker(inner, "mul")
        if second is None or product is None:
            continue
        for x, c in (product.operands, product.operands[::-1]):
            first = r.splat(c)
            if first is None or not (_is_power_of_two(first) or _is_power_of_two(second)):
                continue
            if _is_normal(first * second, node.result.dtype):
                return r.op("mul", x, r.constant(first * second, node.result.type))
    return None


def drop_zero_term(r: Rewriter, node: Node) -> Value | None:
    """x + 0 -> x: for integers, for -0.0, and for any zero in a gradient"""
    x, y = node.operands
    for kept, zero in ((x, y), (y, x)):
        number = r.splat(zero)
        if number == 0 and (
            not kept.dtype.is_float or node.phase == "backward" or math.copysign(1, number) < 0
        ):
            return kept
    return None


def drop_zero_subtrahend(r: Rewriter, node: Node) -> Value | None:
    """x - 0 -> x, but for -0.0"""
    number = r.splat(node.operands[1])
    return node.operands[0] if number == 0 and math.copysign(1, number) > 0 else None


def drop_divisor_one(r: Rewriter, node: Node) -> Value | None:
    """x / 1 -> x"""
    return node.operands[0] if r.splat(node.operands[1]) == 1 else None


def divisor_to_factor(r: Rewriter, node: Node) -> Value | None:
    """x / c -> x * (1 / c), for a power of two"""
    x, c = node.operands
    number = r.splat(c)
    if number is None or not _is_power_of_two(number) or not _is_normal(1 / number, x.dtype):
        return None
    return r.op("mul", x, r.constant(1 / number, x.type))


def cancel_neg(r: Rewriter, node: Node) -> Value | None:
    """neg (neg x) -> x"""
    inner = r.maker(node.operands[0], "neg")
    return inner.operands[0] if inner else None


def cancel_not(r: Rewriter, node: Node) -> Value | None:
    """not (not x) -> x"""
    inner = r.maker(node.operands[0], "not")
    return inner.operands[0] if inner else None


def add_of_neg(r: Rewriter, node: Node) -> Value | None:
    """x + neg y -> x - y, and neg x + y -> y - x"""
    x, y = node.operands
    if inner := r.maker(y, "neg"):
        return r.op("sub", x, inner.operands[0])
    inner = r.maker(x, "neg")
    return r.op("sub", y, inner.operands[0]) if inner else None


def sub_of_neg(r: Rewriter, node: Node) -> Value | None:
    """x - neg y -> x + y"""
    inner = r.maker(node.operands[1], "neg")
    return r.op("add", node.operands[0], inner.operands[0]) if inner else None


def drop_cast(r: Rewriter, node: Node) -> Value | None:
    """cast x to its own type -> x"""
    return node.operands[0] if node.operands[0].dtype is node.result.dtype else None


def merge_casts(r: Rewriter, node: Node) -> Value | None:
    """cast (cast x to a) to b -> cast x to b, where every x is some a"""
    inner = r.maker(node.operands[0], "cast")
    if inner is None:
        return None
    x, between = inner.operands[0], inner.result.dtype
    if x.dtype is not BOOL and x.dtype not in HOLDS.get(between, ()):
        return None
    return r.op("cast", x, to=node.result.dtype)


def select_known(r: Rewriter, node: Node) -> Value | None:
    """select true, x, y -> x; select false, x, y -> y; select c, x, x -> x"""
    condition, x, y = node.operands
    if x is y:
        return x
    known = r.splat(condition)
    if known is None:
        return None
    return x if known else y


def select_by_not(r: Rewriter, node: Node) -> Value | None:
    """select (not c), x, y -> select c, y, x"""
    inner = r.maker(node.operands[0], "not")
    if inner is None:
        return None
    return r.op("select", inner.operands[0], node.operands[2], node.operands[1])


def logic_with_known(r: Rewriter, node: Node) -> Value | None:
    """x and true -> x; x or false -> x; x and false -> false; x or true -> true"""
    x, y = node.operands
    neutral = node.op == "and"
    for other, constant in ((x, y), (y, x)):
        known = r.splat(constant)
        if known is not None:
            return other if bool(known) is neutral else constant
    return None


def compute_before_broadcast(r: Rewriter, node: Node) -> Value | None:
    """op(broadcast x, broadcast y) -> broadcast op(x, y), the numbers among operands aside"""
    spread: Node | None = None
    for operand in node.operands:
        maker = r.maker(operand, "broadcast")
        if maker is None:
            return None
        if r.splat(operand) is not None:
            continue
        if spread is None:
            spread = maker
        elif maker.attrs != spread.attrs or maker.operands[0].dims != spread.operands[0].dims:
            return None
    if spread is None:
        return None
    dims = spread.operands[0].dims
    inner: list[Value] = []
    for operand in node.operands:
        number = r.splat(operand)
        small = r.maker(operand, "broadcast")
        assert small is not None
        inner.append(
            small.operands[0] if number is None else r.broadcast(small.operands[0], dims)
        )
    result = r.make(node.op, tuple(inner), dict(node.attrs))
    return r.make("broadcast", (result,), dict(spread.attrs))


def _is_power_of_two(number: float) -> bool:
    return math.isfinite(number) and number != 0 and abs(math.frexp(number)[0]) == 0.5


def _is_normal(number: float, dtype: DType) -> bool:
    smallest = _SMALLEST.get(dtype, 1.0)
    return smallest <= abs(number) < 1 / smallest


ARITHMETIC: Final = (
    Rule(("mul",), drop_factor_one),
    Rule(("mul",), factor_minus_one),
    Rule(("mul",), merge_factors),
    Rule(("add",), drop_zero_term),
    Rule(("add",), add_of_neg),
    Rule(("sub",), drop_zero_subtrahend),
    Rule(("sub",), sub_of_neg),
    Rule(("div",), drop_divisor_one),
    Rule(("div",), divisor_to_factor),
    Rule(("neg",), cancel_neg),
    Rule(("not",), cancel_not),
    Rule(("cast",), drop_cast),
    Rule(("cast",), merge_casts),
    Rule(("select",), select_known),
    Rule(("select",), select_by_not),
    Rule(("and", "or"), logic_with_known),
    Rule((ELEMENTWISE,), compute_before_broadcast),
)
