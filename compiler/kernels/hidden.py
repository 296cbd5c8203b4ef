"""Which elements of a tile of rows can count in a chain of products: others need not be computed.

Where elements are hidden by comparisons of indices, as in causal attention, all that is added up of
them is 0, and maxima see -inf:

    s[k] = select (k <= i, s[k], -inf)      hidden for k > i
    p[k] = exp (s[k] - m)                   0 there
    y[e] = sum k: p[k] * v[k, e]            nothing is added

So for rows up to `last` no k beyond it counts. That is found by following where a value is known to
be the same number for all rows of the tile. Numbers of rows are taken to be finite, and so are the
other factors of what is 0: where keys that are hidden hold inf or nan, these don't show.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, inf, isfinite, isnan
from operator import add, mul, sub

from dlc.compiler.kernels.chain_parts import ChainParts, factors
from dlc.compiler.kernels.ranges import extreme
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import (
    Atom,
    Dim,
    Poly,
    coefficient,
    floordiv,
    maximum,
    minimum,
    symbol,
    symbols,
)
from dlc.ir.kernel import Access, Arg, Compute, Index, IndexValue, Kernel, Number, ScalarOp


@dataclass(frozen=True, slots=True)
class Span:
    """Elements from `low` below `high`; None is no bound."""

    low: Dim | None
    high: Dim | None


EVERYWHERE = Span(None, None)
Where = Span | None  # None: nowhere


@dataclass(frozen=True, slots=True)
class Known:
    """A value that is `number` for all elements outside of a span."""

    number: float
    but: Where


@dataclass(frozen=True, slots=True)
class Truth:
    """Where a condition may be true for a row, and where it may be false."""

    true: Where
    false: Where


Fact = Known | Truth | int | Poly | None  # dims are integers by indices; None is anything
UNSURE = Truth(EVERYWHERE, EVERYWHERE)


def counted(
    kernel: Kernel, parts: ChainParts, rows: Index, tile: tuple[Dim, Dim]
) -> tuple[Dim, Dim]:
    """From where below where elements may count, of rows from the first to the last of a tile."""
    assert not isinstance(parts.row.high, Access)
    found = _Facts(kernel, parts, rows, tile).counted()
    if found is None:
        return 0, 0
    low = 0 if found.low is None else maximum(0, found.low)
    high = parts.row.high
    return low, high if found.high is None else minimum(found.high, high)


class _Facts:
    """What is known of the values of a chain, for a tile of rows."""

    def __init__(
        self, kernel: Kernel, parts: ChainParts, rows: Index, tile: tuple[Dim, Dim]
    ) -> None:
        self.kernel, self.parts, self.rows = kernel, parts, rows
        self.ranges = {rows.name: tile}
        self.arrays: dict[str, Fact] = {}

    def counted(self) -> Where:
        """Where elements count in any sum or maximum."""
        where: Where = None
        for compute in self.parts.along:
            if not compute.over:
                continue
            fact = self._value(compute, compute.value)
            if compute.combine is None:
                self.arrays[compute.target.buffer] = fact
            else:
                neutral = -inf if compute.combine.kind == "max" else 0.0
                where = _join(where, _but(fact, neutral))
        names = {b.name for b in self.kernel.locals if b.dims}
        for compute in self.parts.last:
            weight, _ = factors(compute, self.rows.name, names)
            where = _join(where, _but(self._value(compute, weight), 0.0))
        return where

    def _value(self, compute: Compute, value: Arg) -> Fact:
        made: dict[str, Fact] = {}
        for op in compute.body:
            made[op.name] = self._apply(op, [self._arg(a, made) for a in op.args])
        return self._arg(value, made)

    def _arg(self, arg: Arg, made: dict[str, Fact]) -> Fact:
        if isinstance(arg, str):
            return made[arg]
        if isinstance(arg, Number):
            return Known(arg.value, None)
        if isinstance(arg, IndexValue):
            return arg.value if arg.dtype.is_integer else None
        return self.arrays.get(arg.buffer)

    def _apply(self, op: ScalarOp, args: list[Fact]) -> Fact:
        if op.op in _COMPARED:
            left, right = map(_as_dim, args)
            return UNSURE if left is None or right is None else self._compare(op.op, left, right)
        if op.op in ("and", "or", "not"):
            return _logic(op.op, [a if isinstance(a, Truth) else UNSURE for a in args])
        if op.op == "select":
            return _select(*args)
        if op.dtype.is_integer:
            return _of_dims(op.op, [_as_dim(a) for a in args])
        return _of_numbers(op.op, args)

    def _compare(self, op: str, left: Dim, right: Dim) -> Truth:
        if op in ("eq", "ne"):
            same = _meet(self._where(left - right), self._where(right - left))
            return Truth(same, EVERYWHERE) if op == "eq" else Truth(EVERYWHERE, same)
        less = right - left if op in ("le", "lt") else left - right
        apart = 1 if op in ("lt", "gt") else 0
        return Truth(self._where(less - apart), self._where(apart - 1 - less))

    def _where(self, dim: Dim) -> Where:
        """Where a number may be 0 or more, for any of the rows."""
        name = self.parts.row.name
        factor = coefficient(dim, name)
        if isinstance(factor, int):
            if factor == 0:
                return EVERYWHERE
            top = extreme(dim - symbol(name) * factor, self.ranges, 1)
            if top is None:
                return EVERYWHERE
            return Span(0 - floordiv(top, factor), None) if factor > 0 else Span(
                None, floordiv(top, 0 - factor) + 1)
        return self._where_in_blocks(dim, name)

    def _where_in_blocks(self, dim: Dim, name: str) -> Where:
        """The same where the element comes in by (k + c) // m alone."""
        assert isinstance(dim, Poly)
        for monomial, number in dim.terms:
            atom = monomial[0][0] if len(monomial) == 1 and monomial[0][1] == 1 else None
            if not isinstance(atom, Atom) or atom.kind != "//" or number not in (1, -1):
                continue
            size, more = atom.right, atom.left - symbol(name)
            rest = dim - number * floordiv(atom.left, size)
            if not isinstance(size, int) or name in symbols(rest) or (
                    symbols(more) & {name, self.rows.name}):
                continue
            top = extreme(rest, self.ranges, 1)
            if top is not None:
                return Span(0 - top * size - more, None) if number > 0 else Span(
                    None, (top + 1) * size - more)
        return EVERYWHERE


