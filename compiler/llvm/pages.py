"""Gives memory back that LLVM's library takes while nothing is compiled.

The library is a file of some 180 MB that is mapped into the process. Loading it reads all of its
relocations, and compiling runs through a good part of its code: together 60 MB of pages that stay
with the process, though the system has them in its cache and could map them again at once (about
1 ms for a compilation). Only parts that nothing writes to are given back.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from functools import cache
from mmap import PAGESIZE
from pathlib import Path
from typing import Final

from dlc.compiler.llvm.library import library_file

_DONTNEED: Final = 4  # of madvise, on Linux
_LOAD, _WRITABLE = 1, 2  # in program headers of ELF
_MAPS: Final = Path("/proc/self/maps")


def release_pages() -> None:
    """Lets the system take the library's pages away; harmless while LLVM runs in other threads."""
    for start, size in _parts():
        _madvise()(start, size, _DONTNEED)


@cache
def _madvise() -> ctypes._NamedFuncPointer:
    function = ctypes.CDLL(None).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function


@cache
def _parts() -> tuple[tuple[int, int], ...]:
    """Address and size of what is mapped from the library to be read and run; none elsewhere than
    on Linux."""
    if sys.platform != "linux":
        return ()
    file = library_file()
    try:
        base = _base(file)
        return () if base is None else tuple(
            (base + start, size) for start, size in read_only_parts(file))
    except OSError:
        return ()


def _base(library: Path) -> int | None:
    """Where the file's first page lies in this process."""
    for line in _MAPS.read_text().splitlines():
        span, _, offset, _, _, *path = line.split(maxsplit=5)
        if path == [str(library)] and int(offset, 16) == 0:
            return int(span.partition("-")[0], 16)
    return None


def read_only_parts(library: Path) -> list[tuple[int, int]]:
    """Where the segments of a 64-bit ELF file that nothing writes to lie, and their sizes, in
    whole pages."""
    with library.open("rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02":
            return []
        order = "<" if head[5] == 1 else ">"
        at, size, count = (*struct.unpack_from(f"{order}Q", head, 32),
                           *struct.unpack_from(f"{order}HH", head, 54))
        file.seek(at)
        table = file.read(size * count)
    found = []
    for number in range(count):
        kind, flags, _, start, _, length = struct.unpack_from(
            f"{order}IIQQQQ", table, size * number)
        if kind == _LOAD and not flags & _WRITABLE:
            first, end = -(-start // PAGESIZE) * PAGESIZE, (start + length) // PAGESIZE * PAGESIZE
            found.append((first, end - first))
    return [(first, length) for first, length in found if length > 0]
