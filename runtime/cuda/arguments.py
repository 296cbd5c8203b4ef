"""Which arguments a function on a GPU takes: arrays of the host, as on a CPU, and arrays that lie
on the GPU already."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from dlc.runtime.arguments import Arguments
from dlc.runtime.artifact import Manifest
from dlc.runtime.cuda.arrays import Found, GpuArray, find, is_on_gpu
from dlc.runtime.cuda.device import Device, Lease
from dlc.runtime.cuda.plan import Launch
from dlc.runtime.cuda.steps import Stream
from dlc.runtime.foreign import NoArray
from dlc.runtime.memory import DTYPES

__all__ = ["ALIGNMENT", "CudaArguments", "packed"]

ALIGNMENT = 16  # bytes that kernels read at once
MOST_AXES = 6  # of `pack_array`
THREADS = 256
MOST_BLOCKS = 4096


class CudaArguments(Arguments):
    """As `Arguments`. What lies on the GPU is taken as it lies if it is C-contiguous and aligned;
    else it is copied there by `moves`."""

    def __init__(self, manifest: Manifest, on: Device, moves: Callable[[], Stream]) -> None:
        super().__init__(manifest)
        self._on, self._moves = on, moves

    def admit(self, at: int, value: object, rows: bool = False) -> Any:
        """As of `Arguments`; a `GpuArray` of what lies on the GPU."""
        if not isinstance(value, GpuArray) and not is_on_gpu(value):
            return super().admit(at, value, rows)
        spec = self._inputs[at]
        try:
            found = value if isinstance(value, GpuArray) else find(value, self._on)
            if found.name != spec.dtype or found.ndim != len(spec.dims) + rows:
                raise self.misfit(spec, str(found))
            return packed(found, self._on, self._moves)
        except NoArray as error:
            raise self.fail(f"argument `{spec.name}` {error}") from error


def packed(found: GpuArray | Found, on: Device, moves: Callable[[], Stream]) -> GpuArray:
    """It as kernels read it; `NoArray` if that can't be had."""
    if isinstance(found, GpuArray) and found.address % ALIGNMENT == 0:
        return found
    strides = None if isinstance(found, GpuArray) else found.strides
    if strides is None and found.name in DTYPES and found.address % ALIGNMENT == 0:
        return GpuArray(on, found.address, found.name, found.shape, found.keeper)
    if found.name not in DTYPES:
        raise NoArray(f"is {found}, and there is no such type here")
    size, count = DTYPES[found.name].itemsize, prod(found.shape)
    axes = _axes(found.shape, strides)
    if len(axes) > MOST_AXES:
        raise NoArray(f"has gaps along {len(axes)} axes; make it contiguous first")
    kernels = moves()
    with on, on.told("copying an argument"):
        made = Lease(on, count * size, "an argument that is not contiguous")
        to = GpuArray(on, made.address, found.name, found.shape, made)
        axes = [(1, 0)] * (MOST_AXES - len(axes)) + axes
        numbers = [count, size, *(n for n, _ in axes), *(s * size for _, s in axes)]
        blocks = min(-(-count // THREADS), MOST_BLOCKS)
        if count:
            kernels.launch(Launch.make(
                "pack_array", blocks, THREADS, [found.address, to.address], numbers))
            on.stream.synchronize()  # its owner may change it from now on
    return to


def _axes(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> list[tuple[int, int]]:
    """Sizes and strides with as few axes as say the same."""
    if strides is None:
        return [(prod(shape), 1)]
    axes: list[tuple[int, int]] = []
    for size, stride in zip(shape, strides, strict=True):
        if size == 1:
            continue
        if axes and axes[-1][1] == size * stride:
            axes[-1] = axes[-1][0] * size, stride
        else:
            axes.append((size, stride))
    return axes
