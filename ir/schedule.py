"""Schedules: how a kernel is carried out, as data. Nothing else may steer an emitter."""

from __future__ import annotations

from typing import Literal

from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, ceildiv
from dlc.ir.group_loops import GROUP, LINE, ROWS
from dlc.ir.types import DType

PAIR = 2  # columns that a thread has side by side of a matrix that tensor cores made
Edge = Literal["mask", "clamp", "scalar"]
PART = 4  # places of a tile along `along`, of which those that stick out are made as many at once
Multiples = tuple[tuple[str, int], ...]


def in_parts(extent: Dim, size: int) -> bool:
    """Whether tiles of such a size along `along` are made in parts where they stick out."""
    return size % PART == 0 and not (isinstance(extent, int) and extent % size == 0)


def places_along(extent: Dim, size: int) -> Dim:
    """How many places tiles of such a size along `along` cover."""
    step = PART if in_parts(extent, size) else size
    return ceildiv(extent, step) * step


@dataclass(frozen=True, slots=True)
class Tile:
    """A register tile: `size` values of an index side by side, unrolled."""

    index: str
    size: int


@dataclass(frozen=True, slots=True)
class SharedTile:
    """How a block of a GPU makes a tile of a product, by way of shared memory.

    `rows` and `columns` are the outer indices of one factor alone and of the other. Threads stand
    in `rows_of_threads` rows; each makes `down` times `across` results. `depth` places of the
    reduced indices are in shared memory at a time. There are as many such groups of threads as
    `slices`: each has its part of these places, and in the end their sums are added up in order.
    The first `outside` of the reduced indices are counted through outside of that, the others as
    one. Of two `stages`, one is multiplied while the next one is loaded.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    rows_of_threads: int
    columns_of_threads: int
    down: int
    across: int
    depth: int
    slices: int = 1
    outside: int = 0
    stages: int = 1

    @property
    def height(self) -> int:
        """The rows of the tile."""
        return self.rows_of_threads * self.down

    @property
    def width(self) -> int:
        """The columns of the tile."""
        return self.columns_of_threads * self.across


@dataclass(frozen=True, slots=True)
class TensorTile:
    """How a block of a GPU makes a tile of a product on tensor cores.

    `rows` and `columns` are the outer indices of one factor alone and of the other. Warps stand in
    `warps_down` rows; each makes `down` times `across` matrices of 16 rows and 8 columns. `depth`
    places of the reduced indices are multiplied at a time; of as many, `stages` lie in shared
    memory, all but one still on their way. The first `outside` of the reduced indices are counted
    through outside of the others. Elements are of `dtype`: of 16 bits, or f32, rounded to tf32; so
    many neighbours of the `left` and of the `right` factor are copied at once, without registers
    (0: they are no neighbours, or are computed first).
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    dtype: DType
    warps_down: int
    warps_across: int
    down: int
    across: int
    depth: int
    stages: int
    outside: int = 0
    left: int = 0
    right: int = 0

    @property
    def height(self) -> int:
        """The rows of the tile."""
        return self.warps_down * self.down * 16

    @property
    def width(self) -> int:
        """The columns of the tile."""
        return self.warps_across * self.across * 8

    @property
    def threads(self) -> int:
        """The threads of the block."""
        return self.warps_down * self.warps_across * 32

    @property
    def pack(self) -> int:
        """The elements of 16 bytes."""
        return 16 // self.dtype.size

    @property
    def step(self) -> int:
        """How many places of the sum one instruction takes."""
        return 2 * self.pack


@dataclass(frozen=True, slots=True)
class ChainTile:
    """How a block of a GPU makes rows of a chain of products on tensor cores.

    `rows` is the outer index of the rows. Each of the `warps` has `down` times 16 of them, and all
    of a part. Elements are of `dtype`: of 16 bits, or f32, rounded to tf32. What products read of
    `stages` parts lies in shared memory, all but one still on their way. Of each factor that is
    read, in the order of the products and of their factors, so many neighbours as `copied` says are
    copied at once, without registers (0: they are no neighbours, or are computed first).
    """

    rows: tuple[str, ...]
    dtype: DType
    warps: int
    down: int
    stages: int
    copied: tuple[int, ...]

    @property
    def height(self) -> int:
        """The rows of the tile."""
        return self.warps * self.down * 16

    @property
    def threads(self) -> int:
        """The threads of the block."""
        return self.warps * 32

    @property
    def pack(self) -> int:
        """The elements of 16 bytes."""
        return 16 // self.dtype.size

    @property
    def step(self) -> int:
        """How many places of a sum one instruction takes."""
        return 2 * self.pack


