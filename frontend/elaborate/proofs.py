"""What can't be proved of symbolic dims, and is put off to the call."""

from __future__ import annotations

from dlc.frontend.elaborate.frames import Frame
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
    symbol,
)


def put_off(frame: Frame, a: Dim, b: Dim, span: Span) -> bool:
    """Whether `a == b` holds where some `//` in them is exact; that is then checked at the call."""
    difference = a - b
    if not isinstance(difference, Poly):
        return False
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
