"""Tensor maps (`CUtensorMap`): how an array lies in memory, and the boxes that kernels copy of it.

The driver makes them; a kernel takes them by value, so they are packed with its other arguments.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Final

from dlc.runtime.cuda.driver import driver, must
from dlc.runtime.memory import DTYPES

__all__ = ["MAP_BYTES", "Encode", "tensor_map"]

MAP_BYTES, ALIGNMENT, LEAST_STRIDE = 128, 64, 16
KINDS: Final = {"f16": 6, "bf16": 9}  # CU_TENSOR_MAP_DATA_TYPE_…
NOT_INTERLEAVED, LINES_OF_128, FETCH_256, ZEROS = 0, 3, 3, 0
Encode = Callable[..., int]  # as `cuTensorMapEncodeTiled`


def tensor_map(
    place: int, dtype: str, sizes: Sequence[int], steps: Sequence[int], box: Sequence[int],
    encode: Encode | None = None,
) -> bytes:
    """The map of an array at an address. Sizes are those of its axes, that of neighbours first,
    `steps` how many elements lie from one to the next along each of the others; of the box, whose
    lines have 128 bytes, those in which 16 bytes have changed places from line to line.

    No size is 0: a kernel does not ask for what is not there.
    """
    rank, size = len(sizes), DTYPES[dtype].itemsize
    memory = ctypes.create_string_buffer(MAP_BYTES + ALIGNMENT)
    start = -ctypes.addressof(memory) % ALIGNMENT
    strides = [max(step * size, LEAST_STRIDE) for step in steps]  # it is 0 beside a size of 0
    status = (encode or driver().cuTensorMapEncodeTiled)(
        ctypes.c_void_p(ctypes.addressof(memory) + start), KINDS[dtype], rank,
        ctypes.c_void_p(place), _array(ctypes.c_uint64, [max(1, n) for n in sizes]),
        _array(ctypes.c_uint64, strides), _array(ctypes.c_uint32, box),
        _array(ctypes.c_uint32, [1] * rank), NOT_INTERLEAVED, LINES_OF_128, FETCH_256, ZEROS)
    must(status, "describe an array to what copies boxes of it")
    return memory.raw[start:start + MAP_BYTES]


def _array(kind: type[ctypes.c_uint32 | ctypes.c_uint64], values: Sequence[int]) -> object:
    return (kind * len(values))(*values)
