"""Ops that hold graphs, mark places or have effects: call, gradient, check, print, …"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlc.ir.dims import Dim, Poly
from dlc.ir.ops.op import (
    Array,
    EvalCall,
    Op,
    Read,
    Sample,
    TypeRuleError,
    dense,
    not_differentiable,
    register,
)
from dlc.ir.types import BOOL, I64, TensorType, Type, substitute_type, tensor

if TYPE_CHECKING:
    from dlc.ir.graph import Attr, Builder, Graph, Node, Value


def bind_symbols(declared: tuple[Type, ...], given: tuple[Type, ...]) -> dict[str, Dim]:
    """What each symbol that stands alone as a dim of `declared` is in `given`.

    TypeRuleError if the types do not agree under that binding.
    """
    bound: dict[str, Dim] = {}
    for d, g in zip(declared, given, strict=True):
        if isinstance(d, TensorType) and isinstance(g, TensorType) and d.rank == g.rank:
            for name, dim in zip(d.dims, g.dims, strict=True):
                if isinstance(name, Poly) and str(name) in name.symbols:
                    bound.setdefault(str(name), dim)
    for d, g in zip(declared, given, strict=True):
        if substitute_type(d, bound) is not g:
            raise TypeRuleError(f"{g} is not {d}")
    return bound


def _infer_call(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    (graph,) = regions
    if len(kinds) != len(graph.params):
        raise TypeRuleError(f"{graph.name} takes {len(graph.params)} values, not {len(kinds)}")
    bound = bind_symbols(tuple(v.type for v in graph.inputs), kinds)
    return tuple(substitute_type(v.type, bound) for v in graph.results)


def _eval_call(call: EvalCall) -> tuple[Array, ...]:
    from dlc.ir.interpret import run_graph

    return run_graph(call.regions[0], call.inputs)


call = register(Op(
    "call", "runs another graph: a function kept whole (an optimizer, a repeated block)",
    _infer_call, _eval_call,
    not_differentiable("a call is expanded before its gradient is taken"), (), kernel="call",
))


def _infer_gradient(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    loss = dense(kinds[0], "gradient")
    if loss.dims or not loss.dtype.is_float:
        raise TypeRuleError(f"a gradient is taken of a scalar float, not of {loss}")
    for kind in kinds[1:]:
        if not dense(kind, "gradient").dtype.is_float:
            raise TypeRuleError(f"there is no gradient with respect to {kind}")
    return kinds[1:]


def _eval_gradient(call: EvalCall) -> tuple[Array, ...]:
    raise TypeRuleError("a gradient has no value before the program is differentiated")


gradient = register(Op(
    "gradient", "the derivative of the first operand by each other one; differentiate expands it",
    _infer_gradient, _eval_gradient,
    not_differentiable("inner gradients are expanded before outer ones are taken"), (),
    kernel="effect",
))


def _infer_same(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    return (dense(kinds[0], "stop_gradient"),)


def _no_gradient(b: Builder, node: Node, g: tuple[Value, ...]) -> tuple[Value | None, ...]:
    return (None,)


stop_gradient = register(Op(
    "stop_gradient", "the value itself, through which no gradient flows", _infer_same,
    lambda call: (call.inputs[0],), _no_gradient, (Sample(("f32[3, 5]",)), Sample(("f32",))),
    access=lambda node, index: Read(index),
))


pack = register(Op(
    "pack", "the value itself, stored anew in the layout in which it is next read", _infer_same,
    lambda call: (call.inputs[0],), lambda b, node, g: (g[0],),
    (Sample(("f32[3, 5]",)), Sample(("f32",))), access=lambda node, index: Read(index),
))


def _infer_check(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    kind = dense(kinds[0], "check")
    if kind.dtype is not BOOL or kind.dims:
        raise TypeRuleError(f"check takes a scalar bool, not {kind}")
    if len(kinds) > 1 and kinds[1:] != (tensor(I64),):
        raise TypeRuleError(f"check tells of one i64, not of {', '.join(map(str, kinds[1:]))}")
    return ()


class CheckError(ValueError):
    """A check failed as the reference interpreter ran."""


def _eval_check(call: EvalCall) -> tuple[Array, ...]:
    if not bool(call.inputs[0]):
        text = str(call.attrs["text"])
        if len(call.inputs) > 1:
            text = text.replace("{value}", str(int(call.inputs[1])))
        raise CheckError(text)
    return ()


check = register(Op(
    "check", "stops the program, before any variable is written, unless the first operand is true; "
    "`{value}` in its text is the second one",
    _infer_check, _eval_check, not_differentiable("it gives no value"), (), attrs=("text",),
    kernel="effect",
))


def _infer_print(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    parts = attrs["parts"]
    if not isinstance(parts, tuple) or len(parts) != len(kinds) + 1:
        raise TypeRuleError(f"print takes texts round each value, not {parts}")
    for kind in kinds:
        dense(kind, "print")
    return ()


def _eval_print(call: EvalCall) -> tuple[Array, ...]:
    parts = call.attrs["parts"]
    assert isinstance(parts, tuple)
    texts = [str(part) for part in parts]
    print(texts[0] + "".join(f"{x}{text}" for x, text in zip(call.inputs, texts[1:], strict=True)))
    return ()


print_ = register(Op(
    "print", "prints its operands, each between two texts, as the program runs",
    _infer_print, _eval_print, not_differentiable("it gives no value"), (), attrs=("parts",),
    kernel="effect",
))
