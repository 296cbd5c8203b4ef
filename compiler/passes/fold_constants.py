"""Computes at compile time what depends on constants alone.

    %c = constant {value = 2.0}     →      %c = constant {value = 2.0}
    %d = mul %c, %c                        %d = constant {value = 4.0}

Requires valid IR; ensures that no elementwise node has only constant operands, and that no small
tensor is computed from `table`s alone. One number all over a tensor stays one number (so its dims
may be symbols); up to `LARGEST` elements become a `table`. Elementwise ops are evaluated by the
formulas from which code is generated: the bits are those that the program would have computed.
"""

from __future__ import annotations

from typing import Final

from dlc.compiler.rewriting.rewrite import ELEMENTWISE, Rewriter, Rule, rewrite
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.ops import OPS, EvalCall
from dlc.ir.ops.elementwise import evaluate_formula
from dlc.ir.scalar import Array
from dlc.ir.types import BF16, TensorType, size

LARGEST: Final = 4096


def fold_constants(graph: Graph) -> Graph:
    """`graph` with constants computed; `graph` itself if there are none to compute."""
    return rewrite(graph, RULES)


def fold_numbers(r: Rewriter, node: Node) -> Value | None:
    """op(c, d) -> constant, where c and d are one number all over"""
    if node.result.dtype is BF16:
        return None
    numbers: list[float] = []
    for operand in node.operands:
        number = r.splat(operand)
        if number is None or operand.dtype is BF16:
            return None
        numbers.append(number)
    inputs = [_array(n, v) for n, v in zip(numbers, node.operands, strict=True)]
    result = evaluate_formula(OPS[node.op], dict(node.attrs), *inputs)
    dtype = node.result.dtype
    scalar = r.op("constant", hint="c", dtype=dtype, value=result.astype(dtype.numpy).item())
    return r.broadcast(scalar, node.result.dims)


def fold_tables(r: Rewriter, node: Node) -> Value | None:
    """op(table, …) -> table"""
    kind = node.result.type
    if not isinstance(kind, TensorType) or BF16 in (kind.dtype, node.operands[0].dtype):
        return None
    count = size(kind)
    if not isinstance(count, int) or count > LARGEST:
        return None
    if not any(r.maker(operand, "table") for operand in node.operands):
        return None
    inputs: list[Array] = []
    for operand in node.operands:
        array = _constant_array(r, operand)
        if array is None:
            return None
        inputs.append(array)
    op = OPS[node.op]
    if op.formula is not None:
        result = evaluate_formula(op, dict(node.attrs), *inputs)
    else:
        (result,) = op.eval(EvalCall(tuple(inputs), dict(node.attrs), {}, (kind,)))
    values = tuple(result.astype(kind.dtype.numpy).ravel().tolist())
    if not kind.dims:
        return r.op("constant", dtype=kind.dtype, value=values[0])
    return r.op("table", dtype=kind.dtype, dims=kind.dims, values=values)


def _array(number: float, operand: Value) -> Array:
    import numpy as np

    return np.asarray(number, operand.dtype.numpy)


def _constant_array(r: Rewriter, value: Value) -> Array | None:
    """The elements of a constant; None if it is none, or too large."""
    import numpy as np

    node = r.maker(value, "table")
    if node is not None:
        return OPS["table"].eval(EvalCall((), dict(node.attrs), {}, (value.type,)))[0]
    number, count = r.splat(value), size(value.tensor)
    if number is None or not isinstance(count, int) or count > LARGEST:
        return None
    shape = tuple(d for d in value.dims if isinstance(d, int))
    return np.full(shape, number, value.dtype.numpy)


# `broadcast` is not folded: a map of indices costs nothing, many equal elements do.
_MOVERS = ("reshape", "transpose", "slice", "pad", "contract", "reduce_max", "argmax")
RULES = (Rule((ELEMENTWISE,), fold_numbers), Rule((ELEMENTWISE, *_MOVERS), fold_tables))
