"""Loops: what applying a schedule to a kernel makes, once for CPU and GPU. Emitters only print it.

Registers are names in single assignment. Index arithmetic is `Dim`s over loop variables and
symbols; an emitter computes each part of it at the outermost loop where all its names are known.
Vectors have `lanes` > 1 elements.

On a GPU a chunk is run by many threads: each runs all statements, with `thread` as its number among
the index names. They share what is allocated as `shared`, meet at a `Barrier`, and the 32 threads
of a warp pass registers to each other by a `Shuffle`. A warp multiplies small matrices together
(`Matrices`, `Tensor`), which copies bring into shared memory while other work goes on (`Copy`).
What groups of four warps do is in `group_loops.py`.
"""

from __future__ import annotations

from typing import Literal

from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim
from dlc.ir.equality import equal_by_fields
from dlc.ir.group_loops import GroupStatement
from dlc.ir.types import F32, I32, DType


@dataclass(frozen=True, slots=True)
class Pointer:
    """A buffer parameter of a loop function."""

    name: str
    dtype: DType
    writable: bool


@dataclass(frozen=True, slots=True)
class Alloc:
    """Memory of constant size (in elements) on the stack of the function, zeroed if asked.

    What is `shared` is one memory for all threads of a chunk, and never zeroed.
    """

    name: str
    dtype: DType
    size: int
    zeroed: bool = False
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Mask:
    """`name` = the lanes l with low <= base + step * l < bound, as a vector of bool.

    `low` may be None: no lane lies below. `step` is 1, or 0: then all lanes are alike.
    """

    name: str
    base: Dim
    bound: Dim
    lanes: int
    low: Dim | None = None
    step: int = 1


@dataclass(frozen=True, slots=True)
class Load:
    """`name` = elements at `buffer[offset]` and the lanes - 1 after it; 0 where `mask` is off.

    lanes == 1 gives a scalar.
    """

    name: str
    buffer: str
    offset: Dim
    dtype: DType
    lanes: int = 1
    mask: str = ""


