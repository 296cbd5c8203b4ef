"""What LLVM needs to make code, of which threads have their own: contexts, machines, modules."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dlc.compiler.llvm.library import Told, library
from dlc.ir.diagnostics import InternalError


class Context:
    """What types and constants of a module belong to; one thread at a time may use it."""

    def __init__(self) -> None:
        self._dispose = library().LLVMPY_ContextDispose
        self.pointer = library().LLVMPY_ContextCreate()

    def __del__(self) -> None:
        self._dispose(self.pointer)


class Machine:
    """What makes code for a target that LLVM knows by now; one thread at a time may use it."""

    def __init__(self, triple: str, cpu: str, features: str, level: int) -> None:
        self.pointer = None
        self._dispose = library().LLVMPY_DisposeTargetMachine
        with Told() as told:
            kind = library().LLVMPY_GetTargetFromTriple(triple.encode(), told.place)
            if not kind:
                raise RuntimeError(told.text)
        self.pointer = library().LLVMPY_CreateTargetMachine(
            kind, triple.encode(), cpu.encode(), features.encode(), level, b"pic", b"small", 0, 0,
            b"")
        if not self.pointer:
            raise RuntimeError(f"LLVM makes no code for {triple}, {cpu}")

    def __del__(self) -> None:
        if self.pointer:
            self._dispose(self.pointer)


class Module:
    """An LLVM module of IR text, verified; InternalError if the text is wrong."""

    def __init__(self, text: str, context: Context) -> None:
        self._context = context
        with Told() as told:
            self._pointer = library().LLVMPY_ParseAssembly(
                context.pointer, text.encode(), told.place)
            failed = not self._pointer or library().LLVMPY_VerifyModule(self._pointer, told.place)
            if failed:
                self.__exit__()
                raise InternalError(told.text, "llvm", text)

    def code(self, machine: Machine) -> bytes:
        """Object code."""
        return self._emit(machine, True)

    def assembly(self, machine: Machine) -> str:
        """The assembly of what `code` gives."""
        return self._emit(machine, False).decode()

    def _emit(self, machine: Machine, as_object: bool) -> bytes:
        with Told() as told, _without_loop_reduction():
            memory = library().LLVMPY_TargetMachineEmitToMemory(
                machine.pointer, self._pointer, as_object, told.place)
            if not memory:
                raise RuntimeError(told.text)
        try:
            return ctypes.string_at(
                library().LLVMPY_GetBufferStart(memory), library().LLVMPY_GetBufferSize(memory))
        finally:
            library().LLVMPY_DisposeMemoryBuffer(memory)

    def __enter__(self) -> Module:
        return self

    def __exit__(self, *error: object) -> None:
        """Gives its memory back; it is not used any more."""
        if self._pointer:
            library().LLVMPY_DisposeModule(self._pointer)
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
            library().LLVMPY_SetCommandLine(b"dlc", b"-disable-lsr=true")
    try:
        yield
    finally:
        with _changing:
            _users -= 1
            if _users == 0:
                library().LLVMPY_SetCommandLine(b"dlc", b"-disable-lsr=false")
