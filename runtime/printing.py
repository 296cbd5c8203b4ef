"""What compiled code prints: it calls back with the number of a print, and where the values lie."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from dlc.runtime.memory import DTYPES, Array

__all__ = ["PrintSpec", "Printer"]

_PRINT = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class PrintSpec:
    """One print: texts, between each two of them a value; the element types and ranks of these."""

    parts: tuple[str, ...]
    dtypes: tuple[str, ...]
    ranks: tuple[int, ...]


class Printer:
    """The function that the compiled code of one call prints with.

    An exception (of a closed pipe, of Ctrl-C) can't pass through compiled code: it is kept, what
    follows is not printed, and `settle` raises it once the code has returned.
    """

    def __init__(self, specs: Sequence[PrintSpec]) -> None:
        self._specs = specs
        self._raised: BaseException | None = None
        self._function = _PRINT(self._print)
        self.address = ctypes.cast(self._function, ctypes.c_void_p).value

    def settle(self) -> None:
        """Raises what was raised while something was printed."""
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    def _print(self, code: int, pointers: int, dims: int) -> None:
        try:
            if self._raised is None:
                print(self._text(self._specs[code - 1], pointers, dims))
        except BaseException as error:  # `settle` raises it
            self._raised = error

    def _text(self, spec: PrintSpec, pointers: int, dims: int) -> str:
        addresses = (ctypes.c_void_p * len(spec.dtypes)).from_address(pointers)
        extents = iter((ctypes.c_int64 * sum(spec.ranks)).from_address(dims))
        text = spec.parts[0]
        for address, dtype, rank, part in zip(
                addresses, spec.dtypes, spec.ranks, spec.parts[1:], strict=True):
            shape = tuple(next(extents) for _ in range(rank))
            text += f"{_array(address, dtype, shape)}{part}"
        return text


def _array(address: int | None, dtype: str, shape: tuple[int, ...]) -> Array:
    """A copy of the elements at an address; bfloat16 as float32."""
    kind = DTYPES[dtype]
    count = prod(shape)
    found = np.frombuffer(ctypes.string_at(address or 0, count * kind.itemsize), kind)
    if dtype == "bf16":
        found = (found.astype(np.uint32) << 16).view(np.float32)
    return found.reshape(shape)
