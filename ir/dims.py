"""Dims: integers, or polynomials over symbols, compared in normal form.

A `Dim` is an `int` or a `Poly`. A `Poly` is a sum of monomials with integer coefficients; the
factors of a monomial are symbols (`"N"`) and atoms that are not polynomial: floor division,
remainder, maximum and minimum of two dims. Polynomials are interned, so that equal ones are one
object and `==` costs nothing. The same class serves below the Graph, where kernel indices (`n`,
`v + r`) take the place of symbols: one arithmetic for sizes, bounds and addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, reduce
from operator import mul
from typing import Final

from dlc.ir.atoms import Atom as Atom
from dlc.ir.atoms import sum_text
from dlc.ir.intervals import Interval, floor_divide, remainder, times

Factor = str | Atom
Monomial = tuple[tuple[Factor, int], ...]  # (factor, power), sorted by text; () is the constant
Env = Mapping[str, int]


# A compilation asks the same of the same dims again and again: most answers are there already.
_remembered = lru_cache(1 << 16)


@_remembered
def _sum(a: Poly, b: Dim) -> Dim:
    out = dict(a.terms)
    add_to(out, 1, b)
    return of_terms(out)


@_remembered
def _difference(a: Poly, b: Dim) -> Dim:
    out = dict(a.terms)
    add_to(out, -1, b)
    return of_terms(out)


@_remembered
def _taken_from(a: Poly, b: Dim) -> Dim:
    return -a + b


@_remembered
def _negative(a: Poly) -> Dim:
    return of_terms({monomial: -number for monomial, number in a.terms})


@_remembered
def _product(a: Poly, b: Dim) -> Dim:
    out: dict[Monomial, int] = {}
    for left, x in a.terms:
        for right, y in (((), b),) if isinstance(b, int) else b.terms:
            monomial = _times(left, right)
            out[monomial] = out.get(monomial, 0) + x * y
    return of_terms(out)


class Poly:
    """A polynomial that is not a constant. Made by arithmetic on `symbol(name)`, never directly.

    `symbols` are the names that it depends on; `plain` is without atoms.
    """

    __slots__ = ("_text", "plain", "symbols", "terms")
    terms: tuple[tuple[Monomial, int], ...]
    symbols: frozenset[str]
    plain: bool

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms
        self._text: str | None = None
        self.plain = True
        names: set[str] = set()
        for monomial, _ in terms:
            for factor, _ in monomial:
                if isinstance(factor, str):
                    names.add(factor)
                else:
                    self.plain = False
                    names |= factor.symbols
        self.symbols = frozenset(names)

    # What is remembered is found without a call of Python's: half of the arithmetic's time.
    __add__ = __radd__ = _sum
    __sub__ = _difference
    __rsub__ = _taken_from
    __neg__ = _negative
    __mul__ = __rmul__ = _product

    def __floordiv__(self, other: Dim) -> Dim:
        return floordiv(self, other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        return floordiv(other, self)

    def __mod__(self, other: Dim) -> Dim:
        return mod(self, other)

    def __rmod__(self, other: Dim) -> Dim:
        return mod(other, self)

    def __str__(self) -> str:
        if self._text is None:
            self._text = sum_text(self.terms)
        return self._text

    __repr__ = __str__


Dim = int | Poly

_interned: dict[tuple[tuple[Monomial, int], ...], Poly] = {}
_KIND: Final[dict[str, Callable[[int, int], int]]] = {
    "//": lambda a, b: a // b if b else 0,
    "%": lambda a, b: a % b if b else 0,
    "max": max,
    "min": min,
}


@_remembered
def symbol(name: str) -> Poly:
    """The dim that is the symbol `name`."""
    return _intern(((((name, 1),), 1),))


def symbols(dim: Dim) -> frozenset[str]:
    """The names that `dim` depends on."""
    return dim.symbols if isinstance(dim, Poly) else frozenset()


def floordiv(a: Dim, b: Dim) -> Dim:
    """`a // b`, rounded down; what divides exactly is taken out of the division."""
    if isinstance(a, int) and isinstance(b, int):
        return _KIND["//"](a, b)
    if b == 1 or a == 0:
        return a
    whole, rest = _split(a, b)
    if rest == 0:
        return whole
    if isinstance(rest, int) and isinstance(b, int) and 0 <= rest < b:
        return whole
    return _as_dim(Atom("//", rest, b)) + whole


def mod(a: Dim, b: Dim) -> Dim:
    """`a % b`, with the sign of `b`."""
    if isinstance(a, int) and isinstance(b, int):
        return _KIND["%"](a, b)
    if b == 1:
        return 0
    _, rest = _split(a, b)
    if isinstance(rest, int) and isinstance(b, int):
        return rest % b
    return _as_dim(Atom("%", rest, b))


def maximum(a: Dim, b: Dim) -> Dim:
    """The larger of two dims."""
    return _extreme("max", a, b)


def minimum(a: Dim, b: Dim) -> Dim:
    """The smaller of two dims."""
    return _extreme("min", a, b)


def ceildiv(a: Dim, b: Dim) -> Dim:
    """`a / b`, rounded up."""
    return floordiv(a + b - 1, b)


def product(dims: tuple[Dim, ...]) -> Dim:
    """The product of all (1 of none)."""
    return reduce(mul, dims, 1)


def substitute(dim: Dim, values: Mapping[str, Dim]) -> Dim:
    """`dim` with symbols replaced by other dims."""
    if isinstance(dim, int):
        return dim
    return _substituted(dim, *map(values.get, dim.symbols))


def as_multiples(multiples: Mapping[str, int]) -> dict[str, Dim]:
    """Symbols of which is known that they are multiples of numbers, as such."""
    return {name: number * symbol(name) for name, number in multiples.items()}


@_remembered
def _substituted(dim: Poly, *found: Dim | None) -> Dim:
    """`found` is what stands for each of the symbols, in their order; None for what stays."""
    values = {name: one for name, one in zip(dim.symbols, found, strict=True) if one is not None}
    if not values:
        return dim
    out: dict[Monomial, int] = {}
    for monomial, number in dim.terms:
        add_to(out, number, _replaced(monomial, values))
    return of_terms(out)


def _replaced(monomial: Monomial, values: Mapping[str, Dim]) -> Dim:
    term: Dim = 1
    for factor, power in monomial:
        value = _substitute_factor(factor, values)
        for _ in range(power):
            term = term * value
    return term


def add_to(terms: dict[Monomial, int], number: int, dim: Dim) -> None:
    """Adds `number * dim` to a sum in the making: cheaper than a dim for each sum of two."""
    if isinstance(dim, int):
        terms[()] = terms.get((), 0) + number * dim
        return
    for monomial, own in dim.terms:
        terms[monomial] = terms.get(monomial, 0) + number * own


def evaluate(dim: Dim, env: Env) -> int:
    """The number that `dim` is under `env`; KeyError for a symbol that `env` lacks."""
    if isinstance(dim, int):
        return dim
    total = 0
    for monomial, coefficient in dim.terms:
        for factor, power in monomial:
            if isinstance(factor, str):
                value = env[factor]
            else:
                left, right = evaluate(factor.left, env), evaluate(factor.right, env)
                value = _KIND[factor.kind](left, right)
            coefficient *= value**power
        total += coefficient
    return total


@_remembered
def coefficient(dim: Dim, name: str) -> Dim | None:
    """What multiplies `name` in `dim`; 0 if it is absent, None if `dim` is not linear in it."""
    if isinstance(dim, int) or name not in dim.symbols:
        return 0
    total: Dim = 0
    for monomial, number in dim.terms:
        powers = dict(monomial)
        power = powers.pop(name, 0)
        inside = any(isinstance(f, Atom) and name in f.symbols for f in powers)
        if power > 1 or inside:
            return None
        if power == 1:
            total = total + of_terms({tuple(powers.items()): number})
    return total


def at_least(dim: Dim, bound: int) -> bool:
    """Whether `dim >= bound` can be proved: sizes (capital letters) are >= 1, other names >= 0."""
    return lower_bound(dim) >= bound


def lower_bound(dim: Dim) -> float:
    """A number that `dim` can't be below: sizes are >= 1, other names >= 0 (may be -inf)."""
    return _bounds(dim)[0]


