"""What can be proved of an index expression when its indices have known ranges.

Symbols are at least 1. A range is (lowest, highest), both inclusive, as dims over symbols and over
indices that have ranges themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from dlc.ir.dims import (
    Atom,
    Dim,
    Monomial,
    Poly,
    add_to,
    coefficient,
    floordiv,
    lower_bound,
    maximum,
    minimum,
    mod,
    of_terms,
    substitute,
    symbol,
    symbols,
)
from dlc.ir.kernel import Access, Compute, Index, Kernel, Opaque, Seq

Ranges = Mapping[str, tuple[Dim, Dim]]


def nonnegative(dim: Dim, ranges: Ranges) -> bool:
    """Whether `dim >= 0` can be proved."""
    if isinstance(dim, int):
        return dim >= 0
    own = _own(dim, ranges)
    return _is_nonnegative(dim, ranges) if own is None else _is_known_nonnegative(dim, *own)


def _own(dim: Poly, ranges: Ranges) -> tuple[tuple[Dim, Dim] | None, ...] | None:
    """The ranges of the symbols of `dim`, in their order; None if one depends on an index that has
    a range too. They decide all about `dim`: what is known by them is remembered."""
    found = tuple(map(ranges.get, dim.symbols))
    for one in found:
        if one is not None:
            for side in one:
                if not isinstance(side, int) and any(map(ranges.__contains__, side.symbols)):
                    return None
    return found


def _named(dim: Poly, own: tuple[tuple[Dim, Dim] | None, ...]) -> Ranges:
    return {name: one for name, one in zip(dim.symbols, own, strict=True) if one is not None}


@lru_cache(1 << 14)
def _is_known_nonnegative(dim: Poly, *own: tuple[Dim, Dim] | None) -> bool:
    return _is_nonnegative(dim, _named(dim, own))


def _is_nonnegative(dim: Poly, ranges: Ranges) -> bool:
    chosen = _choice(dim)
    if chosen is not None:
        some, sides = chosen
        return (any if some else all)(nonnegative(side, ranges) for side in sides)
    low = extreme(dim, ranges, -1)
    if low is not None and lower_bound(_relax(low)) >= 0:
        return True
    within = _least_of_innermost(dim, ranges)
    return within is not None and nonnegative(within, ranges)


def _least_of_innermost(dim: Dim, ranges: Ranges) -> Dim | None:
    """`dim` with the bound of an index that others bound, so that a choice in the bound is seen:
    `i + k` is at least `i + max(1 - i, 0)`, the larger of 1 and `i`. None if there is none."""
    names = symbols(dim) & ranges.keys()
    if not names:
        return None
    name = _innermost(names, ranges)
    factor = coefficient(dim, name)
    if not isinstance(factor, int):
        return None
    bound = ranges[name][factor < 0]
    if isinstance(bound, int) or bound.plain or not symbols(bound) & ranges.keys():
        return None
    return substitute(dim, {name: bound})


def _choice(dim: Poly) -> tuple[bool, tuple[Dim, Dim]] | None:
    """A sum with a minimum or a maximum in it as two sums, and whether one that is not negative is
    enough: `x - min(a, b)` is the larger of `x - a` and `x - b`."""
    if dim.plain:
        return None
    for monomial, number in dim.terms:
        if len(monomial) == 1 and monomial[0][1] == 1 and isinstance(monomial[0][0], Atom):
            atom = monomial[0][0]
            if atom.kind in ("min", "max"):
                rest = dim - number * _as_dim(atom)
                sides = rest + number * atom.left, rest + number * atom.right
                return (atom.kind == "max") == (number > 0), sides
    return None


def index_ranges(kernel: Kernel) -> dict[str, tuple[Dim, Dim]]:
    """The ranges of the indices of a kernel; one whose bounds are loaded has none."""
    indices = [*kernel.outer, *inner_indices(kernel.body)]
    return {i.name: (i.low, i.high - 1) for i in indices
            if not isinstance(i.low, Access) and not isinstance(i.high, Access)}


def inner_indices(body: tuple[Compute | Seq | Opaque, ...]) -> Iterator[Index]:
    """The indices of a body besides the outer ones: of computes, and of ordered loops."""
    for step in body:
        if isinstance(step, Compute):
            yield from step.over
        elif isinstance(step, Seq):
            yield step.index
            yield from inner_indices(step.body)


def extreme(dim: Dim, ranges: Ranges, side: int) -> Dim | None:
    """A dim over symbols that bounds `dim` above (side 1) or below (-1); None if none is seen."""
    for _ in range(64):
        names = symbols(dim) & ranges.keys()
        if not names:
            return dim
        name = _innermost(names, ranges)
        factor = coefficient(dim, name)
        if isinstance(factor, int):
            low, high = ranges[name]
            dim = substitute(dim, {name: high if factor * side > 0 else low})
        else:
            replaced = _bound_atoms(dim, name, ranges, side)
            if replaced is None:
                return None
            dim = replaced
    return None


def _innermost(names: frozenset[str], ranges: Ranges) -> str:
    """A name that no range of the others depends on: it goes first."""
    ordered = sorted(names)
    for name in ordered if len(ordered) > 1 else ():
        if not any(name in symbols(e) for other in ordered if other != name
                   for e in ranges[other]):
            return name
    return ordered[0]


def _bound_atoms(dim: Dim, name: str, ranges: Ranges, side: int) -> Dim | None:
    """Replaces each atom that holds `name` by a bound of it."""
    assert isinstance(dim, Poly)
    total: Dim = 0
    for monomial, number in dim.terms:
        term: Dim = number
        for factor, power in monomial:
            value: Dim | None = symbol(factor) if isinstance(factor, str) else _as_dim(factor)
            if isinstance(factor, Atom) and name in symbols(value or 0):
                if power > 1 or len(monomial) > 1:
                    return None
                value = _atom_extreme(factor, ranges, side if number > 0 else -side)
                if value is None:
                    return None
            for _ in range(power):
                assert value is not None
                term = term * value
        total = total + term
    return total


def _atom_extreme(atom: Atom, ranges: Ranges, side: int) -> Dim | None:
    if atom.kind in ("max", "min"):
        sides = [extreme(e, ranges, side) for e in (atom.left, atom.right)]
        left, right = sides
        if left is None or right is None:
            return None
        return maximum(left, right) if atom.kind == "max" else minimum(left, right)
    if not isinstance(atom.right, int) or atom.right <= 0:
        return None
    if atom.kind == "%":
        return 0 if side < 0 else atom.right - 1
    inner = extreme(atom.left, ranges, side)
    return None if inner is None else floordiv(inner, atom.right)


def _as_dim(atom: Atom) -> Dim:
    return {"//": floordiv, "%": mod, "max": maximum, "min": minimum}[atom.kind](
        atom.left, atom.right)


def _relax(dim: Dim) -> Dim:
    """A lower bound without `-k * (e // d)` where d divides k: `d * (e // d) <= e`."""
    if isinstance(dim, int) or dim.plain:
        return dim
    out: dict[Monomial, int] = {}
    for monomial, number in dim.terms:
        atom = monomial[0][0] if len(monomial) == 1 and monomial[0][1] == 1 else None
        if (isinstance(atom, Atom) and atom.kind == "//" and number < 0
                and isinstance(atom.right, int) and atom.right > 0 and number % atom.right == 0):
            add_to(out, number // atom.right, atom.left)
        else:
            out[monomial] = out.get(monomial, 0) + number
    return of_terms(out)


def simplify(dim: Dim, ranges: Ranges) -> Dim:
    """`dim` with divisions, remainders, maxima and minima resolved where the ranges decide them."""
    if isinstance(dim, int) or dim.plain:
        return dim
    own = _own(dim, ranges)
    return _simplified(dim, ranges) if own is None else _known_simplified(dim, *own)


@lru_cache(1 << 14)
def _known_simplified(dim: Poly, *own: tuple[Dim, Dim] | None) -> Dim:
    return _simplified(dim, _named(dim, own))


def _simplified(dim: Poly, ranges: Ranges) -> Dim:
    out: dict[Monomial, int] = {}
    for monomial, number in dim.terms:
        term: Dim = 1
        for factor, power in monomial:
            value = symbol(factor) if isinstance(factor, str) else _resolve(factor, ranges)
            for _ in range(power):
                term = term * value
        add_to(out, number, term)
    return of_terms(out)


def _resolve(atom: Atom, ranges: Ranges) -> Dim:
    left, right = simplify(atom.left, ranges), simplify(atom.right, ranges)
    if atom.kind in ("max", "min"):
        if nonnegative(left - right, ranges):
            return left if atom.kind == "max" else right
        if nonnegative(right - left, ranges):
            return right if atom.kind == "max" else left
        return (maximum if atom.kind == "max" else minimum)(left, right)
    if isinstance(right, int) and right > 0:
        whole, rest = _exact(left, right)
        if nonnegative(rest, ranges) and nonnegative(right - 1 - rest, ranges):
            return whole if atom.kind == "//" else rest
    return (floordiv if atom.kind == "//" else mod)(left, right)


def _exact(dim: Dim, divisor: int) -> tuple[Dim, Dim]:
    """`dim == whole * divisor + rest`, the terms that the divisor divides being in `whole`."""
    if isinstance(dim, int):
        return dim // divisor, dim % divisor
    whole = of_terms({monomial: number // divisor for monomial, number in dim.terms
                      if number % divisor == 0})
    return whole, dim - whole * divisor


def bind(dim: Dim, point: Mapping[str, Dim], ranges: Ranges) -> Dim:
    """`dim` at a point, simplified."""
    return simplify(substitute(dim, point), ranges)
