"""Elementwise kernels where vectors stick out: whole vectors and the rest have code of their own.

Bits are those of one element at a time, whatever the size, the shape and the number of chunks.
"""

from __future__ import annotations

import numpy as np
import pytest

from dlc.compiler.options import Options
from dlc.ir.dims import Dim, symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.ops import OPS
from dlc.ir.ops.elementwise import evaluate_formula
from dlc.ir.types import F32, tensor
from tests.compiler.compiled import CompiledGraph

M, N = symbol("M"), symbol("N")
SIZES = (1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 1000)


def _compiled(*dims: Dim, hint: int = 64) -> CompiledGraph:
    """tanh(x * y) where y is the last axis' own, or alike."""
    b = Builder("xy")
    x = Value("x", tensor(F32, dims))
    y = Value("y", tensor(F32, dims[-1:]))
    wide = b.op("broadcast", y, axes=(len(dims) - 1,), dims=dims) if len(dims) > 1 else y
    result = b.op("tanh", b.op("mul", x, wide))
    graph = Graph("f", (Param(x), Param(y)), tuple(b.nodes), (result,))
    return CompiledGraph(graph, Options(hints={"M": hint, "N": hint}, verify=True))


def _check(compiled: CompiledGraph, x: np.ndarray, y: np.ndarray) -> None:
    """Against the formula, to the last bit."""
    (found,) = compiled.run([x, y])
    np.testing.assert_array_equal(found, evaluate_formula(OPS["tanh"], {}, x * y))


def _numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("hint", [8, 64, 100_000])
def test_flat(hint: int) -> None:
    compiled = _compiled(N, hint=hint)
    for n in (*SIZES, 100_001):
        _check(compiled, *_numbers(2, n))


@pytest.mark.parametrize("rows", [3, M])
def test_rows(rows: Dim) -> None:
    compiled = _compiled(rows, N, hint=3000)
    for n in (*SIZES, 50_001):
        _check(compiled, _numbers(3, n), _numbers(n))


@pytest.mark.parametrize("size", [10, 32, 33, 84])
def test_rows_of_a_known_size(size: int) -> None:
    compiled = _compiled(M, size)
    for m in (1, 7, 3000):
        _check(compiled, _numbers(m, size), _numbers(size))
