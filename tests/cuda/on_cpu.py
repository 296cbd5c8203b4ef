"""Runs CUDA C on a CPU: `cuda_on_cpu.h` gives it its meaning, g++ makes machine code of it."""

from __future__ import annotations

import _ctypes
import ctypes
import mmap
import os
import re
import shutil
import subprocess
import tempfile
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, Any]
HERE = Path(__file__).parent
COMPILER = shutil.which("g++")
needs_compiler = pytest.mark.skipif(
    COMPILER is None and "DLC_TEST_GPU" not in os.environ, reason="there is no g++ on this machine")
# With functions inline that need not be, each barrier has the choice of the next thread in it.
FLAGS = ("-std=c++20", "-O1", "-fno-inline", "-march=native", "-ffp-contract=off", "-fPIC", "-w",
         "-U_FORTIFY_SOURCE", "-fno-gnu-unique", "-fno-strict-aliasing",
         "-ftrivial-auto-var-init=pattern", "-fsanitize=bounds",
         "-fsanitize-undefined-trap-on-error", "-fstack-clash-protection")
_KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([\d, ]+\) )?(\w+)\(')
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
PAGE = mmap.PAGESIZE
GUARD = 1 << 24  # bytes that can't be touched on each side of a buffer
ALIGNMENT = 16  # bytes that one access may have
SPARE = 0xA5  # what fills the bytes between the end of a buffer and the page after it


class KernelFault(Exception):
    """A kernel did what no kernel may do."""


class Memory:
    """A buffer as a GPU has it, with pages round it that can't be touched.

    It ends where a page ends, up to the alignment; what is not given is full of 0xff (nan).
    """

    def __init__(self, size: int, dtype: Any = np.uint8) -> None:
        count = size * np.dtype(dtype).itemsize
        padded = -(-count // ALIGNMENT) * ALIGNMENT
        whole = -(-max(padded, 1) // PAGE) * PAGE
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        base = _libc.mmap(None, whole + 2 * GUARD, 0, private, -1, 0)
        assert base != ctypes.c_void_p(-1).value
        assert not _libc.mprotect(base + GUARD, whole, mmap.PROT_READ | mmap.PROT_WRITE)
        weakref.finalize(self, _libc.munmap, base, whole + 2 * GUARD)
        self.address = base + GUARD + whole - padded
        ctypes.memset(self.address, 0xFF, count)
        ctypes.memset(self.address + count, SPARE, padded - count)
        view = (ctypes.c_uint8 * padded).from_address(self.address)
        self._spare = np.frombuffer(view, np.uint8)[count:]
        self.array: Array = np.frombuffer(view, np.uint8)[:count].view(dtype)

    @staticmethod
    def of(array: Array) -> Memory:
        """A buffer that holds the elements of an array."""
        made = Memory(array.size, array.dtype)
        made.array[:] = array.reshape(-1)
        return made

    def check(self) -> None:
        """KernelFault if something was written just after the end."""
        if not (self._spare == SPARE).all():
            raise KernelFault("memory just after a buffer was written")


def build(text: str, library: Path, headers: tuple[str, ...], *defined: str) -> None:
    """Makes a library of the kernels of a text, each with an entry as `ON_CPU_ENTRY` has it."""
    entries = "".join(f"ON_CPU_ENTRY({name})\n" for name in _KERNEL.findall(text))
    source = library.with_suffix(".cpp")
    source.write_text(f'#line 1 "kernels.cu"\n{text}\n{entries}')
    once = _once(headers, defined)
    _compile("-shared", *(f"-D{name}" for name in defined), "-include", str(once), "-o",
             str(library), str(source), f"{once}.o")


@cache
def _once(headers: tuple[str, ...], defined: tuple[str, ...]) -> Path:
    """A header that includes these. Beside it lies what g++ read (to take that up again takes a
    tenth of the time), and an object of all that is no template. All workers of a run share them.
    """
    names = [f"-D{name}" for name in defined]
    made = Path(os.environ["DLC_TEST_CACHE"], "-".join((*headers, *defined)) + ".h")
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=made.parent) as folder:
            own = Path(folder, made.name)
            own.write_text("".join(f'#include "{HERE / header}"\n' for header in headers))
            _compile("-x", "c++-header", *names, "-o", f"{own}.gch", str(own))
            _compile("-c", "-x", "c++", *names, "-DON_CPU_RUNTIME", "-finline", "-o", f"{own}.o",
                     str(own))
            for end in (".gch", ".o", ""):  # who sees the header sees them all
                Path(f"{own}{end}").replace(f"{made}{end}")
    return made


def _compile(*arguments: str) -> None:
    assert COMPILER is not None
    made = subprocess.run([COMPILER, *FLAGS, *arguments], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[:4000]


class Module:
    """The kernels of a text: those that are written `extern "C" __global__ void name(…)`.

    `defined` are names that the text may ask for by `#ifdef`.
    """

    def __init__(
        self, text: str, headers: tuple[str, ...] = ("cuda_on_cpu.h",), *defined: str
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder, "kernels.so")
            build(text, library, headers, *defined)
            self._library = ctypes.CDLL(str(library))
        weakref.finalize(self, _unload, self._library)

    @property
    def tensor_map(self) -> Any:
        """What makes tensor maps for these kernels, as `cuTensorMapEncodeTiled` does for a GPU's.
        """
        return self._library.on_cpu_tensor_map

    def launch(
        self, name: str, grid: int | tuple[int, ...], threads: int | tuple[int, ...],
        *arguments: Memory | Any, shared: int = 0, backwards: bool = False, resident: bool = False,
    ) -> None:
        """Runs a kernel on buffers and on numbers of ctypes' or NumPy's types; KernelFault if it
        does what it may not. Blocks that are `resident` are so at once, and may meet."""
        function = getattr(self._library, f"{name}_on_cpu")
        function.restype = ctypes.c_char_p
        memory = [a for a in arguments if isinstance(a, Memory)]
        given = [_argument(a) for a in arguments]
        places = (ctypes.c_void_p * max(1, len(given)))(*map(ctypes.addressof, given))
        sizes = [ctypes.c_uint(n) for n in (*_three(grid), *_three(threads))]
        how = backwards + 2 * resident
        message = function(*sizes, ctypes.c_size_t(shared), how, places).decode()
        if message:
            raise KernelFault(message)
        for each in memory:
            each.check()


def _unload(library: ctypes.CDLL) -> None:
    library.on_cpu_release()
    _ctypes.dlclose(library._handle)


def _argument(value: Any) -> Any:
    if isinstance(value, Memory):
        return ctypes.c_void_p(value.address)
    if isinstance(value, bytes):  # a struct
        return ctypes.create_string_buffer(value, len(value))
    if isinstance(value, np.generic):
        return np.ctypeslib.as_ctypes_type(value.dtype)(value.item())
    return value


def _three(sizes: int | tuple[int, ...]) -> tuple[int, ...]:
    given = (sizes,) if isinstance(sizes, int) else sizes
    return (*given, *(1,) * (3 - len(given)))
