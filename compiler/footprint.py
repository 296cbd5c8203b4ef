"""How much memory a program takes at some sizes, and how much of it is alive at one time.

    arena of fit: 3996288 bytes at N=64
    alive: at most 3586176 bytes, in step 34; with results and stack the peak is 1.114 times that
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dlc.compiler.passes.plan_memory import (
    align,
    at_sizes,
    byte_size,
    lifetimes,
    live_bytes,
    offsets,
    planned,
    temp_bytes,
)
from dlc.ir.dataclass import dataclass
from dlc.ir.loops import Alloc, For, If, Statement
from dlc.ir.program import Program, ProgramBuffer


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of a program, besides the arguments and variables that it is given.

    arena:   for all temps, as planned.
    results: of the arrays that the caller gives for results.
    stack:   the most that one chunk of a kernel keeps on its thread's stack.
    alive:   the most that holds something at one step of this order: temps, results from the step
             on that first writes them, and that stack.
    """

    arena: int
    results: int
    stack: int
    alive: int

    @property
    def peak(self) -> int:
        """All of it."""
        return self.arena + self.results + self.stack

    @property
    def ratio(self) -> float:
        """The peak in terms of what is alive; 1 is the least."""
        return self.peak / self.alive if self.alive else 1.0


def footprint(program: Program, sizes: Mapping[str, int]) -> Footprint:
    """Of a program whose memory is planned; its stack counts once its loops are made."""
    lives = lifetimes(program)
    taken = temp_bytes(program, sizes)
    end = max((last for _, last in lives.values()), default=0)
    results = {b.name: align(at_sizes(byte_size(b), sizes)) for b in program.buffers
               if b.kind == "out" and not b.alias_of}
    lives |= {name: (lives.get(name, (0, 0))[0], end) for name in results}
    stack = max((stack_bytes(function.body) for function in program.loops), default=0)
    alive = live_bytes(lives, taken | results) + stack
    return Footprint(offsets(program, sizes)[""], sum(results.values()), stack, alive)


def stack_bytes(body: tuple[Statement, ...]) -> int:
    """The memory on the stack that statements ask for."""
    total = 0
    for statement in body:
        match statement:
            case Alloc():
                total += align(statement.size * statement.dtype.size)
            case For() | If():
                total += stack_bytes(statement.body)
            case _:
                pass
    return total


def report(program: Program, sizes: Mapping[str, int]) -> str:
    """The arena as text: size of each temp, its lifetime, its place; what is alive at the peak."""
    found, total = offsets(program, sizes), footprint(program, sizes)
    at = ", ".join(f"{name}={size}" for name, size in sizes.items())
    lines = [
        f"arena of {program.name}: {total.arena} bytes at {at}",
        f"peak: {total.peak} bytes, with {total.results} of results and {total.stack} of a "
        "thread's stack",
        f"alive: at most {total.alive} bytes at one step; the peak is {total.ratio:.3f} times that",
    ]
    temps = planned(program)
    for temp in temps:
        lines.append(f"  {temp.name}: {byte_size(temp)} bytes, steps {temp.first}..{temp.last},"
                     f" at {found[temp.name]}")
    if temps:
        chain = " + ".join(str(byte_size(temp)) for temp in _chain(program, found))
        lines.append(f"highest: {chain}")
    return "\n".join(lines)


def _chain(program: Program, found: Mapping[str, int]) -> Iterator[ProgramBuffer]:
    """The temps from the one that lies highest down to the bottom."""
    temps = {b.name: b for b in planned(program)}
    name = max(temps, key=lambda n: found[n])
    while name:
        yield temps[name]
        name = max(temps[name].above, key=lambda n: found[n], default="")
