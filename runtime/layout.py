"""How a tensor lies in memory: a list of digits.

A digit is `(axis, divisor)`: of the index i of its axis it takes `i // divisor`, less what the
digits further out have taken. The outermost digit of an axis runs over ceil(extent / divisor), an
inner one over (divisor of the digit before it) / divisor; storage is row-major over the digits, and
padded where a divisor does not divide its extent. So `[(1, 1), (0, 16), (2, 1), (0, 1)]` stores
[A, B, C] as [B, ceil(A/16), C, 16]. No digits (None) mean row-major.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from dlc.runtime.memory import Array

__all__ = ["Layout"]

Digits = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of a tensor of `dims`; `digits` is () for row-major."""

    dims: tuple[int, ...]
    digits: tuple[tuple[int, int], ...] = ()

    @classmethod
    def make(cls, dims: Sequence[int], digits: Digits | None) -> Layout:
        """A layout that is known to be well formed; ValueError for one that is not."""
        pairs = tuple((int(axis), int(divisor)) for axis, divisor in digits or ())
        layout = cls(tuple(dims), pairs)
        if pairs:
            layout._check()
            if pairs == tuple((axis, 1) for axis in range(len(dims))):
                return cls(tuple(dims))
        return layout

    def _check(self) -> None:
        """Every axis has digits with divisors that divide one another, down to 1."""
        if {axis for axis, _ in self.digits} != set(range(len(self.dims))):
            raise ValueError(f"digits {self.digits} do not name the axes of {self.dims}")
        for axis in range(len(self.dims)):
            divisors = [divisor for at, divisor in self.digits if at == axis]
            nested = all(a > b > 0 and a % b == 0 for a, b in pairwise(divisors))
            if not nested or divisors[-1] != 1:
                raise ValueError(f"divisors {divisors} of axis {axis} are not nested down to 1")

    @property
    def storage_shape(self) -> tuple[int, ...]:
        """The extents of the digits: the shape of the array in memory."""
        if not self.digits:
            return self.dims
        before: dict[int, int] = {}
        shape = []
        for axis, divisor in self.digits:
            outer = before.get(axis)
            shape.append(-(-self.dims[axis] // divisor) if outer is None else outer // divisor)
            before[axis] = divisor
        return tuple(shape)

    @property
    def elements(self) -> int:
        """The number of elements in memory, padding included."""
        return prod(self.storage_shape)

    def _by_axis(self) -> list[int]:
        """Positions of the digits, ordered by axis and outermost first within each."""
        return sorted(range(len(self.digits)), key=lambda at: self.digits[at][0])

    def _padded(self) -> tuple[int, ...]:
        """The extents of the axes up to full digits."""
        shape = self.storage_shape
        return tuple(
            prod(shape[at] for at, (owner, _) in enumerate(self.digits) if owner == axis)
            for axis in range(len(self.dims))
        )

    def store(self, logical: Array, storage: Array) -> None:
        """Write `logical` (of shape `dims`) into `storage` (`storage_shape`); padding becomes 0."""
        if not self.digits:
            storage[...] = logical
            return
        padded = np.zeros(self._padded(), logical.dtype)
        padded[tuple(map(slice, self.dims))] = logical
        order = self._by_axis()
        shape = self.storage_shape
        split = padded.reshape([shape[at] for at in order])
        storage[...] = split.transpose(np.argsort(order))

    def read(self, storage: Array) -> Array:
        """A C-contiguous copy of `storage` in logical order, of shape `dims`."""
        if not self.digits:
            return storage.copy()
        joined = storage.transpose(self._by_axis()).reshape(self._padded())
        return np.array(joined[tuple(map(slice, self.dims))], order="C")
