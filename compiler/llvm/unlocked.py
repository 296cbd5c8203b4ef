"""LLVM as `llvmlite` has loaded it, for several threads at a time.

`llvmlite` lets one thread at a time into LLVM. What is called here works on a context, a module and
a machine that are the caller's own, and LLVM is made for that. A call that leaves Python's lock to
others waits for it when it comes back, up to 5 ms: long calls leave it, short ones do not.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any, Final

from dlc.ir.diagnostics import InternalError

_Types = dict[str, tuple[Any, tuple[Any, ...]]]  # of results and arguments
_POINTER: Final = ctypes.c_void_p
_TEXT: Final = ctypes.POINTER(ctypes.c_char_p)
_LONG: Final[_Types] = {
    "LLVMPY_ParseAssembly": (_POINTER, (_POINTER, ctypes.c_char_p, _TEXT)),
    "LLVMPY_TargetMachineEmitToMemory": (_POINTER, (_POINTER, _POINTER, ctypes.c_int, _TEXT)),
}
_SHORT: Final[_Types] = {
    "LLVMPY_SetCommandLine": (None, (ctypes.c_char_p, ctypes.c_char_p)),
    "LLVMPY_VerifyModule": (ctypes.c_int, (_POINTER, _TEXT)),
    "LLVMPY_DisposeModule": (None, (_POINTER,)),
    "LLVMPY_DisposeString": (None, (ctypes.c_char_p,)),
    "LLVMPY_GetBufferStart": (_POINTER, (_POINTER,)),
    "LLVMPY_GetBufferSize": (ctypes.c_size_t, (_POINTER,)),
    "LLVMPY_DisposeMemoryBuffer": (None, (_POINTER,)),
}


class Module:
    """An LLVM module of IR text, verified, in a context of `llvmlite`; InternalError if the text is
    wrong."""

    def __init__(self, text: str, context: Any) -> None:
        self._context = context
        with _Told() as told:
            self._pointer = _library().LLVMPY_ParseAssembly(
                _address(context), text.encode(), told.place)
            failed = not self._pointer or _library().LLVMPY_VerifyModule(self._pointer, told.place)
            if failed:
                self.__exit__()
                raise InternalError(told.text, "llvm", text)

    def code(self, machine: Any) -> bytes:
        """Object code, by a machine of `llvmlite`."""
        return self._emit(machine, True)

    def assembly(self, machine: Any) -> str:
        """The assembly of what `code` gives."""
        return self._emit(machine, False).decode()

    def _emit(self, machine: Any, as_object: bool) -> bytes:
        library = _library()
        with _Told() as told, _without_loop_reduction():
            memory = library.LLVMPY_TargetMachineEmitToMemory(
                _address(machine), self._pointer, as_object, told.place)
            if not memory:
                raise RuntimeError(told.text)
        try:
            return ctypes.string_at(
                library.LLVMPY_GetBufferStart(memory), library.LLVMPY_GetBufferSize(memory))
        finally:
            library.LLVMPY_DisposeMemoryBuffer(memory)

    def __enter__(self) -> Module:
        return self

    def __exit__(self, *error: object) -> None:
        """Gives its memory back; it is not used any more."""
        if self._pointer:
            _library().LLVMPY_DisposeModule(self._pointer)
        self._pointer = None


_changing = threading.Lock()
_users = 0  # of the setting, of all threads


@contextmanager
def _without_loop_reduction() -> Iterator[None]:
    """Without LLVM's strength reduction in loops, which takes a third of the time to make code and
    finds little: addresses are computed as far out as can be, and counted up (`index.py`).

    LLVM has one setting for the process; who else uses it there gets back the usual one.
    """
    global _users
    with _changing:
        _users += 1
        if _users == 1:
            _library().LLVMPY_SetCommandLine(b"dlc", b"-disable-lsr=true")
    try:
        yield
    finally:
        with _changing:
            _users -= 1
            if _users == 0:
                _library().LLVMPY_SetCommandLine(b"dlc", b"-disable-lsr=false")


class _Told:
    """A place for what LLVM says of an error."""

    def __init__(self) -> None:
        self._message = ctypes.c_char_p()
        self.place = ctypes.byref(self._message)

    @property
    def text(self) -> str:
        return (self._message.value or b"").decode(errors="replace")

    def __enter__(self) -> _Told:
        return self

    def __exit__(self, *error: object) -> None:
        _library().LLVMPY_DisposeString(self._message)


def _address(owned: Any) -> int | None:
    """Where an object of LLVM lies that `llvmlite` owns."""
    return ctypes.cast(owned._ptr, _POINTER).value


@cache
def _library() -> Any:
    from llvmlite.binding import ffi

    name, handle = ffi.lib._name, ffi.lib._handle
    found = SimpleNamespace()
    long, short = ctypes.CDLL(name, handle=handle), ctypes.PyDLL(name, handle=handle)
    for library, types in ((long, _LONG), (short, _SHORT)):
        for called, (result, arguments) in types.items():
            function = library[called]
            function.restype, function.argtypes = result, arguments
            setattr(found, called, function)
    return found
