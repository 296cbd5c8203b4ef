"""What the checks of kernels, schedules and loops share: the error, and types of scalar ops."""

from __future__ import annotations

from functools import cache

from dlc.ir.expression_text import Attrs
from dlc.ir.ops import OPS, TypeRuleError, dense
from dlc.ir.scalar import COMPARISONS, PRIMITIVES, UNARY
from dlc.ir.types import BOOL, DType, tensor


class KernelError(Exception):
    """What is wrong with a kernel, a schedule or loops: in which, at what, expected and found."""

    def __init__(self, name: str, place: str, message: str) -> None:
        self.name, self.place, self.message = name, place, message
        super().__init__(f"{name}: {place}: {message}" if place else f"{name}: {message}")


@cache
def result_dtype(op: str, operands: tuple[DType, ...], attrs: Attrs = ()) -> DType:
    """The type of an elementwise op or primitive; TypeRuleError if the operands do not fit it."""
    definition = OPS.get(op)
    if definition is not None and definition.formula is not None:
        ordered = definition.order_attrs(dict(attrs))
        (kind,) = definition.infer(tuple(map(tensor, operands)), dict(ordered), ())
        return dense(kind, op).dtype
    if op not in PRIMITIVES:
        raise TypeRuleError(f"{op} is no elementwise op")
    return _primitive(op, operands)


def _primitive(op: str, operands: tuple[DType, ...]) -> DType:
    expected = {"fma": 3, "select": 3}.get(op, 1 if op in UNARY else 2)
    if len(operands) != expected:
        raise TypeRuleError(f"{op} takes {expected} operands, not {len(operands)}")
    alike = operands[1:] if op == "select" else operands
    if (op == "select" and operands[0] is not BOOL) or len(set(alike)) != 1:
        raise TypeRuleError(f"{op} does not take {', '.join(map(str, operands))}")
    return BOOL if op in COMPARISONS else alike[0]


__all__ = ["KernelError", "TypeRuleError", "result_dtype"]
