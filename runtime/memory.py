"""Memory of compiled code: element types, addresses, arenas, results that are used again."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sys
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np

from dlc.runtime.limits import check_room

__all__ = ["ALIGNMENT", "DTYPES", "NO_ARENA", "Arena", "Array", "Recycler", "address_of",
           "aligned_bytes", "arenas", "describe"]  # fmt: skip

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

ALIGNMENT = 64
HUGE_PAGE = 1 << 21
# bf16 has no NumPy type: arrays of it hold the bit patterns.
DTYPES: dict[str, np.dtype[Any]] = {
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(np.uint16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "i8": np.dtype(np.int8),
    "i16": np.dtype(np.int16),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "u8": np.dtype(np.uint8),
    "bool": np.dtype(np.bool_),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items() if name != "bf16"}


def describe(dtype: np.dtype[Any], shape: Sequence[int]) -> str:
    """A type in the user's words: `f32[64, 28, 28]`, a scalar without brackets."""
    name = _NAMES.get(dtype.newbyteorder("="), str(dtype))
    return f"{name}[{', '.join(map(str, shape))}]" if len(shape) else name


def _choose_address_of() -> Callable[[Array], int]:
    """The quickest way to the address of an array's first element that works on this interpreter.

    `array.ctypes.data` and the array interface take 1 µs an array. The data pointer is the first
    field of NumPy's array object after the object's header (`PyArrayObject_fields`, part of NumPy's
    ABI), and reading it takes 0.1 µs; it is used where it agrees with the official way.
    """
    word = ctypes.sizeof(ctypes.c_size_t)
    header = object.__basicsize__
    words = (ctypes.c_size_t * (sys.maxsize // word)).from_address(0)  # all memory, as one array

    def official(array: Array) -> int:
        return int(array.__array_interface__["data"][0])

    def direct(array: Array) -> int:
        return words[(id(array) + header) // word]

    if sys.implementation.name != "cpython" or header % word:
        return official
    probe = np.arange(24, dtype=np.int16)
    probes = (probe, probe[5:], probe.reshape(2, 12)[:, 3:])
    return direct if all(direct(array) == official(array) for array in probes) else official


address_of = _choose_address_of()


def aligned_bytes(size: int) -> Array:
    """A u8 array of `size` bytes at a multiple of 64; its contents are undefined.

    Large ones lie in huge pages as far as they fill them, where the system has such: one page fault
    for 2 MB, not 512.
    """
    check_room(size)
    large = size >= HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE")
    return _huge_bytes(size) if large else _placed(np.empty(size + ALIGNMENT, np.uint8), size)


def _placed(whole: Array, size: int, alignment: int = ALIGNMENT) -> Array:
    """`size` bytes of `whole` that begin at a multiple of `alignment`."""
    start = -address_of(whole) % alignment
    return whole[start : start + size]


def _huge_bytes(size: int) -> Array:
    """Memory of its own, which goes back to the system when the last view of it goes."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        memory = mmap.mmap(-1, size + HUGE_PAGE, flags=flags)
    except OSError as error:
        raise MemoryError(f"the system has no {size:,} bytes") from error
    array = _placed(np.frombuffer(memory, np.uint8), size, HUGE_PAGE)
    start = address_of(array) - address_of(np.frombuffer(memory, np.uint8))
    with contextlib.suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE, start, size - size % HUGE_PAGE)
    return array


class Arena:
    """Scratch memory of one call; compiled code keeps nothing in it between calls."""

    __slots__ = ("address", "capacity", "memory")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.memory = aligned_bytes(max(capacity, 1))
        self.address = address_of(self.memory)


NO_ARENA = Arena(0)  # where nothing is needed: a place all the same, never null


class ArenaPool:
    """The process's arenas: as many as calls have run at one time, each as large as was needed.

    One for all functions, since calls one after another never need two at a time. `list.pop` and
    `append` are atomic, so no lock is needed.
    """

    def __init__(self) -> None:
        self._free: list[Arena] = []

    def take(self, size: int) -> Arena:
        """An arena of at least `size` bytes, which is the caller's until it is given back."""
        try:
            arena = self._free.pop()
        except IndexError:
            return Arena(size)
        if arena.capacity >= size:
            return arena
        del arena  # the smaller one goes first: never both at a time
        return Arena(size)

    def give(self, arena: Arena) -> None:
        """Give `arena` back."""
        self._free.append(arena)

    def clear(self) -> None:
        """Hand the memory of all idle arenas back to the system."""
        self._free.clear()


arenas = ArenaPool()


class Recycler:
    """Large result arrays of one output: memory is used again when the caller has dropped it.

    Fresh memory of 16 MB costs some 4,000 page faults, as much as the kernel that fills it. Memory
    is free when nothing but this list refers to it: results, their views and exported buffers do.
    """

    LARGE = 256 * 1024
    KEPT = 3

    __slots__ = ("_dtype", "_kept")

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._kept: list[Array] = []

    def take(self, shape: tuple[int, ...]) -> Array:
        """An array of `shape`, with undefined contents, whose memory nobody else holds."""
        size = prod(shape) * self._dtype.itemsize
        memory = self._unused(size) if _COUNTS_ARE_EXACT else None
        if memory is None:
            memory = aligned_bytes(size)
            if _COUNTS_ARE_EXACT:
                del self._kept[: len(self._kept) + 1 - self.KEPT]
                self._kept.append(memory)
        return np.ndarray(shape, self._dtype, memory)

    def _unused(self, size: int) -> Array | None:
        """Kept memory of at least `size` bytes, and at most twice that, which nobody uses."""
        kept = self._kept
        for _ in range(len(kept)):
            found, references = _pop_first(kept)
            if found is None:
                return None
            kept.append(found)
            if references == _UNUSED and size <= found.nbytes <= 2 * size:
                return found
        return None


def _pop_first(kept: list[Array]) -> tuple[Array | None, int]:
    """The first memory of `kept`, which no other thread can get any more, and who refers to it.

    What NumPy makes of a part of an array, and of parts of that, all refers to the whole one.
    `list.pop` is atomic, so this needs no lock (which a fork might find held).
    """
    try:
        memory = kept.pop(0)
    except IndexError:
        return None, 0
    return memory, sys.getrefcount(memory.base)


_COUNTS_ARE_EXACT = (
    sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
)


# What `_pop_first` counts for memory that nobody else refers to: it depends on the interpreter.
_UNUSED = _pop_first([aligned_bytes(1)])[1]
