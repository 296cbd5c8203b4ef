"""Every op of the registry as CUDA C, run on a CPU in both orders, against its meaning."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.ops import OPS
from dlc.ir.scalar import NumpyBuilder
from dlc.ir.types import BF16, BOOL, F32, F64, DType, tensor
from tests.compiler import test_ops_compiled as ops
from tests.cuda.compiled import CudaGraph, WideGraph
from tests.cuda.on_cpu import needs_compiler

pytestmark = needs_compiler
OF_DTYPES = pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)


def check(found: list[ops.Case], sizes: tuple[int, ...], rtol: float, atol: float) -> None:
    """Holds functions of one node each against their meaning, for each size of the batch."""
    together = ops.Together(found, compiled=CudaGraph)
    for n in sizes:
        together.check(n, rtol, atol)


@pytest.mark.parametrize("name", sorted(OPS.keys() - ops.APART.keys()))
def test_op(name: str) -> None:
    check(ops.cases(name), ops.BATCHES, ops.tolerance(name), 2 * ops.tolerance(name))


@pytest.mark.parametrize(("name", "dtype"), ops.HALVES, ids=str)
def test_op_in_16_bits(name: str, dtype: DType) -> None:
    last = 0.0 if name in ops.EXACT else 2.0**-7 if dtype is BF16 else 2.0**-10
    check(ops.in_16_bits(name, dtype), ops.BATCHES, 2 * last, 2 * last)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_angles_of_any_size(name: str, dtype: DType) -> None:
    """The bits are those of the formula."""
    largest = np.finfo(dtype.numpy).max
    far = [1.25 * 2.0**k for k in range(20, 120, 7)]
    x = np.array([*far, largest, -largest, np.inf, np.nan], dtype.numpy)
    b, given = Builder("x"), Value("x", tensor(dtype, x.shape))
    y = b.op(name, given)
    (found,) = CudaGraph(Graph("far", (Param(given),), tuple(b.nodes), (y,))).run([x])
    formula = OPS[name].formula
    assert formula is not None
    np.testing.assert_array_equal(found, formula(NumpyBuilder(), {}, x))


@pytest.mark.parametrize("found", [ops.reductions(F32)[::7], ops.products(F32), ops.movers(F32)],
                         ids=["reductions", "products", "movers"])
def test_indices_of_64_bits(found: list[ops.Case]) -> None:
    ops.Together(found, compiled=WideGraph).check(37, 2e-5, 5e-5)


@OF_DTYPES
def test_reductions(dtype: DType) -> None:
    last = ops.last_digits(dtype)
    check([c for c in ops.reductions(dtype) if ops.fits(c)], (1, 37, 130), last, last)


@OF_DTYPES
def test_products(dtype: DType) -> None:
    last = ops.last_digits(dtype)
    check(ops.products(dtype), (1, 37, 70), last, 2.5 * last)


@OF_DTYPES
def test_movers(dtype: DType) -> None:
    found = [c for c in ops.movers(dtype) if c.op != "iota" or dtype is not BOOL]
    check(found, (1, 37, 100), 0.0, 0.0)
