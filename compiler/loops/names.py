"""What an emitter knows of the names in index expressions: what each stands for, and its range."""

from __future__ import annotations

from math import inf

from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, Factor, substitute, symbols

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Name:
    """A name that index expressions may use: its register, scope and range; whether it was loaded.

    What was loaded may be anything, so that sums of it may overflow: they must not promise not to.
    """

    register: str
    depth: int
    range: Range = (-inf, inf)
    loaded: bool = False


class Names:
    """The names that index expressions of a function may use here."""

    def __init__(self) -> None:
        self.names: dict[str, Name] = {}
        self.aliases: dict[str, Dim] = {}
        self._loaded = False

    def define(self, name: str, value: Name) -> None:
        """From here on `name` stands for a register."""
        self.names[name] = value
        self.aliases.pop(name, None)
        self._loaded |= value.loaded

    def alias(self, name: str, value: Dim) -> None:
        """From here on `name` stands for another dim."""
        self.aliases[name] = self.resolve(value)
        self.names.pop(name, None)

    def resolve(self, dim: Dim) -> Dim:
        """`dim` without aliases."""
        if isinstance(dim, int) or not self.aliases:
            return dim
        return substitute(dim, self.aliases)

    def is_loaded(self, dim: Dim) -> bool:
        """Whether `dim`, which has no aliases, depends on a loaded index."""
        return any(self.names[name].loaded for name in symbols(dim))

    def range(self, dim: Dim) -> Range:
        """Numbers that `dim` lies between, as far as its names tell."""
        return self._range(self.resolve(dim))

    def _range(self, dim: Dim) -> Range:
        if isinstance(dim, int):
            return dim, dim
        low = high = 0.0
        for monomial, number in dim.terms:
            own: Range = number, number
            if len(monomial) == 1 and monomial[0][1] == 1:  # as most are
                least, most = self._factor_range(monomial[0][0])
                own = (number * least, number * most) if number > 0 else (
                    number * most, number * least)
            else:
                for factor, power in monomial:
                    one = self._factor_range(factor)
                    for _ in range(power):
                        own = _span(own, one)
            low, high = low + own[0], high + own[1]
        return low, high

    def _factor_range(self, factor: Factor) -> Range:
        if isinstance(factor, str):
            return self.names[factor].range
        (a, b), (c, d) = self._range(factor.left), self._range(factor.right)
        if factor.kind == "max":
            return max(a, c), max(b, d)
        if factor.kind == "min":
            return min(a, c), min(b, d)
        if c < 0:
            return -inf, inf
        if factor.kind == "%":
            return 0, max(0, d - 1)
        return (min(0, a) if a < inf else 0), max(0.0, b)


def _span(a: Range, b: Range) -> Range:
    """The range of a product; 0 times anything is 0."""
    if a[0] == a[1] > 0 and b[0] > -inf and b[1] < inf:
        return a[0] * b[0], a[0] * b[1]
    ends = [x * y if x and y else 0.0 for x in a for y in b]
    return min(ends), max(ends)
