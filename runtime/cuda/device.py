"""The GPU: its primary context, which PyTorch and others of the process share, and one stream."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from functools import cache
from importlib import import_module
from types import TracebackType
from typing import Any

import numpy as np

from dlc.runtime.errors import GpuError, GpuMemoryError
from dlc.runtime.memory import Array

__all__ = ["Block", "Device", "device"]

HELP = "install it with `pip install 'dlc[cuda]'`"


class Device:
    """The first GPU. `with device:` holds it: one thread at a time works on it, in its context."""

    def __init__(self) -> None:
        self.cuda = _driver()
        found = self.cuda.Device(0)
        self.name = str(found.name())
        self.capability: tuple[int, int] = tuple(found.compute_capability())
        self.context = found.retain_primary_context()
        self._lock = threading.Lock()
        self._process = os.getpid()
        self.kept: weakref.WeakSet[Block] = weakref.WeakSet()
        self._arena: Block | None = None
        self._staging: Array | None = None
        with self:
            self.stream = self.cuda.Stream(1)  # does not wait for the streams of others

    @property
    def arch(self) -> str:
        """What code for it is made for: `sm_80`; `sm_90a` where there is no later one like it."""
        major, minor = self.capability
        return f"sm_{major}{minor}{'a' * (major >= 9)}"

    def __str__(self) -> str:
        major, minor = divmod(int(self.cuda.get_driver_version()) // 10, 100)  # 12040 is 12.4
        return f"{self.name}, {self.arch}, a driver for CUDA {major}.{minor}"

    def __enter__(self) -> Device:
        if os.getpid() != self._process:
            raise GpuError("the GPU was in use before this process was forked: CUDA can't be used "
                           "in it; start such processes by `spawn`")
        self._lock.acquire()
        try:
            self.context.push()
        except BaseException:
            self._lock.release()
            raise
        while _dropped:
            _dropped.pop().free()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            self.cuda.Context.pop()
        finally:
            self._lock.release()

    def close(self) -> None:
        """Gives all memory back, while there is a context still."""
        if os.getpid() == self._process:
            with self:
                for block in list(self.kept):
                    block.free()
                del self.stream
                self._staging = None

    def scratch(self, size: int, what: str) -> int:
        """The address of the arena of all calls, which run one after another."""
        if self._arena is None or self._arena.size < size:
            if self._arena is not None:
                self._arena.free()
            self._arena = None  # the smaller one goes first: never both at a time
            self._arena = Block(self, size, what)
        return self._arena.address

    def staging(self, size: int) -> Array:
        """Memory of the host that the GPU copies from and to by itself, of `size` bytes at least;
        of all calls too."""
        if self._staging is None or self._staging.nbytes < size:
            self._staging = None
            try:
                self._staging = self.cuda.pagelocked_empty(size, np.uint8)
            except self.cuda.MemoryError as error:
                raise GpuMemoryError(f"the system has no {size:,} bytes that the GPU can copy from "
                                     "by itself; nothing has run") from error
        return self._staging

    def finish_copies(self) -> None:
        """Waits for copies from plain memory of the host, for which the stream does not."""
        self.cuda.Context.synchronize()

    def fault(self, function: str, error: Exception) -> GpuError:
        """The error for what the driver said while a function ran."""
        return GpuError(f"{function}: the GPU failed: {error}. What lies on it is lost, and this "
                        "process can't use it any more")


class Block:
    """Bytes on the GPU, for who holds it."""

    def __init__(self, on: Device, size: int, what: str) -> None:
        self.on, self.size = on, max(size, 1)
        try:
            self._memory = on.cuda.mem_alloc(self.size)
        except on.cuda.MemoryError as error:
            free, whole = on.cuda.mem_get_info()
            raise GpuMemoryError(
                f"{what} needs {self.size:,} bytes on the GPU, which has {free:,} free of "
                f"{whole:,}; nothing has run") from error
        self.address = int(self._memory)
        on.kept.add(self)

    def free(self) -> None:
        """Gives the memory back, for who holds the device."""
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.free()

    def __del__(self) -> None:
        if getattr(self, "_memory", None) is not None:
            _dropped.append(self._memory)


_dropped: list[Any] = []  # a collector may run anywhere: memory goes when the device is held next


def _driver() -> Any:
    """PyCUDA's driver module, begun."""
    try:
        cuda: Any = import_module("pycuda.driver")
    except ImportError as error:
        raise _cause(str(error)) from error
    try:
        cuda.init()
        count = cuda.Device.count()
    except cuda.Error as error:
        raise GpuError(f"there is no GPU that can be used: {error}") from error
    if not count:
        raise GpuError("there is no GPU that can be used: the driver finds no device")
    return cuda


def _cause(text: str) -> GpuError:
    """Why PyCUDA can't be imported."""
    if "libcuda" in text and "undefined symbol" not in text:
        return GpuError(f"there is no driver of NVIDIA's on this machine: {text}")
    if "undefined symbol" in text:
        return GpuError(f"the driver of the GPU is older than PyCUDA wants: {text}; update it")
    return GpuError(f"a GPU is used through PyCUDA, which is not here: {text}; {HELP}")


@cache
def _first() -> Device:
    found = Device()
    atexit.register(found.close)
    return found


_making = threading.Lock()


def device() -> Device:
    """The GPU of this process; GpuError says why there is none."""
    with _making:
        return _first()
