"""Which tiles of a product the blocks of a GPU make on tensor cores, by an analytic model.

A turn takes as long as the slowest of four does: the tensor cores, shared memory, from which warps
read their matrices, the instructions of copies, and memory. Copies have the turns of all stages but
one to come; where that is less than memory needs to answer, a turn takes the rest of it too. Tiles
that are larger read less, and leave processors without work where the product is small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from math import ceil

from dlc.compiler.loops.panel_copies import narrow
from dlc.compiler.options import Options
from dlc.compiler.schedules.product_tiles import (
    BYTES,
    COPY,
    DIVISION,
    LAST,
    LATENCY,
    MOST_PROCESSORS,
    PROCESSORS,
    REGISTERS,
    SHARED_BYTES,
    WARP,
    TileSearch,
)
from dlc.compiler.schedules.tensor_operands import (
    Alignment,
    as_it_lies,
    has_tensor_cores,
    line_of,
    short,
)
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, as_multiples, mod, substitute, symbol, symbols
from dlc.ir.kernel import Arg, Kernel
from dlc.ir.schedule import TensorTile
from dlc.ir.types import F32, DType

WARPS = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 4), (4, 1), (2, 4), (4, 2))
DOWN, ACROSS = (1, 2, 4), (2, 4, 8)
STAGES = (2, 3, 4)
BLOCK_BYTES = 160 << 10  # of shared memory
MOST_REGISTERS = 232  # of a thread, so that none is spilled
FEWEST = 8  # rows and columns of a product of which such a tile pays

# Of a processor, in a cycle
MULTIPLIED = {"cuda:sm_80": 1024}  # products of 16 bits; of tf32 half as many
MOST_MULTIPLIED = 1280  # by these instructions, of those that have others too
UNITS = 4  # of a processor, each for warps of its own
SHARED = 128  # bytes
COPIES = 12 / 128  # cycles to start one copy
MEET = 40  # cycles until all threads of a block have met
LATE = 120  # more where memory answers late, shared by the turns that are on their way
RESULT = 6 / 128  # of one result: what follows the sums


@dataclass(frozen=True, slots=True)
class TensorChoice:
    """A tile, the order of the reduced indices, and the estimated cycles."""

    tile: TensorTile
    reduce: tuple[str, ...]
    cycles: float


class TensorSearch(TileSearch):
    """Chooses the tile of one product, which is a kernel that `factors_of` knows."""

    def __init__(
        self, kernel: Kernel, sizes: dict[str, int], options: Options,
        starts: dict[str, list[Dim]], multiples: Mapping[str, int]
    ) -> None:
        super().__init__(kernel, sizes, options)
        self.alignment = Alignment(kernel, starts, as_multiples(multiples))
        self.operands = self._operands()

    def best(self) -> TensorChoice | None:
        """The best tile; None if tensor cores do not multiply such numbers, or few of them."""
        small = min(self._count(self.rows), self._count(self.columns)) < FEWEST
        if self.operands is None or small or not self.over or not has_tensor_cores(
                self.options.target):
            return None
        found = self._tensor_tiles(self.operands)
        return min(found, key=lambda c: c.cycles, default=None)

    def wished(self) -> dict[str, int]:
        """Symbols, and of what they would have to be multiples, so that lines of the factors are
        multiples of 16 bytes."""
        if self.operands is None:
            return {}
        pack, found = 16 // self.operands.size, dict[str, int]()
        for value in (self.factors.left, self.factors.right):
            access = as_it_lies(narrow(self.factors.compute, value, self.operands))
            lines = self.kernel.buffer(access.buffer).dims[1:] if access is not None else ()
            for line in lines:
                number = _multiple_of(line, pack)
                found |= {n: max(number, found.get(n, 1)) for n in symbols(line)}
        return {name: number for name, number in found.items() if number > 1}

    def tensor_cycles(self, tile: TensorTile, reduce: tuple[str, ...]) -> float:
        """The estimated cycles of a tile and an order of the reduced indices."""
        outside, inner = reduce[:tile.outside], reduce[tile.outside:]
        turns = self._count(outside) * -(-self._count(inner) // tile.depth)
        return self._tensor_cycles(tile, turns, len(inner))

    def _operands(self) -> DType | None:
        """The type of elements that are multiplied: of 16 bits, or f32 where tf32 is asked for."""
        combine = self.factors.compute.combine
        if combine is None or combine.dtype is not F32:
            return None
        factors = self.factors
        kinds = {short(self.kernel, factors.compute, v) for v in (factors.left, factors.right)}
        if len(kinds) == 1 and None not in kinds:
            return kinds.pop()
        return F32 if self.options.precision == "tf32" else None

    def _tensor_tiles(self, dtype: DType) -> Iterator[TensorChoice]:
        pack = 16 // dtype.size
        depths = (2 * pack, 4 * pack, 8 * pack)
        orders = {depth: self._order(depth) for depth in depths}
        copied = {depth: self._copied(dtype, orders[depth][1]) for depth in depths}
        for warps, down, across, depth, stages in product(WARPS, DOWN, ACROSS, depths, STAGES):
            outside, inner = orders[depth]
            tile = TensorTile(self.rows, self.columns, dtype, *warps, down, across, depth, stages,
                              len(outside), *copied[depth])
            if self._has_room(tile):
                order = (*outside, *inner)
                yield TensorChoice(tile, order, self.tensor_cycles(tile, order))

    def _copied(self, dtype: DType, inner: tuple[str, ...]) -> tuple[int, int]:
        """How many elements of either factor are copied at once."""
        sides = [(self.factors.left, self.factors.rows, self.factors.left_where),
                 (self.factors.right, self.factors.columns, self.factors.right_where)]
        if self.rows != self.factors.rows:
            sides.reverse()
        left, right = (self._at_once(dtype, *side, inner) for side in sides)
        return left, right

    def _at_once(
        self, dtype: DType, value: Arg, names: tuple[str, ...], where: tuple[Dim, ...],
        inner: tuple[str, ...],
    ) -> int:
        indices = {i.name: i for i in (*self.kernel.outer, *self.factors.compute.over)}
        access, over = narrow(self.factors.compute, value, dtype), indices[inner[-1]]
        last = line_of(self.kernel, access, over, indices[names[-1]] if names else over)
        parted = any(last.name in symbols(e) for e in where)
        return self.alignment.at_once(access, None if parted else last, dtype)


    def _has_room(self, tile: TensorTile) -> bool:
        least = 8 * tile.pack if tile.dtype is F32 else 16  # lines across the sum
        for size, lanes in ((tile.height, tile.left), (tile.width, tile.right)):
            if size < least or size * tile.depth % (tile.threads * (lanes or tile.pack)):
                return False
        return _bytes(tile) <= BLOCK_BYTES and _registers(tile) <= MOST_REGISTERS

    def _tensor_cycles(self, tile: TensorTile, turns: int, inner: int) -> float:
        """Waves of blocks, each of which takes its turns and what follows them."""
        down, across = self._count(tile.rows), self._count(tile.columns)
        blocks = self.batch * -(-down // tile.height) * -(-across // tile.width)
        each = -(-blocks // PROCESSORS.get(self.options.target, MOST_PROCESSORS))
        most = min(2048 // tile.threads, REGISTERS // (_registers(tile) * tile.threads),
                   SHARED_BYTES // _bytes(tile))
        beside = max(1, min(each, most))
        ahead = tile.stages - 1 if tile.left and tile.right else 1  # what is loaded is stored soon
        wait = LATENCY / ahead if turns > ahead else 0
        turn = max(beside * self._turn(tile, inner), wait) + MEET + LATE / ahead
        last = LAST + beside * tile.height * tile.width * RESULT
        return ceil(each / beside) * (LATENCY + turns * turn + last)

    def _turn(self, tile: TensorTile, inner: int) -> float:
        """What a block does in a turn."""
        size, depth = tile.dtype.size, tile.depth
        rate = MULTIPLIED.get(self.options.target, MOST_MULTIPLIED) * 2 // size
        warps, steps = tile.threads // WARP, depth // tile.step
        multiplied = tile.height * tile.width * depth / (rate * min(1, warps / UNITS))
        read = warps * steps * (tile.down + tile.across / 2) * 512 / SHARED
        copied, started = 0.0, 0.0
        for side, lanes in ((tile.height, tile.left), (tile.width, tile.right)):
            started += side * depth * (
                COPIES / lanes if lanes else COPY + DIVISION * (inner - 1))
            copied += side * depth * size
        return max(multiplied, read + copied / SHARED, copied / BYTES) + started


def _multiple_of(dim: Dim, number: int) -> int:
    """Of which power of two all symbols of a dim have to be multiples, so that it is a multiple of
    a larger one; 1 if it is always, or never for that."""
    powers = [1 << n for n in range(number.bit_length())]
    return next((power for power in powers if mod(substitute(
        dim, {n: power * symbol(n) for n in symbols(dim)}), number) == 0), 1)


def _bytes(tile: TensorTile) -> int:
    """Bytes of shared memory."""
    return tile.stages * (tile.height + tile.width) * tile.depth * tile.dtype.size


def _registers(tile: TensorTile) -> int:
    """The likely registers of a thread: sums, what is multiplied, and places of what is copied: of
    single elements also whether they count."""
    copied = sum(side * tile.depth // (tile.threads * max(1, lanes)) * (1 if lanes > 1 else 2)
                 for side, lanes in ((tile.height, tile.left), (tile.width, tile.right)))
    return 48 + 4 * tile.down * tile.across + 4 * tile.down + 2 * tile.across + copied