@_remembered
def _bounds(dim: Dim) -> Interval:
    if isinstance(dim, int):
        return dim, dim
    low = high = 0.0
    for monomial, coefficient in dim.terms:
        term: Interval = (coefficient, coefficient)
        for factor, power in monomial:
            by = _name_bounds(factor) if isinstance(factor, str) else _atom_bounds(factor)
            for _ in range(power):
                term = times(term, by)
        low, high = low + term[0], high + term[1]
    return low, high


def _name_bounds(name: str) -> Interval:
    """Sizes (capital letters) are at least 1; indices and integers given at run time at least 0."""
    return (1.0 if name[0].isupper() else 0.0), float("inf")


def _atom_bounds(atom: Atom) -> Interval:
    left, right = _bounds(atom.left), _bounds(atom.right)
    if atom.kind == "max":
        return max(left[0], right[0]), max(left[1], right[1])
    if atom.kind == "min":
        return min(left[0], right[0]), min(left[1], right[1])
    return remainder(left, right) if atom.kind == "%" else floor_divide(left, right)


def _substitute_factor(factor: Factor, values: Mapping[str, Dim]) -> Dim:
    if isinstance(factor, str):
        return values[factor] if factor in values else symbol(factor)
    if factor.symbols.isdisjoint(values):
        return _as_dim(factor)
    left, right = substitute(factor.left, values), substitute(factor.right, values)
    make = {"//": floordiv, "%": mod, "max": maximum, "min": minimum}[factor.kind]
    return make(left, right)


