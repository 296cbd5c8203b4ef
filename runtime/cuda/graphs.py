"""CUDA graphs: what was put on a stream once, to be run again by one call.

PyCUDA has none: they are had from the driver, which is loaded already.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

from dlc.runtime.errors import GpuError

__all__ = ["Graph"]

OF_THIS_THREAD = 1  # others may do what they want meanwhile


class Graph:
    """All that `record` puts on a stream."""

    def __init__(self, stream: int, record: Callable[[], None]) -> None:
        driver = _driver()
        graph, self._whole = ctypes.c_void_p(), ctypes.c_void_p()
        self._stream = ctypes.c_void_p(stream)
        _must(driver.cuStreamBeginCapture_v2(self._stream, OF_THIS_THREAD), "begin to record")
        try:
            record()
        finally:
            status = driver.cuStreamEndCapture(self._stream, ctypes.byref(graph))
        _must(status, "record")
        try:
            _must(driver.cuGraphInstantiateWithFlags(
                ctypes.byref(self._whole), graph, ctypes.c_ulonglong(0)), "make")
        finally:
            driver.cuGraphDestroy(graph)
        self._launch = driver.cuGraphLaunch
        weakref.finalize(self, driver.cuGraphExecDestroy, self._whole).atexit = False

    def run(self) -> None:
        """Puts it on the stream."""
        _must(self._launch(self._whole, self._stream), "run")


def _must(status: int, what: str) -> None:
    if status:
        raise GpuError(f"the driver could not {what} a CUDA graph: status {status}")


@cache
def _driver() -> Any:
    return ctypes.CDLL("libcuda.so.1")
