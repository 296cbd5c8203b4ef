"""The variables of a model: name to array, in the layout in which compiled code wants it.

Values pass the door (`get`, `set`) in logical order as C-contiguous NumPy arrays; inside they lie
as their layout says, 64-byte aligned. bf16 passes as u16 bit patterns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dlc.runtime.errors import ArgumentError
from dlc.runtime.foreign import array_of
from dlc.runtime.layout import Digits, Layout
from dlc.runtime.locks import ModelLock
from dlc.runtime.memory import ALIGNMENT, DTYPES, Array, address_of, aligned_bytes, describe

__all__ = ["VariableSpec", "Variables"]


@dataclass(frozen=True, slots=True)
class VariableSpec:
    """What compiled code expects of one variable."""

    name: str
    dtype: str
    layout: Layout

    @classmethod
    def make(
        cls, name: str, dtype: str, dims: Sequence[int], digits: Digits | None = None
    ) -> VariableSpec:
        """A spec from the fields of a manifest; ValueError for a layout that is none."""
        return cls(name, dtype, Layout.make(dims, digits))

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.layout.elements * DTYPES[self.dtype].itemsize

    def __str__(self) -> str:
        dims = self.layout.dims
        return f"{self.dtype}[{', '.join(map(str, dims))}]" if dims else self.dtype


class Variables:
    """An ordered set of variables, the random state, and the lock that a step holds.

    `random` is i64[2], [seed, call number], and part of what a checkpoint keeps. `version` changes
    whenever an array moves, so that who has kept addresses knows.
    """

    def __init__(self, seed: int = 0) -> None:
        self.random: Array = np.array([seed, 0], np.int64)
        self.lock = ModelLock()
        self.version = 0
        self._specs: dict[str, VariableSpec] = {}
        self._storage: dict[str, Array] = {}
        self._slabs: dict[str, tuple[int, int]] = {}
        self._ranges: tuple[tuple[int, int], ...] = ()

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def spec(self, name: str) -> VariableSpec:
        """Type and layout of `name`; KeyError if there is none."""
        return self._specs[name]

    def require(self, specs: Iterable[VariableSpec]) -> None:
        """Make sure that all of `specs` are here, in these layouts.

        What is new is all zeros; what lies otherwise is moved, with its value. ArgumentError where
        a variable of the name has another type.
        """
        wanted = list(specs)
        with self.lock:
            self._require(wanted)

    def _require(self, wanted: list[VariableSpec]) -> None:
        """As `require`, for who holds the lock."""
        changed = [spec for spec in wanted if self._specs.get(spec.name) != spec]
        for spec in changed:
            known = self._specs.get(spec.name)
            if known is not None and str(known) != str(spec):
                raise ArgumentError(f"variable `{spec.name}` is {known} here and {spec} there")
        if changed:
            self._place(changed)
            self.version += 1

    def _place(self, specs: list[VariableSpec]) -> None:
        """Lay `specs` out in one new slab, one after another, with the values they had."""
        sizes = [-(-spec.size // ALIGNMENT) * ALIGNMENT for spec in specs]
        slab = aligned_bytes(max(sum(sizes), 1))
        slab[...] = 0
        bounds = (address_of(slab), address_of(slab) + slab.nbytes)
        start = 0
        for spec, size in zip(specs, sizes, strict=True):
            part = slab[start : start + spec.size].view(DTYPES[spec.dtype])
            storage = part.reshape(spec.layout.storage_shape)
            if spec.name in self._specs:
                spec.layout.store(self.peek(spec.name), storage)
            self._specs[spec.name], self._storage[spec.name] = spec, storage
            self._slabs[spec.name] = bounds
            start += size
        self._ranges = tuple(set(self._slabs.values()))

    def storage(self, name: str) -> Array:
        """The array that compiled code works on, in storage order. No copy."""
        return self._storage[name]

    def peek(self, name: str) -> Array:
        """As `get`, for who holds the lock."""
        return self._specs[name].layout.read(self._storage[name])

    def get(self, name: str) -> Array:
        """A copy of the value of `name`, in logical order; KeyError if there is none."""
        with self.lock.reading:
            return self.peek(name)

    def array_of(self, value: object) -> Array:
        """A value as an array of the host; `NoArray` if it is none."""
        return array_of(value)

    def set(self, name: str, value: Array) -> None:
        """Give `name` a value of exactly its type, else ArgumentError; KeyError if not there."""
        self.set_all({name: value})

    def set_all(self, values: Mapping[str, Array]) -> None:
        """Set several at once: all of them, or (where one does not fit) none."""
        arrays = {name: self._admit(name, value) for name, value in values.items()}
        with self.lock:
            self._store(arrays)

    def _store(self, arrays: dict[str, Array]) -> None:
        """Takes values that fit, for who holds the lock."""
        for name, array in arrays.items():
            self._specs[name].layout.store(array, self._storage[name])

    def _admit(self, name: str, value: Array) -> Array:
        """`value` if it has the type of `name`."""
        spec = self._specs[name]
        array = np.asarray(value)
        if array.shape != spec.layout.dims or array.dtype.newbyteorder("=") != DTYPES[spec.dtype]:
            found = describe(array.dtype, array.shape)
            raise ArgumentError(f"variable `{name}` is {spec}, but the value is {found}")
        return array

    def overlaps(self, address: int, size: int) -> bool:
        """Whether these bytes are (partly) a variable's."""
        end = address + size
        return any(address < high and low < end for low, high in self._ranges)