@_remembered
def _as_dim(atom: Atom) -> Poly:
    return _intern(((((atom, 1),), 1),))


def _intern(terms: tuple[tuple[Monomial, int], ...]) -> Poly:
    found = _interned.get(terms)
    if found is None:
        found = _interned.setdefault(terms, Poly(terms))
    return found


def of_terms(terms: dict[Monomial, int]) -> Dim:
    """The sum of monomials with these coefficients."""
    kept = [(m, c) for m, c in terms.items() if c]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    if len(kept) > 1:
        kept.sort(key=_order)
    return _intern(tuple(kept))


_keys: dict[Monomial, tuple[int, str]] = {}


def _order(term: tuple[Monomial, int]) -> tuple[int, str]:
    monomial = term[0]
    key = _keys.get(monomial)
    if key is None:
        key = -sum(p for _, p in monomial), " ".join(f"{f}^{p}" for f, p in monomial)
        _keys[monomial] = key
    return key


def _times(left: Monomial, right: Monomial) -> Monomial:
    if not left or not right:
        return left or right
    powers = dict(left)
    for factor, power in right:
        powers[factor] = powers.get(factor, 0) + power
    return tuple(sorted(powers.items(), key=lambda item: str(item[0])))


def _extreme(kind: str, a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return _KIND[kind](a, b)
    low, high = _bounds(a - b)
    if low >= 0:
        return a if kind == "max" else b
    if high <= 0:
        return b if kind == "max" else a
    if str(b) < str(a):
        a, b = b, a
    return _as_dim(Atom(kind, a, b))


@_remembered
def _split(a: Dim, b: Dim) -> tuple[Dim, Dim]:
    """`(whole, rest)` with `a == whole * b + rest`: the terms that `b` divides, and the others."""
    terms = a.terms if isinstance(a, Poly) else (((), a),)
    if isinstance(b, int):
        if b == 0:
            return 0, a
        whole = of_terms({m: c // b for m, c in terms if c % b == 0 or not m})
        return whole, a - whole * b
    if a is b:
        return 1, 0
    if len(b.terms) > 1:
        return 0, a
    monomial, coefficient = b.terms[0]
    out: dict[Monomial, int] = {}
    for m, c in terms:
        rest = dict(m)
        for factor, power in monomial:
            rest[factor] = rest.get(factor, 0) - power
        if min(rest.values(), default=0) >= 0 and c % coefficient == 0:
            out[tuple((f, p) for f, p in rest.items() if p)] = c // coefficient
    whole = of_terms(out)
    return whole, a - whole * b
