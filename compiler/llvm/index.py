"""Index arithmetic: dims over loop variables to integer instructions, each as far out as can be.

A dim is a sum; its terms are grouped by the innermost loop that they depend on, and a partial sum
over the outer loops is computed there, once. So an address in the innermost loop costs one
instruction more than its innermost terms; products with its variable are counted up instead. Ranges
of values decide where a plain division serves for one that floors.
"""

from __future__ import annotations

from dataclasses import field
from math import inf

from dlc.compiler.llvm.text import Writer
from dlc.compiler.loops.names import Name, Names
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Atom, Dim, Factor, Monomial, symbols

Terms = tuple[tuple[Monomial, int], ...]
_SCALES = (1, 2)  # by which addresses take an index, in elements, on every CPU


@dataclass(slots=True)
class Counter:
    """The variable of an innermost loop, and sums that are counted up beside it."""

    name: str
    depth: int
    first: str  # value, a register or a number
    step: str  # what is added each turn
    within: int  # the scope of the loop round it, if that carries registers too, else -1
    sums: list[tuple[str, str, str, str]] = field(default_factory=list)
    """The register in a turn, its first value, its next one, and what is added."""


class Indices(Names):
    """Computes dims in a function."""

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self.writer = writer
        self.counter: Counter | None = None  # of the loop here

    def value(self, dim: Dim) -> str:
        """A register (or a number) that holds `dim`."""
        return self._value(self.resolve(dim))

    def address(self, pointer: str, kind: str, offset: Dim) -> str:
        """The address of an element of type `kind`; a constant is added last, where it is used."""
        terms, fixed = _split(self.resolve(offset))
        for depth, group, upto in self._apart(self._parts(terms)):
            key = ("at", pointer, kind, upto)
            found = self.writer.scopes[depth].known.get(key)
            if found is None:
                text = f"getelementptr {kind}, ptr {pointer}, i64 {self._level(group, depth)}"
                found = self.writer.once(key, text, "p", depth)
            pointer = found
        if not fixed:
            return pointer
        text = f"getelementptr {kind}, ptr {pointer}, i64 {fixed}"
        return self.writer.once(("at", pointer, kind, fixed), text, "p")

    def _apart(self, parts: list[tuple[int, Terms, Terms]]) -> list[tuple[int, Terms, Terms]]:
        """The parts of an address; what two loops of a reduction add is one sum, as it is the same
        for all rows of a tile, whose addresses then need not be moved in the outer one."""
        counter = self.counter
        if counter is None or len(parts) < 3 or [part[0] for part in parts[-2:]] != [
                counter.within, counter.depth]:
            return parts
        (_, outer, _), (depth, inner, upto) = parts[-2:]
        own = ((counter.name, 1),)
        if any(found != own for found, _ in self._products(inner, depth)):
            return parts
        group = (*outer, *inner)
        known = self.writer.scopes[depth].known
        if group not in known:
            known[group] = self._counted(
                counter, self._products(inner, depth), self._level(outer, counter.within))
        return [*parts[:-2], (depth, group, upto)]

    def depth(self, dim: Dim) -> int:
        """The innermost scope that `dim`, which has no aliases, depends on."""
        return max((self.names[name].depth for name in symbols(dim)), default=0)

    def _depth(self, monomial: Monomial) -> int:
        """The innermost scope that a product depends on."""
        deepest, names = 0, self.names
        for factor, _ in monomial:
            if isinstance(factor, str):
                depth = names[factor].depth
            else:
                depth = max([names[name].depth for name in factor.symbols], default=0)
            if depth > deepest:
                deepest = depth
        return deepest

    def _exact(self, terms: Terms) -> str:
        """`nsw ` if nothing in `terms` can overflow, which holds for sizes and loops."""
        if not self._loaded:
            return "nsw "
        names = {n for monomial, _ in terms for factor, _ in monomial for n in _names(factor)}
        return "" if any(self.names[name].loaded for name in names) else "nsw "

    def _parts(self, terms: Terms) -> list[tuple[int, Terms, Terms]]:
        """(depth, the terms of that depth, all terms up to that depth), outermost first."""
        if not terms:
            return []
        depths = [self._depth(monomial) for monomial, _ in terms]
        if depths.count(depths[0]) == len(depths):
            return [(depths[0], terms, terms)]
        found = list(zip(terms, depths, strict=True))
        return [(depth, tuple([t for t, d in found if d == depth]),
                 tuple([t for t, d in found if d <= depth])) for depth in sorted(set(depths))]

    def _value(self, dim: Dim) -> str:
        """A register or a number that holds a dim without aliases."""
        terms, fixed = _split(dim)
        return self._sum(terms, fixed)

    def _sum(self, terms: Terms, fixed: int) -> str:
        if not terms:
            return str(fixed)
        total = ""
        depth = 0
        for depth, group, upto in self._parts(terms):
            own = self._level(group, depth)
            total = own if not total else self._add(upto, total, own, depth)
        return self._add((*terms, ((), fixed)), total, str(fixed), depth) if fixed else total

    def _add(self, key: Terms, a: str, b: str, depth: int) -> str:
        known = self.writer.scopes[depth].known
        found = known.get(key)
        if found is None:
            found = known[key] = self.writer.emit(
                f"add {self._exact(key)}i64 {a}, {b}", "i", depth)
        return found

    def _level(self, group: Terms, depth: int) -> str:
        """Terms that all belong to one scope: what they have in common is multiplied once."""
        known = self.writer.scopes[depth].known
        found = known.get(group)
        if found is not None:
            return found
        total = ""
        for own, outer in self._products(group, depth):
            product = self._product(own, outer, depth)
            total = product if not total else self.writer.emit(
                f"add {self._exact(group)}i64 {total}, {product}", "i", depth)
        known[group] = total
        return total

    def _products(self, group: Terms, depth: int) -> list[tuple[Monomial, Terms]]:
        """`group` as a sum of (factors of this scope) times (a sum over outer scopes)."""
        sums: dict[Monomial, list[tuple[Monomial, int]]] = {}
        for monomial, coefficient in group:
            own: Monomial = monomial
            outer: Monomial = ()
            if len(monomial) > 1:  # else it is of this scope as a whole
                own = tuple(f for f in monomial if self._depth((f,)) == depth)
                outer = tuple(f for f in monomial if f not in own)
            if depth == 0 and len(own) > 1:
                own, outer = own[:1], own[1:]
            sums.setdefault(own, []).append((outer, coefficient))
        return [(own, tuple(outer)) for own, outer in sums.items()]

    def _product(self, own: Monomial, outer: Terms, depth: int) -> str:
        """The product of factors of this scope and of a sum that lies further out."""
        key = ("*", own, outer)
        known = self.writer.scopes[depth].known
        found = known.get(key)
        if found is not None:
            return found
        flat = [self._factor(factor) for factor, power in own for _ in range(power)]
        terms = tuple(t for t in outer if t[0])
        fixed = sum(number for monomial, number in outer if not monomial)
        exact = self._exact(((own, 1), *terms))
        result = flat[0]
        for register in flat[1:]:
            result = self.writer.emit(f"mul {exact}i64 {result}, {register}", "i", depth)
        if not terms and fixed == -1:
            result = self.writer.emit(f"sub {exact}i64 0, {result}", "i", depth)
        elif terms or fixed != 1:
            scale = self._sum(terms, fixed)
            counts = terms or fixed not in _SCALES
            if counts and self.counter is not None and own == ((self.counter.name, 1),):
                result = self._counted(self.counter, [(own, outer)], "0")
            else:
                result = self.writer.emit(f"mul {exact}i64 {result}, {scale}", "i", depth)
        known[key] = result
        return result

    def _counted(
        self, counter: Counter, products: list[tuple[Monomial, Terms]], first: str
    ) -> str:
        """`first` and products of the loop's variable with what does not change in the loop."""
        step = "0"
        for _, outer in products:
            scale = self._sum(tuple(t for t in outer if t[0]), sum(n for m, n in outer if not m))
            first, step = (
                self._before(counter, "add", total, self._before(counter, "mul", number, scale))
                for total, number in ((first, counter.first), (step, counter.step)))
        total, following = self.writer.fresh("i"), self.writer.fresh("i")
        counter.sums.append((total, first, following, step))
        return total

    def _before(self, counter: Counter, op: str, a: str, b: str) -> str:
        """The sum or the product of two registers or numbers, before the loop here."""
        if a.isdigit() and b.isdigit():
            return str(int(a) + int(b) if op == "add" else int(a) * int(b))
        neutral = "0" if op == "add" else "1"
        if neutral in (a, b):
            return b if a == neutral else a
        if op == "mul" and "0" in (a, b):
            return "0"
        return self.writer.once((op, a, b), f"{op} i64 {a}, {b}", "i", counter.depth - 1)

    def _factor(self, factor: Factor) -> str:
        if isinstance(factor, str):
            return self.names[factor].register
        depth = self._depth(((factor, 1),))
        found = self.writer.scopes[depth].known.get(factor)
        if found is None:
            found = self._atom(factor, depth)
            self.writer.scopes[depth].known[factor] = found
        return found

    def _atom(self, atom: Atom, depth: int) -> str:
        left, right = self._value(atom.left), self._value(atom.right)
        if atom.kind in ("max", "min"):
            text = f"call i64 @llvm.s{atom.kind}.i64(i64 {left}, i64 {right})"
            return self.writer.emit(text, "i", depth)
        if isinstance(atom.right, int) and atom.right > 0:
            return self._divide(atom, left, depth)
        return self._divide_by_symbol(atom, left, right, depth)

    def _divide(self, atom: Atom, left: str, depth: int) -> str:
        """Division by a constant; shifts and masks floor for negative numbers too."""
        emit, divisor = self.writer.emit, atom.right
        assert isinstance(divisor, int)
        if divisor & (divisor - 1) == 0:
            if atom.kind == "%":
                return emit(f"and i64 {left}, {divisor - 1}", "i", depth)
            return emit(f"ashr i64 {left}, {divisor.bit_length() - 1}", "i", depth)
        if self._range(atom.left)[0] >= 0:
            name = "udiv" if atom.kind == "//" else "urem"
            return emit(f"{name} i64 {left}, {divisor}", "i", depth)
        rest = emit(f"srem i64 {left}, {divisor}", "i", depth)
        sign = emit(f"ashr i64 {rest}, 63", "i", depth)
        if atom.kind == "%":
            back = emit(f"and i64 {sign}, {divisor}", "i", depth)
            return emit(f"add i64 {rest}, {back}", "i", depth)
        quotient = emit(f"sdiv i64 {left}, {divisor}", "i", depth)
        return emit(f"add i64 {quotient}, {sign}", "i", depth)

    def _divide_by_symbol(self, atom: Atom, left: str, right: str, depth: int) -> str:
        """Division by what is known at run time only; by 0 it gives 0."""
        emit = self.writer.emit
        zero = emit(f"icmp eq i64 {right}, 0", "c", depth)
        safe = emit(f"select i1 {zero}, i64 1, i64 {right}", "i", depth)
        plain = self._range(atom.left)[0] >= 0 and self._range(atom.right)[0] >= 0
        sign = "u" if plain else "s"
        name = "div" if atom.kind == "//" else "rem"
        result = emit(f"{sign}{name} i64 {left}, {safe}", "i", depth)
        if not plain:
            rest = result
            if atom.kind == "//":
                rest = emit(f"srem i64 {left}, {safe}", "i", depth)
            other = emit(f"xor i64 {rest}, {safe}", "i", depth)
            differ = emit(f"icmp slt i64 {other}, 0", "c", depth)
            some = emit(f"icmp ne i64 {rest}, 0", "c", depth)
            off = emit(f"and i1 {differ}, {some}", "c", depth)
            one = safe if atom.kind == "%" else "-1"
            step = emit(f"select i1 {off}, i64 {one}, i64 0", "i", depth)
            result = emit(f"add i64 {result}, {step}", "i", depth)
        return emit(f"select i1 {zero}, i64 0, i64 {result}", "i", depth)


def _split(dim: Dim) -> tuple[Terms, int]:
    """The terms that are not constant, and the constant, which is the last of all terms."""
    if isinstance(dim, int):
        return (), dim
    last, number = dim.terms[-1]
    return (dim.terms, 0) if last else (dim.terms[:-1], number)


def _names(factor: Factor) -> frozenset[str]:
    if isinstance(factor, str):
        return frozenset((factor,))
    return factor.symbols


def load_symbols(indices: Indices, names: tuple[str, ...], dims: str) -> None:
    """Defines the symbols of a program, whose sizes lie in a block."""
    for at, name in enumerate(names):
        place = indices.address(dims, "i64", at)
        register = indices.writer.emit(f"load i64, ptr {place}", name)
        indices.define(name, Name(register, 0, (0, inf)))
