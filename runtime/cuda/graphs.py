"""CUDA graphs: what was put on a stream once, to be run again by one call. PyCUDA has none."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable

from dlc.runtime.cuda.driver import driver, must

__all__ = ["Graph"]

OF_THIS_THREAD = 1  # others may do what they want meanwhile


class Graph:
    """All that `record` puts on a stream."""

    def __init__(self, stream: int, record: Callable[[], None]) -> None:
        entries = driver()
        graph, self._whole = ctypes.c_void_p(), ctypes.c_void_p()
        self._stream = ctypes.c_void_p(stream)
        must(entries.cuStreamBeginCapture_v2(self._stream, OF_THIS_THREAD),
             "begin to record a CUDA graph")
        try:
            record()
        finally:
            status = entries.cuStreamEndCapture(self._stream, ctypes.byref(graph))
        must(status, "record a CUDA graph")
        try:
            must(entries.cuGraphInstantiateWithFlags(
                ctypes.byref(self._whole), graph, ctypes.c_ulonglong(0)), "make a CUDA graph")
        finally:
            entries.cuGraphDestroy(graph)
        self._launch = entries.cuGraphLaunch
        weakref.finalize(self, entries.cuGraphExecDestroy, self._whole).atexit = False

    def run(self) -> None:
        """Puts it on the stream."""
        must(self._launch(self._whole, self._stream), "run a CUDA graph")
