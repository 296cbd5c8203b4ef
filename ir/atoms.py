"""What is no polynomial in a dim: divisions, remainders, and the larger or smaller of two dims."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlc.ir.dims import Dim, Monomial


class Atom:
    """A factor that is no polynomial: `left // right`, `left % right`, `max(…)` or `min(…)`.

    Equal ones are one object, as dims are: they are looked up again and again. `symbols` are the
    names that it depends on.
    """

    __slots__ = ("kind", "left", "right", "symbols")
    kind: str
    left: Dim
    right: Dim
    symbols: frozenset[str]

    def __new__(cls, kind: str, left: Dim, right: Dim) -> Atom:
        """The atom of that kind of two dims."""
        found = _made.get((kind, left, right))
        if found is None:
            found = super().__new__(cls)
            found.kind, found.left, found.right = kind, left, right
            found.symbols = frozenset[str]().union(
                *(side.symbols for side in (left, right) if not isinstance(side, int)))
            found = _made.setdefault((kind, left, right), found)
        return found

    def __str__(self) -> str:
        if self.kind in ("max", "min"):
            return f"{self.kind}({self.left}, {self.right})"
        return f"{operand(self.left)} {self.kind} {operand(self.right)}"

    __repr__ = __str__


_made: dict[tuple[str, Dim, Dim], Atom] = {}


def operand(dim: Dim) -> str:
    """A dim as it is written beside an operator."""
    text = str(dim)
    return text if re.fullmatch(r"[\w.]+", text) else f"({text})"


def sum_text(terms: tuple[tuple[Monomial, int], ...]) -> str:
    """A sum of products as it is written."""
    out = ""
    for monomial, coefficient in terms:
        factors: list[str] = []
        for factor, power in monomial:
            text = factor if isinstance(factor, str) else str(factor)
            if isinstance(factor, Atom) and factor.kind in ("//", "%"):
                alone = len(terms) == len(monomial) == coefficient == power == 1
                text = text if alone else f"({text})"
            factors += [text] * power
        size = abs(coefficient)
        if size != 1 or not factors:
            factors.insert(0, str(size))
        sign = "-" if coefficient < 0 else "+"
        body = "*".join(factors)
        if out:
            out += f" {sign} {body}"
        else:
            out = f"-{body}" if sign == "-" else body
    return out
