"""Sizes as a manifest writes them: integers, symbols, and expressions over both.

DIM = int | "N" | [op, DIM, DIM]        op one of  + - * // % max min
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

__all__ = ["Expression", "evaluate", "format_dim", "holds", "solve", "symbols_of"]

Expression: TypeAlias = "int | str | Sequence[Expression]"

_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "max": max,
    "min": min,
}
_RELATIONS: dict[str, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    "!=": operator.ne,
}


def evaluate(dim: Expression, values: Mapping[str, int]) -> int:
    """The value of `dim`; KeyError for a symbol without a value."""
    if isinstance(dim, int):
        return dim
    if isinstance(dim, str):
        return values[dim]
    name, left, right = dim
    return _OPERATORS[str(name)](evaluate(left, values), evaluate(right, values))


def holds(left: Expression, relation: str, right: Expression, values: Mapping[str, int]) -> bool:
    """Whether `left relation right` is true."""
    return _RELATIONS[relation](evaluate(left, values), evaluate(right, values))


def symbols_of(dim: Expression) -> frozenset[str]:
    """The symbols in `dim`."""
    if isinstance(dim, int):
        return frozenset()
    if isinstance(dim, str):
        return frozenset((dim,))
    return symbols_of(dim[1]) | symbols_of(dim[2])


def solve(dim: Expression, size: int, values: Mapping[str, int]) -> tuple[str, int] | None:
    """The one symbol of `dim` without a value, and the value with which `dim` is `size`.

    None where there is not exactly one such symbol, or where `dim` is not linear in it.
    """
    unknown = [name for name in symbols_of(dim) if name not in values]
    if len(unknown) != 1:
        return None
    name = unknown[0]
    low, high = (evaluate(dim, {**values, name: probe}) for probe in (1, 2))
    if high == low:
        return None
    guess = 1 + (size - low) // (high - low)
    return (name, guess) if evaluate(dim, {**values, name: guess}) == size else None


def format_dim(dim: Expression) -> str:
    """`dim` as one would write it."""
    if isinstance(dim, int | str):
        return str(dim)
    name, left, right = str(dim[0]), format_dim(dim[1]), format_dim(dim[2])
    if name in ("max", "min"):
        return f"{name}({left}, {right})"
    return f"({left} {name} {right})"
