"""Memory of compiled code between pages that nobody may touch: who reads or writes beyond a buffer
ends the process. A plugin for any test:

    DLC_GUARD=end python -m pytest -p tests.runtime.guarded tests/compiler/test_products.py

With `end` arguments, results, the memory of variables and the arena end at such a page, with
`start` they begin at one. Variables, and what lies in the arena, are not apart from one another.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from math import prod
from typing import Any, Literal

import numpy as np

from dlc.runtime import function, memory, variables
from dlc.runtime.memory import Arena, ArenaPool, Array, Recycler, address_of

__all__ = ["install"]

Side = Literal["start", "end"]
NOTHING = 0  # PROT_NONE
UNDEFINED = 0xFF  # what is not written yet: nan in every type of floats

_library = ctypes.CDLL(None, use_errno=True)
_library.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


def _guarded_bytes(size: int, side: Side) -> Array:
    """`size` bytes between two pages, next to the one that is at this side."""
    page = mmap.PAGESIZE
    within = -(-max(size, 1) // page) * page
    whole = np.frombuffer(mmap.mmap(-1, within + 2 * page), np.uint8)
    whole[page:-page] = UNDEFINED
    for place in (address_of(whole), address_of(whole) + page + within):
        if _library.mprotect(place, page, NOTHING):
            raise OSError(ctypes.get_errno(), "mprotect")
    first = page if side == "start" else page + within - size
    return whole[first : first + size]


def install(side: Side) -> None:
    """From now on all memory that functions get in this process is guarded."""

    def make(shape: tuple[int, ...], dtype: Any) -> Array:
        kind = np.dtype(dtype)
        return np.ndarray(shape, kind, _guarded_bytes(prod(shape) * kind.itemsize, side))

    class Numpy:
        """NumPy, as `function.py` sees it."""

        empty = staticmethod(make)

        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

    run = function.Function._run

    def run_guarded(self: Any, frame: Any, binding: Any, values: list[Any]) -> Any:
        for at, _ in self._arrays:
            given = values[at]
            values[at] = make(given.shape, given.dtype)
            values[at][...] = given
        return run(self, frame, binding, values)

    def aligned_bytes(size: int) -> Array:
        return _guarded_bytes(size, side)

    patches: tuple[tuple[object, str, object], ...] = (
        (memory, "aligned_bytes", aligned_bytes),
        (variables, "aligned_bytes", aligned_bytes),
        (Recycler, "take", lambda self, shape: make(shape, self._dtype)),
        (ArenaPool, "take", lambda self, size: Arena(size)),
        (ArenaPool, "give", lambda self, arena: None),
        (function, "np", Numpy()),
        (function.Function, "_run", run_guarded),
    )
    for owner, name, value in patches:
        setattr(owner, name, value)


def pytest_configure() -> None:
    """As a plugin of pytest."""
    side = os.environ.get("DLC_GUARD", "end")
    assert side in ("start", "end"), f"DLC_GUARD={side}"
    install("start" if side == "start" else "end")


def pytest_report_header() -> str:
    return f"memory of compiled code is guarded at its {os.environ.get('DLC_GUARD', 'end')}"
