"""What PyCUDA has not, from the driver itself, which is loaded already: events that streams of
others wait for, and where a pointer points."""

from __future__ import annotations

import ctypes
import weakref
from functools import cache
from typing import Any

from dlc.runtime.errors import GpuError

__all__ = ["LEGACY_STREAM", "Event", "device_of", "driver", "dropped", "must"]

LEGACY_STREAM = 1  # the stream without a name, which waits for all that do not say otherwise
dropped: list[Any] = []  # a collector may run anywhere: it is freed when the device is held next
_NO_TIMES = 2
_DEVICE_ORDINAL = 9


@cache
def driver() -> Any:
    """The driver's entries."""
    return ctypes.CDLL("libcuda.so.1")


def must(status: int, what: str) -> None:
    """GpuError if the driver could not do it."""
    if status:
        told = ctypes.c_char_p()
        driver().cuGetErrorString(status, ctypes.byref(told))
        why = (told.value or b"").decode() or f"status {status}"
        raise GpuError(f"the GPU's driver could not {what}: {why}")


class Event:
    """A moment of a stream, for whoever has the device's context."""

    def __init__(self) -> None:
        self._handle = ctypes.c_void_p()
        must(driver().cuEventCreate(ctypes.byref(self._handle), _NO_TIMES), "make an event")
        weakref.finalize(self, driver().cuEventDestroy_v2, self._handle).atexit = False

    def record(self, stream: int) -> None:
        """It is past when all that is on the stream now is done."""
        must(driver().cuEventRecord(self._handle, ctypes.c_void_p(stream)), "record an event")

    def hold(self, stream: int) -> None:
        """What comes next on another stream waits for it."""
        must(driver().cuStreamWaitEvent(ctypes.c_void_p(stream), self._handle, 0),
             "wait for an event")

    def wait(self) -> None:
        """Until it is past."""
        must(driver().cuEventSynchronize(self._handle), "wait for an event")


def after(stream: int, other: int) -> None:
    """What comes next on a stream waits for all that is on another now."""
    event = Event()
    event.record(other)
    event.hold(stream)


def device_of(address: int) -> int | None:
    """The number of the GPU on which an address lies; None for one that is on none."""
    found = ctypes.c_int()
    status = driver().cuPointerGetAttribute(
        ctypes.byref(found), _DEVICE_ORDINAL, ctypes.c_uint64(address))
    return None if status else found.value