@dataclass(frozen=True, slots=True)
class GroupTile:
    """How a block of a GPU makes a tile of a product by warp groups, four warps each.

    `rows` and `columns` are the outer indices of one factor alone and of the other. So many
    `groups` multiply, one below the other: each makes `down` times 64 rows of `width` columns. One
    group more copies what they multiply in bulk, lines of 128 bytes, `stages` of it at most. The
    first `outside` of the reduced indices are counted through outside of the others. Elements are
    of `dtype`, of 16 bits. Of so many rows of tiles as are a `band`, all tiles follow each other,
    one column after another.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    dtype: DType
    groups: int
    down: int
    width: int
    stages: int
    outside: int
    band: int

    @property
    def height(self) -> int:
        """The rows of the tile."""
        return self.groups * self.down * ROWS

    @property
    def depth(self) -> int:
        """The places of the sum that are multiplied at a time."""
        return LINE // self.dtype.size

    @property
    def threads(self) -> int:
        """The threads of the block."""
        return (self.groups + 1) * GROUP


@dataclass(frozen=True, slots=True)
class Schedule:
    """The decisions for one kernel.

    order:    the outer indices, outermost loop first; each loop goes over tiles of its index.
    parallel: how many of the first loops are split into chunks that threads claim.
    chunks:   how many parts of about as many turns these loops, counted through, are cut into.
    vector:   the index whose values lie in the lanes of vector registers, and how many
              ("" is none).
    tiles:    register tiles of the first reduction's accumulators; that of the vector index counts
              vectors.
    reduce:   the order of the reduced indices, outermost first.
    unroll:   reduced indices of constant extent that are unrolled.
    turn:     the outer index along which reads are neighbours in memory that are none along the
              lanes: for as many of its values as there are lanes they are transposed ("" is none).
    along:    the outer index of a tile along which what follows the reduction goes, in vectors; the
              lanes of the sums lie along another one, so they are transposed ("" is none). Memory
              goes on past its end: of a tile that sticks out as many parts of `PART` places are
              made as are needed; all of it, if it is not made of such parts.
    block:    how many tiles of the innermost loop are done together, at most; the loop then goes
              over blocks (0: it goes over tiles).
    blocks:   how many blocks of about as many tiles there are (0: as few as can be).
    outside:  how many of the reduced loops go round the tiles of a block, whose sums then lie in
              memory between the turns.
    within:   how many of the last outer loops lie within a block: each of their turns does all of
              its tiles. The innermost of the loops before them is that of the tiles.
    panel:    the operand of the reduction that is copied into panels of `depth` places of the
              reduced indices that are not outside, each for a block ("" is none).
    sweep:    how many places along a row are done side by side, in vectors if they lie along it
              (0: each compute has loops of its own).
    moments:  how many places of the last index of a row are a chunk, whose mean and squares about
              it are put to those of the chunks before, so that one sweep serves for both (0: the
              squares have a sweep of their own).
    together: how many neighbouring chunks are done as one, at most, where there are few threads.
              The outermost loop is that along the lanes then, and chunks are of its vectors, not of
              tiles, which are as long as can be: so memory is read in long pieces.
    part:     how many elements of a row are there at a time, in a chain of products (0: it is
              none); tiles may then also be of the row's index and of those of its products. Of
              an index of a product whose extent is a symbol `depth` values are there at a time.
    fetch:    the buffers of which what follows a tile's reduction reads a place each, which is
              brought near before the reduction begins.
    ahead:    how many turns of the last reduced loop but one before its use what is read beside a
              panel is brought near (0: it is not).
    edge:     what happens where a tile or a vector sticks out.
    threads:  of a block, on a GPU (0: the schedule is a CPU's). Chunks are blocks then, all outer
              loops are split, and each thread has places of its own.
    held:     how many vectors (or elements) of a row a thread keeps in registers over all sweeps of
              a group: then memory is read once (0: each sweep reads what it needs). Rows that turn
              out to be longer, or of another number than the lanes divide, are read again.
    group:    how many threads have a place together, and share the places along its row: 1, a
              warp, or the block. With `beside`, any number.
    beside:   how many places a block has side by side, the threads of whose groups lie that far
              apart, so that neighbouring threads have neighbouring places (0: those of a group are
              neighbours).
    places:   how many places of the outer indices (or vectors of them) a thread has, which lie as
              far apart as a block has threads: all is read before anything is written.
    multiples: symbols, and of what they are multiples in all calls that it is for: it belongs to a
              variant that runs at such sizes alone.
    shared:   the tile of a product that a block makes, on a GPU.
    tensor:   the tile that it makes on tensor cores.
    chain:    the rows of a chain of products that it makes on tensor cores.
    grouped:  the tile of a product that warp groups make on tensor cores.
    cost:     estimated nanoseconds of all (whether threads pay).

    `chunks`, `blocks` and `cost` may depend on the kernel's symbols: what is small stays in one
    piece.
    """

    target: str
    order: tuple[str, ...]
    parallel: int = 0
    chunks: Dim = 1
    vector: str = ""
    lanes: int = 1
    tiles: tuple[Tile, ...] = ()
    reduce: tuple[str, ...] = ()
    unroll: tuple[str, ...] = ()
    turn: str = ""
    block: int = 0
    blocks: Dim = 0
    outside: int = 0
    within: int = 0
    panel: str = ""
    depth: int = 0
    ahead: int = 0
    edge: tuple[tuple[str, Edge], ...] = ()
    cost: Dim = 0
    along: str = ""
    sweep: int = 0
    moments: int = 0
    together: int = 1
    part: int = 0
    fetch: tuple[str, ...] = ()
    threads: int = 0
    group: int = 1
    beside: int = 0
    held: int = 0
    places: int = 1
    multiples: Multiples = ()
    shared: SharedTile | None = None
    tensor: TensorTile | None = None
    chain: ChainTile | None = None
    grouped: GroupTile | None = None

    @property
    def innermost(self) -> str:
        """The outer index whose loop goes over tiles, or blocks of them."""
        return self.order[-1 - self.within]

    @property
    def round_tiles(self) -> tuple[str, ...]:
        """The outer indices whose loops lie within a block, round its tiles."""
        return self.order[len(self.order) - self.within:]

    def tile(self, index: str) -> int:
        """The tile size of an index (1 if it has none)."""
        return next((t.size for t in self.tiles if t.index == index), 1)
