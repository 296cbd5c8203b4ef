"""What compiled code prints: it calls back with a block that says which print, and what of.

The block holds the number of the print, the pointers to its values, and all their dims.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from dlc.runtime.callbacks import Callback
from dlc.runtime.memory import DTYPES, Array

__all__ = ["PrintSpec", "Printer", "text_of"]


@dataclass(frozen=True, slots=True)
class PrintSpec:
    """One print: texts, between each two of them a value; the element types and ranks of these."""

    parts: tuple[str, ...]
    dtypes: tuple[str, ...]
    ranks: tuple[int, ...]


class Printer(Callback):
    """The function that the compiled code of one call prints with.

    After an exception (of a closed pipe, of Ctrl-C) nothing more is printed.
    """

    def __init__(self, specs: Sequence[PrintSpec]) -> None:
        super().__init__(lambda place: print(_text(specs, place or 0)))


def _text(specs: Sequence[PrintSpec], place: int) -> str:
    """What is printed of the block at an address."""
    spec = specs[ctypes.c_int64.from_address(place).value - 1]
    count, step = len(spec.dtypes), ctypes.sizeof(ctypes.c_int64)
    addresses = (ctypes.c_void_p * count).from_address(place + step)
    extents = iter((ctypes.c_int64 * sum(spec.ranks)).from_address(place + step * (1 + count)))
    return text_of(spec, [
        _array(address, dtype, tuple(next(extents) for _ in range(rank)))
        for address, dtype, rank in zip(addresses, spec.dtypes, spec.ranks, strict=True)])


def text_of(spec: PrintSpec, values: Sequence[Array]) -> str:
    """What a print says of values; bfloat16 is told as float32."""
    text = spec.parts[0]
    for value, dtype, part in zip(values, spec.dtypes, spec.parts[1:], strict=True):
        told = (value.astype(np.uint32) << 16).view(np.float32) if dtype == "bf16" else value
        text += f"{told}{part}"
    return text


def _array(address: int | None, dtype: str, shape: tuple[int, ...]) -> Array:
    """A copy of the elements at an address."""
    kind = DTYPES[dtype]
    count = prod(shape)
    found = np.frombuffer(ctypes.string_at(address or 0, count * kind.itemsize), kind)
    return found.reshape(shape)
