"""Arrays of other packages: taken as they lie in memory, through DLPack or the buffer protocol.

Results go the other way by themselves: they are NumPy arrays, which `torch.from_dlpack` and its
like take without a copy. While anybody holds such a view, the memory is not used again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc.runtime.memory import Array

__all__ = ["NoArray", "array_of"]

# Kinds of devices as DLPack numbers them; memory of the first three is plain memory of the host.
_HOST = (1, 3, 11)
_KINDS = {2: "cuda", 4: "opencl", 7: "vulkan", 8: "metal", 10: "rocm", 13: "cuda (managed)",
          14: "oneapi"}  # fmt: skip

ELSEWHERE = "lies on {}, where the host can't read it; copy it to the host first"


class NoArray(TypeError):
    """Why a value can't be taken as an array; `str` goes on after its name."""


def array_of(value: object) -> Array:
    """`value` as a NumPy array over the same memory, where it lies on the host; `NoArray` if not.

    A number becomes an array without dims. Nothing changes its element type.
    """
    if isinstance(value, np.ndarray):
        return value
    if hasattr(type(value), "__dlpack__"):
        _check_device(value)
        try:
            return np.from_dlpack(value)  # type: ignore[arg-type]
        except (BufferError, RuntimeError, TypeError, ValueError):
            pass  # a type that DLPack or NumPy lacks: what the array says of itself counts
    elif hasattr(value, "__cuda_array_interface__"):
        raise NoArray(ELSEWHERE.format("a GPU"))
    try:
        return np.asarray(value)
    except Exception as error:
        raise NoArray(f"is no array: {error}") from error


def _check_device(value: Any) -> None:
    try:
        kind, number = value.__dlpack_device__()
    except Exception as error:
        raise NoArray(f"is no array: {error}") from error
    if int(kind) not in _HOST:
        name = _KINDS.get(int(kind), f"device kind {int(kind)}")
        raise NoArray(ELSEWHERE.format(f"{name}:{number}"))