@dataclass(frozen=True, slots=True)
class Store:
    """Writes a register to `buffer[offset]` and the lanes - 1 after it, where `mask` is on."""

    buffer: str
    offset: Dim
    value: str
    dtype: DType
    lanes: int = 1
    mask: str = ""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Brings the memory round `buffer[offset]` near; it may lie outside, and nothing changes."""

    buffer: str
    offset: Dim
    dtype: DType


@equal_by_fields
@dataclass(frozen=True, slots=True, eq=False)
class Const:
    """`name` = a number, in all lanes."""

    name: str
    value: float
    dtype: DType
    lanes: int = 1


@dataclass(frozen=True, slots=True)
class IndexOf:
    """`name` = an index expression as a number; lane l holds value + l * step."""

    name: str
    value: Dim
    dtype: DType
    lanes: int = 1
    step: int = 0


@dataclass(frozen=True, slots=True)
class Splat:
    """`name` = a scalar register in all lanes."""

    name: str
    value: str
    dtype: DType
    lanes: int


@dataclass(frozen=True, slots=True)
class Apply:
    """`name` = an elementwise op of the registry, or a primitive (`fma`), of registers.

    `dtype` and `lanes` are the result's; `operand` is the element type of the first operand.
    """

    name: str
    op: str
    args: tuple[str, ...]
    dtype: DType
    operand: DType
    lanes: int = 1
    attrs: tuple[tuple[str, int | DType], ...] = ()


LaneOp = Literal["add", "maximum", "minimum"]


@dataclass(frozen=True, slots=True)
class LaneReduce:
    """`name` = the lanes of `value` combined in a tree: lane l with lane l + lanes/2, and so on."""

    name: str
    op: LaneOp
    value: str
    dtype: DType
    lanes: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """`name` = one of the two vectors that come of two by exchanging lanes `distance` apart.

    Of the lower one, a lane whose number has the bit `distance` off is that of `first`, and the
    others hold the lanes of `second` from `distance` below; of the upper one, a lane with the bit
    on is that of `second`, and the others hold the lanes of `first` from `distance` above. Done
    for 1, 2, 4, … on vectors as far apart, this transposes as many vectors as they have lanes.
    """

    name: str
    first: str
    second: str
    distance: int
    upper: bool
    dtype: DType
    lanes: int


@dataclass(frozen=True, slots=True)
class Shuffle:
    """`name` = `value` of the thread whose number differs in the bit `distance` (below 32)."""

    name: str
    value: str
    distance: int
    dtype: DType


@dataclass(frozen=True, slots=True)
class Barrier:
    """No thread goes on before all threads of the chunk, or of its warp, are here, and what they
    have stored is there."""

    warp: bool = False


@dataclass(frozen=True, slots=True)
class Copy:
    """Starts to copy `lanes` elements (4, 8 or 16 bytes, aligned as many) from `source[offset]` to
    `buffer[at]`, which is shared; zeros where `mask` is off: then the source is not touched. They
    are there when this thread has waited, and for others after a barrier."""

    buffer: str
    at: Dim
    source: str
    offset: Dim
    dtype: DType
    lanes: int
    mask: str = ""


@dataclass(frozen=True, slots=True)
class Copies:
    """What this thread has started to copy since the last one of these becomes a group; or, if
    `pending` is not None, waits until at most so many of its groups are on their way."""

    pending: int | None = None


@dataclass(frozen=True, slots=True)
class Matrices:
    """`name` = a thread's part of four matrices of 8 rows of 16 bytes, from shared memory.

    Thread l of the warp says where row l % 8 of matrix l // 8 begins. It gets the four bytes with
    number l % 4 of row l // 4 of each matrix, in four lanes: of 16-bit elements as i32. Of `turned`
    matrices of such elements it gets the two of rows 2 (l % 4) and the next, in column l // 4.
    Elements of 4 bytes can't be turned: then four places are given, of one element each.
    """

    name: str
    buffer: str
    places: tuple[Dim, ...]
    dtype: DType
    turned: bool = False

    @property
    def word(self) -> DType:
        """The type of a lane."""
        return F32 if self.dtype.size == 4 else I32


@dataclass(frozen=True, slots=True)
class Fragments:
    """`name` = a thread's part of the left matrices of a product, of what it has as sums of others.

    Of 16 bits, `values` are eight registers of f32, rounded here: of 16 rows and columns, what the
    thread has in rows l // 4 and l // 4 + 8 of the left half, then of the right one. Of f32 there
    are four, rounded to tf32: of 16 rows and 8 columns, the two of an even column, then those of an
    odd one. Places of the sum are then in another order: the even columns are the first half.
    """

    name: str
    values: tuple[str, ...]
    dtype: DType

    @property
    def word(self) -> DType:
        """The type of a lane."""
        return F32 if self.dtype.size == 4 else I32


@dataclass(frozen=True, slots=True)
class Tensor:
    """`name` = `sums` plus the product of two matrices, of which each thread of a warp has a part.

    `left` has 16 rows of 32 bytes: four matrices, below each other and then side by side. `right`
    has 8 columns of 32 bytes: the first two (or, `second`, the last two) of four matrices, whose
    rows are its columns. Of f32, which are rounded to tf32, or of 16-bit elements; sums are in f32:
    thread l has columns 2 (l % 4) and the next, in rows l // 4 and l // 4 + 8.
    """

    name: str
    left: str
    right: str
    second: bool
    sums: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class For:
    """A loop from `low` below `high`, by `step`, or doubling from `low` if `step` is 0.

    `carried` are registers that live across turns: (name in the body, initial register, dtype,
    lanes); `next` gives their values for the next turn, and `after` the names that the last ones
    have outside. One that is `unrolled` has as many turns as constants say, and its body is to
    stand there as often: what it indexes in memory of its own may then lie in registers. Of one
    that is not to be (False), the body stands there once: what differs between its turns is not
    held in registers. None leaves that to those who come later.
    """

    var: str
    low: Dim
    high: Dim
    body: tuple[Statement, ...]
    step: Dim = 1
    carried: tuple[tuple[str, str, DType, int], ...] = ()
    next: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    unrolled: bool | None = None


@dataclass(frozen=True, slots=True)
class If:
    """Runs `body` if every condition is >= 0."""

    conditions: tuple[Dim, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Let:
    """`name` = an index expression, to be used in later ones."""

    name: str
    value: Dim


@dataclass(frozen=True, slots=True)
class LoadIndex:
    """`name` = a loaded integer element, to be used in index expressions."""

    name: str
    buffer: str
    offset: Dim
    dtype: DType


@dataclass(frozen=True, slots=True)
class AsIndex:
    """`name` = an integer register, to be used in index expressions."""

    name: str
    value: str
    dtype: DType


Statement = (Alloc | Mask | Load | Store | Fetch | Const | IndexOf | Splat | Apply | LaneReduce
             | Exchange | Shuffle | Barrier | Copy | Copies | Matrices | Fragments | Tensor | For
             | If | Let | LoadIndex | AsIndex | GroupStatement)


@dataclass(frozen=True, slots=True)
class LoopFunction:
    """A kernel's code: `chunk` says which part; there are `chunks` parts, in any order.

    Each part is run by `threads` threads, which know their number as `thread` (if more than one).
    Symbols are `multiples` of numbers in all calls that it is for. Neighbouring parts, up to as
    many as `together` says, may be run as one: from `chunk` up to `chunk.after` (if more than one).
    """

    name: str
    symbols: tuple[str, ...]
    pointers: tuple[Pointer, ...]
    chunks: Dim
    body: tuple[Statement, ...]
    threads: int = 1
    multiples: tuple[tuple[str, int], ...] = ()
    together: int = 1
