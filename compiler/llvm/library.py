"""LLVM's library as `llvmlite` brings it, without that package's own modules: to import these takes
20 ms, four times as long as to load the library.

`llvmlite` lets one thread at a time into LLVM. What is called here works on a context, a module and
a machine that are the caller's own, and LLVM is made for that. A call that leaves Python's lock to
others waits for it when it comes back, up to 5 ms: long calls leave it, short ones do not.
"""

from __future__ import annotations

import ctypes
import os
import threading
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

__all__ = ["Told", "library", "library_file"]

_Types = dict[str, tuple[Any, tuple[Any, ...]]]  # of results and arguments
_POINTER: Final = ctypes.c_void_p
_TEXT: Final = ctypes.POINTER(ctypes.c_char_p)
_NAME: Final = ctypes.c_char_p
_NUMBER: Final = ctypes.c_int
_LONG: Final[_Types] = {
    "LLVMPY_ParseAssembly": (_POINTER, (_POINTER, _NAME, _TEXT)),
    "LLVMPY_TargetMachineEmitToMemory": (_POINTER, (_POINTER, _POINTER, _NUMBER, _TEXT)),
}
_SHORT: Final[_Types] = {
    "LLVMPY_InitializeNativeTarget": (None, ()),
    "LLVMPY_InitializeNativeAsmPrinter": (None, ()),
    "LLVMPY_InitializeAllTargetInfos": (None, ()),
    "LLVMPY_InitializeAllTargets": (None, ()),
    "LLVMPY_InitializeAllTargetMCs": (None, ()),
    "LLVMPY_InitializeAllAsmPrinters": (None, ()),
    "LLVMPY_GetDefaultTargetTriple": (None, (_TEXT,)),
    "LLVMPY_GetHostCPUName": (None, (_TEXT,)),
    "LLVMPY_GetHostCPUFeatures": (_NUMBER, (_TEXT,)),
    "LLVMPY_GetTargetFromTriple": (_POINTER, (_NAME, _TEXT)),
    # Target, triple, CPU, features, level, relocations, code model, two choices, calls.
    "LLVMPY_CreateTargetMachine": (
        _POINTER, (_POINTER, _NAME, _NAME, _NAME, _NUMBER, _NAME, _NAME, _NUMBER, _NUMBER, _NAME)),
    "LLVMPY_DisposeTargetMachine": (None, (_POINTER,)),
    "LLVMPY_ContextCreate": (_POINTER, ()),
    "LLVMPY_ContextDispose": (None, (_POINTER,)),
    "LLVMPY_SetCommandLine": (None, (_NAME, _NAME)),
    "LLVMPY_VerifyModule": (_NUMBER, (_POINTER, _TEXT)),
    "LLVMPY_DisposeModule": (None, (_POINTER,)),
    "LLVMPY_DisposeString": (None, (_NAME,)),
    "LLVMPY_GetBufferStart": (_POINTER, (_POINTER,)),
    "LLVMPY_GetBufferSize": (ctypes.c_size_t, (_POINTER,)),
    "LLVMPY_DisposeMemoryBuffer": (None, (_POINTER,)),
}

_loading = threading.RLock()  # held over a fork: a child must not begin with half a library
os.register_at_fork(
    before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release
)


@cache
def library() -> Any:
    """Its functions."""
    with _loading:
        name = str(library_file())
        found = SimpleNamespace()
        long = ctypes.CDLL(name)
        short = ctypes.PyDLL(name, handle=long._handle)
        for opened, types in ((long, _LONG), (short, _SHORT)):
            for called, (result, arguments) in types.items():
                function = opened[called]
                function.restype, function.argtypes = result, arguments
                setattr(found, called, function)
    return found


@cache
def library_file() -> Path:
    """Its file."""
    spec = PathFinder.find_spec("llvmlite")
    for folder in (spec and spec.submodule_search_locations) or ():
        for name in ("libllvmlite.so", "libllvmlite.dylib"):
            file = Path(folder) / "binding" / name
            if file.is_file():
                return file.resolve()
    from llvmlite.binding import ffi  # it knows where else its library may be

    return Path(ffi.lib._name).resolve()


class Told:
    """A place for what LLVM says: of an error, or as an answer."""

    def __init__(self) -> None:
        self._message = ctypes.c_char_p()
        self.place = ctypes.byref(self._message)

    @property
    def text(self) -> str:
        """What it said."""
        return (self._message.value or b"").decode(errors="replace")

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *error: object) -> None:
        library().LLVMPY_DisposeString(self._message)
