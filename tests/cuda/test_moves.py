"""`moves.cu`, which the runtime launches beside kernels: on a CPU in both orders, and for GPUs."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
import pytest

from dlc.compiler.cuda import cubin, nvrtc
from tests.cuda.on_cpu import Memory, Module, needs_compiler

Array = np.ndarray[Any, Any]
BACKWARDS = pytest.mark.parametrize("backwards", [False, True])


@cache
def module() -> Module:
    return Module(cubin.MOVES.read_text())


def wide(*numbers: int) -> list[Any]:
    return [ctypes.c_longlong(number) for number in numbers]


@needs_compiler
@BACKWARDS
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_arrays_are_packed(dtype: Any, backwards: bool) -> None:
    kept = (np.arange(2 * 5 * 7) % 100).astype(dtype).reshape(2, 5, 7)
    view = kept.transpose(2, 0, 1)[::3]
    source, made = Memory.of(kept), Memory(view.size, dtype)
    axes = [(1, 0)] * 3 + list(zip(view.shape, view.strides, strict=True))
    module().launch("pack_array", 3, 8, source, made,
                    *wide(view.size, view.itemsize, *(n for n, _ in axes), *(s for _, s in axes)),
                    backwards=backwards)
    np.testing.assert_array_equal(made.array.reshape(view.shape), view)


@needs_compiler
@BACKWARDS
@pytest.mark.parametrize("size", [1, 15, 16, 48, 1000])
def test_rows_come_and_go(size: int, backwards: bool) -> None:
    """In steps that a check may end."""
    rows = Memory.of(np.random.default_rng(0).integers(0, 255, 3 * size, np.uint8))
    results, slot, made = Memory(3 * size), Memory(size), Memory(size)
    draws, failed = Memory.of(np.array([5, 0])), Memory.of(np.array([0, 0]))
    book = Memory.of(np.array([0, 0, 0, rows.address, results.address]))
    for step in range(3):
        failed.array[0] = step == 2
        module().launch("feed_row", 2, 8, book, slot, *wide(3, size), backwards=backwards)
        made.array[:] = slot.array + 1
        module().launch("keep_row", 2, 8, book, made, *wide(4, size), backwards=backwards)
        module().launch("end_step", 1, 1, book, failed, draws, *wide(1), backwards=backwards)
    assert book.array[:3].tolist() == [2, 0, 2]
    assert draws.array.tolist() == [5, 2]
    np.testing.assert_array_equal(results.array, rows.array + 1)


@needs_compiler
def test_what_is_multiplied_and_added() -> None:
    out = Memory.of(np.array([1, 0, 0, 0, 0], np.float32))
    module().launch("multiply_adds", 2, 2, out, *wide(3))
    np.testing.assert_array_equal(out.array[1:], sum(range(16)) + 16 * 3)


@pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
def test_they_compile_without_spills(arch: str) -> None:
    found = nvrtc.compile_cubin(cubin.MOVES.read_text(), arch)[1]
    assert {"pack_array", "feed_row", "keep_row", "end_step"} <= {r.kernel for r in found}
    assert [r for r in found if r.spilled or r.stack] == []
