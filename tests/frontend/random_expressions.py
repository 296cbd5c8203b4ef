"""Random expressions of the language, made from the type that is wanted: they always check.

Numbers are small, and `exact` ones are whole: comparisons, indices and sorts are made of these, so
that nothing hangs on the last bit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Dims = tuple[str, ...]
INTEGERS = ("i32", "i64")


@dataclass(frozen=True, slots=True)
class Kind:
    """A type, and whether its numbers are whole."""

    dtype: str
    dims: Dims = ()
    exact: bool = False

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(self.dims)}]" if self.dims else self.dtype

    def of(self, dims: Dims, exact: bool | None = None) -> Kind:
        """The same with other dims."""
        return Kind(self.dtype, dims, self.exact if exact is None else exact)


@dataclass(frozen=True, slots=True)
class Function:
    """A function that can be called."""

    name: str
    params: tuple[Kind, ...]
    result: Kind


class Expressions:
    """Makes expressions of the names in `scope`, and of calls of `functions`."""

    def __init__(self, draw: random.Random, float_: str) -> None:
        self.draw = draw
        self.float = float_
        self.scope: list[tuple[str, Kind]] = []
        self.functions: list[Function] = []

    def kind(self, exact: bool | None = None) -> Kind:
        """A type: floats mostly."""
        dims = self.draw.choice([
            (), ("3",), ("N",), ("N", "3"), ("T", "N"), ("3", "4"), ("N", "4", "3"), ("T", "3")])
        dtype = self.draw.choice([self.float] * 4 + ["i32", "i64", "bool"])
        return Kind(dtype, dims, dtype != self.float or (
            self.draw.random() < 0.4 if exact is None else exact))

    def make(self, kind: Kind, depth: int = 3) -> str:
        """An expression of a type."""
        if depth <= 0 or self.draw.random() < 0.1:
            return self.leaf(kind)
        ways = [*self._common(kind), *self._special(kind)]
        for way in self.draw.sample(ways, len(ways)):
            made = way(kind, depth - 1)
            if made:
                return made
        return self.leaf(kind)

    def leaf(self, kind: Kind) -> str:
        """A name, or something simple of one that is near."""
        fitting = [name for name, k in self.scope if _fits(k, kind)]
        if fitting:
            return self.draw.choice(fitting[-6:])
        if kind.dtype == "bool":
            return f"({self.leaf(Kind('i32', kind.dims, True))} > {self.draw.randrange(-2, 3)})"
        near = [(name, k) for name, k in self.scope
                if k.dtype != "bool" and (k.exact or not kind.exact)]
        if not near or self.draw.random() < 0.1:
            return self._spread(kind, f"{kind.dtype}({self.draw.randrange(-3, 4)})", 0)
        tried = self.draw.sample(near, min(3, len(near)))
        name, found = max(tried, key=lambda each: _common(each[1].dims, kind.dims))
        common = _common(found.dims, kind.dims)
        places = [self.draw.choice(["0", "-1"]) for _ in found.dims[:len(found.dims) - common]]
        part = f"({name})[{', '.join(places)}]" if places else name
        return self._spread(
            kind, part if found.dtype == kind.dtype else f"{kind.dtype}({part})", common)

    @staticmethod
    def _spread(kind: Kind, part: str, rank: int) -> str:
        """Something that has the last `rank` dims of a type, over all of them."""
        if rank == len(kind.dims):
            return part
        return f"({kind.dtype}(zeros({', '.join(kind.dims)})) + {part})"

    def index(self, size: str, dims: Dims, depth: int) -> str:
        """Places on an axis."""
        return f"clamp({self.make(Kind('i32', dims, True), depth)}, 0, {size} - 1)"

    def held(self, text: str) -> str:
        """Kept small."""
        return f"clamp({text}, -8, 8)"

    def _common(self, kind: Kind) -> list[Callable[[Kind, int], str]]:
        """Ways for elements of any type."""
        ways = [self.chosen, self.indexed, self.called, self.leaf_]
        if kind.dims:
            ways += [self.taken, self.cut, self.reshaped, self.joined, self.flipped, self.written]
        if len(kind.dims) == 2:
            ways += [self.turned]
        return ways

    def _special(self, kind: Kind) -> list[Callable[[Kind, int], str]]:
        """Ways for the element type."""
        if kind.dtype == "bool":
            return [self.compared] * 3 + [self.logical]
        ways = [self.binary, self.binary, self.unary, self.summed, self.cast]
        if kind.dims:
            ways += [self.stretched, self.column, self.running, self.sorted]
        if len(kind.dims) == 2:
            ways += [self.product, self.product]
        if kind.dtype == "i32":
            ways += [self.place]
        if not kind.exact:
            ways += [self.curve] * 3 + [self.divided, self.averaged]
        return ways

    def leaf_(self, kind: Kind, depth: int) -> str:
        return self.leaf(kind)

    def chosen(self, kind: Kind, depth: int) -> str:
        dims = self.draw.choice([kind.dims, ()])
        condition = self.make(Kind("bool", dims, True), depth)
        return f"({self.make(kind, depth)} if {condition} else {self.make(kind, depth)})"

    def indexed(self, kind: Kind, depth: int) -> str:
        size = self.draw.choice(["3", "4", "N", "T"])
        place = self.draw.choice(["0", "-1", self.index(size, (), depth - 1)])
        at = self.draw.randrange(len(kind.dims) + 1)
        dims = (*kind.dims[:at], size, *kind.dims[at:])
        before = ":, " * at
        return f"{self._named(kind.of(dims), depth)}[{before}{place}]"

    def taken(self, kind: Kind, depth: int) -> str:
        size = self.draw.choice(["3", "4", "N"])
        ids = self.index(size, kind.dims[:1], depth - 1)
        return f"{self._named(kind.of((size, *kind.dims[1:])), depth)}[{ids}]"

    def cut(self, kind: Kind, depth: int) -> str:
        at = self.draw.randrange(len(kind.dims))
        if not kind.dims[at].isdigit():
            return ""
        size = int(kind.dims[at])
        more, bounds = self.draw.choice([(size + 1, "1:"), (size + 2, "1:-1"), (2 * size, "::2"),
                                         (size + 1, ":-1"), (2 * size - 1, "::2")])
        dims = (*kind.dims[:at], str(more), *kind.dims[at + 1:])
        return f"{self._named(kind.of(dims), depth)}[{':, ' * at}{bounds}]"

    def reshaped(self, kind: Kind, depth: int) -> str:
        dims = list(kind.dims)
        self.draw.shuffle(dims)
        inner = self.make(kind.of(tuple(dims)), depth)
        flat = f"reshape({inner}, {' * '.join(dims)})"
        inner = self.draw.choice([inner, flat])
        return f"reshape({inner}, {', '.join(kind.dims)})"

    def joined(self, kind: Kind, depth: int) -> str:
        size = kind.dims[0]
        if not size.isdigit() or int(size) < 2:
            return ""
        first = self.draw.randrange(1, int(size))
        parts = [self.make(kind.of((str(k), *kind.dims[1:])), depth)
                 for k in (first, int(size) - first)]
        return f"concat(({', '.join(parts)}), 0)"

    def flipped(self, kind: Kind, depth: int) -> str:
        return f"flip({self.make(kind, depth)}, axis={self.draw.randrange(len(kind.dims))})"

    def written(self, kind: Kind, depth: int) -> str:
        place = self.index(kind.dims[0], (), depth - 1)
        value = self.make(kind.of(kind.dims[1:]), depth)
        return f"set_at({self.make(kind, depth)}, {place}, {value})"

    def turned(self, kind: Kind, depth: int) -> str:
        return f"{self._named(kind.of(kind.dims[::-1]), depth)}.T"

    def called(self, kind: Kind, depth: int) -> str:
        fitting = [f for f in self.functions if _fits(f.result, kind)]
        if not fitting:
            return ""
        function = self.draw.choice(fitting)
        return f"{function.name}({', '.join(self.make(p, depth - 1) for p in function.params)})"

    def compared(self, kind: Kind, depth: int) -> str:
        dtype = self.draw.choice((self.float, *INTEGERS))
        left = self.make(Kind(dtype, kind.dims, True), depth)
        right = self.make(Kind(dtype, self.draw.choice([kind.dims, ()]), True), depth)
        return f"({left} {self.draw.choice(['<', '<=', '==', '!=', '>'])} {right})"

    def logical(self, kind: Kind, depth: int) -> str:
        word = self.draw.choice(["and", "or"])
        return f"({self.make(kind, depth)} {word} not {self.make(kind, depth)})"

    def binary(self, kind: Kind, depth: int) -> str:
        a, b = self.make(kind, depth), self.make(kind, depth)
        return self.draw.choice([self.held(f"{a} + {b}"), self.held(f"{a} * {b}"),
                                 self.held(f"{a} - {b}"), f"maximum({a}, {b})"])

    def unary(self, kind: Kind, depth: int) -> str:
        word = self.draw.choice(["abs", "-", "sign", "stop_gradient"])
        return f"{word}({self.make(kind, depth)})" if word != "stop_gradient" or (
            kind.dtype == self.float) else f"-{self.make(kind, depth)}"

    def curve(self, kind: Kind, depth: int) -> str:
        word = self.draw.choice(["tanh", "sigmoid", "sin", "relu", "softsign", "gelu"])
        return f"{word}({self.make(kind, depth)})"

    def divided(self, kind: Kind, depth: int) -> str:
        return f"({self.make(kind, depth)} / (abs({self.make(kind, depth)}) + 1.0))"

    def averaged(self, kind: Kind, depth: int) -> str:
        if kind.dims and self.draw.random() < 0.5:
            return f"softmax({self.make(kind, depth)})"
        return f"mean({self.make(kind.of((*kind.dims, 'N')), depth)}, axis=-1)"

    def summed(self, kind: Kind, depth: int) -> str:
        at = self.draw.randrange(len(kind.dims) + 1)
        dims = (*kind.dims[:at], self.draw.choice(["3", "4", "N", "T"]), *kind.dims[at:])
        word = self.draw.choice(["sum", "max", "min"])
        return self.held(f"{word}({self.make(kind.of(dims), depth)}, axis={at})")

    def stretched(self, kind: Kind, depth: int) -> str:
        small = self.make(kind.of(kind.dims[1:]), depth)
        return self.held(f"{self.make(kind, depth)} {self.draw.choice('+-*')} {small}")

    def column(self, kind: Kind, depth: int) -> str:
        column = f"{self._named(kind.of(kind.dims[:-1]), depth)}[..., None]" if (
            len(kind.dims) > 1) else self.make(kind.of(()), depth)
        return self.held(f"{self.make(kind, depth)} * {column}")

    def running(self, kind: Kind, depth: int) -> str:
        back = self.draw.choice(["", ", reverse=true"])
        axis = self.draw.randrange(len(kind.dims))
        return self.held(f"cumsum({self.make(kind, depth)}, axis={axis}{back})")

    def sorted(self, kind: Kind, depth: int) -> str:
        down = self.draw.choice(["", ", descending=true"])
        return f"sort({self.make(kind.of(kind.dims, True), depth)}{down})"

    def place(self, kind: Kind, depth: int) -> str:
        numbers = self.make(Kind(self.float, (*kind.dims, "N"), True), depth)
        if kind.dims and self.draw.random() < 0.5:
            return f"argsort({self.make(Kind(self.float, kind.dims, True), depth)})"
        return f"argmax({numbers}, axis=-1)"

    def product(self, kind: Kind, depth: int) -> str:
        if kind.dtype != self.float:
            return ""
        a, b = kind.dims
        k = self.draw.choice(["3", "4", "N", "T"])
        rule = self.draw.choice(["@", "ak,bk->ab", "ka,kb->ab"])
        places = {"a": a, "b": b, "k": k}
        if rule == "@":
            left, right = (self.make(kind.of(dims), depth) for dims in ((a, k), (k, b)))
            return self.held(f"({left} @ {right})")
        left, right = (self.make(kind.of(tuple(places[c] for c in part)), depth)
                       for part in rule.split("->")[0].split(","))
        return self.held(f'einsum("{rule}", {left}, {right})')

    def cast(self, kind: Kind, depth: int) -> str:
        dtype = self.draw.choice([d for d in (self.float, *INTEGERS) if d != kind.dtype])
        return f"{kind.dtype}({self.make(Kind(dtype, kind.dims, True), depth)})"

    def _named(self, kind: Kind, depth: int) -> str:
        """An expression that an index may follow."""
        return f"({self.make(kind, depth)})"


def _fits(given: Kind, wanted: Kind) -> bool:
    same = given.dtype == wanted.dtype and given.dims == wanted.dims
    return same and (given.exact or not wanted.exact)


def _common(given: Dims, wanted: Dims) -> int:
    """How many of the last dims are the same."""
    count = 0
    while count < min(len(given), len(wanted)) and given[-1 - count] == wanted[-1 - count]:
        count += 1
    return count


def kinds(pairs: Sequence[tuple[str, Kind]]) -> str:
    """A list of parameters."""
    return ", ".join(f"{name}: {kind}" for name, kind in pairs)
