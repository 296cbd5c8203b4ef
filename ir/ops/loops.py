"""Structured control flow: scan, while and if. Their bodies are graphs.

A body is open: it speaks of the symbols of the graph around it, and gets every value that it uses
as a parameter, so that it can be read, differentiated and lowered by itself. Parameters of a body
are the carried values, then (of a scan) the items of a turn, then what is captured, which stays the
same in all turns.

The flag `recompute` of a scan is about its gradient: of its turns nothing but what is carried is
kept, and all else computed again on the way back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dlc.ir.dims import Dim, Poly, evaluate
from dlc.ir.ops.op import (
    STRUCTURED,
    Array,
    EvalCall,
    Op,
    TypeRuleError,
    array_shape,
    dense,
    not_differentiable,
    register,
)
from dlc.ir.types import BOOL, TensorType, Type, tensor

if TYPE_CHECKING:
    from dlc.ir.graph import Attr, Graph, Node, Value


def scan_parts(node: Node) -> tuple[tuple[Value, ...], tuple[Value, ...], tuple[Value, ...]]:
    """The operands of a scan: initial values, tensors it goes over, what is captured."""
    carried, items = counts(dict(node.attrs))
    return (node.operands[:carried], node.operands[carried:carried + items],
            node.operands[carried + items:])


def counts(attrs: dict[str, Attr]) -> tuple[int, int]:
    """How many values a scan carries, and over how many tensors it goes."""
    carried, items = attrs["carried"], attrs["items"]
    assert isinstance(carried, int)
    assert isinstance(items, int)
    return carried, items


def carried_of(node: Node) -> int:
    """How many values a loop carries from turn to turn; all other nodes carry none."""
    return _carried(dict(node.attrs)) if node.op in ("scan", "while") else 0


def length_of(node: Node) -> Dim:
    """How often a scan turns."""
    length = node.attr("length")
    assert isinstance(length, int | Poly)
    return length


def first_given(node: Node) -> int:
    """The first operand that is a parameter of the bodies: the condition of an `if` is none."""
    return 1 if node.op == "if" else 0


def item_type(kind: Type) -> TensorType:
    """The type of a turn's part of a tensor: without its first dim."""
    whole = dense(kind, "scan")
    if not whole.dims:
        raise TypeRuleError(f"scan goes over tensors, not over {whole}")
    return tensor(whole.dtype, whole.dims[1:])


def stacked_type(kind: Type, length: Dim) -> TensorType:
    """The type of what all turns yield, one behind the other."""
    part = dense(kind, "scan")
    return tensor(part.dtype, (length, *part.dims))


def _expect(what: str, found: Sequence[Type], wanted: Sequence[Type]) -> None:
    if tuple(found) != tuple(wanted):
        raise TypeRuleError(f"{what}: ({', '.join(map(str, found))}) is not "
                            f"({', '.join(map(str, wanted))})")


def _types(values: Sequence[Value]) -> tuple[Type, ...]:
    return tuple(v.type for v in values)


def _infer_scan(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    (body,) = regions
    carried, items = counts(attrs)
    length = attrs["length"]
    assert not isinstance(length, bool | float | str | tuple)
    for kind in kinds[carried:carried + items]:
        if dense(kind, "scan").dims[:1] != (length,):
            raise TypeRuleError(f"scan of {length} turns goes over {kind}")
    parts = (*kinds[:carried], *map(item_type, kinds[carried:carried + items]),
             *kinds[carried + items:])
    _expect("what a turn gets", _types(body.inputs), parts)
    _expect("what is carried", _types(body.results[:carried]), kinds[:carried])
    yields = (stacked_type(v.type, length) for v in body.results[carried:])  # type: ignore[arg-type]
    return (*kinds[:carried], *yields)


def _eval_scan(call: EvalCall) -> tuple[Array, ...]:
    from dlc.ir.interpret import run_body

    (body,) = call.regions
    carried, items = counts(dict(call.attrs))
    length = evaluate(call.attrs["length"], call.env)  # type: ignore[arg-type]
    state = call.inputs[:carried]
    over, captured = call.inputs[carried:carried + items], call.inputs[carried + items:]
    stacks = [np.zeros(array_shape(kind, call.env), dense(kind, "scan").dtype.numpy)
              for kind in call.types[carried:]]
    turns = range(length)
    for turn in reversed(turns) if call.attrs["reverse"] else turns:
        results = run_body(body, (*state, *(x[turn] for x in over), *captured), call.env)
        state = results[:carried]
        for stack, part in zip(stacks, results[carried:], strict=True):
            stack[turn] = part
    return (*state, *stacks)


scan = register(Op(
    "scan", "runs its body once for each place of a leading axis, and carries values from turn to "
    "turn; gives what was carried at the end, and what each turn yielded, stacked",
    _infer_scan, _eval_scan, STRUCTURED, (), attrs=("carried", "items", "length", "reverse"),
    flags=("recompute",), kernel="control",
))


def _carried(attrs: dict[str, Attr]) -> int:
    carried = attrs["carried"]
    assert isinstance(carried, int)
    return carried


def _infer_while(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    condition, body = regions
    carried = _carried(attrs)
    _expect("what the condition gets", _types(condition.inputs), kinds)
    _expect("the condition", _types(condition.results), (tensor(BOOL),))
    _expect("what a turn gets", _types(body.inputs), kinds)
    _expect("what is carried", _types(body.results), kinds[:carried])
    return kinds[:carried]


def _eval_while(call: EvalCall) -> tuple[Array, ...]:
    from dlc.ir.interpret import run_body

    condition, body = call.regions
    carried = _carried(dict(call.attrs))
    state, captured = call.inputs[:carried], call.inputs[carried:]
    while bool(run_body(condition, (*state, *captured), call.env)[0]):
        state = run_body(body, (*state, *captured), call.env)
    return tuple(state)


while_ = register(Op(
    "while", "runs its second body as long as the first one gives true, and carries values from "
    "turn to turn", _infer_while, _eval_while,
    not_differentiable("how often it turns is known only when it ends, so nothing can be kept of "
                       "its turns"), (), attrs=("carried",), kernel="control",
))


def _infer_if(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    then, otherwise = regions
    if kinds[:1] != (tensor(BOOL),):
        raise TypeRuleError(f"`if` takes a scalar bool, not {kinds[0]}")
    _expect("what the first branch gets", _types(then.inputs), kinds[1:])
    _expect("what the second branch gets", _types(otherwise.inputs), kinds[1:])
    _expect("what the branches give", _types(otherwise.results), _types(then.results))
    return _types(then.results)


def _eval_if(call: EvalCall) -> tuple[Array, ...]:
    from dlc.ir.interpret import run_body

    then, otherwise = call.regions
    chosen = then if bool(call.inputs[0]) else otherwise
    return run_body(chosen, call.inputs[1:], call.env)


if_ = register(Op(
    "if", "runs one of its two bodies, as the first operand says", _infer_if, _eval_if,
    STRUCTURED, (), kernel="control",
))
