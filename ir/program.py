"""Programs: which kernels run in what order, in which buffers, with checks and one commit point.

Every check stands before the commit, and every write of a variable after it: a program that fails
has changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Literal

from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, evaluate
from dlc.ir.graph import RELATIONS, Condition, Loc, Relation
from dlc.ir.kernel import Kernel, Layout
from dlc.ir.loops import LoopFunction
from dlc.ir.schedule import Schedule
from dlc.ir.types import DType

BufferKind = Literal["in", "out", "var", "temp", "random", "const"]


@dataclass(frozen=True, slots=True)
class ProgramBuffer:
    """Memory of a program. `alias_of` names the buffer whose memory it is, under other dims.

    `first` and `last` are the steps between which a temp is alive (-1: not planned yet); `above`
    are the temps that lie below it in the arena: its offset is the largest of their ends. A `const`
    holds `values`, which are part of the code. An alias begins `offset` elements into the memory
    that it names; loops give the offset its turn (`h[t]` in a stack of all turns).
    """

    name: str
    dtype: DType
    dims: tuple[Dim, ...]
    kind: BufferKind
    layout: Layout
    alias_of: str = ""
    first: int = -1
    last: int = -1
    above: tuple[str, ...] = ()
    path: str = ""
    values: tuple[float, ...] = ()  # of a `const`, in row-major order
    default: float | None = None  # of an `in` that a caller may leave out
    offset: Dim = 0  # of an alias, in elements; may hold variables of loops


@dataclass(frozen=True, slots=True)
class Launch:
    """Runs a kernel on buffers, in the order of its parameters, with dims for its symbols.

    One that is `beside` the launch before it need not wait for that, nor that for it.
    """

    kernel: str
    buffers: tuple[str, ...]
    dims: tuple[Dim, ...]
    path: str = ""
    locs: tuple[Loc, ...] = field(default=(), compare=False)
    beside: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """Stops the program with status `code` unless the bool in `buffer` is true.

    `value` names an i64 that the message tells, in place of `{value}`.
    """

    buffer: str
    code: int
    text: str
    locs: tuple[Loc, ...] = field(default=(), compare=False)
    value: str = ""


@dataclass(frozen=True, slots=True)
class Print:
    """Tells the caller the buffers, which it prints, each between two of `parts`.

    `code` counts the prints of a program from 1.
    """

    buffers: tuple[str, ...]
    code: int
    parts: tuple[str, ...]
    locs: tuple[Loc, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Commit:
    """From here on variables are written; no check comes after."""


@dataclass(frozen=True, slots=True)
class Loop:
    """Runs `body` for `var` = 0 … count - 1.

    With a `condition` it is a `while`: before each turn `test` runs, and the loop ends once the
    bool in the buffer `condition` is false; `count` is then not used. After the loop `var` keeps
    the number of turns that were run.

    Where the launches of `body` run the kernels of one of `resident`, in order, a GPU may run all
    turns as one launch, whose blocks stay and wait for each other between launches of the body.
    """

    var: str
    count: Dim
    body: tuple[Step, ...]
    test: tuple[Step, ...] = ()
    condition: str = ""
    resident: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Branch:
    """Runs `then` if the bool in the buffer `condition` is true, else `otherwise`."""

    condition: str
    then: tuple[Step, ...]
    otherwise: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Parallel:
    """Runs `body` for `var` = 0 … count - 1, in any order and by several threads at once.

    Its steps are launches, and loops of a known count; what they write for one value of `var` they
    touch for no other. `cost` is what all of it likely takes on one thread, in nanoseconds.
    """

    var: str
    count: Dim
    cost: Dim
    body: tuple[Step, ...]


Step = Launch | Check | Print | Commit | Loop | Branch | Parallel


def each_step(steps: tuple[Step, ...]) -> Iterator[Step]:
    """All steps in the order in which they stand, those inside loops and branches too."""
    for step in steps:
        yield step
        match step:
            case Loop():
                yield from each_step(step.test)
                yield from each_step(step.body)
            case Branch():
                yield from each_step(step.then)
                yield from each_step(step.otherwise)
            case Parallel():
                yield from each_step(step.body)


@dataclass(frozen=True, slots=True)
class Size:
    """A symbol whose size is given at the call, as argument number `place` (from 0)."""

    name: str
    place: int
    default: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What holds of some sizes and not of others."""

    left: Dim
    relation: Relation
    right: Dim

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether it holds at these sizes of its symbols."""
        return RELATIONS[self.relation](evaluate(self.left - self.right, sizes), 0)

    def __str__(self) -> str:
        return f"{self.left} {self.relation} {self.right}"


@dataclass(frozen=True, slots=True)
class Variant:
    """`kernel` gives what the kernel `of` gives, and takes the same symbols and buffers. It runs in
    its place at sizes of these symbols of which all of `where` holds. It may be `of` itself, at
    sizes of which a later variant would else be the one.

    A call of equal sizes runs the same one: which it is decides over bits, as schedules do.
    """

    kernel: str
    of: str
    where: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """A function below the Graph. `kernels`, `schedules` and `loops` go together, by name.

    Of the `variants` of a kernel the first runs whose sizes are there; where it is none, the kernel
    itself does. Steps launch the kernel.
    """

    name: str
    symbols: tuple[str, ...]
    buffers: tuple[ProgramBuffer, ...]
    steps: tuple[Step, ...]
    kernels: tuple[Kernel, ...]
    schedules: tuple[tuple[str, Schedule], ...] = ()
    loops: tuple[LoopFunction, ...] = ()
    conditions: tuple[Condition, ...] = ()
    sizes: tuple[Size, ...] = ()
    variants: tuple[Variant, ...] = ()

    def buffer(self, name: str) -> ProgramBuffer:
        """The buffer called `name`."""
        return next(b for b in self.buffers if b.name == name)
