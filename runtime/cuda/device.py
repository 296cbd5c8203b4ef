"""The GPU: its primary context, which PyTorch and others of the process share, and one stream."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from types import TracebackType
from typing import Any

import numpy as np

from dlc.runtime.cuda.driver import Event, dropped
from dlc.runtime.cuda.steps import Stream
from dlc.runtime.errors import GpuError, GpuMemoryError
from dlc.runtime.memory import Array

__all__ = ["Block", "Device", "device"]

PIECE = 8 << 20  # bytes of a copy, while which the host can do something
NOTES = 512  # numbers
SPARE = 8  # of results that nobody holds any more
HELP = "install it with `pip install 'dlc[cuda]'`"


class Device:
    """The first GPU. `with device:` holds it: one thread at a time works on it, in its context."""

    def __init__(self) -> None:
        self.cuda = _driver()
        self.number = 0
        found = self.cuda.Device(self.number)
        self.name = str(found.name())
        self.capability: tuple[int, int] = tuple(found.compute_capability())
        self.context = found.retain_primary_context()
        self._lock = threading.RLock()  # what shows an array of ours may be asked inside
        self._process = os.getpid()
        self.kept: weakref.WeakSet[Block] = weakref.WeakSet()
        self._arena: Block | None = None
        self._staging: Array | None = None
        self._buffers: tuple[Array, Array] | None = None
        self._notes: Array | None = None
        self._reading: Event | None = None
        self._moves: Stream | None = None
        self.spare: list[tuple[Any, int]] = []
        with self:
            self.stream = self.cuda.Stream(1)  # does not wait for the streams of others
            self.copies = self.cuda.Stream(1)  # of what is copied in while kernels run

    @property
    def arch(self) -> str:
        """What code for it is made for: `sm_80`; `sm_90a` where there is no later one like it."""
        major, minor = self.capability
        return f"sm_{major}{minor}{'a' * (major >= 9)}"

    @property
    def place(self) -> str:
        """Its name where others say theirs."""
        return f"cuda:{self.number}"

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
        while dropped:
            dropped.pop().free()
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
                self.stream.synchronize()
                for block in list(self.kept):
                    block.free()
                self._drop_spare(0)
                del self.stream, self.copies
                self._staging = self._buffers = self._notes = self._moves = None

    @contextlib.contextmanager
    def told(self, doing: str) -> Iterator[None]:
        """What the driver says inside is told as a fault of the GPU."""
        try:
            yield
        except self.cuda.Error as error:
            raise self.fault(doing, error) from error

    def scratch(self, size: int, what: str) -> int:
        """The address of the arena of all calls, which run one after another."""
        if self._arena is None or self._arena.size < size:
            if self._arena is not None:
                self.stream.synchronize()
                self._arena.free()
            self._arena = None  # the smaller one goes first: never both at a time
            self._arena = Block(self, size, what)
        return self._arena.address

    def allocate(self, size: int, what: str) -> Any:
        """Memory of the driver's; what is kept to be used again goes first where it lacks."""
        self._drop_spare(SPARE)
        try:
            return self.cuda.mem_alloc(size)
        except self.cuda.MemoryError as error:
            if self.spare:
                self._drop_spare(0)
                return self.allocate(size, what)
            free, whole = self.cuda.mem_get_info()
            raise GpuMemoryError(
                f"{what} needs {size:,} bytes on the GPU, which has {free:,} free of "
                f"{whole:,}; nothing has run") from error

    def take(self, size: int) -> tuple[Any, int] | None:
        """Memory that is kept and about as large, and its size."""
        for at in reversed(range(len(self.spare))):  # others only add to the end
            if size <= self.spare[at][1] <= 2 * size:
                return self.spare.pop(at)
        return None

    def _drop_spare(self, left: int) -> None:
        if len(self.spare) > left:
            self.stream.synchronize()
        while len(self.spare) > left:
            self.spare.pop(0)[0].free()

    def staging(self, size: int) -> Array:
        """Memory of the host that the GPU copies from and to by itself, of `size` bytes at least;
        of all calls too."""
        if self._staging is None or self._staging.nbytes < size:
            self.stream.synchronize()
            self._staging = None
            self._staging = self._pagelocked(size)
        return self._staging

    def staging_is_read(self) -> None:
        """Waits until what reads staging memory has done so."""
        if self._reading is not None:
            self._reading.wait()
            self._reading = None

    def reads_staging(self, event: Event) -> None:
        """What is on the stream now reads staging memory; nobody waits for it."""
        event.record(self.stream.handle)
        self._reading = event

    def moves(self, code: Callable[[], bytes]) -> Stream:
        """The kernels of `moves.cu`, whose machine code is asked for once."""
        if self._moves is None:
            made = code()
            with self:
                self._moves = Stream(self.cuda, self.stream, self.cuda.module_from_buffer(made))
        return self._moves

    def _pagelocked(self, size: int) -> Array:
        try:
            made: Array = self.cuda.pagelocked_empty(size, np.uint8)
        except self.cuda.MemoryError as error:
            raise GpuMemoryError(f"the system has no {size:,} bytes that the GPU can copy from "
                                 "by itself; nothing has run") from error
        return made

    def pinned(self) -> tuple[Array, Array]:
        """Two pieces of such memory, of `PIECE` bytes, for copies in turns."""
        if self._buffers is None:
            self._buffers = self._pagelocked(PIECE), self._pagelocked(PIECE)
        return self._buffers

    def notes(self) -> Array:
        """Such memory for a few numbers, in two parts: [2, `NOTES`] of i64."""
        if self._notes is None:
            self._notes = self._pagelocked(2 * NOTES * 8).view(np.int64).reshape(2, NOTES)
        return self._notes

    def fetch(self, array: Array, address: int) -> None:
        """Copies memory to an array of the host, after what is on the stream now."""
        self.stream.synchronize()
        if array.nbytes:
            self.cuda.memcpy_dtoh(array, address)

    def fault(self, function: str, error: Exception) -> GpuError:
        """The error for what the driver said while a function ran."""
        return GpuError(f"{function}: the GPU failed: {error}. What lies on it is lost, and this "
                        "process can't use it any more")


class Block:
    """Bytes on the GPU, for who holds it."""

    def __init__(self, on: Device, size: int, what: str) -> None:
        self.on, self.size = on, max(size, 1)
        self._memory = self._allocate(what)
        self.address = int(self._memory)
        on.kept.add(self)

    def _allocate(self, what: str) -> Any:
        return self.on.allocate(self.size, what)

    def free(self) -> None:
        """Gives the memory back, for who holds the device."""
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.free()

    def __del__(self) -> None:
        if getattr(self, "_memory", None) is not None:
            dropped.append(self._memory)


class Lease(Block):
    """Memory of results: what comes later on our stream uses it again once nobody holds it. Who
    else was shown it may be at work still when he lets go: then it goes back to the driver."""

    shared = False

    def _allocate(self, what: str) -> Any:
        found = self.on.take(self.size)
        if found is None:
            return super()._allocate(what)
        memory, self.size = found
        return memory

    def __del__(self) -> None:
        if self.shared:
            super().__del__()
        elif getattr(self, "_memory", None) is not None:
            self.on.spare.append((self._memory, self.size))


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
