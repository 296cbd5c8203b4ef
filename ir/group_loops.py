"""Statements of Loops of what warp groups do: four warps each, of 128 threads one after another.

Boxes of arrays are copied in bulk into shared memory, where groups multiply them; what has arrived,
and what may be written again, threads tell each other by signals. A copied box lies in lines of 128
bytes, whose packs of 16 bytes have changed places: pack p of line l lies at p ^ l % 8. Each begins
at a multiple of 1024 bytes.

    view x.1: bf16 = x[0] sizes K, M steps K box 64, 128
    signals full: 4 of 1                        four of them, at which one thread arrives in a phase
    await full[stage] phase turn // 4           arrive full[stage]     arrive full[stage] with 49152
    box left[8192*stage] = x.1[64*turn, first]: full[stage]
    multiply sums[0] = left[8192*stage] turned, right[16384*stage]: bf16 256 of 64
    multiplied 1                                registers 232 more     (or fewer)
"""

from __future__ import annotations

from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim
from dlc.ir.types import DType

GROUP = 128  # threads
LINE = 128  # bytes of a box
ROWS, STEP = 64, 16  # rows and places of the sum of one product
SIGNAL = 8  # bytes
MOST_AXES, MOST_OF_BOX, MOST_COLUMNS = 5, 256, 256


@dataclass(frozen=True, slots=True)
class View:
    """A parameter seen as an array of which boxes are copied: `sizes` of its axes, that of
    neighbours first, and the `steps` in elements along each of the others. It begins at `offset`.

    It depends on symbols alone, and steps and offset are multiples of 16 bytes.
    """

    name: str
    buffer: str
    offset: Dim
    dtype: DType
    sizes: tuple[Dim, ...]
    steps: tuple[Dim, ...]
    box: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Those of a box."""
        found = self.dtype.size
        for side in self.box:
            found *= side
        return found


@dataclass(frozen=True, slots=True)
class Signals:
    """So many signals in shared memory, with phases: one is over when `arrivals` threads have
    arrived, and all bytes that they expect. They are there after a barrier."""

    name: str
    count: int
    arrivals: int


@dataclass(frozen=True, slots=True)
class Arrive:
    """This thread has arrived at a signal, with so many bytes that are to come."""

    signals: str
    at: Dim
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Await:
    """Waits until a phase of a signal is over: that which goes on, or the one before. The first one
    is 0, and what was before it is over."""

    signals: str
    at: Dim
    phase: Dim


@dataclass(frozen=True, slots=True)
class CopyBox:
    """Starts to copy the box of a view that begins at `place` to `buffer[at]`, which is shared;
    zeros where it lies outside. Its bytes arrive at a signal."""

    buffer: str
    at: Dim
    view: str
    place: tuple[Dim, ...]
    signals: str
    signal: Dim


@dataclass(frozen=True, slots=True)
class Factor:
    """A factor of a product of groups: it begins at `buffer[at]`. Its lines lie along the sum, or
    (`turned`) `depth` places of the sum have a line each, of 64 rows (or columns), and so on for
    the next 64."""

    buffer: str
    at: Dim
    turned: bool = False


@dataclass(frozen=True, slots=True)
class Multiply:
    """Starts to add the product of 64 rows and `columns` columns, over `depth` places of their sum,
    to the elements of `sums` from `at` on, memory of the thread's own; all threads of a group do.

    Thread l of the group's warp w has, of four elements with number n, the columns 8 n + 2 (l % 4)
    and the next, in the rows 16 w + l // 4 and the eighth after it. They are not to be touched
    until they are waited for.
    """

    sums: str
    at: int
    left: Factor
    right: Factor
    columns: int
    depth: int
    dtype: DType


@dataclass(frozen=True, slots=True)
class Multiplied:
    """Waits until at most so many products of this group go on."""

    pending: int


@dataclass(frozen=True, slots=True)
class Registers:
    """The registers that each thread of this group has from here on, `more` or fewer than before.
    """

    count: int
    more: bool


GroupStatement = View | Signals | Arrive | Await | CopyBox | Multiply | Multiplied | Registers
