"""What this machine can do at most, measured now by two generated kernels on our own threads."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from dlc.compiler.llvm.roofs import RoofCode, roof_code
from dlc.compiler.llvm.target import host
from dlc.ir.dataclass import dataclass
from dlc.runtime import jit, pool
from dlc.runtime.memory import address_of, aligned_bytes

COPIED: Final = 96 << 20  # bytes: more than caches hold
CHUNKS: Final = 16  # of each kernel, for each thread
TURNS: Final = 4000  # of a chunk of multiply-adds: some 50 us
REPEATS: Final = 12  # the best counts

_PARALLEL = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p,
    ctypes.c_int64, ctypes.c_int64)
_RELEASE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_CHUNK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)


@dataclass(frozen=True, slots=True)
class Roofs:
    """The most floating-point operations (of f32) and bytes a second; `how` they were measured."""

    operations: float
    bytes: float
    how: str


def measure() -> Roofs:
    """The roofs with the threads that are set now; takes some 0.3 s."""
    kernels = roof_code(host())
    code = jit.load(kernels.code, ("multiply", "copy"))
    pool.configure(solo_after_ns=0)  # to the end on all threads, even where one is late
    how = (f"multiply-adds in {kernels.accumulators} registers of {kernels.lanes} f32, "
           f"a copy of {COPIED >> 20} MB")
    try:
        return Roofs(_multiply(kernels, code.address("multiply")),
                     _copy(kernels, code.address("copy")), how)
    finally:
        pool.configure(solo_after_ns=pool.SOLO_AFTER_NS)


def _multiply(kernels: RoofCode, function: int) -> float:
    chunks = CHUNKS * pool.threads()
    sink = aligned_bytes(chunks * kernels.lanes * 4)
    sink.view(np.float32)[:] = 0.5
    args = (ctypes.c_int64 * 2)(TURNS, address_of(sink))
    seconds = _best(lambda: _run(function, ctypes.addressof(args), chunks))
    return chunks * TURNS * kernels.operations / seconds


def _copy(kernels: RoofCode, function: int) -> float:
    source, target = aligned_bytes(COPIED), aligned_bytes(COPIED)
    source[:], target[:] = 1, 0
    chunks = CHUNKS * pool.threads()
    turns = 2 * COPIED // (chunks * kernels.bytes)
    args = (ctypes.c_int64 * 3)(turns, address_of(source), address_of(target))
    seconds = _best(lambda: _run(function, ctypes.addressof(args), chunks))
    return chunks * turns * kernels.bytes / seconds


def _run(function: int, args: int, chunks: int) -> None:
    """All chunks, on the pool where there is one."""
    place = pool.address()
    if place is None:
        for chunk in range(chunks):
            _CHUNK(function)(args, chunk)
        return
    parallel, release = (ctypes.c_void_p.from_address(place + 8 * k).value or 0 for k in (0, 1))
    if _PARALLEL(parallel)(place, 0, function, args, chunks, 1_000_000):
        _RELEASE(release)(place)


def _best(run: Callable[[], None]) -> float:
    """The least seconds of several runs."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
