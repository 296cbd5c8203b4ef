"""How many elements side by side a GPU's thread reads or writes at once: 16 bytes, where memory
allows it at all places of a kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dlc.compiler.kernels.accesses import accesses, stride, uses
from dlc.compiler.loops.shared_tiles import PACK
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, as_multiples, mod, substitute, symbol, symbols
from dlc.ir.kernel import Access, Compute, Index, Kernel, computes
from dlc.ir.schedule import PAIR, GroupTile, SharedTile, TensorTile

WIDE = 16  # bytes of one access, at most


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Elements side by side of one kernel. `starts` are, for each parameter, where its memory
    begins in a buffer, in elements; `multiples` are symbols taken for multiples of numbers."""

    kernel: Kernel
    starts: Mapping[str, Sequence[Dim]]
    multiples: Mapping[str, int]

    def along(self, index: Index, found: Sequence[Access]) -> int:
        """How many places along an index are one of these accesses, if its length is a multiple of
        that; else 1."""
        lanes = self._most(index, found)
        return lanes if self.come_out_even(index, lanes) and self._fit(index, lanes, found) else 1

    def wished(self, index: Index) -> dict[str, int]:
        """Of what symbols would have to be multiples, so that places along an index are one access.
        """
        lanes = self._most(index, self.accesses())
        return {n: lanes for n in symbols(_length(index)) if lanes > 1}

    def flat(self, index: Index) -> int:
        """As `along`, of an index whose last places may go one by one."""
        found = self.accesses()
        lanes = self._most(index, found)
        return lanes if self._fit(index, lanes, found) else 1

    def of_results(self, tile: SharedTile | TensorTile | GroupTile) -> tuple[str, int]:
        """Along which index a thread has results of a tile side by side, and how many of them are
        one access."""
        index = next((i for i in self.kernel.outer if i.name in tile.columns[-1:]), None)
        if index is None or (isinstance(tile, SharedTile) and tile.slices > 1):
            return "", 1
        _, *after = (c for c in self.kernel.body if isinstance(c, Compute))
        found = [a for c in after for a in accesses(c) if a.at]
        side = PACK if isinstance(tile, SharedTile) else PAIR
        lanes = min(side, self._most(index, found))
        fits = lanes > 1 and self.come_out_even(index, lanes) and self._fit(index, lanes, found)
        return (index.name, lanes) if fits else ("", 1)

    def accesses(self) -> list[Access]:
        """All that a kernel reads and writes, but for single values."""
        return [a for c in computes(self.kernel.body) for a in accesses(c) if a.at]

    def come_out_even(self, index: Index, lanes: int) -> bool:
        """Whether the length of an index is a multiple of some lanes."""
        return index.low == 0 and self._is_multiple(_length(index), lanes)

    def _fit(self, index: Index, lanes: int, found: Iterable[Access]) -> bool:
        """Whether so many neighbours along an index are one, or lie side by side and aligned."""
        return all(self._may_widen(access, index, lanes) for access in found)

    def _most(self, index: Index, found: Iterable[Access]) -> int:
        """How many places along an index are 16 bytes of all that goes along it."""
        return WIDE // max((self.kernel.buffer(a.buffer).dtype.size for a in found
                            if uses(a, index.name)), default=WIDE)

    def _may_widen(self, access: Access, index: Index, lanes: int) -> bool:
        if access.fill is not None or any(isinstance(e, Access) for e in access.at):
            return False
        step = stride(self.kernel, access, index, lanes)
        if step == 0:
            return True
        if step != 1 or self.kernel.buffer(access.buffer).role == "local":
            return False
        return self._is_aligned(access, index, lanes)

    def _is_aligned(self, access: Access, index: Index, lanes: int) -> bool:
        buffer = self.kernel.buffer(access.buffer)
        if not buffer.layout.is_row_major or any(
                mod(start, lanes) != 0 for start in self.starts.get(access.buffer, [])):
            return False
        # Rows begin at multiples of their length, and the index itself at multiples of the lanes.
        *outer, last = access.at
        assert not isinstance(last, Access)
        rest = mod(last - symbol(index.name), lanes)
        return rest == 0 and (not outer or self._is_multiple(buffer.dims[-1], lanes))

    def _is_multiple(self, dim: Dim, number: int) -> bool:
        return mod(substitute(dim, as_multiples(self.multiples)), number) == 0


def _length(index: Index) -> Dim:
    assert not isinstance(index.high, Access)
    assert not isinstance(index.low, Access)
    return index.high - index.low
