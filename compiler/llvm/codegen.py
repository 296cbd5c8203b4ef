"""Object code of the parts of a module, made at the same time by several threads.

`llvmlite` lets one thread at a time into LLVM. Code generation is 90 % of the time there, it works
on a module, a context and a machine that are its own, and LLVM is made for that; so it is called
without that lock, and Python's is free meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from dlc.compiler.levels import Compiled
from dlc.compiler.llvm.pages import release_pages
from dlc.compiler.llvm.target import CODE_LEVEL, GLUE_LEVEL, Target, new_machine, parse

__all__ = ["Begun", "begin_code"]

Told = Callable[[str, float], None]  # what was done, and the seconds that it took
_HEAD: Final = b"!<arch>\n"  # an archive of objects, as `ar` makes it


class Begun:
    """Parts of a module whose code is being made while the rest of the module is not there yet."""

    def __init__(self, kind: Target) -> None:
        self._kind = kind
        self._jobs: dict[str, _Job] = {}

    def begin(self, part: str) -> None:
        """Begins with one more."""
        self._jobs[part] = _Job(part, self._kind)

    def job(self, part: str) -> _Job:
        """That of a part, which begins now if it has not."""
        return self._jobs.pop(part, None) or _Job(part, self._kind)


def begin_code(
    module: Compiled, kind: Target, told: Told | None = None, begun: Begun | None = None
) -> Callable[[], bytes]:
    """Begins to make object code of a module, or goes on with what has begun; what is returned
    waits for it.

    It is one object, or an archive of several. `told` is given seconds, of all parts together.
    """
    begun = begun or Begun(kind)
    release_pages()  # of what only loading the library needed
    if module.parts:
        *kernels, glue = module.parts
        jobs = [*map(begun.job, kernels), _Job(glue, kind, GLUE_LEVEL)]
    else:
        jobs = [begun.job(module.text)]

    def wait() -> bytes:
        codes = [job.wait() for job in jobs]
        release_pages()
        if told is not None:
            told("parse and verify", sum(job.parsing for job in jobs))
            told("generate code", sum(job.emitting for job in jobs))
        return codes[0] if len(codes) == 1 else _HEAD + b"".join(map(_member, codes))

    return wait


def _member(code: bytes) -> bytes:
    """An object as a member of an archive; members begin at even places."""
    head = f"{'part.o/':16}{0:<12}{0:<6}{0:<6}{644:<8}{len(code):<10}`\n".encode()
    return head + code + b"\n" * (len(code) % 2)


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_starting = threading.RLock()  # held over a fork
_running: set[threading.Thread] = set()
_slots = threading.Semaphore(_cpus())  # more at a time would only wait for one another


class _Job:
    """One part, which a thread of its own compiles."""

    def __init__(self, text: str, kind: Target, level: int = CODE_LEVEL) -> None:
        self._text, self._kind, self._level = text, kind, level
        self.parsing = self.emitting = 0.0  # seconds
        self._code = b""
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        with _starting:
            _running.add(self._thread)
            self._thread.start()

    def _run(self) -> None:
        try:
            with _slots:
                self._compile()
        except BaseException as error:  # it is raised where the code is waited for
            self._error = error
        finally:
            _running.discard(threading.current_thread())

    def _compile(self) -> None:
        begun = time.perf_counter()
        module = parse(self._text)
        parsed = time.perf_counter()
        self._code = _emit(new_machine(self._kind, self._level), module)
        self.parsing, self.emitting = parsed - begun, time.perf_counter() - parsed

    def wait(self) -> bytes:
        """The code; what went wrong is raised here."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._code


def _emit(machine: Any, module: Any) -> bytes:
    """`machine.emit_object(module)`, without the lock."""
    library = _library()
    error = ctypes.c_char_p()
    memory = library.LLVMPY_TargetMachineEmitToMemory(
        machine._ptr, module._ptr, 1, ctypes.byref(error))
    if not memory:
        raise RuntimeError((error.value or b"").decode(errors="replace"))
    try:
        start, size = library.LLVMPY_GetBufferStart(memory), library.LLVMPY_GetBufferSize(memory)
        return ctypes.string_at(start, size)
    finally:
        library.LLVMPY_DisposeMemoryBuffer(memory)


@cache
def _library() -> Any:
    """LLVM as `llvmlite` has loaded it, with functions that take no lock."""
    from llvmlite.binding import ffi

    found = ctypes.CDLL(ffi.lib._name, handle=ffi.lib._handle)
    memory = ctypes.c_void_p
    found.LLVMPY_TargetMachineEmitToMemory.restype = memory
    found.LLVMPY_TargetMachineEmitToMemory.argtypes = (
        ffi.LLVMTargetMachineRef, ffi.LLVMModuleRef, ctypes.c_int, ctypes.POINTER(ctypes.c_char_p))
    found.LLVMPY_GetBufferStart.restype, found.LLVMPY_GetBufferStart.argtypes = memory, (memory,)
    found.LLVMPY_GetBufferSize.restype = ctypes.c_size_t
    found.LLVMPY_GetBufferSize.argtypes = (memory,)
    found.LLVMPY_DisposeMemoryBuffer.restype = None
    found.LLVMPY_DisposeMemoryBuffer.argtypes = (memory,)
    return found


def _before_fork() -> None:
    """A child must not begin with LLVM in the middle of something."""
    _starting.acquire()
    for thread in list(_running):
        if thread is not threading.current_thread():
            thread.join()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_starting.release,
                        after_in_child=_starting.release)
