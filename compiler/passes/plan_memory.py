"""plan_memory: who lies where in the arena, for every size of the symbols.

Temps whose lifetimes overlap must not. Offsets are chosen once, at likely sizes; of that choice
only the order is kept: for each two temps that live at the same time, which one lies below. At any
sizes a temp then begins at the largest end of those below it, so that no size can make two of them
meet.

Steps are numbered in the order of the text. What lies in memory inside a loop and outside it lives
over the whole loop; what is only there within a turn can share its place with the turn's others.
Steps in parallel are one step: threads are at different ones of them at once.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import accumulate
from operator import or_
from typing import Final, NamedTuple

from dlc.compiler.options import Options
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, evaluate, symbols
from dlc.ir.kernel import storage_size
from dlc.ir.program import (
    Branch,
    Check,
    Launch,
    Loop,
    Parallel,
    Print,
    Program,
    ProgramBuffer,
    Step,
    each_step,
)

ALIGNMENT = 64  # a cache line, and the widest vector
RETRIES = 3  # of each greedy order, with what was highest in front
ENOUGH = 1.01  # times the bytes that are alive: no better place is looked for


def plan_memory(program: Program, options: Options) -> Program:
    """Gives every temp its lifetime and those that lie below it."""
    sizes = {name: options.hint(name) for name in program.symbols}
    lives = lifetimes(program)
    above = _order(_best_places(lives, temp_bytes(program, sizes)))
    buffers = []
    for buffer in program.buffers:
        root = buffer.alias_of or buffer.name
        if root in lives and buffer.kind == "temp":
            first, last = lives[root]
            below = above[buffer.name] if buffer.name in above else ()
            buffer = replace(buffer, first=first, last=last, above=below)
        buffers.append(buffer)
    return replace(program, buffers=tuple(buffers))


def lifetimes(program: Program) -> dict[str, tuple[int, int]]:
    """The first and the last step that use each buffer, by itself or by an alias."""
    found = _walk(program)
    return {name: found.life(name) for name in found.touched}


class Use(NamedTuple):
    """A step that uses a buffer, and the loops around it, by their first steps."""

    at: int
    loops: tuple[int, ...]


def uses(program: Program) -> dict[str, list[Use]]:
    """The steps that use each buffer with memory of its own, by itself or by an alias."""
    return _walk(program).touched


def _walk(program: Program) -> _Uses:
    found = _Uses({b.name: b.alias_of or b.name for b in program.buffers})
    found.walk(program.steps, ())
    return found


class _Uses:
    """Which steps use each buffer, and in which loops these steps stand."""

    def __init__(self, roots: dict[str, str]) -> None:
        self.roots = roots
        self.touched: dict[str, list[Use]] = {}
        self.ends: dict[int, int] = {}  # the last step of a loop, by its first
        self.at = -1

    def walk(self, steps: tuple[Step, ...], loops: tuple[int, ...]) -> None:
        """Numbers steps and what stands in them; `loops` are the loops around them."""
        for step in steps:
            # Launches beside each other are one step: none of their memory is another's.
            self.at += not (isinstance(step, Launch) and step.beside)
            match step:
                case Launch() | Print():
                    self._touch(step.buffers, loops)
                case Check():
                    self._touch((step.buffer, step.value), loops)
                case Branch():
                    self._touch((step.condition,), loops)
                    self.walk(step.then, loops)
                    self.walk(step.otherwise, loops)
                case Parallel():
                    for launch in each_step(step.body):
                        if isinstance(launch, Launch):
                            self._touch(launch.buffers, loops)
                case Loop():
                    start = self.at
                    self.walk(step.test, (*loops, start))
                    self._touch((step.condition,), (*loops, start))
                    self.walk(step.body, (*loops, start))
                    self.ends[start] = self.at

    def _touch(self, names: tuple[str, ...], loops: tuple[int, ...]) -> None:
        for name in filter(None, names):
            self.touched.setdefault(self.roots[name], []).append(Use(self.at, loops))

    def life(self, name: str) -> tuple[int, int]:
        """The first and the last step of the life of a buffer."""
        touched = self.touched[name]
        shared = _shared([use.loops for use in touched])
        first, last = touched[0].at, touched[-1].at
        for _, loops in touched:
            if len(loops) > shared:  # another use stands outside this loop
                first, last = min(first, loops[shared]), max(last, self.ends[loops[shared]])
        return first, last


def _shared(paths: list[tuple[int, ...]]) -> int:
    """How many of the loops around it all uses stand in."""
    depth = 0
    for loops in zip(*paths, strict=False):
        if len(set(loops)) > 1:
            break
        depth += 1
    return depth


def temp_bytes(program: Program, sizes: Mapping[str, int]) -> dict[str, int]:
    """The bytes that each temp with memory of its own takes, in whole cache lines."""
    return {b.name: align(at_sizes(byte_size(b), sizes)) for b in program.buffers
            if b.kind == "temp" and not b.alias_of}


def live_bytes(lives: Mapping[str, tuple[int, int]], taken: Mapping[str, int]) -> int:
    """The most bytes of temps that are alive at one step: no plan for these lives needs less.

    `taken` are the bytes of each temp.
    """
    found: dict[int, int] = {}
    for name, size in taken.items():
        if name in lives:
            first, last = lives[name]
            found[first] = found.get(first, 0) + size
            found[last + 1] = found.get(last + 1, 0) - size
    return max(accumulate(found[step] for step in sorted(found)), default=0)


def byte_size(buffer: ProgramBuffer) -> Dim:
    """The bytes that a buffer takes, padding of its layout included."""
    return storage_size(buffer.layout, buffer.dims) * buffer.dtype.size


def planned(program: Program) -> list[ProgramBuffer]:
    """The temps that have a place in the arena, those below before those above."""
    temps = {b.name: b for b in program.buffers
             if b.kind == "temp" and not b.alias_of and b.first >= 0}
    ordered: dict[str, ProgramBuffer] = {}
    stack = list(reversed(temps))
    while stack:
        name = stack[-1]
        missing = [below for below in temps[name].above if below not in ordered]
        stack += reversed(missing)
        if not missing:
            ordered.setdefault(stack.pop(), temps[name])
    return list(ordered.values())


@dataclass(frozen=True, slots=True)
class _Placed:
    """A temp at the likely sizes."""

    name: str
    offset: int
    end: int
    first: int
    last: int


def _by_size(temp: _Placed) -> tuple[int, str]:
    return temp.offset - temp.end, temp.name


def _by_area(temp: _Placed) -> tuple[int, str]:
    return (temp.offset - temp.end) * (1 + temp.last - temp.first), temp.name


def _by_life(temp: _Placed) -> tuple[int, int, str]:
    return temp.first - temp.last, temp.offset - temp.end, temp.name


def _by_first(temp: _Placed) -> tuple[int, int, str]:
    return temp.first, temp.offset - temp.end, temp.name


_PRIORITIES: Final[tuple[Callable[[_Placed], tuple[int | str, ...]], ...]] = (
    _by_size, _by_area, _by_life, _by_first)


def _best_places(
    lives: Mapping[str, tuple[int, int]], taken: Mapping[str, int]
) -> list[_Placed]:
    """The smallest arena of several greedy ones, or the first that is small enough.

    After each try the temps on the way to its highest end go to the front of the next one.
    """
    temps = [_Placed(name, 0, size, *lives[name]) for name, size in taken.items() if name in lives]
    enough = live_bytes(lives, taken) * ENOUGH
    best: list[_Placed] = []
    for priority in _PRIORITIES:
        order = sorted(temps, key=priority)
        for _ in range(RETRIES):
            placed = _place(order)
            if not best or _height(placed) < _height(best):
                best = placed
            if _height(best) <= enough:
                return best
            high = _chain(placed)
            order.sort(key=lambda temp: temp.name not in high)
    return best


def _place(order: list[_Placed]) -> list[_Placed]:
    """Greedy: each temp in its turn at the lowest place that is free while it lives."""
    placed: list[_Placed] = []
    for temp in order:
        offset, size = 0, temp.end - temp.offset
        for other in placed:  # in the order of their offsets
            if other.offset >= offset + size:
                break
            if other.end > offset and other.first <= temp.last and temp.first <= other.last:
                offset = other.end
        insort(placed, replace(temp, offset=offset, end=offset + size), key=_by_offset)
    return placed


def _height(placed: list[_Placed]) -> int:
    return max((temp.end for temp in placed), default=0)


def _chain(placed: list[_Placed]) -> set[str]:
    """The temps from the one that ends highest down, each right below the one before."""
    found: set[str] = set()
    top = max(placed, key=lambda temp: temp.end, default=None)
    while top is not None:
        found.add(top.name)
        temp = top
        top = next((o for o in placed if o.end == temp.offset and o.end > o.offset
                    and o.first <= temp.last and temp.first <= o.last), None)
    return found


def _by_offset(placed: _Placed) -> int:
    return placed.offset


def _order(placed: list[_Placed]) -> dict[str, tuple[str, ...]]:
    """For each temp those below it that live at the same time, less what follows from others.

    Sets of temps are the bits of integers: there may be thousands of temps.
    """
    ordered = sorted(placed, key=lambda p: (p.offset, p.end))
    begun, ended = _begun(ordered), _ended(ordered)
    below: list[int] = []
    kept: dict[str, tuple[str, ...]] = {}
    for at, temp in enumerate(ordered):
        rest = direct = begun[temp.last] & ~ended[temp.first] & (1 << at) - 1
        implied, names = 0, []
        while rest:
            other = rest.bit_length() - 1
            implied |= below[other]
            rest &= ~(below[other] | 1 << other)  # what is implied adds nothing of its own
            names.append(ordered[other].name)
        kept[temp.name] = tuple(sorted(names))
        below.append(implied | direct)
    return kept


def _begun(temps: list[_Placed]) -> list[int]:
    """For each step the temps whose life begins there or before."""
    found = [0] * (2 + max((t.last for t in temps), default=0))
    for at, temp in enumerate(temps):
        found[temp.first] |= 1 << at
    return list(accumulate(found, or_))


def _ended(temps: list[_Placed]) -> list[int]:
    """For each step the temps whose life ends before it."""
    found = [0] * (2 + max((t.last for t in temps), default=0))
    for at, temp in enumerate(temps):
        found[temp.last + 1] |= 1 << at
    return list(accumulate(found, or_))


def at_sizes(dim: Dim, sizes: Mapping[str, int]) -> int:
    """A dim at given sizes; a symbol without one counts as 64."""
    return evaluate(dim, {name: sizes.get(name, 64) for name in symbols(dim)})


def align(size: int) -> int:
    """`size` rounded up to whole cache lines."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def offsets(program: Program, sizes: Mapping[str, int]) -> dict[str, int]:
    """Where each temp begins at given sizes; `""` is the size of the arena."""
    ends: dict[str, int] = {}
    found: dict[str, int] = {}
    for temp in planned(program):
        found[temp.name] = max((ends[name] for name in temp.above), default=0)
        ends[temp.name] = align(found[temp.name] + at_sizes(byte_size(temp), sizes))
    return found | {"": max(ends.values(), default=0)}
