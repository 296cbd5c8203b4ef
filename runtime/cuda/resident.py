"""Launches whose blocks are all resident at once, and so may wait for each other: the driver calls
them cooperative. PyCUDA has none, and shows no handles: the code is loaded once more for them."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from dlc.runtime.cuda.driver import driver, dropped, must

if TYPE_CHECKING:
    from dlc.runtime.cuda.plan import Launch

__all__ = ["ResidentKernels"]

_PROCESSORS, _COOPERATIVE = 16, 95  # attributes of a device
_MOST_SHARED = 8  # attribute of a function


class ResidentKernels:
    """The kernels of a cubin, for whoever has the device's context."""

    def __init__(self, code: bytes) -> None:
        self._code = code
        self._module: _Module | None = None
        self._functions: dict[str, ctypes.c_void_p] = {}
        self._rooms: dict[tuple[str, int], int] = {}

    def room(self, launch: Launch) -> int:
        """How many blocks of a launch the device holds at once; 0 where it does not say so."""
        key = launch.kernel, launch.block[0]
        if key not in self._rooms:
            self._rooms[key] = self._find_room(launch)
        return self._rooms[key]

    def _find_room(self, launch: Launch) -> int:
        each, device = ctypes.c_int(), ctypes.c_int()
        must(driver().cuCtxGetDevice(ctypes.byref(device)), "say which device this is")
        if not _attribute(_COOPERATIVE, device):
            return 0
        must(driver().cuOccupancyMaxActiveBlocksPerMultiprocessor(
            ctypes.byref(each), self._function(launch), launch.block[0],
            ctypes.c_size_t(launch.shared)), "say how many blocks have room")
        return each.value * _attribute(_PROCESSORS, device)

    def _function(self, launch: Launch) -> ctypes.c_void_p:
        found = self._functions.get(launch.kernel)
        if found is None:
            if self._module is None:
                self._module = _Module(self._code)
            found = self._functions[launch.kernel] = self._module.function(launch.kernel)
            if launch.shared:
                must(driver().cuFuncSetAttribute(found, _MOST_SHARED, launch.shared),
                     "give a kernel its shared memory")
        return found

    def launch(self, launch: Launch, stream: int) -> None:
        """Puts a launch on a stream."""
        arguments = ctypes.create_string_buffer(launch.arguments, len(launch.arguments))
        start = ctypes.addressof(arguments)
        places = [*range(start, start + len(launch.arguments), 8), None]
        must(driver().cuLaunchCooperativeKernel(
            self._function(launch), launch.grid[0], 1, 1, launch.block[0], 1, 1, launch.shared,
            ctypes.c_void_p(stream), (ctypes.c_void_p * len(places))(*places)),
            "launch blocks that are resident at once")


class _Module:
    """A cubin, loaded; it is unloaded when the device is held next."""

    def __init__(self, code: bytes) -> None:
        self._handle = ctypes.c_void_p()
        must(driver().cuModuleLoadDataEx(ctypes.byref(self._handle), code, 0, None, None),
             "load a kernel")

    def function(self, name: str) -> ctypes.c_void_p:
        """The handle of a kernel."""
        found = ctypes.c_void_p()
        must(driver().cuModuleGetFunction(ctypes.byref(found), self._handle, name.encode()),
             "find a kernel")
        return found

    def __del__(self) -> None:
        if self._handle:
            dropped.append(_Loaded(self._handle))


class _Loaded:
    """A module that nobody holds any more."""

    def __init__(self, handle: ctypes.c_void_p) -> None:
        self._handle = handle

    def free(self) -> None:
        """Unloads it."""
        driver().cuModuleUnload(self._handle)


def _attribute(which: int, device: Any) -> int:
    found = ctypes.c_int()
    must(driver().cuDeviceGetAttribute(ctypes.byref(found), which, device), "tell what it can do")
    return found.value
