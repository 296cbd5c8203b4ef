"""Arrays on the GPU: results that stay there, and what other packages have there."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from dlc.runtime.cuda import dlpack
from dlc.runtime.cuda.device import Device, Lease
from dlc.runtime.cuda.driver import LEGACY_STREAM, after, device_of
from dlc.runtime.foreign import NoArray
from dlc.runtime.memory import DTYPES, Array, describe

__all__ = ["Found", "GpuArray", "find", "is_on_gpu"]


class GpuArray:
    """A C-contiguous array on the GPU.

    `numpy.asarray` copies it to the host. PyTorch, CuPy, JAX, Numba and others take it as it lies,
    through DLPack or `__cuda_array_interface__`, in the order of streams. `dtype` is NumPy's;
    `name` is the language's. A part along the first axis (`a[3:7]`, `a[0]`) shares the memory.
    """

    __slots__ = ("address", "dtype", "keeper", "name", "on", "shape")

    def __init__(
        self, on: Device, address: int, name: str, shape: tuple[int, ...], keeper: object
    ) -> None:
        self.on, self.address, self.name, self.shape = on, address, name, shape
        self.keeper, self.dtype = keeper, DTYPES[name]

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of its elements."""
        return prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array without axes has no length")
        return self.shape[0]

    def __getitem__(self, place: int | slice) -> GpuArray:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                raise IndexError("a part of an array on the GPU is one without gaps")
            shape = (max(stop - start, 0), *self.shape[1:])
        else:
            start, shape = range(len(self))[place], self.shape[1:]
        row = prod(self.shape[1:]) * self.dtype.itemsize
        return GpuArray(self.on, self.address + start * row, self.name, shape, self.keeper)

    def reshape(self, shape: tuple[int, ...]) -> GpuArray:
        """The same elements in another shape."""
        assert prod(shape) == prod(self.shape)
        return GpuArray(self.on, self.address, self.name, shape, self.keeper)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("an array on the GPU is copied to the host")
        made = np.empty(self.shape, self.dtype)
        with self.on as on, on.told("reading an array"):
            on.fetch(made, self.address)
        return made if dtype is None else made.astype(dtype, copy=False)

    def _show(self, stream: int | None) -> None:
        """Others see it from now on: what they do on a stream waits for the work that makes it."""
        if isinstance(self.keeper, Lease):
            self.keeper.shared = True
        if stream is not None:
            with self.on as on:
                after(stream, on.stream.handle)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        self._show(None)
        return {"shape": self.shape, "typestr": self.dtype.str, "version": 3, "strides": None,
                "data": (self.address if self.nbytes else 0, False),
                "stream": self.on.stream.handle}

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self.on.number

    def __dlpack__(
        self, *, stream: int | None = None, max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None, copy: bool | None = None,
    ) -> Any:
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError("this array is shared as it lies on the GPU; NumPy makes a copy")
        self._show(None if stream == -1 else LEGACY_STREAM if stream is None else stream)
        tensor = dlpack.Tensor(
            self.address, self.on.number, self.name, self.shape, None, self.keeper)
        return dlpack.give(tensor, versioned=max_version is not None and max_version[0] >= 1)

    def __repr__(self) -> str:
        return f"<{self} on {self.on.place}>"

    def __str__(self) -> str:
        return f"{self.name}[{', '.join(map(str, self.shape))}]" if self.shape else self.name


class Found:
    """An array of another package on our GPU; strides count elements."""

    __slots__ = ("address", "keeper", "name", "shape", "strides")

    def __init__(
        self, address: int, name: str, shape: tuple[int, ...], strides: tuple[int, ...] | None,
        keeper: object,
    ) -> None:
        self.address, self.name, self.shape, self.keeper = address, name, shape, keeper
        self.strides = None if strides is None or _is_contiguous(shape, strides) else strides

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    def __str__(self) -> str:
        return f"{self.name}[{', '.join(map(str, self.shape))}]" if self.shape else self.name


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    if 0 in shape:
        return True
    expected = [prod(shape[at + 1:]) for at in range(len(shape))]
    return all(size == 1 or stride == wanted
               for size, stride, wanted in zip(shape, strides, expected, strict=True))


def is_on_gpu(value: object) -> bool:
    """Whether a value says that it is an array on a GPU of NVIDIA's."""
    if isinstance(value, np.ndarray):
        return False
    try:
        if hasattr(type(value), "__dlpack_device__"):
            return value.__dlpack_device__()[0] in (  # type: ignore[attr-defined]
                dlpack.CUDA, dlpack.CUDA_MANAGED)
        return hasattr(value, "__cuda_array_interface__")
    except Exception:
        return False  # who takes it as an array of the host says why it is none


def find(value: Any, on: Device) -> Found:
    """The array of a value for which `is_on_gpu` holds; `NoArray` says why it can't be taken.

    What comes next on our stream waits for the work of its owner, as far as he says of it.
    """
    with on:
        if hasattr(type(value), "__dlpack__"):
            return _by_dlpack(value, on)
        return _by_interface(value, value.__cuda_array_interface__, on)


def _by_dlpack(value: Any, on: Device) -> Found:
    number = int(value.__dlpack_device__()[1])
    if number != on.number:
        raise _elsewhere(number, on)
    try:
        try:
            capsule = value.__dlpack__(stream=on.stream.handle, max_version=dlpack.VERSION)
        except TypeError:  # it knows the first version alone
            capsule = value.__dlpack__(stream=on.stream.handle)
        found = dlpack.take(capsule)
    except Exception as error:
        raise NoArray(f"is no array: {error}") from error
    return Found(found.address, found.name, found.shape, found.strides, found.keeper)


def _by_interface(value: Any, said: dict[str, Any], on: Device) -> Found:
    if said.get("mask") is not None:
        raise NoArray("has a mask, and masked arrays can't be taken")
    address, shape = int(said["data"][0] or 0), tuple(map(int, said["shape"]))
    number = device_of(address) if prod(shape) else on.number
    if number is None:
        raise NoArray("says that it is on a GPU, but its memory is not")
    if number != on.number:
        raise _elsewhere(number, on)
    # None: nothing to wait for. Some say that and mean the stream without a name, so that is asked.
    after(on.stream.handle, said.get("stream") or LEGACY_STREAM)
    dtype, strides = np.dtype(said["typestr"]), said.get("strides")
    if strides is not None:
        strides = tuple(int(stride) // dtype.itemsize for stride in strides)
    name = "bf16" if dtype == DTYPES["bf16"] else describe(dtype, ())
    return Found(address, name, shape, strides, value)


def _elsewhere(number: int, on: Device) -> NoArray:
    return NoArray(f"lies on cuda:{number}, but the function runs on {on.place}; copy it there "
                   "first")
