"""How many vector registers an innermost loop wants, counted on its statements in their order.

What it wants is what lies in registers at a time, with the values that formulas hold in between,
and all constants of its formulas: LLVM keeps these in registers round the loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from dlc.compiler.kernels.formulas import Constant, Need, need
from dlc.ir.dataclass import dataclass
from dlc.ir.loops import (
    Apply,
    Const,
    Exchange,
    For,
    If,
    IndexOf,
    LaneReduce,
    Load,
    Mask,
    Splat,
    Statement,
    Store,
)
from dlc.ir.types import BOOL, F32, DType

ORDERED = 3  # registers that LLVM takes as it orders what a loop does in its own way
ENOUGH = 10  # registers for constants, with which LLVM makes do: it loads the others itself
MISSED = 2  # constants that may be too many, too


def constants_in_registers(
    body: tuple[Statement, ...], registers: int, register_bytes: int
) -> frozenset[Constant] | None:
    """The constants that there are registers for beside the values of innermost loops, those that
    are used most; None if LLVM does well with all of them."""
    kept: set[Constant] = set()
    crowded = False
    for found in _wanted(body, register_bytes):
        left = registers - found.values - found.fixed
        crowded |= left < ENOUGH and len(found.uses) > max(left, 0) + MISSED
        most_used = sorted(found.uses, key=lambda constant: -found.uses[constant])
        kept.update(most_used[:max(left - ORDERED, 0)])
    return frozenset(kept) if crowded else None


def integers_in_registers(
    body: tuple[Statement, ...], registers: int, register_bytes: int
) -> bool:
    """Whether the constants of integers stay there, too: not where words of 64 bits alone fill more
    registers than there are. Otherwise LLVM orders a loop the worse, the more it loads."""
    return all(found.values + found.fixed <= registers + ENOUGH
               for found in _wanted(body, register_bytes))


def _wanted(body: tuple[Statement, ...], register_bytes: int) -> Iterator[Wanted]:
    names = _Names()
    names.add(body)
    for loop in innermost(body):
        yield _Pressure(names, register_bytes).of(loop)


def innermost(body: Iterable[Statement]) -> Iterator[For]:
    """The loops without loops in them."""
    for statement in body:
        if isinstance(statement, If | For):
            found = list(innermost(statement.body))
            if isinstance(statement, For) and not found:
                found.append(statement)
            yield from found


class _Names:
    """What the registers of a function are: types, and those that hold constants."""

    def __init__(self) -> None:
        self.types: dict[str, DType] = {}
        self.constants: dict[str, Constant] = {}

    def add(self, body: tuple[Statement, ...]) -> None:
        """The registers of some statements."""
        for s in body:
            if isinstance(s, If | For):
                if isinstance(s, For):
                    for (name, _, dtype, _), after in zip(s.carried, s.after, strict=True):
                        self.types[name] = self.types[after] = dtype
                self.add(s.body)
            elif isinstance(s, Load | IndexOf | Splat | Apply | LaneReduce | Exchange | Const):
                self.types[s.name] = s.dtype
            if isinstance(s, Const) and s.dtype.is_float and s.value != 0:
                self.constants[s.name] = (s.dtype.name, s.value)
            elif isinstance(s, Splat) and s.value in self.constants:
                self.constants[s.name] = self.constants[s.value]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The registers that the values of a loop want, and other fixed ones; the uses of constants."""

    values: int
    fixed: int
    uses: dict[Constant, int]


@dataclass(frozen=True, slots=True)
class _Step:
    """A statement that makes a register `name` of those that it `reads`; a formula has a `need`."""

    reads: tuple[str, ...]
    name: str = ""
    dtype: DType = BOOL
    lanes: int = 1
    need: Need = Need()


def _steps(body: tuple[Statement, ...], types: Mapping[str, DType]) -> Iterator[_Step]:
    """The statements that vectors go through, in order."""
    for s in body:
        match s:
            case If():
                yield from _steps(s.body, types)
            case Store():
                yield _Step((s.value, s.mask) if s.mask else (s.value,))
            case Mask():
                yield _Step((), s.name, BOOL, s.lanes)
            case Apply():
                operands = tuple(types.get(name, BOOL) for name in s.args)
                yield _Step(s.args, s.name, s.dtype, s.lanes, need(s.op, operands, s.attrs))
            case LaneReduce():
                yield _Step((s.value,), s.name, s.dtype)
            case Load() | IndexOf() | Splat() | Exchange():
                yield _Step(_reads(s), s.name, s.dtype, s.lanes)


def _reads(s: Load | IndexOf | Splat | Exchange) -> tuple[str, ...]:
    if isinstance(s, Load):
        return (s.mask,) if s.mask else ()
    if isinstance(s, Exchange):
        return s.first, s.second
    return (s.value,) if isinstance(s, Splat) else ()


class _Pressure:
    """Counts the registers of a loop, statement by statement from the last to the first."""

    def __init__(self, names: _Names, register_bytes: int) -> None:
        self._names, self._bytes = names, register_bytes

    def of(self, loop: For) -> Wanted:
        """What a loop wants."""
        steps = list(_steps(loop.body, self._names.types))
        sizes = {name: self._size(dtype, lanes) for name, _, dtype, lanes in loop.carried}
        sizes |= {s.name: self._size(s.dtype, s.lanes) for s in steps}
        live = {name for name in loop.next if name in sizes}
        now = most = sum(sizes[name] for name in live)
        for step in reversed(steps):
            now -= sizes[step.name] if step.name in live else 0
            live.discard(step.name)
            ends = [n for n in dict.fromkeys(step.reads) if n in sizes and n not in live]
            inside = step.need.values if ends else step.need.kept
            most = max(most, now + self._registers(inside, step.lanes))
            live.update(ends)
            now += sum(sizes[name] for name in ends)
            most = max(most, now)
        wide = [step for step in steps if step.lanes > 1]
        fixed = frozenset[Constant]().union(*(step.need.fixed for step in wide))
        return Wanted(most + self._given(wide, sizes), len(fixed), self._uses(wide))

    def _given(self, steps: list[_Step], sizes: dict[str, int]) -> int:
        """The registers of what comes from outside of the loop."""
        found = {name: self._size(step.dtype, step.lanes) for step in steps for name in step.reads
                 if name not in sizes and name not in self._names.constants}
        return sum(found.values())

    def _uses(self, steps: list[_Step]) -> dict[Constant, int]:
        found: dict[Constant, int] = {}
        for step in steps:
            read = [(self._names.constants[n], 1) for n in step.reads if n in self._names.constants]
            for constant, times in (*read, *step.need.uses):
                found[constant] = found.get(constant, 0) + times
        return found

    def _size(self, dtype: DType, lanes: int) -> int:
        """The registers of a value; lanes of a mask are as wide as what they are for."""
        return self._registers((F32 if dtype is BOOL else dtype).size, lanes)

    def _registers(self, size: int, lanes: int) -> int:
        return -(-size * lanes // self._bytes) if lanes > 1 else 0
