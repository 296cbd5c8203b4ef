"""Memory of compiled code: element types, addresses, arenas, results that are used again."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from dlc.runtime.limits import check_room

__all__ = ["ALIGNMENT", "DTYPES", "Arena", "Array", "Recycler", "address_of", "aligned_bytes",
           "arenas", "describe"]  # fmt: skip

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

ALIGNMENT = 64
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

    `array.ctypes.data` and the array interface take 1.4 µs an array. The data pointer is the first
    field of NumPy's array object after the object's header (`PyArrayObject_fields`, part of NumPy's
    ABI), and reading it takes 0.2 µs; it is used where it agrees with the official way.
    """
    header = object.__basicsize__
    read = ctypes.c_size_t.from_address

    def official(array: Array) -> int:
        return int(array.__array_interface__["data"][0])

    def direct(array: Array) -> int:
        return read(id(array) + header).value

    if sys.implementation.name != "cpython":
        return official
    probe = np.arange(24, dtype=np.int16)
    probes = (probe, probe[5:], probe.reshape(2, 12)[:, 3:])
    return direct if all(direct(array) == official(array) for array in probes) else official


address_of = _choose_address_of()


def aligned_bytes(size: int) -> Array:
    """A fresh u8 array of `size` bytes at a multiple of 64; its contents are undefined.

    (NumPy asks the system for huge pages where an array is large.)
    """
    check_room(size)
    whole = np.empty(size + ALIGNMENT, np.uint8)
    start = -address_of(whole) % ALIGNMENT
    return whole[start : start + size]


class Arena:
    """Scratch memory of one call; compiled code keeps nothing in it between calls."""

    __slots__ = ("address", "capacity", "memory")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.memory = aligned_bytes(max(capacity, 1))
        self.address = address_of(self.memory)


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
    """Result arrays of one output. A large one is used again when the caller has dropped it.

    A fresh array of 16 MB costs some 4,000 page faults, as much as the kernel that fills it. An
    array is free when nothing but this list refers to it: views and exported buffers of an array
    refer to it too.
    """

    LARGE = 256 * 1024
    KEPT = 3

    __slots__ = ("_dtype", "_kept")

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._kept: list[Array] = []

    def take(self, shape: tuple[int, ...], size: int) -> Array:
        """An array of `shape` (`size` bytes), with undefined contents, that nobody else holds."""
        if size < self.LARGE:
            return np.empty(shape, self._dtype)
        check_room(size)
        if not _COUNTS_ARE_EXACT:
            return np.empty(shape, self._dtype)
        kept = self._kept
        for _ in range(len(kept)):
            found, references = _pop_first(kept)
            if found is not None and found.shape == shape:
                kept.append(found)
                if references == _UNUSED:
                    return found
        fresh: Array = np.empty(shape, self._dtype)
        del kept[: len(kept) + 1 - self.KEPT]
        kept.append(fresh)
        return fresh


def _pop_first(kept: list[Array]) -> tuple[Array | None, int]:
    """The first array of `kept`, which no other thread can get any more, and its references.

    `list.pop` is atomic, so this needs no lock (which a fork might find held).
    """
    try:
        array = kept.pop(0)
    except IndexError:
        return None, 0
    return array, sys.getrefcount(array)


_COUNTS_ARE_EXACT = (
    sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
)


# What `_pop_first` counts for an array that nobody else refers to: it depends on the interpreter.
_UNUSED = _pop_first([np.empty(0)])[1]
