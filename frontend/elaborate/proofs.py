"""What can't be proved of symbolic dims, and is put off to the call."""

from __future__ import annotations

from dlc.frontend.elaborate.frames import Frame
from dlc.ir import graph as ir
from dlc.ir.diagnostics import Span
from dlc.ir.dims import (
    Atom,
    Dim,
    Poly,
    coefficient,
    floordiv,
    maximum,
    minimum,
    mod,
    substitute,
    symbol,
    symbols,
)


def put_off(frame: Frame, a: Dim, b: Dim, span: Span) -> bool:
    """Whether `a == b` follows from what a `where` says is equal, or holds where some `//` in them
    is exact; that is then checked at the call."""
    difference = a - b
    if not isinstance(difference, Poly):
        return False
    if _follows(frame, difference):
        return True
    for atom in _divisions(difference):
        name = symbol("quotient")
        replaced = _replace(difference, atom, "quotient")
        factor = coefficient(replaced, "quotient")
        if factor is None or (isinstance(factor, int) and factor == 0):
            continue
        times = floordiv(factor, atom[1])
        if times * atom[1] != factor:
            continue
        if replaced - times * (atom[1] * name - atom[0]) == 0:
            rest = mod(atom[0], atom[1])
            text = f"{atom[0]} is a multiple of {atom[1]}"
            frame.context.require(rest, "==", 0, text, frame.loc(span))
            return True
    return False


def _follows(frame: Frame, difference: Dim) -> bool:
    """Whether a difference is 0 by the equations that are checked at the call: each is solved for a
    symbol that stands alone in it, and the symbol replaced in those after it."""
    values: list[dict[str, Dim]] = []
    for each in frame.context.conditions.values():
        if each.relation != "==":
            continue
        equation = each.left - each.right
        for value in values:
            equation = substitute(equation, value)
        for name in sorted(symbols(equation)):
            factor = coefficient(equation, name)
            if factor in (1, -1):
                values.append({name: symbol(name) - factor * equation})
                difference = substitute(difference, values[-1])
                break
    return difference == 0


def renamed(frame: Frame, value: ir.Value, dims: tuple[Dim, ...], span: Span) -> ir.Value:
    """A value under dims that equal its own where what was put off holds."""
    if value.dims == dims:
        return value
    rank = len(dims)
    return frame.emit(span, "slice", value, start=(0,) * rank, step=(1,) * rank, dims=dims)


def _divisions(dim: Poly) -> list[tuple[Dim, Dim]]:
    return [(f.left, f.right) for m, _ in dim.terms for f, _ in m
            if isinstance(f, Atom) and f.kind == "//"]


def _replace(dim: Poly, atom: tuple[Dim, Dim], name: str) -> Dim:
    """`dim` with the symbol `name` for every `atom[0] // atom[1]` that stands alone in it."""
    total: Dim = 0
    for monomial, number in dim.terms:
        term: Dim = number
        for factor, power in monomial:
            same = isinstance(factor, Atom) and (factor.left, factor.right) == atom
            if same and isinstance(factor, Atom) and factor.kind == "//":
                value: Dim = symbol(name)
            else:
                value = symbol(factor) if isinstance(factor, str) else _dim(factor)
            for _ in range(power):
                term = term * value
        total = total + term
    return total


def _dim(atom: Atom) -> Dim:
    make = {"//": floordiv, "%": mod, "max": maximum, "min": minimum}[atom.kind]
    return make(atom.left, atom.right)