_COMPUTED = {"add": add, "sub": sub, "mul": mul}
_COMPARED = ("eq", "ne", "lt", "le", "gt", "ge")


def _meet(one: Where, other: Where) -> Where:
    if one is None or other is None:
        return None
    return Span(_either(one.low, other.low, maximum), _either(one.high, other.high, minimum))


def _either(one: Dim | None, other: Dim | None, both: Callable[[Dim, Dim], Dim]) -> Dim | None:
    if one is None or other is None:
        return other if one is None else one
    return both(one, other)


def _join(one: Where, other: Where) -> Where:
    """A span that holds both."""
    if one is None or other is None:
        return other if one is None else one
    low = None if one.low is None or other.low is None else minimum(one.low, other.low)
    high = None if one.high is None or other.high is None else maximum(one.high, other.high)
    return Span(low, high)


def _but(fact: Fact, number: float) -> Where:
    """Where a value may be another number."""
    return fact.but if isinstance(fact, Known) and fact.number == number else EVERYWHERE


def _as_dim(fact: Fact) -> Dim | None:
    if isinstance(fact, Known):
        whole = fact.but is None and isfinite(fact.number) and fact.number == int(fact.number)
        return int(fact.number) if whole else None
    return fact if isinstance(fact, int | Poly) else None


def _logic(op: str, args: list[Truth]) -> Truth:
    if op == "not":
        return Truth(args[0].false, args[0].true)
    one, other = args
    if op == "and":
        return Truth(_meet(one.true, other.true), _join(one.false, other.false))
    return Truth(_join(one.true, other.true), _meet(one.false, other.false))


def _select(condition: Fact, one: Fact, other: Fact) -> Fact:
    truth = condition if isinstance(condition, Truth) else UNSURE
    both = isinstance(one, Known) and isinstance(other, Known) and one.number == other.number
    if isinstance(other, Known) and (both or not isinstance(one, Known)):
        inside = _but(one, other.number)
        return Known(other.number, _join(_meet(truth.true, inside), other.but))
    if isinstance(one, Known):
        return Known(one.number, _join(_meet(truth.false, _but(other, one.number)), one.but))
    return None


def _of_dims(op: str, args: list[Dim | None]) -> Fact:
    one, other = args[0], args[-1]
    if one is None or other is None:
        return None
    if op == "add":
        return one + other
    if op == "sub":
        return one - other
    if op == "floordiv" and isinstance(other, int) and other > 0:
        return floordiv(one, other)
    if op == "mul" and (isinstance(one, int) or isinstance(other, int)):
        return one * other
    return one if op == "cast" else None


def _of_numbers(op: str, args: list[Fact]) -> Fact:
    """What is made of numbers that are the same; where others come in, they are finite."""
    known = [a for a in args if isinstance(a, Known)]
    if op in _COMPUTED and len(known) == 2:
        number = _COMPUTED[op](known[0].number, known[1].number)
        if not isnan(number):
            return Known(number, _join(known[0].but, known[1].but))
    if op == "mul":
        zeros = [a.but for a in known if a.number == 0]
        if zeros:
            return Known(0.0, zeros[0] if len(zeros) == 1 else _meet(*zeros))
        return None
    first = args[0]
    if not isinstance(first, Known):
        return None
    if (op == "sub" and first.number == -inf and len(known) == 1) or (
            op == "div" and first.number == 0 and len(known) == 1):
        return first
    if op == "exp":
        return Known(exp(first.number), first.but) if first.number <= 0 else None
    return first if op == "cast" else None
