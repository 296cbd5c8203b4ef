"""Index arithmetic as C: dims over loop variables and symbols.

The compiler of CUDA C moves what does not change out of loops, so an expression is written where it
is used. Ranges of values decide where C's own division serves for one that floors.
"""

from __future__ import annotations

from dlc.compiler.loops.names import Names
from dlc.ir.dims import Atom, Dim, Factor, Monomial


class Expressions(Names):
    """Dims as C expressions of the type Index, or of Wide: numbers may be larger than indices."""

    def __init__(self) -> None:
        super().__init__()
        self._kind = "Index"

    def wide(self, dim: Dim) -> str:
        """The expression in 64 bits, in brackets unless it is a number."""
        self._kind = "Wide"
        text = self.atom(dim)
        self._kind = "Index"
        return text

    def text(self, dim: Dim) -> str:
        """The expression; a sum is not in brackets."""
        return self._sum(self.resolve(dim))

    def atom(self, dim: Dim) -> str:
        """The expression, in brackets unless it is a name or a number."""
        return _bracketed(self.text(dim))

    def _sum(self, dim: Dim) -> str:
        if isinstance(dim, int):
            return str(dim)
        text = ""
        # What is positive goes first, so that no sum begins with a minus where it need not.
        for monomial, number in sorted(dim.terms, key=lambda term: term[1] < 0):
            term = self._term(monomial, abs(number))
            if text:
                text += f" - {term}" if number < 0 else f" + {term}"
            else:
                text = f"-{term}" if number < 0 else term
        return text

    def _term(self, monomial: Monomial, number: int) -> str:
        factors = [self._factor(factor) for factor, power in monomial for _ in range(power)]
        if not factors:
            return str(number)
        return " * ".join(factors if number == 1 else (*factors, str(number)))

    def _factor(self, factor: Factor) -> str:
        if not isinstance(factor, str):
            return self._atom(factor)
        name = self.names[factor].register
        return name if self._kind == "Index" else f"(Wide){name}"

    def _atom(self, atom: Atom) -> str:
        left, right = self._sum(atom.left), self._sum(atom.right)
        if atom.kind in ("max", "min"):
            name = "larger" if atom.kind == "max" else "smaller"
            return f"{name}<{self._kind}>({left}, {right})"
        positive = self._range(atom.left)[0] >= 0
        if positive and self._range(atom.right)[0] >= 1:
            sign = "/" if atom.kind == "//" else "%"
            return f"({_bracketed(left)} {sign} {_bracketed(right)})"
        name = "quotient" if atom.kind == "//" else "rest"
        if positive and self._range(atom.right)[0] >= 0:
            return f"{name}({left}, {right})"
        name = f"floor_{name}"
        return f"{name}<{self._kind}>({left}, {right})"


def _bracketed(text: str) -> str:
    """A name, a number or what is in brackets as it is, anything else in brackets."""
    if text.isalnum() or text.isidentifier():
        return text
    inside = text[1:-1]
    whole = text.startswith("(") and text.endswith(")") and not set("()") & set(inside)
    return text if whole else f"({text})"
