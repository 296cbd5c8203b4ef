"""Programs: which kernels run in what order, in which buffers, with checks and one commit point.

Every check stands before the commit, and every write of a variable after it: a program that fails
has changed nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dlc.ir.dims import Dim
from dlc.ir.graph import Condition, Loc
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
    holds `values`, which are part of the code.
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


@dataclass(frozen=True, slots=True)
class Launch:
    """Runs a kernel on buffers, in the order of its parameters, with dims for its symbols."""

    kernel: str
    buffers: tuple[str, ...]
    dims: tuple[Dim, ...]
    path: str = ""
    locs: tuple[Loc, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Check:
    """Stops the program with status `code` unless the bool in `buffer` is true."""

    buffer: str
    code: int
    text: str
    locs: tuple[Loc, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Commit:
    """From here on variables are written; no check comes after."""


Step = Launch | Check | Commit


@dataclass(frozen=True, slots=True)
class Program:
    """A function below the Graph. `kernels`, `schedules` and `loops` go together, by name."""

    name: str
    symbols: tuple[str, ...]
    buffers: tuple[ProgramBuffer, ...]
    steps: tuple[Step, ...]
    kernels: tuple[Kernel, ...]
    schedules: tuple[tuple[str, Schedule], ...] = ()
    loops: tuple[LoopFunction, ...] = ()
    conditions: tuple[Condition, ...] = ()

    def buffer(self, name: str) -> ProgramBuffer:
        """The buffer called `name`."""
        return next(b for b in self.buffers if b.name == name)
