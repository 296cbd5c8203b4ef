"""What tensor cores can multiply, and how it comes into shared memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dlc.compiler.kernels.accesses import offset_of, stride
from dlc.compiler.kernels.products import needed
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, coefficient, mod, substitute, symbol
from dlc.ir.kernel import Access, Arg, Compute, Index, Kernel
from dlc.ir.types import BF16, F16, DType

FIRST = 80  # of the architectures that have these instructions


def has_tensor_cores(target: str) -> bool:
    """Whether a GPU multiplies matrices of 16 bits, and of tf32."""
    number = "".join(c for c in target.rpartition("_")[2] if c.isdigit())
    return int(number or 0) >= FIRST


def short(kernel: Kernel, compute: Compute, value: Arg) -> DType | None:
    """The type of 16 bits that a value of a compute is made f32 of."""
    ops = needed(compute, value)
    if not ops or ops[-1].op != "cast":
        return None
    dtype = _dtype(kernel, compute, ops[-1].args[0])
    return dtype if dtype in (BF16, F16) else None


def _dtype(kernel: Kernel, compute: Compute, value: Arg) -> DType:
    if isinstance(value, str):
        return next(op.dtype for op in compute.body if op.name == value)
    return kernel.buffer(value.buffer).dtype if isinstance(value, Access) else value.dtype


def line_of(kernel: Kernel, value: Arg, over: Index, lines: Index) -> Index:
    """The index along which a factor is copied: that of the sum, `over`, if memory lies along it;
    else that of its rows."""
    along = isinstance(value, Access) and stride(kernel, value, _plain(over), 1) == 1
    return over if along else lines


def as_it_lies(value: Arg) -> Access | None:
    """What a factor is read from, if it lies in memory as it is."""
    plain = isinstance(value, Access) and value.fill is None and value.at
    return value if isinstance(value, Access) and plain else None


@dataclass(frozen=True, slots=True)
class Alignment:
    """What is known of where the memory of a kernel lies: `starts` says where it begins, and
    `known` of what symbols are multiples."""

    kernel: Kernel
    starts: Mapping[str, Sequence[Dim]]
    known: Mapping[str, Dim]

    def at_once(self, value: Arg, last: Index | None, dtype: DType) -> int:
        """How many elements of a factor along an index (None: they are copied one by one) are
        copied at once, without registers: 16 bytes of them, 8 or 4; 0 if it is made first."""
        access, pack = as_it_lies(value), 16 // dtype.size
        if access is None:
            return 0
        for lanes in (pack, pack // 2, pack // 4):
            if lanes == 1 or (last is not None and self._are_neighbours(access, last, lanes)):
                return lanes
        return 0

    def _are_neighbours(self, access: Access, last: Index, lanes: int) -> bool:
        """Whether so many elements along an index lie side by side, and aligned."""
        assert not isinstance(last.high, Access)
        offset, high = (substitute(dim, self.known) for dim in (
            offset_of(self.kernel, access, {}, {}), last.high))
        return (coefficient(offset, last.name) == 1 and mod(high, lanes) == 0
                and mod(offset - symbol(last.name), lanes) == 0
                and all(mod(start, lanes) == 0 for start in self.starts.get(access.buffer, [])))


def _plain(index: Index) -> Index:
    return Index(index.name, index.high)
