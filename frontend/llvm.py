"""LLVM and the pool, made ready by a thread of their own before they are needed.

To load LLVM and to compile the pool's code takes 30 ms, nearly all of it without Python's lock:
they go by while a program is parsed.
"""

from __future__ import annotations

import contextlib
import threading

from dlc.runtime import pool

_begun = threading.Event()


def begin() -> None:
    """Begins, once in a process."""
    if not _begun.is_set():
        _begun.set()
        threading.Thread(target=_make).start()


def _make() -> None:
    """What goes wrong here goes wrong again where LLVM is used, and is told there."""
    with contextlib.suppress(Exception):
        from dlc.compiler.llvm.library import library
        from dlc.compiler.llvm.target import compile_for_any

        library()  # for who finds the pool's code in the cache
        pool.make(compile_for_any)
